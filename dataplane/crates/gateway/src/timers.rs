//! The timers of one core: a heap with lazy deletion. What is no longer wanted stays until it is due, or until half the heap is
//! unwanted.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::ids::SessionId;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Timer {
    /// Register did not come.
    Register(SessionId),
    /// The grace of a lost session is over.
    Grace(SessionId),
    /// A request's deadline.
    Request(u64),
    /// An introduction's deadline.
    Introduction(u64),
    /// A publish was held long enough for this subscription.
    Hold {
        hold: u64,
        session: SessionId,
        lane: u32,
    },
    /// A session's credential may have run out.
    Credential(SessionId),
    /// A load report that had to wait may be spread.
    Status(SessionId),
}

#[derive(Debug, PartialEq, Eq)]
struct Due {
    at: Instant,
    timer: Timer,
}

impl Ord for Due {
    /// Earliest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at)
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Due>,
    unwanted: usize,
}

/// A small heap is not worth compacting.
const COMPACT_MIN: usize = 1024;

impl Timers {
    pub(crate) fn set(&mut self, at: Instant, timer: Timer) {
        self.heap.push(Due { at, timer });
    }

    /// A timer that was set is no longer wanted.
    pub(crate) fn note_unwanted(&mut self) {
        self.unwanted += 1;
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|due| due.at)
    }

    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|due| due.timer)
    }

    pub(crate) fn wants_compaction(&self) -> bool {
        self.heap.len() > COMPACT_MIN && self.unwanted * 2 > self.heap.len()
    }

    pub(crate) fn compact(&mut self, mut wanted: impl FnMut(Timer) -> bool) {
        self.heap.retain(|due| wanted(due.timer));
        self.unwanted = 0;
    }
}
