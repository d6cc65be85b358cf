//! Counters and gauges of one core, and a look at one connection.

use crate::dialect::Ignored;
use crate::ids::{ConnectionId, Peer};

/// Gauges (present tense) and counters (past tense, since start) of one core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Open connections, ready or not.
    pub connections: u64,
    /// Subscriptions of this core's connections, each id of a name counted.
    pub subscriptions: u64,
    /// Names with an instance in this core's table, those of other cores included.
    pub names: u64,
    /// Subscribes that wait until every core routes to them.
    pub subscribes_waiting: u64,
    /// Bytes waiting in this core's queues.
    pub queued_bytes: u64,
    /// Messages sent by this core's connections that had a receiver.
    pub published: u64,
    /// Messages sent by this core's connections that nobody wants.
    pub unrouted: u64,
    /// Messages queued for this core's connections.
    pub delivered: u64,
    /// Messages dropped because a reader was too slow, by [`SlowReader`](crate::SlowReader): oldest, newest, with the connection.
    pub dropped: [u64; 3],
    /// Messages that cannot be parsed or lack what routing needs.
    pub malformed: u64,
    /// Messages without the right authentication code.
    pub unauthenticated: u64,
    /// Messages whose time to live was used up.
    pub expired: u64,
    /// Messages larger than receivers take.
    pub oversize: u64,
    /// Messages with a payload that is not MLS where it must be.
    pub not_mls: u64,
    /// Messages of a kind that has no effect.
    pub unused: u64,
    /// Subscribes and Unsubscribes refused.
    pub refused: u64,
    /// Connections ended because their client came back on another.
    pub stale: u64,
    /// Connections ended with an error.
    pub ended: u64,
    /// Runs copied out of shared memory because they waited too long.
    pub copied_out: u64,
}

impl Stats {
    pub(crate) fn count_ignored(&mut self, ignored: Ignored) {
        *match ignored {
            Ignored::Malformed => &mut self.malformed,
            Ignored::Unauthenticated => &mut self.unauthenticated,
            Ignored::Expired => &mut self.expired,
            Ignored::Oversize => &mut self.oversize,
            Ignored::NotMls => &mut self.not_mls,
            Ignored::Unused => &mut self.unused,
        } += 1;
    }

    /// Whether every gauge that counts something held for a client is zero.
    pub fn is_idle(&self) -> bool {
        [
            self.connections,
            self.subscriptions,
            self.names,
            self.subscribes_waiting,
            self.queued_bytes,
        ]
        .iter()
        .all(|&gauge| gauge == 0)
    }
}

/// A look at one connection.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// Its id.
    pub id: ConnectionId,
    /// Who is at the other end.
    pub peer: Peer,
    /// Its link and node, as the client says; empty where it says nothing.
    pub link: String,
    /// See `link`.
    pub node: String,
    /// Whether it has greeted, where its dialect asks for that.
    pub ready: bool,
    /// Subscriptions, each id of a name counted.
    pub subscriptions: u32,
    /// Messages it sent that had a receiver.
    pub published: u64,
    /// Messages queued for it.
    pub delivered: u64,
    /// Messages dropped because it reads too slowly.
    pub dropped: u64,
    /// Bytes waiting for it.
    pub queued_bytes: u64,
}
