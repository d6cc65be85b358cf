//! Streams: continuous data between two agents, with credit for each direction.
//!
//! The opener numbers the stream for itself (odd), the gateway for the acceptor (even, unique in the node); each end knows the
//! other's number, so that a chunk takes one look-up. A close from either end ends the stream for both.

use bytes::Bytes;
use ringgate_policy::Permission;

use crate::action::{Chunk, StreamClose, StreamOpen, To};
use crate::code::Code;
use crate::core_message::{Body, StreamOpened};
use crate::follow::Role;
use crate::gateway::{Gateway, RUN_DIALECT, encode};
use crate::ids::SessionId;
use crate::ops::rights::{Ask, named};
use crate::outgoing::{Encoder, Outgoing};
use crate::refusal::Refusal;
use crate::session::{AskedFor, StreamEnd};
use crate::stats::Said;

impl Gateway {
    pub(crate) fn stream_open<E: Encoder>(&mut self, id: SessionId, open: &StreamOpen<'_>, enc: &mut E) {
        if let Err(refusal) = self.try_stream_open(id, open, enc) {
            self.refuse(id, open.stream, &refusal, enc);
        }
    }

    fn try_stream_open<E: Encoder>(
        &mut self,
        id: SessionId,
        open: &StreamOpen<'_>,
        enc: &mut E,
    ) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get(id) else {
            return Ok(());
        };
        let Some(card) = session.card.clone() else {
            return Ok(());
        };
        if open.stream.is_multiple_of(2) {
            let message = format!(
                "stream {}: an agent numbers its streams with odd numbers",
                open.stream
            );
            return Err(Refusal::invalid(message));
        }
        if session.calls.streams.contains_key(&open.stream) {
            let message = format!("stream {} is open; choose another odd number", open.stream);
            return Err(Refusal::new(Code::AlreadyExists, message));
        }
        self.check_streams(session.calls.streams.len())?;
        let ask: Ask = |to| Permission::Stream(to);
        self.permit_target(id, ask, &open.target)?;
        let target = match open.target.to {
            To::Channel(text) => self.channel(id, text)?.name.as_str().into(),
            _ => named(&open.target).into(),
        };
        let chosen = self.resolve(&card, id, ask, &open.target)?;
        let asked = AskedFor {
            target,
            member: match open.target.to {
                To::Service(_) | To::Capability(_) => {
                    chosen.agent.map(|agent| self.directory.card(agent).name.clone())
                }
                To::Agent(_) | To::Channel(_) => None,
            },
        };
        let number = self.next_number() * 2;
        let message = Outgoing::StreamOpen {
            body: open.body,
            stream: number,
            source: card.name.as_str(),
        };
        let frame = encode(chosen.dialect, &message, enc);
        if let Some(session) = self.sessions.get_mut(id) {
            let end = StreamEnd {
                peer: chosen.address,
                peer_number: number,
                credit: 0,
                asked: Some(asked),
            };
            session.calls.streams.insert(open.stream, end);
        }
        self.note_number(id, open.stream, Role::Stream);
        let opened = StreamOpened {
            to: chosen.address.session,
            number,
            opener: self.address(id),
            opener_number: open.stream,
            credit: open.credit_bytes,
            frame,
        };
        self.send(chosen.address.core, Body::StreamOpen(Box::new(opened)));
        Ok(())
    }

    fn check_streams(&self, open: usize) -> Result<(), Refusal> {
        if (open as u64) < self.limits.streams_max {
            return Ok(());
        }
        let message = format!("{open} streams are open, as many as limits.streams_max allows; close some");
        Err(Refusal::retryable(Code::ResourceExhausted, message))
    }

    /// At the acceptor's core.
    pub(crate) fn stream_opened(&mut self, opened: StreamOpened) {
        let StreamOpened {
            to,
            number,
            opener,
            opener_number,
            credit,
            frame,
        } = opened;
        let refusal = match self.check_acceptor(to) {
            Ok(()) => {
                if let Some(session) = self.sessions.get_mut(to) {
                    let end = StreamEnd {
                        peer: opener,
                        peer_number: opener_number,
                        credit,
                        asked: None,
                    };
                    session.calls.streams.insert(number, end);
                }
                self.sessions.ledger.stats.count_said(Said::StreamOpen);
                self.note_number(to, number, Role::Stream);
                return self.queue_frame(to, frame);
            }
            Err(refusal) => refusal,
        };
        let refused = Body::StreamRefused {
            to: opener.session,
            number: opener_number,
            peer_number: number,
            refusal: Box::new(refusal),
        };
        self.send(opener.core, refused);
    }

    fn check_acceptor(&self, to: SessionId) -> Result<(), Refusal> {
        match self.sessions.get(to) {
            Some(session) if self.reachable(to) => {
                self.check_streams(session.calls.streams.len())?;
                self.check_backlog(to)
            }
            _ => Err(Refusal::retryable(
                Code::Unavailable,
                "the peer has just left; try again or ask another",
            )),
        }
    }

    /// At the opener's core: the acceptor could not take it.
    pub(crate) fn stream_refused<E: Encoder>(
        &mut self,
        id: SessionId,
        number: u64,
        peer_number: u64,
        refusal: &Refusal,
        enc: &mut E,
    ) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        if session
            .calls
            .streams
            .get(&number)
            .is_some_and(|end| end.peer_number == peer_number)
        {
            session.calls.streams.remove(&number);
            self.recent.note(id, number);
            self.refuse(id, number, refusal, enc);
        }
    }

    pub(crate) fn chunk<E: Encoder>(&mut self, id: SessionId, chunk: &Chunk<'_>, enc: &mut E) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let Some(end) = session.calls.streams.get_mut(&chunk.stream) else {
            return self.unknown_stream(id, chunk.stream, enc);
        };
        if chunk.payload_bytes > end.credit {
            let message = format!(
                "stream {}: a chunk of {} bytes exceeds the {} bytes of credit left; wait for StreamCredit",
                chunk.stream, chunk.payload_bytes, end.credit
            );
            let refusal = Refusal::new(Code::ResourceExhausted, message);
            let why = "the peer broke the stream's rules";
            return self.break_stream(id, chunk.stream, &refusal, why, enc);
        }
        end.credit -= chunk.payload_bytes;
        let (peer, number) = (end.peer, end.peer_number);
        let frame = encode(
            RUN_DIALECT,
            &Outgoing::Chunk {
                body: chunk.body,
                stream: number,
            },
            enc,
        );
        if peer.core == self.core {
            // Most chunks, and nothing else can be on its way: the queue of this core's own messages is empty here.
            return self.chunk_arrived(peer.session, number, frame);
        }
        self.send(
            peer.core,
            Body::Chunk {
                to: peer.session,
                number,
                frame,
            },
        );
    }

    /// At the receiver's core.
    pub(crate) fn chunk_arrived(&mut self, to: SessionId, number: u64, frame: Bytes) {
        let Some(session) = self.sessions.get(to) else {
            return;
        };
        let Some(end) = session.calls.streams.get(&number) else {
            return;
        };
        let (peer, peer_number) = (end.peer, end.peer_number);
        match self.check_backlog(to) {
            Ok(()) => {
                self.sessions.ledger.stats.count_said(Said::Chunk);
                self.queue_frame(to, frame)
            }
            Err(refusal) => {
                // The receiver granted more credit than it reads: neither end can go on.
                self.recent.note(to, number);
                if let Some(session) = self.sessions.get_mut(to) {
                    session.calls.streams.remove(&number);
                }
                let overrun = Body::StreamEnded {
                    to: peer.session,
                    number: peer_number,
                    code: Code::ResourceExhausted,
                    message: refusal.message.into(),
                };
                self.send(peer.core, overrun);
                let ended = Body::StreamEndedHere { to, number };
                self.send(self.core, ended);
            }
        }
    }

    /// Ends a stream for both ends, whose first is told by an Error.
    pub(crate) fn break_stream<E: Encoder>(
        &mut self,
        id: SessionId,
        number: u64,
        refusal: &Refusal,
        why: &str,
        enc: &mut E,
    ) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let Some(end) = session.calls.streams.remove(&number) else {
            return;
        };
        self.recent.note(id, number);
        let ended = Body::StreamEnded {
            to: end.peer.session,
            number: end.peer_number,
            code: refusal.code,
            message: why.into(),
        };
        self.send(end.peer.core, ended);
        self.refuse(id, number, refusal, enc);
    }

    pub(crate) fn stream_close<E: Encoder>(&mut self, id: SessionId, close: &StreamClose<'_>, enc: &mut E) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let Some(end) = session.calls.streams.remove(&close.stream) else {
            return self.unknown_stream(id, close.stream, enc);
        };
        self.recent.note(id, close.stream);
        let message = Outgoing::StreamClose {
            body: close.body,
            stream: end.peer_number,
        };
        let frame = encode(RUN_DIALECT, &message, enc);
        let body = Body::StreamClose {
            to: end.peer.session,
            number: end.peer_number,
            frame,
        };
        self.send(end.peer.core, body);
    }

    /// At the receiver's core.
    pub(crate) fn stream_closed(&mut self, to: SessionId, number: u64, frame: Bytes) {
        if self.forget_stream(to, number) {
            self.sessions.ledger.stats.count_said(Said::StreamClose);
            self.queue_frame(to, frame);
        }
    }

    /// At the receiver's core: the gateway ended it.
    pub(crate) fn stream_ended<E: Encoder>(
        &mut self,
        to: SessionId,
        number: u64,
        code: Code,
        message: &str,
        enc: &mut E,
    ) {
        if self.forget_stream(to, number) {
            self.say(
                to,
                &Outgoing::StreamEnded {
                    stream: number,
                    code,
                    message,
                },
                enc,
            );
        }
    }

    /// The stream's end here is gone already; its agent is told.
    pub(crate) fn stream_ended_here<E: Encoder>(&mut self, to: SessionId, number: u64, enc: &mut E) {
        let message = "more was sent on the credit given than was read; grant less credit, or read faster";
        self.say(
            to,
            &Outgoing::StreamEnded {
                stream: number,
                code: Code::ResourceExhausted,
                message,
            },
            enc,
        );
    }

    fn forget_stream(&mut self, id: SessionId, number: u64) -> bool {
        let known = self
            .sessions
            .get_mut(id)
            .is_some_and(|session| session.calls.streams.remove(&number).is_some());
        if known {
            self.recent.note(id, number);
        }
        known
    }

    pub(crate) fn stream_credit<E: Encoder>(&mut self, id: SessionId, number: u64, bytes: u64, enc: &mut E) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let Some(end) = session.calls.streams.get(&number) else {
            return self.unknown_stream(id, number, enc);
        };
        let body = Body::StreamCredit {
            to: end.peer.session,
            number: end.peer_number,
            bytes,
        };
        let core = end.peer.core;
        self.send(core, body);
    }

    /// At the sender's core: it may send more.
    pub(crate) fn credit_granted<E: Encoder>(&mut self, to: SessionId, number: u64, bytes: u64, enc: &mut E) {
        let Some(session) = self.sessions.get_mut(to) else {
            return;
        };
        if let Some(end) = session.calls.streams.get_mut(&number) {
            end.credit = end.credit.saturating_add(bytes);
            self.say(
                to,
                &Outgoing::StreamCredit {
                    stream: number,
                    bytes,
                },
                enc,
            );
        }
    }

    /// A message that crosses the end of its stream is not an error.
    fn unknown_stream<E: Encoder>(&mut self, id: SessionId, number: u64, enc: &mut E) {
        if !self.recent.contains(id, number) {
            let message = format!("there is no stream {number}; open one first");
            self.refuse(id, number, &Refusal::new(Code::NotFound, message), enc);
        }
    }
}
