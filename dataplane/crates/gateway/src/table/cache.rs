//! Results of matching, by topic, bounded in bytes.

use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::Arc;

use crate::hash::Seed;
use hashbrown::{HashMap, HashTable};

use super::matchset::MatchSet;

/// Topics whose publishes are remembered while no set of theirs is in the cache: between a change of subscriptions and the next publish.
/// More than anybody looks through; 4096 topics of 100 bytes are 600 KiB.
const COUNTS_MAX: usize = 4096;

#[derive(Debug)]
pub(super) struct Cache {
    sets: HashTable<Rc<MatchSet>>,
    /// Publishes to topics whose set went.
    counts: HashMap<Arc<str>, u64, Seed>,
    bytes: u64,
    bytes_max: u64,
    hasher: Seed,
}

impl Cache {
    pub(super) fn new(bytes_max: u64, hasher: Seed) -> Self {
        Self {
            sets: HashTable::new(),
            counts: HashMap::with_hasher(hasher),
            bytes: 0,
            bytes_max,
            hasher,
        }
    }

    pub(super) fn set_bytes_max(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }

    pub(super) fn get(&self, topic: &str) -> Option<&Rc<MatchSet>> {
        self.sets
            .find(self.hasher.hash_one(topic), |set| &*set.topic == topic)
    }

    /// When the bound is reached the whole cache goes: simple, and each publisher keeps its last set anyway.
    pub(super) fn insert(&mut self, set: &Rc<MatchSet>) {
        if self.bytes + set.cost_bytes() > self.bytes_max {
            self.clear();
        }
        self.bytes += set.cost_bytes();
        let hasher = &self.hasher;
        let hash = hasher.hash_one(&*set.topic);
        self.sets
            .insert_unique(hash, Rc::clone(set), |set| hasher.hash_one(&*set.topic));
    }

    /// The subscriptions of one topic changed.
    pub(super) fn forget(&mut self, topic: &str) {
        let found = self
            .sets
            .find_entry(self.hasher.hash_one(topic), |set| &*set.topic == topic);
        if let Ok(entry) = found {
            let (set, _) = entry.remove();
            set.stale.set(true);
            self.bytes -= set.cost_bytes();
            keep(&mut self.counts, &set);
        }
    }

    pub(super) fn clear(&mut self) {
        for set in self.sets.drain() {
            // A publisher may hold a set that is no longer found here; it could not be told of a change.
            set.stale.set(true);
            keep(&mut self.counts, &set);
        }
        self.bytes = 0;
    }

    /// Publishes to a topic while its earlier sets were good.
    pub(super) fn published_before(&mut self, topic: &str) -> u64 {
        self.counts.remove(topic).unwrap_or(0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &MatchSet> {
        self.sets.iter().map(Rc::as_ref)
    }
}

/// Remembers how often a topic was published to. Where there is no room, quieter ones are forgotten.
fn keep(counts: &mut HashMap<Arc<str>, u64, Seed>, set: &MatchSet) {
    let published = set.published.get();
    if published == 0 {
        return;
    }
    if counts.len() >= COUNTS_MAX {
        counts.retain(|_, count| *count > published);
    }
    if counts.len() < COUNTS_MAX {
        counts.insert(Arc::clone(&set.topic), published);
    }
}
