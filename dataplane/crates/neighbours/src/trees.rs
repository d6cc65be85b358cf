//! Shortest-path trees: who passes on what from which origin, on which link.
//!
//! # Invariants worth naming
//!
//! * Nodes that know the same link states make the same trees: costs decide, then the number of links, then a hash of origin, upper and
//!   lower node that all nodes compute alike. So a message goes down one tree, and has no loop to take.
//! * The hash differs from origin to origin: where several ways are as good, origins share them out among themselves.
//! * Trees are made when first asked for, from a graph that is made once for each change of the network.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use hashbrown::HashMap;

use crate::ids::{NodeId, mix};
use crate::recent::Recent;
use crate::topology::Topology;

/// What it costs to go through a node that is about to leave: more than any way past it.
const LEAVING_COST: u64 = 1 << 32;
/// Not under this node.
const NOWHERE: u16 = u16::MAX;

/// The trees of one node.
#[derive(Debug)]
pub(crate) struct Trees {
    own: NodeId,
    graph: Graph,
    generation: u64,
    made: Recent<NodeId, Rc<Tree>>,
}

/// The tree of one origin, as one node sees it.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Neighbours below this node.
    children: Vec<NodeId>,
    /// By place of the node in the graph: the child that leads there, as a place in `children`.
    via: Vec<u16>,
    /// From the origin; `u64::MAX`: it cannot be reached.
    costs: Option<Vec<u64>>,
}

/// The network in dense numbers.
#[derive(Debug, Default)]
struct Graph {
    /// By ascending id.
    nodes: Vec<NodeId>,
    places: HashMap<NodeId, u16>,
    /// Where the links of a node begin; one more than there are nodes.
    starts: Vec<u32>,
    links: Vec<(u16, u32)>,
    /// See `LEAVING_COST`.
    leaving: Vec<bool>,
}

impl Trees {
    pub(crate) fn new(own: NodeId, trees_max: usize) -> Self {
        Self {
            own,
            graph: Graph::default(),
            generation: u64::MAX,
            made: Recent::new(trees_max),
        }
    }

    /// The tree of an origin; none for an unknown one.
    pub(crate) fn of(&mut self, origin: NodeId, topology: &Topology) -> Option<Rc<Tree>> {
        self.refresh(topology);
        if let Some(tree) = self.made.touch(&origin) {
            return Some(Rc::clone(tree));
        }
        let place = *self.graph.places.get(&origin)?;
        let tree = Rc::new(self.graph.tree(place, self.own));
        self.made.put(origin, Rc::clone(&tree));
        Some(tree)
    }

    /// Where a node stands in what [`Tree`]s of this moment say.
    pub(crate) fn place(&mut self, node: NodeId, topology: &Topology) -> Option<u16> {
        self.refresh(topology);
        self.graph.places.get(&node).copied()
    }

    /// All known nodes, by place.
    pub(crate) fn nodes(&mut self, topology: &Topology) -> &[NodeId] {
        self.refresh(topology);
        &self.graph.nodes
    }

    fn refresh(&mut self, topology: &Topology) {
        if self.generation != topology.generation() {
            self.generation = topology.generation();
            self.graph = Graph::of(topology);
            self.made.clear();
        }
    }
}

impl Tree {
    /// Neighbours below this node.
    pub(crate) fn children(&self) -> &[NodeId] {
        &self.children
    }

    /// The child that leads to a place.
    pub(crate) fn via(&self, place: u16) -> Option<NodeId> {
        match self.via.get(usize::from(place)) {
            Some(&NOWHERE) | None => None,
            Some(&child) => Some(self.children[usize::from(child)]),
        }
    }

    /// What the way from the origin costs. Kept for this node's own tree only.
    pub(crate) fn cost(&self, place: u16) -> Option<u64> {
        let cost = *self.costs.as_ref()?.get(usize::from(place))?;
        (cost != u64::MAX).then_some(cost)
    }
}

impl Graph {
    fn of(topology: &Topology) -> Self {
        let mut nodes: Vec<NodeId> = topology.iter().map(|state| state.node).collect();
        nodes.sort_unstable();
        debug_assert!(nodes.len() < usize::from(NOWHERE), "nodes_max is far below");
        let places: HashMap<NodeId, u16> = nodes
            .iter()
            .enumerate()
            .map(|(place, node)| (*node, place as u16))
            .collect();
        let mut graph = Graph {
            starts: vec![0],
            links: Vec::new(),
            leaving: Vec::new(),
            places,
            nodes: Vec::new(),
        };
        for node in &nodes {
            if let Some(state) = topology.get(*node) {
                let links = state.links.iter().filter_map(|&(to, cost)| {
                    topology.cost(to, *node)?;
                    Some((*graph.places.get(&to)?, cost))
                });
                graph.links.extend(links);
                graph.leaving.push(state.leaving);
            }
            graph.starts.push(graph.links.len() as u32);
        }
        graph.nodes = nodes;
        graph
    }

    fn links(&self, place: u16) -> &[(u16, u32)] {
        let at = usize::from(place);
        &self.links[self.starts[at] as usize..self.starts[at + 1] as usize]
    }

    /// Dijkstra's algorithm. Costs are positive, so all nodes that could be above one are settled before it is.
    fn tree(&self, origin: u16, own: NodeId) -> Tree {
        let count = self.nodes.len();
        let mut best = vec![(u64::MAX, u32::MAX); count];
        let mut above = vec![origin; count];
        let mut settled = Vec::with_capacity(count);
        let mut done = vec![false; count];
        let mut heap = BinaryHeap::from([Reverse(((0, 0), origin))]);
        best[usize::from(origin)] = (0, 0);
        while let Some(Reverse((at, place))) = heap.pop() {
            if std::mem::replace(&mut done[usize::from(place)], true) {
                continue;
            }
            settled.push(place);
            let leaving = self.leaving[usize::from(place)] && place != origin;
            let through = if leaving { LEAVING_COST } else { 0 };
            for &(to, cost) in self.links(place) {
                let offer = (at.0 + through + u64::from(cost), at.1 + 1);
                let known = &mut best[usize::from(to)];
                let upper = &mut above[usize::from(to)];
                if offer < *known {
                    *known = offer;
                    *upper = place;
                    heap.push(Reverse((offer, to)));
                } else if offer == *known && self.lot(origin, place, to) < self.lot(origin, *upper, to) {
                    *upper = place;
                }
            }
        }
        self.as_seen_by(own, origin, &settled, &above, best)
    }

    /// Which of two ways that are as good is taken.
    fn lot(&self, origin: u16, upper: u16, lower: u16) -> (u64, NodeId) {
        let id = |place: u16| self.nodes[usize::from(place)];
        let upper = id(upper);
        let lot = id(origin).to_bits() ^ mix(upper.to_bits() ^ mix(id(lower).to_bits()));
        (mix(lot), upper)
    }

    fn as_seen_by(
        &self,
        own: NodeId,
        origin: u16,
        settled: &[u16],
        above: &[u16],
        best: Vec<(u64, u32)>,
    ) -> Tree {
        let mut tree = Tree {
            children: Vec::new(),
            via: vec![NOWHERE; self.nodes.len()],
            costs: None,
        };
        let Some(&own) = self.places.get(&own) else {
            return tree;
        };
        for &place in settled {
            if place == origin {
                continue;
            }
            let upper = above[usize::from(place)];
            tree.via[usize::from(place)] = if upper == own {
                tree.children.push(self.nodes[usize::from(place)]);
                (tree.children.len() - 1) as u16
            } else {
                tree.via[usize::from(upper)]
            };
        }
        if own == origin {
            tree.costs = Some(best.into_iter().map(|(cost, _)| cost).collect());
        }
        tree
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::topology::tests::state;

    fn topology(links: &[(&str, &str, u32)]) -> Topology {
        let names: BTreeSet<&str> = links.iter().flat_map(|(a, b, _)| [*a, *b]).collect();
        let mut topology = Topology::default();
        for name in names {
            let of_one: Vec<(&str, u32)> = links
                .iter()
                .filter_map(|&(a, b, cost)| match (a == name, b == name) {
                    (true, _) => Some((b, cost)),
                    (_, true) => Some((a, cost)),
                    _ => None,
                })
                .collect();
            topology.install(state(name, 1, &of_one), 99);
        }
        topology
    }

    /// The way from one node to another, as the nodes on it choose it.
    fn way(topology: &Topology, from: &str, to: &str) -> Option<Vec<NodeId>> {
        let (origin, to) = (NodeId::of(from), NodeId::of(to));
        let mut way = vec![origin];
        while *way.last()? != to {
            let mut trees = Trees::new(*way.last()?, 9);
            let place = trees.place(to, topology)?;
            way.push(trees.of(origin, topology)?.via(place)?);
            assert!(way.len() < 99, "a loop");
        }
        Some(way)
    }

    #[test]
    fn the_cheapest_way_is_taken() {
        let topology = topology(&[("a", "b", 1), ("b", "c", 1), ("a", "c", 5), ("c", "d", 1)]);
        let named = |names: &[&str]| Some(names.iter().map(|name| NodeId::of(name)).collect::<Vec<_>>());
        assert_eq!(way(&topology, "a", "d"), named(&["a", "b", "c", "d"]));
        assert_eq!(way(&topology, "d", "a"), named(&["d", "c", "b", "a"]));
        let mut trees = Trees::new(NodeId::of("a"), 9);
        let place = trees.place(NodeId::of("d"), &topology).expect("known");
        let own = trees.of(NodeId::of("a"), &topology).expect("known");
        assert_eq!(own.cost(place), Some(3));
        assert_eq!(own.children(), [NodeId::of("b")]);
        assert!(trees.of(NodeId::of("x"), &topology).is_none());
    }

    #[test]
    fn a_node_that_leaves_is_gone_past() {
        let mut topology = topology(&[("a", "b", 1), ("b", "c", 1), ("a", "x", 9), ("x", "c", 9)]);
        let mut leaving = state("b", 2, &[("a", 1), ("c", 1)]);
        leaving.leaving = true;
        topology.install(leaving, 99);
        assert_eq!(way(&topology, "a", "c").map(|way| way[1]), Some(NodeId::of("x")));
        assert_eq!(
            way(&topology, "a", "b").map(|way| way.len()),
            Some(2),
            "it is reached"
        );
        assert_eq!(
            way(&topology, "b", "c").map(|way| way.len()),
            Some(2),
            "and speaks"
        );
    }

    #[test]
    fn equal_ways_are_shared_out() {
        let mut links = Vec::new();
        let names: Vec<String> = (0..40).map(|n| format!("o{n}")).collect();
        for name in &names {
            links.push((name.as_str(), "left", 1));
            links.push((name.as_str(), "right", 1));
        }
        links.extend([("left", "far", 1), ("right", "far", 1)]);
        let topology = topology(&links);
        let left = names
            .iter()
            .filter(|name| way(&topology, name, "far").is_some_and(|way| way[1] == NodeId::of("left")))
            .count();
        assert!((8..=32).contains(&left), "{left} of 40");
    }

    proptest::proptest! {
        #[test]
        fn all_nodes_make_one_tree(edges in proptest::collection::vec((0usize..12, 0usize..12, 1u32..4), 1..40)) {
            let names: Vec<String> = (0..12).map(|n| format!("n{n}")).collect();
            let mut links: Vec<(&str, &str, u32)> = Vec::new();
            for (a, b, cost) in edges {
                let pair = (names[a].as_str(), names[b].as_str());
                let known = links.iter().any(|(x, y, _)| (*x, *y) == pair || (*y, *x) == pair);
                if a != b && !known {
                    links.push((pair.0, pair.1, cost));
                }
            }
            let topology = topology(&links);
            for from in topology.iter() {
                let mut uppers = std::collections::HashMap::new();
                for to in topology.iter() {
                    let Some(way) = way(&topology, &from.name, &to.name) else { continue };
                    for pair in way.windows(2) {
                        // A tree: one upper node for each.
                        let upper = *uppers.entry(pair[1]).or_insert(pair[0]);
                        proptest::prop_assert_eq!(upper, pair[0]);
                    }
                }
            }
        }
    }
}
