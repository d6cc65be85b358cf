//! Keys that are deleted by themselves: a heap with lazy deletion.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::Change;

/// A small heap is not worth compacting.
const COMPACT_MIN: usize = 1024;

/// When which value of which key is over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    pub(crate) at_unix_ms: u64,
    /// Of the value: a later one is not over with it.
    pub(crate) revision: u64,
    pub(crate) space: Arc<str>,
    pub(crate) key: Arc<str>,
}

impl Due {
    /// Whether it is the end of this value. A revision alone does not tell: one that was undone is used again.
    pub(crate) fn is_of(&self, entry: &Change) -> bool {
        (self.revision, self.at_unix_ms) == (entry.revision, entry.expires_unix_ms)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Expiry {
    heap: BinaryHeap<Reverse<Due>>,
}

impl Expiry {
    pub(crate) fn add(&mut self, due: Due) {
        self.heap.push(Reverse(due));
    }

    /// When the first is due.
    pub(crate) fn next_unix_ms(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(due)| due.at_unix_ms)
    }

    pub(crate) fn pop_due(&mut self, now_unix_ms: u64) -> Option<Due> {
        if self.next_unix_ms()? > now_unix_ms {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| due)
    }

    /// Whether most entries may be of values that were replaced, where `live` are not.
    pub(crate) fn wants_compaction(&self, live: usize) -> bool {
        self.heap.len() > COMPACT_MIN && self.heap.len() > live * 2
    }

    pub(crate) fn compact(&mut self, wanted: impl Fn(&Due) -> bool) {
        self.heap.retain(|Reverse(due)| wanted(due));
    }
}
