//! Who gets the messages of one topic.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use ringgate_state::Keep;

use crate::action::DeliveryPolicy;
use crate::ids::CoreId;

/// A subscription on this core, by its places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Local {
    /// Place of the session.
    pub(crate) session: u32,
    /// Place of the subscription in the session.
    pub(crate) lane: u32,
    /// Order of subscribing within the session.
    pub(crate) born: u32,
    pub(crate) policy: DeliveryPolicy,
    /// It is told first what topics keep (`ops::late`).
    pub(crate) late: bool,
}

/// What another core announced for one pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Remote {
    pub(crate) core: CoreId,
    pub(crate) subscribers: u32,
    /// Whether one of them is `BLOCK`.
    pub(crate) blocking: bool,
}

/// The result of matching one topic, good until a subscription that matters changes.
#[derive(Debug)]
pub(crate) struct MatchSet {
    pub(crate) topic: Arc<str>,
    pub(super) generation: u64,
    pub(super) stale: Cell<bool>,
    /// Publishes of this core's sessions to the topic.
    pub(super) published: Cell<u64>,
    /// Each session once, for its oldest matching subscription.
    pub(crate) locals: Box<[Local]>,
    /// Those of them that are told first what topics keep.
    pub(crate) late: Box<[Local]>,
    pub(crate) groups: Box<[u32]>,
    /// Each core once.
    pub(crate) remotes: Box<[Remote]>,
    /// What the topic keeps for later subscribers, if anything.
    pub(crate) keep: Option<Keep>,
    /// Whether consecutive messages may be gathered to a run: nobody needs to be asked message by message.
    pub(crate) runnable: bool,
}

impl MatchSet {
    pub(super) fn new(
        topic: Arc<str>,
        generation: u64,
        published: u64,
        mut locals: Vec<Local>,
        groups: Vec<u32>,
        remotes: Vec<Remote>,
        keep: Option<Keep>,
    ) -> Rc<Self> {
        locals.sort_unstable_by_key(|local| (local.session, local.born));
        locals.dedup_by_key(|local| local.session);
        let late: Box<[Local]> = locals.iter().filter(|local| local.late).copied().collect();
        locals.retain(|local| !local.late);
        let runnable = groups.is_empty()
            && late.is_empty()
            && !keep.is_some_and(|keep| keep.durable)
            && !remotes.iter().any(|remote| remote.blocking)
            && !locals
                .iter()
                .any(|l| matches!(l.policy, DeliveryPolicy::Block | DeliveryPolicy::Latest));
        Rc::new(Self {
            topic,
            generation,
            stale: Cell::new(false),
            published: Cell::new(published),
            locals: locals.into(),
            late,
            groups: groups.into(),
            remotes: remotes.into(),
            keep,
            runnable,
        })
    }

    /// Counts a publish.
    #[inline]
    pub(crate) fn count_published(&self) {
        self.published.set(self.published.get() + 1);
    }

    /// Whether nobody subscribes to the topic, nor will get it later. (Late ones are not asked for: a set with any is no run's.)
    pub(crate) fn is_empty(&self) -> bool {
        self.locals.is_empty() && self.groups.is_empty() && self.remotes.is_empty() && self.keep.is_none()
    }

    /// Memory it takes, roughly.
    pub(super) fn cost_bytes(&self) -> u64 {
        let lists = (self.locals.len() + self.late.len()) * size_of::<Local>()
            + self.groups.len() * size_of::<u32>()
            + self.remotes.len() * size_of::<Remote>();
        (size_of::<Self>() + self.topic.len() + lists) as u64
    }
}
