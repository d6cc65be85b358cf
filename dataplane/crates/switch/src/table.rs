//! Who wants which name: this core's connections, and how many each other core has.
//!
//! Finding, adding and removing a name costs the same however many there are.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use slab::Slab;
use smallvec::SmallVec;

use crate::ids::{ANY, Name};

/// Those who get a message.
#[derive(Debug, Default)]
pub(crate) struct Audience {
    /// This core's connections, by index, each once.
    pub(crate) members: SmallVec<[u32; 2]>,
    pub(crate) remotes: SmallVec<[Remote; 1]>,
    /// Counts the messages that went to one of them, to take turns.
    pub(crate) turn: u32,
}

/// Connections of another core.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remote {
    pub(crate) core: u16,
    pub(crate) members: u32,
}

impl Audience {
    fn is_empty(&self) -> bool {
        self.members.is_empty() && self.remotes.is_empty()
    }

    /// Connections over all cores.
    pub(crate) fn len(&self) -> u64 {
        let remote: u64 = self.remotes.iter().map(|remote| u64::from(remote.members)).sum();
        self.members.len() as u64 + remote
    }

    fn set_remote(&mut self, core: u16, members: u32) {
        self.remotes.retain(|remote| remote.core != core);
        if members > 0 {
            self.remotes.push(Remote { core, members });
        }
    }
}

/// All instances of a name.
#[derive(Debug)]
struct Entry {
    components: [u64; 3],
    instances: u32,
    audience: Audience,
}

/// One instance of a name.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) entry: u32,
    pub(crate) id: u128,
    pub(crate) audience: Audience,
    /// The barrier behind which every core knows that this core has members.
    pub(crate) announced: u64,
    /// The other cores are to be told.
    pub(crate) is_changed: bool,
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// To those of one instance.
    Instance(u32),
    /// To those of every instance of an entry.
    Any(u32),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Table {
    entries: Slab<Entry>,
    instances: Slab<Instance>,
    entry_of: HashTable<u32>,
    instance_of: HashTable<u32>,
    hasher: FixedState,
}

impl Table {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            entries: Slab::new(),
            instances: Slab::new(),
            entry_of: HashTable::new(),
            instance_of: HashTable::new(),
            hasher: FixedState::with_seed(seed),
        }
    }

    /// Instances known.
    pub(crate) fn len(&self) -> usize {
        self.instances.len()
    }

    /// Who gets messages to `name`.
    #[inline]
    pub(crate) fn target(&self, name: &Name) -> Option<Target> {
        match name.instance {
            ANY => self.find_entry(&name.components).map(Target::Any),
            _ => self.find(name).map(Target::Instance),
        }
    }

    /// Who gets messages to any instance of `name`, where that is one connection alone.
    pub(crate) fn only(&self, name: &Name) -> Option<Target> {
        let entry = self.find_entry(&name.components)?;
        (self.entries[entry as usize].audience.len() == 1).then_some(Target::Any(entry))
    }

    pub(crate) fn audience(&self, target: Target) -> &Audience {
        match target {
            Target::Instance(instance) => &self.instances[instance as usize].audience,
            Target::Any(entry) => &self.entries[entry as usize].audience,
        }
    }

    pub(crate) fn audience_mut(&mut self, target: Target) -> &mut Audience {
        match target {
            Target::Instance(instance) => &mut self.instances[instance as usize].audience,
            Target::Any(entry) => &mut self.entries[entry as usize].audience,
        }
    }

    pub(crate) fn name_of(&self, target: Target) -> Name {
        match target {
            Target::Instance(instance) => {
                let instance = &self.instances[instance as usize];
                Name {
                    components: self.entries[instance.entry as usize].components,
                    instance: instance.id,
                }
            }
            Target::Any(entry) => Name {
                components: self.entries[entry as usize].components,
                instance: ANY,
            },
        }
    }

    pub(crate) fn instance(&self, instance: u32) -> &Instance {
        &self.instances[instance as usize]
    }

    pub(crate) fn instance_mut(&mut self, instance: u32) -> &mut Instance {
        &mut self.instances[instance as usize]
    }

    pub(crate) fn find(&self, name: &Name) -> Option<u32> {
        self.instance_of
            .find(self.hasher.hash_one(name), |&instance| {
                let instance = &self.instances[instance as usize];
                instance.id == name.instance
                    && self.entries[instance.entry as usize].components == name.components
            })
            .copied()
    }

    fn find_entry(&self, components: &[u64; 3]) -> Option<u32> {
        self.entry_of
            .find(self.hasher.hash_one(components), |&entry| {
                self.entries[entry as usize].components == *components
            })
            .copied()
    }

    /// The instance of a name, made if it is new.
    pub(crate) fn ensure(&mut self, name: &Name) -> u32 {
        if let Some(instance) = self.find(name) {
            return instance;
        }
        let entry = self.ensure_entry(&name.components);
        self.entries[entry as usize].instances += 1;
        let instance = self.instances.insert(Instance {
            entry,
            id: name.instance,
            audience: Audience::default(),
            announced: 0,
            is_changed: false,
        }) as u32;
        let Self {
            entries,
            instances,
            instance_of,
            hasher,
            ..
        } = self;
        instance_of.insert_unique(hasher.hash_one(name), instance, |&instance| {
            let instance = &instances[instance as usize];
            hasher.hash_one(Name {
                components: entries[instance.entry as usize].components,
                instance: instance.id,
            })
        });
        instance
    }

    fn ensure_entry(&mut self, components: &[u64; 3]) -> u32 {
        if let Some(entry) = self.find_entry(components) {
            return entry;
        }
        let entry = self.entries.insert(Entry {
            components: *components,
            instances: 0,
            audience: Audience::default(),
        }) as u32;
        let Self {
            entries,
            entry_of,
            hasher,
            ..
        } = self;
        entry_of.insert_unique(hasher.hash_one(components), entry, |&entry| {
            hasher.hash_one(entries[entry as usize].components)
        });
        entry
    }

    /// Notes how many connections another core has for a name, and for any instance of it.
    pub(crate) fn set_remote(&mut self, core: u16, name: &Name, members: u32, any: u32) {
        let instance = match self.find(name) {
            Some(instance) => instance,
            None if members == 0 && any == 0 => return,
            None => self.ensure(name),
        };
        let entry = self.instances[instance as usize].entry;
        self.instances[instance as usize]
            .audience
            .set_remote(core, members);
        self.entries[entry as usize].audience.set_remote(core, any);
        self.tidy(instance);
    }

    /// Removes an instance that nobody wants, once the other cores have been told.
    pub(crate) fn tidy(&mut self, instance: u32) {
        let Instance {
            audience,
            is_changed,
            entry,
            ..
        } = &self.instances[instance as usize];
        if !audience.is_empty() || *is_changed {
            return;
        }
        let entry = *entry;
        let name = self.name_of(Target::Instance(instance));
        let hash = self.hasher.hash_one(name);
        if let Ok(found) = self.instance_of.find_entry(hash, |&known| known == instance) {
            found.remove();
        }
        self.instances.remove(instance as usize);
        self.entries[entry as usize].instances -= 1;
        if self.entries[entry as usize].instances == 0 {
            let hash = self.hasher.hash_one(name.components);
            if let Ok(found) = self.entry_of.find_entry(hash, |&known| known == entry) {
                found.remove();
            }
            self.entries.remove(entry as usize);
        }
    }
}
