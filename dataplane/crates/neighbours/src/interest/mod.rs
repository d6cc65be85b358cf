//! What is wanted where: one table for each node, this one included, and who wants a topic.
//!
//! # Invariants worth naming
//!
//! * A table is its node's own word, aggregated over the node's cores and agents, and nobody else changes it: what is wanted behind a
//!   neighbour follows from the tables and the tree. So no two nodes can keep each other's interest alive after who wanted it left.
//! * A table is at exactly one version of its node, or empty. Changes from one version to the next name the digest of what they lead
//!   to; a table that does not come out right is emptied and asked for again.
//! * What does not fit is left out and counted; then digests of that table are not compared.

mod table;
mod trie;

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;
use ringgate_policy::{NameError, Pattern, PatternError, capability, service};
use slab::Slab;

use crate::ids::{NodeId, Version, hash, mix};
use crate::limits::GROUP_BYTES_MAX;
pub(crate) use table::{Applied, Change, Delta, Table};
use trie::Trie;

/// Something that can be wanted, or offered, at a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// Subscribers of a pattern.
    Pattern(Arc<str>),
    /// Members of a queue group.
    Group {
        /// Of their subscriptions.
        pattern: Arc<str>,
        /// Its name.
        group: Arc<str>,
    },
    /// Instances of a service.
    Service(Arc<str>),
    /// Agents with a capability.
    Capability(Arc<str>),
}

/// Why a key is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Its pattern is none.
    #[error("pattern: {0}")]
    Pattern(#[from] PatternError),
    /// Its name is none.
    #[error("name: {0}")]
    Name(#[from] NameError),
    /// Its group is none.
    #[error("a group's name has 1 to {GROUP_BYTES_MAX} bytes and no control characters")]
    Group,
}

impl Key {
    /// Checks a key that comes from outside.
    ///
    /// # Errors
    /// [`KeyError`] says which rule it breaks.
    pub fn check(&self) -> Result<(), KeyError> {
        match self {
            Key::Pattern(pattern) => Pattern::new(pattern).map(drop)?,
            Key::Group { pattern, group } => {
                Pattern::new(pattern)?;
                if group.is_empty() || group.len() > GROUP_BYTES_MAX || group.chars().any(char::is_control) {
                    return Err(KeyError::Group);
                }
            }
            Key::Service(name) => service(name)?,
            Key::Capability(name) => capability(name)?,
        }
        Ok(())
    }

    fn pattern(&self) -> Option<&Arc<str>> {
        match self {
            Key::Pattern(pattern) | Key::Group { pattern, .. } => Some(pattern),
            Key::Service(_) | Key::Capability(_) => None,
        }
    }

    /// Control characters are in no key, so they divide its parts.
    fn hash(&self) -> u64 {
        let (kind, one, other) = match self {
            Key::Pattern(pattern) => (1, pattern, ""),
            Key::Group { pattern, group } => (2, pattern, &**group),
            Key::Service(name) => (3, name, ""),
            Key::Capability(name) => (4, name, ""),
        };
        mix(hash(one.as_bytes()) ^ mix(hash(other.as_bytes()) ^ kind))
    }
}

/// How much of it there is at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Share {
    /// Subscribers, members or agents.
    pub count: u32,
    /// What its agents report as outstanding, all together.
    pub load: u32,
}

impl Share {
    /// Nobody.
    pub const NONE: Share = Share { count: 0, load: 0 };

    /// As neighbours are told it: rounded up to powers of two, so that a crowd can grow without everybody hearing of it.
    #[must_use]
    pub fn in_steps(self) -> Share {
        let step = |n: u32| {
            if n == 0 {
                0
            } else {
                n.checked_next_power_of_two().unwrap_or(u32::MAX)
            }
        };
        match self.count {
            0 => Share::NONE,
            count => Share {
                count: step(count),
                load: step(self.load),
            },
        }
    }

    fn digest(self, key: u64) -> u64 {
        mix(key ^ mix(u64::from(self.count) << 32 | u64::from(self.load)))
    }
}

/// Something that somebody wants.
#[derive(Debug)]
struct Wanted {
    key: Key,
    hash: u64,
    /// Where, by ascending id.
    holders: Vec<(NodeId, Share)>,
}

/// What was found out about a topic is no longer good.
#[derive(Debug, Default)]
pub(crate) struct Outdated {
    /// Of every topic.
    pub(crate) all: bool,
    /// Of these.
    pub(crate) topics: Vec<Arc<str>>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Interest {
    wanted: Slab<Wanted>,
    by_key: HashMap<Key, u32>,
    /// By the text of a pattern: who wants it, plain and as groups.
    patterns: HashMap<Arc<str>, Vec<u32>>,
    wildcards: Trie,
    tables: HashMap<NodeId, Table>,
    outdated: Outdated,
    own: NodeId,
    /// Patterns of which other nodes hold another share than before.
    moved: BTreeSet<Arc<str>>,
    keys_max: usize,
    keys_per_node_max: usize,
    log_changes_max: usize,
    /// Changes that did not fit.
    pub(crate) left_out: u64,
}

impl Interest {
    pub(crate) fn new(
        own: NodeId,
        keys_max: usize,
        keys_per_node_max: usize,
        log_changes_max: usize,
    ) -> Self {
        Self {
            wanted: Slab::new(),
            by_key: HashMap::new(),
            patterns: HashMap::new(),
            wildcards: Trie::default(),
            tables: HashMap::new(),
            outdated: Outdated::default(),
            own,
            moved: BTreeSet::new(),
            keys_max,
            keys_per_node_max,
            log_changes_max,
            left_out: 0,
        }
    }

    /// What was found out before and is no longer good.
    pub(crate) fn outdated(&mut self) -> Outdated {
        std::mem::take(&mut self.outdated)
    }

    /// A pattern of which other nodes hold another share than when this was asked last, and how much they hold now.
    pub(crate) fn next_moved(&mut self) -> Option<(Arc<str>, u32)> {
        let pattern = self.moved.pop_first()?;
        let holders = self.holders(&Key::Pattern(Arc::clone(&pattern))).iter();
        let elsewhere = holders.filter(|(node, _)| *node != self.own);
        let subscribers = elsewhere.fold(0u32, |sum, (_, share)| sum.saturating_add(share.count));
        Some((pattern, subscribers))
    }

    pub(crate) fn keys(&self) -> usize {
        self.wanted.len()
    }

    /// Entries of all tables.
    pub(crate) fn entries(&self) -> usize {
        self.tables.values().map(|table| table.keys.len()).sum()
    }

    /// Where a key is held, by ascending id.
    pub(crate) fn holders(&self, key: &Key) -> &[(NodeId, Share)] {
        match self.by_key.get(key) {
            Some(&at) => &self.wanted[at as usize].holders,
            None => &[],
        }
    }

    /// What one node holds of a key.
    pub(crate) fn share(&self, node: NodeId, key: &Key) -> Share {
        let holders = self.holders(key);
        match holders.binary_search_by_key(&node, |holder| holder.0) {
            Ok(at) => holders[at].1,
            Err(_) => Share::NONE,
        }
    }

    /// The nodes with plain subscribers of a topic, by ascending id.
    pub(crate) fn nodes_of(&self, topic: &str) -> Vec<NodeId> {
        let mut nodes = Vec::new();
        self.each_pattern(topic, |wanted| {
            if matches!(wanted.key, Key::Pattern(_)) {
                nodes.extend(wanted.holders.iter().map(|holder| holder.0));
            }
        });
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// The queue groups that want a topic.
    pub(crate) fn groups_of(&self, topic: &str) -> Vec<Key> {
        let mut groups = Vec::new();
        self.each_pattern(topic, |wanted| {
            if matches!(wanted.key, Key::Group { .. }) {
                groups.push(wanted.key.clone());
            }
        });
        groups
    }

    fn each_pattern(&self, topic: &str, mut take: impl FnMut(&Wanted)) {
        let mut all = |pattern: &str| {
            for &at in self.patterns.get(pattern).into_iter().flatten() {
                take(&self.wanted[at as usize]);
            }
        };
        all(topic);
        self.wildcards.matches(topic, &mut |pattern| all(pattern));
    }

    /// All that a node holds, in no order.
    pub(crate) fn of(&self, node: NodeId) -> impl Iterator<Item = (&Key, Share)> {
        let keys = self.tables.get(&node).into_iter().flat_map(|table| &table.keys);
        keys.map(move |&at| {
            let wanted = &self.wanted[at as usize];
            let at = wanted.holders.binary_search_by_key(&node, |holder| holder.0);
            (&wanted.key, at.map_or(Share::NONE, |at| wanted.holders[at].1))
        })
    }

    pub(crate) fn version(&self, node: NodeId) -> Version {
        self.tables
            .get(&node)
            .map_or(Version::NONE, |table| table.version)
    }

    pub(crate) fn digest(&self, node: NodeId) -> u64 {
        self.tables.get(&node).map_or(0, |table| table.digest)
    }

    pub(crate) fn table(&self, node: NodeId) -> Option<&Table> {
        self.tables.get(&node)
    }

    /// Forgets what a node wants.
    pub(crate) fn forget(&mut self, node: NodeId) {
        let held: Vec<Key> = self.of(node).map(|(key, _)| key.clone()).collect();
        for key in held {
            self.set(node, &key, Share::NONE);
        }
        self.tables.remove(&node);
    }

    /// Sets what a node holds of a key. False: it does not fit.
    fn set(&mut self, node: NodeId, key: &Key, share: Share) -> bool {
        let at = match (self.by_key.get(key), share.count) {
            (Some(&at), _) => at,
            (None, 0) => return true,
            (None, _) if self.wanted.len() >= self.keys_max => return false,
            (None, _) => self.insert(key),
        };
        if let Key::Pattern(pattern) = key
            && node != self.own
        {
            self.moved.insert(Arc::clone(pattern));
        }
        let table = self.tables.entry(node).or_default();
        let wanted = &mut self.wanted[at as usize];
        let holder = wanted.holders.binary_search_by_key(&node, |holder| holder.0);
        match (holder, share.count) {
            (Err(_), 0) => return true,
            (Err(_), _) if table.keys.len() >= self.keys_per_node_max => {
                if wanted.holders.is_empty() {
                    self.remove(at);
                }
                return false;
            }
            (Err(place), _) => {
                wanted.holders.insert(place, (node, share));
                table.keys.insert(at);
                table.digest = table.digest.wrapping_add(share.digest(wanted.hash));
            }
            (Ok(place), 0) => {
                let (_, before) = wanted.holders.remove(place);
                table.keys.remove(&at);
                table.digest = table.digest.wrapping_sub(before.digest(wanted.hash));
            }
            (Ok(place), _) => {
                let before = std::mem::replace(&mut wanted.holders[place].1, share);
                let digest = table.digest.wrapping_sub(before.digest(wanted.hash));
                table.digest = digest.wrapping_add(share.digest(wanted.hash));
                return true;
            }
        }
        if let Key::Pattern(pattern) = key {
            match pattern.contains('*') {
                true => self.outdated.all = true,
                false => self.outdated.topics.push(Arc::clone(pattern)),
            }
        }
        if self.wanted[at as usize].holders.is_empty() {
            self.remove(at);
        }
        true
    }

    fn insert(&mut self, key: &Key) -> u32 {
        let at = self.wanted.insert(Wanted {
            key: key.clone(),
            hash: key.hash(),
            holders: Vec::new(),
        }) as u32;
        self.by_key.insert(key.clone(), at);
        if let Some(pattern) = key.pattern() {
            let keys = self.patterns.entry(Arc::clone(pattern)).or_default();
            if keys.is_empty() && pattern.contains('*') {
                self.wildcards.insert(pattern);
            }
            keys.push(at);
        }
        at
    }

    fn remove(&mut self, at: u32) {
        let key = self.wanted.remove(at as usize).key;
        self.by_key.remove(&key);
        let Some(pattern) = key.pattern() else { return };
        let Some(keys) = self.patterns.get_mut(pattern) else {
            return;
        };
        keys.retain(|known| *known != at);
        if keys.is_empty() {
            self.patterns.remove(pattern);
            if pattern.contains('*') {
                self.wildcards.remove(pattern);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(count: u32) -> Share {
        Share { count, load: 0 }
    }

    #[test]
    fn a_topic_finds_all_who_want_it() {
        let mut interest = Interest::new(NodeId::of("own"), 99, 99, 99);
        let (a, b, c) = (NodeId::of("a"), NodeId::of("b"), NodeId::of("c"));
        let pattern = |text: &str| Key::Pattern(text.into());
        assert!(interest.set(a, &pattern("x/y"), some(1)));
        assert!(interest.set(b, &pattern("x/*"), some(1)));
        assert!(interest.set(b, &pattern("x/**"), some(2)));
        let group = Key::Group {
            pattern: "x/**".into(),
            group: "g".into(),
        };
        assert!(interest.set(c, &group, some(1)));
        let mut wanted = vec![a, b];
        wanted.sort();
        assert_eq!(interest.nodes_of("x/y"), wanted);
        assert_eq!(interest.nodes_of("x/z"), [b]);
        assert_eq!(interest.nodes_of("x"), []);
        assert_eq!(interest.groups_of("x/y"), vec![group]);
        let outdated = interest.outdated();
        assert!(outdated.all && *outdated.topics == [Arc::from("x/y")]);
        interest.forget(b);
        interest.forget(c);
        assert_eq!(
            (interest.nodes_of("x/y"), interest.groups_of("x/y")),
            (vec![a], vec![])
        );
        interest.set(a, &pattern("x/y"), Share::NONE);
        assert_eq!(
            (interest.keys(), interest.entries(), interest.digest(a)),
            (0, 0, 0)
        );
        assert!(interest.patterns.is_empty() && interest.wildcards.is_empty());
    }

    #[test]
    fn tables_are_bounded() {
        let mut interest = Interest::new(NodeId::of("own"), 3, 2, 9);
        let (a, b) = (NodeId::of("a"), NodeId::of("b"));
        let service = |n: u32| Key::Service(format!("o/n/{n}").into());
        assert!(interest.set(a, &service(1), some(1)) && interest.set(a, &service(2), some(1)));
        assert!(!interest.set(a, &service(3), some(1)), "of one node");
        assert!(interest.set(b, &service(3), some(1)));
        assert!(!interest.set(b, &service(4), some(1)), "of all nodes");
        assert!(interest.set(b, &service(2), some(1)), "a known one");
        assert_eq!((interest.keys(), interest.entries()), (3, 4));
    }

    #[test]
    fn keys_are_checked() {
        let bad = [
            Key::Pattern("a//b".into()),
            Key::Pattern("a/**/b".into()),
            Key::Service("a/b".into()),
            Key::Capability("a/b".into()),
            Key::Group {
                pattern: "a".into(),
                group: "".into(),
            },
        ];
        assert!(bad.iter().all(|key| key.check().is_err()));
        assert!(Key::Service("a/b/c".into()).check().is_ok());
    }

    #[test]
    fn a_crowd_grows_in_steps() {
        let steps = |count, load| {
            let share = Share { count, load }.in_steps();
            (share.count, share.load)
        };
        assert_eq!((steps(1, 0), steps(3, 5), steps(0, 5)), ((1, 0), (4, 8), (0, 0)));
        assert_eq!(steps(u32::MAX, 1), (u32::MAX, 1));
    }

    proptest::proptest! {
        /// The digest says what a table holds, however it came to hold it.
        #[test]
        fn a_digest_is_of_the_content(steps in proptest::collection::vec((0u32..8, 0u32..4), 0..60)) {
            let (mut one, mut other) = (Interest::new(NodeId::of("own"), 99, 99, 9), Interest::new(NodeId::of("own"), 99, 99, 9));
            let node = NodeId::of("a");
            let key = |n: u32| Key::Pattern(format!("t/{n}/*").into());
            let mut last = std::collections::BTreeMap::new();
            for (n, count) in steps {
                one.set(node, &key(n), some(count));
                last.insert(n, count);
            }
            for (n, count) in last.iter().rev() {
                other.set(node, &key(*n), some(*count));
            }
            proptest::prop_assert_eq!(one.digest(node), other.digest(node));
            other.set(node, &key(9), some(1));
            proptest::prop_assert_ne!(one.digest(node), other.digest(node));
        }

        #[test]
        fn matching_is_that_of_the_patterns(
            patterns in proptest::collection::hash_set("(a|b|\\*)(/(a|b|\\*)){0,2}(/\\*\\*)?", 0..20),
            topic in "(a|b)(/(a|b)){0,3}",
        ) {
            let mut interest = Interest::new(NodeId::of("own"), 99, 99, 9);
            for pattern in &patterns {
                interest.set(NodeId::of(pattern), &Key::Pattern(pattern.as_str().into()), some(1));
            }
            let mut wanted: Vec<NodeId> = patterns
                .iter()
                .filter(|pattern| ringgate_policy::matches(pattern, &topic))
                .map(|pattern| NodeId::of(pattern))
                .collect();
            wanted.sort();
            proptest::prop_assert_eq!(interest.nodes_of(&topic), wanted);
            for pattern in &patterns {
                interest.forget(NodeId::of(pattern));
            }
            proptest::prop_assert!(interest.wildcards.is_empty() && interest.nodes_of(&topic).is_empty());
        }
    }
}
