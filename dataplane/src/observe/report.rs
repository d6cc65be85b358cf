//! What a core counts.

use super::hops::Hops;

/// Counters of a shard's own work, since start.
#[derive(Debug, Default, Clone, Copy)]
pub struct ShardCounters {
    /// Connections accepted.
    pub connections_accepted: u64,
    /// Connections closed.
    pub connections_closed: u64,
    /// Accepts that failed.
    pub accept_failures: u64,
    /// Turns of the loop that did something.
    pub turns: u64,
    /// Times the core parked.
    pub parks: u64,
    /// Receives completed.
    pub receives: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Sends completed.
    pub sends: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Messages to other cores.
    pub core_messages: u64,
    /// Nanoseconds that the core looked for work and found none.
    pub spin_nanos: u64,
    /// Nanoseconds that it slept.
    pub park_nanos: u64,
    /// Times that a stream had something to send and its client had given no window for it.
    pub credit_stalls: u64,
    /// Times that calls were held because another core was too far behind.
    pub congestions: u64,
}

impl ShardCounters {
    /// The counters by name.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("connections_accepted", self.connections_accepted),
            ("connections_closed", self.connections_closed),
            ("accept_failures", self.accept_failures),
            ("turns", self.turns),
            ("parks", self.parks),
            ("receives", self.receives),
            ("received_bytes", self.received_bytes),
            ("sends", self.sends),
            ("sent_bytes", self.sent_bytes),
            ("core_messages", self.core_messages),
            ("spin_nanos", self.spin_nanos),
            ("park_nanos", self.park_nanos),
            ("credit_stalls", self.credit_stalls),
            ("congestions", self.congestions),
        ]
    }
}

/// What a core answers when asked.
#[derive(Debug)]
pub struct CoreReport {
    /// Which core.
    pub core: usize,
    /// Counts by name: the same names from every core.
    pub counts: Vec<(&'static str, u64)>,
    /// Times since the last report.
    pub hops: Hops,
    /// Its sessions, each as JSON; none where they were not asked for.
    pub details: Vec<serde_json::Value>,
}

impl CoreReport {
    /// A count by its name; `None` where the core does not have it.
    pub fn count(&self, name: &str) -> Option<u64> {
        self.counts
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, count)| *count)
    }
}
