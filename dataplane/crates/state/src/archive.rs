//! What topics keep for those who subscribe later: the last message of each, or the last few.
//!
//! Each core keeps what its own publishers sent, as it was sent to subscribers; so a message stays where it is encoded, and whoever
//! subscribes asks all cores. The place of a message in the node's order is when its core got it, made unique there.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ringgate_policy::{Limits, Pattern, matches};

use crate::Moment;

/// What a message costs besides its bytes and its topic: itself, its places in the topic and in the order.
const OVERHEAD_BYTES: u64 = 192;

/// What is kept of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The last few messages; else the last one alone.
    pub replay: bool,
    /// They go to the log.
    pub durable: bool,
}

/// Which topics keep messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicRules {
    /// Patterns of those that keep the last message.
    pub retain: Arc<[Box<str>]>,
    /// Patterns of those that keep the last few. They win over the others.
    pub replay: Arc<[Box<str>]>,
    /// Patterns of those of them whose messages go to the log.
    pub durable: Arc<[Box<str>]>,
}

impl TopicRules {
    /// What is kept of a topic, if anything.
    pub fn keep(&self, topic: &str) -> Option<Keep> {
        let among = |patterns: &[Box<str>]| patterns.iter().any(|pattern| matches(pattern, topic));
        let replay = among(&self.replay);
        let keep = Keep {
            replay,
            durable: among(&self.durable),
        };
        (replay || among(&self.retain)).then_some(keep)
    }

    /// Whether a topic that a subscription's pattern matches may keep messages.
    pub fn meet(&self, pattern: &str) -> bool {
        let mut keeping = self.retain.iter().chain(self.replay.iter());
        keeping.any(|kept| meet(kept, pattern))
    }

    /// Whether anything goes to the log.
    pub fn any_durable(&self) -> bool {
        !self.durable.is_empty()
    }
}

/// Whether some topic is matched by both of two patterns that were checked before.
fn meet(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (None, Some(_)) | (Some(_), None) => return false,
            (Some("**"), Some(_)) | (Some(_), Some("**")) => return true,
            (Some(a), Some(b)) if a == "*" || b == "*" || a == b => {}
            (Some(_), Some(_)) => return false,
        }
    }
}

/// Where a message stands among all that are kept in a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When its core got it, in nanoseconds since 1970; later than all before it there.
    pub at: u64,
    /// Its core then.
    pub core: u16,
}

/// A message that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its place.
    pub place: Place,
    /// Its topic.
    pub topic: Arc<str>,
    /// The message as subscribers get it.
    pub bytes: Bytes,
    /// What was kept of its topic then.
    pub keep: Keep,
}

impl Kept {
    /// Memory that it holds.
    pub fn cost(&self) -> u64 {
        (self.bytes.len() + self.topic.len()) as u64 + OVERHEAD_BYTES
    }
}

/// What one core keeps.
#[derive(Debug)]
pub struct Archive {
    rules: TopicRules,
    core: u16,
    topics: HashMap<Arc<str>, Messages, FixedState>,
    order: BTreeMap<Place, Arc<Kept>>,
    bytes: u64,
    durable_bytes: u64,
    /// The newest moment given to a message.
    last: u64,
    evicted: u64,
}

/// Of one topic, oldest first.
#[derive(Debug, Default)]
struct Messages {
    messages: VecDeque<Arc<Kept>>,
    /// Of the messages alone.
    bytes: u64,
}

impl Archive {
    /// An empty one. `seed` is secret, so that nobody can choose topics that collide.
    pub fn new(seed: u64, core: u16, rules: TopicRules) -> Self {
        for patterns in [&rules.retain, &rules.replay, &rules.durable] {
            debug_assert!(patterns.iter().all(|pattern| Pattern::new(pattern).is_ok()));
        }
        Self {
            rules,
            core,
            topics: HashMap::with_hasher(FixedState::with_seed(seed)),
            order: BTreeMap::new(),
            bytes: 0,
            durable_bytes: 0,
            last: 0,
            evicted: 0,
        }
    }

    /// What it goes by.
    pub fn rules(&self) -> &TopicRules {
        &self.rules
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Memory that they hold.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Memory of those that go to the log.
    pub fn durable_bytes(&self) -> u64 {
        self.durable_bytes
    }

    /// Messages that gave way because the core's memory for them was used up.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Keeps a message. It is copied, since it lies in memory that many messages share.
    pub fn keep(
        &mut self,
        topic: &Arc<str>,
        keep: Keep,
        bytes: &[u8],
        now: Moment,
        limits: &Limits,
    ) -> Arc<Kept> {
        self.last = now.0.max(self.last + 1);
        let kept = Arc::new(Kept {
            place: Place {
                at: self.last,
                core: self.core,
            },
            topic: Arc::clone(topic),
            bytes: Bytes::copy_from_slice(bytes),
            keep,
        });
        self.insert(Arc::clone(&kept));
        self.expire(now, limits);
        self.trim(topic, limits);
        while self.bytes > limits.kept_bytes_max && self.forget_oldest() {
            self.evicted += 1;
        }
        kept
    }

    /// Brings messages back that the log had. Those of topics that keep nothing any more are left out.
    pub fn restore(&mut self, mut messages: Vec<Kept>, limits: &Limits) {
        messages.sort_unstable_by_key(|kept| kept.place);
        for mut kept in messages {
            let Some(keep) = self.rules.keep(&kept.topic) else {
                continue;
            };
            kept.keep = keep;
            self.last = self.last.max(kept.place.at);
            let topic = Arc::clone(&kept.topic);
            self.insert(Arc::new(kept));
            self.trim(&topic, limits);
        }
        while self.bytes > limits.kept_bytes_max && self.forget_oldest() {
            self.evicted += 1;
        }
    }

    /// What is kept of the topics that a pattern matches; in order for each topic.
    pub fn matching(&mut self, pattern: &str, now: Moment, limits: &Limits) -> Vec<Arc<Kept>> {
        self.expire(now, limits);
        let fresh = |kept: &&Arc<Kept>| !is_over(kept, now, limits);
        if let Some(of_topic) = self.topics.get(pattern) {
            return of_topic.messages.iter().filter(fresh).cloned().collect();
        }
        if !pattern.contains('*') {
            return Vec::new();
        }
        let topics = self.topics.iter().filter(|(topic, _)| matches(pattern, topic));
        let messages = topics.flat_map(|(_, of_topic)| of_topic.messages.iter());
        messages.filter(fresh).cloned().collect()
    }

    /// Messages that go to the log, behind a place and up to another.
    pub fn durable_between(&self, behind: Option<Place>, end: Place) -> impl Iterator<Item = &Arc<Kept>> {
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        let any = behind.is_none_or(|behind| behind < end);
        let range = any.then(|| self.order.range((from, Bound::Included(end))));
        let messages = range.into_iter().flatten().map(|(_, kept)| kept);
        messages.filter(|kept| kept.keep.durable)
    }

    /// The place of the newest message.
    pub fn newest(&self) -> Option<Place> {
        self.order.last_key_value().map(|(place, _)| *place)
    }

    fn insert(&mut self, kept: Arc<Kept>) {
        self.bytes += kept.cost();
        self.durable_bytes += if kept.keep.durable { kept.cost() } else { 0 };
        let of_topic = self.topics.entry(Arc::clone(&kept.topic)).or_default();
        of_topic.bytes += kept.bytes.len() as u64;
        of_topic.messages.push_back(Arc::clone(&kept));
        self.order.insert(kept.place, kept);
    }

    /// A topic keeps no more than it may; its last message always stays.
    fn trim(&mut self, topic: &str, limits: &Limits) {
        while let Some(of_topic) = self.topics.get(topic)
            && let Some(newest) = of_topic.messages.back()
            && of_topic.messages.len() > 1
            && (of_topic.messages.len() as u64 > messages_max(newest.keep, limits)
                || of_topic.bytes > limits.replay_bytes_max)
        {
            self.forget_first_of(topic);
        }
    }

    /// Gives up the oldest messages whose time is over.
    fn expire(&mut self, now: Moment, limits: &Limits) {
        while self
            .order
            .first_key_value()
            .is_some_and(|(_, oldest)| is_over(oldest, now, limits))
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((_, oldest)) = self.order.first_key_value() else {
            return false;
        };
        let topic = Arc::clone(&oldest.topic);
        self.forget_first_of(&topic);
        true
    }

    fn forget_first_of(&mut self, topic: &str) {
        let Some(of_topic) = self.topics.get_mut(topic) else {
            return;
        };
        if let Some(first) = of_topic.messages.pop_front() {
            of_topic.bytes -= first.bytes.len() as u64;
            self.bytes -= first.cost();
            self.durable_bytes -= if first.keep.durable { first.cost() } else { 0 };
            self.order.remove(&first.place);
        }
        if of_topic.messages.is_empty() {
            self.topics.remove(topic);
        }
    }
}

/// How many messages of a topic are kept.
fn messages_max(keep: Keep, limits: &Limits) -> u64 {
    match keep.replay {
        true => limits.replay_messages_max,
        false => 1,
    }
}

fn is_over(kept: &Kept, now: Moment, limits: &Limits) -> bool {
    let ms = match kept.keep.replay {
        true => limits.replay_ms,
        false => limits.retain_ms,
    };
    ms > 0 && kept.place.at.saturating_add(ms * 1_000_000) <= now.0
}

/// Of what all cores keep, what a subscriber gets: of each topic no more than it keeps, in the node's order.
///
/// `last_only`: the last message of each topic, whatever it keeps.
pub fn merge(mut messages: Vec<Arc<Kept>>, last_only: bool, limits: &Limits) -> Vec<Arc<Kept>> {
    struct Taken {
        messages: u64,
        bytes: u64,
        full: bool,
    }
    messages.sort_unstable_by_key(|kept| std::cmp::Reverse(kept.place));
    let mut topics: HashMap<Arc<str>, Taken, FixedState> = HashMap::with_hasher(FixedState::default());
    messages.retain(|kept| {
        let taken = topics.entry(Arc::clone(&kept.topic)).or_insert(Taken {
            messages: 0,
            bytes: 0,
            full: false,
        });
        let max = match last_only {
            true => 1,
            false => messages_max(kept.keep, limits),
        };
        let bytes = taken.bytes + kept.bytes.len() as u64;
        let fits = taken.messages == 0 || taken.messages < max && bytes <= limits.replay_bytes_max;
        // What is before one that does not fit would leave a hole.
        taken.full |= !fits;
        if taken.full {
            return false;
        }
        taken.messages += 1;
        taken.bytes = bytes;
        true
    });
    messages.reverse();
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_meet_where_a_topic_is_matched_by_both() {
        for (one, other, wanted) in [
            ("a/b", "a/b", true),
            ("a/b", "a/c", false),
            ("a/*", "*/b", true),
            ("a/*", "a/b/c", false),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("**", "x", true),
            ("a/*/c", "a/b/**", true),
            ("a/**", "b/**", false),
        ] {
            assert_eq!(meet(one, other), wanted, "{one} {other}");
            assert_eq!(meet(other, one), wanted, "{other} {one}");
        }
    }
}
