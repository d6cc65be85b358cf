//! What a core's queues hold together, and its counters.

use crate::stats::Stats;

/// Shared by all queues of a core. Invariant: `queued_bytes` is the sum of all queues' waiting bytes.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) queued_bytes: u64,
    memory_bytes_max: u64,
    pub(crate) stats: Stats,
}

impl Ledger {
    pub(crate) fn new(memory_bytes_max: u64) -> Self {
        Self {
            queued_bytes: 0,
            memory_bytes_max,
            stats: Stats::default(),
        }
    }

    /// What waits already stays.
    pub(crate) fn set_memory_bytes_max(&mut self, bytes: u64) {
        self.memory_bytes_max = bytes;
    }

    /// What a subscription with this bound may hold now: the smaller of its bound and what is free, so that each of n full
    /// queues gets an equal share and some memory stays free for those that are not (Choudhury and Hahne 1998, α = 1).
    pub(crate) fn allowance(&self, bound: u64) -> u64 {
        bound.min(self.memory_bytes_max.saturating_sub(self.queued_bytes))
    }
}
