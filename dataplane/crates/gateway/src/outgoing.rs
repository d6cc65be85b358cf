//! What the gateway says to agents, and the seam through which a dialect puts it into bytes.

use bytes::Bytes;

use crate::code::Code;

/// The message format an agent's stream speaks. One variant for each module of the `wire` crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// `agp.v1.AgentGateway`.
    Agp,
}

/// One message to an agent. `body` fields hold a sender's inner message, to be passed on unchanged; everything else is appended
/// behind it, so that the gateway's word is the last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outgoing<'a> {
    /// The session is open.
    Registered(Registered<'a>),
    /// A message with an id was carried out.
    Ack {
        /// Of the message it answers.
        id: u64,
        /// Of a state change.
        revision: u64,
        /// Of a publish: how many subscribers it was queued for.
        receivers: u32,
    },
    /// A message could not be carried out.
    Error {
        /// Of the message it answers; 0: the session.
        id: u64,
        /// What kind of error.
        code: Code,
        /// What was wrong and what to do.
        message: &'a str,
        /// Whether the same message may succeed later.
        retryable: bool,
        /// When to retry, if known.
        retry_after_ms: u32,
    },
    /// A Publish to a subscriber.
    Notify {
        /// The Publish message.
        body: &'a [u8],
        /// Verified name of the publisher.
        source: &'a str,
        /// Counts the publisher's publishes from 1.
        sequence: u64,
        /// When the gateway received it.
        time_unix_nanos: u64,
    },
    /// A Request to the responder.
    Forward {
        /// The Request message.
        body: &'a [u8],
        /// Verified name of the requester.
        source: &'a str,
        /// What the Response must name.
        request: u64,
        /// When the requester stops waiting.
        deadline_unix_nanos: u64,
    },
    /// A Response to the requester.
    Deliver {
        /// The Response message.
        body: &'a [u8],
        /// The requester's `Request.id`.
        id: u64,
        /// Verified name of the responder.
        source: &'a str,
    },
    /// A stream opened by another agent.
    StreamOpen {
        /// The StreamOpen message.
        body: &'a [u8],
        /// The receiver's number of the stream.
        stream: u64,
        /// Verified name of the opener.
        source: &'a str,
    },
    /// A piece of a stream.
    Chunk {
        /// The Chunk message.
        body: &'a [u8],
        /// The receiver's number of the stream.
        stream: u64,
    },
    /// The peer ended a stream.
    StreamClose {
        /// The StreamClose message.
        body: &'a [u8],
        /// The receiver's number of the stream.
        stream: u64,
    },
    /// The gateway ended a stream.
    StreamEnded {
        /// The receiver's number of the stream.
        stream: u64,
        /// Why.
        code: Code,
        /// Why, in a sentence.
        message: &'a str,
    },
    /// The peer of a stream is ready for more.
    StreamCredit {
        /// The receiver's number of the stream.
        stream: u64,
        /// Payload bytes granted.
        bytes: u64,
    },
    /// Another agent asks for a channel.
    Introduce {
        /// The Introduce message.
        body: &'a [u8],
        /// Verified name of the introducer.
        source: &'a str,
        /// What Accept or Reject must name.
        introduction: u64,
        /// Verified credential of the introducer.
        credential: &'a [u8],
    },
    /// An introduction was accepted, or (with an empty `body`, to the one who accepted) the channel is open.
    Connected {
        /// The Accept message.
        body: &'a [u8],
        /// The introducer's `Introduce.id`; 0 for the one who accepted.
        id: u64,
        /// The accepter's number of the introduction, as in Introduce; 0 for the introducer, who never saw it.
        introduction: u64,
        /// Name of the channel, to be used as a target.
        channel: &'a str,
        /// Verified name of the peer.
        source: &'a str,
        /// Verified credential of the peer.
        credential: &'a [u8],
    },
    /// An introduction was declined.
    Rejected {
        /// The Reject message.
        body: &'a [u8],
        /// The introducer's `Introduce.id`.
        id: u64,
        /// Verified name of the peer.
        source: &'a str,
    },
    /// Messages of a subscription were dropped, just here in the order of the stream.
    Gap {
        /// The subscription's id.
        subscription: u64,
        /// How many messages.
        dropped: u64,
        /// How many bytes of them.
        dropped_bytes: u64,
        /// Their topic where all were of one, else empty.
        topic: &'a str,
    },
    /// What a key of a state space holds.
    StateValue {
        /// The StateGet's id.
        id: u64,
        /// Which space.
        space: &'a str,
        /// Which key.
        key: &'a str,
        /// Its value; none: it is not there.
        value: Option<&'a [u8]>,
        /// Of its value; 0: it is not there.
        revision: u64,
        /// Verified name of the agent that put it.
        source: &'a str,
    },
    /// What became of a key of a state space.
    StateEvent {
        /// The watch.
        id: u64,
        /// Which space.
        space: &'a str,
        /// Which key; empty at the end of a snapshot.
        key: &'a str,
        /// Its value, where it was put.
        value: &'a [u8],
        /// Of the change, or of the snapshot.
        revision: u64,
        /// What became of it.
        change: StateChange,
        /// Verified name of the agent that did it.
        source: &'a str,
        /// When.
        time_unix_nanos: u64,
    },
    /// The gateway is about to close this session.
    Drain {
        /// Time left.
        deadline_ms: u32,
        /// When to come back.
        reconnect_after_ms: u32,
        /// Random time to add to it.
        jitter_ms: u32,
    },
    /// The requester no longer waits.
    CancelRequest {
        /// As in Forward.
        request: u64,
    },
    /// The introducer no longer waits.
    CancelIntroduction {
        /// As in Introduce.
        introduction: u64,
    },
}

/// What a [`StateEvent`](Outgoing::StateEvent) tells. Numbers are those of `agp.v1.StateChange`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum StateChange {
    /// A key was put.
    Put = 1,
    /// A key was deleted, or its time is over.
    Delete = 2,
    /// What follows are changes as they happen.
    SnapshotEnd = 3,
}

/// See [`Outgoing::Registered`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Registered<'a> {
    /// Name of the session, for logs and support.
    pub session: &'a str,
    /// The agent's verified name.
    pub name: &'a str,
    /// Largest message accepted.
    pub message_bytes_max: u64,
    /// Subscriptions an agent may hold.
    pub subscriptions_max: u32,
    /// Cap of a subscription's queue.
    pub queue_bytes_max: u64,
    /// Streams an agent may have open.
    pub streams_max: u32,
    /// Requests an agent may have waiting.
    pub requests_in_flight_max: u32,
    /// To be shown when the connection is lost and the session shall go on.
    pub resume_token: &'a [u8],
    /// The gateway's clock.
    pub server_time_unix_nanos: u64,
    /// The node's name.
    pub node: &'a str,
    /// Whether an earlier session goes on.
    pub resumed: bool,
}

/// Puts messages into bytes, framed as the stream carries them (for gRPC: each behind its length prefix).
///
/// Messages are appended one behind the other to a run; [`take`](Encoder::take) ends the run. A run costs one reference count
/// for each subscriber it goes to, however many messages it holds. Framing is self-delimiting: [`first_len`](Encoder::first_len)
/// finds the border between the messages of a run again.
pub trait Encoder {
    /// Appends one message to the current run.
    fn append(&mut self, dialect: Dialect, message: &Outgoing<'_>);

    /// Bytes appended since the last [`take`](Encoder::take).
    fn pending(&self) -> usize;

    /// Ends the current run and returns it. It lies in memory shared with other runs.
    fn take(&mut self) -> Bytes;

    /// Length of the first message of `run`, framing included. `run` is what an earlier `take` returned, or a tail of it that
    /// starts at a message border.
    fn first_len(dialect: Dialect, run: &[u8]) -> usize
    where
        Self: Sized;

    /// Copies an inner message, to hand it to another core.
    fn own(&mut self, body: &[u8]) -> Bytes;
}
