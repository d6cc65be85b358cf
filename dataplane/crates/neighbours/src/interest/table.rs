//! One node's table, its versions, and the way from one to the next.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashSet;

use super::{Interest, Key, Share};
use crate::ids::{NodeId, Version};

/// What a node wants.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(super) version: Version,
    pub(super) digest: u64,
    pub(super) keys: HashSet<u32>,
    /// Something did not fit.
    partial: bool,
    /// The latest changes, oldest first, without a break.
    log: VecDeque<Delta>,
    log_changes: usize,
}

/// One entry of a table that is another now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: Key,
    pub(crate) share: Share,
}

/// The way from one version of a table to a later one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delta {
    pub(crate) base: Version,
    pub(crate) version: Version,
    /// Of the table at `version`.
    pub(crate) digest: u64,
    pub(crate) changes: Arc<[Change]>,
}

/// What became of news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    Done,
    /// Known already.
    Known,
    /// It starts from a version that is not here.
    Behind,
    /// The digest is another; the table is empty now.
    Broken,
}

impl Table {
    /// The changes since a version, if they are kept.
    pub(crate) fn since(&self, version: Version) -> Option<impl Iterator<Item = &Delta>> {
        let at = self.log.iter().position(|delta| delta.base == version)?;
        Some(self.log.range(at..))
    }

    fn remember(&mut self, delta: Delta, changes_max: usize) {
        self.log_changes += delta.changes.len().max(1);
        self.log.push_back(delta);
        while self.log_changes > changes_max {
            let Some(oldest) = self.log.pop_front() else { break };
            self.log_changes -= oldest.changes.len().max(1);
        }
    }

    fn forget_log(&mut self) {
        self.log.clear();
        self.log_changes = 0;
    }
}

impl Interest {
    /// This node's own word: makes a version of it. Returns the changes that fit.
    pub(crate) fn tell(&mut self, own: NodeId, version: Version, changes: Vec<Change>) -> Delta {
        let changes: Vec<Change> = changes
            .into_iter()
            .filter(|change| {
                let fits = self.set(own, &change.key, change.share);
                self.left_out += u64::from(!fits);
                fits
            })
            .collect();
        let changes_max = self.log_changes_max;
        let table = self.tables.entry(own).or_default();
        let delta = Delta {
            base: std::mem::replace(&mut table.version, version),
            version,
            digest: table.digest,
            changes: changes.into(),
        };
        table.remember(delta.clone(), changes_max);
        delta
    }

    /// This node's own table as it is, under a version that nobody can start from.
    pub(crate) fn renew(&mut self, own: NodeId, version: Version) {
        let table = self.tables.entry(own).or_default();
        table.version = version;
        table.forget_log();
    }

    /// Another node's word, from one version to the next.
    pub(crate) fn apply(&mut self, node: NodeId, delta: Delta) -> Applied {
        let known = self.version(node);
        if delta.version <= known {
            return Applied::Known;
        }
        if delta.base != known || known == Version::NONE {
            return Applied::Behind;
        }
        self.put(node, &delta.changes);
        let changes_max = self.log_changes_max;
        let table = self.tables.entry(node).or_default();
        table.version = delta.version;
        if table.digest != delta.digest && !table.partial {
            self.forget(node);
            return Applied::Broken;
        }
        table.remember(delta, changes_max);
        Applied::Done
    }

    /// Another node's whole table.
    pub(crate) fn replace(
        &mut self,
        node: NodeId,
        version: Version,
        digest: u64,
        changes: &[Change],
    ) -> Applied {
        if version <= self.version(node) {
            return Applied::Known;
        }
        let stays: HashSet<&Key> = changes.iter().map(|change| &change.key).collect();
        let gone: Vec<Key> = self
            .of(node)
            .filter(|(key, _)| !stays.contains(key))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.set(node, &key, Share::NONE);
        }
        let table = self.tables.entry(node).or_default();
        table.partial = false;
        table.forget_log();
        self.put(node, changes);
        let table = self.tables.entry(node).or_default();
        table.version = version;
        if table.digest != digest && !table.partial {
            self.forget(node);
            return Applied::Broken;
        }
        Applied::Done
    }

    fn put(&mut self, node: NodeId, changes: &[Change]) {
        for change in changes {
            if !self.set(node, &change.key, change.share) {
                self.left_out += 1;
                self.tables.entry(node).or_default().partial = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(n: u32, count: u32) -> Change {
        Change {
            key: Key::Pattern(format!("t/{n}").into()),
            share: Share { count, load: 0 },
        }
    }

    fn at(number: u64) -> Version {
        Version {
            incarnation: 1,
            number,
        }
    }

    fn whole(from: &Interest, node: NodeId) -> Vec<Change> {
        from.of(node)
            .map(|(key, share)| Change {
                key: key.clone(),
                share,
            })
            .collect()
    }

    #[test]
    fn changes_lead_from_one_version_to_the_next() {
        let node = NodeId::of("a");
        let (mut here, mut there) = (
            Interest::new(NodeId::of("own"), 99, 99, 4),
            Interest::new(NodeId::of("own"), 99, 99, 4),
        );
        let first = here.tell(node, at(1), vec![change(1, 1), change(2, 1)]);
        let second = here.tell(node, at(2), vec![change(1, 0)]);
        assert_eq!(there.apply(node, second.clone()), Applied::Behind);
        assert_eq!(
            there.apply(node, first.clone()),
            Applied::Behind,
            "the first is a whole table"
        );
        let mut early = Interest::new(NodeId::of("own"), 99, 99, 4);
        early.tell(node, at(1), vec![change(1, 1), change(2, 1)]);
        let all = whole(&early, node);
        assert_eq!(there.replace(node, at(1), first.digest, &all), Applied::Done);
        assert_eq!(there.apply(node, second.clone()), Applied::Done);
        assert_eq!(there.apply(node, second.clone()), Applied::Known);
        assert_eq!(there.nodes_of("t/1"), []);
        assert_eq!(there.nodes_of("t/2"), [node]);
        assert_eq!(there.digest(node), here.digest(node));
        let table = there.table(node).expect("known");
        assert_eq!(table.since(at(1)).expect("kept").count(), 1);
        assert!(table.since(at(0)).is_none());
    }

    #[test]
    fn a_table_that_comes_out_wrong_is_emptied() {
        let node = NodeId::of("a");
        let (mut here, mut there) = (
            Interest::new(NodeId::of("own"), 99, 99, 4),
            Interest::new(NodeId::of("own"), 99, 99, 4),
        );
        let first = here.tell(node, at(1), vec![change(1, 1)]);
        assert_eq!(
            there.replace(node, at(1), first.digest ^ 1, &whole(&here, node)),
            Applied::Broken
        );
        assert_eq!((there.version(node), there.entries()), (Version::NONE, 0));
        assert_eq!(
            there.replace(node, at(1), first.digest, &whole(&here, node)),
            Applied::Done
        );
        let mut second = here.tell(node, at(2), vec![change(2, 1)]);
        second.digest ^= 1;
        assert_eq!(there.apply(node, second), Applied::Broken);
        assert_eq!((there.version(node), there.entries()), (Version::NONE, 0));
    }

    #[test]
    fn the_log_is_bounded_and_has_no_break() {
        let node = NodeId::of("a");
        let mut here = Interest::new(NodeId::of("own"), 99, 99, 3);
        for n in 1..=9 {
            here.tell(node, at(n), vec![change(n as u32, 1)]);
        }
        let table = here.table(node).expect("known");
        assert!(table.since(at(5)).is_none());
        let kept: Vec<u64> = table
            .since(at(6))
            .expect("kept")
            .map(|delta| delta.version.number)
            .collect();
        assert_eq!(kept, [7, 8, 9]);
        here.renew(node, at(10));
        assert!(here.table(node).expect("known").since(at(9)).is_none());
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_counted() {
        let node = NodeId::of("a");
        let (mut here, mut there) = (
            Interest::new(NodeId::of("own"), 99, 99, 9),
            Interest::new(NodeId::of("own"), 2, 99, 9),
        );
        let first = here.tell(node, at(1), (0..5).map(|n| change(n, 1)).collect());
        assert_eq!(
            there.replace(node, at(1), first.digest, &whole(&here, node)),
            Applied::Done
        );
        assert_eq!((there.entries(), there.left_out), (2, 3));
    }
}
