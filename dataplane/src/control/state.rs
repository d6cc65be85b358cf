//! The state that the control process tells: a snapshot, then changes; from messages to rules.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringgate_access::{Access, Grants, PolicySet};
use ringgate_envelope::Window;
use ringgate_identity::{
    Revocation, Revocations, Revoked, Serial, TokenKey, TrustBundle, TrustDomain, UnixTime, Verifier,
};
use ringgate_proto::control::v1::{self as proto, NodeState};

use super::error::StateError;
use crate::config::{Config, Sources};
use crate::rules::{Rules, WindowChange};

/// What parts of one version may hold together. A hundred thousand grants take some ten MiB.
const STATE_BYTES_MAX: usize = 256 << 20;

/// A state that was checked, ready to be put in force. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) version: u64,
    pub(super) lineage: Bytes,
    trust: proto::TrustBundle,
    policy: Option<proto::PolicySet>,
    revocations: Arc<Vec<proto::Revocation>>,
    told: Option<proto::ConfigPart>,
    groups: Arc<BTreeMap<Bytes, proto::GroupWindow>>,
    /// What is new of them.
    pub(super) windows: Arc<WindowChange>,
    /// Whether nothing else is new: then cores go on with the rules that they have.
    pub(super) same_rules: bool,
    access: Access,
    pub(super) verifier: Arc<Verifier>,
    pub(super) config: Arc<Config>,
}

impl State {
    /// The state after `change`, which counts from `held`, or is a snapshot.
    ///
    /// # Errors
    /// Why the change cannot be used. `held` stays what it was.
    pub(super) fn after(
        held: Option<&State>,
        change: NodeState,
        sources: &Sources,
    ) -> Result<State, StateError> {
        // A snapshot forgets what was there; so does another store. One that is older than what is there, of the same store, is a replay:
        // nobody who is honest tells it, since this node says what it holds.
        let base = match change.from_version {
            0 => match held {
                Some(held) if held.lineage == change.lineage && held.version > change.version => {
                    return Err(StateError::Older {
                        told: change.version,
                        held: held.version,
                    });
                }
                _ => None,
            },
            from => match held {
                Some(held) if held.version == from && held.lineage == change.lineage => Some(held),
                held => {
                    let held = held.map_or(0, |held| held.version);
                    return Err(StateError::Order { from, held });
                }
            },
        };
        let same_rules = base.is_some()
            && change.trust.is_none()
            && change.policy.is_none()
            && change.config.is_none()
            && change.grants.is_empty()
            && change.revocations.is_empty();
        let trust = change
            .trust
            .or_else(|| base.map(|base| base.trust.clone()))
            .ok_or(StateError::NoTrust)?;
        let mut revocations = base.map_or_else(Arc::default, |base| base.revocations.clone());
        if !change.revocations.is_empty() {
            let all = Arc::make_mut(&mut revocations);
            all.extend(change.revocations);
            // A later one about the same identity has the last word.
            all.sort_by_key(|revocation| revocation.number);
        }
        let verifier = Verifier::new(bundle(&trust)?, revoked(&revocations)?)?;
        let policy = change
            .policy
            .or_else(|| base.and_then(|base| base.policy.clone()));
        let known = base.filter(|base| base.policy == policy);
        let policies = match known {
            Some(base) => base.access.policies().clone(),
            None => Arc::new(policies(policy.as_ref())?),
        };
        let mut grants = base.map_or_else(Grants::default, |base| base.access.grants().clone());
        for grant in change.grants {
            grants.set(&grant.name, &grant.roles)?;
        }
        let mut groups = base.map_or_else(Arc::default, |base| base.groups.clone());
        let windows = WindowChange {
            all: base.is_none(),
            windows: change.groups.iter().map(window).collect(),
        };
        if !change.groups.is_empty() {
            let all = Arc::make_mut(&mut groups);
            for group in change.groups {
                match group.epoch_min == 0 && group.padding_bytes <= 1 {
                    true => all.remove(&group.group_id),
                    false => all.insert(group.group_id.clone(), group),
                };
            }
        }
        let told = change.config.or_else(|| base.and_then(|base| base.told.clone()));
        let config = match base.filter(|base| base.told == told) {
            Some(base) => base.config.clone(),
            None => Arc::new(sources.read(told.as_ref().map(|told| told.toml.as_str()))?),
        };
        Ok(State {
            version: change.version,
            lineage: change.lineage,
            trust,
            policy,
            revocations,
            told,
            groups,
            windows: Arc::new(windows),
            same_rules,
            access: Access::new(policies, grants),
            verifier: Arc::new(verifier),
            config,
        })
    }

    /// The rules for cores.
    pub(super) fn rules(&self) -> Rules {
        Rules::strict(
            &self.config.node,
            self.config.hosts().into(),
            self.verifier.clone(),
            Some(self.access.clone()),
            self.config.limits,
        )
    }

    /// A snapshot of it.
    pub(super) fn snapshot(&self) -> NodeState {
        let grants = self.access.grants().iter().map(|(name, roles)| proto::Grant {
            name: name.to_owned(),
            roles: roles.iter().map(|role| role.to_string()).collect(),
        });
        NodeState {
            version: self.version,
            from_version: 0,
            lineage: self.lineage.clone(),
            trust: Some(self.trust.clone()),
            policy: self.policy.clone(),
            grants: grants.collect(),
            revocations: self.revocations.to_vec(),
            config: self.told.clone(),
            partial: false,
            groups: self.groups.values().cloned().collect(),
        }
    }

    /// All windows of groups: for cores that know of none.
    pub(super) fn all_windows(&self) -> WindowChange {
        WindowChange {
            all: true,
            windows: self.groups.values().map(window).collect(),
        }
    }
}

fn window(told: &proto::GroupWindow) -> (Bytes, Window) {
    let window = Window {
        epoch_min: told.epoch_min,
        padding_bytes: told.padding_bytes,
    };
    (told.group_id.clone(), window)
}

/// Parts of one version, until the last has come.
#[derive(Debug, Default)]
pub(super) struct Parts {
    waiting: Option<NodeState>,
}

impl Parts {
    /// Takes the next part; gives the whole with the last.
    ///
    /// # Errors
    /// The parts together are too large.
    pub(super) fn add(&mut self, part: NodeState) -> Result<Option<NodeState>, StateError> {
        let last = !part.partial;
        let mut whole = match self.waiting.take() {
            None => part,
            // The parts of a version that is given up are of no use.
            Some(waiting) if (waiting.version, waiting.from_version) != (part.version, part.from_version) => {
                part
            }
            Some(mut waiting) => {
                waiting.trust = part.trust.or(waiting.trust);
                waiting.policy = part.policy.or(waiting.policy);
                waiting.config = part.config.or(waiting.config);
                waiting.grants.extend(part.grants);
                waiting.revocations.extend(part.revocations);
                waiting.groups.extend(part.groups);
                waiting
            }
        };
        if last {
            whole.partial = false;
            return Ok(Some(whole));
        }
        if prost::Message::encoded_len(&whole) > STATE_BYTES_MAX {
            return Err(StateError::TooLarge(STATE_BYTES_MAX));
        }
        self.waiting = Some(whole);
        Ok(None)
    }
}

/// A trust bundle as it is verified with.
pub(super) fn bundle(told: &proto::TrustBundle) -> Result<TrustBundle, StateError> {
    let domain = TrustDomain::new(&told.trust_domain).map_err(|source| StateError::Domain {
        name: told.trust_domain.clone(),
        source,
    })?;
    let certificates = |ders: &[Bytes]| ders.iter().map(|der| der.to_vec().into()).collect();
    let token_key = |key: &proto::TokenKey| {
        let public = key.public_key[..].try_into();
        public
            .map(|public| TokenKey {
                id: key.id.clone(),
                public,
            })
            .map_err(|_| StateError::TokenKey(key.id.clone()))
    };
    Ok(TrustBundle {
        domain,
        anchors: certificates(&told.anchors_der),
        intermediates: certificates(&told.intermediates_der),
        token_keys: told.token_keys.iter().map(token_key).collect::<Result<_, _>>()?,
        leaf_ttl_seconds_max: told.leaf_ttl_seconds_max,
        version: told.version,
    })
}

fn revoked(told: &[proto::Revocation]) -> Result<Revocations, StateError> {
    let number = told.iter().map(|entry| entry.number).max().unwrap_or(0);
    let entries = told.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    Ok(Revocations::from_snapshot(number, entries)?)
}

fn entry(told: &proto::Revocation) -> Result<Revocation, StateError> {
    let nameless = || StateError::Revocation(told.number);
    let revoked = match (told.serial.as_str(), told.identity.as_str()) {
        ("", "") => return Err(nameless()),
        ("", identity) => match told.issued_until_unix {
            0 => Revoked::Identity(identity.to_owned()),
            until => Revoked::IdentityUntil(identity.to_owned(), time(until)),
        },
        (serial, _) => Revoked::Serial(serial.parse::<Serial>().map_err(|_| nameless())?),
    };
    Ok(Revocation {
        number: told.number,
        revoked,
        at: time(told.time_unix),
    })
}

fn time(unix: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(unix).unwrap_or(0)))
}

fn policies(told: Option<&proto::PolicySet>) -> Result<PolicySet, StateError> {
    let text = told.map_or("", |told| told.text.as_str());
    PolicySet::parse(text).map_err(|problems| {
        let fatal = problems.iter().find(|problem| problem.fatal);
        StateError::Policy(
            fatal
                .or(problems.first())
                .map_or_else(|| "it cannot be read".to_owned(), ToString::to_string),
        )
    })
}

#[cfg(test)]
mod tests {
    use ringgate_identity::issue::{Authority, Issuer};

    use super::*;

    /// A snapshot of a store at a version, that revokes so many.
    fn snapshot(issuer: &Issuer, version: u64, lineage: &'static [u8], revoked: u64) -> NodeState {
        let bundle = issuer.bundle(1, 3600);
        let der = |certificates: &[ringgate_identity::CertificateDer<'_>]| {
            certificates.iter().map(|der| der.to_vec().into()).collect()
        };
        let revocation = |number| proto::Revocation {
            number,
            identity: format!("agp://test.example/acme/demo/bot/{number}"),
            ..proto::Revocation::default()
        };
        NodeState {
            version,
            lineage: Bytes::from_static(lineage),
            trust: Some(proto::TrustBundle {
                trust_domain: "test.example".to_owned(),
                anchors_der: der(&bundle.anchors),
                intermediates_der: der(&bundle.intermediates),
                version: 1,
                leaf_ttl_seconds_max: bundle.leaf_ttl_seconds_max,
                ..proto::TrustBundle::default()
            }),
            revocations: (1..=revoked).map(revocation).collect(),
            ..NodeState::default()
        }
    }

    #[test]
    fn t12_an_older_snapshot_that_is_replayed_changes_nothing() {
        let domain = TrustDomain::new("test.example").expect("a name");
        let (files, _) = Authority::create(&domain, UnixTime::now()).expect("made");
        let issuer = Issuer::load(domain, &files).expect("its own files");
        let sources = Sources {
            file: None,
            arguments: vec!["profile=development".to_owned()],
        };
        let old = snapshot(&issuer, 5, b"store", 1);
        let held = State::after(None, old.clone(), &sources).expect("the first");
        let held =
            State::after(Some(&held), snapshot(&issuer, 9, b"store", 2), &sources).expect("a newer one");
        assert_eq!(held.snapshot().revocations.len(), 2);
        let refused = State::after(Some(&held), old.clone(), &sources).expect_err("a replay");
        assert!(
            matches!(refused, StateError::Older { told: 5, held: 9 }),
            "{refused}"
        );
        // Nor do changes that count from what this node no longer holds.
        let change = NodeState {
            version: 6,
            from_version: 5,
            ..old
        };
        let refused = State::after(Some(&held), change, &sources).expect_err("a replay");
        assert!(
            matches!(refused, StateError::Order { from: 5, held: 9 }),
            "{refused}"
        );
        // The same again, and another store, whose numbers are its own, are no replays.
        State::after(Some(&held), snapshot(&issuer, 9, b"store", 2), &sources).expect("the same");
        State::after(Some(&held), snapshot(&issuer, 1, b"another", 0), &sources).expect("another store");
    }
}
