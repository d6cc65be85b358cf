//! Counters and gauges of one core, and a look at one session.

use crate::action::{DeliveryPolicy, Status};
use crate::ids::{CoreId, SessionId};
use crate::outgoing::Outgoing;

/// Gauges (present tense) and counters (past tense, since start) of one core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Streams that are open, registered or not.
    pub streams_open: u64,
    /// Registered sessions with a stream.
    pub sessions: u64,
    /// Lost sessions within their grace period.
    pub sessions_detached: u64,
    /// Subscriptions of this core's sessions.
    pub subscriptions: u64,
    /// Requests of this core's sessions that wait for a response.
    pub requests: u64,
    /// Requests this core's sessions are to answer.
    pub requests_inbound: u64,
    /// Ends of agent-to-agent streams held by this core's sessions.
    pub agent_streams: u64,
    /// Introductions of this core's sessions that wait.
    pub introductions: u64,
    /// Introductions this core's sessions are to answer.
    pub introductions_inbound: u64,
    /// Ends of channels held by this core's sessions.
    pub channels: u64,
    /// Agents in this core's copy of the directory.
    pub agents: u64,
    /// Patterns in this core's table, those of other cores included.
    pub patterns: u64,
    /// Watches of this core's sessions.
    pub watches: u64,
    /// State spaces that this core owns.
    pub state_spaces: u64,
    /// Keys of them.
    pub state_keys: u64,
    /// Memory of them, their past included.
    pub state_bytes: u64,
    /// Bytes of changes that wait for the disk.
    pub state_unsynced_bytes: u64,
    /// Messages that topics keep on this core.
    pub kept: u64,
    /// Memory of them.
    pub kept_bytes: u64,
    /// Subscriptions that are still being told what topics keep.
    pub replaying: u64,
    /// What they have still to be told, in bytes.
    pub replaying_bytes: u64,
    /// Names whose home this core is.
    pub names: u64,
    /// Publishes held by `BLOCK` subscriptions.
    pub publishes_held: u64,
    /// Bytes waiting in this core's queues.
    pub queued_bytes: u64,
    /// Bytes waiting in the longest of them.
    pub queue_bytes_longest: u64,
    /// Messages published by this core's sessions.
    pub published: u64,
    /// Messages queued for subscribers on this core.
    pub delivered: u64,
    /// Bytes of them.
    pub delivered_bytes: u64,
    /// Messages dropped at a queue's bound, by policy: `DROP_OLDEST`, `DROP_NEWEST`, `LATEST`, `DISCONNECT`, `BLOCK`.
    pub dropped: [u64; 5],
    /// Gap messages sent.
    pub gaps: u64,
    /// Errors sent.
    pub errors: u64,
    /// Refusals by policy (security events).
    pub denied: u64,
    /// Sessions resumed.
    pub resumed: u64,
    /// Runs copied out of shared memory because they waited too long.
    pub copied_out: u64,
    /// Changes of this core's state spaces.
    pub state_changes: u64,
    /// Questions to them.
    pub state_gets: u64,
    /// Watches that could not be served as it happens and had to catch up.
    pub state_catchups: u64,
    /// Kept messages queued for subscribers that came later; they are among `delivered`.
    pub replayed: u64,
    /// Kept messages that gave way because the core's memory for them was used up.
    pub kept_evicted: u64,
    /// Topics matched against the table because no cached result was there.
    pub matches: u64,
    /// Messages queued for this core's sessions, by [`Said`]; those to subscribers are `delivered`.
    pub said: [u64; Said::ALL.len()],
}

/// Kinds of messages to agents, other than those of a subscription. A closed list; metrics use these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as the messages of the protocol are")]
pub enum Said {
    Registered,
    Ack,
    Error,
    Forward,
    Deliver,
    StreamOpen,
    Chunk,
    StreamClose,
    StreamCredit,
    Introduce,
    Connected,
    Rejected,
    Drain,
    Cancel,
    /// Any other.
    Other,
}

impl Said {
    /// All there are, in the order of [`Stats::said`].
    pub const ALL: [Self; 15] = [
        Self::Registered,
        Self::Ack,
        Self::Error,
        Self::Forward,
        Self::Deliver,
        Self::StreamOpen,
        Self::Chunk,
        Self::StreamClose,
        Self::StreamCredit,
        Self::Introduce,
        Self::Connected,
        Self::Rejected,
        Self::Drain,
        Self::Cancel,
        Self::Other,
    ];

    /// As metrics write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Ack => "ack",
            Self::Error => "error",
            Self::Forward => "forward",
            Self::Deliver => "deliver",
            Self::StreamOpen => "stream_open",
            Self::Chunk => "chunk",
            Self::StreamClose => "stream_close",
            Self::StreamCredit => "stream_credit",
            Self::Introduce => "introduce",
            Self::Connected => "connected",
            Self::Rejected => "rejected",
            Self::Drain => "drain",
            Self::Cancel => "cancel",
            Self::Other => "other",
        }
    }

    pub(crate) fn of(message: &Outgoing<'_>) -> Self {
        match message {
            Outgoing::Registered(_) => Self::Registered,
            Outgoing::Ack { .. } => Self::Ack,
            Outgoing::Error { .. } => Self::Error,
            Outgoing::Forward { .. } => Self::Forward,
            Outgoing::Deliver { .. } => Self::Deliver,
            Outgoing::StreamOpen { .. } => Self::StreamOpen,
            Outgoing::Chunk { .. } => Self::Chunk,
            Outgoing::StreamClose { .. } | Outgoing::StreamEnded { .. } => Self::StreamClose,
            Outgoing::StreamCredit { .. } => Self::StreamCredit,
            Outgoing::Introduce { .. } => Self::Introduce,
            Outgoing::Connected { .. } => Self::Connected,
            Outgoing::Rejected { .. } => Self::Rejected,
            Outgoing::Drain { .. } => Self::Drain,
            Outgoing::CancelRequest { .. } | Outgoing::CancelIntroduction { .. } => Self::Cancel,
            _ => Self::Other,
        }
    }
}

impl Stats {
    pub(crate) fn count_said(&mut self, said: Said) {
        self.said[said as usize] += 1;
    }

    pub(crate) fn count_dropped(&mut self, policy: DeliveryPolicy, messages: u64) {
        let index = match policy {
            DeliveryPolicy::DropOldest => 0,
            DeliveryPolicy::DropNewest => 1,
            DeliveryPolicy::Latest => 2,
            DeliveryPolicy::Disconnect => 3,
            DeliveryPolicy::Block => 4,
        };
        self.dropped[index] += messages;
    }

    /// Whether every gauge that counts something held for an agent is zero.
    pub fn is_idle(&self) -> bool {
        [
            self.streams_open,
            self.sessions,
            self.sessions_detached,
            self.subscriptions,
            self.requests,
            self.requests_inbound,
            self.agent_streams,
            self.introductions,
            self.introductions_inbound,
            self.channels,
            self.watches,
            self.agents,
            self.patterns,
            self.names,
            self.publishes_held,
            self.queued_bytes,
            self.replaying,
            self.replaying_bytes,
        ]
        .iter()
        .all(|&gauge| gauge == 0)
    }
}

/// A look at one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its id.
    pub session: SessionId,
    /// The agent's name; empty before Register.
    pub name: String,
    /// The peer's address.
    pub address: String,
    /// The caller's number of the connection.
    pub connection: u64,
    /// Whether its stream is lost.
    pub detached: bool,
    /// Whether its input is paused.
    pub paused: bool,
    /// Bytes waiting for it.
    pub queued_bytes: u64,
    /// Publishes so far.
    pub published: u64,
    /// Messages dropped at its queues so far.
    pub dropped: u64,
    /// Subscriptions it holds.
    pub subscriptions: u32,
    /// Requests it waits for.
    pub requests: u32,
}

/// A look at one subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionInfo {
    /// Chosen by the agent.
    pub id: u64,
    /// Its pattern.
    pub pattern: String,
    /// Its queue group, or empty.
    pub group: String,
    /// What happens at the bound.
    pub policy: DeliveryPolicy,
    /// The bound.
    pub queue_bytes_max: u64,
    /// Bytes waiting.
    pub queued_bytes: u64,
    /// Messages dropped so far.
    pub dropped: u64,
}

/// A look at one topic that is published to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub topic: String,
    /// Publishes of this core's sessions to it.
    pub published: u64,
    /// Subscribers: those on this core, and on others; queue groups count as one each.
    pub subscribers: u64,
}

/// A look at one agent of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentInfo {
    /// Its name.
    pub name: String,
    /// The core that has its session.
    pub core: CoreId,
    /// Its session there.
    pub session: SessionId,
    /// What it can be asked for.
    pub capabilities: Vec<String>,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// What it reported last; one that never reported takes an equal share of the work.
    pub status: Status,
    /// When it registered, in seconds since 1970.
    pub since_unix: i64,
    /// Serial number of the credential it came with; empty where it proved nothing.
    pub serial: String,
}
