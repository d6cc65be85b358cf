//! Knowing that every core knows: a message to all cores carries a barrier, each answers when it has dealt with the message (and,
//! by the order of messages, with all before it).

use crate::hash::Seed;

use crate::gateway::{Gateway, Numbered};
use crate::ids::{Now, SessionId};
use crate::outgoing::Encoder;

/// What to do when every core has answered.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Then {
    /// Acknowledge a Subscribe.
    Subscribed { session: SessionId, id: u64, lane: u32 },
    /// Tell an agent that it is registered.
    Registered { session: SessionId },
}

/// Barriers that wait for answers: at most one for each Register and Subscribe not yet answered.
#[derive(Debug)]
pub(crate) struct Barriers {
    waiting: Numbered<(u16, Then)>,
    last: u64,
}

impl Barriers {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            waiting: Numbered::with_hasher(Seed::new(seed)),
            last: 0,
        }
    }

    /// The number of the next barrier.
    pub(crate) fn begin(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

impl Gateway {
    /// Waits until all other cores have answered a barrier that was sent to them.
    pub(crate) fn await_barrier<E: Encoder>(&mut self, barrier: u64, then: Then, now: &Now, enc: &mut E) {
        match self.cores - 1 {
            0 => self.reached(barrier, then, now, enc),
            others => {
                self.barriers.waiting.insert(barrier, (others, then));
            }
        }
    }

    pub(crate) fn barrier_answered<E: Encoder>(&mut self, barrier: u64, now: &Now, enc: &mut E) {
        let Some((missing, then)) = self.barriers.waiting.get_mut(&barrier) else {
            return;
        };
        *missing -= 1;
        if *missing == 0 {
            let then = *then;
            self.barriers.waiting.remove(&barrier);
            self.reached(barrier, then, now, enc);
        }
    }

    fn reached<E: Encoder>(&mut self, barrier: u64, then: Then, now: &Now, enc: &mut E) {
        match then {
            Then::Subscribed { session, id, lane } => self.subscribed(barrier, session, id, lane, enc),
            Then::Registered { session } => self.registered(session, now, enc),
        }
    }
}
