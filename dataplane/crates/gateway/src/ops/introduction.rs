//! Introductions: two agents agree on a channel, and get each other's verified credential.
//!
//! The introducer's core numbers the introduction, keeps its deadline and has the last word: a channel is open when it has taken
//! the acceptance. The number names the channel too.

use crate::hash::Seed;
use bytes::Bytes;
use ringgate_policy::{AgentName, Permission};

use crate::action::{Accept, Introduce, Reject, To};
use crate::code::Code;
use crate::core_message::{Body, Introduced};
use crate::follow::Role;
use crate::gateway::{Gateway, Numbered, RUN_DIALECT, encode};
use crate::ids::{Address, Now, SessionId};
use crate::ops::rights::Ask;
use crate::ops::target::channel_name;
use crate::outgoing::{Dialect, Encoder, Outgoing};
use crate::refusal::Refusal;
use crate::session::{Channel, Invitation, after};
use crate::stats::Said;
use crate::timers::Timer;

/// Introductions of this core's sessions that wait for an answer, by number.
#[derive(Debug)]
pub(crate) struct Introductions(Numbered<Pending>);

#[derive(Debug)]
struct Pending {
    introducer: SessionId,
    id: u64,
    peer: Address,
    name: AgentName,
    dialect: Dialect,
    timeout_ms: u64,
}

impl Introductions {
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
    pub(crate) fn introduce<E: Encoder>(
        &mut self,
        id: SessionId,
        introduce: &Introduce<'_>,
        now: &Now,
        enc: &mut E,
    ) {
        if let Err(refusal) = self.try_introduce(id, introduce, now, enc) {
            self.refuse(id, introduce.id, &refusal, enc);
        }
    }

    fn try_introduce<E: Encoder>(
        &mut self,
        id: SessionId,
        introduce: &Introduce<'_>,
        now: &Now,
        enc: &mut E,
    ) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get(id) else {
            return Ok(());
        };
        let Some(card) = session.card.clone() else {
            return Ok(());
        };
        let waiting = &session.calls.introductions;
        if waiting.contains_key(&introduce.id) {
            let message = format!("introduction {} is in flight; choose another id", introduce.id);
            return Err(Refusal::new(Code::AlreadyExists, message));
        }
        self.check_introductions(waiting.len())?;
        self.check_channels(session.calls.channels.len())?;
        let ask: Ask = |to| Permission::Introduce(to);
        self.permit_target(id, ask, &introduce.target)?;
        let chosen = self.resolve(&card, id, ask, &introduce.target)?;
        let name = match (chosen.agent, introduce.target.to) {
            (Some(agent), _) => self.directory.card(agent).name.clone(),
            (None, To::Channel(text)) => self.channel(id, text)?.name.clone(),
            (None, _) => return Err(Refusal::new(Code::Internal, "the peer has no name")),
        };
        let number = self.next_number();
        let timeout_ms = self.timeout_ms(introduce.timeout_ms);
        let message = Outgoing::Introduce {
            body: introduce.body,
            source: card.name.as_str(),
            introduction: number,
            credential: card.identity.credential(),
        };
        let frame = encode(chosen.dialect, &message, enc);
        if let Some(session) = self.sessions.get_mut(id) {
            session.calls.introductions.insert(introduce.id, number);
        }
        let pending = Pending {
            introducer: id,
            id: introduce.id,
            peer: chosen.address,
            name,
            dialect: chosen.dialect,
            timeout_ms,
        };
        self.introductions.0.insert(number, pending);
        self.note_number(id, introduce.id, Role::Asked);
        self.timers
            .set(after(now, timeout_ms), Timer::Introduction(number));
        let introduced = Introduced {
            to: chosen.address.session,
            number,
            introducer: self.address(id),
            id: introduce.id,
            source: card.name.clone(),
            identity: card.identity.clone(),
            dialect: card.dialect,
            frame,
        };
        self.send(chosen.address.core, Body::Introduce(Box::new(introduced)));
        Ok(())
    }

    fn check_introductions(&self, waiting: usize) -> Result<(), Refusal> {
        if (waiting as u64) < self.limits.introductions_max {
            return Ok(());
        }
        let message = format!(
            "{waiting} introductions wait, as many as limits.introductions_max allows; wait for answers"
        );
        Err(Refusal::retryable(Code::ResourceExhausted, message))
    }

    fn check_channels(&self, open: usize) -> Result<(), Refusal> {
        if (open as u64) < self.limits.channels_max {
            return Ok(());
        }
        let message = format!("{open} channels are open, as many as limits.channels_max allows");
        Err(Refusal::new(Code::ResourceExhausted, message))
    }

    /// At the peer's core.
    pub(crate) fn introduced(&mut self, introduced: Introduced) {
        let Introduced {
            to,
            number,
            introducer,
            id,
            source,
            identity,
            dialect,
            frame,
        } = introduced;
        let refusal = match self.check_peer(to) {
            Ok(()) => {
                if let Some(session) = self.sessions.get_mut(to) {
                    let invitation = Invitation {
                        introducer,
                        id,
                        source,
                        identity,
                        dialect,
                        accepted: false,
                    };
                    session.calls.invitations.insert(number, invitation);
                }
                self.sessions.ledger.stats.count_said(Said::Introduce);
                self.note_number(to, number, Role::Answers);
                return self.queue_frame(to, frame);
            }
            Err(refusal) => Box::new(refusal),
        };
        self.send(introducer.core, Body::IntroductionFailed { number, refusal });
    }

    fn check_peer(&self, to: SessionId) -> Result<(), Refusal> {
        match self.sessions.get(to) {
            Some(session) if self.reachable(to) => {
                self.check_introductions(session.calls.invitations.len())?;
                self.check_channels(session.calls.channels.len())?;
                self.check_backlog(to)
            }
            _ => Err(Refusal::retryable(
                Code::Unavailable,
                "the peer has just left; try again or ask another",
            )),
        }
    }

    pub(crate) fn accept<E: Encoder>(&mut self, id: SessionId, accept: &Accept<'_>, enc: &mut E) {
        let number = accept.introduction;
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let Some(card) = session.card.clone() else { return };
        let Some(invitation) = session
            .calls
            .invitations
            .get_mut(&number)
            .filter(|invitation| !invitation.accepted)
        else {
            return self.unknown_introduction(id, number, enc);
        };
        invitation.accepted = true;
        let (introducer, dialect, introduction) = (invitation.introducer, invitation.dialect, invitation.id);
        let connected = Outgoing::Connected {
            body: accept.body,
            id: introduction,
            introduction: 0,
            channel: &channel_name(number),
            source: card.name.as_str(),
            credential: card.identity.credential(),
        };
        let frame = encode(dialect, &connected, enc);
        self.send(introducer.core, Body::Accepted { number, frame });
    }

    /// At the introducer's core: the channel is open.
    pub(crate) fn accepted(&mut self, number: u64, frame: Bytes) {
        let Some(pending) = self.finish_introduction(number) else {
            return;
        };
        if let Some(session) = self.sessions.get_mut(pending.introducer) {
            let channel = Channel {
                peer: pending.peer,
                name: pending.name,
                dialect: pending.dialect,
            };
            session.calls.channels.insert(number, channel);
        }
        self.sessions.ledger.stats.count_said(Said::Connected);
        self.queue_frame(pending.introducer, frame);
        self.send(
            pending.peer.core,
            Body::ChannelOpen {
                to: pending.peer.session,
                number,
            },
        );
    }

    /// At the peer's core.
    pub(crate) fn channel_opened<E: Encoder>(&mut self, to: SessionId, number: u64, enc: &mut E) {
        let Some(session) = self.sessions.get_mut(to) else {
            return;
        };
        let Some(invitation) = session.calls.invitations.remove(&number) else {
            return;
        };
        // An agent that is introduced to itself has its end already.
        let channel = Channel {
            peer: invitation.introducer,
            name: invitation.source.clone(),
            dialect: invitation.dialect,
        };
        session.calls.channels.insert(number, channel);
        let connected = Outgoing::Connected {
            body: &[],
            id: 0,
            introduction: number,
            channel: &channel_name(number),
            source: invitation.source.as_str(),
            credential: invitation.identity.credential(),
        };
        self.say(to, &connected, enc);
    }

    pub(crate) fn reject<E: Encoder>(&mut self, id: SessionId, reject: &Reject<'_>, enc: &mut E) {
        let number = reject.introduction;
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let Some(card) = session.card.clone() else { return };
        let open = session
            .calls
            .invitations
            .get(&number)
            .is_some_and(|invitation| !invitation.accepted);
        let Some(invitation) = open.then(|| session.calls.invitations.remove(&number)).flatten() else {
            return self.unknown_introduction(id, number, enc);
        };
        self.recent.note(id, number);
        let rejected = Outgoing::Rejected {
            body: reject.body,
            id: invitation.id,
            source: card.name.as_str(),
        };
        let frame = encode(RUN_DIALECT, &rejected, enc);
        self.send(invitation.introducer.core, Body::Rejected { number, frame });
    }

    /// At the introducer's core.
    pub(crate) fn rejected(&mut self, number: u64, frame: Bytes) {
        if let Some(pending) = self.finish_introduction(number) {
            self.sessions.ledger.stats.count_said(Said::Rejected);
            self.queue_frame(pending.introducer, frame);
        }
    }

    /// At the introducer's core: there will be no answer.
    pub(crate) fn introduction_failed<E: Encoder>(&mut self, number: u64, refusal: &Refusal, enc: &mut E) {
        if let Some(pending) = self.finish_introduction(number) {
            self.refuse(pending.introducer, pending.id, refusal, enc);
        }
    }

    pub(crate) fn introduction_expired<E: Encoder>(&mut self, number: u64, enc: &mut E) {
        let Some(pending) = self.finish_introduction(number) else {
            return;
        };
        self.tell_introduction_cancelled(number, pending.peer);
        let message = format!(
            "the peer did not answer within {} ms; allow more time (timeout_ms)",
            pending.timeout_ms
        );
        let refusal = Refusal::retryable(Code::DeadlineExceeded, message);
        self.refuse(pending.introducer, pending.id, &refusal, enc);
    }

    pub(crate) fn cancel_introduction<E: Encoder>(&mut self, id: SessionId, introduction: u64, enc: &mut E) {
        let number = self
            .sessions
            .get(id)
            .and_then(|session| session.calls.introductions.get(&introduction).copied());
        // An answer that crosses the cancel was the end of it.
        let Some(number) = number else { return };
        self.abandon_introduction(number);
        let refusal = Refusal::new(Code::Cancelled, "the introduction was cancelled");
        self.refuse(id, introduction, &refusal, enc);
    }

    /// The introducer no longer waits.
    pub(crate) fn abandon_introduction(&mut self, number: u64) {
        if let Some(pending) = self.finish_introduction(number) {
            self.tell_introduction_cancelled(number, pending.peer);
        }
    }

    fn tell_introduction_cancelled(&mut self, number: u64, peer: Address) {
        self.send(
            peer.core,
            Body::CancelIntroduction {
                to: peer.session,
                number,
            },
        );
    }

    /// At the peer's core.
    pub(crate) fn introduction_cancelled<E: Encoder>(&mut self, id: SessionId, number: u64, enc: &mut E) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        if session.calls.invitations.remove(&number).is_some() {
            self.recent.note(id, number);
            self.say(id, &Outgoing::CancelIntroduction { introduction: number }, enc);
        }
    }

    /// One end of a channel is gone, and with it the channel.
    pub(crate) fn channel_closed(&mut self, to: SessionId, number: u64) {
        if let Some(session) = self.sessions.get_mut(to) {
            session.calls.channels.remove(&number);
        }
    }

    fn finish_introduction(&mut self, number: u64) -> Option<Pending> {
        let pending = self.introductions.0.remove(&number)?;
        self.timers.note_unwanted();
        if let Some(session) = self.sessions.get_mut(pending.introducer) {
            session.calls.introductions.remove(&pending.id);
        }
        Some(pending)
    }

    fn unknown_introduction<E: Encoder>(&mut self, id: SessionId, number: u64, enc: &mut E) {
        if !self.recent.contains(id, number) {
            let message = format!(
                "there is no introduction {number} to answer; take the number from Introduce.introduction"
            );
            self.refuse(id, number, &Refusal::new(Code::NotFound, message), enc);
        }
    }
}
