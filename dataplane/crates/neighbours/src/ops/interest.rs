//! Interest tables: this node's own, and passing on those of others.
//!
//! News of a table goes down its node's tree, so that it crosses each link of the tree once. Neighbours off the tree are told only that
//! there are news (`Have`); who then does not get them by itself asks (`Pull`). So what a change of the network swallows is found again
//! at once, and not only when digests are compared.

use std::collections::BTreeMap;

use crate::fault::Fault;
use crate::ids::{LinkId, NodeId, Version};
use crate::interest::{Applied, Change, Delta, Key, Share};
use crate::limits::{ENTRIES_PER_MESSAGE, UPDATE_BYTES};
use crate::link::Part;
use crate::network::{Behind, Network};
use crate::wire;

impl Network {
    /// When this node's interest may be told, if there is something to tell.
    pub(crate) fn tell_at(&self) -> Option<u64> {
        if self.untold.is_empty() {
            return None;
        }
        let pause = match self.untold_presence {
            true => self.limits.interest_ms_min,
            false => self.limits.load_ms_min,
        };
        Some(self.told_ms.map_or(0, |at| at + pause))
    }

    /// Tells what this node wants, if something is due.
    pub(crate) fn tell(&mut self, now: u64) {
        if self.tell_at().is_none_or(|at| at > now) {
            return;
        }
        self.told_ms = Some(now);
        let mut changes = Vec::new();
        while changes.len() < ENTRIES_PER_MESSAGE
            && let Some((key, share)) = self.untold.pop_first()
        {
            changes.push(Change { key, share });
        }
        self.untold_presence &= !self.untold.is_empty();
        let ended = |change: &Change| change.share.count == 0 && matches!(change.key, Key::Pattern(_));
        let ended: Vec<Key> = changes
            .iter()
            .filter(|change| ended(change))
            .map(|change| change.key.clone())
            .collect();
        self.table_number += 1;
        let version = self.version(self.table_number);
        let delta = self.interest.tell(self.own, version, changes);
        for key in ended {
            self.stop_hearing(&key);
        }
        self.push(self.own, &delta, None);
    }

    /// Topics that nobody here wants any more begin anew when somebody does again.
    fn stop_hearing(&mut self, ended: &Key) {
        let Key::Pattern(pattern) = ended else { return };
        let (own, interest) = (self.own, &self.interest);
        self.heard.retain(|_, topic| {
            !ringgate_policy::matches(pattern, topic) || interest.nodes_of(topic).binary_search(&own).is_ok()
        });
    }

    /// Passes on a change to the neighbours below this node in the tree of the node it is of.
    fn push(&mut self, node: NodeId, delta: &Delta, from: Option<LinkId>) {
        let mut message = None;
        for link in self.below(node, from) {
            let lacks = self.links.get_mut(&link).is_some_and(|link| {
                let lacks = link.holds(node).table < delta.version;
                link.has_table(node, delta.version);
                lacks
            });
            if lacks {
                let message = message.get_or_insert_with(|| {
                    let changes = delta.changes.iter().map(|change| (&change.key, change.share));
                    wire::interest(node, (delta.base, delta.version, delta.digest), changes, false)
                });
                self.send(link, message.clone());
            }
        }
        self.announce(node, from);
    }

    /// Passes on a whole table in the same way.
    pub(crate) fn spread_table(&mut self, node: NodeId, from: Option<LinkId>) {
        let version = self.interest.version(node);
        for link in self.below(node, from) {
            let lacks = self.links.get_mut(&link).is_some_and(|link| {
                let lacks = link.holds(node).table < version;
                link.has_table(node, version);
                lacks
            });
            if lacks {
                self.send_table(link, node);
            }
        }
        self.announce(node, from);
    }

    fn below(&mut self, node: NodeId, from: Option<LinkId>) -> Vec<LinkId> {
        let Some(tree) = self.trees.of(node, &self.topology) else {
            return Vec::new();
        };
        let links = tree
            .children()
            .iter()
            .filter_map(|child| self.by_peer.get(child).copied());
        links.filter(|link| Some(*link) != from).collect()
    }

    /// Tells the other neighbours, soon, that there are news.
    fn announce(&mut self, node: NodeId, from: Option<LinkId>) {
        let version = self.interest.version(node);
        for link in self.links.values_mut() {
            if Some(link.id) != from && link.holds(node).table < version {
                link.news.insert(node);
            }
        }
    }

    /// When `Have` is due is counted from the first of the news.
    pub(crate) fn flush_news(&mut self, now: u64) {
        if self.links.values().all(|link| link.news.is_empty()) {
            self.news_at = None;
            return;
        }
        let at = *self.news_at.get_or_insert(now + self.limits.have_ms);
        if at > now {
            return;
        }
        self.news_at = None;
        let mut messages = Vec::new();
        for link in self.links.values_mut() {
            let news = std::mem::take(&mut link.news);
            let lacking: Vec<(NodeId, Version)> = news
                .into_iter()
                .map(|node| (node, self.interest.version(node)))
                .filter(|(node, version)| link.holds(*node).table < *version)
                .collect();
            let parts = lacking.chunks(ENTRIES_PER_MESSAGE);
            messages.extend(parts.map(|part| (link.id, wire::have(part))));
        }
        for (link, message) in messages {
            self.send(link, message);
        }
    }

    pub(crate) fn have(&mut self, from: LinkId, tables: &[(NodeId, Version)], now: u64) {
        for &(node, version) in tables {
            if node == self.own {
                continue;
            }
            if let Some(link) = self.links.get_mut(&from) {
                link.has_table(node, version);
            }
            let known = self.interest.version(node);
            if version > known && self.topology.get(node).is_some() {
                // A change that is on its way cannot be applied to nothing.
                let wait = if known == Version::NONE {
                    0
                } else {
                    self.limits.pull_after_ms
                };
                self.behind.entry(node).or_insert(Behind {
                    due_ms: now + wait,
                    asked: None,
                });
            }
        }
    }

    /// Asks for the tables that did not come by themselves.
    pub(crate) fn flush_pulls(&mut self, now: u64) {
        if self.behind.values().all(|behind| behind.due_ms > now) {
            return;
        }
        let under_way = self
            .behind
            .values()
            .filter(|behind| behind.asked.is_some() && behind.due_ms > now);
        let mut room = self.limits.pulls_max.saturating_sub(under_way.count());
        let mut asks: BTreeMap<LinkId, Vec<(NodeId, Version)>> = BTreeMap::new();
        let due: Vec<NodeId> = self
            .behind
            .iter()
            .filter(|(_, behind)| behind.due_ms <= now)
            .map(|(node, _)| *node)
            .collect();
        for node in due {
            let known = self.interest.version(node);
            let asked = self.behind.get(&node).and_then(|behind| behind.asked);
            // The newest, and rather not of the one that did not answer.
            let holders = self.links.values().filter(|link| link.holds(node).table > known);
            let best = holders.max_by_key(|link| (Some(link.id) != asked, link.holds(node).table));
            let Some(best) = best.map(|link| link.id) else {
                self.behind.remove(&node);
                continue;
            };
            if self.topology.get(node).is_none() {
                self.behind.remove(&node);
                continue;
            }
            if room == 0 {
                break;
            }
            room -= 1;
            asks.entry(best).or_default().push((node, known));
            self.behind.insert(
                node,
                Behind {
                    due_ms: now + self.limits.pull_ms_max,
                    asked: Some(best),
                },
            );
        }
        for (link, tables) in asks {
            self.stats.pulls += tables.len() as u64;
            self.send(link, wire::pull(&tables));
        }
    }

    /// A neighbour asks for tables newer than those it has.
    pub(crate) fn pulled(&mut self, from: LinkId, tables: &[(NodeId, Version)]) {
        for &(node, there) in tables {
            let version = self.interest.version(node);
            if version <= there {
                continue;
            }
            let steps: Option<Vec<Delta>> = self
                .interest
                .table(node)
                .and_then(|table| table.since(there))
                .map(|steps| steps.cloned().collect());
            match steps {
                None => self.send_table(from, node),
                Some(steps) => {
                    for delta in steps {
                        let changes = delta.changes.iter().map(|change| (&change.key, change.share));
                        let message =
                            wire::interest(node, (delta.base, delta.version, delta.digest), changes, false);
                        self.send(from, message);
                    }
                }
            }
            if let Some(link) = self.links.get_mut(&from) {
                link.has_table(node, version);
            }
        }
    }

    fn send_table(&mut self, to: LinkId, node: NodeId) {
        let versions = (
            Version::NONE,
            self.interest.version(node),
            self.interest.digest(node),
        );
        let entries: Vec<(Key, Share)> = self.interest_of(node);
        let mut rest = &entries[..];
        loop {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|(key, _)| {
                bytes += wire::change_len(key);
                bytes <= UPDATE_BYTES
            });
            let (part, behind) = rest.split_at(fits.count());
            let changes = part.iter().map(|(key, share)| (key, *share));
            let message = wire::interest(node, versions, changes, !behind.is_empty());
            self.send(to, message);
            rest = behind;
            if rest.is_empty() {
                return;
            }
        }
    }

    /// A neighbour tells what a node wants.
    pub(crate) fn interest_told(
        &mut self,
        from: LinkId,
        node: NodeId,
        delta: Delta,
        more: bool,
        now: u64,
    ) -> Result<(), Fault> {
        let Some(link) = self.links.get_mut(&from) else {
            return Ok(());
        };
        if node == self.own {
            return Ok(());
        }
        link.has_table(node, delta.version);
        let incarnation = self.topology.get(node).map(|state| state.version.incarnation);
        if incarnation != Some(delta.version.incarnation) || delta.version <= self.interest.version(node) {
            // Of a start of the node that is over or not known yet: asked for when its link state comes.
            link.parts.remove(&node);
            return Ok(());
        }
        let applied = if delta.base != Version::NONE {
            let applied = self.interest.apply(node, delta.clone());
            if applied == Applied::Done {
                self.push(node, &delta, Some(from));
            }
            applied
        } else {
            let part = link.parts.entry(node).or_insert_with(|| Part {
                version: delta.version,
                changes: Vec::new(),
            });
            if part.version != delta.version {
                part.version = delta.version;
                part.changes.clear();
            }
            if part.changes.len() + delta.changes.len() > self.limits.keys_per_node_max {
                return Err(Fault::Field { field: "table" });
            }
            part.changes.extend_from_slice(&delta.changes);
            if more {
                return Ok(());
            }
            let changes = link.parts.remove(&node).map_or(Vec::new(), |part| part.changes);
            let applied = self.interest.replace(node, delta.version, delta.digest, &changes);
            if applied == Applied::Done {
                self.spread_table(node, Some(from));
            }
            applied
        };
        self.caught_up(node, applied, now);
        Ok(())
    }

    fn caught_up(&mut self, node: NodeId, applied: Applied, now: u64) {
        match applied {
            Applied::Done | Applied::Known => {
                let known = self.interest.version(node);
                if self.links.values().all(|link| link.holds(node).table <= known) {
                    self.behind.remove(&node);
                }
            }
            Applied::Behind | Applied::Broken => {
                self.stats.tables_broken += u64::from(applied == Applied::Broken);
                let behind = self.behind.entry(node).or_insert(Behind {
                    due_ms: now,
                    asked: None,
                });
                if behind.asked.is_none() || applied == Applied::Broken {
                    behind.due_ms = now;
                }
            }
        }
    }
}
