//! The state that data planes serve by, in memory as it is in the store.
//!
//! What changed since a version is what has a greater revision, since nothing in it is ever deleted ([`crate::keys`]).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use ringgate_proto::control::v1::{
    ConfigDocument, ConfigPart, Grant, GroupWindow, NodeState, PolicySet, Revocation, TrustBundle,
};
use ringgate_store::{Batch, Entry, Lineage, Revision, Update};

use crate::keys;

/// Bytes of one message to a data plane. More go into several; one entry alone may be larger.
const PART_BYTES_MAX: usize = 512 * 1024;

/// The state at a version.
#[derive(Debug, Default)]
pub(super) struct State {
    entries: BTreeMap<Bytes, (Revision, Part)>,
    /// The same keys, by the revision that wrote them.
    by_revision: BTreeSet<(Revision, Bytes)>,
}

/// A part of it, by what it is.
#[derive(Debug)]
enum Part {
    Trust(TrustBundle),
    Policy(PolicySet),
    Grant(Grant),
    Revocation(Revocation),
    Config(ConfigDocument),
    Group(GroupWindow),
}

impl State {
    /// Takes over what the store says.
    pub(super) fn take(&mut self, update: Update) {
        match update {
            Update::All { entries, .. } => {
                let there: BTreeSet<&Bytes> = entries.iter().map(|entry| &entry.key).collect();
                self.entries.retain(|key, _| there.contains(key));
                self.by_revision.retain(|(_, key)| there.contains(key));
                for Entry { key, value, revision } in &entries {
                    self.put(key, value, *revision);
                }
            }
            Update::Changed(Batch { revision, changes }) => {
                for change in changes {
                    match change.value {
                        Some(value) => self.put(&change.key, &value, revision),
                        None => tracing::error!(
                            key = %change.key.escape_ascii(),
                            "somebody deleted a part of the state; data planes that have it keep it"
                        ),
                    }
                }
            }
        }
    }

    fn put(&mut self, key: &Bytes, value: &Bytes, revision: Revision) {
        let Some(part) = part(key, value) else {
            tracing::error!(key = %key.escape_ascii(), "a part of the state cannot be read; data planes are not told of it");
            return;
        };
        if let Some((before, _)) = self.entries.insert(key.clone(), (revision, part)) {
            self.by_revision.remove(&(before, key.clone()));
        }
        self.by_revision.insert((revision, key.clone()));
    }

    /// The revision of its newest part.
    pub(super) fn version(&self) -> Revision {
        self.by_revision
            .last()
            .map_or(Revision(0), |(revision, _)| *revision)
    }

    /// What one who holds a version needs to come to this one, in messages; 0: everything. There is always one message.
    pub(super) fn since(&self, held: Revision, lineage: Lineage) -> Vec<NodeState> {
        let begin = || NodeState {
            version: self.version().0,
            from_version: held.0,
            lineage: Bytes::copy_from_slice(&lineage.0),
            partial: true,
            ..NodeState::default()
        };
        let mut parts = vec![begin()];
        let mut bytes = 0;
        let newer = (Revision(held.0 + 1), Bytes::new());
        for (_, key) in self.by_revision.range(newer..) {
            let Some((_, part)) = self.entries.get(key) else {
                continue;
            };
            let size = part.size();
            if bytes > 0 && bytes + size > PART_BYTES_MAX {
                parts.push(begin());
                bytes = 0;
            }
            bytes += size;
            if let Some(last) = parts.last_mut() {
                part.add_to(last, held);
            }
        }
        if let Some(last) = parts.last_mut() {
            last.partial = false;
        }
        parts
    }
}

impl Part {
    fn size(&self) -> usize {
        match self {
            Part::Trust(trust) => trust.encoded_len(),
            Part::Policy(policy) => policy.encoded_len(),
            Part::Grant(grant) => grant.encoded_len(),
            Part::Revocation(revocation) => revocation.encoded_len(),
            Part::Config(config) => config.toml.len(),
            Part::Group(window) => window.encoded_len(),
        }
    }

    fn add_to(&self, state: &mut NodeState, held: Revision) {
        match self {
            Part::Trust(trust) => state.trust = Some(trust.clone()),
            Part::Policy(policy) => state.policy = Some(policy.clone()),
            // Who holds nothing needs not to be told what is gone.
            Part::Grant(grant) if held == Revision(0) && grant.roles.is_empty() => {}
            Part::Grant(grant) => state.grants.push(grant.clone()),
            Part::Revocation(revocation) => state.revocations.push(revocation.clone()),
            Part::Group(window)
                if held == Revision(0) && window.epoch_min == 0 && window.padding_bytes <= 1 => {}
            Part::Group(window) => state.groups.push(window.clone()),
            Part::Config(config) => {
                state.config = Some(ConfigPart {
                    version: config.version,
                    toml: config.toml.clone(),
                });
            }
        }
    }
}

fn part(key: &Bytes, value: &Bytes) -> Option<Part> {
    fn message<T: Message + Default>(value: &Bytes) -> Option<T> {
        T::decode(value.clone()).ok()
    }
    if key == keys::trust().key() {
        message(value).map(Part::Trust)
    } else if key == keys::policy().key() {
        message(value).map(Part::Policy)
    } else if key == keys::config().key() {
        message(value).map(Part::Config)
    } else if keys::GRANTS.rest(key).is_some() {
        message(value).map(Part::Grant)
    } else if keys::REVOCATIONS.rest(key).is_some() {
        message(value).map(Part::Revocation)
    } else if keys::GROUP_WINDOWS.rest(key).is_some() {
        message(value).map(Part::Group)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ringgate_store::{Change, Write};

    const LINEAGE: Lineage = Lineage([7; 16]);

    fn changed(revision: u64, writes: impl IntoIterator<Item = Write>) -> Update {
        let change = |write| match write {
            Write::Put(key, value) => Change {
                key,
                value: Some(value),
            },
            Write::Delete(key) => Change { key, value: None },
        };
        Update::Changed(Batch {
            revision: Revision(revision),
            changes: writes.into_iter().map(change).collect(),
        })
    }

    fn grant(name: &str, roles: &[&str]) -> Write {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        keys::grant(name).put(&Grant {
            name: name.to_owned(),
            roles,
        })
    }

    fn policy(version: u64) -> Write {
        keys::policy().put(&PolicySet {
            version,
            ..PolicySet::default()
        })
    }

    #[test]
    fn what_changed_since_is_told_and_nothing_else() {
        let mut state = State::default();
        state.take(changed(3, [policy(1), grant("a", &["x"])]));
        state.take(changed(7, [grant("b", &["y"])]));
        state.take(changed(9, [grant("a", &[])]));
        assert_eq!(state.version(), Revision(9));

        let told = &state.since(Revision(3), LINEAGE)[..];
        let [told] = told else {
            panic!("one message: {told:?}")
        };
        assert_eq!((told.version, told.from_version, told.partial), (9, 3, false));
        let grants: Vec<_> = told
            .grants
            .iter()
            .map(|grant| (grant.name.as_str(), grant.roles.len()))
            .collect();
        assert_eq!((grants, &told.policy), (vec![("b", 1), ("a", 0)], &None));

        let all = &state.since(Revision(0), LINEAGE)[0];
        assert_eq!(
            (all.from_version, all.grants.len(), all.policy.is_some()),
            (0, 1, true),
            "what is gone is not told"
        );
        let nothing = &state.since(Revision(9), LINEAGE)[0];
        assert_eq!(
            (nothing.version, nothing.grants.len(), nothing.lineage.len()),
            (9, 0, 16)
        );
    }

    #[test]
    fn much_comes_in_parts() {
        let mut state = State::default();
        let role = "r".repeat(1000);
        for index in 0..1200 {
            state.take(changed(index + 1, [grant(&format!("name-{index:04}"), &[&role])]));
        }
        let parts = state.since(Revision(0), LINEAGE);
        assert!(parts.len() > 2);
        let (last, others) = parts.split_last().expect("some");
        assert!(!last.partial && others.iter().all(|part| part.partial));
        assert!(
            parts
                .iter()
                .all(|part| part.encoded_len() <= PART_BYTES_MAX + 64 * 1024 && part.version == 1200)
        );
        assert_eq!(parts.iter().map(|part| part.grants.len()).sum::<usize>(), 1200);
    }

    proptest! {
        /// Whoever is told what changed since what they held comes to what is there, whenever they were told before.
        #[test]
        fn changes_lead_to_the_whole(
            steps in prop::collection::vec((0..6_usize, 0..3_usize, any::<bool>()), 1..40),
        ) {
            let mut state = State::default();
            let mut held = (Revision(0), BTreeMap::new());
            for (index, (name, roles, tell)) in steps.into_iter().enumerate() {
                let roles = &["x", "y"][..roles];
                state.take(changed(2 * index as u64 + 1, [grant(&format!("n{name}"), roles)]));
                if tell {
                    follow(&mut held, &state);
                }
            }
            follow(&mut held, &state);
            let mut all = (Revision(0), BTreeMap::new());
            follow(&mut all, &state);
            prop_assert_eq!(held, all);
        }
    }

    fn follow(held: &mut (Revision, BTreeMap<String, Vec<String>>), state: &State) {
        for part in state.since(held.0, LINEAGE) {
            for grant in part.grants {
                match grant.roles.is_empty() {
                    true => held.1.remove(&grant.name),
                    false => held.1.insert(grant.name, grant.roles),
                };
            }
        }
        held.0 = state.version();
    }
}
