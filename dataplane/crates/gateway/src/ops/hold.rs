//! Publishes held by `BLOCK` subscriptions.
//!
//! A message that finds a `BLOCK` subscription full is kept beside it until there is room, at most `block_ms`, and its publisher's
//! input is paused so long: so at most one message of each publisher is held. A publisher on another core is paused for the round
//! trip to the subscription's core, which answers as soon as the message is queued or dropped. A held message outlives its
//! publisher's stream; what a resumed publisher says on its next stream is not held behind it.

use crate::hash::Seed;

use crate::core_message::Body;
use crate::gateway::{Gateway, Numbered, RUN_DIALECT};
use crate::ids::{CoreId, Now, SessionId};
use crate::ops::publish::Parcel;
use crate::ops::state::Output;
use crate::outgoing::Encoder;
use crate::queue::Run;
use crate::session::after;
use crate::table::Local;
use crate::timers::Timer;

/// Who waits for a held message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HoldOrigin {
    /// A publisher on this core.
    Session(SessionId),
    /// A hold of another core.
    Core(CoreId, u64),
    /// The publisher did not know that it might have to wait, and goes on: the message is not held.
    Nobody,
}

/// What a message is held for.
#[derive(Debug)]
pub(crate) struct Held {
    origin: HoldOrigin,
    /// The publish's id, to acknowledge it at the end; or 0.
    id: u64,
    /// 0 until the message must be held.
    number: u64,
    /// Subscriptions and cores it waits for.
    pub(crate) waits: u32,
    /// Its position in the log, where its topic keeps it there; or 0.
    pub(crate) position: u64,
}

impl Held {
    pub(crate) fn new(origin: HoldOrigin, id: u64) -> Self {
        Self {
            origin,
            id,
            number: 0,
            waits: 0,
            position: 0,
        }
    }
}

impl Held {
    /// Whether the publisher waits for it.
    pub(crate) fn is_wanted(&self) -> bool {
        self.origin != HoldOrigin::Nobody
    }
}

/// Held messages, by number.
pub(crate) struct Holds {
    parcels: Numbered<Parcel>,
    last: u64,
}

impl Holds {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            parcels: Numbered::with_hasher(Seed::new(seed)),
            last: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.parcels.len()
    }
}

impl Gateway {
    /// The number by which a message is held.
    pub(crate) fn hold_number(&mut self, held: &mut Held) -> u64 {
        if held.number == 0 {
            self.holds.last += 1;
            held.number = self.holds.last;
        }
        held.number
    }

    /// A subscription has no room: the message waits for it.
    pub(crate) fn hold_for(&mut self, local: Local, held: &mut Held, now: &Now) {
        let hold = self.hold_number(held);
        held.waits += 1;
        let Some((session, _)) = self.sessions.at(local.session) else {
            return;
        };
        let lane = &mut session.queue.lanes[local.lane as usize];
        lane.waiters_mut().push_back(hold);
        let timer = Timer::Hold {
            hold,
            session: session.id,
            lane: local.lane,
        };
        self.timers.set(after(now, u64::from(lane.block_ms)), timer);
    }

    /// A subscription has no room, and nobody waits until it has.
    pub(crate) fn drop_parcel(&mut self, local: Local, parcel: &Parcel) {
        if let Some((session, ledger)) = self.sessions.at(local.session) {
            let run = Run {
                dialect: RUN_DIALECT,
                topic: &parcel.topic,
                bytes: &parcel.bytes,
                messages: 1,
            };
            session.queue.drop_arriving(local.lane, run, ledger);
            let id = session.id;
            self.sessions.mark(id);
        }
    }

    /// All receivers were asked: the publish is over, or held.
    pub(crate) fn settle_parcel<E: Encoder>(&mut self, parcel: Parcel, enc: &mut E) {
        if parcel.held.waits == 0 {
            return self.release_publisher(&parcel, enc);
        }
        if let HoldOrigin::Session(session) = parcel.held.origin
            && let Some(session) = self.sessions.get_mut(session)
        {
            session.pauses.holds += 1;
        }
        self.holds.parcels.insert(parcel.held.number, parcel);
    }

    /// One of those it waits for has queued or dropped a held message.
    pub(crate) fn hold_done<E: Encoder>(&mut self, hold: u64, queued: bool, enc: &mut E) {
        let Some(parcel) = self.holds.parcels.get_mut(&hold) else {
            return;
        };
        parcel.receivers += u32::from(queued);
        parcel.held.waits -= 1;
        if parcel.held.waits > 0 {
            return;
        }
        let Some(parcel) = self.holds.parcels.remove(&hold) else {
            return;
        };
        self.release_publisher(&parcel, enc);
        if let HoldOrigin::Session(publisher) = parcel.held.origin
            && let Some(session) = self.sessions.get_mut(publisher)
        {
            session.pauses.holds = session.pauses.holds.saturating_sub(1);
            self.let_go(publisher);
        }
    }

    fn release_publisher<E: Encoder>(&mut self, parcel: &Parcel, enc: &mut E) {
        match parcel.held.origin {
            HoldOrigin::Session(publisher) if parcel.held.id != 0 => {
                let published = Output::Published {
                    to: publisher,
                    id: parcel.held.id,
                    receivers: parcel.receivers,
                };
                self.put_out(parcel.held.position, published, enc);
            }
            HoldOrigin::Core(core, hold) => self.send(core, Body::Released { hold }),
            HoldOrigin::Session(_) | HoldOrigin::Nobody => {}
        }
    }

    /// A `BLOCK` subscription got room: who waits first goes first.
    pub(crate) fn serve_waiting<E: Encoder>(&mut self, id: SessionId, lane: u32, enc: &mut E) {
        loop {
            let Some((session, ledger)) = self.sessions.at(id.index) else {
                return;
            };
            let Some(&hold) = session
                .queue
                .lanes
                .get(lane as usize)
                .and_then(|lane| lane.waiters()?.front())
            else {
                return;
            };
            let queued = match self.holds.parcels.get(&hold) {
                Some(parcel) => {
                    let run = Run {
                        dialect: RUN_DIALECT,
                        topic: &parcel.topic,
                        bytes: &parcel.bytes,
                        messages: 1,
                    };
                    if !session.queue.push_waiting(lane, run, ledger) {
                        return;
                    }
                    true
                }
                None => false,
            };
            session.queue.lanes[lane as usize].waiters_mut().pop_front();
            self.sessions.mark(id);
            self.hold_done(hold, queued, enc);
        }
    }

    /// A held message waited long enough: it is dropped here, and those behind it may go.
    pub(crate) fn hold_expired<E: Encoder>(&mut self, hold: u64, id: SessionId, lane: u32, enc: &mut E) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let Some(waiting) = session.queue.lanes.get_mut(lane as usize) else {
            return;
        };
        if waiting.waiters().is_none_or(|waiters| !waiters.contains(&hold)) {
            return;
        }
        waiting.waiters_mut().retain(|&waiter| waiter != hold);
        self.drop_held(id, lane, hold, enc);
        self.serve_waiting(id, lane, enc);
    }

    /// Drops all that waits for a subscription which goes.
    pub(crate) fn drop_waiting<E: Encoder>(&mut self, id: SessionId, lane: u32, enc: &mut E) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let waiting = &mut session.queue.lanes[lane as usize];
        if waiting.waiters().is_none() {
            return;
        }
        for hold in std::mem::take(waiting.waiters_mut()) {
            self.drop_held(id, lane, hold, enc);
        }
    }

    fn drop_held<E: Encoder>(&mut self, id: SessionId, lane: u32, hold: u64, enc: &mut E) {
        if let Some(parcel) = self.holds.parcels.get(&hold)
            && let Some((session, ledger)) = self.sessions.at(id.index)
        {
            let run = Run {
                dialect: RUN_DIALECT,
                topic: &parcel.topic,
                bytes: &parcel.bytes,
                messages: 1,
            };
            session.queue.drop_arriving(lane, run, ledger);
            self.sessions.mark(id);
        }
        self.hold_done(hold, false, enc);
    }
}
