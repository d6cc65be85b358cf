//! What the application sends.

use crate::connection::budget::body_earns;
use crate::connection::streams::{Ending, Half, Stream, StreamKey};
use crate::connection::{Connection, Role};
use crate::error::{ErrorCode, OpenError};
use crate::event::StreamId;
use crate::frame::{self, FrameHead, HEAD_BYTES, Kind, flags, ping, reset, window_update};
use crate::headers::Header;

/// DATA below this size that used up the window was cut short by the peer: sending it was no useful work.
const DRIBBLE_BYTES: usize = 256;

impl Connection {
    /// Client: opens a stream with a request. With `end_stream` the request has no body.
    ///
    /// Pseudo-headers come first; names are lower case. The list is not checked further: it is the caller's own.
    ///
    /// # Errors
    /// If no stream can be opened now or at all.
    pub fn open(&mut self, headers: &[Header<'_>], end_stream: bool) -> Result<StreamKey, OpenError> {
        if self.role == Role::Server {
            return Err(OpenError::ServerRole);
        }
        if !self.shutdown.may_open() {
            return Err(OpenError::GoingAway);
        }
        let limit = self.peer.streams_max;
        if self.streams.active() >= limit as usize {
            return Err(OpenError::TooManyStreams { limit });
        }
        let next = if self.last_stream.is_connection() {
            1
        } else {
            self.last_stream.get() + 2
        };
        if next > StreamId::MAX.get() {
            return Err(OpenError::IdsExhausted);
        }
        let id = StreamId::new(next);
        self.last_stream = id;
        let send = if end_stream { Half::Closed } else { Half::Body };
        let window = self.recv_window_initial as i32;
        let mut stream = Stream::new(id, Half::Headers, send, window, self.peer.stream_window as i32);
        stream.head_request = headers
            .iter()
            .any(|header| header.name == b":method" && header.value == b"HEAD");
        let key = self.streams.insert(stream);
        self.timers.idle_since = None;
        self.write_headers(id, headers, end_stream);
        Ok(key)
    }

    /// Sends response headers, or trailers once those were sent; trailers end the stream, so `end_stream` must be set.
    /// A 1xx status leaves the final response to come.
    ///
    /// Does nothing if the stream is over or this end has ended it: a reset by the peer may cross any call.
    pub fn send_headers(&mut self, key: StreamKey, headers: &[Header<'_>], end_stream: bool) {
        let stream = &mut self.streams[key];
        let id = stream.id;
        match stream.send {
            Half::Closed => return,
            Half::Headers => {
                let informational = headers.first().is_some_and(is_informational);
                debug_assert!(
                    !(informational && end_stream),
                    "an interim response does not end a stream"
                );
                stream.send = if informational { Half::Headers } else { Half::Body };
            }
            Half::Body => debug_assert!(end_stream, "trailers end the stream"),
        }
        self.write_headers(id, headers, end_stream);
        if end_stream {
            self.end_send(key);
        }
    }

    /// Body bytes that may be sent now: the lesser of the stream's and the connection's window. 0 if the stream takes no
    /// body (now or any more). After 0 for want of a window, [`Writable`](crate::Event::Writable) tells when to ask again.
    #[inline]
    pub fn send_capacity(&self, key: StreamKey) -> usize {
        let stream = &self.streams[key];
        match stream.send {
            Half::Body => stream.send_window.min(self.send_window).max(0) as usize,
            Half::Headers | Half::Closed => 0,
        }
    }

    /// Whether the stream still takes body bytes or trailers from this end.
    #[inline]
    pub fn can_send(&self, key: StreamKey) -> bool {
        self.streams[key].send == Half::Body
    }

    /// Accounts one DATA frame with `len` bytes of body, and returns its head; the caller writes head and body, see
    /// [above](Self#order-of-output). `len` is at most [`send_capacity`](Self::send_capacity) and
    /// [`max_frame_size`](Self::max_frame_size), and [`can_send`](Self::can_send) holds.
    #[inline]
    pub fn data(&mut self, key: StreamKey, len: usize, end_stream: bool) -> [u8; HEAD_BYTES] {
        debug_assert!(self.can_send(key), "{:?} takes no body now", self.streams[key].id);
        debug_assert!(len <= self.send_capacity(key), "{len} bytes exceed a window");
        debug_assert!(len <= self.max_frame_size(), "{len} bytes exceed a frame");
        let stream = &mut self.streams[key];
        stream.send_window -= len as i32;
        stream.useful = true;
        self.send_window -= len as i32;
        let cut_short = stream.send_window.min(self.send_window) <= 0 && len < DRIBBLE_BYTES;
        if !cut_short {
            self.budgets.overhead.earn(body_earns(len as u32));
        }
        let flags = if end_stream { flags::END_STREAM } else { 0 };
        let head = FrameHead {
            len: len as u32,
            kind: Kind::DATA,
            flags,
            stream: stream.id,
        };
        if end_stream {
            self.end_send(key);
        }
        head.to_bytes()
    }

    /// Gives credit for `bytes` of body that the application has consumed. WINDOW_UPDATE goes out once for half a window.
    #[inline]
    pub fn release(&mut self, key: StreamKey, bytes: usize) {
        let initial = self.recv_window_initial as i32;
        let threshold = self.recv_window_initial.div_ceil(2);
        let stream = &mut self.streams[key];
        if stream.recv != Half::Body {
            return;
        }
        // Never more than the peer has used, whatever the caller says.
        let used = (initial - stream.recv_window).max(0) as u32;
        debug_assert!(
            stream.unreturned as usize + bytes <= used as usize,
            "released more than was received"
        );
        stream.unreturned = (stream.unreturned as usize + bytes).min(used as usize) as u32;
        if stream.unreturned >= threshold {
            let increment = std::mem::take(&mut stream.unreturned);
            stream.recv_window += increment as i32;
            window_update::write(&mut self.output, stream.id, increment);
        }
    }

    /// Ends a stream at once. A server that has sent its whole response uses `NO_ERROR` to tell that it needs no more of
    /// the request (RFC 9113 section 8.1). Does nothing if the stream is over. No event follows.
    pub fn reset(&mut self, key: StreamKey, code: ErrorCode) {
        let stream = &self.streams[key];
        if stream.is_closed() {
            return;
        }
        let id = stream.id;
        reset::write(&mut self.output, id, code);
        self.streams.close(key, Ending::Cut);
    }

    /// Gives the key back; it may stand for another stream afterwards. A stream that is not over is reset: with `NO_ERROR`
    /// if this end has ended its message, else with `CANCEL`.
    pub fn forget(&mut self, key: StreamKey) {
        if !self.streams.holds(key) {
            debug_assert!(false, "{key:?} was forgotten before");
            return;
        }
        let ended = self.role == Role::Server && self.streams[key].send == Half::Closed;
        self.reset(
            key,
            if ended {
                ErrorCode::NO_ERROR
            } else {
                ErrorCode::CANCEL
            },
        );
        self.streams.remove(key);
    }

    /// Asks the peer for a sign of life; [`Pong`](crate::Event::Pong) follows.
    pub fn ping(&mut self, payload: [u8; ping::BYTES]) {
        self.pings_due += 1;
        ping::write(&mut self.output, payload, false);
    }

    fn write_headers(&mut self, id: StreamId, headers: &[Header<'_>], end_stream: bool) {
        let frame_bytes_max = self.peer.frame_bytes_max as usize;
        let encoder = &mut self.encoder;
        frame::headers::write(&mut self.output, id, end_stream, frame_bytes_max, |out| {
            encoder.encode(headers, out)
        });
    }

    /// This end's message is complete.
    fn end_send(&mut self, key: StreamKey) {
        let stream = &mut self.streams[key];
        stream.send = Half::Closed;
        stream.useful = true;
        if stream.recv == Half::Closed {
            self.end_in_order(key);
        }
    }

    /// Both messages are complete.
    pub(super) fn end_in_order(&mut self, key: StreamKey) {
        self.streams.close(key, Ending::Over);
        self.budgets.resets.earn(1);
    }
}

fn is_informational(header: &Header<'_>) -> bool {
    header.name == b":status" && header.value.first() == Some(&b'1')
}
