//! How far topics are, so that a loss is known and can be told.
//!
//! A node that wants a topic gets all of its messages, and only those: so messages are counted for each origin and topic, and a
//! count that jumps is a loss of exactly that many. (A count over all of an origin's messages would jump with every topic that is not
//! wanted here.) What was lost last is known when the origin tells how far it is, which it does after the network changed.

use std::sync::Arc;

use crate::ids::NodeId;
use crate::recent::Recent;

/// This node's own topics that somebody elsewhere wants.
#[derive(Debug)]
pub(crate) struct Counted {
    topics: Recent<Arc<str>, Count>,
}

/// How far a topic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    /// The origin's sequence when it began to count.
    pub(crate) since: u64,
    /// Messages from then on.
    pub(crate) count: u64,
    last_ms: u64,
}

impl Counted {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            topics: Recent::new(max),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.topics.len()
    }

    /// Counts messages; also returns a topic that gave way, and must be closed.
    pub(crate) fn count(
        &mut self,
        topic: &Arc<str>,
        messages: u32,
        sequence: u64,
        now: u64,
    ) -> (Count, Option<(Arc<str>, Count)>) {
        if let Some(count) = self.topics.touch(topic) {
            count.count += u64::from(messages);
            count.last_ms = now;
            return (*count, None);
        }
        let count = Count {
            since: sequence,
            count: u64::from(messages),
            last_ms: now,
        };
        (count, self.topics.put(Arc::clone(topic), count))
    }

    /// Nobody elsewhere wants it.
    pub(crate) fn forget(&mut self, topic: &str) {
        self.topics.remove(topic);
    }

    /// Those that said something at `since_ms` or later.
    pub(crate) fn recent(&self, since_ms: u64) -> Vec<(Arc<str>, Count)> {
        self.topics
            .iter()
            .take_while(|(_, count)| count.last_ms >= since_ms)
            .map(|(topic, count)| (Arc::clone(topic), *count))
            .collect()
    }

    /// Counting begins anew: the node's incarnation is another.
    pub(crate) fn clear(&mut self) {
        self.topics.clear();
    }
}

/// Other nodes' topics that are wanted here.
#[derive(Debug)]
pub(crate) struct Heard {
    topics: Recent<(NodeId, Arc<str>), Place>,
}

/// How far one topic is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) incarnation: u64,
    pub(crate) since: u64,
    pub(crate) count: u64,
}

/// What a message's place says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is the next one, or the first of which this node knows.
    InOrder,
    /// This many are missing before it.
    After(u64),
    /// The origin counts anew, so nobody knows how many are missing; at least this many.
    Anew(u64),
    /// Later ones came already, and it was told as lost; or it is one of them.
    Past,
}

impl Heard {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            topics: Recent::new(max),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.topics.len()
    }

    /// Notes `messages` that end at `place`.
    pub(crate) fn note(
        &mut self,
        key: &(NodeId, Arc<str>),
        place: Place,
        messages: u32,
        closing: bool,
    ) -> Next {
        let before = place.count.saturating_sub(u64::from(messages));
        let Some(known) = self.topics.touch(key) else {
            if !closing {
                self.topics.put(key.clone(), place);
            }
            return Next::InOrder;
        };
        let life = |place: &Place| (place.incarnation, place.since);
        let next = match life(&place).cmp(&life(known)) {
            std::cmp::Ordering::Less => return Next::Past,
            std::cmp::Ordering::Greater => Next::Anew(before),
            std::cmp::Ordering::Equal if messages > 0 && place.count <= known.count => return Next::Past,
            std::cmp::Ordering::Equal => match before.saturating_sub(known.count) {
                0 => Next::InOrder,
                missing => Next::After(missing),
            },
        };
        known.count = match next {
            Next::Anew(_) => place.count,
            _ => place.count.max(known.count),
        };
        (known.incarnation, known.since) = life(&place);
        if closing {
            self.topics.remove(key);
        }
        next
    }

    /// Only topics that are still wanted keep their place: what comes of others later has no beginning here.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(NodeId, &Arc<str>) -> bool) {
        self.topics.retain(|(node, topic), _| keep(*node, topic));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(since: u64, count: u64) -> Place {
        Place {
            incarnation: 1,
            since,
            count,
        }
    }

    #[test]
    fn what_is_missing_is_known() {
        let mut heard = Heard::new(9);
        let key = (NodeId::of("a"), Arc::from("t"));
        assert_eq!(
            heard.note(&key, at(1, 7), 1, false),
            Next::InOrder,
            "the first here"
        );
        assert_eq!(heard.note(&key, at(1, 8), 1, false), Next::InOrder);
        assert_eq!(heard.note(&key, at(1, 12), 2, false), Next::After(2));
        assert_eq!(heard.note(&key, at(1, 10), 1, false), Next::Past);
        assert_eq!(
            heard.note(&key, at(1, 12), 0, false),
            Next::InOrder,
            "how far it is, again"
        );
        assert_eq!(
            heard.note(&key, at(1, 15), 0, false),
            Next::After(3),
            "the last ones"
        );
        assert_eq!(heard.note(&key, at(40, 3), 1, false), Next::Anew(2));
        assert_eq!(heard.note(&key, at(1, 16), 1, false), Next::Past);
        assert_eq!(heard.note(&key, at(40, 3), 0, true), Next::InOrder);
        assert_eq!(
            heard.note(&key, at(50, 9), 1, false),
            Next::InOrder,
            "it was closed"
        );
        let again = Place {
            incarnation: 2,
            since: 1,
            count: 1,
        };
        assert_eq!(
            heard.note(&key, again, 1, false),
            Next::Anew(0),
            "its node restarted"
        );
        heard.retain(|_, _| false);
        assert_eq!(heard.len(), 0);
    }

    #[test]
    fn who_is_silent_longest_is_closed() {
        let mut counted = Counted::new(2);
        let topic = |name: &str| Arc::<str>::from(name);
        assert_eq!(counted.count(&topic("a"), 2, 1, 0).0.count, 2);
        assert_eq!(counted.count(&topic("b"), 1, 2, 5).1, None);
        assert_eq!(counted.count(&topic("a"), 1, 3, 6).0.count, 3);
        let (_, gave_way) = counted.count(&topic("c"), 1, 4, 7);
        assert_eq!(
            gave_way.map(|(topic, count)| (topic, count.count)),
            Some((topic("b"), 1))
        );
        let recent = |since| counted.recent(since).len();
        assert_eq!((recent(0), recent(7), recent(8)), (2, 1, 0));
        counted.forget("a");
        assert_eq!(counted.len(), 1);
    }
}
