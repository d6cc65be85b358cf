//! A subscription, and its share of the session's queue.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::hash::Seed;
use hashbrown::HashMap;

use super::gap::Gap;
use crate::action::DeliveryPolicy;

/// No segment.
pub(crate) const NONE: u64 = u64::MAX;
/// No group.
pub(crate) const NO_GROUP: u32 = u32::MAX;

/// One subscription of a session. Its waiting segments form a list through the session's queue, oldest first; dead segments in
/// that list are skipped.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Chosen by the agent.
    pub(crate) id: u64,
    pub(crate) pattern: Arc<str>,
    /// Its entry in the table.
    pub(crate) entry: u32,
    /// Its group in the table, or [`NO_GROUP`].
    pub(crate) group: u32,
    /// Its place in the entry's or group's list.
    pub(crate) position: u32,
    /// Order of subscribing within the session.
    pub(crate) born: u32,
    /// Bound in bytes.
    pub(crate) bound: u32,
    pub(crate) block_ms: u32,
    pub(crate) policy: DeliveryPolicy,
    /// Whether the pattern is one topic.
    pub(crate) exact: bool,
    /// Unsubscribed; only what waits is still delivered.
    pub(crate) closed: bool,
    /// What feeds it.
    pub(crate) fed: FedBy,
    /// Bytes waiting, torn message included.
    pub(super) waiting: u64,
    pub(super) oldest: u64,
    pub(super) newest: u64,
    rare: Option<Box<Rare>>,
}

/// What feeds a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FedBy {
    /// Publishes: it is a subscription.
    Publishes,
    /// It is a watch that does not know all that has happened yet, and gets it as it reads.
    Pieces,
    /// It is a watch that gets changes as they happen.
    Changes,
    /// It is a subscription that is told what topics keep, as it reads.
    Kept,
}

/// What few subscriptions ever need.
#[derive(Debug)]
struct Rare {
    /// Lost just before the oldest waiting message.
    gap: Gap,
    dropped: u64,
    /// For `LATEST`: the waiting segment of each topic.
    latest: HashMap<Arc<str>, u64, Seed>,
    /// For `BLOCK`: publishes that wait for room, in order.
    waiters: VecDeque<u64>,
}

/// What a subscription is made of.
#[derive(Debug)]
pub(crate) struct LaneSpec {
    pub(crate) id: u64,
    pub(crate) pattern: Arc<str>,
    pub(crate) born: u32,
    pub(crate) bound: u32,
    pub(crate) block_ms: u32,
    pub(crate) policy: DeliveryPolicy,
    pub(crate) exact: bool,
}

impl Lane {
    pub(crate) fn new(spec: LaneSpec) -> Self {
        Self {
            id: spec.id,
            pattern: spec.pattern,
            entry: u32::MAX,
            group: NO_GROUP,
            position: 0,
            born: spec.born,
            bound: spec.bound,
            block_ms: spec.block_ms,
            policy: spec.policy,
            exact: spec.exact,
            closed: false,
            fed: FedBy::Publishes,
            waiting: 0,
            oldest: NONE,
            newest: NONE,
            rare: None,
        }
    }

    pub(crate) fn waiting(&self) -> u64 {
        self.waiting
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.rare.as_ref().map_or(0, |rare| rare.dropped)
    }

    /// Nothing of it is left in the queue.
    pub(super) fn is_drained(&self) -> bool {
        self.waiting == 0 && self.oldest == NONE
    }

    pub(super) fn has_gap(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| !rare.gap.is_empty())
    }

    pub(super) fn take_gap(&mut self) -> Gap {
        self.rare
            .as_mut()
            .map_or_else(Gap::default, |rare| std::mem::take(&mut rare.gap))
    }

    pub(super) fn gap(&mut self) -> &mut Gap {
        &mut self.rare().gap
    }

    pub(super) fn count_dropped(&mut self, messages: u64) {
        self.rare().dropped += messages;
    }

    /// Notes the waiting segment of a topic; returns the one it replaces.
    pub(super) fn note_latest(&mut self, topic: &Arc<str>, number: u64) -> Option<u64> {
        self.rare().latest.insert(Arc::clone(topic), number)
    }

    pub(super) fn latest_of(&self, topic: &str) -> Option<u64> {
        self.rare.as_ref()?.latest.get(topic).copied()
    }

    pub(super) fn forget_latest(&mut self, topic: &str, number: u64) {
        if let Some(rare) = &mut self.rare
            && rare.latest.get(topic) == Some(&number)
        {
            rare.latest.remove(topic);
        }
    }

    pub(super) fn forget_list(&mut self) {
        self.oldest = NONE;
        self.newest = NONE;
        if let Some(rare) = &mut self.rare {
            rare.latest.clear();
        }
    }

    /// Publishes that wait for room.
    pub(crate) fn waiters(&self) -> Option<&VecDeque<u64>> {
        self.rare
            .as_ref()
            .map(|rare| &rare.waiters)
            .filter(|waiters| !waiters.is_empty())
    }

    pub(crate) fn waiters_mut(&mut self) -> &mut VecDeque<u64> {
        &mut self.rare().waiters
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_with(|| {
            Box::new(Rare {
                gap: Gap::default(),
                dropped: 0,
                // Keys are topics that reached this one agent; its own collisions cost itself alone.
                latest: HashMap::with_hasher(Seed::new(0)),
                waiters: VecDeque::new(),
            })
        })
    }
}

// A million subscriptions are to fit in memory.
const _: () = assert!(size_of::<Lane>() <= 112);
