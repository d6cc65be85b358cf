//! One gRPC call: an HTTP/2 stream with what it means.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use ringgate_grpc::{Deframer, Encoding, Oversize, Status, response};
use ringgate_http2::{HeaderList, StreamKey};

use super::service::{Flow, Handler, Now, Service, StreamTag};

/// A call from its request headers to the end of its response.
pub(crate) struct Call {
    pub(crate) key: StreamKey,
    pub(crate) kind: Kind,
    deframer: Deframer,
    /// Input that waits while the call is paused. Bounded by the stream's HTTP/2 window, since its credit is not given back.
    held: BytesMut,
    pub(crate) waits: Option<Wait>,
    /// Bytes of memory that the connection counts for this call's input.
    pub(crate) charged: usize,
    /// The client will send no more.
    pub(crate) input_ended: bool,
    half_close_told: bool,
    /// In the connection's list of calls to flush.
    pub(crate) listed: bool,
    /// It has something to send and no window for it.
    pub(crate) stalled: bool,
    pub(crate) deadline: Option<Instant>,
    /// Set when the call ends by the shard's own decision, after what is queued.
    ending: Option<Status>,
}

/// What a call is.
pub(crate) enum Kind {
    /// A stream of the service.
    Stream(StreamTag),
    /// Looks after itself.
    Handler {
        handler: Box<dyn Handler>,
        queue: VecDeque<Bytes>,
        /// Bytes in `queue`.
        queued: usize,
    },
    /// An answer that is no gRPC: what is left of its body.
    Reply { body: Bytes },
}

/// What the input of a call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The service will say when to go on.
    Service,
    /// Another core is too far behind.
    Congestion,
    /// The handler's answers have not been sent.
    Queue,
}

/// Answers of a handler beyond which it is asked nothing more until they are sent.
const HANDLER_QUEUE_BYTES_MAX: usize = 16 * 1024;

/// What became of input given to a call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// This many bytes are consumed; their credit may go back.
    Consumed(usize),
    /// The call takes no more for now; the bytes are held.
    Held(usize),
}

impl Call {
    pub(crate) fn new(
        key: StreamKey,
        kind: Kind,
        message_bytes_max: u32,
        encoding: Encoding,
        deadline: Option<Instant>,
    ) -> Call {
        Call {
            key,
            kind,
            deframer: Deframer::new(message_bytes_max, encoding),
            held: BytesMut::new(),
            waits: None,
            charged: 0,
            input_ended: false,
            half_close_told: false,
            listed: false,
            stalled: false,
            deadline,
            ending: None,
        }
    }

    /// Says what becomes of messages over the limit.
    pub(crate) fn set_oversize(&mut self, oversize: Oversize) {
        self.deframer.set_oversize(oversize);
    }

    /// Takes body bytes, or holds them while the call is paused (or `hold` is set, because the core is congested).
    pub(crate) fn data<S: Service>(
        &mut self,
        mut payload: &[u8],
        hold: bool,
        service: &mut S,
        now: &Now,
    ) -> Taken {
        let len = payload.len();
        if hold || self.waits.is_some() {
            self.waits.get_or_insert(Wait::Congestion);
            self.held.extend_from_slice(payload);
            return Taken::Held(len);
        }
        self.waits = self.consume(&mut payload, service, now);
        if self.waits.is_some() {
            self.held.extend_from_slice(payload);
        }
        Taken::Consumed(len - payload.len())
    }

    /// Goes on with held input. Returns how many bytes were consumed.
    pub(crate) fn resume<S: Service>(&mut self, service: &mut S, now: &Now) -> usize {
        let held = std::mem::take(&mut self.held);
        let mut rest = &held[..];
        self.waits = self.consume(&mut rest, service, now);
        if self.waits.is_some() {
            self.held.extend_from_slice(rest);
        }
        let consumed = held.len() - rest.len();
        if self.waits.is_none() && self.input_ended {
            self.half_close(service, now);
        }
        consumed
    }

    /// Takes messages off the front of `payload`, until none is left or the call must wait.
    fn consume<S: Service>(&mut self, payload: &mut &[u8], service: &mut S, now: &Now) -> Option<Wait> {
        if self.ending.is_some() {
            *payload = &[];
            return None;
        }
        loop {
            match self.deframer.next(payload) {
                Ok(None) => {
                    let skipped = self.deframer.take_skipped();
                    if let Kind::Stream(tag) = self.kind
                        && skipped > 0
                    {
                        service.skipped(tag, skipped);
                    }
                    return None;
                }
                Ok(Some(message)) => match &mut self.kind {
                    Kind::Stream(tag) => {
                        if service.message(*tag, message.payload, now) == Flow::Pause {
                            return Some(Wait::Service);
                        }
                    }
                    Kind::Handler {
                        handler,
                        queue,
                        queued,
                    } => {
                        let mut out = Vec::new();
                        let result = handler.message(message, &mut out);
                        *queued += out.iter().map(Bytes::len).sum::<usize>();
                        queue.extend(out);
                        if let Err(status) = result {
                            self.ending = Some(status);
                            *payload = &[];
                            return None;
                        }
                        if *queued > HANDLER_QUEUE_BYTES_MAX {
                            return Some(Wait::Queue);
                        }
                    }
                    Kind::Reply { .. } => {}
                },
                Err(status) => {
                    *payload = &[];
                    self.fail(status, service, now);
                    return None;
                }
            }
        }
    }

    /// The client's END_STREAM.
    pub(crate) fn input_end<S: Service>(&mut self, service: &mut S, now: &Now) {
        self.input_ended = true;
        if self.waits.is_none() {
            self.half_close(service, now);
        }
    }

    fn half_close<S: Service>(&mut self, service: &mut S, now: &Now) {
        if std::mem::replace(&mut self.half_close_told, true) || self.ending.is_some() {
            return;
        }
        if let Err(status) = self.deframer.finish() {
            return self.fail(status, service, now);
        }
        match &mut self.kind {
            Kind::Stream(tag) => service.half_closed(*tag, now),
            Kind::Handler {
                handler,
                queue,
                queued,
            } => {
                let mut out = Vec::new();
                self.ending = handler.half_closed(&mut out);
                *queued += out.iter().map(Bytes::len).sum::<usize>();
                queue.extend(out);
            }
            Kind::Reply { .. } => {}
        }
    }

    /// Ends the call with `status` after what is queued.
    pub(crate) fn fail<S: Service>(&mut self, status: Status, service: &mut S, now: &Now) {
        if let Kind::Stream(tag) = self.kind {
            service.broken(tag, &status, now);
        }
        self.ending.get_or_insert(status);
    }

    /// Asks a handler for news. Whether there is something to send.
    pub(crate) fn poll(&mut self) -> bool {
        let Kind::Handler {
            handler,
            queue,
            queued,
        } = &mut self.kind
        else {
            return false;
        };
        let mut out = Vec::new();
        handler.poll(&mut out);
        *queued += out.iter().map(Bytes::len).sum::<usize>();
        queue.extend(out);
        !queue.is_empty()
    }

    pub(crate) fn wants_poll(&self) -> bool {
        matches!(&self.kind, Kind::Handler { handler, .. } if handler.wants_poll())
    }

    /// The next body bytes to send, at most `bytes_max`.
    pub(crate) fn pull<S: Service>(&mut self, bytes_max: usize, service: &mut S) -> Option<Bytes> {
        match &mut self.kind {
            Kind::Stream(tag) => service.pull(*tag, bytes_max),
            Kind::Handler { queue, queued, .. } => {
                let mut first = queue.pop_front()?;
                if first.len() > bytes_max {
                    queue.push_front(first.split_off(bytes_max));
                }
                *queued -= first.len();
                Some(first)
            }
            Kind::Reply { body } if body.is_empty() => None,
            Kind::Reply { body } => Some(body.split_to(bytes_max.min(body.len()))),
        }
    }

    /// The trailers that end the call, given that there is nothing more to pull; `None` while it goes on.
    pub(crate) fn end<S: Service>(&mut self, service: &mut S) -> Option<HeaderList> {
        if let Some(status) = self.ending.take() {
            return Some(self.trailers(&status));
        }
        match &self.kind {
            Kind::Stream(tag) => service.end(*tag).map(|status| response::trailers(&status)),
            Kind::Handler { .. } | Kind::Reply { .. } => None,
        }
    }

    fn trailers(&mut self, status: &Status) -> HeaderList {
        let mut trailers = response::trailers(status);
        if let Kind::Handler { handler, .. } = &mut self.kind {
            handler
                .trailing_metadata()
                .iter()
                .for_each(|(name, value)| trailers.push(name, value));
        }
        trailers
    }

    /// Whether there is nothing to pull.
    pub(crate) fn is_empty<S: Service>(&self, service: &S) -> bool {
        match &self.kind {
            Kind::Stream(tag) => service.is_empty(*tag),
            Kind::Handler { queue, .. } => queue.is_empty(),
            Kind::Reply { body } => body.is_empty(),
        }
    }

    /// Whether the call ends by the shard's own decision.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Whether the call ends with an error, so that its end need not wait for a client that reads nothing.
    pub(crate) fn must_end<S: Service>(&self, service: &S) -> bool {
        self.ending.as_ref().is_some_and(|status| !status.is_ok())
            || matches!(self.kind, Kind::Stream(tag) if service.must_end(tag))
    }

    /// Bytes of memory that the call's input holds.
    pub(crate) fn input_bytes(&self) -> usize {
        self.held.len() + self.deframer.held_bytes()
    }

    /// Throws away input that waits, of a call that is ending.
    pub(crate) fn discard_input(&mut self) {
        self.held = BytesMut::new();
        self.deframer = Deframer::new(0, Encoding::Identity);
    }

    /// Whether what was pulled last is the last of a body that ends by itself.
    pub(crate) fn ends_with_body(&self) -> bool {
        matches!(&self.kind, Kind::Reply { body } if body.is_empty())
    }

    /// Memory that a quiet call needs no more goes back.
    pub(crate) fn release_idle(&mut self) {
        self.deframer.release_idle();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Note, Recorder};
    use super::*;
    use std::time::Instant;

    fn framed(message: &[u8]) -> Vec<u8> {
        [&ringgate_grpc::frame::prefix(message.len() as u32)[..], message].concat()
    }

    fn stream() -> (Call, Recorder, Now) {
        let call = Call::new(
            StreamKey::from_index(0),
            Kind::Stream(StreamTag(7)),
            1 << 20,
            Encoding::Identity,
            None,
        );
        (
            call,
            Recorder::default(),
            Now {
                mono: Instant::now(),
                unix_nanos: 1,
            },
        )
    }

    #[test]
    fn a_paused_call_holds_its_input_and_goes_on_in_order() {
        let (mut call, mut service, now) = stream();
        service.pause_after = Some(1);
        let input = [framed(b"one"), framed(b"two"), framed(b"three")].concat();
        assert_eq!(call.data(&input, false, &mut service, &now), Taken::Consumed(8));
        assert_eq!(
            call.data(&framed(b"four"), false, &mut service, &now),
            Taken::Held(9)
        );
        call.input_end(&mut service, &now);
        assert_eq!(service.notes, [Note::Message(b"one".to_vec())]);
        service.pause_after = None;
        assert_eq!(call.resume(&mut service, &now), 8 + 10 + 9);
        let rest: Vec<Note> = service.notes.drain(1..).collect();
        let expected = [&b"two"[..], b"three", b"four"].map(|message| Note::Message(message.to_vec()));
        assert_eq!(rest[..3], expected);
        assert_eq!(rest[3..], [Note::HalfClosed]);
    }

    #[test]
    fn input_that_is_no_message_ends_the_call_and_nothing_after_it_counts() {
        let (mut call, mut service, now) = stream();
        let input = [framed(b"good"), vec![9, 0, 0, 0, 1, 0], framed(b"lost")].concat();
        let len = input.len();
        assert_eq!(call.data(&input, false, &mut service, &now), Taken::Consumed(len));
        assert!(matches!(&service.notes[..], [Note::Message(_), Note::Broken(_)]));
        assert!(call.end(&mut service).is_some());
    }

    #[test]
    fn a_stream_that_ends_inside_a_message_is_broken() {
        let (mut call, mut service, now) = stream();
        let _ = call.data(&framed(b"half")[..7], false, &mut service, &now);
        call.input_end(&mut service, &now);
        assert!(matches!(&service.notes[..], [Note::Broken(_)]));
    }
}
