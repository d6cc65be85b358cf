//! Link states: this node's own, and passing on those of others.
//!
//! What a neighbour lacks is a set of nodes, not a queue of messages: a link that is slow or a node that changes often costs the newest
//! word of each node, and no more. States that were sent and not acknowledged are bounded.

use crate::ids::{LinkId, NodeId, Version};
use crate::limits::ENTRIES_PER_MESSAGE;
use crate::network::{Behind, Network};
use crate::topology::{Installed, LinkState};
use crate::wire;

/// Links named in one message of states: about 56 KiB.
const LINKS_PER_MESSAGE: usize = 4096;

impl Network {
    /// When this node's next link state may be made, if one is wanted.
    pub(crate) fn restate_at(&self) -> Option<u64> {
        let earliest = self.stated_ms.map_or(0, |at| at + self.limits.originate_ms_min);
        self.restate.then_some(earliest)
    }

    /// Makes this node's link state, if it is another and the last one is old enough.
    pub(crate) fn restate(&mut self, now: u64) {
        if self.restate_at().is_none_or(|at| at > now) {
            return;
        }
        self.restate = false;
        self.stated_ms = Some(now);
        self.state_number += 1;
        let used = self.links.values().filter(|link| link.is_used());
        let mut links: Vec<(NodeId, u32)> = used.map(|link| (link.peer, link.cost)).collect();
        links.sort_unstable();
        let state = LinkState {
            node: self.own,
            name: self.name.clone(),
            version: self.version(self.state_number),
            born_ms: now as i64,
            links: links.into(),
            leaving: self.leaving,
            losses: self.losses,
        };
        self.topology.install(state, usize::MAX);
        self.spread_state(self.own, None);
    }

    pub(crate) fn flooded(
        &mut self,
        from: LinkId,
        states: Vec<LinkState>,
        acknowledged: &[(NodeId, Version)],
        now: u64,
    ) {
        if let Some(link) = self.links.get_mut(&from) {
            for (node, version) in acknowledged {
                link.has_state(*node, *version);
            }
        }
        for state in states {
            match state.node == self.own {
                true => self.own_state_heard(from, state.version),
                false => self.install(from, state, now),
            }
        }
    }

    fn install(&mut self, from: LinkId, state: LinkState, now: u64) {
        let (node, version) = (state.node, state.version);
        if now as i64 - state.born_ms >= self.limits.age_ms_max as i64 {
            return self.acknowledge(from, node, version);
        }
        let installed = self.topology.install(state, self.limits.nodes_max);
        match installed {
            Installed::Newer { restarted, .. } => {
                if restarted && self.interest.version(node).incarnation < version.incarnation {
                    self.interest.forget(node);
                    self.behind.remove(&node);
                }
                if restarted {
                    self.directory.restarted(node, version.incarnation);
                }
                self.acknowledge(from, node, version);
                self.spread_state(node, Some(from));
                self.notice_newer_table(node, now);
            }
            Installed::Same => self.acknowledge(from, node, version),
            Installed::Older => {
                if let Some(link) = self.links.get_mut(&from) {
                    link.has_state(node, version);
                    link.lacks.insert(node);
                }
            }
            Installed::Full => {
                self.stats.left_out += 1;
                self.acknowledge(from, node, version);
            }
            Installed::SameNumber => {
                self.stats.same_number += 1;
                self.acknowledge(from, node, version);
            }
        }
    }

    fn acknowledge(&mut self, to: LinkId, node: NodeId, version: Version) {
        let known = self.topology.version(node);
        if let Some(link) = self.links.get_mut(&to) {
            link.has_state(node, version);
            if known <= version {
                link.lacks.remove(&node);
            }
            link.came.push((node, version));
        }
    }

    /// Somebody says what this node said: an echo, or its word of an earlier start that this start must outbid.
    pub(crate) fn own_state_heard(&mut self, from: LinkId, version: Version) {
        if version > self.version(self.state_number) {
            self.outbid(version);
        }
        let own = self.topology.version(self.own);
        let Some(link) = self.links.get_mut(&from) else {
            return;
        };
        link.has_state(self.own, version);
        match version < own {
            true => drop(link.lacks.insert(self.own)),
            false => link.came.push((self.own, version)),
        }
    }

    /// Starts over with a later incarnation.
    fn outbid(&mut self, heard: Version) {
        self.stats.outbid += 1;
        self.incarnation = heard.incarnation.saturating_add(1);
        self.state_number = 0;
        self.restate = true;
        if self.table_number > 0 {
            self.table_number = 1;
            self.interest.renew(self.own, self.version(1));
            self.spread_table(self.own, None);
        }
        self.counted.clear();
    }

    /// All neighbours but the one it came from must get a state, where they do not have it.
    fn spread_state(&mut self, node: NodeId, from: Option<LinkId>) {
        let version = self.topology.version(node);
        for link in self.links.values_mut() {
            if Some(link.id) != from && link.holds(node).state < version {
                link.lacks.insert(node);
            }
        }
    }

    /// A neighbour may have told of a table before its node was known.
    fn notice_newer_table(&mut self, node: NodeId, now: u64) {
        let known = self.interest.version(node);
        if self.links.values().any(|link| link.holds(node).table > known) {
            let behind = Behind {
                due_ms: now,
                asked: None,
            };
            self.behind.insert(node, behind);
        }
    }

    pub(crate) fn flush_floods(&mut self, now: u64) {
        let unacknowledged_max = self.limits.flood_unacknowledged_max;
        let mut messages = Vec::new();
        for link in self.links.values_mut() {
            loop {
                let room = unacknowledged_max
                    .saturating_sub(link.sent.len())
                    .min(ENTRIES_PER_MESSAGE);
                let (mut states, mut named) = (Vec::new(), 0);
                while states.len() < room && named < LINKS_PER_MESSAGE {
                    let Some(node) = link.lacks.pop_first() else { break };
                    let Some(state) = self.topology.get(node) else {
                        continue;
                    };
                    if link.holds(node).state >= state.version {
                        continue;
                    }
                    link.sent.insert(node, state.version);
                    named += state.links.len();
                    states.push(state);
                }
                if states.is_empty() && link.came.is_empty() {
                    break;
                }
                messages.push((link.id, wire::flood(&states, &link.came, now)));
                link.came.clear();
            }
        }
        for (link, message) in messages {
            self.send(link, message);
        }
    }
}
