//! One space: its keys, and as much of its past as is kept.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use ringgate_policy::Limits;

use crate::Change;

/// See the module. Memory is counted for each place that holds a change: an entry that is in the past too counts twice.
#[derive(Debug, Default)]
pub struct Space {
    revision: u64,
    keys: BTreeMap<Arc<str>, Arc<Change>>,
    past: VecDeque<Arc<Change>>,
    past_bytes: u64,
    bytes: u64,
    /// Keys that expire.
    pub(crate) expiring: usize,
    /// Whether it was made here and its past goes back to its first change.
    whole: bool,
    /// Whether its changes go to the log.
    pub durable: bool,
    /// The position of its last change in the log; 0: it has none there that is not safe.
    pub position: u64,
    /// Cores that want its changes.
    pub watchers: Vec<u16>,
}

/// What there is from a revision on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Past {
    /// All changes from there on.
    Changes(Vec<Arc<Change>>),
    /// Some of them are gone.
    Compacted {
        /// The first revision that is there still.
        first: u64,
    },
    /// The space has not come so far: the revision is of another time of its life.
    Unknown,
}

impl Space {
    /// An empty one whose changes count from behind `revision`.
    pub(crate) fn new(revision: u64, durable: bool) -> Self {
        Self {
            revision,
            durable,
            whole: true,
            ..Self::default()
        }
    }

    /// One that was there before, as its entries say.
    pub(crate) fn restored(revision: u64, entries: Vec<Arc<Change>>) -> Self {
        let mut space = Self {
            revision,
            durable: true,
            ..Self::default()
        };
        for entry in entries {
            space.bytes += entry.cost();
            space.expiring += usize::from(entry.expires_unix_ms > 0);
            space.keys.insert(Arc::clone(&entry.key), entry);
        }
        space
    }

    /// Of its last change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How many keys it has.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Memory that it holds.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What a key holds.
    pub fn get(&self, key: &str) -> Option<&Arc<Change>> {
        self.keys.get(key)
    }

    /// The entries whose keys start with `prefix`, in the keys' order.
    pub fn entries<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Arc<Change>> {
        self.keys
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(_, entry)| entry)
    }

    /// The entries behind `key`, or all of them.
    pub fn entries_behind<'a>(&'a self, key: Option<&'a str>) -> impl Iterator<Item = &'a Arc<Change>> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.keys
            .range::<str, _>((from, Bound::Unbounded))
            .map(|(_, entry)| entry)
    }

    /// The changes from a revision on of keys that start with `prefix`. 0 and 1 mean the very first, whatever its number.
    pub fn since(&self, revision: u64, prefix: &str) -> Past {
        let first = self.revision - self.past.len() as u64 + 1;
        if revision > self.revision + 1 {
            return Past::Unknown;
        }
        let skipped = match revision {
            0 | 1 if self.whole => 0,
            _ if revision < first => return Past::Compacted { first },
            _ => (revision - first) as usize,
        };
        let wanted = self.past.range(skipped..);
        Past::Changes(wanted.filter(|it| it.key.starts_with(prefix)).cloned().collect())
    }

    /// Makes a change: the next in order. Returns what it replaced.
    pub(crate) fn apply(&mut self, change: &Arc<Change>, limits: &Limits) -> Option<Arc<Change>> {
        debug_assert_eq!(change.revision, self.revision + 1);
        self.revision = change.revision;
        let cost = change.cost();
        let old = self.place(change);
        self.bytes += cost;
        self.past_bytes += cost;
        self.past.push_back(Arc::clone(change));
        while self.past.len() as u64 > limits.state_history_max
            || self.past_bytes > limits.state_history_bytes_max
        {
            self.forget_oldest();
        }
        old
    }

    /// Gives up the oldest change that is kept. False when there is none.
    pub(crate) fn forget_oldest(&mut self) -> bool {
        let Some(oldest) = self.past.pop_front() else {
            return false;
        };
        self.whole = false;
        self.past_bytes -= oldest.cost();
        self.bytes -= oldest.cost();
        true
    }

    /// Takes the newest change back.
    pub(crate) fn undo(&mut self, change: &Change, old: Option<Arc<Change>>) {
        debug_assert_eq!(change.revision, self.revision);
        self.revision -= 1;
        // It may be gone from the past already, where little of it is kept.
        if self
            .past
            .back()
            .is_some_and(|newest| newest.revision == change.revision)
        {
            self.past.pop_back();
            self.past_bytes -= change.cost();
            self.bytes -= change.cost();
        }
        match old {
            Some(old) => _ = self.place(&old),
            None => _ = self.remove(&change.key),
        }
    }

    /// Puts a change's outcome into the map.
    fn place(&mut self, change: &Arc<Change>) -> Option<Arc<Change>> {
        if change.value.is_none() {
            return self.remove(&change.key);
        }
        self.bytes += change.cost();
        self.expiring += usize::from(change.expires_unix_ms > 0);
        let old = match self.keys.get_mut(&*change.key) {
            Some(entry) => std::mem::replace(entry, Arc::clone(change)),
            None => {
                self.keys.insert(Arc::clone(&change.key), Arc::clone(change));
                return None;
            }
        };
        self.bytes -= old.cost();
        self.expiring -= usize::from(old.expires_unix_ms > 0);
        Some(old)
    }

    fn remove(&mut self, key: &str) -> Option<Arc<Change>> {
        let old = self.keys.remove(key)?;
        self.bytes -= old.cost();
        self.expiring -= usize::from(old.expires_unix_ms > 0);
        Some(old)
    }
}
