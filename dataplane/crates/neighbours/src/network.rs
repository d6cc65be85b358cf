//! One node's part in the network.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};

use crate::directory::Directory;
use crate::effect::Effect;
use crate::fault::{Fault, LinkRefused};
use crate::ids::{LinkId, NodeId, Version};
use crate::interest::{Interest, Key, KeyError, Share};
use crate::limits::{COST_MAX, NODE_NAME_BYTES_MAX, NetworkLimits};
use crate::link::Link;
use crate::recent::Recent;
use crate::seen::Seen;
use crate::stats::{LinkInfo, NetworkSizes, NetworkStats, NodeInfo};
use crate::topics::{Counted, Heard};
use crate::topology::Topology;
use crate::trees::Trees;
use crate::wire;

/// How often what is old is looked for.
const SWEEP_MS: u64 = 1000;

/// See the crate. Give it what happens, with the time; then take its [effects](Network::next_effect) and note
/// [when](Network::next_timeout) to [`poll`](Network::poll).
#[derive(Debug)]
pub struct Network {
    pub(crate) own: NodeId,
    pub(crate) name: Arc<str>,
    pub(crate) incarnation: u64,
    pub(crate) limits: NetworkLimits,
    pub(crate) topology: Topology,
    pub(crate) trees: Trees,
    pub(crate) interest: Interest,
    pub(crate) links: BTreeMap<LinkId, Link>,
    pub(crate) by_peer: HashMap<NodeId, LinkId>,
    pub(crate) effects: VecDeque<Effect>,
    pub(crate) stats: NetworkStats,

    // This node's own word.
    pub(crate) leaving: bool,
    pub(crate) losses: u64,
    /// Its link state is another than what was told last.
    pub(crate) restate: bool,
    pub(crate) stated_ms: Option<u64>,
    pub(crate) state_number: u64,
    /// Interest that was not told yet.
    pub(crate) untold: BTreeMap<Key, Share>,
    /// Somebody came to want something, or nobody does any more; else only loads changed.
    pub(crate) untold_presence: bool,
    pub(crate) told_ms: Option<u64>,
    pub(crate) table_number: u64,

    // Tables that neighbours hold and this node does not.
    pub(crate) behind: BTreeMap<NodeId, Behind>,

    // Messages.
    pub(crate) sequence: u64,
    pub(crate) seen: HashMap<NodeId, Seen>,
    pub(crate) counted: Counted,
    pub(crate) heard: Heard,
    pub(crate) routes: Recent<Arc<str>, Route>,
    pub(crate) routed_generation: u64,

    pub(crate) directory: Directory,

    // What can be reached.
    pub(crate) viewed_generation: u64,
    pub(crate) reached: HashSet<NodeId>,
    pub(crate) unreached_since: BTreeMap<NodeId, u64>,
    /// The network changed at this time, and counts were not told since.
    pub(crate) disturbed_ms: Option<u64>,

    // Timers.
    pub(crate) counts_at: Option<u64>,
    pub(crate) news_at: Option<u64>,
    digest_at: u64,
    sweep_at: u64,
}

/// A table that a neighbour holds, newer than here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Behind {
    /// When to ask for it, or to ask again.
    pub(crate) due_ms: u64,
    /// Who was asked.
    pub(crate) asked: Option<LinkId>,
}

/// Who gets a topic.
#[derive(Debug)]
pub(crate) struct Route {
    /// Somebody here.
    pub(crate) here: bool,
    /// Other nodes, reached or not.
    pub(crate) elsewhere: Vec<NodeId>,
    /// By origin: the neighbours to which this node passes its messages on.
    pub(crate) next: HashMap<NodeId, Rc<[NodeId]>>,
}

impl Network {
    /// A node that has no neighbours yet. `incarnation` must be higher than at its last start: the time in microseconds, say.
    #[must_use]
    pub fn new(name: &str, incarnation: u64, limits: NetworkLimits, now: u64) -> Self {
        let own = NodeId::of(name);
        let mut network = Self {
            own,
            name: name.into(),
            incarnation: incarnation.max(1),
            topology: Topology::default(),
            trees: Trees::new(own, limits.trees_max),
            interest: Interest::new(
                own,
                limits.keys_max,
                limits.keys_per_node_max,
                limits.log_changes_max,
            ),
            links: BTreeMap::new(),
            by_peer: HashMap::new(),
            effects: VecDeque::new(),
            stats: NetworkStats::default(),
            leaving: false,
            losses: 0,
            restate: true,
            stated_ms: None,
            state_number: 0,
            untold: BTreeMap::new(),
            untold_presence: false,
            told_ms: None,
            table_number: 0,
            behind: BTreeMap::new(),
            sequence: 0,
            seen: HashMap::new(),
            counted: Counted::new(limits.topics_counted_max),
            heard: Heard::new(limits.topics_heard_max),
            routes: Recent::new(limits.routes_max),
            routed_generation: 0,
            directory: Directory::new(limits.places_max),
            viewed_generation: 0,
            reached: HashSet::new(),
            unreached_since: BTreeMap::new(),
            disturbed_ms: None,
            counts_at: None,
            news_at: None,
            digest_at: now + limits.digest_ms,
            sweep_at: now + SWEEP_MS,
            limits,
        };
        network.turn(now);
        network
    }

    /// This node.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.own
    }

    /// A link to a neighbour is up; `name` is what its certificate says. Both ends must say so of the same connection.
    ///
    /// # Errors
    /// [`LinkRefused`]; the connection is to be closed.
    pub fn link_up(&mut self, id: LinkId, name: &str, cost: u32, now: u64) -> Result<(), LinkRefused> {
        let peer = NodeId::of(name);
        if name.is_empty() || name.len() > NODE_NAME_BYTES_MAX {
            return Err(LinkRefused::Name { name: name.into() });
        }
        if *name == *self.name {
            return Err(LinkRefused::Itself);
        }
        let known = self.topology.get(peer);
        if peer == self.own || known.is_some_and(|known| *known.name != *name) {
            return Err(LinkRefused::SameNumber { name: name.into() });
        }
        if let Some(&other) = self.by_peer.get(&peer) {
            return Err(LinkRefused::Duplicate(other));
        }
        if self.links.len() >= self.limits.links_max {
            return Err(LinkRefused::TooMany {
                links: self.links.len(),
            });
        }
        let cost = cost.clamp(1, COST_MAX);
        self.by_peer.insert(peer, id);
        self.links.insert(id, Link::new(id, peer, name.into(), cost, now));
        self.tell_what_is_held(id);
        self.turn(now);
        Ok(())
    }

    /// A link is down. What was sent over it and has not arrived is lost.
    pub fn link_down(&mut self, id: LinkId, now: u64) {
        let Some(link) = self.links.remove(&id) else {
            return;
        };
        self.by_peer.remove(&link.peer);
        if link.is_used() {
            self.restate = true;
            self.losses += 1;
        }
        for behind in self.behind.values_mut() {
            if behind.asked == Some(id) {
                behind.due_ms = now;
            }
        }
        self.turn(now);
    }

    /// Messages for a link were dropped, as it cannot take them as fast as they come. Subscribers behind it will be told.
    pub fn dropped(&mut self, id: LinkId, now: u64) {
        if self.links.contains_key(&id) {
            self.restate = true;
            self.losses += 1;
        }
        self.turn(now);
    }

    /// A link costs something else now.
    pub fn set_cost(&mut self, id: LinkId, cost: u32, now: u64) {
        if let Some(link) = self.links.get_mut(&id) {
            link.cost = cost.clamp(1, COST_MAX);
            self.restate |= link.is_used();
        }
        self.turn(now);
    }

    /// This node is about to leave: others take their messages past it where they can, and still reach it.
    pub fn leave(&mut self, now: u64) {
        self.restate |= !self.leaving;
        self.leaving = true;
        self.turn(now);
    }

    /// What is wanted or offered on this node: so much of a key, [`Share::NONE`] for no more.
    ///
    /// # Errors
    /// [`KeyError`] for a key that others would refuse.
    pub fn want(&mut self, key: Key, share: Share, now: u64) -> Result<(), KeyError> {
        key.check()?;
        let (share, told) = (share.in_steps(), self.interest.share(self.own, &key));
        if share == told {
            self.untold.remove(&key);
        } else {
            self.untold_presence |= (share.count == 0) != (told.count == 0);
            self.untold.insert(key, share);
        }
        self.turn(now);
        Ok(())
    }

    /// A message came over a link.
    ///
    /// # Errors
    /// [`Fault`]; the link is to be closed.
    pub fn receive(&mut self, link: LinkId, message: Bytes, now: u64) -> Result<(), Fault> {
        if !self.links.contains_key(&link) {
            return Err(Fault::UnknownLink);
        }
        match wire::decode(message, now)? {
            wire::Heard::Carry { header, body } => {
                self.carried(link, header, body, now);
                return Ok(());
            }
            wire::Heard::Summary { held, last } => self.summary(link, &held, last, now),
            wire::Heard::Flood { states, acknowledged } => self.flooded(link, states, &acknowledged, now),
            wire::Heard::Have(tables) => self.have(link, &tables, now),
            wire::Heard::Pull(tables) => self.pulled(link, &tables),
            wire::Heard::Interest { node, delta, more } => {
                self.interest_told(link, node, delta, more, now)?
            }
            wire::Heard::Digest(digest) => self.digest_told(link, digest),
            // It is the first message of a connection, before the link is up.
            wire::Heard::Hello(_) => return Err(Fault::Field { field: "hello" }),
        }
        self.turn(now);
        Ok(())
    }

    /// Time has passed.
    pub fn poll(&mut self, now: u64) {
        if now >= self.sweep_at {
            self.sweep_at = now + SWEEP_MS;
            self.sweep(now);
        }
        if now >= self.digest_at {
            self.digest_at = now + self.limits.digest_ms;
            self.tell_digest();
        }
        if self.counts_at.is_some_and(|at| now >= at) {
            self.tell_counts();
        }
        self.turn(now);
    }

    /// When to [`poll`](Network::poll) at the latest.
    #[must_use]
    pub fn next_timeout(&self) -> u64 {
        let behind = self.behind.values().map(|behind| behind.due_ms).min();
        let directory = self.directory.due_at();
        let timers = [
            self.counts_at,
            self.news_at,
            behind,
            self.restate_at(),
            self.tell_at(),
            directory,
        ];
        let first = self.sweep_at.min(self.digest_at);
        timers.into_iter().flatten().fold(first, u64::min)
    }

    /// The next thing to do.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// What follows from what just happened.
    pub(crate) fn turn(&mut self, now: u64) {
        self.finish_exchanges(now);
        self.restate(now);
        self.tell(now);
        self.look_around(now);
        self.flush_floods(now);
        self.flush_news(now);
        self.flush_pulls(now);
        self.flush_directory(now);
        while let Some((pattern, subscribers)) = self.interest.next_moved() {
            self.effects.push_back(Effect::Elsewhere { pattern, subscribers });
        }
    }

    pub(crate) fn send(&mut self, link: LinkId, message: Bytes) {
        self.stats.control_sent += 1;
        self.stats.control_bytes_sent += message.len() as u64;
        self.effects.push_back(Effect::Send {
            link,
            head: message,
            body: Bytes::new(),
        });
    }

    pub(crate) fn version(&self, number: u64) -> Version {
        Version {
            incarnation: self.incarnation,
            number,
        }
    }

    /// The name of a node.
    #[must_use]
    pub fn name_of(&self, node: NodeId) -> Option<&Arc<str>> {
        self.topology.get(node).map(|state| &state.name)
    }

    /// What happened.
    #[must_use]
    pub fn stats(&self) -> NetworkStats {
        NetworkStats {
            left_out: self.stats.left_out + self.interest.left_out,
            ..self.stats
        }
    }

    /// How much is held.
    #[must_use]
    pub fn sizes(&self) -> NetworkSizes {
        NetworkSizes {
            nodes: self.topology.len(),
            reached: self.reached.len(),
            keys: self.interest.keys(),
            entries: self.interest.entries(),
            topics_counted: self.counted.len(),
            topics_heard: self.heard.len(),
            agents: self.directory.agents(),
            names_held: self.directory.names_held(),
        }
    }

    /// All nodes known, by name.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeInfo> {
        let name = |node: NodeId, topology: &Topology| match topology.get(node) {
            Some(state) => state.name.to_string(),
            None => format!("{node:?}"),
        };
        // Made for the one who asks: it is rare, and must not push out a tree that messages need.
        let mut trees = Trees::new(self.own, 1);
        let own = trees.of(self.own, &self.topology);
        let mut nodes: Vec<NodeInfo> = self
            .topology
            .iter()
            .map(|state| {
                let place = trees.place(state.node, &self.topology);
                let at = own.as_ref().zip(place);
                NodeInfo {
                    name: state.name.to_string(),
                    cost: at.and_then(|(tree, place)| tree.cost(place)),
                    through: at
                        .and_then(|(tree, place)| tree.via(place))
                        .map(|through| name(through, &self.topology)),
                    wants: self.interest.of(state.node).count(),
                    links: state
                        .links
                        .iter()
                        .map(|(to, cost)| (name(*to, &self.topology), *cost))
                        .collect(),
                    leaving: state.leaving,
                }
            })
            .collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        nodes
    }

    /// All links that are up.
    #[must_use]
    pub fn links(&self) -> Vec<(LinkId, LinkInfo)> {
        self.links
            .values()
            .map(|link| {
                let info = LinkInfo {
                    name: link.name.to_string(),
                    cost: link.cost,
                    used: link.is_used(),
                    behind: link.lacks.len() + link.sent.len(),
                };
                (link.id, info)
            })
            .collect()
    }

    /// What a node wants, in order.
    #[must_use]
    pub fn interest_of(&self, node: NodeId) -> Vec<(Key, Share)> {
        let mut all: Vec<_> = self
            .interest
            .of(node)
            .map(|(key, share)| (key.clone(), share))
            .collect();
        all.sort();
        all
    }

    /// The neighbours to which this node passes on what all nodes want of an origin.
    pub fn next_of(&mut self, origin: NodeId) -> Vec<NodeId> {
        let tree = self.trees.of(origin, &self.topology);
        let mut next = tree.map_or(Vec::new(), |tree| tree.children().to_vec());
        next.sort_unstable();
        next
    }
}
