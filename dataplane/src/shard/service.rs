//! What a shard serves: the seam between one core's connections and what the gRPC calls on them mean.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringgate_grpc::{Message, Oversize, Request, Status};
use ringgate_policy::{Identity, Rejection};

use crate::observe::{Hops, Inspection, Order, Row};
use crate::tls::Chain;

/// A moment, read once per loop turn.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For durations and deadlines.
    pub mono: Instant,
    /// For people and other machines: nanoseconds since 1970.
    pub unix_nanos: u64,
}

/// A gRPC call of a shard, named by where it lives. Void as soon as [`Service::closed`] was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallId {
    /// The connection's entry.
    pub connection: u32,
    /// The HTTP/2 stream's entry.
    pub stream: u32,
}

/// A stream of the service, named by the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamTag(pub u64);

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Transport address.
    pub address: SocketAddr,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
    /// The client's verified certificate chain, where it showed one.
    pub certificate: Option<Chain>,
    /// Who that is, once the service has found out.
    pub identity: OnceCell<Identity>,
}

/// How a call is answered.
pub enum Answer {
    /// It is a stream of the service, which gets its messages through the methods of [`Service`].
    Stream(StreamTag),
    /// It is a call that looks after itself.
    Handler(Box<dyn Handler>),
    /// It ends at once.
    Refuse(Status),
}

/// Whether a stream's input may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// It may.
    Continue,
    /// Not before [`Service::next_resumed`] names the call. Until then its input waits, bounded by the HTTP/2 window.
    Pause,
}

/// How a stream of the service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// The client said so.
    Orderly,
    /// The connection broke.
    Lost,
}

/// What one core of a gateway does with the calls made to it. All methods run on that core; none may block.
///
/// Only [`call`](Service::call) must be there: a service that answers every call with a [`Handler`] has no streams, and leaves the rest
/// as it is.
pub trait Service: 'static {
    /// What cores tell each other.
    type Message: Send + 'static;

    /// A call begins.
    fn call(&mut self, call: CallId, request: &Request, peer: &Peer, now: &Now) -> Answer;

    /// A connection that the service asked for stands, and `call` is being made on it: as which stream. None: it is no longer wanted.
    fn connected(&mut self, call: CallId, ticket: u64, peer: &Peer, now: &Now) -> Option<StreamTag> {
        let _ = (call, ticket, peer, now);
        None
    }

    /// The largest message taken on a stream, where the node takes `node` bytes from agents. Asked once, when the stream begins.
    fn message_bytes_max(&self, stream: StreamTag, node: u32) -> u32 {
        let _ = stream;
        node
    }

    /// Whether a client may stay connected by the certificate that it showed. Asked when other rules came, and now and then.
    ///
    /// # Errors
    /// Why it may not.
    fn admits(&self, peer: &Peer, now: &Now) -> Result<(), Rejection> {
        let _ = (peer, now);
        Ok(())
    }

    /// A client that may not stay connected is told to leave. It has no stream whose end would tell of it.
    fn dismissed(&mut self, peer: &Peer, rejection: &Rejection, now: &Now) {
        let _ = (peer, rejection, now);
    }

    /// A call that ends because the credential by which it was made is no longer good. A connection without a certificate is then to
    /// end too, unless another of its calls [vouches](Service::vouches) for it.
    fn next_expelled(&mut self) -> Option<CallId> {
        None
    }

    /// Whether a stream is by a credential that is good.
    fn vouches(&self, stream: StreamTag) -> bool {
        let _ = stream;
        false
    }

    /// Whether the client of a stream runs with Nagle's algorithm on, so that what it sends must be acknowledged at once: otherwise its
    /// next small message waits for the acknowledgement that the kernel delays by up to 40 ms. Asked once, when the stream begins; it
    /// then holds for the whole connection.
    fn wants_quickack(&self, stream: StreamTag) -> bool {
        let _ = stream;
        false
    }

    /// What becomes of a message on a stream that is larger than the node takes. Asked once, when the stream begins.
    fn oversize(&self, stream: StreamTag) -> Oversize {
        let _ = stream;
        Oversize::Fail
    }

    /// Messages on a stream were thrown away, as [`oversize`](Service::oversize) said.
    fn skipped(&mut self, stream: StreamTag, messages: u32) {
        let _ = (stream, messages);
    }

    /// A message arrived on a stream.
    fn message(&mut self, stream: StreamTag, message: &[u8], now: &Now) -> Flow {
        let _ = (stream, message, now);
        Flow::Continue
    }

    /// Something that can be no message arrived on a stream; `status` says what. The shard ends the stream with it after what is
    /// queued, and tells [`closed`](Service::closed) then.
    fn broken(&mut self, stream: StreamTag, status: &Status, now: &Now) {
        let _ = (stream, status, now);
    }

    /// The client will send no more on a stream.
    fn half_closed(&mut self, stream: StreamTag, now: &Now) {
        let _ = (stream, now);
    }

    /// A stream is gone; its tag is void.
    fn closed(&mut self, stream: StreamTag, how: Closing, now: &Now) {
        let _ = (stream, how, now);
    }

    /// Everything that arrived in this turn has been told.
    fn turn_end(&mut self, now: &Now) {
        let _ = now;
    }

    /// A call that has something to send, or its end, since last asked.
    fn next_ready(&mut self) -> Option<CallId> {
        None
    }

    /// The next bytes to send on a stream, at most `bytes_max` of them; `None` when there are none now.
    fn pull(&mut self, stream: StreamTag, bytes_max: usize) -> Option<Bytes> {
        let _ = (stream, bytes_max);
        None
    }

    /// Whether [`pull`](Service::pull) has nothing now.
    fn is_empty(&self, stream: StreamTag) -> bool {
        let _ = stream;
        true
    }

    /// How a stream ends, once [`pull`](Service::pull) has nothing more; `None` while it goes on.
    fn end(&mut self, stream: StreamTag) -> Option<Status> {
        let _ = stream;
        None
    }

    /// Whether a stream is to end with an error: its end then does not wait for what a client that reads nothing has not taken.
    fn must_end(&self, stream: StreamTag) -> bool {
        let _ = stream;
        false
    }

    /// Whether there is something for [`next_ready`](Service::next_ready), [`next_resumed`](Service::next_resumed) or
    /// [`next_outbound`](Service::next_outbound).
    fn has_pending(&self) -> bool {
        false
    }

    /// A call whose input may go on.
    fn next_resumed(&mut self) -> Option<CallId> {
        None
    }

    /// A message to another core.
    fn next_outbound(&mut self) -> Option<(usize, Self::Message)> {
        None
    }

    /// A message from another core.
    fn receive(&mut self, from: usize, message: Self::Message, now: &Now) {
        let _ = (from, message, now);
    }

    /// When [`tick`](Service::tick) is due.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Does what is due.
    fn tick(&mut self, now: &Now) {
        let _ = now;
    }

    /// The node is about to stop: tells everyone.
    fn drain(&mut self, deadline: Duration, now: &Now) {
        let _ = (deadline, now);
    }

    /// Carries out what the service thread wants of the service.
    fn obey(&mut self, order: Order, now: &Now) {
        let _ = (order, now);
    }

    /// Counts for the operator.
    fn counts(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// Gives away the times recorded since this was called last.
    fn take_hops(&mut self) -> Hops {
        Hops::default()
    }

    /// Takes back times that nobody took.
    fn return_hops(&mut self, hops: Hops) {
        let _ = hops;
    }

    /// Answers a question of the operator.
    fn inspect(&self, inspection: &Inspection) -> Vec<Row> {
        let _ = inspection;
        Vec::new()
    }

    /// Its sessions for the operator, each as JSON. Called rarely.
    fn details(&self) -> Vec<serde_json::Value> {
        Vec::new()
    }
}

/// A call off the hot path that looks after itself: health, reflection, tests of others.
pub trait Handler {
    /// Metadata to send with the response headers.
    fn initial_metadata(&mut self) -> Vec<(Vec<u8>, Vec<u8>)> {
        Vec::new()
    }

    /// Whether responses may be compressed with gzip.
    fn compresses(&self) -> bool {
        false
    }

    /// A message arrived. Responses, framed as gRPC messages, are appended to `out`.
    ///
    /// # Errors
    /// The status that the call ends with, after `out`.
    fn message(&mut self, message: Message<'_>, out: &mut Vec<Bytes>) -> Result<(), Status>;

    /// The client will send no more. `Some` ends the call, after `out`.
    fn half_closed(&mut self, out: &mut Vec<Bytes>) -> Option<Status>;

    /// Metadata to send with the trailers.
    fn trailing_metadata(&mut self) -> Vec<(Vec<u8>, Vec<u8>)> {
        Vec::new()
    }

    /// Whether the call shall be asked for news in each [`poll`](Handler::poll).
    fn wants_poll(&self) -> bool {
        false
    }

    /// Something outside the call may have changed: appends what there is to say.
    fn poll(&mut self, out: &mut Vec<Bytes>) {
        let _ = out;
    }
}
