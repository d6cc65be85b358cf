//! What two neighbours hold: told when their link comes up, and again when their digests differ.

use crate::ids::{LinkId, NodeId, Version, mix};
use crate::limits::ENTRIES_PER_MESSAGE;
use crate::link::{Holds, Stage};
use crate::network::{Behind, Network};
use crate::wire::{self, Held};

/// Digests that differ once are news under way; twice in a row, something was missed.
const DIFFERS_MAX: u32 = 2;

impl Network {
    /// Tells a neighbour what this node holds of the nodes it reaches. What it holds of others may be long over.
    pub(crate) fn tell_what_is_held(&mut self, to: LinkId) {
        let held = self.held();
        let mut parts = held.chunks(ENTRIES_PER_MESSAGE).peekable();
        while let Some(part) = parts.next() {
            self.send(to, wire::summary(part, parts.peek().is_none()));
        }
    }

    fn held(&self) -> Vec<Held> {
        let own = std::iter::once(&self.own);
        let mut held: Vec<Held> = own
            .chain(&self.reached)
            .map(|&node| Held {
                node,
                state: self.topology.version(node),
                table: self.interest.version(node),
            })
            .filter(|held| held.state != Version::NONE)
            .collect();
        held.sort_unstable_by_key(|held| held.node);
        held
    }

    pub(crate) fn summary(&mut self, from: LinkId, held: &[Held], last: bool, now: u64) {
        let Some(link) = self.links.get_mut(&from) else {
            return;
        };
        for &Held { node, state, table } in held {
            link.named.insert(node);
            link.holds.insert(node, Holds { state, table });
            let (own_state, own_table) = (self.topology.version(node), self.interest.version(node));
            if own_table > table && link.is_used() {
                link.news.insert(node);
            }
            if node == self.own {
                continue;
            }
            if own_state > state {
                link.lacks.insert(node);
            }
            if let Stage::Exchange(exchange) = &mut link.stage {
                if state > own_state {
                    exchange.states.insert(node);
                }
                if table > own_table {
                    exchange.tables.insert(node);
                }
            }
            if table > own_table && own_state != Version::NONE {
                let behind = self.behind.entry(node).or_insert(Behind {
                    due_ms: now,
                    asked: None,
                });
                if behind.asked.is_none() {
                    behind.due_ms = now;
                }
            }
        }
        if !last {
            return;
        }
        let named = std::mem::take(&mut link.named);
        link.holds.retain(|node, _| named.contains(node));
        let unnamed = self.reached.iter().filter(|node| !named.contains(node));
        link.lacks.extend(unnamed);
        let told = link.holds(self.own).state;
        link.lacks.insert(self.own);
        if let Stage::Exchange(exchange) = &mut link.stage {
            exchange.summary = true;
        }
        if told > self.version(self.state_number) {
            self.own_state_heard(from, told);
        }
    }

    /// Uses the links whose ends know what the other knows.
    pub(crate) fn finish_exchanges(&mut self, now: u64) {
        for link in self.links.values_mut() {
            let holds = &link.holds;
            let Stage::Exchange(exchange) = &mut link.stage else {
                continue;
            };
            let there = |node: &NodeId| holds.get(node).copied().unwrap_or_default();
            exchange
                .states
                .retain(|node| there(node).state > self.topology.version(*node));
            exchange
                .tables
                .retain(|node| there(node).table > self.interest.version(*node));
            let done = exchange.summary && exchange.states.is_empty() && exchange.tables.is_empty();
            if done || now >= exchange.since_ms + self.limits.exchange_ms_max {
                link.stage = Stage::Used;
                self.restate = true;
            }
        }
    }

    /// Of all versions held; the order does not matter.
    fn digest(&self) -> u64 {
        let of = |version: Version| mix(version.incarnation ^ mix(version.number));
        self.held()
            .iter()
            .map(|held| mix(held.node.to_bits() ^ mix(of(held.state) ^ of(held.table).rotate_left(1))))
            .fold(0, u64::wrapping_add)
    }

    pub(crate) fn tell_digest(&mut self) {
        let message = wire::digest(self.digest());
        let links: Vec<LinkId> = self
            .links
            .values()
            .filter(|link| link.is_used())
            .map(|link| link.id)
            .collect();
        for link in links {
            self.send(link, message.clone());
        }
    }

    pub(crate) fn digest_told(&mut self, from: LinkId, digest: u64) {
        let own = self.digest();
        let Some(link) = self.links.get_mut(&from) else {
            return;
        };
        link.differs = if digest == own { 0 } else { link.differs + 1 };
        if link.differs >= DIFFERS_MAX {
            link.differs = 0;
            self.stats.healed += 1;
            self.tell_what_is_held(from);
        }
    }
}
