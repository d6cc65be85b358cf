//! Patterns with wildcards, by segment. One hash table holds the edges of all nodes, so that a node costs no table of its own.

use std::hash::BuildHasher;

use crate::hash::Seed;
use hashbrown::HashTable;
use slab::Slab;

const NIL: u32 = u32::MAX;
const ROOT: u32 = 0;

/// Pattern segments, and at the nodes where patterns end, the entries of the table.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Slab<Node>,
    edges: HashTable<Edge>,
    hasher: Seed,
}

#[derive(Debug)]
struct Node {
    parent: u32,
    /// Child by `*`.
    star: u32,
    /// The pattern that ends here.
    here: u32,
    /// The pattern that ends here with `**`.
    tail: u32,
    /// Children, `star` included.
    children: u32,
}

#[derive(Debug)]
struct Edge {
    parent: u32,
    child: u32,
    segment: Box<str>,
}

impl Node {
    fn new(parent: u32) -> Self {
        Self {
            parent,
            star: NIL,
            here: NIL,
            tail: NIL,
            children: 0,
        }
    }

    fn is_bare(&self) -> bool {
        self.here == NIL && self.tail == NIL && self.children == 0
    }
}

impl Trie {
    pub(super) fn new(hasher: Seed) -> Self {
        let mut nodes = Slab::new();
        nodes.insert(Node::new(NIL));
        Self {
            nodes,
            edges: HashTable::new(),
            hasher,
        }
    }

    pub(super) fn get(&self, pattern: &str) -> Option<u32> {
        let (node, tail) = self.walk(pattern)?;
        let node = &self.nodes[node as usize];
        let entry = if tail { node.tail } else { node.here };
        (entry != NIL).then_some(entry)
    }

    pub(super) fn insert(&mut self, pattern: &str, entry: u32) {
        let mut node = ROOT;
        for segment in pattern.split('/') {
            if segment == "**" {
                self.nodes[node as usize].tail = entry;
                return;
            }
            node = self
                .child(node, segment)
                .unwrap_or_else(|| self.grow(node, segment));
        }
        self.nodes[node as usize].here = entry;
    }

    pub(super) fn remove(&mut self, pattern: &str) {
        let Some((node, tail)) = self.walk(pattern) else {
            return;
        };
        let last = &mut self.nodes[node as usize];
        if tail {
            last.tail = NIL;
        } else {
            last.here = NIL;
        }
        self.prune(
            node,
            pattern
                .strip_suffix("/**")
                .unwrap_or(if tail { "" } else { pattern }),
        );
    }

    /// Calls `found` with the entry of each pattern that matches.
    pub(super) fn matches(&self, topic: &str, found: &mut impl FnMut(u32)) {
        self.visit(ROOT, Some(topic), found);
    }

    fn visit(&self, node: u32, rest: Option<&str>, found: &mut impl FnMut(u32)) {
        let at = &self.nodes[node as usize];
        let Some(rest) = rest else {
            if at.here != NIL {
                found(at.here);
            }
            return;
        };
        if at.tail != NIL {
            found(at.tail);
        }
        if at.children == 0 {
            return;
        }
        let (segment, rest) = match rest.split_once('/') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (rest, None),
        };
        if at.star != NIL {
            self.visit(at.star, rest, found);
        }
        if let Some(child) = self.edge(node, segment) {
            self.visit(child, rest, found);
        }
    }

    fn walk(&self, pattern: &str) -> Option<(u32, bool)> {
        let mut node = ROOT;
        for segment in pattern.split('/') {
            if segment == "**" {
                return Some((node, true));
            }
            node = self.child(node, segment)?;
        }
        Some((node, false))
    }

    fn child(&self, node: u32, segment: &str) -> Option<u32> {
        match segment {
            "*" => Some(self.nodes[node as usize].star).filter(|&star| star != NIL),
            _ => self.edge(node, segment),
        }
    }

    fn edge(&self, parent: u32, segment: &str) -> Option<u32> {
        let hash = self.hasher.hash_one((parent, segment));
        let edge = self
            .edges
            .find(hash, |edge| edge.parent == parent && &*edge.segment == segment)?;
        Some(edge.child)
    }

    fn grow(&mut self, parent: u32, segment: &str) -> u32 {
        let child = self.nodes.insert(Node::new(parent)) as u32;
        self.nodes[parent as usize].children += 1;
        if segment == "*" {
            self.nodes[parent as usize].star = child;
            return child;
        }
        let hasher = &self.hasher;
        let hash = hasher.hash_one((parent, segment));
        let edge = Edge {
            parent,
            child,
            segment: segment.into(),
        };
        self.edges
            .insert_unique(hash, edge, |edge| hasher.hash_one((edge.parent, &*edge.segment)));
        child
    }

    /// Removes `node`, which `path` leads to, and its ancestors as far as nothing needs them.
    fn prune(&mut self, mut node: u32, mut path: &str) {
        while node != ROOT && self.nodes[node as usize].is_bare() {
            let parent = self.nodes[node as usize].parent;
            let (before, segment) = path.rsplit_once('/').unwrap_or(("", path));
            if segment == "*" {
                self.nodes[parent as usize].star = NIL;
            } else {
                let hash = self.hasher.hash_one((parent, segment));
                let found = self
                    .edges
                    .find_entry(hash, |edge| edge.parent == parent && &*edge.segment == segment);
                if let Ok(edge) = found {
                    edge.remove();
                }
            }
            self.nodes.remove(node as usize);
            self.nodes[parent as usize].children -= 1;
            (node, path) = (parent, before);
        }
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.nodes.len() == 1 && self.edges.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matching(trie: &Trie, topic: &str) -> Vec<u32> {
        let mut found = Vec::new();
        trie.matches(topic, &mut |entry| found.push(entry));
        found.sort_unstable();
        found
    }

    #[test]
    fn patterns_match_and_leave_nothing_behind() {
        let patterns = ["a/*", "a/**", "*/b", "**", "a/b/*", "*", "x/y/z/**", "*/*/**"];
        let mut trie = Trie::new(Seed::new(1));
        for (entry, pattern) in patterns.iter().enumerate() {
            trie.insert(pattern, entry as u32);
        }
        for topic in ["a", "a/b", "a/b/c", "x/y/z", "x/y/z/1/2", "q/r/s/t"] {
            let wanted: Vec<u32> = (0..patterns.len() as u32)
                .filter(|&i| {
                    ringgate_policy::Pattern::new(patterns[i as usize])
                        .expect("valid")
                        .matches(topic)
                })
                .collect();
            assert_eq!(matching(&trie, topic), wanted, "{topic}");
        }
        for (entry, pattern) in patterns.iter().enumerate() {
            assert_eq!(trie.get(pattern), Some(entry as u32));
            trie.remove(pattern);
            assert_eq!(trie.get(pattern), None);
        }
        assert!(trie.is_empty());
    }
}
