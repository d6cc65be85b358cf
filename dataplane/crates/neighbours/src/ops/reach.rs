//! Who can be reached, and forgetting who cannot.

use hashbrown::HashSet;

use crate::effect::Effect;
use crate::ids::NodeId;
use crate::network::Network;

impl Network {
    /// After link states changed: tells who came and who is gone.
    pub(crate) fn look_around(&mut self, now: u64) {
        if self.viewed_generation == self.topology.generation() {
            return;
        }
        self.viewed_generation = self.topology.generation();
        let Some(tree) = self.trees.of(self.own, &self.topology) else {
            return;
        };
        let nodes = self.trees.nodes(&self.topology);
        let mut reached = HashSet::new();
        for (place, node) in nodes.iter().enumerate() {
            if *node != self.own && tree.cost(place as u16).is_some() {
                reached.insert(*node);
            } else if *node != self.own {
                self.unreached_since.entry(*node).or_insert(now);
            }
        }
        let mut came: Vec<NodeId> = reached.difference(&self.reached).copied().collect();
        let mut gone: Vec<NodeId> = self.reached.difference(&reached).copied().collect();
        came.sort_unstable();
        gone.sort_unstable();
        self.reached = reached;
        // Who comes back has missed what was said since it was lost.
        let lost = came
            .iter()
            .filter_map(|node| self.unreached_since.get(node))
            .min();
        let since = lost.copied().unwrap_or(now);
        self.disturbed_ms = Some(self.disturbed_ms.map_or(since, |known| known.min(since)));
        self.unreached_since
            .retain(|node, _| !self.reached.contains(node));
        self.directory
            .reached_changed(self.own, &came, &gone, &self.reached);
        for link in self.links.values_mut() {
            for &node in &came {
                // It may have been known, and out of reach, when the neighbour was told what is held here.
                let holds = link.holds(node);
                if holds.state < self.topology.version(node) {
                    link.lacks.insert(node);
                }
                if holds.table < self.interest.version(node) {
                    link.news.insert(node);
                }
            }
        }
        self.effects.extend(gone.into_iter().map(Effect::Lost));
        self.effects.extend(came.into_iter().map(Effect::Reached));
        self.counts_at = Some(now + self.limits.settle_ms);
    }

    /// Forgets what is old, and says again what is becoming so.
    pub(crate) fn sweep(&mut self, now: u64) {
        self.restate |= self.stated_ms.is_none_or(|at| now >= at + self.limits.refresh_ms);
        let age_ms_max = self.limits.age_ms_max as i64;
        let mut gone: Vec<NodeId> = self
            .topology
            .iter()
            .filter(|state| state.node != self.own && now as i64 - state.born_ms >= age_ms_max)
            .map(|state| state.node)
            .collect();
        let forget_ms = self.limits.forget_ms;
        gone.extend(
            self.unreached_since
                .iter()
                .filter(|(_, since)| now >= **since + forget_ms)
                .map(|(node, _)| *node),
        );
        for node in gone {
            self.forget(node);
        }
    }

    fn forget(&mut self, node: NodeId) {
        self.topology.forget(node);
        self.interest.forget(node);
        self.behind.remove(&node);
        self.seen.remove(&node);
        self.directory.forget(node);
        self.unreached_since.remove(&node);
        self.heard.retain(|origin, _| origin != node);
        for link in self.links.values_mut() {
            link.forget(node);
        }
    }
}
