//! Nodes on virtual links and a virtual clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet};

use bytes::{Bytes, BytesMut};
use ringgate_neighbours::{Effect, Key, LinkId, Location, Network, NetworkLimits, NodeId, Share};
use ringgate_policy::AgentName;

use crate::dice::Dice;
use crate::ear::Ear;

/// All nodes and the links between them.
pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) now: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) wires: Vec<Wire>,
    pub(crate) limits: NetworkLimits,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    next_event: u64,
    next_link: u32,
    incarnations: u64,
    /// Which message went over which wire in which direction.
    crossed: HashSet<(usize, usize, Bytes)>,
    /// How often any did.
    pub(crate) crossings: HashMap<Bytes, usize>,
    pub(crate) watch: Option<Watch>,
    /// Where agents are.
    pub(crate) agents: BTreeMap<AgentName, usize>,
    /// Messages take up to half as long again as their wire's delay.
    pub(crate) jitter: bool,
    /// By link: its wire.
    places: HashMap<LinkId, usize>,
}

/// A node and who listens on it.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) network: Network,
    pub(crate) incarnation: u64,
    pub(crate) wants: BTreeMap<Key, u32>,
    pub(crate) ear: Ear,
    /// Of its publishes, by topic: which life of the topic, and how many in it.
    pub(crate) said: HashMap<String, (u64, u64)>,
    pub(crate) reached: BTreeSet<NodeId>,
    /// What it heard of agents that it asked for.
    pub(crate) located: BTreeMap<AgentName, Option<NodeId>>,
    /// What it was told of others' subscribers.
    pub(crate) elsewhere: BTreeMap<String, u32>,
    wakes: u64,
}

/// A link between two nodes, up or not.
pub(crate) struct Wire {
    pub(crate) ends: [usize; 2],
    pub(crate) cost: u32,
    pub(crate) delay: u64,
    /// It may be used.
    pub(crate) whole: bool,
    /// By its ends: the link, while that end believes in it.
    links: [Option<LinkId>; 2],
    /// Both ends are connected.
    up: bool,
    /// Which connection.
    epoch: u64,
    /// The last arrival at each end: later messages come no earlier.
    arrival: [u64; 2],
}

/// The ways of a node: to whom, at what cost, through whom.
type Print = Vec<(String, Option<u64>, Option<String>)>;

/// Notes when a node's ways last changed.
pub(crate) struct Watch {
    prints: Vec<Print>,
    pub(crate) last_change: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wake(usize, u64),
    Arrive {
        wire: usize,
        epoch: u64,
        end: usize,
        message: Vec<u8>,
    },
    Detect {
        wire: usize,
        link: LinkId,
        end: usize,
    },
    Dial(usize),
    Up {
        wire: usize,
        epoch: u64,
        end: usize,
    },
}

impl World {
    pub(crate) fn new(seed: u64, limits: NetworkLimits) -> Self {
        Self {
            dice: Dice::new(seed),
            now: 1,
            nodes: Vec::new(),
            wires: Vec::new(),
            limits,
            events: BinaryHeap::new(),
            next_event: 0,
            next_link: 0,
            incarnations: 0,
            crossed: HashSet::new(),
            crossings: HashMap::new(),
            watch: None,
            jitter: true,
            places: HashMap::new(),
            agents: BTreeMap::new(),
        }
    }

    pub(crate) fn add_node(&mut self, name: &str) -> usize {
        self.incarnations += 1;
        let network = Network::new(name, self.incarnations, self.limits.clone(), self.now);
        self.nodes.push(Node {
            name: name.into(),
            network,
            incarnation: self.incarnations,
            wants: BTreeMap::new(),
            ear: Ear::default(),
            said: HashMap::new(),
            reached: BTreeSet::new(),
            located: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            wakes: 0,
        });
        self.touched(self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    pub(crate) fn add_wire(&mut self, a: usize, b: usize, cost: u32, delay: u64) -> usize {
        self.wires.push(Wire {
            ends: [a, b],
            cost,
            delay,
            whole: true,
            links: [None; 2],
            up: false,
            epoch: 0,
            arrival: [0; 2],
        });
        self.at(self.now, Event::Dial(self.wires.len() - 1));
        self.wires.len() - 1
    }

    /// A connected network: a ring through all nodes, and wires across until each node has `degree` on average.
    pub(crate) fn build(&mut self, nodes: usize, degree: usize, delays: std::ops::Range<u64>) {
        for n in 0..nodes {
            self.add_node(&format!("node-{n:04}"));
        }
        let mut known = HashSet::new();
        let mut pairs: Vec<(usize, usize)> = (0..nodes).map(|n| (n, (n + 1) % nodes)).collect();
        while pairs.len() < nodes * degree / 2 {
            pairs.push((self.dice.below(nodes), self.dice.below(nodes)));
            let (a, b) = pairs[pairs.len() - 1];
            if a == b || known.contains(&(a.min(b), a.max(b))) || (a + 1) % nodes == b || (b + 1) % nodes == a
            {
                pairs.pop();
            } else {
                known.insert((a.min(b), a.max(b)));
            }
        }
        for (a, b) in pairs {
            let delay = delays.start + self.dice.below((delays.end - delays.start) as usize) as u64;
            self.add_wire(a, b, 1, delay);
        }
    }

    /// Both ends learn of it later, each in its time; what was under way is lost.
    pub(crate) fn cut(&mut self, wire: usize, detect_within: usize) {
        let it = &mut self.wires[wire];
        it.whole = false;
        it.up = false;
        it.epoch += 1;
        for end in 0..2 {
            if let Some(link) = self.wires[wire].links[end] {
                let at = self.now + self.dice.below(detect_within + 1) as u64;
                self.at(at, Event::Detect { wire, link, end });
            }
        }
    }

    pub(crate) fn heal(&mut self, wire: usize) {
        self.wires[wire].whole = true;
        let at = self.now + self.dice.below(30) as u64;
        self.at(at, Event::Dial(wire));
    }

    /// All it knew is gone; its agents come back.
    pub(crate) fn restart(&mut self, node: usize) {
        for wire in 0..self.wires.len() {
            if let Some(end) = self.wires[wire].ends.iter().position(|at| *at == node) {
                let whole = self.wires[wire].whole;
                self.cut(wire, 40);
                self.wires[wire].links[end] = None;
                if whole {
                    self.heal(wire);
                }
            }
        }
        self.incarnations += 1;
        let it = &mut self.nodes[node];
        it.incarnation = self.incarnations;
        it.network = Network::new(&it.name, it.incarnation, self.limits.clone(), self.now);
        it.ear = Ear::default();
        it.said.clear();
        it.reached.clear();
        it.elsewhere.clear();
        for (key, count) in it.wants.clone() {
            let share = Share { count, load: 0 };
            self.nodes[node]
                .network
                .want(key, share, self.now)
                .expect("valid");
        }
        for (name, _) in self.agents.iter().filter(|(_, at)| **at == node) {
            self.nodes[node].network.agent(name.clone(), true, self.now);
        }
        self.touched(node);
    }

    /// An agent comes, leaves, or goes to another node.
    pub(crate) fn agent(&mut self, name: AgentName, at: Option<usize>) {
        let before = match at {
            Some(node) => self.agents.insert(name.clone(), node),
            None => self.agents.remove(&name),
        };
        for (node, here) in [(before, false), (at, true)] {
            if let Some(node) = node
                && before != at
            {
                self.nodes[node].network.agent(name.clone(), here, self.now);
                self.touched(node);
            }
        }
    }

    /// Asks on one node where an agent is.
    pub(crate) fn locate(&mut self, node: usize, name: &AgentName) -> Option<NodeId> {
        let it = &mut self.nodes[node];
        it.network.mislocated(name);
        it.located.remove(name);
        match it.network.locate(name, self.now) {
            Location::Here => Some(it.network.id()),
            Location::At(node) => Some(node),
            Location::Nowhere => None,
            Location::Asking => {
                self.touched(node);
                self.run(3_000);
                self.nodes[node]
                    .located
                    .get(name)
                    .copied()
                    .expect("an answer, or that there is none")
            }
        }
    }

    pub(crate) fn want(&mut self, node: usize, key: Key, count: u32) {
        let it = &mut self.nodes[node];
        match count {
            0 => drop(it.wants.remove(&key)),
            _ => drop(it.wants.insert(key.clone(), count)),
        }
        if let Key::Pattern(pattern) = &key
            && count == 0
        {
            it.ear.stop(pattern);
        }
        let share = Share { count, load: 0 };
        it.network.want(key, share, self.now).expect("valid");
        self.touched(node);
    }

    pub(crate) fn publish(&mut self, node: usize, topic: &str) -> Option<Bytes> {
        let it = &mut self.nodes[node];
        let (life, count) = it.said.get(topic).copied().unwrap_or((0, 0));
        let body = Bytes::from(format!("P {node} {} {life} {}", it.incarnation, count + 1));
        let body = Bytes::from([&body[..], b" ", topic.as_bytes()].concat());
        let wanted = it.network.publish(topic, 1, body.clone(), self.now);
        let next = if wanted == 0 {
            (life + 1, 0)
        } else {
            (life, count + 1)
        };
        it.said.insert(topic.into(), next);
        self.touched(node);
        (wanted > 0).then_some(body)
    }

    /// The number of agents of a node that stand behind a key; told by [`tell_agents`](World::tell_agents).
    pub(crate) fn agents(&mut self, node: usize, key: Key) -> &mut u32 {
        self.nodes[node].wants.entry(key).or_default()
    }

    pub(crate) fn tell_agents(&mut self) {
        for node in 0..self.nodes.len() {
            for (key, count) in self.nodes[node].wants.clone() {
                self.want(node, key, count);
            }
        }
    }

    pub(crate) fn control_bytes(&self) -> u64 {
        self.nodes
            .iter()
            .map(|node| node.network.stats().control_bytes_sent)
            .sum()
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, ms: u64) {
        let until = self.now + ms;
        while let Some(Reverse((at, _, _))) = self.events.peek()
            && *at <= until
        {
            let Some(Reverse((at, _, event))) = self.events.pop() else {
                break;
            };
            self.now = self.now.max(at);
            self.happen(event);
        }
        self.now = until;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake(node, at) => {
                if self.nodes[node].wakes == at {
                    self.nodes[node].wakes = 0;
                    if self.nodes[node].network.next_timeout() <= self.now {
                        self.nodes[node].network.poll(self.now);
                    }
                    self.touched(node);
                }
            }
            Event::Arrive {
                wire,
                epoch,
                end,
                message,
            } => {
                let it = &self.wires[wire];
                if it.epoch == epoch
                    && let Some(link) = it.links[end]
                {
                    let node = it.ends[end];
                    let network = &mut self.nodes[node].network;
                    network
                        .receive(link, message.into(), self.now)
                        .expect("honest neighbours");
                    self.touched(node);
                }
            }
            Event::Detect { wire, link, end } => {
                let it = &mut self.wires[wire];
                if it.links[end] == Some(link) {
                    it.links[end] = None;
                    let node = it.ends[end];
                    self.nodes[node].network.link_down(link, self.now);
                    self.touched(node);
                    self.at(self.now + 1, Event::Dial(wire));
                }
            }
            Event::Dial(wire) => {
                let it = &mut self.wires[wire];
                if it.whole && !it.up && it.links == [None; 2] {
                    it.up = true;
                    it.epoch += 1;
                    it.arrival = [self.now; 2];
                    let (epoch, delay) = (it.epoch, it.delay);
                    self.at(self.now + delay, Event::Up { wire, epoch, end: 1 });
                    self.up(wire, epoch, 0);
                }
            }
            Event::Up { wire, epoch, end } => self.up(wire, epoch, end),
        }
    }

    fn up(&mut self, wire: usize, epoch: u64, end: usize) {
        if self.wires[wire].epoch != epoch {
            // It was cut before it was up: this end never hears of it, and the other end detects.
            return;
        }
        self.next_link += 1;
        let link = LinkId(self.next_link);
        self.places.insert(link, wire);
        let it = &mut self.wires[wire];
        it.links[end] = Some(link);
        let (node, peer) = (it.ends[end], it.ends[1 - end]);
        let name = self.nodes[peer].name.clone();
        let up = self.nodes[node].network.link_up(link, &name, it.cost, self.now);
        up.expect("one wire for each pair");
        self.touched(node);
    }

    /// Does what a node wants done, and notes when it wants to be woken.
    pub(crate) fn touched(&mut self, node: usize) {
        while let Some(effect) = self.nodes[node].network.next_effect() {
            match effect {
                Effect::Send { link, head, body } => self.send(node, link, head, body),
                Effect::Published {
                    origin,
                    topic,
                    messages,
                    body,
                } => {
                    assert_eq!(messages, 1);
                    let it = &mut self.nodes[node];
                    let wants = |key: &Key| matches!(key, Key::Pattern(pattern) if ringgate_policy::matches(pattern, &topic));
                    // Else it came before the others heard that nobody wants it any more.
                    if it.wants.keys().any(wants) {
                        it.ear.message(origin, &topic, &body);
                    }
                }
                Effect::Gap {
                    origin,
                    topic,
                    missing,
                    exact,
                } => self.nodes[node].ear.gap(origin, &topic, missing, exact),
                Effect::Message { .. } => {}
                Effect::Elsewhere { pattern, subscribers } => {
                    self.nodes[node]
                        .elsewhere
                        .insert(pattern.to_string(), subscribers);
                }
                Effect::Located { name, node: at } => drop(self.nodes[node].located.insert(name, at)),
                Effect::Reached(other) => assert!(self.nodes[node].reached.insert(other)),
                Effect::Lost(other) => assert!(self.nodes[node].reached.remove(&other)),
            }
        }
        let at = self.nodes[node].network.next_timeout().max(self.now + 1);
        let wakes = &mut self.nodes[node].wakes;
        if *wakes == 0 || *wakes > at {
            *wakes = at;
            self.at(at, Event::Wake(node, at));
        }
        self.look(node);
    }

    fn send(&mut self, node: usize, link: LinkId, head: Bytes, body: Bytes) {
        let Some(&wire) = self.places.get(&link) else {
            return;
        };
        let it = &mut self.wires[wire];
        let end = usize::from(it.ends[1] == node);
        if body.starts_with(b"P ") {
            *self.crossings.entry(body.clone()).or_default() += 1;
            assert!(
                self.crossed.insert((wire, end, body.clone())),
                "twice over one link: {body:?}"
            );
        }
        if !it.up {
            return;
        }
        // In order on a wire, in any order across wires.
        let jitter = if self.jitter {
            self.dice.below(it.delay as usize / 2 + 1)
        } else {
            0
        };
        let at = (self.now + it.delay + jitter as u64).max(it.arrival[1 - end]);
        it.arrival[1 - end] = at;
        let epoch = it.epoch;
        let mut message = BytesMut::from(&head[..]);
        message.extend_from_slice(&body);
        let message = message.to_vec();
        self.at(
            at,
            Event::Arrive {
                wire,
                epoch,
                end: 1 - end,
                message,
            },
        );
    }

    fn at(&mut self, at: u64, event: Event) {
        self.next_event += 1;
        self.events.push(Reverse((at, self.next_event, event)));
    }

    /// Begins to watch the ways of all nodes.
    pub(crate) fn watch(&mut self) {
        let prints = (0..self.nodes.len()).map(|node| self.print(node)).collect();
        self.watch = Some(Watch {
            prints,
            last_change: self.now,
        });
    }

    fn look(&mut self, node: usize) {
        if self.watch.is_none() {
            return;
        }
        let (print, now) = (self.print(node), self.now);
        if let Some(watch) = &mut self.watch
            && watch.prints[node] != print
        {
            watch.prints[node] = print;
            watch.last_change = now;
        }
    }

    fn print(&mut self, node: usize) -> Print {
        let nodes = self.nodes[node].network.nodes();
        nodes
            .into_iter()
            .map(|info| (info.name, info.cost, info.through))
            .collect()
    }
}
