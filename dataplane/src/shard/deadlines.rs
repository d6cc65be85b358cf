//! Deadlines of calls.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::service::CallId;

/// Deadlines of calls in order. One that outlives its call is found void when it is due: a call knows its own deadline.
/// Bounded by the calls that connections may open while the longest deadline runs.
#[derive(Debug, Default)]
pub(crate) struct Deadlines(BinaryHeap<Reverse<(Instant, u32, u32)>>);

impl Deadlines {
    pub(crate) fn extend(&mut self, new: impl Iterator<Item = (Instant, CallId)>) {
        self.0
            .extend(new.map(|(at, call)| Reverse((at, call.connection, call.stream))));
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, ..))| *at)
    }

    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<CallId> {
        if self.next()? > now {
            return None;
        }
        self.0
            .pop()
            .map(|Reverse((_, connection, stream))| CallId { connection, stream })
    }
}
