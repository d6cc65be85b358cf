//! What a core counts.

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
    /// Its sessions, each as JSON.
    pub details: Vec<serde_json::Value>,
}
