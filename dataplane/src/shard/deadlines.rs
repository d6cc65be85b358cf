//! Deadlines of calls.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::service::CallId;

/// Entries below which nothing is tidied.
const TIDY_FROM: usize = 1024;

/// Deadlines of calls in order. One that outlives its call is found void when it is due, or when the heap has doubled since it was
/// last tidied: so it holds at most about twice the deadlines of calls there are.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    heap: BinaryHeap<Reverse<(Instant, u32, u32)>>,
    tidied: usize,
}

impl Deadlines {
    /// Adds deadlines. `is_live` says whether a call still has a deadline.
    pub(crate) fn extend(
        &mut self,
        new: impl Iterator<Item = (Instant, CallId)>,
        is_live: impl Fn(CallId, Instant) -> bool,
    ) {
        self.heap
            .extend(new.map(|(at, call)| Reverse((at, call.connection, call.stream))));
        if self.heap.len() > TIDY_FROM.max(2 * self.tidied) {
            self.heap.retain(|Reverse((at, connection, stream))| {
                is_live(
                    CallId {
                        connection: *connection,
                        stream: *stream,
                    },
                    *at,
                )
            });
            self.tidied = self.heap.len();
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<CallId> {
        if self.next()? > now {
            return None;
        }
        self.heap
            .pop()
            .map(|Reverse((_, connection, stream))| CallId { connection, stream })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn void_deadlines_do_not_pile_up() {
        let start = Instant::now();
        let mut deadlines = Deadlines::default();
        let call = |stream| CallId {
            connection: 0,
            stream,
        };
        for stream in 0..100_000 {
            let far = start + Duration::from_secs(3600 + u64::from(stream));
            // Only the last ten calls live.
            deadlines.extend([(far, call(stream))].into_iter(), |live, _| {
                live.stream + 10 > stream
            });
        }
        assert!(deadlines.heap.len() <= TIDY_FROM + 1);
        assert_eq!(deadlines.pop_due(start), None);
    }
}
