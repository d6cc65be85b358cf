//! What a switch is told at its start.

use std::time::Duration;

/// Configuration of one core's switch. All cores of a node get the same, but for `core`.
#[derive(Debug, Clone)]
pub struct SwitchConfig {
    /// Which core this is.
    pub core: u16,
    /// How many there are, at least 1.
    pub cores: u16,
    /// Secret random number: it seeds the hashes, so that a peer cannot choose names that collide.
    pub seed: u64,
    /// What happens where a reader is too slow.
    pub slow_reader: SlowReader,
    /// A message to an instance that nobody has subscribed to goes to the name's only connection, where there is just one (AGP 0.3.5).
    pub falls_back_to_only: bool,
    /// How long a connection may take until its dialect says that it is ready, where the dialect has a greeting.
    pub greeting_timeout: Duration,
    /// Bounds.
    pub limits: Limits,
}

impl SwitchConfig {
    /// Defaults for one core of a node.
    pub fn new(core: u16, cores: u16, seed: u64) -> Self {
        Self {
            core,
            cores,
            seed,
            slow_reader: SlowReader::default(),
            falls_back_to_only: false,
            greeting_timeout: Duration::from_secs(5),
            limits: Limits::default(),
        }
    }
}

/// What happens to messages for a connection whose queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SlowReader {
    /// The oldest waiting messages give way. The default: sessions repair loss, and the newest messages are worth most.
    #[default]
    DropOldest,
    /// The arriving messages are dropped.
    DropNewest,
    /// The connection is ended; its client comes back with an empty queue.
    Disconnect,
}

/// Bounds of one core's switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that may wait for one connection. Default 4 MiB: what the largest message takes; a queue that is empty takes one message of
    /// any size.
    pub queue_bytes_max: u64,
    /// Bytes that may wait for all connections of the core together. Default 512 MiB. A queue may hold at most what is free of this, so
    /// that each of n full queues gets an equal share.
    pub memory_bytes_max: u64,
    /// Bytes of acknowledgements that may wait for one connection; beyond, it is ended. Default 256 KiB: more than 10 000 of them.
    pub acks_bytes_max: usize,
    /// Subscriptions of one connection, each id of a name counted. Default 100 000: one connection may carry many applications.
    pub subscriptions_max: u32,
    /// Names known on the core, those of other cores included. Default 2 000 000, each about 200 bytes.
    pub names_max: usize,
    /// Connections of the core. Default 1 000 000; the listener's own limit is lower.
    pub connections_max: usize,
    /// Bytes of consecutive messages that are queued as one run. Default 16 KiB: enough to make the cost for each subscriber small.
    pub run_bytes_max: usize,
    /// A queue that makes no progress for this long is copied out of shared memory. Default 1 s.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue_bytes_max: 4 << 20,
            memory_bytes_max: 512 << 20,
            acks_bytes_max: 256 << 10,
            subscriptions_max: 100_000,
            names_max: 2_000_000,
            connections_max: 1_000_000,
            run_bytes_max: 16 << 10,
            stall: Duration::from_secs(1),
        }
    }
}
