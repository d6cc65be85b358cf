//! The cores, what is between them, and the clients with what they know.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use fastrand::Rng;
use ringgate_switch::{ConnectionId, CoreMessage, End, Peer, Switch, SwitchConfig};

use crate::toy::{ANY_INSTANCE, Heard, Say, Toy, hear};

/// Few of each, so that they meet.
const KINDS: u8 = 3;
const INSTANCES: u8 = 3;
const LINKS: u8 = 6;
const NODES: u8 = 5;
const CLIENTS_MAX: usize = 16;
const QUEUE_BYTES_MAX: u64 = 4000;

struct Client {
    core: usize,
    id: ConnectionId,
    link: u8,
    node: u8,
    own: bool,
    /// It stands in the node's tables, as far as it knows.
    is_open: bool,
    end: Option<End>,
    /// Names it has subscribed to, each with the numbers it used.
    subscriptions: BTreeMap<(u8, u8), BTreeSet<u64>>,
    /// Names it has ever subscribed to.
    ever: BTreeSet<(u8, u8)>,
    /// Answers that it waits for.
    waiting: VecDeque<(u64, bool)>,
    received: Vec<u8>,
    got: Vec<(u32, u32)>,
    /// The last number it got of each sender.
    last: BTreeMap<u32, u32>,
    published: u32,
}

impl Client {
    fn wants(&self, (kind, instance): (u8, u8)) -> bool {
        let names = &self.subscriptions;
        match instance {
            ANY_INSTANCE => names.keys().any(|(known, _)| *known == kind),
            _ => names.contains_key(&(kind, instance)),
        }
    }
}

pub(crate) struct World {
    rng: Rng,
    now: Instant,
    cores: Vec<Switch<Toy>>,
    /// What is on its way, by receiver and sender.
    network: Vec<Vec<VecDeque<CoreMessage>>>,
    clients: Vec<Client>,
    next_subscription: u64,
    /// Where each message went, by sender and number.
    targets: BTreeMap<(u32, u32), (u8, u8)>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let now = Instant::now();
        let cores = rng.u16(1..5);
        let switches = (0..cores).map(|core| {
            let mut config = SwitchConfig::new(core, cores, seed);
            config.limits.queue_bytes_max = QUEUE_BYTES_MAX;
            config.limits.run_bytes_max = 1000;
            Switch::new(config, Toy::default(), now)
        });
        let network = || (0..cores).map(|_| VecDeque::new()).collect();
        Self {
            cores: switches.collect(),
            network: (0..cores).map(|_| network()).collect(),
            rng,
            now,
            clients: Vec::new(),
            next_subscription: 1,
            targets: BTreeMap::new(),
        }
    }

    /// Something happens.
    pub(crate) fn step(&mut self) {
        self.now += Duration::from_millis(self.rng.u64(1..50));
        match self.rng.u8(..20) {
            0 | 1 => self.open(),
            2..5 => self.subscribe(),
            5 => self.unsubscribe(),
            6..12 => self.publish_any(),
            12 if self.rng.bool() => self.close(),
            12 => self.tick(),
            13..17 => self.carry_one(),
            _ => self.read_some(),
        }
        if self.rng.bool() {
            let core = self.rng.usize(..self.cores.len());
            self.cores[core].turn_end(self.now);
        }
        self.collect();
    }

    fn open(&mut self) {
        let open = self.clients.iter().filter(|client| client.is_open).count();
        if open >= CLIENTS_MAX {
            return;
        }
        let core = self.rng.usize(..self.cores.len());
        let id = self.cores[core].open(Peer::default(), self.now).unwrap();
        let link = self.rng.u8(..LINKS);
        let node = if self.rng.bool() { 0 } else { self.rng.u8(..NODES) };
        let own = self.rng.bool();
        for client in &mut self.clients {
            // Its messages no longer count, nor does what it has subscribed to.
            client.is_open &= link == 0 || (client.link, client.node) != (link, node);
        }
        self.clients.push(Client {
            core,
            id,
            link,
            node,
            own,
            is_open: true,
            end: None,
            subscriptions: BTreeMap::new(),
            ever: BTreeSet::new(),
            waiting: VecDeque::new(),
            received: Vec::new(),
            got: Vec::new(),
            last: BTreeMap::new(),
            published: 0,
        });
        self.say(self.clients.len() - 1, Say::Greet { link, node, own });
    }

    fn say(&mut self, client: usize, say: Say) {
        let Client { core, id, .. } = self.clients[client];
        self.cores[core].message(id, &say.bytes(), self.now);
    }

    /// A client that is open.
    fn any(&mut self) -> Option<usize> {
        let open: Vec<usize> = (0..self.clients.len())
            .filter(|&client| self.clients[client].is_open)
            .collect();
        self.rng.choice(open)
    }

    fn name(&mut self) -> (u8, u8) {
        (self.rng.u8(..KINDS), self.rng.u8(..INSTANCES))
    }

    fn subscribe(&mut self) {
        let Some(client) = self.any() else { return };
        let name = if self.rng.u8(..10) == 0 {
            (0, ANY_INSTANCE)
        } else {
            self.name()
        };
        // Now and then as a client that came back does, or twice the same.
        let number = match self.rng.u8(..6) {
            0 => 0,
            1 => self.next_subscription,
            _ => {
                self.next_subscription += 1;
                self.next_subscription
            }
        };
        let known = &mut self.clients[client];
        known.subscriptions.entry(name).or_default().insert(number);
        known.ever.insert(name);
        if number != 0 {
            known.waiting.push_back((number, true));
        }
        self.say(client, Say::Subscribe(name.0, name.1, number));
    }

    fn unsubscribe(&mut self) {
        let Some(client) = self.any() else { return };
        let name = self.name();
        let known = &mut self.clients[client];
        let number = match known.subscriptions.get_mut(&name) {
            None => {
                known.waiting.push_back((7, false));
                7
            }
            Some(numbers) => {
                let number = *numbers.last().expect("one at least");
                numbers.remove(&number);
                if numbers.is_empty() {
                    known.subscriptions.remove(&name);
                }
                if number != 0 {
                    known.waiting.push_back((number, true));
                }
                number
            }
        };
        self.say(client, Say::Unsubscribe(name.0, name.1, number));
    }

    fn publish_any(&mut self) {
        let Some(sender) = self.any() else { return };
        let to = self.target();
        let (one, padding) = (self.rng.bool(), self.rng.u16(..300));
        self.publish(sender, to, one, padding);
    }

    fn target(&mut self) -> (u8, u8) {
        match self.name() {
            (kind, 0) if self.rng.bool() => (kind, ANY_INSTANCE),
            name => name,
        }
    }

    /// Returns what the receivers know the message by.
    fn publish(&mut self, sender: usize, to: (u8, u8), one: bool, padding: u16) -> (u32, u32) {
        let client = &mut self.clients[sender];
        client.published += 1;
        let key = (sender as u32, client.published);
        self.targets.insert(key, to);
        self.say(
            sender,
            Say::Publish {
                to,
                one,
                sender: key.0,
                number: key.1,
                padding,
            },
        );
        key
    }

    fn close(&mut self) {
        let Some(client) = self.any() else { return };
        self.clients[client].is_open = false;
        let Client { core, id, .. } = self.clients[client];
        if self.rng.bool() {
            self.cores[core].half_closed(id, self.now);
        } else {
            self.cores[core].closed(id, self.now);
        }
    }

    fn tick(&mut self) {
        for core in &mut self.cores {
            if core.next_deadline().is_some_and(|at| at <= self.now) {
                core.tick(self.now);
            }
        }
    }

    /// Takes what the cores have for each other.
    fn collect(&mut self) {
        for (from, core) in self.cores.iter_mut().enumerate() {
            while let Some((to, message)) = core.next_outbound() {
                assert_ne!(from, to);
                self.network[to][from].push_back(message);
            }
        }
    }

    fn carry_one(&mut self) {
        let to = self.rng.usize(..self.cores.len());
        let from = self.rng.usize(..self.cores.len());
        if let Some(message) = self.network[to][from].pop_front() {
            self.cores[to].receive(from, message, self.now);
        }
    }

    fn read_some(&mut self) {
        let Some(client) = self.any() else { return };
        let bytes_max = self.rng.usize(1..600);
        self.read(client, bytes_max);
    }

    /// A client reads something; false where there is nothing.
    fn read(&mut self, client: usize, bytes_max: usize) -> bool {
        let Client { core, id, .. } = self.clients[client];
        let Some(bytes) = self.cores[core].pull(id, bytes_max) else {
            return false;
        };
        assert!((1..=bytes_max).contains(&bytes.len()));
        self.clients[client].received.extend_from_slice(&bytes);
        let own = self.clients[client].own;
        while let Some(heard) = hear(&mut self.clients[client].received, own) {
            self.hear(client, heard);
        }
        true
    }

    fn hear(&mut self, client: usize, heard: Heard) {
        let sender_node = |sender: u32| self.clients[sender as usize].node;
        match heard {
            Heard::Hello => {}
            Heard::Ack(number, success) => {
                let waiting = &mut self.clients[client].waiting;
                let place = waiting.iter().position(|waiting| *waiting == (number, success));
                waiting.remove(place.expect("the answer is awaited"));
            }
            Heard::Message { sender, number } => {
                let to = self.targets[&(sender, number)];
                let node = sender_node(sender);
                let known = &mut self.clients[client];
                assert_ne!(sender as usize, client, "its own");
                assert!(node == 0 || node != known.node, "its own process's");
                let has_asked = match to.1 {
                    ANY_INSTANCE => known.ever.iter().any(|name| name.0 == to.0),
                    _ => known.ever.contains(&to),
                };
                assert!(has_asked, "{to:?} is not what it asked for");
                let last = known.last.insert(sender, number).unwrap_or(0);
                assert!(last < number, "{number} of {sender} after {last}");
                known.got.push((sender, number));
            }
        }
    }

    /// Lets everything arrive everywhere.
    pub(crate) fn settle(&mut self) {
        self.move_all();
        while self.read_all() {}
        for client in &mut self.clients {
            if client.is_open {
                assert_eq!(client.waiting, [], "every Subscribe is answered");
                assert_eq!(client.end, None);
            }
            client.got.clear();
        }
        self.clients.iter_mut().for_each(|client| {
            assert!(client.received.is_empty() || !client.is_open);
        });
        for core in &self.cores {
            assert_eq!(core.stats().subscribes_waiting, 0);
            assert_eq!(core.stats().queued_bytes, 0);
        }
    }

    fn move_all(&mut self) {
        loop {
            for core in &mut self.cores {
                core.turn_end(self.now);
            }
            self.collect();
            let mut moved = false;
            for to in 0..self.cores.len() {
                for from in 0..self.cores.len() {
                    while let Some(message) = self.network[to][from].pop_front() {
                        self.cores[to].receive(from, message, self.now);
                        moved = true;
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn read_all(&mut self) -> bool {
        let mut any = false;
        for client in 0..self.clients.len() {
            while self.read(client, 1 << 20) {
                any = true;
            }
            let Client { core, id, .. } = self.clients[client];
            if let Some(end) = self.cores[core].end(id) {
                assert!(!self.clients[client].is_open, "{end:?}");
                self.clients[client].end = Some(end);
                self.cores[core].closed(id, self.now);
            }
        }
        any
    }

    /// Who may get a message, grouped: of each group exactly one gets it, where all get it.
    fn receivers(&self, sender: usize, to: (u8, u8)) -> Vec<Vec<usize>> {
        let own_node = self.clients[sender].node;
        let mut groups: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
        for (at, client) in self.clients.iter().enumerate() {
            let is_own = at == sender || (own_node != 0 && client.node == own_node);
            if client.is_open && client.wants(to) && !is_own {
                // The connections of a process are one on each core.
                let key = match client.node {
                    0 => (usize::MAX, at),
                    node => (client.core, node.into()),
                };
                groups.entry(key).or_default().push(at);
            }
        }
        groups.into_values().collect()
    }

    fn who_got(&self, key: (u32, u32)) -> Vec<usize> {
        let got = |client: &Client| client.got.iter().filter(|got| **got == key).count();
        (0..self.clients.len())
            .flat_map(|at| std::iter::repeat_n(at, got(&self.clients[at])))
            .collect()
    }

    /// In a quiet moment: one message, and exactly the right clients get it.
    pub(crate) fn publish_and_check(&mut self) {
        let Some(sender) = self.any() else { return };
        let (to, one) = (self.target(), self.rng.bool());
        let groups = self.receivers(sender, to);
        let key = self.publish(sender, to, one, 10);
        self.move_all();
        while self.read_all() {}
        let got = self.who_got(key);
        if one {
            let is_right = match got[..] {
                [] => groups.is_empty(),
                [only] => groups.iter().flatten().any(|&at| at == only),
                _ => false,
            };
            // A turn that falls on another core where only the sender's own process is finds nobody.
            let has_own_elsewhere = self.clients.iter().any(|client| {
                client.is_open
                    && client.node != 0
                    && client.node == self.clients[sender].node
                    && client.wants(to)
            });
            assert!(
                is_right || (got.is_empty() && has_own_elsewhere),
                "{got:?} of {groups:?}"
            );
        } else {
            assert_eq!(got.len(), groups.len(), "{got:?} of {groups:?}");
            for group in groups {
                assert_eq!(group.iter().filter(|at| got.contains(at)).count(), 1, "{group:?}");
            }
        }
    }

    /// In a quiet moment: more than a queue holds, while nobody reads. What is missed is the oldest, and counted.
    pub(crate) fn overflow_and_check(&mut self) {
        let Some(sender) = self.any() else { return };
        let to = self.target();
        let groups = self.receivers(sender, to);
        let dropped_before = self.dropped();
        let count = 60;
        let mut last = (0, 0);
        for _ in 0..count {
            let padding = self.rng.u16(50..150);
            last = self.publish(sender, to, false, padding);
        }
        self.move_all();
        for core in &self.cores {
            let queued = core.details().map(|info| info.queued_bytes).max();
            assert!(queued.unwrap_or(0) <= QUEUE_BYTES_MAX);
        }
        while self.read_all() {}
        let (dropped, mut missed) = (self.dropped() - dropped_before, 0);
        let first = last.1 + 1 - count;
        for group in groups {
            let numbers: Vec<u32> = group
                .iter()
                .flat_map(|&at| self.clients[at].got.iter())
                .filter(|(of, number)| *of == last.0 && *number >= first)
                .map(|(_, number)| *number)
                .collect();
            let expected: Vec<u32> = (last.1 + 1 - numbers.len() as u32..=last.1).collect();
            assert_eq!(numbers, expected, "the newest stay");
            assert!(!numbers.is_empty() && numbers.len() < count as usize);
            missed += u64::from(count) - numbers.len() as u64;
        }
        assert_eq!(dropped, missed);
        self.clients.iter_mut().for_each(|client| client.got.clear());
    }

    fn dropped(&self) -> u64 {
        self.cores.iter().map(|core| core.stats().dropped[0]).sum()
    }

    /// Everyone goes; nothing may stay.
    pub(crate) fn finish(mut self) {
        for client in 0..self.clients.len() {
            let Client { core, id, .. } = self.clients[client];
            self.cores[core].closed(id, self.now);
            if self.rng.bool() {
                self.collect();
                self.carry_one();
            }
        }
        self.move_all();
        for core in &mut self.cores {
            while core.next_ready().is_some() {}
            core.tick(self.now + Duration::from_secs(60));
            assert!(core.stats().is_idle(), "{:?}", core.stats());
            assert_eq!(core.details().count(), 0);
            assert_eq!(core.next_deadline(), None);
            assert!(!core.has_pending());
        }
    }
}
