//! The link-state database: what each node says of its own links, newest word only.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::ids::{NodeId, Version};

/// What a node says of its own links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LinkState {
    pub(crate) node: NodeId,
    pub(crate) name: Arc<str>,
    pub(crate) version: Version,
    /// When its node made it, by this node's clock; before that clock's start for what is older than this node.
    pub(crate) born_ms: i64,
    /// Neighbours with the cost of the way to them, by ascending id.
    pub(crate) links: Arc<[(NodeId, u32)]>,
    pub(crate) leaving: bool,
    /// Grows whenever messages may be lost at it.
    pub(crate) losses: u64,
}

/// What became of a link state that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Installed {
    /// It is newer than what was known. `changed`: it says something else, not just the same again; `restarted`: its node did.
    Newer { changed: bool, restarted: bool },
    /// Known already.
    Same,
    /// Something newer is known.
    Older,
    /// The table is full.
    Full,
    /// Another name has the number.
    SameNumber,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Topology {
    states: HashMap<NodeId, LinkState>,
    /// Grows with each change that trees may depend on.
    generation: u64,
}

impl Topology {
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&LinkState> {
        self.states.get(&node)
    }

    pub(crate) fn version(&self, node: NodeId) -> Version {
        self.states
            .get(&node)
            .map_or(Version::NONE, |state| state.version)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &LinkState> {
        self.states.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.states.len()
    }

    pub(crate) fn install(&mut self, state: LinkState, nodes_max: usize) -> Installed {
        let Some(known) = self.states.get(&state.node) else {
            if self.states.len() >= nodes_max {
                return Installed::Full;
            }
            self.states.insert(state.node, state);
            self.generation += 1;
            return Installed::Newer {
                changed: true,
                restarted: true,
            };
        };
        if known.name != state.name {
            return Installed::SameNumber;
        }
        match state.version.cmp(&known.version) {
            std::cmp::Ordering::Less => return Installed::Older,
            std::cmp::Ordering::Equal => return Installed::Same,
            std::cmp::Ordering::Greater => {}
        }
        let restarted = state.version.incarnation > known.version.incarnation;
        let said = |state: &LinkState| (state.links.clone(), state.leaving, state.losses);
        let changed = restarted || said(&state) != said(known);
        self.generation += u64::from(changed);
        self.states.insert(state.node, state);
        Installed::Newer { changed, restarted }
    }

    pub(crate) fn forget(&mut self, node: NodeId) {
        if self.states.remove(&node).is_some() {
            self.generation += 1;
        }
    }

    /// The cost of a link that both ends name.
    pub(crate) fn cost(&self, from: NodeId, to: NodeId) -> Option<u32> {
        let named = |from: NodeId, to: NodeId| {
            let links = &self.states.get(&from)?.links;
            let at = links.binary_search_by_key(&to, |link| link.0).ok()?;
            Some(links[at].1)
        };
        named(to, from)?;
        named(from, to)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A state of one that names its neighbours.
    pub(crate) fn state(name: &str, number: u64, links: &[(&str, u32)]) -> LinkState {
        let mut links: Vec<_> = links.iter().map(|(to, cost)| (NodeId::of(to), *cost)).collect();
        links.sort();
        LinkState {
            node: NodeId::of(name),
            name: name.into(),
            version: Version {
                incarnation: 1,
                number,
            },
            born_ms: 0,
            links: links.into(),
            leaving: false,
            losses: 0,
        }
    }

    #[test]
    fn the_newest_word_counts() {
        let mut topology = Topology::default();
        let newer = |changed, restarted| Installed::Newer { changed, restarted };
        assert_eq!(topology.install(state("a", 2, &[]), 2), newer(true, true));
        assert_eq!(topology.install(state("a", 2, &[]), 2), Installed::Same);
        assert_eq!(topology.install(state("a", 1, &[("b", 1)]), 2), Installed::Older);
        let before = topology.generation();
        assert_eq!(topology.install(state("a", 3, &[]), 2), newer(false, false));
        assert_eq!(topology.generation(), before, "trees stay");
        assert_eq!(
            topology.install(state("a", 4, &[("b", 1)]), 2),
            newer(true, false)
        );
        let mut again = state("a", 1, &[]);
        again.version.incarnation = 2;
        assert_eq!(topology.install(again, 2), newer(true, true));
        let mut impostor = state("a", 9, &[]);
        impostor.name = "x".into();
        assert_eq!(topology.install(impostor, 2), Installed::SameNumber);
        topology.install(state("b", 1, &[]), 2);
        assert_eq!(topology.install(state("c", 1, &[]), 2), Installed::Full);
        topology.forget(NodeId::of("b"));
        assert_eq!(topology.install(state("c", 1, &[]), 2), newer(true, true));
    }

    #[test]
    fn a_link_counts_that_both_ends_name() {
        let mut topology = Topology::default();
        let (a, b) = (NodeId::of("a"), NodeId::of("b"));
        topology.install(state("a", 1, &[("b", 3)]), 9);
        assert_eq!(topology.cost(a, b), None);
        topology.install(state("b", 1, &[("a", 5)]), 9);
        assert_eq!((topology.cost(a, b), topology.cost(b, a)), (Some(3), Some(5)));
    }
}
