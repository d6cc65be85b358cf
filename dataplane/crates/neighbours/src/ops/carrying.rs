//! Messages between nodes: to all who want a topic, or to one.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;

use crate::effect::Effect;
use crate::ids::{LinkId, NodeId, Version};
use crate::interest::{Key, Share};
use crate::network::{Network, Route};
use crate::seen::Seen;
use crate::topics::{Count, Next, Place};
use crate::wire::{self, Header, To};

impl Network {
    /// Sends messages of one topic to all other nodes that want it: once over each link, whatever lies behind. Returns how many
    /// nodes want it; what cannot be reached now is told that it missed something when it can.
    pub fn publish(&mut self, topic: &str, messages: u32, body: Bytes, now: u64) -> usize {
        let (topic, _, elsewhere, next) = self.route(topic, self.own);
        if elsewhere == 0 {
            self.counted.forget(&topic);
            return 0;
        }
        self.sequence += 1;
        let (count, gave_way) = self.counted.count(&topic, messages, self.sequence, now);
        let to = topic_at(topic, count, messages, false);
        self.pass_on(self.header(to), body, &next, None);
        if let Some((topic, count)) = gave_way {
            self.tell_count(&topic, count, true);
        }
        elsewhere
    }

    /// Sends a message to one node. False: it cannot be reached.
    pub fn send_to(&mut self, node: NodeId, body: Bytes) -> bool {
        self.send_on_way(node, body, false)
    }

    pub(crate) fn send_on_way(&mut self, node: NodeId, body: Bytes, directory: bool) -> bool {
        let Some(next) = self.way(self.own, node) else {
            return false;
        };
        self.sequence += 1;
        self.pass_on(self.header(To::Node { node, directory }), body, &[next], None);
        true
    }

    /// Where a key is held, other than here, as near as possible; of the nearest, where there is least to do for each.
    pub fn nearest(&mut self, key: &Key) -> Option<NodeId> {
        let own = self.trees.of(self.own, &self.topology)?;
        let mut best: Option<((u64, f64), NodeId)> = None;
        for &(node, Share { count, load }) in self.interest.holders(key) {
            let place = self.trees.place(node, &self.topology);
            let Some(cost) = place.and_then(|place| own.cost(place)) else {
                continue;
            };
            let rank = (cost, f64::from(load) / f64::from(count));
            if node != self.own && best.is_none_or(|(known, _)| rank < known) {
                best = Some((rank, node));
            }
        }
        best.map(|(_, node)| node)
    }

    /// The queue groups that want a topic, here or elsewhere.
    #[must_use]
    pub fn groups_of(&self, topic: &str) -> Vec<Key> {
        self.interest.groups_of(topic)
    }

    /// A message came over a link.
    pub(crate) fn carried(&mut self, from: LinkId, header: Header, body: Bytes, now: u64) {
        let origin = header.origin;
        let known = self.topology.version(origin);
        if origin == self.own {
            self.stats.duplicates += 1;
            return;
        }
        if known == Version::NONE || known.incarnation > header.incarnation {
            self.stats.origin_unknown += 1;
            return;
        }
        let seen = self
            .seen
            .entry(origin)
            .or_insert_with(|| Seen::new(header.incarnation));
        if !seen.note(header.incarnation, header.sequence) {
            self.stats.duplicates += 1;
            return;
        }
        match header.to {
            To::Node {
                node,
                directory: true,
            } if node == self.own => {
                self.directory_told(origin, header.incarnation, body);
                self.turn(now);
            }
            To::Node { node, .. } if node == self.own => {
                self.effects.push_back(Effect::Message { origin, body });
            }
            // For the directory any good way will do, and this node's own tree is at hand.
            To::Node { node, directory } => match self.way(if directory { self.own } else { origin }, node) {
                Some(next) => self.pass_on(header, body, &[next], Some(from)),
                None => self.stats.no_way += 1,
            },
            To::Topic { ref topic, .. } => {
                let (topic, here, _, next) = self.route(topic, origin);
                if here {
                    self.arrived(&header, &topic, body.clone());
                }
                self.pass_on(header, body, &next, Some(from));
            }
        }
    }

    /// Messages for subscribers here.
    fn arrived(&mut self, header: &Header, topic: &Arc<str>, body: Bytes) {
        let &Header {
            origin,
            incarnation,
            to:
                To::Topic {
                    since,
                    count,
                    messages,
                    closing,
                    ..
                },
            ..
        } = header
        else {
            return;
        };
        let place = Place {
            incarnation,
            since,
            count,
        };
        let next = self
            .heard
            .note(&(origin, Arc::clone(topic)), place, messages, closing);
        let (missing, exact) = match next {
            Next::Past => {
                self.stats.duplicates += 1;
                return;
            }
            Next::InOrder => (0, true),
            Next::After(missing) => (missing, true),
            Next::Anew(missing) => (missing, false),
        };
        if missing > 0 || !exact {
            self.effects.push_back(Effect::Gap {
                origin,
                topic: Arc::clone(topic),
                missing,
                exact,
            });
        }
        if messages > 0 {
            self.effects.push_back(Effect::Published {
                origin,
                topic: Arc::clone(topic),
                messages,
                body,
            });
        }
    }

    /// Sends a message over the links to some neighbours, but not back to where it came from.
    fn pass_on(&mut self, mut header: Header, body: Bytes, next: &[NodeId], from: Option<LinkId>) {
        if from.is_some() {
            let Some(hops) = header.hops.checked_sub(1) else {
                self.stats.hops_exceeded += u64::from(!next.is_empty());
                return;
            };
            header.hops = hops;
        }
        let mut head: Option<Bytes> = None;
        for neighbour in next {
            let Some(&link) = self.by_peer.get(neighbour) else {
                self.stats.no_way += 1;
                continue;
            };
            if Some(link) == from {
                continue;
            }
            let head = head.get_or_insert_with(|| wire::carry_head(&header, body.len()));
            self.stats.carried_sent += 1;
            self.stats.passed_on += u64::from(from.is_some());
            self.effects.push_back(Effect::Send {
                link,
                head: head.clone(),
                body: body.clone(),
            });
        }
    }

    /// After the network changed: tells how far topics are that said something lately.
    pub(crate) fn tell_counts(&mut self) {
        self.counts_at = None;
        let Some(since) = self.disturbed_ms.take() else {
            return;
        };
        for (topic, count) in self
            .counted
            .recent(since.saturating_sub(self.limits.topic_recent_ms))
        {
            self.tell_count(&topic, count, false);
        }
    }

    fn tell_count(&mut self, topic: &str, count: Count, closing: bool) {
        let (topic, _, _, next) = self.route(topic, self.own);
        self.sequence += 1;
        let to = topic_at(topic, count, 0, closing);
        self.pass_on(self.header(to), Bytes::new(), &next, None);
    }

    fn header(&self, to: To) -> Header {
        Header {
            origin: self.own,
            incarnation: self.incarnation,
            sequence: self.sequence,
            hops: self.limits.hops_max.saturating_sub(1),
            to,
        }
    }

    /// The neighbour through which an origin's messages go to a node.
    fn way(&mut self, origin: NodeId, to: NodeId) -> Option<NodeId> {
        let place = self.trees.place(to, &self.topology)?;
        self.trees.of(origin, &self.topology)?.via(place)
    }

    /// Who gets a topic: the shared topic, whether somebody here, how many other nodes, and the neighbours to which this node passes
    /// on what the origin publishes.
    fn route(&mut self, topic: &str, origin: NodeId) -> (Arc<str>, bool, usize, Rc<[NodeId]>) {
        self.forget_outdated_routes();
        if self.routes.touch(topic).is_none() {
            let mut elsewhere = self.interest.nodes_of(topic);
            let here = elsewhere.binary_search(&self.own);
            if let Ok(at) = here {
                elsewhere.remove(at);
            }
            let route = Route {
                here: here.is_ok(),
                elsewhere,
                next: HashMap::new(),
            };
            self.routes.put(topic.into(), route);
        }
        let Some((topic, route)) = self.routes.touch_entry(topic) else {
            unreachable!("put just now");
        };
        let (here, elsewhere) = (route.here, route.elsewhere.len());
        if let Some(next) = route.next.get(&origin) {
            return (topic, here, elsewhere, Rc::clone(next));
        }
        let mut next = Vec::new();
        if let Some(tree) = self.trees.of(origin, &self.topology) {
            for node in &route.elsewhere {
                let place = self.trees.place(*node, &self.topology);
                next.extend(place.and_then(|place| tree.via(place)));
            }
        }
        next.sort_unstable();
        next.dedup();
        let next: Rc<[NodeId]> = next.into();
        route.next.insert(origin, Rc::clone(&next));
        (topic, here, elsewhere, next)
    }

    fn forget_outdated_routes(&mut self) {
        let outdated = self.interest.outdated();
        if outdated.all || self.routed_generation != self.topology.generation() {
            self.routed_generation = self.topology.generation();
            self.routes.clear();
        }
        for topic in outdated.topics {
            self.routes.remove(&topic);
        }
    }
}

fn topic_at(topic: Arc<str>, count: Count, messages: u32, closing: bool) -> To {
    To::Topic {
        topic,
        since: count.since,
        count: count.count,
        messages,
        closing,
    }
}
