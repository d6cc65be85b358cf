//! The end of a stream, and of a session: nothing is left behind.

use std::sync::Arc;

use crate::code::Code;
use crate::core_message::Body;
use crate::effect::{Closing, Effect};
use crate::gateway::Gateway;
use crate::ids::{Now, SessionId};
use crate::outgoing::Encoder;
use crate::refusal::Refusal;
use crate::session::{Pauses, Stage, after};
use crate::timers::Timer;

impl Gateway {
    pub(crate) fn close_stream<E: Encoder>(&mut self, id: SessionId, how: Closing, now: &Now, enc: &mut E) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        match session.stage {
            Stage::Opened | Stage::Ending => self.sessions.remove(id),
            // What is under way for it comes to an end first.
            Stage::Claiming | Stage::Departing => session.stream_gone = true,
            Stage::Active if how == Closing::Lost => self.lose(id, now, enc),
            Stage::Active => {
                self.retire(id, enc);
                self.sessions.remove(id);
            }
            Stage::Detached => {}
        }
    }

    /// The stream of a registered session was lost: it may be resumed for a while.
    pub(crate) fn lose<E: Encoder>(&mut self, id: SessionId, now: &Now, enc: &mut E) {
        if self.limits.resume_grace_ms == 0 {
            self.retire(id, enc);
            return self.sessions.remove(id);
        }
        self.leave_stream(id);
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        session.stage = Stage::Detached;
        session.stream_gone = false;
        session.pauses = Pauses::default();
        let Some(card) = session.card.clone() else { return };
        self.timers
            .set(after(now, self.limits.resume_grace_ms), Timer::Grace(id));
        let home = self.home_of(card.name.as_str());
        self.send(
            home,
            Body::NameDetached {
                name: Arc::clone(card.name.shared()),
                session: id,
            },
        );
    }

    /// What a session has to do with others ends with its stream; its subscriptions and what waits for them stay.
    pub(crate) fn leave_stream(&mut self, id: SessionId) {
        self.end_calls(id);
        self.leave_directory(id);
        if let Some((session, ledger)) = self.sessions.at(id.index) {
            session.queue.detach(ledger);
            session.last = None;
        }
    }

    pub(crate) fn grace_over<E: Encoder>(&mut self, id: SessionId, enc: &mut E) {
        if self
            .sessions
            .get(id)
            .is_some_and(|session| session.stage == Stage::Detached)
        {
            self.retire(id, enc);
            self.sessions.remove(id);
        }
    }

    /// The gateway ends a stream, and says why.
    pub(crate) fn end<E: Encoder>(&mut self, id: SessionId, refusal: Refusal, enc: &mut E) {
        self.end_with(id, refusal, false, enc);
    }

    /// As [`end`](Self::end); `expelled`: because the credential is no longer good.
    pub(crate) fn end_with<E: Encoder>(
        &mut self,
        id: SessionId,
        refusal: Refusal,
        expelled: bool,
        enc: &mut E,
    ) {
        self.retire(id, enc);
        self.refuse(id, 0, &refusal, enc);
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        session.stage = Stage::Ending;
        session.pauses = Pauses::default();
        self.push_effect(Effect::End {
            session: id,
            code: refusal.code,
            message: refusal.message.into_owned(),
            expelled,
        });
    }

    /// A `DISCONNECT` subscription reached its bound.
    pub(crate) fn end_overflowed<E: Encoder>(&mut self, id: SessionId, subscription: u64, enc: &mut E) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let Some(lane) = session.subscriptions.get(&subscription) else {
            return;
        };
        let bound = session.queue.lanes[*lane as usize].bound;
        match session.stage {
            Stage::Active => {
                self.retire(id, enc);
                // It does not read: what waits would not reach it.
                if let Some((session, ledger)) = self.sessions.at(id.index) {
                    session.queue.clear_waiting(ledger);
                }
                let message = format!(
                    "subscription {subscription} (DISCONNECT) reached its bound of {bound} bytes; read faster, or ask for more queue_bytes"
                );
                self.end(id, Refusal::retryable(Code::ResourceExhausted, message), enc);
            }
            // It is told as soon as it is told that it is registered.
            Stage::Claiming => session.overflowed = Some(subscription),
            Stage::Detached => {
                self.retire(id, enc);
                self.sessions.remove(id);
            }
            Stage::Opened | Stage::Departing | Stage::Ending => {}
        }
    }

    /// Takes a session out of everything but its own queue.
    pub(crate) fn retire<E: Encoder>(&mut self, id: SessionId, enc: &mut E) {
        self.end_calls(id);
        self.leave_directory(id);
        for lane in self.lanes_of(id) {
            self.drop_lane(id, lane, enc);
        }
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        session.subscriptions.clear();
        session.last = None;
        if let Some(card) = session.card.take() {
            if card.identity.expires_unix().is_some() {
                self.timers.note_unwanted();
            }
            let home = self.home_of(card.name.as_str());
            self.send(
                home,
                Body::NameReleased {
                    name: Arc::clone(card.name.shared()),
                    session: id,
                },
            );
        }
    }

    fn leave_directory(&mut self, id: SessionId) {
        let Some(card) = self.card_of(id) else { return };
        if self.directory.remove(&card) {
            self.push_effect(Effect::Absent(card.name.clone()));
        }
        self.broadcast(|| Body::AgentDown {
            card: Arc::clone(&card),
        });
    }

    fn end_calls(&mut self, id: SessionId) {
        self.end_watches(id);
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let name = session.name().to_owned();
        let calls = session.take_calls();
        let gone = || {
            Refusal::retryable(
                Code::Unavailable,
                format!("{name} left; try again or ask another"),
            )
        };
        for (_, number) in calls.requests {
            self.abandon_request(number);
        }
        for (number, inbound) in calls.inbound {
            let refusal = Box::new(gone());
            self.send(inbound.requester.core, Body::RequestFailed { number, refusal });
        }
        for end in calls.streams.into_values() {
            let body = Body::StreamEnded {
                to: end.peer.session,
                number: end.peer_number,
                code: Code::Unavailable,
                message: format!("{name} left").into(),
            };
            self.send(end.peer.core, body);
        }
        for (_, number) in calls.introductions {
            self.abandon_introduction(number);
        }
        for (number, invitation) in calls.invitations {
            let refusal = Box::new(gone());
            self.send(
                invitation.introducer.core,
                Body::IntroductionFailed { number, refusal },
            );
        }
        for (number, channel) in calls.channels {
            self.send(
                channel.peer.core,
                Body::ChannelClosed {
                    to: channel.peer.session,
                    number,
                },
            );
        }
    }
}
