//! What a connection tells its owner.

use std::fmt;

use crate::connection::streams::StreamKey;
use crate::error::ErrorCode;
use crate::headers::HeaderList;

/// A stream's number on the wire (RFC 9113 section 5.1.1): odd when the client opened it, 0 for the connection itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(crate) u32);

impl StreamId {
    /// The connection itself.
    pub const CONNECTION: Self = Self(0);
    /// The largest id; in GOAWAY it announces a shutdown that refuses nothing yet.
    pub const MAX: Self = Self((1 << 31) - 1);

    /// The id of a number on the wire; its reserved highest bit is ignored (RFC 9113 section 4.1).
    pub const fn new(wire: u32) -> Self {
        Self(wire & Self::MAX.0)
    }

    /// The number on the wire.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Whether this is the connection itself, not a stream.
    pub const fn is_connection(self) -> bool {
        self.0 == 0
    }

    /// Whether the client opens streams of this id.
    pub const fn is_client_initiated(self) -> bool {
        self.0 & 1 == 1
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {}", self.0)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What [`Connection::receive`](crate::Connection::receive) found in the input.
///
/// A `key` stays valid from the event that brought it (or [`open`](crate::Connection::open)) until
/// [`forget`](crate::Connection::forget), also after the stream is over.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Server: a request opened a stream. Client: the final response.
    Headers {
        /// The stream.
        key: StreamKey,
        /// Its id.
        stream: StreamId,
        /// The checked header list.
        headers: HeaderList,
        /// Whether the message ends here.
        end_stream: bool,
    },
    /// Client: an interim (1xx) response; the final one follows.
    Informational {
        /// The stream.
        key: StreamKey,
        /// Its id.
        stream: StreamId,
        /// The checked header list.
        headers: HeaderList,
    },
    /// A fragment of the body as it lay in the input: frames are not put together. Empty only to end the stream.
    Data {
        /// The stream.
        key: StreamKey,
        /// Its id.
        stream: StreamId,
        /// Body bytes; give their credit back with [`release`](crate::Connection::release).
        payload: &'a [u8],
        /// Whether the message ends here.
        end_stream: bool,
    },
    /// The body is followed by trailers, which end the message.
    Trailers {
        /// The stream.
        key: StreamKey,
        /// Its id.
        stream: StreamId,
        /// The checked header list.
        headers: HeaderList,
    },
    /// The stream is over before its time, in both directions. A client gets it with `NO_ERROR` after a complete response
    /// when the server needs no more of the request (RFC 9113 section 8.1).
    Reset {
        /// The stream.
        key: StreamKey,
        /// Its id.
        stream: StreamId,
        /// Why.
        code: ErrorCode,
        /// `true`: the peer sent RST_STREAM, or a GOAWAY that excludes the stream. `false`: the peer broke a rule on
        /// the stream and was answered with RST_STREAM.
        by_peer: bool,
    },
    /// A window that was used up has room again. Not told for windows that never ran out.
    Writable {
        /// The stream, or `None` for the connection's window or the initial window: any stream may have got room.
        key: Option<StreamKey>,
    },
    /// The peer accepts no more streams. `Reset` follows for each of ours that it will not process.
    GoAway {
        /// The highest stream of ours that the peer has processed or will process.
        last_stream: StreamId,
        /// Why.
        code: ErrorCode,
    },
    /// The answer to [`ping`](crate::Connection::ping).
    Pong {
        /// What was sent.
        payload: [u8; 8],
    },
}
