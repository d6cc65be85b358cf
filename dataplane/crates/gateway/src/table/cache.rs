//! Results of matching, by topic, bounded in bytes.

use std::hash::BuildHasher;
use std::rc::Rc;

use crate::hash::Seed;
use hashbrown::HashTable;

use super::matchset::MatchSet;

#[derive(Debug)]
pub(super) struct Cache {
    sets: HashTable<Rc<MatchSet>>,
    bytes: u64,
    bytes_max: u64,
    hasher: Seed,
}

impl Cache {
    pub(super) fn new(bytes_max: u64, hasher: Seed) -> Self {
        Self {
            sets: HashTable::new(),
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
        }
    }

    pub(super) fn clear(&mut self) {
        for set in self.sets.drain() {
            // A publisher may hold a set that is no longer found here; it could not be told of a change.
            set.stale.set(true);
        }
        self.bytes = 0;
    }
}
