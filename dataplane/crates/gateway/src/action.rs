//! What an agent says to the gateway: one decoded message, borrowed from the receive buffer.
//!
//! A dialect decodes no more than routing needs. `body` is the inner message exactly as the agent sent it; it is passed on
//! byte for byte, with what only the gateway may say appended behind it.

use crate::code::Code;

/// One message of an agent.
#[derive(Debug, Clone, PartialEq)]
pub enum Action<'a> {
    /// Opens the session; must be the first message of a stream.
    Register(Register<'a>),
    /// Asks for every message whose topic matches `pattern`.
    Subscribe(Subscribe<'a>),
    /// Ends the subscription `id`.
    Unsubscribe {
        /// The id given in Subscribe.
        id: u64,
    },
    /// One message to all subscribers of a topic.
    Publish(Publish<'a>),
    /// A call to one agent.
    Request(Request<'a>),
    /// The answer to a Forward.
    Response(Response<'a>),
    /// Opens a stream to one agent.
    StreamOpen(StreamOpen<'a>),
    /// One piece of a stream.
    Chunk(Chunk<'a>),
    /// Ends a stream.
    StreamClose(StreamClose<'a>),
    /// Lets the peer of a stream send so many payload bytes more.
    StreamCredit {
        /// The sender's number of the stream.
        stream: u64,
        /// Payload bytes granted on top of earlier grants.
        bytes: u64,
    },
    /// Asks another agent for a channel.
    Introduce(Introduce<'a>),
    /// Agrees to an introduction.
    Accept(Accept<'a>),
    /// Declines an introduction.
    Reject(Reject<'a>),
    /// Asks what a key of a state space holds.
    StateGet(StateGet<'a>),
    /// Puts or deletes a key of a state space.
    StateWrite(StateWrite<'a>),
    /// Asks for what keys of a state space hold, and what becomes of them.
    StateWatch(StateWatch<'a>),
    /// Ends a watch.
    StateUnwatch {
        /// The id given in StateWatch.
        id: u64,
    },
    /// A load report.
    Status(Status),
    /// Gives up on a request.
    CancelRequest {
        /// The `Request.id`.
        id: u64,
    },
    /// Gives up on an introduction.
    CancelIntroduction {
        /// The `Introduce.id`.
        id: u64,
    },
}

/// See [`Action::Register`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Register<'a> {
    /// `organization/namespace/service/instance`.
    pub name: &'a str,
    /// What this agent can be asked for.
    pub capabilities: Vec<&'a str>,
    /// Free-form labels.
    pub labels: Vec<(&'a str, &'a str)>,
    /// Bearer credential, or empty.
    pub token: &'a str,
    /// Name patterns allowed to address this agent; empty: as policy says.
    pub accept_from: Vec<&'a str>,
    /// From an earlier Registered, or empty.
    pub resume_token: &'a [u8],
    /// Signature that binds a bearer credential to its key, or empty.
    pub proof: &'a [u8],
}

/// What happens when a subscription's queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeliveryPolicy {
    /// The oldest waiting message gives way.
    #[default]
    DropOldest,
    /// The arriving message is not queued.
    DropNewest,
    /// One waiting message for each topic, the newest.
    Latest,
    /// The subscriber's stream ends.
    Disconnect,
    /// The publisher is held back up to `block_ms`, then as `DropNewest`.
    Block,
}

/// Delivery policy of a subscription with its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delivery {
    /// What happens at the bound.
    pub policy: DeliveryPolicy,
    /// Bound of the queue in bytes; 0: the gateway's default.
    pub queue_bytes: u64,
    /// How long a publisher may be held back; 0: the gateway's default.
    pub block_ms: u32,
}

/// See [`Action::Subscribe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Chosen by the agent, unique among its subscriptions.
    pub id: u64,
    /// Topic pattern.
    pub pattern: &'a str,
    /// Queue group, or empty.
    pub group: &'a str,
    /// Delivery policy.
    pub delivery: Delivery,
}

/// See [`Action::Publish`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Where to.
    pub topic: &'a str,
    /// Non-zero asks for an Ack.
    pub id: u64,
    /// The Publish message as sent.
    pub body: &'a [u8],
}

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To<'a> {
    /// One agent, by its full name.
    Agent(&'a str),
    /// One instance of a service.
    Service(&'a str),
    /// One of the agents that declare a capability.
    Capability(&'a str),
    /// The peer of a channel.
    Channel(&'a str),
}

/// How one of several candidates is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// Each in turn.
    #[default]
    RoundRobin,
    /// The less loaded of two picked at random.
    LeastOutstanding,
    /// By the affinity key: the same key meets the same agent while the set of candidates stays.
    Hash,
}

/// Target of a request, stream or introduction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// Whom.
    pub to: To<'a>,
    /// Which of several.
    pub balance: Balance,
    /// Key for [`Balance::Hash`].
    pub affinity: &'a str,
}

/// See [`Action::Request`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// Chosen by the requester, unique among its requests in flight.
    pub id: u64,
    /// Whom to ask.
    pub target: Target<'a>,
    /// 0: the gateway's default.
    pub timeout_ms: u32,
    /// The Request message as sent.
    pub body: &'a [u8],
}

/// See [`Action::Response`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response<'a> {
    /// From `Forward.request`.
    pub request: u64,
    /// The Response message as sent.
    pub body: &'a [u8],
}

/// See [`Action::StreamOpen`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamOpen<'a> {
    /// Odd, chosen by the opener.
    pub stream: u64,
    /// Whom to stream to.
    pub target: Target<'a>,
    /// Payload bytes the opener is ready to receive.
    pub credit_bytes: u64,
    /// The StreamOpen message as sent.
    pub body: &'a [u8],
}

/// See [`Action::Chunk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// The sender's number of the stream.
    pub stream: u64,
    /// Length of the payload, which is what credit counts.
    pub payload_bytes: u64,
    /// The Chunk message as sent.
    pub body: &'a [u8],
}

/// See [`Action::StreamClose`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamClose<'a> {
    /// The sender's number of the stream.
    pub stream: u64,
    /// The StreamClose message as sent.
    pub body: &'a [u8],
}

/// See [`Action::Introduce`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Introduce<'a> {
    /// Chosen by the introducer, unique among its introductions in flight.
    pub id: u64,
    /// Whom to meet.
    pub target: Target<'a>,
    /// 0: the gateway's default.
    pub timeout_ms: u32,
    /// The Introduce message as sent.
    pub body: &'a [u8],
}

/// See [`Action::Accept`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept<'a> {
    /// From `Introduce.introduction`.
    pub introduction: u64,
    /// The Accept message as sent.
    pub body: &'a [u8],
}

/// See [`Action::Reject`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reject<'a> {
    /// From `Introduce.introduction`.
    pub introduction: u64,
    /// Why, as the agent put it.
    pub code: Code,
    /// The Reject message as sent.
    pub body: &'a [u8],
}

/// See [`Action::StateGet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateGet<'a> {
    /// Chosen by the agent, to be answered on.
    pub id: u64,
    /// Which space.
    pub space: &'a str,
    /// Which key.
    pub key: &'a str,
}

/// See [`Action::StateWrite`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateWrite<'a> {
    /// Non-zero asks for an Ack.
    pub id: u64,
    /// Which space.
    pub space: &'a str,
    /// Which key.
    pub key: &'a str,
    /// The value; none: the key is to be deleted.
    pub value: Option<&'a [u8]>,
    /// The key's revision as the agent knows it, 0: it is not there; none: whatever it is.
    pub expect: Option<u64>,
    /// How long the value is kept; 0: for good.
    pub ttl_ms: u64,
}

/// See [`Action::StateWatch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateWatch<'a> {
    /// Chosen by the agent, unique among its watches.
    pub id: u64,
    /// Which space.
    pub space: &'a str,
    /// What the keys start with.
    pub prefix: &'a str,
    /// The first revision wanted; none: a snapshot, then changes.
    pub from: Option<u64>,
}

/// See [`Action::Status`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Requests the agent is working on.
    pub outstanding: u32,
    /// Relative share of new work; 0: none.
    pub weight: u32,
    /// The agent is about to leave: no new work.
    pub draining: bool,
}
