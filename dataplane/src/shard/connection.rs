//! One client's connection: TLS, HTTP/2 and the calls on it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use ringgate_grpc::request::Reply;
use ringgate_grpc::{Code, Encoding, Oversize, Request, Status, response};
use ringgate_http2::{ErrorCode, Event, Header, HeaderList, StreamKey};
use ringgate_uring::{SendBuffer, SocketId};

use super::builtin::{self, Builtin};
use super::call::{Call, Kind, Taken, Wait};
use super::frames::{Frames, Heads};
use super::service::{Answer, CallId, Closing, Now, Peer, Service, StreamTag};
use crate::tls;

/// How long a connection that ends may take to read what was sent last. After it the socket is closed in any case.
const LINGER: Duration = Duration::from_secs(1);

/// How long the calls of a client whose credential is no longer good have to end: the service ends those of that credential at once.
const DISMISSAL: Duration = Duration::from_millis(250);
/// How often a certificate is looked at for its end. Sessions end with it on time; this is for connections without one.
const EXAMINE_EVERY: Duration = Duration::from_secs(60);

/// Memory of control frames kept from one flush to the next: enough for steady traffic, little enough for an idle connection.
const CONTROL_KEPT_BYTES: usize = 512;

/// What a connection needs from its shard while it works.
pub(crate) struct Context<'a, S: Service> {
    pub(crate) service: &'a mut S,
    pub(crate) builtin: &'a Builtin,
    pub(crate) now: &'a Now,
    /// Another core is too far behind: input must wait.
    pub(crate) congested: bool,
    pub(crate) message_bytes_max: u32,
    /// Bytes of one send.
    pub(crate) send_bytes_max: usize,
    /// Memory that the input of one connection's calls may hold.
    pub(crate) input_bytes_max: usize,
    /// DATA frames that other connections send in this turn too.
    pub(crate) frames: &'a mut Frames,
    /// Calls with a deadline, told to the shard.
    pub(crate) deadlines: &'a mut Vec<(Instant, CallId)>,
    /// Counts streams that have something to send and no window for it.
    pub(crate) credit_stalls: &'a mut u64,
}

/// Largest message taken by a call to a built-in service: a service or symbol name and its framing.
const BUILTIN_MESSAGE_BYTES_MAX: u32 = 64 * 1024;

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// What is queued goes out, then our side ends, then the socket closes: when the peer ends too, or at `until`.
    Ending {
        until: Instant,
        peer_ended: bool,
        output_ended: bool,
    },
}

/// What the shard must do with the socket after a flush.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing.
    Keep,
    /// Send a FIN and go on reading.
    EndOutput,
    /// Close it.
    Close,
}

/// When a client's certificate was looked at last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Examined {
    rules: u64,
    at: Instant,
}

impl Examined {
    /// Under the rules of this number.
    pub(crate) fn at(rules: u64, at: Instant) -> Examined {
        Examined { rules, at }
    }
}

pub(crate) struct Connection {
    pub(crate) socket: SocketId,
    pub(crate) peer: Peer,
    http2: ringgate_http2::Connection,
    tls: Option<Box<tls::Session>>,
    calls: Vec<Option<Box<Call>>>,
    /// Calls with something to send, in turn.
    ready: VecDeque<StreamKey>,
    phase: Phase,
    draining: bool,
    /// When a draining connection is ended whatever its client does.
    leave_by: Option<Instant>,
    examined: Examined,
    /// Memory that the calls' input holds: what [`Call::charged`] adds up to.
    input_bytes: usize,
    /// What arrives must be acknowledged at once; see [`Service::wants_quickack`].
    wants_quickack: bool,
    /// In the shard's list of connections to acknowledge.
    quickack_listed: bool,
    /// The call to make, by its ticket and path, once it is known who the server is.
    to_call: Option<(u64, &'static str)>,
}

impl Connection {
    pub(crate) fn new(
        socket: SocketId,
        peer: Peer,
        http2: ringgate_http2::Connection,
        tls: Option<Box<tls::Session>>,
        examined: Examined,
    ) -> Connection {
        Connection {
            socket,
            peer,
            http2,
            tls,
            calls: Vec::new(),
            ready: VecDeque::new(),
            phase: Phase::Open,
            draining: false,
            leave_by: None,
            examined,
            input_bytes: 0,
            wants_quickack: false,
            quickack_listed: false,
            to_call: None,
        }
    }

    /// Takes bytes from the socket.
    pub(crate) fn received<S: Service>(&mut self, bytes: &[u8], cx: &mut Context<'_, S>) {
        if self.phase != Phase::Open {
            return;
        }
        let Some(mut tls) = self.tls.take() else {
            return self.plaintext(bytes, cx);
        };
        let result = tls.receive(bytes, |plaintext, certificate| {
            if self.peer.certificate.is_none() {
                self.peer.certificate = certificate;
            }
            self.plaintext(plaintext, cx);
        });
        self.tls = Some(tls);
        match result {
            Ok(tls::Input::More) => {}
            Ok(tls::Input::Ended) => self.end(Closing::Lost, cx),
            Err(error) => {
                tracing::debug!(peer = %self.peer.address, %error, "TLS failed");
                self.end(Closing::Lost, cx);
            }
        }
    }

    fn plaintext<S: Service>(&mut self, mut input: &[u8], cx: &mut Context<'_, S>) {
        if let Some((ticket, path)) = self.to_call.take() {
            self.make_call(ticket, path, cx);
        }
        while self.phase == Phase::Open {
            match self.http2.receive(&mut input, cx.now.mono) {
                Ok(Some(event)) => self.event(event, cx),
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(peer = %self.peer.address, %error, "HTTP/2 connection error");
                    self.end(Closing::Lost, cx);
                }
            }
        }
    }

    fn event<S: Service>(&mut self, event: Event<'_>, cx: &mut Context<'_, S>) {
        match event {
            Event::Data {
                key,
                payload,
                end_stream,
                ..
            } => self.data(key, payload, end_stream, cx),
            Event::Headers {
                key,
                headers,
                end_stream,
                ..
            } if self.http2.is_server() => self.request(key, headers, end_stream, cx),
            Event::Headers {
                headers, end_stream, ..
            } => self.response(&headers, end_stream, cx),
            Event::Trailers { key, .. } if self.http2.is_server() => self.input_end(key, cx),
            Event::Trailers { headers, .. } => self.response(&headers, true, cx),
            Event::Reset { .. } if !self.http2.is_server() => self.end(Closing::Lost, cx),
            Event::Reset { key, .. } => {
                self.call_over(key.index(), Closing::Orderly, cx);
                self.http2.forget(key);
            }
            Event::Writable { key: Some(key) } => self.list(key),
            Event::Writable { key: None } => self.list_all(),
            _ => {}
        }
    }

    fn data<S: Service>(
        &mut self,
        key: StreamKey,
        payload: &[u8],
        end_stream: bool,
        cx: &mut Context<'_, S>,
    ) {
        let Some(call) = self.calls.get_mut(key.index()).and_then(Option::as_mut) else {
            return self.http2.release(key, payload.len());
        };
        match call.data(payload, cx.congested, cx.service, cx.now) {
            Taken::Consumed(bytes) => self.http2.release(key, bytes),
            Taken::Held(_) => {}
        }
        if end_stream {
            call.input_end(cx.service, cx.now);
        }
        self.charge(key, cx);
        let Some(call) = self.calls.get_mut(key.index()).and_then(Option::as_mut) else {
            return;
        };
        // Streams of the service say for themselves when they have something to send.
        if !matches!(call.kind, Kind::Stream(_)) || call.is_ending() {
            self.list(key);
        }
    }

    /// Counts what a call's input holds, and ends the call that brings the connection above its bound.
    fn charge<S: Service>(&mut self, key: StreamKey, cx: &mut Context<'_, S>) {
        let Some(call) = self.calls.get_mut(key.index()).and_then(Option::as_mut) else {
            return;
        };
        let held = call.input_bytes();
        if held == call.charged {
            return;
        }
        self.input_bytes = self.input_bytes - call.charged + held;
        call.charged = held;
        if self.input_bytes > cx.input_bytes_max {
            let max = cx.input_bytes_max;
            let text = format!(
                "the unfinished input of this connection's calls takes more than {max} bytes \
                 (limits.connection_input_bytes_max); finish messages before starting others, or use more connections"
            );
            call.fail(Status::new(Code::ResourceExhausted, text), cx.service, cx.now);
            call.discard_input();
            self.input_bytes -= call.charged;
            call.charged = 0;
        }
    }

    fn input_end<S: Service>(&mut self, key: StreamKey, cx: &mut Context<'_, S>) {
        if let Some(call) = self.calls.get_mut(key.index()).and_then(Option::as_mut) {
            call.input_end(cx.service, cx.now);
            self.list(key);
        }
    }

    fn request<S: Service>(
        &mut self,
        key: StreamKey,
        headers: HeaderList,
        end_stream: bool,
        cx: &mut Context<'_, S>,
    ) {
        let id = self.call_id(key);
        let (call, headers) = match builtin::plain_http(&headers) {
            Some(reply) => reply_call(key, reply),
            None => match Request::parse(headers) {
                Ok(request) => self.grpc_call(key, &request, cx),
                Err(refusal) => {
                    let reply = refusal.reply();
                    reply_call(key, reply)
                }
            },
        };
        let Some(mut call) = call else {
            send_headers(&mut self.http2, key, &headers, true);
            if !end_stream {
                self.http2.reset(key, ErrorCode::NO_ERROR);
            }
            return self.http2.forget(key);
        };
        send_headers(&mut self.http2, key, &headers, false);
        if let Some(deadline) = call.deadline {
            cx.deadlines.push((deadline, id));
        }
        if end_stream {
            call.input_end(cx.service, cx.now);
        }
        let index = key.index();
        if self.calls.len() <= index {
            self.calls.resize_with(index + 1, || None);
        }
        self.calls[index] = Some(Box::new(call));
        self.list(key);
    }

    /// The call for a gRPC request, or `None` where the returned headers are the whole answer.
    fn grpc_call<S: Service>(
        &mut self,
        key: StreamKey,
        request: &Request,
        cx: &mut Context<'_, S>,
    ) -> (Option<Call>, HeaderList) {
        let deadline = request.timeout.map(|timeout| cx.now.mono + timeout);
        let mut message_bytes_max = cx.message_bytes_max;
        let answer = match cx.builtin.call(request) {
            Some(handler) => {
                message_bytes_max = BUILTIN_MESSAGE_BYTES_MAX;
                Answer::Handler(handler)
            }
            None => cx.service.call(self.call_id(key), request, &self.peer, cx.now),
        };
        let mut headers = response::headers(Encoding::Identity);
        let kind = match answer {
            Answer::Refuse(status) => return (None, response::trailers_only(&status)),
            Answer::Stream(tag) => {
                self.wants_quickack |= cx.service.wants_quickack(tag);
                Kind::Stream(tag)
            }
            Answer::Handler(mut handler) => {
                if handler.compresses() {
                    headers = response::headers(Encoding::Gzip);
                }
                handler
                    .initial_metadata()
                    .iter()
                    .for_each(|(name, value)| headers.push(name, value));
                Kind::Handler {
                    handler,
                    queue: VecDeque::new(),
                    queued: 0,
                }
            }
        };
        let oversize = match kind {
            Kind::Stream(tag) => {
                message_bytes_max = cx.service.message_bytes_max(tag, message_bytes_max);
                cx.service.oversize(tag)
            }
            _ => Oversize::Fail,
        };
        let mut call = Call::new(key, kind, message_bytes_max, request.encoding, deadline);
        call.set_oversize(oversize);
        (Some(call), headers)
    }

    /// Makes the one call that a connection is for on which this end is the client: at once, or when the server has proved who it is.
    pub(crate) fn call_when_known<S: Service>(
        &mut self,
        ticket: u64,
        path: &'static str,
        cx: &mut Context<'_, S>,
    ) {
        match &self.tls {
            None => self.make_call(ticket, path, cx),
            // The first it says is HTTP/2's SETTINGS.
            Some(_) => self.to_call = Some((ticket, path)),
        }
    }

    fn make_call<S: Service>(&mut self, ticket: u64, path: &str, cx: &mut Context<'_, S>) {
        let authority = self.peer.address.to_string();
        let headers = [
            Header::new(b":method", b"POST"),
            Header::new(b":scheme", if self.peer.encrypted { b"https" } else { b"http" }),
            Header::new(b":path", path.as_bytes()),
            Header::new(b":authority", authority.as_bytes()),
            Header::new(b"te", b"trailers"),
            Header::new(b"content-type", b"application/grpc"),
        ];
        let Ok(key) = self.http2.open(&headers, false) else {
            return self.end(Closing::Lost, cx);
        };
        let Some(tag) = cx
            .service
            .connected(self.call_id(key), ticket, &self.peer, cx.now)
        else {
            return self.end(Closing::Orderly, cx);
        };
        let message_bytes_max = cx.service.message_bytes_max(tag, cx.message_bytes_max);
        let call = Call::new(
            key,
            Kind::Stream(tag),
            message_bytes_max,
            Encoding::Identity,
            None,
        );
        let index = key.index();
        self.calls.resize_with(index + 1, || None);
        self.calls[index] = Some(Box::new(call));
        self.list(key);
    }

    /// The head or the end of the answer to this end's call.
    fn response<S: Service>(&mut self, headers: &HeaderList, ends: bool, cx: &mut Context<'_, S>) {
        if ends || headers.status() != Some(200) {
            let message = headers.get(b"grpc-message").unwrap_or_default();
            tracing::debug!(
                peer = %self.peer.address,
                status = headers.status(),
                message = %message.escape_ascii(),
                "the peer ended the call"
            );
            self.end(Closing::Lost, cx);
        }
    }

    fn call_id(&self, key: StreamKey) -> CallId {
        CallId {
            connection: self.socket.index() as u32,
            stream: key.index() as u32,
        }
    }

    /// Notes that a call has something to send.
    fn list(&mut self, key: StreamKey) {
        if let Some(call) = self.calls.get_mut(key.index()).and_then(Option::as_mut)
            && !std::mem::replace(&mut call.listed, true)
        {
            self.ready.push_back(key);
        }
    }

    fn list_all(&mut self) {
        for call in self.calls.iter_mut().flatten() {
            if !std::mem::replace(&mut call.listed, true) {
                self.ready.push_back(call.key);
            }
        }
    }

    /// The key of the call in an entry.
    fn key(&self, stream: u32) -> Option<StreamKey> {
        Some(self.calls.get(stream as usize)?.as_ref()?.key)
    }

    /// Notes that the call of a service has something to send.
    pub(crate) fn call_ready(&mut self, stream: u32) {
        if let Some(key) = self.key(stream) {
            self.list(key);
        }
    }

    /// Goes on with the input of a call that waits for `cause`.
    pub(crate) fn call_resumed<S: Service>(&mut self, stream: u32, cause: Wait, cx: &mut Context<'_, S>) {
        let Some(call) = self.calls.get_mut(stream as usize).and_then(Option::as_mut) else {
            return;
        };
        if call.waits == Some(cause) {
            let key = call.key;
            let consumed = call.resume(cx.service, cx.now);
            self.http2.release(key, consumed);
            self.charge(key, cx);
            self.list(key);
        }
    }

    /// Calls whose input waits for another core.
    pub(crate) fn congested_calls(&self) -> impl Iterator<Item = u32> + '_ {
        let calls = self.calls.iter().enumerate();
        calls
            .filter(|(_, call)| {
                call.as_ref()
                    .is_some_and(|call| call.waits == Some(Wait::Congestion))
            })
            .map(|(index, _)| index as u32)
    }

    /// The deadline of the call in an entry.
    pub(crate) fn deadline_of(&self, stream: u32) -> Option<Instant> {
        self.calls.get(stream as usize)?.as_ref()?.deadline
    }

    /// Ends a call whose deadline has passed.
    pub(crate) fn call_expired<S: Service>(&mut self, stream: u32, cx: &mut Context<'_, S>) {
        let Some(call) = self.calls.get_mut(stream as usize).and_then(Option::as_mut) else {
            return;
        };
        if call.deadline.is_some_and(|deadline| deadline <= cx.now.mono) {
            let status = Status::new(
                Code::DeadlineExceeded,
                "the deadline of the call (grpc-timeout) has passed",
            );
            call.fail(status, cx.service, cx.now);
            self.call_ready(stream);
        }
    }

    /// Asks calls that wait for news whether there are any.
    pub(crate) fn poll_calls(&mut self) {
        for stream in 0..self.calls.len() {
            if self.calls[stream]
                .as_mut()
                .is_some_and(|call| call.wants_poll() && call.poll())
            {
                self.call_ready(stream as u32);
            }
        }
    }

    /// The peer will send no more, or the connection broke.
    pub(crate) fn peer_ended<S: Service>(&mut self, cx: &mut Context<'_, S>) {
        self.end(Closing::Lost, cx);
        if let Phase::Ending { peer_ended, .. } = &mut self.phase {
            *peer_ended = true;
        }
    }

    /// Ends the connection: all calls are over, what is queued of HTTP/2 control goes out, then it closes.
    pub(crate) fn end<S: Service>(&mut self, how: Closing, cx: &mut Context<'_, S>) {
        if self.phase != Phase::Open {
            return;
        }
        self.phase = Phase::Ending {
            until: cx.now.mono + LINGER,
            peer_ended: false,
            output_ended: false,
        };
        for index in 0..self.calls.len() {
            self.call_over(index, how, cx);
        }
        self.ready.clear();
    }

    fn call_over<S: Service>(&mut self, index: usize, how: Closing, cx: &mut Context<'_, S>) {
        let Some(call) = self.calls.get_mut(index).and_then(Option::take) else {
            return;
        };
        self.input_bytes -= call.charged;
        if let Kind::Stream(tag) = call.kind {
            cx.service.closed(tag, how, cx.now);
        }
    }

    /// Starts an orderly end: no new calls; the connection closes when those it has are over.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
        self.http2.drain();
    }

    /// Asks the service whether the client may stay by its certificate, where other rules came or it is time to; a client that may
    /// not is told to leave. Whether it was asked.
    pub(crate) fn examine<S: Service>(&mut self, rules: u64, cx: &mut Context<'_, S>) -> bool {
        let known = self.examined.rules == rules && cx.now.mono < self.examined.at + EXAMINE_EVERY;
        let leaves = self.phase != Phase::Open || self.leave_by.is_some();
        if known || leaves || self.peer.certificate.is_none() {
            return false;
        }
        self.examined = Examined::at(rules, cx.now.mono);
        if let Err(rejection) = cx.service.admits(&self.peer, cx.now) {
            if self.streams().next().is_none() {
                cx.service.dismissed(&self.peer, &rejection, cx.now);
            }
            self.dismiss(cx.now);
        }
        true
    }

    /// The credential of one of its calls is no longer good, and so is the connection, unless its certificate or another call speaks
    /// for it.
    pub(crate) fn expel<S: Service>(&mut self, cx: &mut Context<'_, S>) {
        let vouched = match &self.peer.certificate {
            Some(_) => cx.service.admits(&self.peer, cx.now).is_ok(),
            None => self.streams().any(|stream| cx.service.vouches(stream)),
        };
        if !vouched && self.phase == Phase::Open && self.leave_by.is_none() {
            self.dismiss(cx.now);
        }
    }

    /// Tells the client to leave.
    fn dismiss(&mut self, now: &Now) {
        tracing::info!(peer = %self.peer.address, "a client whose credential is no longer good is told to leave");
        self.draining = true;
        self.leave_by = Some(now.mono + DISMISSAL);
        self.http2
            .go_away(ErrorCode::NO_ERROR, b"the credential is no longer good");
    }

    /// Its calls that are streams of the service.
    fn streams(&self) -> impl Iterator<Item = StreamTag> + '_ {
        self.calls.iter().flatten().filter_map(|call| match call.kind {
            Kind::Stream(tag) => Some(tag),
            _ => None,
        })
    }

    /// Whether the time is over that a connection that is to leave has.
    pub(crate) fn must_leave(&self, now: Instant) -> bool {
        self.leave_by.is_some_and(|at| at <= now)
    }

    /// Ends what is left of a draining connection: its calls at once, itself a little later, whether its client reads or not.
    pub(crate) fn drain_over<S: Service>(&mut self, cx: &mut Context<'_, S>) {
        match self.leave_by {
            _ if self.phase != Phase::Open => {}
            None => {
                self.leave_by = Some(cx.now.mono + LINGER);
                let status = Status::new(Code::Unavailable, "the gateway is shutting down; connect again");
                for call in self.calls.iter_mut().flatten() {
                    call.fail(status.clone(), cx.service, cx.now);
                }
                self.http2.go_away(ErrorCode::NO_ERROR, b"");
                self.list_all();
            }
            Some(at) if at <= cx.now.mono => self.end(Closing::Lost, cx),
            Some(_) => {}
        }
    }

    /// Does what time asks for. To be called every few hundred milliseconds.
    pub(crate) fn tick<S: Service>(&mut self, cx: &mut Context<'_, S>) {
        if self.phase != Phase::Open {
            return;
        }
        if self
            .http2
            .next_deadline()
            .is_some_and(|deadline| deadline <= cx.now.mono)
            && let Err(error) = self.http2.tick(cx.now.mono)
        {
            tracing::debug!(peer = %self.peer.address, %error, "connection timed out");
            self.end(Closing::Lost, cx);
        }
        self.calls
            .iter_mut()
            .flatten()
            .for_each(|call| call.release_idle());
    }

    /// Ends the connection of a client that has not taken a send for too long.
    pub(crate) fn end_stuck<S: Service>(&mut self, cx: &mut Context<'_, S>) {
        tracing::debug!(peer = %self.peer.address, "a client does not read");
        self.end(Closing::Lost, cx);
    }

    /// Whether the shard must list the connection among those whose input is acknowledged at the end of the turn.
    pub(crate) fn list_for_quickack(&mut self) -> bool {
        self.wants_quickack && !std::mem::replace(&mut self.quickack_listed, true)
    }

    /// The shard has acknowledged what arrived.
    pub(crate) fn quickack_done(&mut self) {
        self.quickack_listed = false;
    }

    /// Whether there may be more than one call.
    pub(crate) fn has_other_calls(&self) -> bool {
        self.calls.len() > 1
    }

    /// Whether calls wait to be flushed.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether the time that an ending connection may take has passed.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Ending { until, .. } if until <= now)
    }

    /// Whether there is something to do for a flush.
    pub(crate) fn wants_flush(&self) -> bool {
        !self.ready.is_empty()
            || self.http2.wants_write()
            || self.tls.as_ref().is_some_and(|tls| tls.wants_write())
            || self.phase != Phase::Open
            || self.draining
    }

    /// Gathers what there is to send, in `buffer`. Nothing may be in flight.
    pub(crate) fn flush<S: Service>(&mut self, buffer: &mut SendBuffer, cx: &mut Context<'_, S>) -> Then {
        if self.draining && self.is_left() {
            self.end(Closing::Orderly, cx);
        }
        let Some(mut tls) = self.tls.take() else {
            self.gather(buffer, cx);
            return self.then(buffer.is_empty());
        };
        if !tls.is_handshaking() {
            let mut plaintext = tls.take_scratch();
            self.gather(&mut plaintext, cx);
            tls.encrypt(plaintext);
        }
        let idle = self.phase != Phase::Open && !self.http2.wants_write();
        if idle {
            tls.close_notify();
        }
        tls.write_to(buffer);
        self.tls = Some(tls);
        self.then(buffer.is_empty())
    }

    /// Whether a draining connection has nothing left to do.
    fn is_left(&self) -> bool {
        self.http2.is_drained() && !self.http2.wants_write() && self.calls.iter().all(Option::is_none)
    }

    fn then(&mut self, nothing_to_send: bool) -> Then {
        match &mut self.phase {
            Phase::Ending { peer_ended: true, .. } if nothing_to_send => Then::Close,
            Phase::Ending { output_ended, .. } if nothing_to_send && !*output_ended => {
                *output_ended = true;
                Then::EndOutput
            }
            _ => Then::Keep,
        }
    }

    fn gather<S: Service>(&mut self, buffer: &mut impl Gather, cx: &mut Context<'_, S>) {
        self.control(buffer);
        // Each call gets its turn; one that could say more goes to the end of the line.
        for _ in 0..self.ready.len() {
            if buffer.len() >= cx.send_bytes_max || buffer.is_full() {
                break;
            }
            let Some(key) = self.ready.pop_front() else { break };
            self.gather_call(key, buffer, cx);
        }
        self.control(buffer);
    }

    /// Control frames, among them headers and trailers.
    fn control(&mut self, buffer: &mut impl Gather) {
        let output = self.http2.output();
        if !output.is_empty() {
            buffer.copy(output);
            if output.capacity() > CONTROL_KEPT_BYTES {
                *output = BytesMut::new()
            } else {
                output.clear()
            }
        }
    }

    fn gather_call<S: Service>(&mut self, key: StreamKey, buffer: &mut impl Gather, cx: &mut Context<'_, S>) {
        let Some(call) = self.calls.get_mut(key.index()).and_then(Option::as_mut) else {
            return;
        };
        call.listed = false;
        loop {
            let room = cx.send_bytes_max.saturating_sub(buffer.len());
            if room == 0 || buffer.is_full() {
                call.listed = true;
                self.ready.push_back(key);
                return;
            }
            let room = room.min(self.http2.send_capacity(key));
            if room == 0 {
                // A window is used up, or there is nothing to send anyway: Writable lists the call again. An end without a
                // body needs no window.
                if call.is_empty(cx.service) || call.must_end(cx.service) {
                    break;
                }
                *cx.credit_stalls += u64::from(!std::mem::replace(&mut call.stalled, true));
                return;
            }
            call.stalled = false;
            let mut pieces = Pieces::new();
            let (mut len, mut drained) = (0, false);
            while len < room && pieces.len() < pieces.inline_size() {
                let Some(piece) = call.pull(room - len, cx.service) else {
                    drained = true;
                    break;
                };
                len += piece.len();
                pieces.push(piece);
            }
            if len == 0 {
                break;
            }
            let end_stream = call.ends_with_body();
            write_frames(&mut self.http2, key, pieces, len, end_stream, buffer, cx.frames);
            if end_stream {
                return self.call_done(key, cx);
            }
            if drained {
                break;
            }
        }
        if call.waits == Some(Wait::Queue) {
            // What its handler had to say is on its way: it may be asked more.
            return self.call_resumed(key.index() as u32, Wait::Queue, cx);
        }
        if let Some(trailers) = call.end(cx.service) {
            if !self.http2.is_server() {
                return self.end(Closing::Orderly, cx);
            }
            send_headers(&mut self.http2, key, &trailers, true);
            self.call_done(key, cx);
        }
    }

    /// The response is complete.
    fn call_done<S: Service>(&mut self, key: StreamKey, cx: &mut Context<'_, S>) {
        let input_ended = self.calls[key.index()]
            .as_ref()
            .is_some_and(|call| call.input_ended);
        self.call_over(key.index(), Closing::Orderly, cx);
        if !input_ended {
            // RFC 9113 section 8.1: the server needs no more of the request.
            self.http2.reset(key, ErrorCode::NO_ERROR);
        }
        self.http2.forget(key);
    }
}

/// Pieces of one body.
type Pieces = smallvec::SmallVec<[Bytes; 16]>;

/// Sends `len` bytes of body in as few DATA frames as the peer allows, of equal length: a short last one would be as dear to the peer as
/// a long one.
fn write_frames(
    http2: &mut ringgate_http2::Connection,
    key: StreamKey,
    pieces: Pieces,
    len: usize,
    end_stream: bool,
    buffer: &mut impl Gather,
    frames: &mut Frames,
) {
    let frame_bytes = len.div_ceil(len.div_ceil(http2.max_frame_size()));
    let mut heads = Heads::new();
    let mut left = len;
    while left > 0 {
        let payload = left.min(frame_bytes);
        left -= payload;
        heads.push(http2.data(key, payload, end_stream && left == 0));
    }
    if let [body] = &pieces[..]
        && buffer.shares()
        && let Some(shared) = frames.shared(&heads, frame_bytes, body)
    {
        return buffer.share_hot(shared);
    }
    let mut pieces = pieces.into_iter();
    let mut piece = Bytes::new();
    for head in heads {
        buffer.copy(&head);
        let mut wanted = frame_bytes;
        while wanted > 0 {
            if piece.is_empty() {
                match pieces.next() {
                    Some(next) => piece = next,
                    None => break,
                }
            }
            let taken = piece.split_to(piece.len().min(wanted));
            wanted -= taken.len();
            buffer.share(taken);
        }
    }
}

/// The call for an answer that is no gRPC, or `None` where its headers are all of it.
fn reply_call(key: StreamKey, reply: Reply) -> (Option<Call>, HeaderList) {
    let body = Bytes::from_static(reply.body);
    let call = (!body.is_empty()).then(|| Call::new(key, Kind::Reply { body }, 0, Encoding::Identity, None));
    (call, reply.headers)
}

fn send_headers(
    http2: &mut ringgate_http2::Connection,
    key: StreamKey,
    headers: &HeaderList,
    end_stream: bool,
) {
    let headers: smallvec::SmallVec<[Header<'_>; 16]> = headers.iter().collect();
    http2.send_headers(key, &headers, end_stream);
}

/// Where bytes to send are gathered: in a send, or in plaintext to encrypt.
pub(crate) trait Gather {
    fn copy(&mut self, bytes: &[u8]);
    fn share(&mut self, bytes: Bytes);
    /// Bytes that other connections send too.
    fn share_hot(&mut self, bytes: Bytes);
    /// Whether what is shared stays shared.
    fn shares(&self) -> bool;
    fn len(&self) -> usize;
    fn is_full(&self) -> bool;
}

impl Gather for SendBuffer {
    fn copy(&mut self, bytes: &[u8]) {
        self.copy(bytes);
    }

    fn share(&mut self, bytes: Bytes) {
        self.share(bytes);
    }

    fn share_hot(&mut self, bytes: Bytes) {
        self.share_hot(bytes);
    }

    fn shares(&self) -> bool {
        true
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn is_full(&self) -> bool {
        self.is_full()
    }
}

impl Gather for Vec<u8> {
    fn copy(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn share(&mut self, bytes: Bytes) {
        self.extend_from_slice(&bytes);
    }

    fn share_hot(&mut self, bytes: Bytes) {
        self.extend_from_slice(&bytes);
    }

    fn shares(&self) -> bool {
        false
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn is_full(&self) -> bool {
        false
    }
}
