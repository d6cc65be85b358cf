//! Clients that have several connections.
//!
//! A client that comes back keeps its link and its node (`../shared/wire/slim-wire.md`, section 10); the older connection of both is stale
//! and is ended. A process may have several links; they are of one node, and a message of one of them goes to none of the others, on
//! whichever core they are: a client forwards between its own links, so that messages would go round until their time to live ends
//! (agntcy/slim issue 1598). Of somebody else's message the links of a node get one copy together on each core: no core knows what the
//! node's links elsewhere have subscribed to.

use std::hash::BuildHasher;
use std::time::Instant;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::core_message::Body;
use crate::dialect::{Client, Dialect};
use crate::ids::End;
use crate::switch::Switch;

/// Links and nodes of this core's connections, by hash.
#[derive(Debug)]
pub(crate) struct Clients {
    /// The connection of a link, and since when.
    links: HashMap<u128, (u32, Instant), FixedState>,
    nodes: HashMap<u128, Node, FixedState>,
    hashers: [FixedState; 2],
    /// Counts deliveries to audiences with twins.
    round: u64,
}

#[derive(Debug, Default)]
struct Node {
    connections: SmallVec<[u32; 2]>,
    /// The last delivery in which one of them got its copy.
    round: u64,
}

impl Clients {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            links: HashMap::with_hasher(FixedState::with_seed(seed)),
            nodes: HashMap::with_hasher(FixedState::with_seed(seed)),
            hashers: [FixedState::with_seed(seed), FixedState::with_seed(!seed)],
            round: 0,
        }
    }

    /// A key for a link; 0 where the client does not name it. The same link of another node is another: the name is the client's own.
    fn link_key(&self, owner: &str, client: &Client) -> u128 {
        match &*client.link {
            "" => 0,
            link => self.key(("link", owner, link, &client.node)),
        }
    }

    /// A key for a node; 0 where nothing names it alone.
    fn node_key(&self, owner: &str, client: &Client) -> u128 {
        match &*client.node {
            node if client.node_is_unique => self.key(("node", owner, node, "")),
            _ => 0,
        }
    }

    /// Two seeded hashes: nobody outside can find two texts with the same key.
    fn key(&self, texts: (&str, &str, &str, &str)) -> u128 {
        let [high, low] = self.hashers.each_ref().map(|hasher| hasher.hash_one(texts));
        (u128::from(high) << 64 | u128::from(low)).max(1)
    }

    /// Begins a delivery to many.
    pub(crate) fn begin_round(&mut self) {
        self.round += 1;
    }

    /// Whether a node has not got its copy in this delivery; notes that it has now.
    pub(crate) fn is_first_of(&mut self, node: u128) -> bool {
        let Some(node) = self.nodes.get_mut(&node) else {
            return true;
        };
        let is_first = node.round != self.round;
        node.round = self.round;
        is_first
    }

    pub(crate) fn knows_node(&self, node: u128) -> bool {
        node != 0 && self.nodes.contains_key(&node)
    }
}

impl<D: Dialect> Switch<D> {
    /// A connection said who it is.
    pub(crate) fn identify(&mut self, index: u32, client: Client) {
        let connection = self.connections.at(index);
        let owner = &connection.peer.owner;
        let link = self.clients.link_key(owner, &client);
        let node = self.clients.node_key(owner, &client);
        let connection = self.connections.at_mut(index);
        connection.client = client;
        connection.link_key = link;
        connection.node_key = node;
        if link != 0 {
            let since = self.now;
            if let Some((stale, _)) = self.clients.links.insert(link, (index, since)) {
                self.retire(stale);
            }
            self.broadcast(|| Body::Identified { link, since });
        }
        if node != 0 {
            let connections = &mut self.clients.nodes.entry(node).or_default().connections;
            connections.push(index);
            match connections[..] {
                [] | [_] => {}
                // The first was alone until now.
                [first, second] => {
                    self.connections.at_mut(first).has_twin = true;
                    self.connections.at_mut(second).has_twin = true;
                }
                _ => self.connections.at_mut(index).has_twin = true,
            }
        }
    }

    /// A client is on another core. Of two at the same moment, the one on the higher core stays: both must find the same.
    pub(crate) fn identified_elsewhere(&mut self, core: u16, link: u128, since: Instant) {
        if let Some(&(index, own)) = self.clients.links.get(&link)
            && (own, self.config.core) < (since, core)
        {
            self.retire(index);
        }
    }

    /// Ends a connection whose client has come back on another.
    fn retire(&mut self, index: u32) {
        if self.connections.at(index).is_ending() {
            return;
        }
        self.connections.stats.stale += 1;
        self.end_connection(index, End::Orderly, true);
    }

    /// Forgets whose connection it is.
    pub(crate) fn forget_client(&mut self, index: u32) {
        let connection = self.connections.at_mut(index);
        let link = std::mem::take(&mut connection.link_key);
        let node = std::mem::take(&mut connection.node_key);
        connection.has_twin = false;
        if self
            .clients
            .links
            .get(&link)
            .is_some_and(|(known, _)| *known == index)
        {
            self.clients.links.remove(&link);
        }
        let Some(known) = self.clients.nodes.get_mut(&node) else {
            return;
        };
        known.connections.retain(|twin| *twin != index);
        match known.connections[..] {
            [] => _ = self.clients.nodes.remove(&node),
            [last] => self.connections.at_mut(last).has_twin = false,
            _ => {}
        }
    }
}
