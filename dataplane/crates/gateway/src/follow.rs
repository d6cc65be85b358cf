//! Following single messages: what becomes of one, told as [`Effect::Step`]s while the caller asks for it.
//!
//! Off, it costs one branch per run of publishes, and one per other message. Payloads are not looked at.

use crate::action::DeliveryPolicy;
use crate::code::Code;
use crate::effect::Effect;
use crate::gateway::Gateway;
use crate::ids::SessionId;
use crate::outgoing::Encoder;
use crate::queue::{Pushed, Run};
use crate::table::Local;

/// Receivers that are told of for one message; a message to thousands must not stop the core. What is left out is counted by the caller,
/// who knows how many receivers there were.
pub const RECEIVERS_MAX: u32 = 64;

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Follow {
    /// Nothing.
    #[default]
    Off,
    /// Errors that agents are told: how requests of followed conversations end that nobody answered.
    Errors,
    /// All that becomes of what is given to the gateway until this changes.
    All,
}

/// What an agent's number names. Numbers of one role are unique for the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A request or introduction of its own.
    Asked,
    /// A request or introduction that it is to answer.
    Answers,
    /// A stream, whoever opened it.
    Stream,
}

/// What became of a message that is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It waits in a session's queue.
    Queued {
        /// Whose.
        session: SessionId,
        /// Of which subscription; 0: it is not of one.
        subscription: u64,
        /// Bytes that must be written until it is written.
        waiting: u64,
        /// Messages that the session has lost so far: if it loses more, this one may be among them.
        dropped: u64,
    },
    /// Messages of a subscription gave way, or this one did.
    Dropped {
        /// Whose.
        session: SessionId,
        /// Of which subscription.
        subscription: u64,
        /// By which policy.
        policy: DeliveryPolicy,
        /// How many.
        messages: u64,
        /// Whether this message is among them.
        this: bool,
    },
    /// It is held until a `BLOCK` subscription has room.
    Held {
        /// Whose.
        session: SessionId,
        /// Of which subscription.
        subscription: u64,
    },
    /// Other receivers, of which nothing is told.
    More {
        /// How many.
        receivers: u32,
    },
    /// An agent may answer it, or go on with it, by this number.
    Numbered {
        /// Which agent.
        session: SessionId,
        /// The number that this agent uses.
        number: u64,
        /// What it is the number of.
        role: Role,
    },
    /// An agent was told an error.
    Refused {
        /// Which agent.
        session: SessionId,
        /// The id it was told on.
        id: u64,
        /// What kind of error.
        code: Code,
    },
}

/// The state of following.
#[derive(Debug, Default)]
pub(crate) struct Following {
    pub(crate) mode: Follow,
    told: u32,
    left_out: u32,
}

impl Following {
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.mode == Follow::All
    }
}

impl Gateway {
    /// Says what is told from now on. To be changed between calls.
    pub fn follow(&mut self, mode: Follow) {
        if std::mem::take(&mut self.following.left_out) > 0 {
            debug_assert!(false, "steps that were left out are told by `followed`");
        }
        self.following.told = 0;
        self.following.mode = mode;
    }

    /// The message that was followed is dealt with: tells of the receivers that were left out.
    pub fn followed(&mut self) {
        let receivers = std::mem::take(&mut self.following.left_out);
        if receivers > 0 {
            self.push_effect(Effect::Step(Step::More { receivers }));
        }
    }

    /// As the plain delivery of a run, with an account of it.
    #[cold]
    pub(crate) fn deliver_followed<E: Encoder>(&mut self, local: Local, run: Run<'_>) -> Pushed {
        let dropped_before = self.dropped_of(local);
        let pushed = self.deliver::<E>(local, run);
        if self.following.told >= RECEIVERS_MAX {
            self.following.left_out += 1;
            return pushed;
        }
        self.following.told += 1;
        let Some((session, _)) = self.sessions.at(local.session) else {
            return pushed;
        };
        let (id, waiting, lost) = (session.id, session.queue.bytes(), session.queue.dropped());
        let lane = session.queue.lanes.get(local.lane as usize);
        let subscription = lane.map_or(0, |lane| lane.id);
        let messages = lane.map_or(0, |lane| lane.dropped()) - dropped_before;
        let queued = matches!(pushed, Pushed::Queued(messages) if messages > 0);
        if messages > 0 || pushed == Pushed::Disconnect {
            self.push_effect(Effect::Step(Step::Dropped {
                session: id,
                subscription,
                policy: local.policy,
                messages: messages.max(1),
                this: !queued,
            }));
        }
        if queued {
            self.push_effect(Effect::Step(Step::Queued {
                session: id,
                subscription,
                waiting,
                dropped: lost,
            }));
        } else if pushed == Pushed::Full {
            self.push_effect(Effect::Step(Step::Held {
                session: id,
                subscription,
            }));
        }
        pushed
    }

    /// Messages that a session has lost so far.
    pub fn dropped(&self, session: SessionId) -> u64 {
        self.sessions
            .get(session)
            .map_or(0, |session| session.queue.dropped())
    }

    fn dropped_of(&mut self, local: Local) -> u64 {
        let session = self.sessions.at(local.session);
        let lane = session.and_then(|(session, _)| session.queue.lanes.get(local.lane as usize));
        lane.map_or(0, |lane| lane.dropped())
    }

    /// A message that is not of a subscription was queued.
    #[cold]
    pub(crate) fn followed_frame(&mut self, session: SessionId) {
        let waiting = self.queued_bytes(session);
        let dropped = self.dropped(session);
        self.push_effect(Effect::Step(Step::Queued {
            session,
            subscription: 0,
            waiting,
            dropped,
        }));
    }

    /// An agent knows the message that is followed by a number.
    pub(crate) fn note_number(&mut self, session: SessionId, number: u64, role: Role) {
        if self.following.is_on() {
            self.push_effect(Effect::Step(Step::Numbered {
                session,
                number,
                role,
            }));
        }
    }

    /// An agent is told an error.
    pub(crate) fn note_refused(&mut self, session: SessionId, id: u64, code: Code) {
        if self.following.mode != Follow::Off {
            self.push_effect(Effect::Step(Step::Refused { session, id, code }));
        }
    }
}
