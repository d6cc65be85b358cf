//! Numbers that meant something until lately: a message that crosses the end of what it is about is not an error.

use std::collections::VecDeque;

use crate::hash::Seed;
use hashbrown::HashSet;

use crate::ids::SessionId;

/// How many ended things a core remembers: seconds of a busy core, 200 KiB.
const RECENT_MAX: usize = 8192;

/// A bounded memory of (session, number).
#[derive(Debug)]
pub(crate) struct Recent {
    order: VecDeque<(SessionId, u64)>,
    known: HashSet<(SessionId, u64), Seed>,
}

impl Recent {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            order: VecDeque::new(),
            known: HashSet::with_hasher(Seed::new(seed)),
        }
    }

    pub(crate) fn note(&mut self, session: SessionId, number: u64) {
        if !self.known.insert((session, number)) {
            return;
        }
        self.order.push_back((session, number));
        if self.order.len() > RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    pub(crate) fn contains(&self, session: SessionId, number: u64) -> bool {
        self.known.contains(&(session, number))
    }
}
