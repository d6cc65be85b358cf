//! From bytes to frames: where in the input the connection stands.

use std::time::Instant;

use crate::connection::budget::FRAME_COST;
use crate::connection::streams::{NO_STREAM, StreamKey};
use crate::connection::{Connection, Notice, Role};
use crate::error::{Error, Violation};
use crate::event::{Event, StreamId};
use crate::frame::{
    FrameHead, HEAD_BYTES, Kind, PREFACE, flags, go_away, ping, priority, reset, settings, window_update,
};

/// What the next bytes of the input are.
#[derive(Debug)]
pub(super) enum Reader {
    /// The client's preface, of which `matched` bytes have arrived.
    Preface { matched: u8 },
    /// A frame's head, whose beginning is in `Connection::partial_head`.
    Head,
    /// The payload of a frame other than DATA: `want` bytes of it are of interest. They are put together in
    /// `Connection::partial` if they do not arrive at once.
    Payload { head: FrameHead, want: u32 },
    /// The pad length of a DATA frame.
    PadLength { head: FrameHead, key: StreamKey },
    /// The payload of `Connection::data_frame`.
    Data,
    /// Bytes of no interest.
    Skip { left: u32 },
}

/// What has arrived of a frame's head: nothing, unless the input ended within it.
#[derive(Debug, Default)]
pub(super) struct PartialHead {
    bytes: [u8; HEAD_BYTES],
    held: u8,
}

/// The DATA frame whose payload is being handed out, or was last.
#[derive(Debug)]
pub(super) struct DataFrame {
    pub(super) key: StreamKey,
    pub(super) stream: StreamId,
    /// Payload bytes to come.
    pub(super) left: u32,
    /// Bytes of padding after it.
    pub(super) padding: u32,
    pub(super) end_stream: bool,
}

impl DataFrame {
    pub(super) const NONE: Self = Self {
        key: NO_STREAM.1,
        stream: NO_STREAM.0,
        left: 0,
        padding: 0,
        end_stream: false,
    };
}

/// Which frames may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// SETTINGS, as the first frame (RFC 9113 section 3.4).
    SettingsFirst,
    /// Any.
    Any,
    /// CONTINUATION on this stream (RFC 9113 section 6.10).
    Continuation(StreamId),
}

impl Connection {
    /// Reads `input` up to the next event, and advances it. `Ok(None)`: all of it was read. Call until then.
    ///
    /// # Errors
    /// If the connection is over. GOAWAY is in [`output`](Self::output); write it and close. Further input is ignored.
    pub fn receive<'a>(&mut self, input: &mut &'a [u8], now: Instant) -> Result<Option<Event<'a>>, Error> {
        if self.has_failed() {
            *input = &[];
            return Ok(None);
        }
        self.timers.heard(now);
        loop {
            if !self.notices.is_empty()
                && let Some(event) = self.next_notice()
            {
                return Ok(Some(event));
            }
            // An empty DATA frame that ends its stream is told without any input.
            if matches!(self.reader, Reader::Data) && (!input.is_empty() || self.data_frame.left == 0) {
                if let Some(event) = self.data_fragment(input) {
                    return Ok(Some(event));
                }
                continue;
            }
            if input.is_empty() {
                self.watch_partial(now);
                return Ok(None);
            }
            match self.step(input, now) {
                Ok(None) => {}
                Ok(Some(event)) => return Ok(Some(event)),
                Err(violation) => {
                    *input = &[];
                    return Err(self.fail(violation));
                }
            }
        }
    }

    fn next_notice(&mut self) -> Option<Event<'static>> {
        // Streams that were forgotten in the meantime are no longer of interest.
        while let Some(notice) = self.notices.pop_front() {
            match notice {
                Notice::Reset {
                    key,
                    stream,
                    code,
                    by_peer,
                } if self.streams.is(key, stream) => {
                    return Some(Event::Reset {
                        key,
                        stream,
                        code,
                        by_peer,
                    });
                }
                Notice::Writable { key: None, .. } => return Some(Event::Writable { key: None }),
                Notice::Writable {
                    key: Some(key),
                    stream,
                } if self.streams.is(key, stream) => {
                    return Some(Event::Writable { key: Some(key) });
                }
                Notice::Reset { .. } | Notice::Writable { .. } => {}
            }
        }
        None
    }

    /// Reads one piece of a non-empty input. The hot path is a whole head of a DATA frame.
    #[inline]
    fn step(&mut self, input: &mut &[u8], now: Instant) -> Result<Option<Event<'static>>, Violation> {
        if matches!(self.reader, Reader::Head)
            && self.partial_head.held == 0
            && let Some((bytes, rest)) = input.split_first_chunk()
        {
            let head = FrameHead::parse(bytes);
            *input = rest;
            if head.kind == Kind::DATA && self.order == Order::Any && head.len <= self.config.frame_bytes_max
            {
                return self.begin_data(head, now).map(|()| None);
            }
            return self.begin_frame(head, now);
        }
        self.step_slowly(input, now)
    }

    #[inline(never)]
    fn step_slowly(&mut self, input: &mut &[u8], now: Instant) -> Result<Option<Event<'static>>, Violation> {
        match &mut self.reader {
            Reader::Head => {
                let PartialHead { bytes, held } = &mut self.partial_head;
                let have = usize::from(*held);
                let take = input.len().min(HEAD_BYTES - have);
                let (piece, rest) = input.split_at(take);
                *input = rest;
                bytes[have..have + take].copy_from_slice(piece);
                *held += take as u8;
                if usize::from(*held) < HEAD_BYTES {
                    return Ok(None);
                }
                let head = FrameHead::parse(bytes);
                *held = 0;
                self.begin_frame(head, now)
            }
            Reader::PadLength { head, key } => {
                let (head, key) = (*head, *key);
                let (&pad_len, rest) = input.split_first().expect("the input is not empty");
                *input = rest;
                self.begin_padded_data(head, key, pad_len, now).map(|()| None)
            }
            Reader::Payload { head, want } => {
                let (head, want) = (*head, *want as usize);
                self.payload_piece(head, want, input, now)
            }
            Reader::Skip { left } => {
                let take = input.len().min(*left as usize);
                *input = &input[take..];
                *left -= take as u32;
                if *left == 0 {
                    self.reader = Reader::Head;
                }
                Ok(None)
            }
            Reader::Data => unreachable!("receive handles it"),
            Reader::Preface { matched } => {
                let expected = &PREFACE[usize::from(*matched)..];
                let take = input.len().min(expected.len());
                if input[..take] != expected[..take] {
                    return Err(Violation::Preface);
                }
                *input = &input[take..];
                *matched += take as u8;
                if usize::from(*matched) == PREFACE.len() {
                    self.reader = Reader::Head;
                }
                Ok(None)
            }
        }
    }

    #[inline(never)]
    fn begin_frame(&mut self, head: FrameHead, now: Instant) -> Result<Option<Event<'static>>, Violation> {
        if self.order != Order::Any {
            self.check_order(&head)?;
        }
        if head.len > self.config.frame_bytes_max {
            return Err(Violation::FrameTooLong);
        }
        if head.kind == Kind::DATA {
            return self.begin_data(head, now).map(|()| None);
        }
        let want = self.check_head(&head, now)?;
        if want == 0 {
            self.reader = skip(head.len);
            return self.complete(head, &[], now);
        }
        self.reader = Reader::Payload { head, want };
        Ok(None)
    }

    fn check_order(&self, head: &FrameHead) -> Result<(), Violation> {
        match self.order {
            Order::Any => Ok(()),
            Order::SettingsFirst if head.kind == Kind::SETTINGS && !head.has(flags::ACK) => Ok(()),
            Order::SettingsFirst => Err(Violation::FirstFrame),
            Order::Continuation(stream) if head.kind == Kind::CONTINUATION && head.stream == stream => Ok(()),
            Order::Continuation(_) => Err(Violation::HeaderBlockOrder),
        }
    }

    /// Checks what a frame's head alone can break, and tells how many bytes of the payload are of interest. So no frame
    /// makes us hold more than `header_block_bytes_max`, whatever its length.
    fn check_head(&mut self, head: &FrameHead, now: Instant) -> Result<u32, Violation> {
        if self.output.len() > self.config.output_bytes_max as usize {
            return Err(Violation::OutputFlood);
        }
        let on_stream = || {
            if head.stream.is_connection() {
                Err(Violation::NeedsStream)
            } else {
                Ok(())
            }
        };
        let on_connection = || {
            if head.stream.is_connection() {
                Ok(())
            } else {
                Err(Violation::NeedsConnection)
            }
        };
        let exactly = |len: usize| {
            if head.len as usize == len {
                Ok(head.len)
            } else {
                Err(Violation::FrameLength)
            }
        };
        match head.kind {
            Kind::HEADERS => {
                on_stream()?;
                self.check_block_room(head)
            }
            Kind::CONTINUATION if self.order == Order::Any => Err(Violation::HeaderBlockOrder),
            Kind::CONTINUATION => self.check_block_room(head),
            Kind::PRIORITY => on_stream().map(|()| head.len.min(priority::BYTES as u32)),
            Kind::RST_STREAM => on_stream().and_then(|()| exactly(reset::BYTES)),
            Kind::SETTINGS => on_connection().and_then(|()| self.check_settings(head)),
            Kind::PUSH_PROMISE => Err(Violation::Push),
            Kind::PING => on_connection().and_then(|()| exactly(ping::BYTES)),
            Kind::GOAWAY => {
                on_connection()?;
                let fixed = go_away::BYTES as u32;
                if head.len < fixed {
                    Err(Violation::FrameLength)
                } else {
                    Ok(fixed)
                }
            }
            Kind::WINDOW_UPDATE => exactly(window_update::BYTES),
            _ => self.spend_overhead(FRAME_COST, now).map(|()| 0),
        }
    }

    fn check_settings(&self, head: &FrameHead) -> Result<u32, Violation> {
        let entries = head.len / settings::ENTRY_BYTES as u32;
        if !head.len.is_multiple_of(settings::ENTRY_BYTES as u32) || (head.has(flags::ACK) && head.len > 0) {
            Err(Violation::FrameLength)
        } else if entries > self.config.settings_entries_max {
            Err(Violation::SettingsEntries)
        } else {
            Ok(head.len)
        }
    }

    /// Takes a piece of a payload, and the frame if that completes it.
    fn payload_piece(
        &mut self,
        head: FrameHead,
        want: usize,
        input: &mut &[u8],
        now: Instant,
    ) -> Result<Option<Event<'static>>, Violation> {
        let take = input.len().min(want - self.partial.len());
        let (piece, rest) = input.split_at(take);
        *input = rest;
        if self.partial.is_empty() && take == want {
            self.reader = skip(head.len - want as u32);
            return self.complete(head, piece, now);
        }
        self.partial.extend_from_slice(piece);
        if self.partial.len() < want {
            return Ok(None);
        }
        self.reader = skip(head.len - want as u32);
        let payload = std::mem::take(&mut self.partial);
        self.complete(head, &payload, now)
    }

    /// Handles a frame other than DATA of whose payload all that is of interest has arrived.
    fn complete(
        &mut self,
        head: FrameHead,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event<'static>>, Violation> {
        let event = match head.kind {
            Kind::HEADERS => self.headers_frame(head, payload, now),
            Kind::CONTINUATION => self.continuation_frame(head, payload, now),
            _ => self.control_frame(head, payload, now),
        };
        if self.order == Order::Any {
            self.timers.partial = None;
        }
        event
    }

    /// Sets the deadline for what the input broke off in.
    fn watch_partial(&mut self, now: Instant) {
        let between = matches!(self.reader, Reader::Head)
            && self.partial_head.held == 0
            && !matches!(self.order, Order::Continuation(_));
        let deadline = now + self.config.frame_timeout;
        self.timers.partial = match self.reader {
            // The preface has a deadline of its own.
            Reader::Preface { .. } => None,
            _ if between => None,
            // A large body over a slow link makes progress; that is enough.
            Reader::Data | Reader::Skip { .. } => Some(deadline),
            _ => Some(self.timers.partial.unwrap_or(deadline)),
        };
    }

    pub(super) fn spend_overhead(&mut self, cost: u32, now: Instant) -> Result<(), Violation> {
        if self.budgets.overhead.spend(cost, now) {
            Ok(())
        } else {
            Err(Violation::OverheadFlood)
        }
    }

    /// Whether the peer is the one to open `stream`.
    pub(super) fn is_peer_initiated(&self, stream: StreamId) -> bool {
        stream.is_client_initiated() == (self.role == Role::Server)
    }

    /// Whether `stream` was never opened by either end.
    pub(super) fn is_idle(&self, stream: StreamId) -> bool {
        !stream.is_client_initiated() || stream > self.last_stream
    }
}

/// The reader for `left` bytes of no interest before the next frame.
pub(super) fn skip(left: u32) -> Reader {
    if left == 0 {
        Reader::Head
    } else {
        Reader::Skip { left }
    }
}
