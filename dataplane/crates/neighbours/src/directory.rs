//! Where agents are: those of this node, and those of which this node is the home.
//!
//! A million agents are too many for every node to know. Each name has a home instead: of all nodes that can be reached, the one that
//! comes out first for it (rendezvous hashing). A node tells the homes of its agents, again when homes change, and asks the home of
//! an agent that it looks for. Each home then holds its part of the names, and a node that goes moves only those.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use ringgate_policy::AgentName;

use crate::ids::{NodeId, hash, mix};
use crate::limits::NAMES_PER_BATCH;
use crate::recent::Recent;

/// Where an agent is, as far as is known at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// On this node.
    Here,
    /// On another one.
    At(NodeId),
    /// Nowhere that can be reached.
    Nowhere,
    /// [`Effect::Located`](crate::Effect::Located) will say.
    Asking,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Directory {
    /// Agents of this node.
    own: BTreeMap<AgentName, Agent>,
    homes: BTreeMap<NodeId, Home>,
    next_batch: u64,
    /// Agents of other nodes whose home this is: the nodes that say they are there. An agent that moves is for a moment at two, and they
    /// may be heard in any order.
    held: HashMap<Arc<str>, Vec<NodeId>>,
    /// By node: the last batch that came of which start.
    batches: HashMap<NodeId, (u64, u64)>,
    /// What homes said.
    places: Recent<AgentName, NodeId>,
    /// When an answer is no longer waited for.
    asked: BTreeMap<AgentName, u64>,
}

#[derive(Debug)]
struct Agent {
    hash: u64,
    home: NodeId,
}

/// What a home must be told.
#[derive(Debug, Default)]
struct Home {
    /// Whether the agent is here.
    changes: BTreeMap<AgentName, bool>,
    under_way: Option<Batch>,
}

#[derive(Debug)]
struct Batch {
    number: u64,
    changes: Vec<(AgentName, bool)>,
    due_ms: u64,
}

/// A batch to be sent.
pub(crate) struct Ship {
    pub(crate) home: NodeId,
    pub(crate) batch: u64,
    pub(crate) here: Vec<AgentName>,
    pub(crate) gone: Vec<AgentName>,
}

/// The node that comes out first for a name; the nodes must not be none.
fn home_of(hash: u64, nodes: impl Iterator<Item = NodeId>) -> Option<NodeId> {
    nodes.max_by_key(|node| (mix(hash ^ mix(node.to_bits())), *node))
}

impl Directory {
    pub(crate) fn new(places_max: usize) -> Self {
        Self {
            own: BTreeMap::new(),
            homes: BTreeMap::new(),
            next_batch: 0,
            held: HashMap::new(),
            batches: HashMap::new(),
            places: Recent::new(places_max),
            asked: BTreeMap::new(),
        }
    }

    pub(crate) fn agents(&self) -> usize {
        self.own.len()
    }

    pub(crate) fn names_held(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn is_here(&self, name: &AgentName) -> bool {
        self.own.contains_key(name)
    }

    /// Where an agent whose home this is may be; the last to say so stands last.
    pub(crate) fn held(&self, name: &str) -> &[NodeId] {
        self.held.get(name).map_or(&[], Vec::as_slice)
    }

    /// An agent of this node came or left.
    pub(crate) fn place(&mut self, own: NodeId, reached: &HashSet<NodeId>, name: AgentName, here: bool) {
        if here {
            if self.own.contains_key(&name) {
                return;
            }
            let hash = hash(name.as_str().as_bytes());
            let Some(home) = home_of(hash, reached.iter().copied().chain([own])) else {
                return;
            };
            self.tell(own, home, &name, true);
            self.own.insert(name, Agent { hash, home });
        } else if let Some(agent) = self.own.remove(&name) {
            self.tell(own, agent.home, &name, false);
        }
    }

    fn tell(&mut self, own: NodeId, home: NodeId, name: &AgentName, here: bool) {
        if home != own {
            self.homes
                .entry(home)
                .or_default()
                .changes
                .insert(name.clone(), here);
        }
    }

    /// Homes may be others now.
    pub(crate) fn reached_changed(
        &mut self,
        own: NodeId,
        came: &[NodeId],
        gone: &[NodeId],
        reached: &HashSet<NodeId>,
    ) {
        for home in gone {
            self.homes.remove(home);
        }
        let mut moved = Vec::new();
        for (name, agent) in &mut self.own {
            let home = match gone.binary_search(&agent.home) {
                Ok(_) => home_of(agent.hash, reached.iter().copied().chain([own])),
                Err(_) => home_of(agent.hash, came.iter().copied().chain([agent.home])),
            };
            if let Some(home) = home
                && home != agent.home
            {
                let before = std::mem::replace(&mut agent.home, home);
                moved.push((name.clone(), before, home));
            }
        }
        for (name, before, home) in moved {
            if gone.binary_search(&before).is_err() {
                self.tell(own, before, &name, false);
            }
            self.tell(own, home, &name, true);
        }
    }

    /// A node started anew: it has forgotten what it was told, and its agents are gone.
    pub(crate) fn restarted(&mut self, node: NodeId, incarnation: u64) {
        let known = self
            .batches
            .get(&node)
            .is_some_and(|(known, _)| *known >= incarnation);
        if !known {
            self.forget(node);
        }
        let of_it = self.own.iter().filter(|(_, agent)| agent.home == node);
        let changes: BTreeMap<AgentName, bool> = of_it.map(|(name, _)| (name.clone(), true)).collect();
        match changes.is_empty() {
            true => drop(self.homes.remove(&node)),
            false => {
                let under_way = None;
                drop(self.homes.insert(node, Home { changes, under_way }));
            }
        }
    }

    /// What another node told is over.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.held.retain(|_, at| {
            at.retain(|known| *known != node);
            !at.is_empty()
        });
        self.batches.remove(&node);
    }

    /// Another node's agents, as it tells this home. Returns how many names did not fit, or none if the batch is an old one.
    pub(crate) fn take(
        &mut self,
        node: NodeId,
        (incarnation, batch): (u64, u64),
        here: &[AgentName],
        gone: &[AgentName],
        names_max: usize,
    ) -> Option<u64> {
        let last = self.batches.entry(node).or_insert((incarnation, 0));
        if (incarnation, batch) < *last {
            return None;
        }
        *last = (incarnation, batch);
        let mut left_out = 0;
        for name in gone {
            if let Some(at) = self.held.get_mut(name.as_str()) {
                at.retain(|known| *known != node);
                if at.is_empty() {
                    self.held.remove(name.as_str());
                }
            }
        }
        for name in here {
            if self.held.len() < names_max || self.held.contains_key(name.as_str()) {
                let at = self.held.entry(Arc::clone(name.shared())).or_default();
                at.retain(|known| *known != node);
                at.push(node);
            } else {
                left_out += 1;
            }
        }
        Some(left_out)
    }

    /// A home has got a batch.
    pub(crate) fn placed(&mut self, home: NodeId, batch: u64) {
        if let Some(told) = self.homes.get_mut(&home)
            && told.under_way.as_ref().is_some_and(|way| way.number == batch)
        {
            told.under_way = None;
            if told.changes.is_empty() {
                self.homes.remove(&home);
            }
        }
    }

    /// When something is to be done.
    pub(crate) fn due_at(&self) -> Option<u64> {
        let batches = self
            .homes
            .values()
            .map(|home| home.under_way.as_ref().map_or(0, |batch| batch.due_ms));
        batches.chain(self.asked.values().copied()).min()
    }

    /// What is to be sent to homes now: at most one batch to each.
    pub(crate) fn ships(&mut self, now: u64, place_ms_max: u64) -> Vec<Ship> {
        let mut ships = Vec::new();
        for (&home, told) in &mut self.homes {
            match &mut told.under_way {
                Some(batch) if batch.due_ms > now => continue,
                Some(batch) => batch.due_ms = now + place_ms_max,
                None => {
                    let mut changes = Vec::new();
                    while changes.len() < NAMES_PER_BATCH
                        && let Some(change) = told.changes.pop_first()
                    {
                        changes.push(change);
                    }
                    self.next_batch += 1;
                    told.under_way = Some(Batch {
                        number: self.next_batch,
                        changes,
                        due_ms: now + place_ms_max,
                    });
                }
            }
            let Some(batch) = &told.under_way else { continue };
            let of = |wanted: bool| {
                let changes = batch.changes.iter().filter(move |(_, here)| *here == wanted);
                changes.map(|(name, _)| name.clone()).collect()
            };
            ships.push(Ship {
                home,
                batch: batch.number,
                here: of(true),
                gone: of(false),
            });
        }
        ships
    }

    /// Where an agent was the last time somebody asked.
    pub(crate) fn place_of(&mut self, name: &AgentName) -> Option<NodeId> {
        self.places.touch(name).copied()
    }

    /// An agent was not where it was said to be.
    pub(crate) fn forget_place(&mut self, name: &AgentName) {
        self.places.remove(name);
    }

    /// Which node to ask for an agent.
    pub(crate) fn whom_to_ask(own: NodeId, reached: &HashSet<NodeId>, name: &AgentName) -> NodeId {
        let hash = hash(name.as_str().as_bytes());
        home_of(hash, reached.iter().copied().chain([own])).unwrap_or(own)
    }

    /// Notes that an agent is asked for. False: somebody asked already.
    pub(crate) fn ask(&mut self, name: &AgentName, due_ms: u64) -> bool {
        match self.asked.get(name) {
            Some(_) => false,
            None => {
                self.asked.insert(name.clone(), due_ms);
                true
            }
        }
    }

    pub(crate) fn asking(&self) -> usize {
        self.asked.len()
    }

    /// A home says where an agent is. False: nobody waits for it.
    pub(crate) fn located(&mut self, name: &AgentName, node: Option<NodeId>) -> bool {
        self.places.remove(name);
        if let Some(node) = node {
            self.places.put(name.clone(), node);
        }
        self.asked.remove(name).is_some()
    }

    /// Agents for whom no answer came in time.
    pub(crate) fn give_up(&mut self, now: u64) -> Vec<AgentName> {
        let over: Vec<AgentName> = self
            .asked
            .iter()
            .filter(|(_, due)| **due <= now)
            .map(|(name, _)| name.clone())
            .collect();
        for name in &over {
            self.asked.remove(name);
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> AgentName {
        AgentName::new(&format!("acme/demo/worker/{n}")).expect("valid")
    }

    #[test]
    fn a_node_that_goes_moves_only_its_names() {
        let nodes: Vec<NodeId> = (0..10).map(|n| NodeId::of(&format!("n{n}"))).collect();
        let mut counts = HashMap::new();
        for n in 0..1000 {
            let hash = hash(name(n).as_str().as_bytes());
            let home = home_of(hash, nodes.iter().copied()).expect("some");
            *counts.entry(home).or_insert(0) += 1;
            let without =
                home_of(hash, nodes.iter().copied().filter(|node| *node != nodes[3])).expect("some");
            assert!(home == nodes[3] || home == without);
        }
        assert!(
            counts.values().all(|count| (50..200).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn a_late_batch_changes_nothing() {
        let (mut directory, node) = (Directory::new(9), NodeId::of("a"));
        assert_eq!(directory.take(node, (1, 1), &[name(1)], &[], 2), Some(0));
        assert_eq!(directory.take(node, (1, 2), &[], &[name(1)], 2), Some(0));
        assert_eq!(directory.take(node, (1, 1), &[name(1)], &[], 2), None);
        assert_eq!(directory.held(name(1).as_str()), []);
        assert_eq!(
            directory.take(node, (1, 3), &[name(1), name(2), name(3)], &[], 2),
            Some(1),
            "bounded"
        );
        let other = NodeId::of("b");
        assert_eq!(
            directory.take(other, (1, 1), &[name(1)], &[], 2),
            Some(0),
            "the agent moved"
        );
        assert_eq!(directory.held(name(1).as_str()), [node, other]);
        assert_eq!(directory.take(node, (1, 4), &[], &[name(1)], 2), Some(0));
        assert_eq!(directory.held(name(1).as_str()), [other]);
        directory.restarted(other, 2);
        assert_eq!(directory.held(name(1).as_str()), []);
    }

    #[test]
    fn a_home_is_told_until_it_answers_and_one_batch_at_a_time() {
        let (own, home) = (NodeId::of("own"), NodeId::of("home"));
        let reached = HashSet::from([home]);
        let mut directory = Directory::new(9);
        let far: Vec<AgentName> = (0..2000)
            .map(name)
            .filter(|name| Directory::whom_to_ask(own, &reached, name) == home)
            .take(NAMES_PER_BATCH + 1)
            .collect();
        for name in &far {
            directory.place(own, &reached, name.clone(), true);
        }
        let sizes = |ships: Vec<Ship>| {
            ships
                .iter()
                .map(|ship| (ship.batch, ship.here.len()))
                .collect::<Vec<_>>()
        };
        assert_eq!(sizes(directory.ships(0, 100)), [(1, NAMES_PER_BATCH)]);
        assert_eq!(sizes(directory.ships(50, 100)), []);
        assert_eq!(sizes(directory.ships(100, 100)), [(1, NAMES_PER_BATCH)], "again");
        directory.placed(home, 1);
        assert_eq!(sizes(directory.ships(100, 100)), [(2, 1)]);
        directory.placed(home, 1);
        assert_eq!(directory.due_at(), Some(200));
        directory.placed(home, 2);
        assert_eq!(directory.due_at(), None);
    }
}
