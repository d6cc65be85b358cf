//! Every limit of an agent and of a core: name, default, cap, unit and reason in one table.

use thiserror::Error;

/// One row of the table of limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitSpec {
    /// The key; the unit is its last word.
    pub name: &'static str,
    /// What it bounds, and why the default is what it is.
    pub doc: &'static str,
    /// Unless configured.
    pub default: u64,
    /// Smallest value allowed.
    pub min: u64,
    /// Largest value allowed.
    pub cap: u64,
}

/// A configured limit lies outside what is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("limits.{name} = {value} is out of range; allowed are {min} to {cap}")]
pub struct LimitError {
    /// Which.
    pub name: &'static str,
    /// What was given.
    pub value: u64,
    /// Smallest value allowed.
    pub min: u64,
    /// Largest value allowed.
    pub cap: u64,
}

macro_rules! limits {
    ($($(#[doc = $doc:literal])* $name:ident = $default:expr, $min:expr, $cap:expr;)*) => {
        /// All limits. Each is a config key `limits.<name>`; counts have no unit, others carry it as their last word.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct Limits {
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Limits {
            /// The table: for documentation, the example config and checks.
            pub const SPECS: &'static [LimitSpec] = &[
                $(LimitSpec {
                    name: stringify!($name),
                    doc: concat!($($doc),*),
                    default: $default,
                    min: $min,
                    cap: $cap,
                },)*
            ];

            /// Sets a limit by its key; false when there is none of that name.
            pub fn set(&mut self, name: &str, value: u64) -> bool {
                match name {
                    $(stringify!($name) => self.$name = value,)*
                    _ => return false,
                }
                true
            }

            /// Reads a limit by its key.
            pub fn get(&self, name: &str) -> Option<u64> {
                match name {
                    $(stringify!($name) => Some(self.$name),)*
                    _ => None,
                }
            }

            /// Checks every value against its range.
            ///
            /// # Errors
            /// The first limit out of range.
            pub fn check(&self) -> Result<(), LimitError> {
                $(if !($min..=$cap).contains(&self.$name) {
                    return Err(LimitError { name: stringify!($name), value: self.$name, min: $min, cap: $cap });
                })*
                Ok(())
            }
        }
    };
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

limits! {
    /// Largest message an agent may send, gRPC prefix excluded. A 4 MiB payload, gRPC's own default, and room for its headers.
    message_bytes_max = 4 * MIB + 64 * KIB, KIB, 256 * MIB;
    /// Subscriptions of one agent. Each costs about 200 bytes on every core.
    subscriptions_max = 10_000, 1, 1_000_000;
    /// Queue of a subscription that does not say how much it wants: a second of a busy topic.
    queue_bytes_default = MIB, KIB, 256 * MIB;
    /// Largest queue a subscription may ask for.
    queue_bytes_max = 64 * MIB, KIB, GIB;
    /// All queues of a core together. A queue may hold at most the smaller of its own bound and what is free of this, so that
    /// each of n full queues gets an equal share (Choudhury and Hahne, dynamic queue length thresholds, 1998, with α = 1).
    queue_memory_bytes_max = 512 * MIB, MIB, 1024 * GIB;
    /// Answers and addressed messages waiting for an agent that does not read. Beyond it new ones are refused to their sender;
    /// beyond a quarter of it the agent's own messages are not read any more.
    control_queue_bytes_max = 4 * MIB, 64 * KIB, GIB;
    /// Streams one agent may have open, either end.
    streams_max = 4096, 1, 1_000_000;
    /// Requests of one agent that wait for a response. Honest pipelines of thousands fit.
    requests_in_flight_max = 10_000, 1, 1_000_000;
    /// Introductions of one agent that wait for an answer, and as many that wait for its own.
    introductions_max = 256, 1, 65_536;
    /// Channels one agent may hold.
    channels_max = 1024, 1, 65_536;
    /// Capabilities an agent may declare; every core keeps a list for each.
    capabilities_max = 64, 0, 4096;
    /// Labels an agent may carry; they are replicated to every core.
    labels_max = 64, 0, 1024;
    /// Patterns in `accept_from`; each is tried for each message addressed to the agent.
    accept_from_max = 64, 0, 1024;
    /// Longest queue group name.
    group_bytes_max = 255, 1, 255;
    /// How long a `BLOCK` subscription may hold a publisher unless it says.
    block_ms_default = 1_000, 1, 60_000;
    /// How long it may hold one at most: publishers are not to be stopped by the slowest reader for good.
    block_ms_max = 30_000, 1, 600_000;
    /// Deadline of requests and introductions that name none: what callers commonly wait.
    request_timeout_ms_default = 30_000, 1, 3_600_000;
    /// Longest deadline of a request or introduction; each holds state on two cores.
    request_timeout_ms_max = 3_600_000, 1, 86_400_000;
    /// How long a stream may stay open without Register (DESIGN §8: 10 s for the silent).
    register_timeout_ms = 10_000, 10, 600_000;
    /// How long a lost session keeps its name, subscriptions and queues; 0: it ends at once.
    resume_grace_ms = 15_000, 0, 3_600_000;
    /// Relative share of new work a Status may claim.
    weight_max = 100, 1, 10_000;
    /// Load reports are spread to the other cores at most this often, the last one winning.
    status_interval_ms = 10, 0, 60_000;
    /// A queue entry older than this is copied out of memory it shares with others (see `queue`).
    stall_ms = 20, 1, 10_000;
    /// Cached results of matching topics, per core: about 100 bytes and 8 for each subscriber.
    match_cache_bytes_max = 16 * MIB, 64 * KIB, GIB;
    /// Longest run of messages encoded before it goes to the subscribers: a turn's worth of a busy publisher, so that each subscriber
    /// gets it as one piece.
    run_bytes_max = 64 * KIB, KIB, MIB;
    /// Decisions of policy that one session remembers, each of the resource's length and some 40 bytes. Agents do the same few things
    /// over and over; one that does more things asks policy more often.
    decisions_max = 256, 1, 65_536;
    /// Largest value of a key in a state space. Larger things are kept elsewhere and named by a value.
    state_value_bytes_max = MIB, 1, 64 * MIB;
    /// Keys of one state space; a watch that starts copies a list of them.
    state_keys_max = 65_536, 1, 16_777_216;
    /// State spaces that one core owns. Those without keys and watchers give way to new ones.
    state_spaces_max = 4096, 1, 1_000_000;
    /// Changes of a space that are kept for watchers that were away or slow; beyond it they start anew with a snapshot.
    state_history_max = 4096, 1, 16_777_216;
    /// Bytes of such changes.
    state_history_bytes_max = 4 * MIB, KIB, 64 * GIB;
    /// All state spaces of a core together, with what is kept of their past.
    state_memory_bytes_max = 512 * MIB, MIB, 1024 * GIB;
    /// Watches of one agent. Each has a queue, as a subscription has.
    state_watches_max = 1024, 1, 1_000_000;
    /// Questions and changes of one agent that wait for another core or for the disk; beyond it the agent's input waits.
    state_pending_max = 4096, 1, 1_000_000;
    /// Snapshots of spaces that slow watchers may hold together, per core, as entries: 8 bytes each, beside the values they pin.
    state_snapshot_entries_max = 4_194_304, 1, 1 << 40;
    /// Changes of a core that wait for the disk. Beyond it durable changes are refused, to be tried again.
    state_unsynced_bytes_max = 64 * MIB, KIB, 64 * GIB;
    /// Log of a core, above which (and twice what its spaces hold) it is written anew as a snapshot and the old one deleted.
    state_log_bytes_max = 256 * MIB, MIB, 1024 * GIB;
    /// Messages that a topic of `topics.replay` keeps for those who subscribe later.
    replay_messages_max = 1000, 1, 16_777_216;
    /// Bytes of them; the last message of a topic is kept whatever its size. A new subscriber with a queue of the default size takes
    /// as much at once.
    replay_bytes_max = MIB, KIB, 64 * GIB;
    /// How long such a topic keeps a message; 0: until newer ones take its place.
    replay_ms = 86_400_000, 0, 315_360_000_000;
    /// How long a topic of `topics.retain` keeps its last message; 0: until the next one.
    retain_ms = 0, 0, 315_360_000_000;
    /// All that the topics of a core keep together. Beyond it the oldest messages give way, and are counted.
    kept_bytes_max = 64 * MIB, KIB, 1024 * GIB;
    /// What subscribers that read slowly have still to be told of what topics keep, and what came meanwhile, per core. Beyond it the
    /// oldest of it is told as a `Gap`.
    replaying_bytes_max = 256 * MIB, KIB, 1024 * GIB;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_range() {
        assert_eq!(Limits::default().check(), Ok(()));
        for spec in Limits::SPECS {
            assert!(
                spec.min <= spec.default && spec.default <= spec.cap,
                "{}",
                spec.name
            );
            assert_eq!(Limits::default().get(spec.name), Some(spec.default));
        }
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        let mut limits = Limits::default();
        assert!(limits.set("streams_max", 0));
        assert!(!limits.set("nonsense", 0));
        let error = limits.check().expect_err("out of range");
        assert_eq!(
            error.to_string(),
            "limits.streams_max = 0 is out of range; allowed are 1 to 1000000"
        );
    }
}
