//! All dialects of a node behind one listener: which one a call speaks is told by its path.
//!
//! ```text
//!            ┌─ /agp.v1.AgentGateway/Open ──────────────────────► agents
//!   call ────┼─ /dataplane.proto.v1.DataPlaneService/OpenChannel ► slim
//!            ├─ /pubsub.proto.v1.PubSubService/OpenChannel ──────► agp2025
//!            └─ /agp.neighbour.v1.Neighbours/Link ────────────────► neighbours
//!   stream: two bits of its tag say whose it is
//! ```
//!
//! The dialects share listener, connections and cores, but nothing that they hold: no message crosses from one to another. Links to
//! other nodes are for the native dialect: what other nodes want, and what they publish, goes through core 0's agents.

mod error;
mod tag;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringgate_grpc::{Code, Oversize, Request, Status};
use ringgate_policy::Rejection;
use ringgate_switch::{Dialect, SwitchConfig};
use ringgate_wire::{ArenaConfig, PubSub, PubSubConfig, Slim, pubsub, slim};
use serde_json::Value;

pub use error::FrontError;

use crate::agents::{AGP_SERVICE, Agents, AgentsConfig, random};
use crate::config::{Config, DialectConfig, HeaderMac};
use crate::names::{Gate, Labels, Names, Served, Watched};
use crate::neighbours::{self, Neighbours, NeighboursConfig};
use crate::observe::{Hops, Inspection, Order, Row};
use crate::shard::{Answer, CallId, Closing, Flow, Now, Peer, Service, StreamTag};
use tag::Whose;

/// The dialects of one core.
pub struct Front {
    agents: Agents,
    slim: Option<Names<Slim>>,
    agp2025: Option<Names<PubSub>>,
    neighbours: Option<Neighbours>,
    core: usize,
    cores: usize,
    /// Cores that still listen, this one included.
    listening: usize,
    /// Cores that must hear that this one no longer listens.
    to_tell: Range<usize>,
    /// How long clients may take to leave, once asked to drain.
    draining: Option<Duration>,
}

/// What the dialects of each core are made from, made once for the node.
#[derive(Debug, Clone)]
pub struct FrontConfig {
    agents: AgentsConfig,
    slim: Option<(Served, slim::SlimConfig, SwitchConfig)>,
    agp2025: Option<(Served, PubSubConfig, SwitchConfig)>,
    neighbours: Option<NeighboursConfig>,
}

/// What cores tell each other.
#[derive(Debug)]
pub enum Message {
    /// Of the native dialect.
    Agents(crate::agents::Message),
    /// Of SLIM.
    Slim(ringgate_switch::CoreMessage),
    /// Of AGP 2025.
    Agp2025(ringgate_switch::CoreMessage),
    /// Of links to other nodes.
    Neighbours(crate::neighbours::Message),
    /// The sender has stopped to listen.
    Deaf,
}

impl FrontConfig {
    /// What `config` asks for, with `agents` for the native dialect.
    ///
    /// # Errors
    /// [`FrontError`], naming the section and what to change.
    pub fn new(agents: AgentsConfig, config: &Config) -> Result<FrontConfig, FrontError> {
        let profile = config.profile;
        let slim = config.slim.dialect.enabled.under(profile).then_some(&config.slim);
        let slim = match slim {
            None => None,
            Some(settings) => {
                let served = served(&settings.dialect, slim::SERVICE, slim::METHOD, Labels::SLIM)?;
                let dialect = slim::SlimConfig {
                    header_mac: header_mac(settings.header_mac),
                    enforce_pqc: settings.enforce_pqc,
                    mls_only: !settings.dialect.plain_payloads.under(profile),
                    privileged_links: settings.node_links,
                    node_id: config.node.clone(),
                    arena: ArenaConfig::default(),
                };
                let switch = SwitchConfig {
                    greeting_timeout: settings.negotiation_timeout,
                    ..switch_config(&settings.dialect, agents.seed)
                };
                Some((served, dialect, switch))
            }
        };
        let agp2025 = match config.agp2025.enabled.under(profile).then_some(&config.agp2025) {
            None => None,
            Some(settings) => {
                let served = served(settings, pubsub::SERVICE, pubsub::METHOD, Labels::AGP2025)?;
                let dialect = PubSubConfig {
                    mls_only: !settings.plain_payloads.under(profile),
                    arena: ArenaConfig::default(),
                };
                let switch = SwitchConfig {
                    // As the gateways of AGP 0.3.5 do (agp-wire.md section 5).
                    falls_back_to_only: true,
                    ..switch_config(settings, agents.seed)
                };
                Some((served, dialect, switch))
            }
        };
        Ok(FrontConfig {
            agents,
            slim,
            agp2025,
            neighbours: None,
        })
    }

    /// With links to other nodes.
    pub fn linked(self, neighbours: NeighboursConfig) -> FrontConfig {
        FrontConfig {
            neighbours: Some(neighbours),
            ..self
        }
    }

    /// Full names of the gRPC services that reflection describes: the native one. The others' clients bring their own types.
    pub fn services(&self) -> Vec<&'static str> {
        vec![AGP_SERVICE]
    }
}

fn served(
    settings: &DialectConfig,
    service: &'static str,
    method: &'static str,
    labels: &'static Labels,
) -> Result<Served, FrontError> {
    let gate = Gate::load(&settings.gate).map_err(|source| FrontError::Gate {
        dialect: labels.dialect,
        source,
    })?;
    Ok(Served {
        service,
        method,
        labels,
        gate: gate.map(Arc::new),
    })
}

fn header_mac(setting: HeaderMac) -> slim::HeaderMac {
    match setting {
        HeaderMac::Required => slim::HeaderMac::Required,
        HeaderMac::Offered => slim::HeaderMac::Offered,
        HeaderMac::Off => slim::HeaderMac::Off,
    }
}

/// The settings of a switch, but for its core.
fn switch_config(settings: &DialectConfig, seed: u64) -> SwitchConfig {
    SwitchConfig {
        slow_reader: settings.slow_reader,
        limits: settings.limits,
        ..SwitchConfig::new(0, 1, seed)
    }
}

impl Front {
    /// The dialects of one core of `cores`. Made on that core.
    pub fn new(config: FrontConfig, core: usize, cores: usize) -> Front {
        let agents = &config.agents;
        let slim = config.slim.map(|(served, dialect, switch)| {
            let dialect = Slim::new(dialect, Box::new(random));
            names(agents, served, dialect, switch, core, cores)
        });
        let agp2025 = config.agp2025.map(|(served, dialect, switch)| {
            let dialect = PubSub::new(dialect);
            names(agents, served, dialect, switch, core, cores)
        });
        Front {
            agents: Agents::new(config.agents, core, cores),
            slim,
            agp2025,
            neighbours: config
                .neighbours
                .map(|neighbours| Neighbours::new(neighbours, core, Instant::now())),
            core,
            cores,
            listening: cores,
            to_tell: 0..0,
            draining: None,
        }
    }

    /// Ends the streams of SLIM and AGP 2025 once no core listens: their clients come back at once, and give up for good where a
    /// connection is accepted and then comes to nothing.
    fn drain_names(&mut self, now: &Now) {
        let Some(deadline) = self.draining.filter(|_| self.listening == 0) else {
            return;
        };
        if let Some(slim) = &mut self.slim {
            slim.drain(deadline, now);
        }
        if let Some(agp2025) = &mut self.agp2025 {
            agp2025.drain(deadline, now);
        }
    }

    /// This core, or another, has stopped to listen.
    fn deaf(&mut self, now: &Now) {
        self.listening = self.listening.saturating_sub(1);
        self.drain_names(now);
    }
}

/// The clients of one dialect on one core, under the rules of its agents.
fn names<D: Dialect + 'static>(
    agents: &AgentsConfig,
    served: Served,
    dialect: D,
    switch: SwitchConfig,
    core: usize,
    cores: usize,
) -> Names<D> {
    let switch = SwitchConfig {
        core: core as u16,
        cores: cores as u16,
        ..switch
    };
    let watched = Watched::new(&agents.observe, agents.seed, core);
    let rules = agents.rules.clone();
    Names::new(
        served,
        dialect,
        switch,
        rules,
        &agents.reporter,
        watched,
        Instant::now(),
    )
}

/// Calls a method of the service that a stream belongs to, with the service's own tag. `$void`: for a service that is off, whose
/// streams there are none of.
macro_rules! to_owner {
    ($front:ident.$as:ident.$method:ident($stream:ident $(, $argument:expr)*), $void:expr) => {{
        let (whose, tag) = Whose::of($stream);
        match whose {
            Whose::Agents => $front.agents.$method(tag $(, $argument)*),
            Whose::Slim => $front.slim.$as().map_or($void, |slim| slim.$method(tag $(, $argument)*)),
            Whose::Agp2025 => $front.agp2025.$as().map_or($void, |agp2025| agp2025.$method(tag $(, $argument)*)),
            Whose::Neighbours => $front
                .neighbours
                .$as()
                .map_or($void, |neighbours| neighbours.$method(tag $(, $argument)*)),
        }
    }};
}

/// Calls a method of every service that is on.
macro_rules! to_all {
    ($front:ident.$method:ident($($argument:expr),*)) => {{
        $front.agents.$method($($argument),*);
        if let Some(slim) = &mut $front.slim {
            slim.$method($($argument),*);
        }
        if let Some(agp2025) = &mut $front.agp2025 {
            agp2025.$method($($argument),*);
        }
        if let Some(neighbours) = &mut $front.neighbours {
            neighbours.$method($($argument),*);
        }
    }};
}

impl Service for Front {
    type Message = Message;

    fn call(&mut self, call: CallId, request: &Request, peer: &Peer, now: &Now) -> Answer {
        let (whose, answer) = match request.service() {
            slim::SERVICE => (
                Whose::Slim,
                self.slim.as_mut().map(|slim| slim.call(call, request, peer, now)),
            ),
            pubsub::SERVICE => {
                let answer = self
                    .agp2025
                    .as_mut()
                    .map(|agp2025| agp2025.call(call, request, peer, now));
                (Whose::Agp2025, answer)
            }
            neighbours::SERVICE => {
                let answer = self
                    .neighbours
                    .as_mut()
                    .map(|neighbours| neighbours.call(call, request, peer, now));
                (Whose::Neighbours, answer)
            }
            _ => (Whose::Agents, Some(self.agents.call(call, request, peer, now))),
        };
        match answer {
            Some(Answer::Stream(tag)) => Answer::Stream(whose.mark(tag)),
            Some(answer) => answer,
            None => Answer::Refuse(switched_off(request)),
        }
    }

    fn connected(&mut self, call: CallId, ticket: u64, peer: &Peer, now: &Now) -> Option<StreamTag> {
        let tag = self.neighbours.as_mut()?.connected(call, ticket, peer, now)?;
        Some(Whose::Neighbours.mark(tag))
    }

    fn message_bytes_max(&self, stream: StreamTag, node: u32) -> u32 {
        to_owner!(self.as_ref.message_bytes_max(stream, node), node)
    }

    fn admits(&self, peer: &Peer, now: &Now) -> Result<(), Rejection> {
        self.agents.admits(peer, now)
    }

    fn dismissed(&mut self, peer: &Peer, rejection: &Rejection, now: &Now) {
        self.agents.dismissed(peer, rejection, now);
    }

    fn next_expelled(&mut self) -> Option<CallId> {
        // Clients of the other dialects show certificates, or what no revocation speaks of.
        self.agents.next_expelled()
    }

    fn vouches(&self, stream: StreamTag) -> bool {
        to_owner!(self.as_ref.vouches(stream), false)
    }

    fn wants_quickack(&self, stream: StreamTag) -> bool {
        to_owner!(self.as_ref.wants_quickack(stream), false)
    }

    fn oversize(&self, stream: StreamTag) -> Oversize {
        to_owner!(self.as_ref.oversize(stream), Oversize::Fail)
    }

    fn skipped(&mut self, stream: StreamTag, messages: u32) {
        to_owner!(self.as_mut.skipped(stream, messages), ());
    }

    #[inline]
    fn message(&mut self, stream: StreamTag, message: &[u8], now: &Now) -> Flow {
        to_owner!(self.as_mut.message(stream, message, now), Flow::Continue)
    }

    fn broken(&mut self, stream: StreamTag, status: &Status, now: &Now) {
        to_owner!(self.as_mut.broken(stream, status, now), ());
    }

    fn half_closed(&mut self, stream: StreamTag, now: &Now) {
        to_owner!(self.as_mut.half_closed(stream, now), ());
    }

    fn closed(&mut self, stream: StreamTag, how: Closing, now: &Now) {
        to_owner!(self.as_mut.closed(stream, how, now), ());
    }

    fn turn_end(&mut self, now: &Now) {
        to_all!(self.turn_end(now));
        if let Some(neighbours) = &mut self.neighbours {
            neighbours.exchange(&mut self.agents, now);
        }
    }

    fn next_ready(&mut self) -> Option<CallId> {
        self.agents
            .next_ready()
            .or_else(|| self.slim.as_mut()?.next_ready())
            .or_else(|| self.agp2025.as_mut()?.next_ready())
            .or_else(|| self.neighbours.as_mut()?.next_ready())
    }

    #[inline]
    fn pull(&mut self, stream: StreamTag, bytes_max: usize) -> Option<Bytes> {
        to_owner!(self.as_mut.pull(stream, bytes_max), None)
    }

    fn is_empty(&self, stream: StreamTag) -> bool {
        to_owner!(self.as_ref.is_empty(stream), true)
    }

    fn end(&mut self, stream: StreamTag) -> Option<Status> {
        to_owner!(self.as_mut.end(stream), None)
    }

    fn must_end(&self, stream: StreamTag) -> bool {
        to_owner!(self.as_ref.must_end(stream), false)
    }

    fn has_pending(&self) -> bool {
        self.agents.has_pending()
            || self.slim.as_ref().is_some_and(Names::has_pending)
            || self.agp2025.as_ref().is_some_and(Names::has_pending)
            || self.neighbours.as_ref().is_some_and(Neighbours::has_pending)
            || !self.to_tell.is_empty()
    }

    fn next_resumed(&mut self) -> Option<CallId> {
        // Only the native dialect ever pauses input.
        self.agents.next_resumed()
    }

    fn next_outbound(&mut self) -> Option<(usize, Message)> {
        if let Some((core, message)) = self.agents.next_outbound() {
            return Some((core, Message::Agents(message)));
        }
        if let Some((core, message)) = self.slim.as_mut().and_then(Names::next_outbound) {
            return Some((core, Message::Slim(message)));
        }
        if let Some((core, message)) = self.agp2025.as_mut().and_then(Names::next_outbound) {
            return Some((core, Message::Agp2025(message)));
        }
        if let Some((core, message)) = self.neighbours.as_mut().and_then(Neighbours::next_outbound) {
            return Some((core, Message::Neighbours(message)));
        }
        let others = self.to_tell.by_ref();
        others
            .find(|core| *core != self.core)
            .map(|core| (core, Message::Deaf))
    }

    fn receive(&mut self, from: usize, message: Message, now: &Now) {
        match message {
            Message::Agents(message) => self.agents.receive(from, message, now),
            Message::Slim(message) => {
                if let Some(slim) = &mut self.slim {
                    slim.receive(from, message, now);
                }
            }
            Message::Agp2025(message) => {
                if let Some(agp2025) = &mut self.agp2025 {
                    agp2025.receive(from, message, now);
                }
            }
            Message::Neighbours(message) => {
                if let Some(neighbours) = &mut self.neighbours {
                    neighbours.receive(from, message, now);
                }
            }
            Message::Deaf => self.deaf(now),
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let slim = self.slim.as_ref().and_then(Names::next_deadline);
        let agp2025 = self.agp2025.as_ref().and_then(Names::next_deadline);
        let neighbours = self.neighbours.as_ref().and_then(Neighbours::next_deadline);
        [self.agents.next_deadline(), slim, agp2025, neighbours]
            .into_iter()
            .flatten()
            .min()
    }

    fn tick(&mut self, now: &Now) {
        to_all!(self.tick(now));
    }

    fn drain(&mut self, deadline: Duration, now: &Now) {
        self.agents.drain(deadline, now);
        if let Some(neighbours) = &mut self.neighbours {
            neighbours.drain(deadline, now);
        }
        self.draining = Some(deadline);
        self.to_tell = 0..self.cores;
        self.deaf(now);
    }

    fn obey(&mut self, order: Order, now: &Now) {
        if let Order::Unconnected { ticket, cause } = &order {
            if let Some(neighbours) = &mut self.neighbours {
                neighbours.unconnected(*ticket, cause, now);
            }
            return;
        }
        if let Order::Rules(rules, _) = &order {
            if let Some(slim) = &mut self.slim {
                slim.set_rules(rules.clone());
            }
            if let Some(agp2025) = &mut self.agp2025 {
                agp2025.set_rules(rules.clone());
            }
            if let Some(neighbours) = &mut self.neighbours {
                neighbours.set_rules(rules.clone());
            }
        }
        self.agents.obey(order, now);
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        let mut counts = self.agents.counts();
        counts.extend(self.slim.iter().flat_map(Names::counts));
        counts.extend(self.agp2025.iter().flat_map(Names::counts));
        counts.extend(self.neighbours.iter().flat_map(Neighbours::counts));
        counts
    }

    fn take_hops(&mut self) -> Hops {
        let mut hops = self.agents.take_hops();
        if let Some(slim) = &mut self.slim {
            hops.add(slim.take_hops());
        }
        if let Some(agp2025) = &mut self.agp2025 {
            hops.add(agp2025.take_hops());
        }
        hops
    }

    fn return_hops(&mut self, hops: Hops) {
        // Each time says of which dialect it is; whose table keeps it until the next report does not matter.
        self.agents.return_hops(hops);
    }

    fn inspect(&self, inspection: &Inspection) -> Vec<Row> {
        let mut rows = self.agents.inspect(inspection);
        rows.extend(self.slim.iter().flat_map(|slim| slim.inspect(inspection)));
        rows.extend(
            self.agp2025
                .iter()
                .flat_map(|agp2025| agp2025.inspect(inspection)),
        );
        rows.extend(
            self.neighbours
                .iter()
                .flat_map(|neighbours| neighbours.inspect(inspection)),
        );
        rows
    }

    fn details(&self) -> Vec<Value> {
        let mut details = self.agents.details();
        for session in details.iter_mut().filter_map(Value::as_object_mut) {
            session.insert("dialect".to_owned(), "agp.v1".into());
        }
        details.extend(self.slim.iter().flat_map(Names::details));
        details.extend(self.agp2025.iter().flat_map(Names::details));
        details
    }
}

/// What a client is told whose dialect the node does not serve.
fn switched_off(request: &Request) -> Status {
    let section = match request.service() {
        slim::SERVICE => "slim",
        neighbours::SERVICE => {
            let text = "this node takes no links from other nodes: it has no control process that says which nodes there are";
            return Status::new(Code::Unimplemented, text);
        }
        _ => "agp2025",
    };
    let text = format!(
        "{} is switched off on this node (key {section}.enabled)",
        request.service()
    );
    Status::new(Code::Unimplemented, text)
}
