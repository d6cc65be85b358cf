//! All spaces of one core.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ringgate_policy::{Limits, Pattern, PatternError, Topic, matches};
use thiserror::Error;

use crate::expiry::{Due, Expiry};
use crate::{Change, Moment, Space, Write, key};

/// Longest time to live, in milliseconds: about ten years. What shall be kept longer is kept for good.
const TTL_MS_MAX: u64 = 10 * 366 * 24 * 3600 * 1000;

/// Why a change or a question is refused. The texts name the limit and say what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// The space's name breaks a rule of topics.
    #[error("space: {0}")]
    Name(PatternError),
    /// The key breaks a rule.
    #[error("key: {0}; use 1 to 1024 bytes without control characters")]
    Key(&'static str),
    /// The key's revision is another.
    #[error("the key has revision {found}, not {expected}; read it again and decide anew")]
    Conflict {
        /// As the writer knew it.
        expected: u64,
        /// As it is; 0 where the key is not there.
        found: u64,
    },
    /// There is nothing to delete.
    #[error("there is no such key; it may have been deleted, or its time may be over")]
    NotFound,
    /// The value is too large.
    #[error("the value has {bytes} bytes; at most {max} are allowed (limits.state_value_bytes_max)")]
    Value {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: u64,
    },
    /// The space has as many keys as it may.
    #[error(
        "the space has {0} keys, as many as limits.state_keys_max allows; delete some, or use another space"
    )]
    Keys(u64),
    /// The core has as many spaces as it may.
    #[error(
        "there are {0} spaces on the core that would own this one, as many as limits.state_spaces_max allows; delete the keys of some"
    )]
    Count(u64),
    /// The core's memory for spaces is used up.
    #[error(
        "the spaces of a core hold {0} bytes, as many as limits.state_memory_bytes_max allows; delete some keys"
    )]
    Memory(u64),
}

/// A change that was made.
#[derive(Debug, Clone)]
pub struct Changed {
    /// Of which space.
    pub space: Arc<str>,
    /// What.
    pub change: Arc<Change>,
    /// What it replaced, to undo it.
    pub old: Option<Arc<Change>>,
    /// Whether it must go to the log.
    pub durable: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Spaces {
    spaces: HashMap<Arc<str>, Space, FixedState>,
    expiry: Expiry,
    expiring: usize,
    bytes: u64,
    keys: u64,
    /// Patterns of spaces that go to the log.
    durable: Arc<[Box<str>]>,
}

impl Spaces {
    /// None. `seed` is secret, so that nobody can choose names that collide; spaces whose names match one of `durable` go to the log.
    pub fn new(seed: u64, durable: Arc<[Box<str>]>) -> Self {
        debug_assert!(durable.iter().all(|pattern| Pattern::new(pattern).is_ok()));
        Self {
            spaces: HashMap::with_hasher(FixedState::with_seed(seed)),
            expiry: Expiry::default(),
            expiring: 0,
            bytes: 0,
            keys: 0,
            durable,
        }
    }

    /// Memory that they hold.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keys of all.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.spaces.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spaces.is_empty()
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<&Space> {
        self.spaces.get(name)
    }

    /// One of them, for the owner's marks.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Space> {
        self.spaces.get_mut(name)
    }

    /// The names of those that go to the log.
    pub fn durable(&self) -> Vec<Arc<str>> {
        let durable = self.spaces.iter().filter(|(_, space)| space.durable);
        durable.map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Whether changes of a space of this name go to the log, be it there or not.
    pub fn is_durable(&self, name: &str) -> bool {
        match self.spaces.get(name) {
            Some(space) => space.durable,
            None => self.durable.iter().any(|pattern| matches(pattern, name)),
        }
    }

    /// Memory of those that go to the log.
    pub fn durable_bytes(&self) -> u64 {
        let durable = self.spaces.values().filter(|space| space.durable);
        durable.map(Space::bytes).sum()
    }

    /// Brings a space back that the log had.
    pub fn restore(&mut self, name: Arc<str>, revision: u64, entries: Vec<Arc<Change>>) {
        for entry in entries.iter().filter(|entry| entry.expires_unix_ms > 0) {
            self.expiry.add(due(&name, entry));
            self.expiring += 1;
        }
        let space = Space::restored(revision, entries);
        self.bytes += space.bytes();
        self.keys += space.len() as u64;
        self.spaces.insert(name, space);
    }

    /// The space of this name, made if it is not there, with its name.
    ///
    /// # Errors
    /// [`Fault::Name`], [`Fault::Count`].
    pub fn ensure(
        &mut self,
        name: &str,
        limits: &Limits,
        now: Moment,
    ) -> Result<(Arc<str>, &mut Space), Fault> {
        if !self.spaces.contains_key(name) {
            Topic::new(name).map_err(Fault::Name)?;
            if self.spaces.len() as u64 >= limits.state_spaces_max && !self.drop_unused() {
                return Err(Fault::Count(limits.state_spaces_max));
            }
            let durable = self.durable.iter().any(|pattern| matches(pattern, name));
            // In microseconds, since more changes in a second than that no space has; and far below 2^53, beyond which some clients'
            // numbers are not exact.
            let space = Space::new(now.0 / 1000, durable);
            self.spaces.insert(name.into(), space);
        }
        match self.spaces.get_key_value_mut(name) {
            Some((name, space)) => Ok((Arc::clone(name), space)),
            None => Err(Fault::Count(limits.state_spaces_max)),
        }
    }

    /// Forgets the space without keys and watchers that has been left alone for longest.
    fn drop_unused(&mut self) -> bool {
        let unused = self
            .spaces
            .iter()
            .filter(|(_, space)| space.is_empty() && space.watchers.is_empty() && !space.durable)
            .min_by_key(|(_, space)| space.revision())
            .map(|(name, _)| Arc::clone(name));
        let Some(space) = unused.and_then(|name| self.spaces.remove(&name)) else {
            return false;
        };
        self.bytes -= space.bytes();
        true
    }

    /// Makes a change, if it is what the writer expects.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn write(
        &mut self,
        name: &str,
        write: Write<'_>,
        limits: &Limits,
        now: Moment,
    ) -> Result<Changed, Fault> {
        key(write.key)?;
        if let Some(value) = &write.value
            && value.len() as u64 > limits.state_value_bytes_max
        {
            return Err(Fault::Value {
                bytes: value.len(),
                max: limits.state_value_bytes_max,
            });
        }
        if write.value.is_none() && !self.spaces.contains_key(name) {
            Topic::new(name).map_err(Fault::Name)?;
            return Err(match write.expect {
                Some(expected) if expected > 0 => Fault::Conflict { expected, found: 0 },
                _ => Fault::NotFound,
            });
        }
        let used = self.bytes;
        let (name, space) = self.ensure(name, limits, now)?;
        let entry = space.get(write.key);
        let found = entry.map_or(0, |entry| entry.revision);
        if let Some(expected) = write.expect
            && expected != found
        {
            return Err(Fault::Conflict { expected, found });
        }
        let key = match (entry, &write.value) {
            (Some(entry), _) => Arc::clone(&entry.key),
            (None, None) => return Err(Fault::NotFound),
            (None, Some(_)) if space.len() as u64 >= limits.state_keys_max => {
                return Err(Fault::Keys(limits.state_keys_max));
            }
            (None, Some(_)) => write.key.into(),
        };
        let change = Change {
            key,
            value: None,
            revision: space.revision() + 1,
            source: Arc::clone(write.source),
            time_unix_nanos: now.0,
            expires_unix_ms: match write.ttl_ms {
                0 => 0,
                ttl => now.millis() + ttl.min(TTL_MS_MAX),
            },
        };
        if let Some(value) = &write.value {
            // It counts twice, as entry and in the past. The past gives way; deleting always goes.
            let wanted = 2 * (change.cost() + value.len() as u64);
            let before = space.bytes();
            while used + wanted - (before - space.bytes()) > limits.state_memory_bytes_max
                && space.forget_oldest()
            {}
            let freed = before - space.bytes();
            self.bytes -= freed;
            if self.bytes + wanted > limits.state_memory_bytes_max {
                return Err(Fault::Memory(limits.state_memory_bytes_max));
            }
        }
        let change = Arc::new(Change {
            value: write.value,
            ..change
        });
        Ok(self.make(name, change, limits))
    }

    /// Deletes a key whose time is over. To be called until there is none, before anything else happens to a space.
    pub fn expire(&mut self, limits: &Limits, now: Moment) -> Option<Changed> {
        loop {
            let due = self.expiry.pop_due(now.millis())?;
            let entry = self.spaces.get(&due.space).and_then(|space| space.get(&due.key));
            let Some(space) = entry
                .is_some_and(|entry| due.is_of(entry))
                .then(|| self.spaces.get(&due.space))
                .flatten()
            else {
                continue;
            };
            let change = Arc::new(Change {
                key: due.key,
                value: None,
                revision: space.revision() + 1,
                source: "".into(),
                time_unix_nanos: now.0,
                expires_unix_ms: 0,
            });
            return Some(self.make(due.space, change, limits));
        }
    }

    /// When the next key's time is over, in milliseconds since 1970.
    pub fn next_expiry_unix_ms(&self) -> Option<u64> {
        self.expiry.next_unix_ms()
    }

    /// Takes a change back: the newest of its space.
    pub fn undo(&mut self, changed: Changed) {
        let Some(space) = self.spaces.get_mut(&changed.space) else {
            return;
        };
        let (bytes, keys, expiring) = (space.bytes(), space.len() as u64, space.expiring);
        if let Some(old) = changed.old.as_ref().filter(|old| old.expires_unix_ms > 0) {
            self.expiry.add(due(&changed.space, old));
        }
        space.undo(&changed.change, changed.old);
        self.bytes = self.bytes - bytes + space.bytes();
        self.keys = self.keys - keys + space.len() as u64;
        self.expiring = self.expiring - expiring + space.expiring;
    }

    fn make(&mut self, name: Arc<str>, change: Arc<Change>, limits: &Limits) -> Changed {
        let mut changed = Changed {
            space: name,
            change,
            old: None,
            durable: false,
        };
        let Some(space) = self.spaces.get_mut(&changed.space) else {
            return changed;
        };
        let (bytes, keys, expiring) = (space.bytes(), space.len() as u64, space.expiring);
        changed.old = space.apply(&changed.change, limits);
        changed.durable = space.durable;
        self.bytes = self.bytes - bytes + space.bytes();
        self.keys = self.keys - keys + space.len() as u64;
        self.expiring = self.expiring - expiring + space.expiring;
        if changed.change.expires_unix_ms > 0 {
            self.expiry.add(due(&changed.space, &changed.change));
            if self.expiry.wants_compaction(self.expiring) {
                let spaces = &self.spaces;
                self.expiry.compact(|due| {
                    let entry = spaces.get(&due.space).and_then(|space| space.get(&due.key));
                    entry.is_some_and(|entry| due.is_of(entry))
                });
            }
        }
        changed
    }
}

fn due(space: &Arc<str>, entry: &Change) -> Due {
    Due {
        at_unix_ms: entry.expires_unix_ms,
        revision: entry.revision,
        space: Arc::clone(space),
        key: Arc::clone(&entry.key),
    }
}
