//! HEADERS and CONTINUATION that arrive: header blocks put together, decoded and checked (RFC 9113 sections 4.3, 6.2, 8).

use std::time::Instant;

use crate::connection::budget::{FRAME_COST, STREAM_EARNS};
use crate::connection::receive::Order;
use crate::connection::shutdown::Shutdown;
use crate::connection::streams::{Ending, Half, LENGTH_UNKNOWN, Stream, StreamKey};
use crate::connection::{Connection, Role};
use crate::error::{ErrorCode, Violation};
use crate::event::{Event, StreamId};
use crate::frame::{self, FrameHead, flags};
use crate::headers::{Header, HeaderList};
use crate::validate::{MessageKind, Summary, Validator};

/// A header block that goes on in CONTINUATION.
#[derive(Debug, Default)]
pub(super) struct HeaderBlock {
    bytes: Vec<u8>,
    frames: u32,
    meta: BlockMeta,
}

/// What the HEADERS frame said beside its block.
#[derive(Debug, Default, Clone, Copy)]
struct BlockMeta {
    end_stream: bool,
    depends_on_itself: bool,
}

/// What a header block is for.
#[derive(Debug, Clone, Copy)]
enum Target {
    /// A request on a new stream.
    Open,
    Response(StreamKey),
    Trailers(StreamKey),
    /// A stream error on an open stream.
    Broken(StreamKey, ErrorCode),
    /// Above SETTINGS_MAX_CONCURRENT_STREAMS.
    Refused,
    /// Nothing: it is decoded for the sake of the compression state.
    Nothing,
}

/// A decoded block.
enum Decoded {
    Message(HeaderList, Summary),
    Malformed,
    TooLarge,
}

impl Connection {
    /// Checks that the header block keeps its bounds with this frame; gives the frame's length.
    pub(super) fn check_block_room(&self, head: &FrameHead) -> Result<u32, Violation> {
        let bytes = self.block.bytes.len() + head.len as usize;
        if bytes > self.config.header_block_bytes_max as usize {
            return Err(Violation::HeaderBlockBytes);
        }
        if head.kind == frame::Kind::CONTINUATION && self.block.frames >= self.config.continuation_frames_max
        {
            return Err(Violation::HeaderBlockFrames);
        }
        Ok(head.len)
    }

    pub(super) fn headers_frame(
        &mut self,
        head: FrameHead,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event<'static>>, Violation> {
        let frame = frame::headers::parse(&head, payload)?;
        let meta = BlockMeta {
            end_stream: head.has(flags::END_STREAM),
            depends_on_itself: frame.depends_on_itself,
        };
        if head.has(flags::END_HEADERS) {
            return self.header_block(head.stream, frame.fragment, meta, now);
        }
        self.block = HeaderBlock {
            bytes: frame.fragment.to_vec(),
            frames: 0,
            meta,
        };
        self.order = Order::Continuation(head.stream);
        Ok(None)
    }

    pub(super) fn continuation_frame(
        &mut self,
        head: FrameHead,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event<'static>>, Violation> {
        self.block.bytes.extend_from_slice(payload);
        self.block.frames += 1;
        if !head.has(flags::END_HEADERS) {
            return Ok(None);
        }
        self.order = Order::Any;
        let block = std::mem::take(&mut self.block);
        self.header_block(head.stream, &block.bytes, block.meta, now)
    }

    /// Handles a complete header block.
    fn header_block(
        &mut self,
        id: StreamId,
        block: &[u8],
        meta: BlockMeta,
        now: Instant,
    ) -> Result<Option<Event<'static>>, Violation> {
        match self.target(id)? {
            Target::Open => self.open_by_peer(id, block, meta, now),
            Target::Response(key) => self.response(key, block, meta, now),
            Target::Trailers(key) => self.trailers(key, block, meta, now),
            Target::Broken(key, code) => {
                self.skip_block(block)?;
                self.stream_error(key, code, now).map(|()| None)
            }
            Target::Refused => {
                self.skip_block(block)?;
                if !self.budgets.refusals.spend(1, now) {
                    return Err(Violation::RefusalFlood);
                }
                self.refuse(id, ErrorCode::REFUSED_STREAM);
                Ok(None)
            }
            Target::Nothing => {
                self.skip_block(block)?;
                self.spend_overhead(FRAME_COST, now).map(|()| None)
            }
        }
    }

    /// Finds out what a block on stream `id` is for (RFC 9113 sections 5.1 and 5.1.1).
    fn target(&mut self, id: StreamId) -> Result<Target, Violation> {
        if let Some(key) = self.streams.find(id) {
            return Ok(match self.streams[key].recv {
                Half::Headers => Target::Response(key),
                Half::Body => Target::Trailers(key),
                Half::Closed => Target::Broken(key, ErrorCode::STREAM_CLOSED),
            });
        }
        if id > self.last_stream {
            if self.role == Role::Client || !self.is_peer_initiated(id) {
                return Err(Violation::StreamId);
            }
            self.last_stream = id;
            return Ok(match self.shutdown {
                Shutdown::Final { .. } => Target::Nothing,
                _ if self.streams.active() >= self.config.streams_max as usize => Target::Refused,
                _ => Target::Open,
            });
        }
        if matches!(self.shutdown, Shutdown::Final { last } if id > last) {
            return Ok(Target::Nothing);
        }
        match self.streams.ending(id) {
            Ending::Cut => Ok(Target::Nothing),
            Ending::Over => Err(Violation::ClosedStream),
            Ending::Unknown if self.role == Role::Client && id.is_client_initiated() => Ok(Target::Nothing),
            Ending::Unknown => Err(Violation::StreamId),
        }
    }

    fn open_by_peer(
        &mut self,
        id: StreamId,
        block: &[u8],
        meta: BlockMeta,
        now: Instant,
    ) -> Result<Option<Event<'static>>, Violation> {
        let (headers, summary) = match self.decode(MessageKind::Request, block, meta.end_stream)? {
            Decoded::Message(headers, summary) => (headers, summary),
            Decoded::TooLarge => {
                self.answer_too_large(id, meta.end_stream);
                return self.spend_stream_error(now).map(|()| None);
            }
            Decoded::Malformed => return self.refuse_malformed(id, now),
        };
        let contradicts = meta.end_stream && summary.content_length.is_some_and(|length| length > 0);
        if meta.depends_on_itself || contradicts {
            return self.refuse_malformed(id, now);
        }
        let recv = if meta.end_stream { Half::Closed } else { Half::Body };
        let window = self.recv_window_initial as i32;
        let mut stream = Stream::new(id, recv, Half::Headers, window, self.peer.stream_window as i32);
        stream.content_left = summary.content_length.unwrap_or(LENGTH_UNKNOWN);
        let key = self.streams.insert(stream);
        self.timers.idle_since = None;
        self.budgets.overhead.earn(STREAM_EARNS);
        Ok(Some(Event::Headers {
            key,
            stream: id,
            headers,
            end_stream: meta.end_stream,
        }))
    }

    fn response(
        &mut self,
        key: StreamKey,
        block: &[u8],
        meta: BlockMeta,
        now: Instant,
    ) -> Result<Option<Event<'static>>, Violation> {
        let (headers, summary) = match self.decode(MessageKind::Response, block, meta.end_stream)? {
            Decoded::Message(headers, summary) => (headers, summary),
            other => return self.broken_message(key, &other, now),
        };
        let stream = &mut self.streams[key];
        let id = stream.id;
        if summary.informational {
            self.spend_overhead(FRAME_COST, now)?;
            return Ok(Some(Event::Informational {
                key,
                stream: id,
                headers,
            }));
        }
        let has_body = !stream.head_request && !summary.bodiless;
        stream.content_left = summary
            .content_length
            .filter(|_| has_body)
            .unwrap_or(LENGTH_UNKNOWN);
        stream.recv = Half::Body;
        if meta.depends_on_itself || (meta.end_stream && !matches!(stream.content_left, 0 | LENGTH_UNKNOWN)) {
            return self
                .stream_error(key, ErrorCode::PROTOCOL_ERROR, now)
                .map(|()| None);
        }
        if meta.end_stream {
            self.end_recv(key);
        }
        Ok(Some(Event::Headers {
            key,
            stream: id,
            headers,
            end_stream: meta.end_stream,
        }))
    }

    fn trailers(
        &mut self,
        key: StreamKey,
        block: &[u8],
        meta: BlockMeta,
        now: Instant,
    ) -> Result<Option<Event<'static>>, Violation> {
        let headers = match self.decode(MessageKind::Trailers, block, meta.end_stream)? {
            Decoded::Message(headers, _) => headers,
            other => return self.broken_message(key, &other, now),
        };
        let stream = &self.streams[key];
        let id = stream.id;
        if meta.depends_on_itself || !matches!(stream.content_left, 0 | LENGTH_UNKNOWN) {
            return self
                .stream_error(key, ErrorCode::PROTOCOL_ERROR, now)
                .map(|()| None);
        }
        self.end_recv(key);
        Ok(Some(Event::Trailers {
            key,
            stream: id,
            headers,
        }))
    }

    fn broken_message(
        &mut self,
        key: StreamKey,
        decoded: &Decoded,
        now: Instant,
    ) -> Result<Option<Event<'static>>, Violation> {
        let code = match decoded {
            Decoded::TooLarge => ErrorCode::ENHANCE_YOUR_CALM,
            _ => ErrorCode::PROTOCOL_ERROR,
        };
        self.stream_error(key, code, now).map(|()| None)
    }

    fn refuse_malformed(&mut self, id: StreamId, now: Instant) -> Result<Option<Event<'static>>, Violation> {
        self.refuse(id, ErrorCode::PROTOCOL_ERROR);
        self.spend_stream_error(now).map(|()| None)
    }

    /// Answers a request whose header list is too large, as RFC 6585 section 5 has it.
    fn answer_too_large(&mut self, id: StreamId, end_stream: bool) {
        let headers = [Header::new(b":status", b"431")];
        let frame_bytes_max = self.peer.frame_bytes_max as usize;
        frame::headers::write(&mut self.output, id, true, frame_bytes_max, |out| {
            self.encoder.encode(&headers, out);
        });
        if end_stream {
            self.streams.remember(id, Ending::Over);
        } else {
            self.refuse(id, ErrorCode::NO_ERROR);
        }
    }

    fn decode(&mut self, kind: MessageKind, block: &[u8], end_stream: bool) -> Result<Decoded, Violation> {
        let size_max = self.config.header_list_bytes_max as usize;
        let mut headers = HeaderList::with_capacity((block.len() * 2).min(size_max));
        let mut validator = Validator::new(kind);
        let mut malformed = false;
        let mut size = 0;
        self.decoder.decode(block, |header| {
            size += header.list_size();
            if size > size_max || malformed {
                return;
            }
            match validator.field(header) {
                Ok(()) => headers.push(header.name, header.value),
                Err(_) => malformed = true,
            }
        })?;
        if malformed {
            return Ok(Decoded::Malformed);
        }
        if size > size_max {
            return Ok(Decoded::TooLarge);
        }
        Ok(match validator.finish(&headers, end_stream) {
            Ok(summary) => Decoded::Message(headers, summary),
            Err(_) => Decoded::Malformed,
        })
    }

    fn skip_block(&mut self, block: &[u8]) -> Result<(), Violation> {
        Ok(self.decoder.decode(block, |_| {})?)
    }
}
