//! Request and response: a call to one agent.
//!
//! The requester's core numbers the request, encodes it, keeps the deadline and has the last word on how it ended; the responder's
//! core knows who may answer. Whatever happens, the requester gets exactly one Deliver or Error for each request.

use crate::hash::Seed;
use bytes::Bytes;
use ringgate_policy::Permission;

use crate::action::{Request, Response};
use crate::code::Code;
use crate::core_message::Body;
use crate::follow::Role;
use crate::gateway::{Gateway, Numbered, RUN_DIALECT, encode};
use crate::ids::{Address, Now, SessionId};
use crate::ops::rights::Ask;
use crate::outgoing::{Encoder, Outgoing};
use crate::refusal::Refusal;
use crate::session::{Inbound, Stage, after};
use crate::stats::Said;
use crate::timers::Timer;

/// Requests of this core's sessions that wait for a response, by number.
#[derive(Debug)]
pub(crate) struct Requests(Numbered<Outbound>);

#[derive(Debug)]
struct Outbound {
    requester: SessionId,
    id: u64,
    responder: Address,
    agent: Option<u32>,
    timeout_ms: u64,
}

impl Requests {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Numbered::with_hasher(Seed::new(seed)))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.0.contains_key(&number)
    }
}

impl Gateway {
    pub(crate) fn request<E: Encoder>(
        &mut self,
        id: SessionId,
        request: &Request<'_>,
        now: &Now,
        enc: &mut E,
    ) {
        if let Err(refusal) = self.try_request(id, request, now, enc) {
            self.refuse(id, request.id, &refusal, enc);
        }
    }

    fn try_request<E: Encoder>(
        &mut self,
        id: SessionId,
        request: &Request<'_>,
        now: &Now,
        enc: &mut E,
    ) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get(id) else {
            return Ok(());
        };
        let Some(card) = session.card.clone() else {
            return Ok(());
        };
        let in_flight = &session.calls.requests;
        if in_flight.contains_key(&request.id) {
            let message = format!("request {} is in flight; choose another id", request.id);
            return Err(Refusal::new(Code::AlreadyExists, message));
        }
        if in_flight.len() as u64 >= self.limits.requests_in_flight_max {
            let message = format!(
                "{} requests are in flight, as many as limits.requests_in_flight_max allows; wait for responses",
                in_flight.len()
            );
            return Err(Refusal::retryable(Code::ResourceExhausted, message));
        }
        let ask: Ask = |to| Permission::Request(to);
        self.permit_target(id, ask, &request.target)?;
        let chosen = self.resolve(&card, id, ask, &request.target)?;
        let number = self.next_number();
        let timeout_ms = self.timeout_ms(request.timeout_ms);
        let forward = Outgoing::Forward {
            body: request.body,
            source: card.name.as_str(),
            request: number,
            deadline_unix_nanos: now.unix_nanos.saturating_add(timeout_ms * 1_000_000),
        };
        let frame = encode(chosen.dialect, &forward, enc);
        if let Some(agent) = chosen
            .agent
            .and_then(|agent| self.directory.get_mut(agent, chosen.address))
        {
            agent.outstanding += 1;
        }
        if let Some(session) = self.sessions.get_mut(id) {
            session.calls.requests.insert(request.id, number);
        }
        let outbound = Outbound {
            requester: id,
            id: request.id,
            responder: chosen.address,
            agent: chosen.agent,
            timeout_ms,
        };
        self.requests.0.insert(number, outbound);
        self.note_number(id, request.id, Role::Asked);
        self.timers.set(after(now, timeout_ms), Timer::Request(number));
        let requester = self.address(id);
        let to = chosen.address.session;
        self.send(
            chosen.address.core,
            Body::Forward {
                to,
                number,
                requester,
                id: request.id,
                frame,
            },
        );
        Ok(())
    }

    /// How long a request or introduction may wait.
    pub(crate) fn timeout_ms(&self, asked: u32) -> u64 {
        match asked {
            0 => self.limits.request_timeout_ms_default,
            asked => u64::from(asked).min(self.limits.request_timeout_ms_max),
        }
    }

    /// At the responder's core.
    pub(crate) fn forwarded(&mut self, to: SessionId, number: u64, inbound: Inbound, frame: Bytes) {
        let requester = inbound.requester;
        let refusal = match self.sessions.get(to) {
            Some(_) if self.reachable(to) => match self.check_backlog(to) {
                Ok(()) => {
                    if let Some(session) = self.sessions.get_mut(to) {
                        session.calls.inbound.insert(number, inbound);
                    }
                    self.sessions.ledger.stats.count_said(Said::Forward);
                    self.note_number(to, number, Role::Answers);
                    return self.queue_frame(to, frame);
                }
                Err(refusal) => refusal,
            },
            _ => Refusal::retryable(
                Code::Unavailable,
                "the responder has just left; try again or ask another",
            ),
        };
        self.send(
            requester.core,
            Body::RequestFailed {
                number,
                refusal: Box::new(refusal),
            },
        );
    }

    pub(crate) fn respond<E: Encoder>(&mut self, id: SessionId, response: &Response<'_>, enc: &mut E) {
        let number = response.request;
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let Some(card) = session.card.clone() else { return };
        let Some(inbound) = session.calls.inbound.remove(&number) else {
            if !self.recent.contains(id, number) {
                let message =
                    format!("there is no request {number} to answer; take the number from Forward.request");
                self.refuse(id, number, &Refusal::new(Code::NotFound, message), enc);
            }
            return;
        };
        self.recent.note(id, number);
        let deliver = Outgoing::Deliver {
            body: response.body,
            id: inbound.id,
            source: card.name.as_str(),
        };
        let frame = encode(RUN_DIALECT, &deliver, enc);
        self.send(inbound.requester.core, Body::Deliver { number, frame });
    }

    /// At the requester's core: the answer.
    pub(crate) fn delivered<E: Encoder>(&mut self, number: u64, frame: Bytes, enc: &mut E) {
        let Some(outbound) = self.finish_request(number) else {
            return;
        };
        match self.check_backlog(outbound.requester) {
            Ok(()) => {
                self.sessions.ledger.stats.count_said(Said::Deliver);
                self.queue_frame(outbound.requester, frame)
            }
            Err(refusal) => self.refuse(outbound.requester, outbound.id, &refusal, enc),
        }
    }

    /// At the requester's core: there will be no answer.
    pub(crate) fn request_failed<E: Encoder>(&mut self, number: u64, refusal: &Refusal, enc: &mut E) {
        if let Some(outbound) = self.finish_request(number) {
            self.refuse(outbound.requester, outbound.id, refusal, enc);
        }
    }

    pub(crate) fn request_expired<E: Encoder>(&mut self, number: u64, enc: &mut E) {
        let Some(outbound) = self.finish_request(number) else {
            return;
        };
        self.tell_cancelled(number, outbound.responder);
        let message = format!(
            "no response came within {} ms; allow more time (timeout_ms) or ask another",
            outbound.timeout_ms
        );
        let refusal = Refusal::retryable(Code::DeadlineExceeded, message);
        self.refuse(outbound.requester, outbound.id, &refusal, enc);
    }

    pub(crate) fn cancel_request<E: Encoder>(&mut self, id: SessionId, request: u64, enc: &mut E) {
        let number = self
            .sessions
            .get(id)
            .and_then(|session| session.calls.requests.get(&request).copied());
        // A response that crosses the cancel was the end of the request: there is nothing left to say.
        let Some(number) = number else { return };
        self.abandon_request(number);
        let refusal = Refusal::new(Code::Cancelled, "the request was cancelled");
        self.refuse(id, request, &refusal, enc);
    }

    /// The requester no longer waits.
    pub(crate) fn abandon_request(&mut self, number: u64) {
        if let Some(outbound) = self.finish_request(number) {
            self.tell_cancelled(number, outbound.responder);
        }
    }

    fn tell_cancelled(&mut self, number: u64, responder: Address) {
        self.send(
            responder.core,
            Body::CancelRequest {
                to: responder.session,
                number,
            },
        );
    }

    /// At the responder's core.
    pub(crate) fn request_cancelled<E: Encoder>(&mut self, id: SessionId, number: u64, enc: &mut E) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        if session.calls.inbound.remove(&number).is_some() {
            self.recent.note(id, number);
            self.say(id, &Outgoing::CancelRequest { request: number }, enc);
        }
    }

    fn finish_request(&mut self, number: u64) -> Option<Outbound> {
        let outbound = self.requests.0.remove(&number)?;
        self.timers.note_unwanted();
        if let Some(agent) = outbound
            .agent
            .and_then(|agent| self.directory.get_mut(agent, outbound.responder))
        {
            agent.outstanding = agent.outstanding.saturating_sub(1);
        }
        if let Some(session) = self.sessions.get_mut(outbound.requester) {
            session.calls.requests.remove(&outbound.id);
        }
        Some(outbound)
    }

    /// Whether a message from another may be queued for a session: it must be there, or about to be.
    pub(crate) fn reachable(&self, id: SessionId) -> bool {
        self.sessions
            .get(id)
            .is_some_and(|session| matches!(session.stage, Stage::Active | Stage::Claiming))
    }
}
