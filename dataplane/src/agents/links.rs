//! Which messages go on with which: a response with its request, a chunk with its stream.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ringgate_gateway::{Role, SessionId};

use crate::observe::Subject;

/// Messages of a core that others may go on with. The oldest give way: what goes on with them is then not told. A thousand open requests
/// and streams that somebody follows, on each core.
const LINKS_MAX: usize = 1024;

type Key = (SessionId, Role, u64);

/// By the agent that goes on, and by its number.
#[derive(Debug, Default)]
pub(super) struct Links {
    by_number: HashMap<Key, Arc<Subject>>,
    /// Oldest first; some are gone already.
    order: VecDeque<Key>,
}

impl Links {
    pub(super) fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    pub(super) fn put(&mut self, session: SessionId, role: Role, number: u64, subject: Arc<Subject>) {
        let key = (session, role, number);
        if self.by_number.insert(key, subject).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > LINKS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.by_number.remove(&oldest);
            }
        }
    }

    pub(super) fn get(&self, session: SessionId, role: Role, number: u64) -> Option<&Arc<Subject>> {
        self.by_number.get(&(session, role, number))
    }

    pub(super) fn remove(&mut self, session: SessionId, role: Role, number: u64) -> Option<Arc<Subject>> {
        let removed = self.by_number.remove(&(session, role, number))?;
        self.order.retain(|key| *key != (session, role, number));
        Some(removed)
    }

    /// A session is gone.
    pub(super) fn forget(&mut self, session: SessionId) {
        if !self.by_number.is_empty() {
            self.by_number.retain(|key, _| key.0 != session);
            self.order.retain(|key| key.0 != session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Kind;

    fn subject(id: u64) -> Arc<Subject> {
        Arc::new(Subject {
            id,
            kind: Kind::Request,
            dialect: "agp.v1",
            source: None,
            about: "".into(),
            number: id,
            bytes: 0,
            conversation: None,
            trace: None,
            follows: None,
            told: true,
            timed: false,
        })
    }

    #[test]
    fn the_oldest_give_way_and_sessions_take_theirs_with_them() {
        let (mut links, one, other) = (Links::default(), SessionId::from_bits(1), SessionId::from_bits(2));
        for number in 0..LINKS_MAX as u64 + 1 {
            links.put(one, Role::Asked, number, subject(number));
        }
        assert!(links.get(one, Role::Asked, 0).is_none());
        assert_eq!(links.get(one, Role::Asked, 1).map(|subject| subject.id), Some(1));
        assert!(links.get(one, Role::Answers, 1).is_none() && links.get(other, Role::Asked, 1).is_none());
        assert!(links.remove(one, Role::Asked, 1).is_some());
        links.put(other, Role::Stream, 1, subject(9));
        links.forget(one);
        assert_eq!((links.by_number.len(), links.order.len()), (1, 1));
        links.forget(other);
        assert!(links.is_empty());
    }
}
