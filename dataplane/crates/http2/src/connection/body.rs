//! DATA that arrives (RFC 9113 section 6.1). The first two functions and `begin_payload` are the hot path, inlined into
//! `receive` because their calls cost as much as their work.

use std::time::Instant;

use crate::connection::budget::{FRAME_COST, TINY_BODY_BYTES, body_earns};
use crate::connection::receive::{DataFrame, Reader, skip};
use crate::connection::shutdown::Shutdown;
use crate::connection::streams::{Ending, Half, LENGTH_UNKNOWN, StreamKey};
use crate::connection::{Connection, Role};
use crate::error::{ErrorCode, Violation};
use crate::event::{Event, StreamId};
use crate::frame::{FrameHead, flags, window_update};

impl Connection {
    /// Takes the head of a DATA frame.
    #[inline(always)]
    pub(super) fn begin_data(&mut self, head: FrameHead, now: Instant) -> Result<(), Violation> {
        let credit = self.window.take(head.len).ok_or(Violation::WindowExceeded)?;
        if credit > 0 {
            window_update::write(&mut self.output, StreamId::CONNECTION, credit);
        }
        let Some(key) = self.streams.find(head.stream) else {
            return self.data_without_stream(head, now);
        };
        let stream = &mut self.streams[key];
        if stream.recv != Half::Body {
            let code = if stream.recv == Half::Closed {
                ErrorCode::STREAM_CLOSED
            } else {
                ErrorCode::PROTOCOL_ERROR
            };
            return self.broken_data(head.len, key, code, now);
        }
        // The window may be below zero.
        if i64::from(head.len) > i64::from(stream.recv_window) {
            return self.broken_data(head.len, key, ErrorCode::FLOW_CONTROL_ERROR, now);
        }
        stream.recv_window -= head.len as i32;
        if head.has(flags::PADDED) {
            if head.len == 0 {
                return Err(Violation::FrameLength);
            }
            self.reader = Reader::PadLength { head, key };
            return Ok(());
        }
        self.begin_payload(head, key, head.len, 0, now)
    }

    /// Hands out what the input has of a DATA frame.
    #[inline(always)]
    pub(super) fn data_fragment<'a>(&mut self, input: &mut &'a [u8]) -> Option<Event<'a>> {
        let frame = &mut self.data_frame;
        let take = input.len().min(frame.left as usize);
        let (payload, rest) = input.split_at(take);
        *input = rest;
        frame.left -= take as u32;
        let is_last = frame.left == 0;
        let (key, stream) = (frame.key, frame.stream);
        let end_stream = frame.end_stream && is_last;
        if is_last {
            self.timers.partial = None;
            self.reader = skip(frame.padding);
        }
        // The application may have reset, even forgotten the stream since the frame began.
        if !self.streams.is(key, stream) || self.streams[key].recv != Half::Body {
            return None;
        }
        if end_stream {
            self.end_recv(key);
        }
        Some(Event::Data {
            key,
            stream,
            payload,
            end_stream,
        })
    }

    /// Takes the pad length, whose byte has just been read.
    pub(super) fn begin_padded_data(
        &mut self,
        head: FrameHead,
        key: StreamKey,
        pad_len: u8,
        now: Instant,
    ) -> Result<(), Violation> {
        let padding = u32::from(pad_len);
        let payload = (head.len - 1).checked_sub(padding).ok_or(Violation::Padding)?;
        if !self.streams.is(key, head.stream) || self.streams[key].recv != Half::Body {
            self.reader = skip(head.len - 1);
            return Ok(());
        }
        self.release(key, 1 + padding as usize);
        self.begin_payload(head, key, payload, padding, now)
    }

    /// Counts a payload of `len` bytes towards content-length and budgets, and begins to hand it out.
    #[inline(always)]
    fn begin_payload(
        &mut self,
        head: FrameHead,
        key: StreamKey,
        len: u32,
        padding: u32,
        now: Instant,
    ) -> Result<(), Violation> {
        let end_stream = head.has(flags::END_STREAM);
        let stream = &mut self.streams[key];
        if stream.content_left != LENGTH_UNKNOWN {
            let left = stream.content_left.checked_sub(u64::from(len));
            match left {
                Some(left) if !(end_stream && left > 0) => stream.content_left = left,
                _ => return self.broken_data(len + padding, key, ErrorCode::PROTOCOL_ERROR, now),
            }
        }
        if len < TINY_BODY_BYTES && !end_stream {
            self.spend_overhead(FRAME_COST, now)?;
            if len == 0 {
                self.reader = skip(padding);
                return Ok(());
            }
        } else {
            self.budgets.overhead.earn(body_earns(len));
        }
        self.data_frame = DataFrame {
            key,
            stream: head.stream,
            left: len,
            padding,
            end_stream,
        };
        self.reader = Reader::Data;
        Ok(())
    }

    /// A stream error in a DATA frame of which `left` bytes are still to come.
    #[cold]
    fn broken_data(
        &mut self,
        left: u32,
        key: StreamKey,
        code: ErrorCode,
        now: Instant,
    ) -> Result<(), Violation> {
        self.reader = skip(left);
        self.stream_error(key, code, now)
    }

    /// DATA on a stream that is not open (RFC 9113 section 5.1).
    #[cold]
    fn data_without_stream(&mut self, head: FrameHead, now: Instant) -> Result<(), Violation> {
        if head.stream.is_connection() {
            return Err(Violation::NeedsStream);
        }
        if self.is_idle(head.stream) {
            return Err(Violation::IdleStream);
        }
        self.reader = skip(head.len);
        if head.len < TINY_BODY_BYTES {
            self.spend_overhead(FRAME_COST, now)?;
        }
        let refused = matches!(self.shutdown, Shutdown::Final { last } if head.stream > last);
        let within_budget = match self.streams.ending(head.stream) {
            Ending::Cut => return Ok(()),
            Ending::Unknown if self.role == Role::Client || refused => return Ok(()),
            Ending::Unknown => self.budgets.refusals.spend(1, now),
            Ending::Over => self.budgets.stream_errors.spend(1, now),
        };
        if !within_budget {
            return Err(Violation::ErrorFlood);
        }
        self.refuse(head.stream, ErrorCode::STREAM_CLOSED);
        Ok(())
    }

    /// The peer's message is complete.
    pub(super) fn end_recv(&mut self, key: StreamKey) {
        let stream = &mut self.streams[key];
        stream.recv = Half::Closed;
        if stream.send == Half::Closed {
            self.end_in_order(key);
        }
    }
}
