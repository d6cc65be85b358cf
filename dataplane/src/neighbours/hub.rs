//! This node's part in the network, on core 0: which connections are links, when to dial, and what goes between network and agents.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringgate_grpc::{Code, Status};
use ringgate_neighbours::{Effect, Hello, Key, LinkId, LinkRefused, Network, NetworkLimits, NodeId, Share};
use serde_json::{Value, json};

use super::{Body, LinkKey, NeighboursConfig};
use crate::shard::Now;

/// The cost of a link.
const COST: u32 = 1;
/// How long a connection may take to stand, and the other node to say who it is.
const GREETING: Duration = Duration::from_secs(10);
/// The first pause before dialling again, and the longest; it doubles in between. Half of it is random, so that nodes that lost each other
/// do not all come back at once.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Connections that have not said who they are; more are refused.
const GREETING_MAX: usize = 256;

/// A connection to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialRequest {
    /// Names it in the answer.
    pub ticket: u64,
    /// Where to, host:port.
    pub address: String,
}

/// What this node's agents are to be told.
#[derive(Debug)]
pub(super) enum ToAgents {
    Join,
    Elsewhere {
        pattern: Arc<str>,
        subscribers: u32,
    },
    Published {
        topic: Arc<str>,
        bytes: Bytes,
        messages: u32,
    },
    Lost {
        topic: Arc<str>,
        messages: u64,
    },
}

/// See the module.
pub(super) struct Hub {
    node: String,
    network: Network,
    began: Instant,
    /// Connections of which it is not known who is there.
    greeting: HashMap<LinkKey, Greeting>,
    links: HashMap<LinkKey, LinkId>,
    up: HashMap<LinkId, Link>,
    next_link: u32,
    dials: Vec<Dial>,
    dialler: tokio::sync::mpsc::Sender<DialRequest>,
    next_ticket: u64,
    dice: u64,
    work: VecDeque<(LinkKey, Body)>,
    to_agents: VecDeque<ToAgents>,
    joined: bool,
    draining: bool,
}

#[derive(Debug)]
struct Greeting {
    ticket: Option<u64>,
    address: SocketAddr,
    /// The name that its certificate says.
    certified: Option<String>,
    until: Instant,
}

#[derive(Debug)]
struct Link {
    key: LinkKey,
    name: String,
    address: SocketAddr,
    dialled: bool,
    since: Instant,
}

/// A neighbour of the configuration.
#[derive(Debug)]
struct Dial {
    address: String,
    state: DialState,
    failures: u32,
    /// Why it is not linked.
    cause: String,
}

#[derive(Debug, PartialEq, Eq)]
enum DialState {
    /// Until then.
    Waiting(Instant),
    /// The connection is being made.
    Dialling { ticket: u64, until: Instant },
    /// It stands.
    Open(LinkKey),
    /// There is another link to the node of this name.
    Linked(String),
}

impl Hub {
    pub(super) fn new(config: NeighboursConfig, now: Instant) -> Hub {
        let dials = config.neighbours.into_iter().map(|address| Dial {
            address,
            state: DialState::Waiting(now),
            failures: 0,
            cause: String::new(),
        });
        Hub {
            network: Network::new(&config.node, config.incarnation, NetworkLimits::default(), 0),
            node: config.node,
            began: now,
            greeting: HashMap::new(),
            links: HashMap::new(),
            up: HashMap::new(),
            next_link: 0,
            dials: dials.collect(),
            dialler: config.dialler,
            next_ticket: 0,
            dice: config.seed | 1,
            work: VecDeque::new(),
            to_agents: VecDeque::new(),
            joined: false,
            draining: false,
        }
    }

    fn ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_millis() as u64
    }

    /// Whether a connection that stands now is wanted.
    pub(super) fn expects(&self, ticket: u64) -> bool {
        let waits =
            |dial: &Dial| matches!(dial.state, DialState::Dialling { ticket: known, .. } if known == ticket);
        !self.draining && self.dials.iter().any(waits)
    }

    /// What a core says of a link.
    pub(super) fn told(&mut self, body: Body, now: &Now) {
        match body {
            Body::Opened {
                link,
                ticket,
                address,
                certified,
            } => {
                let until = now.mono + GREETING;
                let greeting = Greeting {
                    ticket,
                    address,
                    certified,
                    until,
                };
                self.opened(link, greeting);
            }
            Body::Heard { link, message } => match self.links.get(&link) {
                Some(&id) => {
                    let at = self.ms(now.mono);
                    if let Err(fault) = self.network.receive(id, message, at) {
                        self.close(link, Status::new(Code::InvalidArgument, fault.to_string()), now);
                    }
                }
                None => self.greeted(link, message, now),
            },
            Body::Dropped { link } => {
                if let Some(&id) = self.links.get(&link) {
                    tracing::warn!(
                        neighbour = self.up[&id].name,
                        "a neighbour is too slow; messages for it are dropped"
                    );
                    let at = self.ms(now.mono);
                    self.network.dropped(id, at);
                }
            }
            Body::Closed { link } => self.closed(link, now),
            other => debug_assert!(false, "only links are told {other:?}"),
        }
    }

    fn opened(&mut self, link: LinkKey, greeting: Greeting) {
        if let Some(dial) = self.dial_of(greeting.ticket) {
            dial.state = DialState::Open(link);
        }
        if self.draining || self.greeting.len() >= GREETING_MAX {
            return self.end(
                link,
                Status::new(Code::Unavailable, "this node takes no more links now"),
            );
        }
        self.greeting.insert(link, greeting);
        let hello = Hello {
            name: self.node.clone(),
            version: Hello::VERSION,
        };
        self.say(link, hello.encode(), Bytes::new());
    }

    fn dial_of(&mut self, ticket: Option<u64>) -> Option<&mut Dial> {
        let ticket = ticket?;
        self.dials
            .iter_mut()
            .find(|dial| matches!(dial.state, DialState::Dialling { ticket: known, .. } if known == ticket))
    }

    /// The other end says who it is.
    fn greeted(&mut self, link: LinkKey, message: Bytes, now: &Now) {
        let Some(greeting) = self.greeting.remove(&link) else {
            // Ended already.
            return;
        };
        let hello = match Hello::decode(message) {
            Ok(hello) => hello,
            Err(fault) => {
                return self.close(link, Status::new(Code::InvalidArgument, fault.to_string()), now);
            }
        };
        if let Some(certified) = greeting.certified.filter(|certified| *certified != hello.name) {
            let text = format!(
                "the node calls itself {:?}, and its certificate {certified:?}",
                hello.name
            );
            tracing::warn!(address = %greeting.address, text, "a link is refused");
            return self.close(link, Status::new(Code::PermissionDenied, text), now);
        }
        let dialled = greeting.ticket.is_some();
        if let Some((&known, there)) = self.up.iter().find(|(_, there)| there.name == hello.name) {
            // Both ends keep the connection that the node of the smaller name has made; of two made by one node the later one, as it
            // would not have made it if the earlier one was any good.
            let by_smaller = dialled == (self.node < hello.name);
            if there.dialled != dialled && !by_smaller {
                self.linked_otherwise(link, &hello.name);
                return self.end(
                    link,
                    Status::new(Code::AlreadyExists, "there is a link to this node already"),
                );
            }
            let earlier = there.key;
            self.drop_link(known, now);
            self.linked_otherwise(earlier, &hello.name);
            self.end(
                earlier,
                Status::new(Code::AlreadyExists, "another link to this node is used"),
            );
        }
        self.next_link += 1;
        let (id, at) = (LinkId(self.next_link), self.ms(now.mono));
        if let Err(refused) = self.network.link_up(id, &hello.name, COST, at) {
            let code = match refused {
                LinkRefused::TooMany { .. } => Code::ResourceExhausted,
                _ => Code::FailedPrecondition,
            };
            tracing::warn!(address = %greeting.address, %refused, "a link is refused");
            return self.close(link, Status::new(code, refused.to_string()), now);
        }
        tracing::info!(neighbour = hello.name, address = %greeting.address, dialled, "a link is up");
        self.links.insert(link, id);
        self.up.insert(
            id,
            Link {
                key: link,
                name: hello.name,
                address: greeting.address,
                dialled,
                since: now.mono,
            },
        );
        if let Some(dial) = self
            .dials
            .iter_mut()
            .find(|dial| dial.state == DialState::Open(link))
        {
            dial.failures = 0;
            dial.cause.clear();
        }
        if !std::mem::replace(&mut self.joined, true) {
            self.to_agents.push_back(ToAgents::Join);
        }
    }

    /// The neighbour that a connection was made to is linked by another one.
    fn linked_otherwise(&mut self, link: LinkKey, name: &str) {
        if let Some(dial) = self
            .dials
            .iter_mut()
            .find(|dial| dial.state == DialState::Open(link))
        {
            dial.state = DialState::Linked(name.to_owned());
        }
    }

    /// Ends a connection that is no link any more, or never was.
    fn close(&mut self, link: LinkKey, why: Status, now: &Now) {
        if let Some(&id) = self.links.get(&link) {
            tracing::warn!(neighbour = self.up[&id].name, %why, "a link is closed");
            self.drop_link(id, now);
        }
        self.redial(link, why.to_string(), now);
        self.end(link, why);
    }

    fn end(&mut self, link: LinkKey, why: Status) {
        self.greeting.remove(&link);
        self.work.push_back((link, Body::Close { link, why }));
    }

    fn closed(&mut self, link: LinkKey, now: &Now) {
        self.greeting.remove(&link);
        if let Some(&id) = self.links.get(&link) {
            tracing::warn!(neighbour = self.up[&id].name, "a link is down");
            self.drop_link(id, now);
        }
        self.redial(link, "the connection ended".to_owned(), now);
    }

    fn drop_link(&mut self, id: LinkId, now: &Now) {
        let Some(link) = self.up.remove(&id) else { return };
        self.links.remove(&link.key);
        let at = self.ms(now.mono);
        self.network.link_down(id, at);
        for at in 0..self.dials.len() {
            if matches!(&self.dials[at].state, DialState::Linked(name) if *name == link.name) {
                self.wait(at, "the link was lost".to_owned(), now);
            }
        }
    }

    fn redial(&mut self, link: LinkKey, cause: String, now: &Now) {
        if let Some(at) = self
            .dials
            .iter()
            .position(|dial| dial.state == DialState::Open(link))
        {
            self.wait(at, cause, now);
        }
    }

    fn wait(&mut self, at: usize, cause: String, now: &Now) {
        let dial = &mut self.dials[at];
        let pause = BACKOFF_MIN
            .saturating_mul(1 << dial.failures.min(16))
            .min(BACKOFF_MAX);
        dial.failures = dial.failures.saturating_add(1);
        dial.cause = cause;
        // Xorshift: only to spread attempts.
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        let random = pause.mul_f64((self.dice >> 11) as f64 / (1u64 << 53) as f64);
        self.dials[at].state = DialState::Waiting(now.mono + pause / 2 + random / 2);
    }

    /// A connection could not be made.
    pub(super) fn unconnected(&mut self, ticket: u64, cause: &str, now: &Now) {
        let waits =
            |dial: &Dial| matches!(dial.state, DialState::Dialling { ticket: known, .. } if known == ticket);
        if let Some(at) = self.dials.iter().position(waits) {
            tracing::debug!(
                neighbour = self.dials[at].address,
                cause,
                "cannot connect to a neighbour"
            );
            self.wait(at, cause.to_owned(), now);
        }
    }

    /// What this node's agents publish.
    pub(super) fn publish(&mut self, topic: &str, bytes: Bytes, messages: u32, now: &Now) {
        let at = self.ms(now.mono);
        self.network.publish(topic, messages, bytes, at);
        self.pump();
    }

    /// What they want.
    pub(super) fn want(&mut self, pattern: Arc<str>, subscribers: u32, now: &Now) {
        let share = Share {
            count: subscribers,
            load: 0,
        };
        let at = self.ms(now.mono);
        if let Err(error) = self.network.want(Key::Pattern(pattern), share, at) {
            debug_assert!(false, "the agents' patterns are checked: {error}");
        }
        self.pump();
    }

    /// Takes what the network wants done.
    pub(super) fn pump(&mut self) {
        while let Some(effect) = self.network.next_effect() {
            match effect {
                Effect::Send { link, head, body } => {
                    if let Some(link) = self.up.get(&link) {
                        let key = link.key;
                        self.say(key, head, body);
                    }
                }
                Effect::Published {
                    topic,
                    messages,
                    body,
                    ..
                } => self.to_agents.push_back(ToAgents::Published {
                    topic,
                    bytes: body,
                    messages,
                }),
                // Where it is not known how many were lost, at least one is told: silence would be a lie.
                Effect::Gap { topic, missing, .. } => self.to_agents.push_back(ToAgents::Lost {
                    topic,
                    messages: missing.max(1),
                }),
                Effect::Elsewhere { pattern, subscribers } => {
                    self.to_agents
                        .push_back(ToAgents::Elsewhere { pattern, subscribers });
                }
                Effect::Reached(node) => tracing::info!(node = self.name_of(node), "a node is reached"),
                Effect::Lost(node) => tracing::warn!(node = self.name_of(node), "a node is lost"),
                // Nothing is sent to one node, and no agent asked for, yet.
                _ => {}
            }
        }
    }

    fn name_of(&self, node: NodeId) -> String {
        match self.network.name_of(node) {
            Some(name) => name.to_string(),
            None => format!("{node:?}"),
        }
    }

    fn say(&mut self, link: LinkKey, head: Bytes, body: Bytes) {
        self.work.push_back((link, Body::Say { link, head, body }));
    }

    pub(super) fn next_to_agents(&mut self) -> Option<ToAgents> {
        self.to_agents.pop_front()
    }

    pub(super) fn next_work(&mut self) -> Option<(LinkKey, Body)> {
        self.work.pop_front()
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.work.is_empty() || !self.to_agents.is_empty()
    }

    pub(super) fn next_deadline(&self) -> Instant {
        let network = self.began + Duration::from_millis(self.network.next_timeout());
        let dials = self.dials.iter().filter_map(|dial| match dial.state {
            DialState::Waiting(at) | DialState::Dialling { until: at, .. } => Some(at),
            DialState::Open(_) | DialState::Linked(_) => None,
        });
        let greetings = self.greeting.values().map(|greeting| greeting.until);
        let others = dials.chain(greetings).filter(|_| !self.draining).min();
        others.map_or(network, |at| at.min(network))
    }

    pub(super) fn tick(&mut self, now: &Now) {
        let at = self.ms(now.mono);
        if self.network.next_timeout() <= at {
            self.network.poll(at);
        }
        if self.draining {
            return;
        }
        let silent: Vec<LinkKey> = self
            .greeting
            .iter()
            .filter(|(_, greeting)| greeting.until <= now.mono)
            .map(|(link, _)| *link)
            .collect();
        for link in silent {
            let text = "the other node did not say who it is";
            self.close(link, Status::new(Code::DeadlineExceeded, text), now);
        }
        for at in 0..self.dials.len() {
            match self.dials[at].state {
                DialState::Waiting(due) if due <= now.mono => self.dial(at, now),
                DialState::Dialling { until, .. } if until <= now.mono => {
                    self.wait(at, "it took too long to connect".to_owned(), now);
                }
                _ => {}
            }
        }
    }

    fn dial(&mut self, at: usize, now: &Now) {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        let address = self.dials[at].address.clone();
        if self.dialler.try_send(DialRequest { ticket, address }).is_err() {
            return self.wait(at, "too many connections are being made".to_owned(), now);
        }
        let until = now.mono + GREETING;
        self.dials[at].state = DialState::Dialling { ticket, until };
    }

    /// This node is about to leave.
    pub(super) fn drain(&mut self, now: &Now) {
        self.draining = true;
        let at = self.ms(now.mono);
        self.network.leave(at);
        let links: Vec<LinkKey> = self
            .up
            .values()
            .map(|link| link.key)
            .chain(self.greeting.keys().copied())
            .collect();
        self.pump();
        for link in links {
            self.end(link, Status::new(Code::Unavailable, "the node is shutting down"));
        }
    }

    pub(super) fn links_json(&self) -> Vec<(String, Value)> {
        let infos: HashMap<LinkId, _> = self.network.links().into_iter().collect();
        let mut rows: Vec<(String, Value)> = self
            .up
            .iter()
            .map(|(id, link)| {
                let info = infos.get(id);
                let json = json!({
                    "node": link.name,
                    "address": link.address.to_string(),
                    "status": if info.is_some_and(|info| info.used) { "active" } else { "connecting" },
                    "dialled": link.dialled,
                    "cost": info.map(|info| info.cost),
                    "behind": info.map(|info| info.behind),
                    "core": link.key.core,
                    "age_ms": link.since.elapsed().as_millis() as u64,
                });
                (link.name.clone(), json)
            })
            .collect();
        let missing = self.dials.iter().filter_map(|dial| {
            let state = match &dial.state {
                DialState::Waiting(_) if dial.failures > 0 => "error",
                DialState::Waiting(_) | DialState::Dialling { .. } => "connecting",
                DialState::Open(link) if !self.links.contains_key(link) => "connecting",
                DialState::Open(_) | DialState::Linked(_) => return None,
            };
            let json = json!({
                "address": dial.address,
                "status": state,
                "reason": dial.cause,
                "dialled": true,
            });
            Some((dial.address.clone(), json))
        });
        rows.extend(missing);
        rows
    }

    pub(super) fn nodes_json(&self, most: usize) -> Vec<(String, Value)> {
        let nodes = self.network.nodes().into_iter().take(most);
        nodes
            .map(|node| {
                let links: Vec<Value> = node
                    .links
                    .iter()
                    .map(|(name, cost)| json!({"node": name, "cost": cost}))
                    .collect();
                let json = json!({
                    "node": node.name,
                    "cost": node.cost,
                    "through": node.through,
                    "wants": node.wants,
                    "links": links,
                    "leaving": node.leaving,
                });
                (node.name, json)
            })
            .collect()
    }
}
