//! What this node knows of one neighbour.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::ids::{LinkId, NodeId, Version};
use crate::interest::Change;

/// A link that is up.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) peer: NodeId,
    pub(crate) name: Arc<str>,
    pub(crate) cost: u32,
    pub(crate) stage: Stage,
    /// What the neighbour holds, as far as this node knows.
    pub(crate) holds: HashMap<NodeId, Holds>,
    /// Link states that it lacks.
    pub(crate) lacks: BTreeSet<NodeId>,
    /// Link states sent that it has not acknowledged.
    pub(crate) sent: HashMap<NodeId, Version>,
    /// Link states that came from it, not acknowledged yet.
    pub(crate) came: Vec<(NodeId, Version)>,
    /// Tables that came to be held, not told yet.
    pub(crate) news: BTreeSet<NodeId>,
    /// Nodes that its summary has named until now.
    pub(crate) named: HashSet<NodeId>,
    /// Whole tables of which parts have come.
    pub(crate) parts: HashMap<NodeId, Part>,
    /// How often in a row its digest was another.
    pub(crate) differs: u32,
}

/// How far a link is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Both ends tell what they hold. Nothing goes over the link yet: who has just started knows no ways.
    Exchange(Exchange),
    /// In use.
    Used,
}

/// What is missing before the link is used.
#[derive(Debug, PartialEq, Eq, Default)]
pub(crate) struct Exchange {
    pub(crate) since_ms: u64,
    /// All of the neighbour's summary came.
    pub(crate) summary: bool,
    /// What the neighbour holds and this node does not.
    pub(crate) states: HashSet<NodeId>,
    pub(crate) tables: HashSet<NodeId>,
}

/// What a neighbour holds of a node.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Holds {
    pub(crate) state: Version,
    pub(crate) table: Version,
}

/// The beginning of a whole table.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) version: Version,
    pub(crate) changes: Vec<Change>,
}

impl Link {
    pub(crate) fn new(id: LinkId, peer: NodeId, name: Arc<str>, cost: u32, now: u64) -> Self {
        Self {
            id,
            peer,
            name,
            cost,
            stage: Stage::Exchange(Exchange {
                since_ms: now,
                ..Exchange::default()
            }),
            holds: HashMap::new(),
            lacks: BTreeSet::new(),
            sent: HashMap::new(),
            came: Vec::new(),
            news: BTreeSet::new(),
            named: HashSet::new(),
            parts: HashMap::new(),
            differs: 0,
        }
    }

    pub(crate) fn is_used(&self) -> bool {
        self.stage == Stage::Used
    }

    pub(crate) fn holds(&self, node: NodeId) -> Holds {
        self.holds.get(&node).copied().unwrap_or_default()
    }

    /// The neighbour holds this link state, or a newer one.
    pub(crate) fn has_state(&mut self, node: NodeId, version: Version) {
        let holds = self.holds.entry(node).or_default();
        holds.state = holds.state.max(version);
        if self.sent.get(&node).is_some_and(|sent| *sent <= version) {
            self.sent.remove(&node);
        }
    }

    /// The neighbour holds this table, or a newer one.
    pub(crate) fn has_table(&mut self, node: NodeId, version: Version) {
        let holds = self.holds.entry(node).or_default();
        holds.table = holds.table.max(version);
    }

    /// A node is forgotten.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.holds.remove(&node);
        self.lacks.remove(&node);
        self.sent.remove(&node);
        self.news.remove(&node);
        self.parts.remove(&node);
    }
}
