//! Patterns with wildcards, by their segments. A match visits at most two branches at each level.

use std::sync::Arc;

use hashbrown::HashMap;
use slab::Slab;

const ROOT: usize = 0;

/// See the module.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Slab<Node>,
}

#[derive(Debug, Default)]
struct Node {
    below: HashMap<Box<str>, usize>,
    any: Option<usize>,
    /// The pattern that ends here.
    ends: Option<Arc<str>>,
    /// The pattern that ends here with `**`.
    tail: Option<Arc<str>>,
}

impl Default for Trie {
    fn default() -> Self {
        let mut nodes = Slab::new();
        nodes.insert(Node::default());
        Self { nodes }
    }
}

impl Trie {
    pub(super) fn insert(&mut self, pattern: &Arc<str>) {
        let mut at = ROOT;
        for segment in pattern.split('/') {
            if segment == "**" {
                self.nodes[at].tail = Some(Arc::clone(pattern));
                return;
            }
            at = match self.below(at, segment) {
                Some(below) => below,
                None => {
                    let below = self.nodes.insert(Node::default());
                    match segment {
                        "*" => self.nodes[at].any = Some(below),
                        _ => drop(self.nodes[at].below.insert(segment.into(), below)),
                    }
                    below
                }
            };
        }
        self.nodes[at].ends = Some(Arc::clone(pattern));
    }

    pub(super) fn remove(&mut self, pattern: &str) {
        let mut way = vec![(ROOT, "")];
        let mut at = ROOT;
        let mut tail = false;
        for segment in pattern.split('/') {
            if segment == "**" {
                tail = true;
                break;
            }
            let Some(below) = self.below(at, segment) else {
                return;
            };
            way.push((below, segment));
            at = below;
        }
        match tail {
            true => self.nodes[at].tail = None,
            false => self.nodes[at].ends = None,
        }
        while let Some((at, segment)) = way.pop() {
            let Some(&(above, _)) = way.last() else { return };
            if !self.nodes[at].is_empty() {
                return;
            }
            self.nodes.remove(at);
            match segment {
                "*" => self.nodes[above].any = None,
                _ => drop(self.nodes[above].below.remove(segment)),
            }
        }
    }

    pub(super) fn matches(&self, topic: &str, take: &mut impl FnMut(&str)) {
        self.descend(ROOT, Some(topic), take);
    }

    /// `rest` is what of the topic lies below `at`; none: all of it was matched.
    fn descend(&self, at: usize, rest: Option<&str>, take: &mut impl FnMut(&str)) {
        let node = &self.nodes[at];
        let Some(rest) = rest else {
            if let Some(pattern) = &node.ends {
                take(pattern);
            }
            return;
        };
        if let Some(pattern) = &node.tail {
            take(pattern);
        }
        let (segment, rest) = match rest.split_once('/') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (rest, None),
        };
        if let Some(&below) = node.below.get(segment) {
            self.descend(below, rest, take);
        }
        if let Some(below) = node.any {
            self.descend(below, rest, take);
        }
    }

    fn below(&self, at: usize, segment: &str) -> Option<usize> {
        match segment {
            "*" => self.nodes[at].any,
            _ => self.nodes[at].below.get(segment).copied(),
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.len() == 1 && self.nodes[ROOT].is_empty()
    }
}

impl Node {
    fn is_empty(&self) -> bool {
        self.below.is_empty() && self.any.is_none() && self.ends.is_none() && self.tail.is_none()
    }
}
