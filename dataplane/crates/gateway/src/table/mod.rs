//! The subscription table of one core: this core's subscriptions, and what the other cores announced of theirs.
//!
//! Patterns of one topic stand in a hash table, those with wildcards in a trie by segment; finding, adding and removing one costs
//! the same however many there are. Results of matching are cached by topic.

mod cache;
mod matchset;
mod trie;

use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::Arc;

use crate::hash::Seed;
use hashbrown::HashTable;
use ringgate_state::TopicRules;
use slab::Slab;
use smallvec::SmallVec;

pub(crate) use matchset::{Local, MatchSet, Remote};

use self::cache::Cache;
use self::trie::Trie;
use crate::action::DeliveryPolicy;
use crate::ids::CoreId;

/// Everything known of one pattern.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) pattern: Arc<str>,
    exact: bool,
    /// This core's subscriptions without a group.
    pub(crate) locals: SmallVec<[Local; 1]>,
    others: Option<Box<Others>>,
    pub(crate) announced: Announced,
    /// How many of `locals` are `BLOCK`.
    pub(crate) blocking: u32,
}

#[derive(Debug, Default)]
struct Others {
    groups: SmallVec<[u32; 2]>,
    remotes: SmallVec<[Remote; 2]>,
}

/// How far the other cores know of a pattern or group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Announced {
    /// The last barrier that asked them.
    Pending(u64),
    /// Every core routes to it.
    Everywhere,
}

/// The members of a queue group of one pattern.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) entry: u32,
    pub(crate) name: Arc<str>,
    pub(crate) locals: Vec<Local>,
    pub(crate) remotes: SmallVec<[GroupRemote; 2]>,
    /// How many of `locals` are `BLOCK`.
    pub(crate) blocking: u32,
    /// Counts the messages it was given, to take turns.
    pub(crate) turn: u64,
    /// Whether the other cores were told that no member here has room.
    pub(crate) told_full: bool,
    pub(crate) announced: Announced,
}

/// Members on another core.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupRemote {
    pub(crate) core: CoreId,
    pub(crate) members: u32,
    pub(crate) blocking: bool,
    /// None of them has room.
    pub(crate) full: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Table {
    entries: Slab<Entry>,
    groups: Slab<Group>,
    exact: HashTable<u32>,
    trie: Trie,
    cache: Cache,
    /// Moves with every change of a pattern with wildcards.
    generation: u64,
    rules: TopicRules,
    hasher: Seed,
}

impl Table {
    pub(crate) fn set_cache_bytes_max(&mut self, bytes: u64) {
        self.cache.set_bytes_max(bytes);
    }

    pub(crate) fn new(seed: u64, cache_bytes_max: u64, rules: TopicRules) -> Self {
        let hasher = Seed::new(seed);
        Self {
            entries: Slab::new(),
            groups: Slab::new(),
            exact: HashTable::new(),
            trie: Trie::new(hasher),
            cache: Cache::new(cache_bytes_max, hasher),
            generation: 0,
            rules,
            hasher,
        }
    }

    /// Topics that were published to, with who gets them; those of which too many others were are left out.
    pub(crate) fn topics(&self) -> impl Iterator<Item = (&MatchSet, u64)> {
        self.cache.iter().map(|set| (set, set.published.get()))
    }

    /// Patterns known.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether a set is still good.
    pub(crate) fn is_current(&self, set: &MatchSet) -> bool {
        set.generation == self.generation && !set.stale.get()
    }

    /// Who gets the messages of `topic`, where that was asked lately.
    #[inline]
    pub(crate) fn known(&self, topic: &str) -> Option<Rc<MatchSet>> {
        self.cache.get(topic).cloned()
    }

    /// Who gets the messages of `topic`; true when it had to be matched.
    pub(crate) fn set_for(&mut self, topic: &str) -> (Rc<MatchSet>, bool) {
        if let Some(set) = self.known(topic) {
            return (set, false);
        }
        let (mut locals, mut groups, mut remotes) = (Vec::new(), Vec::new(), Vec::<Remote>::new());
        let entries = &self.entries;
        let mut collect = |entry: u32| {
            let entry = &entries[entry as usize];
            locals.extend_from_slice(&entry.locals);
            let Some(others) = &entry.others else { return };
            groups.extend_from_slice(&others.groups);
            for remote in &others.remotes {
                match remotes.iter_mut().find(|known| known.core == remote.core) {
                    Some(known) => {
                        known.subscribers += remote.subscribers;
                        known.blocking |= remote.blocking;
                    }
                    None => remotes.push(*remote),
                }
            }
        };
        if let Some(entry) = self.find_exact(topic) {
            collect(entry);
        }
        self.trie.matches(topic, &mut collect);
        let published = self.cache.published_before(topic);
        let keep = self.rules.keep(topic);
        let set = MatchSet::new(
            topic.into(),
            self.generation,
            published,
            locals,
            groups,
            remotes,
            keep,
        );
        self.cache.insert(&set);
        (set, true)
    }

    /// The entry of a pattern, made if it is new.
    pub(crate) fn ensure(&mut self, pattern: &Arc<str>) -> u32 {
        if let Some(entry) = self.find(pattern) {
            return entry;
        }
        let exact = is_exact(pattern);
        let entry = self.entries.insert(Entry {
            pattern: Arc::clone(pattern),
            exact,
            locals: SmallVec::new(),
            others: None,
            announced: Announced::Pending(0),
            blocking: 0,
        }) as u32;
        if exact {
            let (entries, hasher) = (&self.entries, &self.hasher);
            let hash = hasher.hash_one(&**pattern);
            self.exact.insert_unique(hash, entry, |&entry| {
                hasher.hash_one(&*entries[entry as usize].pattern)
            });
        } else {
            self.trie.insert(pattern, entry);
        }
        entry
    }

    pub(crate) fn find(&self, pattern: &str) -> Option<u32> {
        match is_exact(pattern) {
            true => self.find_exact(pattern),
            false => self.trie.get(pattern),
        }
    }

    pub(crate) fn entry(&self, entry: u32) -> &Entry {
        &self.entries[entry as usize]
    }

    pub(crate) fn entry_mut(&mut self, entry: u32) -> &mut Entry {
        &mut self.entries[entry as usize]
    }

    pub(crate) fn group(&self, group: u32) -> &Group {
        &self.groups[group as usize]
    }

    pub(crate) fn group_mut(&mut self, group: u32) -> &mut Group {
        &mut self.groups[group as usize]
    }

    pub(crate) fn find_group(&self, entry: u32, name: &str) -> Option<u32> {
        let others = self.entries[entry as usize].others.as_ref()?;
        others
            .groups
            .iter()
            .copied()
            .find(|&group| &*self.groups[group as usize].name == name)
    }

    /// The group of a pattern, made if it is new.
    pub(crate) fn ensure_group(&mut self, entry: u32, name: &Arc<str>) -> u32 {
        if let Some(group) = self.find_group(entry, name) {
            return group;
        }
        let group = self.groups.insert(Group {
            entry,
            name: Arc::clone(name),
            locals: Vec::new(),
            remotes: SmallVec::new(),
            blocking: 0,
            turn: 0,
            told_full: false,
            announced: Announced::Pending(0),
        }) as u32;
        self.entries[entry as usize]
            .others
            .get_or_insert_default()
            .groups
            .push(group);
        group
    }

    /// Adds a subscription of this core; returns its position.
    pub(crate) fn list(&mut self, entry: u32, group: Option<u32>, local: Local) -> usize {
        let blocks = u32::from(local.policy == DeliveryPolicy::Block);
        let position = match group {
            None => {
                let entry = &mut self.entries[entry as usize];
                entry.locals.push(local);
                entry.blocking += blocks;
                entry.locals.len() - 1
            }
            Some(group) => {
                let group = &mut self.groups[group as usize];
                group.locals.push(local);
                group.blocking += blocks;
                group.locals.len() - 1
            }
        };
        self.changed(entry);
        position
    }

    /// Takes a subscription of this core out; returns the one that took its position.
    pub(crate) fn unlist(&mut self, entry: u32, group: Option<u32>, position: usize) -> Option<Local> {
        let (removed, moved, blocking, announced) = match group {
            None => {
                let entry = &mut self.entries[entry as usize];
                let removed = entry.locals.swap_remove(position);
                (
                    removed,
                    entry.locals.get(position).copied(),
                    &mut entry.blocking,
                    &mut entry.announced,
                )
            }
            Some(group) => {
                let group = &mut self.groups[group as usize];
                let removed = group.locals.swap_remove(position);
                (
                    removed,
                    group.locals.get(position).copied(),
                    &mut group.blocking,
                    &mut group.announced,
                )
            }
        };
        *blocking -= u32::from(removed.policy == DeliveryPolicy::Block);
        if moved.is_none() && position == 0 {
            // The other cores will be told that nobody is left; the next one must be announced anew.
            *announced = Announced::Pending(0);
        }
        self.changed(entry);
        moved
    }

    /// A subscription without a group is told first what topics keep, or no longer.
    pub(crate) fn set_late(&mut self, entry: u32, position: usize, late: bool) {
        self.entries[entry as usize].locals[position].late = late;
        self.changed(entry);
    }

    /// A subscription of this core goes on at another place.
    pub(crate) fn relocate(&mut self, entry: u32, group: Option<u32>, position: usize, session: u32) {
        match group {
            None => self.entries[entry as usize].locals[position].session = session,
            Some(group) => self.groups[group as usize].locals[position].session = session,
        }
        self.changed(entry);
    }

    /// How many subscribers another core announced for a pattern.
    pub(crate) fn remote(&self, entry: u32, core: CoreId) -> u32 {
        let remotes = self.remotes(entry);
        remotes
            .iter()
            .find(|known| known.core == core)
            .map_or(0, |known| known.subscribers)
    }

    /// What the other cores announced for a pattern.
    pub(crate) fn remotes(&self, entry: u32) -> &[Remote] {
        self.entries[entry as usize]
            .others
            .as_ref()
            .map_or(&[], |others| &others.remotes)
    }

    /// All entries.
    pub(crate) fn all(&self) -> impl Iterator<Item = u32> + '_ {
        self.entries.iter().map(|(entry, _)| entry as u32)
    }

    /// Notes what another core announced of a pattern.
    pub(crate) fn set_remote(&mut self, entry: u32, remote: Remote) {
        let others = self.entries[entry as usize].others.get_or_insert_default();
        others.remotes.retain(|known| known.core != remote.core);
        if remote.subscribers > 0 {
            others.remotes.push(remote);
        }
        self.changed(entry);
    }

    /// Cached results that the entry takes part in are no longer good. Call after any change, then [`tidy`](Self::tidy).
    pub(crate) fn changed(&mut self, entry: u32) {
        let Entry { exact, pattern, .. } = &self.entries[entry as usize];
        if *exact {
            self.cache.forget(pattern);
        } else {
            self.generation += 1;
            self.cache.clear();
        }
    }

    /// Removes a group without members, and an entry without anything.
    pub(crate) fn tidy(&mut self, entry: u32, group: Option<u32>) {
        if let Some(group) = group {
            let Group { locals, remotes, .. } = &self.groups[group as usize];
            if locals.is_empty() && remotes.is_empty() {
                self.groups.remove(group as usize);
                if let Some(others) = &mut self.entries[entry as usize].others {
                    others.groups.retain(|known| *known != group);
                }
            }
        }
        let Entry {
            locals,
            others,
            exact,
            ..
        } = &mut self.entries[entry as usize];
        if others
            .as_ref()
            .is_some_and(|others| others.groups.is_empty() && others.remotes.is_empty())
        {
            *others = None;
        }
        if !locals.is_empty() || others.is_some() {
            return;
        }
        let exact = *exact;
        let removed = self.entries.remove(entry as usize);
        if exact {
            let found = self
                .exact
                .find_entry(self.hasher.hash_one(&*removed.pattern), |&known| known == entry);
            if let Ok(found) = found {
                found.remove();
            }
        } else {
            self.trie.remove(&removed.pattern);
        }
    }

    fn find_exact(&self, topic: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(topic);
        self.exact
            .find(hash, |&entry| &*self.entries[entry as usize].pattern == topic)
            .copied()
    }
}

/// Whether a valid pattern has no wildcard.
pub(crate) fn is_exact(pattern: &str) -> bool {
    !pattern.as_bytes().contains(&b'*')
}

// A subscription to a topic of its own costs an entry, a lane and their places in tables: under 200 bytes together.
const _: () = assert!(size_of::<Entry>() <= 80);
