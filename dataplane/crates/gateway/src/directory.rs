//! Every core's copy of who is there.

use std::hash::BuildHasher;
use std::sync::Arc;

use crate::hash::Seed;
use hashbrown::HashMap;
use ringgate_policy::{AgentName, Identity, matches};
use slab::Slab;

use crate::action::{Balance, Status};
use crate::balance::{Dice, Load, Pool};
use crate::ids::Address;
use crate::outgoing::Dialect;

/// What an agent said of itself at Register. The same allocation serves all cores.
#[derive(Debug, Clone)]
pub(crate) struct Card {
    pub(crate) name: AgentName,
    pub(crate) address: Address,
    pub(crate) dialect: Dialect,
    pub(crate) identity: Identity,
    pub(crate) capabilities: Vec<Box<str>>,
    pub(crate) labels: Vec<(Box<str>, Box<str>)>,
    pub(crate) accept_from: Vec<Box<str>>,
    /// When it registered, in seconds since 1970.
    pub(crate) since_unix: i64,
}

impl Card {
    /// Whether the agent wants to be addressed by `name`.
    pub(crate) fn accepts(&self, name: &str) -> bool {
        self.accept_from.is_empty() || self.accept_from.iter().any(|pattern| matches(pattern, name))
    }
}

/// Of an agent that never reported: an equal share of the work.
const UNREPORTED: Status = Status {
    outstanding: 0,
    weight: 1,
    draining: false,
};

/// An agent that is present.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) card: Arc<Card>,
    hash: u64,
    status: Status,
    /// Requests this core forwarded to it that wait.
    pub(crate) outstanding: u32,
}

impl Agent {
    /// What it reported last.
    pub(crate) fn status(&self) -> Status {
        self.status
    }

    fn takes_work(&self) -> bool {
        self.status.weight > 0 && !self.status.draining
    }

    fn load(&self) -> Load {
        Load {
            hash: self.hash,
            outstanding: u64::from(self.outstanding) + u64::from(self.status.outstanding),
            weight: self.status.weight,
        }
    }
}

/// Why nobody was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// Nobody is there, or takes new work.
    Nobody,
    /// Somebody is there, but does not accept messages from the asker.
    Unwanted,
    /// Somebody is there and accepts them, but the asker is forbidden to send them.
    Forbidden,
}

/// Which pool a target picks from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Service,
    Capability,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Directory {
    agents: Slab<Agent>,
    by_name: HashMap<Arc<str>, u32, Seed>,
    services: HashMap<String, Pool, Seed>,
    capabilities: HashMap<String, Pool, Seed>,
    hasher: Seed,
    dice: Dice,
}

impl Directory {
    pub(crate) fn new(seed: u64) -> Self {
        let hasher = Seed::new(seed);
        Self {
            agents: Slab::new(),
            by_name: HashMap::with_hasher(hasher),
            services: HashMap::with_hasher(hasher),
            capabilities: HashMap::with_hasher(hasher),
            hasher,
            dice: Dice::new(seed),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.agents.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Agent> {
        self.agents.iter().map(|(_, agent)| agent)
    }

    pub(crate) fn get_mut(&mut self, agent: u32, address: Address) -> Option<&mut Agent> {
        self.agents
            .get_mut(agent as usize)
            .filter(|agent| agent.card.address == address)
    }

    pub(crate) fn card(&self, agent: u32) -> &Arc<Card> {
        &self.agents[agent as usize].card
    }

    /// An agent came, came back elsewhere, or is another than it was.
    pub(crate) fn add(&mut self, card: Arc<Card>) {
        let mut status = UNREPORTED;
        let mut outstanding = 0;
        if let Some(&known) = self.by_name.get(&**card.name.shared()) {
            let agent = &self.agents[known as usize];
            if agent.card.address == card.address {
                (status, outstanding) = (agent.status, agent.outstanding);
            }
            self.remove_at(known);
        }
        let name = Arc::clone(card.name.shared());
        let hash = self.hasher.hash_one(&*name);
        let agent = self.agents.insert(Agent {
            card,
            hash,
            status,
            outstanding,
        }) as u32;
        self.by_name.insert(name, agent);
        if self.agents[agent as usize].takes_work() {
            self.enlist(agent);
        }
    }

    /// An agent went. News of an earlier session of the same name change nothing.
    /// Whether it was there.
    pub(crate) fn remove(&mut self, card: &Card) -> bool {
        let known = self.by_name.get(card.name.as_str()).copied();
        let known = known.filter(|&agent| self.agents[agent as usize].card.address == card.address);
        known.map(|agent| self.remove_at(agent)).is_some()
    }

    /// What an agent reported last.
    pub(crate) fn status_of(&self, card: &Card) -> Status {
        let known = self.by_name.get(card.name.as_str());
        known.map_or(UNREPORTED, |&agent| self.agents[agent as usize].status)
    }

    pub(crate) fn set_status(&mut self, card: &Card, status: Status) {
        let Some(&place) = self.by_name.get(card.name.as_str()) else {
            return;
        };
        let agent = &mut self.agents[place as usize];
        if agent.card.address != card.address {
            return;
        }
        let worked = agent.takes_work();
        agent.status = status;
        match (worked, agent.takes_work()) {
            (true, false) => self.delist(place),
            (false, true) => self.enlist(place),
            _ => {}
        }
    }

    pub(crate) fn by_name(&self, name: &str, asker: &str) -> Result<u32, Absent> {
        let &agent = self.by_name.get(name).ok_or(Absent::Nobody)?;
        match self.agents[agent as usize].card.accepts(asker) {
            true => Ok(agent),
            false => Err(Absent::Unwanted),
        }
    }

    pub(crate) fn pick(
        &mut self,
        kind: Kind,
        key: &str,
        balance: Balance,
        affinity: &str,
        asker: &str,
        mut allowed: impl FnMut(&AgentName) -> bool,
    ) -> Result<u32, Absent> {
        let pools = match kind {
            Kind::Service => &mut self.services,
            Kind::Capability => &mut self.capabilities,
        };
        let pool = pools.get_mut(key).ok_or(Absent::Nobody)?;
        let (agents, dice) = (&self.agents, &mut self.dice);
        let mut absent = Absent::Unwanted;
        let load = |member: u32| agents[member as usize].load();
        let takes = |member: u32| {
            let card = &agents[member as usize].card;
            let accepted = card.accepts(asker);
            if accepted && !allowed(&card.name) {
                absent = Absent::Forbidden;
                return false;
            }
            accepted
        };
        let picked = pool.pick_willing(balance, affinity, &self.hasher, dice, load, takes);
        picked.ok_or(absent)
    }

    fn remove_at(&mut self, place: u32) {
        if self.agents[place as usize].takes_work() {
            self.delist(place);
        }
        let agent = self.agents.remove(place as usize);
        self.by_name.remove(agent.card.name.as_str());
    }

    fn enlist(&mut self, place: u32) {
        let card = &self.agents[place as usize].card;
        self.services
            .entry_ref(card.name.service())
            .or_default()
            .add(place);
        for capability in &card.capabilities {
            self.capabilities.entry_ref(&**capability).or_default().add(place);
        }
    }

    fn delist(&mut self, place: u32) {
        let card = Arc::clone(&self.agents[place as usize].card);
        leave(&mut self.services, card.name.service(), place);
        for capability in &card.capabilities {
            leave(&mut self.capabilities, capability, place);
        }
    }
}

fn leave(pools: &mut HashMap<String, Pool, Seed>, key: &str, place: u32) {
    if let Some(pool) = pools.get_mut(key) {
        pool.remove(place);
        if pool.is_empty() {
            pools.remove(key);
        }
    }
}
