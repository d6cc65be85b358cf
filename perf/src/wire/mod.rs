//! Protocols, as state machines over bytes: one [`Wire`] for each connection.

mod agp;
mod agp2025;
mod http2;
mod nats;
mod protobuf;
mod redis;
mod relay;
mod slim;
mod split;
mod template;

pub use relay::{HELLO_BYTES, Hello};

/// The protocols the load generator speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Protocol {
    /// Bytes through the raw relay, which parses nothing.
    Relay,
    /// The gateway's native protocol: gRPC over HTTP/2 in plaintext.
    Agp,
    /// Its state spaces: to publish is to put, to subscribe to watch, and a request is a put that asks for its Ack.
    AgpState,
    /// SLIM v3, with codes that authenticate headers, as its clients do by default.
    Slim,
    /// The same without them.
    SlimNoMac,
    /// The Agent Gateway Protocol of 2025.
    Agp2025,
    /// NATS text protocol.
    Nats,
    /// Redis publish/subscribe (RESP3).
    Redis,
}

impl Protocol {
    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Relay => "relay",
            Protocol::Agp => "agp",
            Protocol::AgpState => "agp-state",
            Protocol::Slim => "slim",
            Protocol::SlimNoMac => "slim-no-mac",
            Protocol::Agp2025 => "agp2025",
            Protocol::Nats => "nats",
            Protocol::Redis => "redis",
        }
    }

    /// Whether subscriptions can be made and given up at any time.
    pub fn has_subscriptions(self) -> bool {
        self != Protocol::Relay
    }

    /// Whether the server confirms such changes one by one.
    pub fn confirms_subscriptions(self) -> bool {
        !matches!(self, Protocol::Relay | Protocol::Agp2025)
    }

    /// The state of a new connection.
    pub fn wire(self, plan: &Plan) -> Box<dyn Wire> {
        match self {
            Protocol::Relay => Box::new(relay::Relay::new(plan)),
            Protocol::Agp => Box::new(agp::Agp::new(plan, false)),
            Protocol::AgpState => Box::new(agp::Agp::new(plan, true)),
            Protocol::Slim => Box::new(slim::Slim::new(plan, true)),
            Protocol::SlimNoMac => Box::new(slim::Slim::new(plan, false)),
            Protocol::Agp2025 => Box::new(agp2025::Agp2025::new(plan)),
            Protocol::Nats => Box::new(nats::Nats::new(plan)),
            Protocol::Redis => Box::new(redis::Redis::new(plan)),
        }
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Publishes.
    Publisher,
    /// Subscribes.
    Subscriber,
    /// Asks.
    Requester,
    /// Answers.
    Responder,
}

impl Role {
    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Role::Publisher => "publisher",
            Role::Subscriber => "subscriber",
            Role::Requester => "requester",
            Role::Responder => "responder",
        }
    }
}

/// What a connection needs to know when it is made.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it is for.
    pub role: Role,
    /// Its number among those of its role.
    pub index: usize,
    /// Tells the runs of one load process apart, so that no agent name is used twice.
    pub run: u32,
    /// Bytes of each payload, at least [`PAYLOAD_BYTES_MIN`].
    pub payload_bytes: usize,
    /// Whether messages of different publishers can meet on one connection. The raw relay forwards what it receives, so there they
    /// may be interleaved in the middle, and only bytes can be counted.
    pub mixed: bool,
    /// Whether it stops reading once it is set up, as a subscriber that has hung itself up.
    pub stalls: bool,
}

/// The smallest payload: it carries the sequence number.
pub const PAYLOAD_BYTES_MIN: usize = 8;

/// What arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    /// The connection is open and may be used. Requesters and responders are reachable.
    Ready,
    /// A change of subscriptions is in force. Changes are confirmed in order.
    Subscribed,
    /// A published message with its sequence number, where the protocol can tell it.
    Message(Option<u64>),
    /// A request to be answered.
    Request {
        /// What the answer must refer to.
        token: u64,
        /// Its sequence number.
        sequence: u64,
    },
    /// The answer to the request with this sequence number.
    Response(u64),
    /// The server says that it dropped so many messages.
    Dropped(u64),
    /// The conversation is over, as [`Wire::close`] wished.
    Ended,
}

/// The state of one connection: bytes in, [`Incoming`] out, and what is to be sent appended to `out`.
pub trait Wire {
    /// Begins the conversation. [`Incoming::Ready`] will follow.
    fn open(&mut self, out: &mut Vec<u8>);
    /// Takes what was received, and appends what it means to `inbox` and any automatic answer to `out`.
    ///
    /// # Errors
    /// When the server breaks the protocol or refuses; the connection is of no more use.
    fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        inbox: &mut Vec<Incoming>,
    ) -> Result<(), WireError>;
    /// Subscribes to a topic by its number. [`Incoming::Subscribed`] will follow.
    fn subscribe(&mut self, topic: u32, out: &mut Vec<u8>);
    /// Ends the subscription to a topic. [`Incoming::Subscribed`] will follow.
    fn unsubscribe(&mut self, topic: u32, out: &mut Vec<u8>);
    /// Publishes message `sequence` to a topic.
    fn publish(&mut self, topic: u32, sequence: u64, out: &mut Vec<u8>);
    /// Asks the responder with number `responder`.
    fn request(&mut self, responder: usize, sequence: u64, out: &mut Vec<u8>);
    /// Answers the request named by `token`.
    fn respond(&mut self, token: u64, sequence: u64, out: &mut Vec<u8>);
    /// Ends a batch: whatever was said since the last time must be in `out` now, as far as the server's flow control allows.
    fn flush(&mut self, out: &mut Vec<u8>);
    /// Takes leave, so that the server keeps nothing for a return. True when [`Incoming::Ended`] will follow; otherwise the
    /// connection may just be closed.
    fn close(&mut self, _out: &mut Vec<u8>) -> bool {
        false
    }
}

/// The server said something it should not have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The bytes make no sense.
    #[error("the server broke the protocol: {0}")]
    Malformed(&'static str),
    /// The server refused.
    #[error("the server refused: {0}")]
    Refused(String),
}

/// Digits of a topic's number, so that all topics are equally long.
const TOPIC_DIGITS: usize = 8;
/// What stands before the number.
const TOPIC_PREFIX: &str = "bench/";

/// The name of topic `number`.
fn topic_name(number: u32) -> String {
    format!("{TOPIC_PREFIX}{number:0TOPIC_DIGITS$}")
}

/// The payload of message 0; the sequence number goes into its first eight bytes.
fn payload(bytes: usize) -> Vec<u8> {
    let mut payload = vec![b'x'; bytes.max(PAYLOAD_BYTES_MIN)];
    payload[..PAYLOAD_BYTES_MIN].fill(0);
    payload
}

/// The sequence number at the start of a payload.
fn sequence_of(payload: &[u8]) -> Option<u64> {
    payload.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}
