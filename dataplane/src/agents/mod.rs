//! The gateway as a service of a shard: dialects on one side, the sans-IO core on the other.

mod identity;
mod inspection;
mod links;
mod tracer;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ringgate_config::ObserveConfig;
use ringgate_gateway::action::Action;
use ringgate_gateway::{
    Closing as GatewayClosing, CoreId, CoreMessage, DrainNotice, Effect, Flow as GatewayFlow, Follow,
    Gateway, GatewayConfig, Now as GatewayNow, PayloadFault, PeerInfo, Said, SessionId, code,
    outgoing::Dialect,
};
use ringgate_grpc::{Code, Request, Status};
use ringgate_identity::ReplayCache;
use ringgate_policy::Rejection;
use ringgate_state::TopicRules;
use ringgate_wire::{AgpEncoder, ArenaConfig, agp};
use serde_json::{Value, json};

use crate::log::LogPort;
use crate::observe::{FlowSource, Hops, Inspection, Kind, Observation, Order, Reporter, Row, Subject};
use crate::rules::{Enforcer, Payloads, Rules};
use crate::shard::{Answer, CallId, Closing, Flow, Now, Peer, Service, StreamTag};
use tracer::{Tracer, Travel};

/// Full name of the native service.
pub const AGP_SERVICE: &str = "agp.v1.AgentGateway";
/// Its only method.
const AGP_METHOD: &str = "Open";
/// When agents are told to come back after a drain, and how much random time to add, so that they do not all come at once.
const RECONNECT_AFTER: Duration = Duration::from_millis(200);
const RECONNECT_JITTER: Duration = Duration::from_millis(2000);

/// The agents of one core.
pub struct Agents {
    gateway: Gateway,
    encoder: AgpEncoder,
    /// By the index of the session: its call, while it has one.
    calls: Vec<Option<Open>>,
    outbound: VecDeque<(usize, Message)>,
    /// For other nodes.
    network: VecDeque<ToNetwork>,
    resumed: VecDeque<SessionId>,
    ended: VecDeque<SessionId>,
    /// Those among them whose credential is no longer good.
    expelled: VecDeque<SessionId>,
    now: GatewayNow,
    log: Option<LogPort>,
    core: usize,
    rules: Arc<Rules>,
    payloads: Payloads,
    /// Proofs of bearer tokens that this core has seen.
    replays: Rc<RefCell<ReplayCache>>,
    reporter: Reporter,
    tracer: Tracer,
}

/// What cores tell each other.
#[derive(Debug)]
pub enum Message {
    /// As most are.
    Plain(CoreMessage),
    /// One that is followed.
    Followed(Box<Followed>),
}

/// A message to another core that is followed.
#[derive(Debug)]
pub struct Followed {
    message: CoreMessage,
    travel: Travel,
}

/// What other nodes are to be told.
#[derive(Debug)]
pub enum ToNetwork {
    /// Messages of a topic, as subscribers get them.
    Published {
        /// Their topic.
        topic: Arc<str>,
        /// One behind the other.
        bytes: Bytes,
        /// How many.
        messages: u32,
    },
    /// How many subscribers a pattern has on this node.
    Wanted {
        /// Which pattern.
        pattern: Arc<str>,
        /// On all cores.
        subscribers: u32,
    },
}

/// What one core's agents are made from.
#[derive(Debug, Clone)]
pub struct AgentsConfig {
    /// Name of the node, told to agents.
    pub node: String,
    /// Secret random number, the same on all cores.
    pub seed: u64,
    /// What holds at the start.
    pub rules: Arc<Rules>,
    /// Who is told what the operator shall know.
    pub reporter: Reporter,
    /// What is looked at.
    pub observe: ObserveConfig,
    /// Who is told of it.
    pub flows: FlowSource,
    /// Patterns of state spaces that go to the log.
    pub durable: Arc<[Box<str>]>,
    /// Which topics keep messages for later subscribers.
    pub topics: TopicRules,
    /// The log; there must be one where there are such patterns.
    pub log: Option<LogPort>,
}

/// A session with a stream.
struct Open {
    session: SessionId,
    call: CallId,
    /// How the stream ends once its queue is empty.
    end: Option<Status>,
    /// The agent said all it wants to say; the stream ends when nothing is owed to it.
    finishing: bool,
}

impl Agents {
    /// The agents of one core of `cores`. Made on that core.
    pub fn new(config: AgentsConfig, core: usize, cores: usize) -> Agents {
        let AgentsConfig {
            node,
            seed,
            rules,
            reporter,
            observe,
            flows,
            durable,
            topics,
            log,
        } = config;
        let tracer = Tracer::new(&observe, &flows, core, seed);
        let replays = Rc::new(RefCell::new(ReplayCache::default()));
        let mut gateway = Gateway::new(GatewayConfig {
            node,
            core: CoreId(core as u16),
            cores: cores as u16,
            limits: rules.limits,
            seed,
            token: Box::new(random),
            durable,
            topics,
            authority: Box::new(Enforcer::new(rules.clone(), replays.clone())),
        });
        let now = GatewayNow {
            mono: Instant::now(),
            unix_nanos: unix_nanos(),
        };
        if let Some(log) = &log {
            for (name, space) in log.take(|name| gateway.owns_space(name)) {
                gateway.restore_space(name, space.revision, space.keys.into_values().collect());
            }
            gateway.restore_kept(log.take_kept(|topic| gateway.owns_space(topic)));
            gateway.begin_state(&now);
        }
        Agents {
            gateway,
            encoder: AgpEncoder::new(ArenaConfig::default()),
            calls: Vec::new(),
            outbound: VecDeque::new(),
            network: VecDeque::new(),
            resumed: VecDeque::new(),
            ended: VecDeque::new(),
            expelled: VecDeque::new(),
            now,
            log,
            core,
            rules,
            payloads: Payloads::default(),
            replays,
            reporter: reporter.of_core(core),
            tracer,
        }
    }

    fn open(&mut self, session: SessionId) -> Option<&mut Open> {
        let open = self.calls.get_mut(session.index())?.as_mut()?;
        (open.session == session).then_some(open)
    }

    /// Does what the gateway wants done.
    fn effects(&mut self) {
        while let Some(effect) = self.gateway.next_effect() {
            match effect {
                Effect::ToCore { core, message } => {
                    let message = match self.tracer.travel() {
                        None => Message::Plain(message),
                        Some(travel) => Message::Followed(Box::new(Followed { message, travel })),
                    };
                    self.outbound.push_back((core.index(), message));
                }
                Effect::ToNetwork {
                    topic,
                    bytes,
                    messages,
                } => self.network.push_back(ToNetwork::Published {
                    topic,
                    bytes,
                    messages,
                }),
                Effect::Wanted { pattern, subscribers } => {
                    self.network.push_back(ToNetwork::Wanted { pattern, subscribers });
                }
                Effect::Step(step) => {
                    let gateway = &self.gateway;
                    self.tracer.step(step, |session| gateway.name_of(session));
                }
                Effect::Resume(session) => self.resumed.push_back(session),
                Effect::End {
                    session,
                    code,
                    message,
                    expelled,
                } => {
                    let status = match code {
                        code::Code::Unspecified => Status::OK,
                        code => Status::new(grpc_code(code), message),
                    };
                    if let Some(open) = self.open(session) {
                        open.end.get_or_insert(status);
                        self.ended.push_back(session);
                        if expelled {
                            self.expelled.push_back(session);
                        }
                    }
                }
                Effect::Security(event) => self.reporter.security(*event, self.now.unix_nanos),
                Effect::Present(agent) => self.reporter.presence(Observation::Present(agent)),
                Effect::Absent(name) => self.reporter.presence(Observation::Absent(name.to_string())),
            }
        }
    }

    /// From now on these are the agents of a network's node: see [`Gateway::join_network`].
    pub(crate) fn join_network(&mut self) {
        self.gateway.join_network();
        self.effects();
    }

    /// The next thing to tell other nodes.
    pub(crate) fn next_to_network(&mut self) -> Option<ToNetwork> {
        self.network.pop_front()
    }

    /// Other nodes have so many subscribers of a pattern.
    pub(crate) fn wanted_elsewhere(&mut self, pattern: &str, subscribers: u32, now: &Now) {
        let now = self.at(now);
        self.gateway
            .wanted_elsewhere(pattern, subscribers, &now, &mut self.encoder);
        self.effects();
    }

    /// Messages of another node.
    pub(crate) fn published_elsewhere(&mut self, topic: &str, bytes: Bytes, messages: u32, now: &Now) {
        let now = self.at(now);
        self.gateway
            .published_elsewhere(topic, bytes, messages, &now, &mut self.encoder);
        self.effects();
    }

    /// Messages of another node were lost.
    pub(crate) fn lost_elsewhere(&mut self, topic: &str, messages: u64, now: &Now) {
        let now = self.at(now);
        self.gateway
            .lost_elsewhere(topic, messages, &now, &mut self.encoder);
        self.effects();
    }

    /// Gives the gateway a message that is followed: by itself, so that all that becomes of it is told and nothing else.
    #[cold]
    fn follow(
        &mut self,
        session: SessionId,
        action: Action<'_>,
        subject: Arc<Subject>,
        now: &Now,
    ) -> GatewayFlow {
        let at = self.now;
        self.gateway.turn_end(&at, &mut self.encoder);
        self.effects();
        self.tracer.begin(subject, now);
        self.gateway.follow(Follow::All);
        let flow = self.gateway.apply(session, action, &at, &mut self.encoder);
        self.followed();
        flow
    }

    /// The message that is followed was given to the gateway.
    fn followed(&mut self) {
        let at = self.now;
        self.gateway.turn_end(&at, &mut self.encoder);
        self.gateway.followed();
        self.tracer.routed();
        self.effects();
        let mode = self.tracer.end();
        self.gateway.follow(mode);
    }

    /// Whether a message may be passed on: in the profile `strict`, if nobody but its receivers can read it.
    #[inline]
    fn examine(&self, action: &Action<'_>) -> Result<(), (u64, Box<PayloadFault>)> {
        match self.rules.is_strict() {
            true => self.payloads.check(action),
            false => Ok(()),
        }
    }

    fn at(&mut self, now: &Now) -> GatewayNow {
        self.now = GatewayNow {
            mono: now.mono,
            unix_nanos: now.unix_nanos,
        };
        self.now
    }
}

fn session(stream: StreamTag) -> SessionId {
    SessionId::from_bits(stream.0)
}

fn flow(flow: GatewayFlow) -> Flow {
    match flow {
        GatewayFlow::Continue => Flow::Continue,
        GatewayFlow::Pause => Flow::Pause,
    }
}

impl Service for Agents {
    type Message = Message;

    fn call(&mut self, call: CallId, request: &Request, peer: &Peer, now: &Now) -> Answer {
        if (request.service(), request.method()) != (AGP_SERVICE, AGP_METHOD) {
            return Answer::Refuse(request.unimplemented());
        }
        let seconds = (now.unix_nanos / 1_000_000_000) as i64;
        let caller = match identity::of(peer, request, &self.rules, seconds) {
            Ok(caller) => caller,
            Err(rejection) => {
                let (status, event) = identity::refused(&rejection, peer, request);
                self.reporter.security(event, now.unix_nanos);
                return Answer::Refuse(status);
            }
        };
        let info = PeerInfo {
            dialect: Dialect::Agp,
            address: peer.address.to_string(),
            identity: caller.identity,
            proof_uri: caller.proof_uri,
            connection: u64::from(call.connection),
        };
        let now = self.at(now);
        let session = self.gateway.open(info, &now);
        let index = session.index();
        if self.calls.len() <= index {
            self.calls.resize_with(index + 1, || None);
        }
        self.calls[index] = Some(Open {
            session,
            call,
            end: None,
            finishing: false,
        });
        Answer::Stream(StreamTag(session.to_bits()))
    }

    fn admits(&self, peer: &Peer, now: &Now) -> Result<(), Rejection> {
        let seconds = (now.unix_nanos / 1_000_000_000) as i64;
        match &peer.certificate {
            Some(chain) => self.rules.admits(chain, &peer.identity, seconds),
            None => Ok(()),
        }
    }

    fn dismissed(&mut self, peer: &Peer, rejection: &Rejection, now: &Now) {
        self.reporter
            .security(identity::dismissed(rejection, peer), now.unix_nanos);
    }

    fn next_expelled(&mut self) -> Option<CallId> {
        while let Some(session) = self.expelled.pop_front() {
            if let Some(open) = self.open(session) {
                return Some(open.call);
            }
        }
        None
    }

    fn vouches(&self, stream: StreamTag) -> bool {
        self.gateway.vouches(session(stream))
    }

    #[inline]
    fn message(&mut self, stream: StreamTag, message: &[u8], turn: &Now) -> Flow {
        let now = self.at(turn);
        let result = match agp::decode(message) {
            Ok(action) => {
                let (session, kind) = (session(stream), Kind::of(&action));
                self.tracer.count(kind, message.len());
                if let Err((id, fault)) = self.examine(&action) {
                    let refused = self
                        .gateway
                        .refuse_payload(session, id, &fault, &now, &mut self.encoder);
                    return flow(refused);
                }
                let source = || self.gateway.name_of(session);
                match self.tracer.look(session, kind, &action, message, turn, source) {
                    None => self.gateway.apply(session, action, &now, &mut self.encoder),
                    Some(subject) => self.follow(session, action, subject, turn),
                }
            }
            Err(error) => {
                self.tracer.count(Kind::Invalid, message.len());
                let text = error.to_string();
                let code = agp::DecodeError::CODE;
                self.gateway.invalid(
                    session(stream),
                    error.id,
                    code,
                    &text,
                    false,
                    &now,
                    &mut self.encoder,
                )
            }
        };
        flow(result)
    }

    fn broken(&mut self, stream: StreamTag, status: &Status, _: &Now) {
        tracing::debug!(session = stream.0, %status, "a stream broke");
    }

    fn half_closed(&mut self, stream: StreamTag, _: &Now) {
        let session = session(stream);
        if let Some(open) = self.open(session) {
            open.finishing = true;
            self.ended.push_back(session);
        }
    }

    fn closed(&mut self, stream: StreamTag, how: Closing, now: &Now) {
        let session = session(stream);
        let now = self.at(now);
        let how = match how {
            Closing::Orderly => GatewayClosing::Orderly,
            Closing::Lost => GatewayClosing::Lost,
        };
        if self.open(session).is_some() {
            self.calls[session.index()] = None;
        }
        self.tracer.forget(session);
        self.gateway.close(session, how, &now, &mut self.encoder);
        self.effects();
    }

    fn turn_end(&mut self, now: &Now) {
        self.tracer.set_now(now);
        let now = self.at(now);
        self.gateway.turn_end(&now, &mut self.encoder);
        self.effects();
        if let Some(log) = &self.log {
            while let Some(piece) = self.gateway.take_log() {
                log.send(self.core, piece);
            }
        }
    }

    fn next_ready(&mut self) -> Option<CallId> {
        while let Some(session) = self.gateway.next_ready() {
            // A session that waits to be resumed has no call.
            if let Some(open) = self.open(session) {
                return Some(open.call);
            }
        }
        while let Some(session) = self.ended.pop_front() {
            if let Some(open) = self.open(session) {
                return Some(open.call);
            }
        }
        None
    }

    fn pull(&mut self, stream: StreamTag, bytes_max: usize) -> Option<Bytes> {
        let bytes = self
            .gateway
            .pull(session(stream), bytes_max, &self.now, &mut self.encoder);
        self.effects();
        if let Some(bytes) = &bytes {
            self.tracer.pulled(session(stream), bytes.len(), &self.gateway);
        }
        bytes
    }

    fn is_empty(&self, stream: StreamTag) -> bool {
        self.gateway.is_empty(session(stream))
    }

    fn end(&mut self, stream: StreamTag) -> Option<Status> {
        let session = session(stream);
        if let Some(status) = self.open(session)?.end.take() {
            return Some(status);
        }
        let finished = self.open(session)?.finishing && !self.gateway.is_owed(session);
        finished.then_some(Status::OK)
    }

    fn must_end(&self, stream: StreamTag) -> bool {
        let session = session(stream);
        let open = self.calls.get(session.index()).and_then(Option::as_ref);
        open.is_some_and(|open| {
            open.session == session && open.end.as_ref().is_some_and(|status| !status.is_ok())
        })
    }

    fn has_pending(&self) -> bool {
        !self.outbound.is_empty()
            || !self.network.is_empty()
            || !self.resumed.is_empty()
            || !self.ended.is_empty()
            || !self.expelled.is_empty()
            || self.gateway.has_ready()
    }

    fn next_resumed(&mut self) -> Option<CallId> {
        self.effects();
        while let Some(session) = self.resumed.pop_front() {
            if let Some(open) = self.open(session) {
                return Some(open.call);
            }
        }
        None
    }

    fn next_outbound(&mut self) -> Option<(usize, Message)> {
        self.outbound.pop_front()
    }

    fn receive(&mut self, from: usize, message: Message, turn: &Now) {
        let (now, from) = (self.at(turn), CoreId(from as u16));
        match message {
            Message::Plain(message) => {
                self.gateway.receive(from, message, &now, &mut self.encoder);
                self.effects();
            }
            Message::Followed(followed) => {
                let Followed { message, travel } = *followed;
                self.gateway.turn_end(&now, &mut self.encoder);
                self.effects();
                self.tracer.arrive(travel, turn);
                self.gateway.follow(Follow::All);
                self.gateway.receive(from, message, &now, &mut self.encoder);
                self.followed();
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.gateway.next_deadline()
    }

    fn tick(&mut self, now: &Now) {
        let now = self.at(now);
        self.gateway.tick(&now, &mut self.encoder);
        self.effects();
    }

    fn drain(&mut self, deadline: Duration, now: &Now) {
        let now = self.at(now);
        let notice = DrainNotice {
            deadline_ms: deadline.as_millis() as u32,
            reconnect_after_ms: RECONNECT_AFTER.as_millis() as u32,
            jitter_ms: RECONNECT_JITTER.as_millis() as u32,
        };
        self.gateway.drain(notice, &now, &mut self.encoder);
        self.effects();
    }

    fn obey(&mut self, order: Order, now: &Now) {
        let now = self.at(now);
        match order {
            Order::Rules(rules, done) => {
                let authority = Enforcer::new(rules.clone(), self.replays.clone());
                self.gateway.set_limits(rules.limits);
                self.gateway.reauthorise(Box::new(authority), &now);
                self.rules = rules;
                // Who waits for this has room for every core.
                let _ = done.try_send(());
            }
            Order::Watch(watch) => self.tracer.set_watch(&watch),
            // Not of agents.
            Order::Unconnected { .. } => {}
            Order::Logged(report) => {
                self.gateway.logged(report, &now, &mut self.encoder);
                self.effects();
            }
            Order::Windows(change) => self.payloads.take(&change),
            Order::Presence => {
                let all = self.gateway.own_agents().collect();
                self.reporter.presence(Observation::All(all));
            }
        }
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        let stats = self.gateway.stats();
        let [oldest, newest, latest, disconnect, block] = stats.dropped;
        let mut counts = vec![
            ("agent_calls", stats.streams_open),
            ("sessions", stats.sessions),
            ("detached_sessions", stats.sessions_detached),
            ("subscriptions", stats.subscriptions),
            ("requests", stats.requests),
            ("requests_inbound", stats.requests_inbound),
            ("streams", stats.agent_streams),
            ("introductions", stats.introductions),
            ("introductions_inbound", stats.introductions_inbound),
            ("channels", stats.channels),
            ("agents", stats.agents),
            ("patterns", stats.patterns),
            ("names", stats.names),
            ("watches", stats.watches),
            ("state_spaces", stats.state_spaces),
            ("state_keys", stats.state_keys),
            ("state_bytes", stats.state_bytes),
            ("state_unsynced_bytes", stats.state_unsynced_bytes),
            ("state_changes", stats.state_changes),
            ("state_gets", stats.state_gets),
            ("kept", stats.kept),
            ("kept_bytes", stats.kept_bytes),
            ("kept_evicted", stats.kept_evicted),
            ("replaying", stats.replaying),
            ("replaying_bytes", stats.replaying_bytes),
            ("replayed", stats.replayed),
            ("state_catchups", stats.state_catchups),
            ("publishes_held", stats.publishes_held),
            ("queued_bytes", stats.queued_bytes),
            ("queue_bytes_longest", stats.queue_bytes_longest),
            ("published", stats.published),
            ("delivered", stats.delivered),
            ("delivered_bytes", stats.delivered_bytes),
            ("dropped_oldest", oldest),
            ("dropped_newest", newest),
            ("dropped_latest", latest),
            ("dropped_disconnect", disconnect),
            ("dropped_block", block),
            ("gaps", stats.gaps),
            ("errors", stats.errors),
            ("denied", stats.denied),
            ("resumed", stats.resumed),
            ("copied_out", stats.copied_out),
            ("matches", stats.matches),
        ];
        counts.extend(self.tracer.counts());
        counts.extend(SAID.into_iter().zip(stats.said));
        counts
    }

    fn take_hops(&mut self) -> Hops {
        self.tracer.hops.take()
    }

    fn return_hops(&mut self, hops: Hops) {
        self.tracer.hops.add(hops);
    }

    fn inspect(&self, inspection: &Inspection) -> Vec<Row> {
        inspection::inspect(&self.gateway, inspection)
    }

    fn details(&self) -> Vec<Value> {
        let sessions = self.gateway.sessions().map(|info| {
            let subscriptions: Vec<Value> = self
                .gateway
                .subscriptions(info.session)
                .map(|subscription| {
                    json!({
                        "id": subscription.id,
                        "pattern": subscription.pattern,
                        "group": subscription.group,
                        "policy": format!("{:?}", subscription.policy),
                        "queue_bytes_max": subscription.queue_bytes_max,
                        "queued_bytes": subscription.queued_bytes,
                        "dropped": subscription.dropped,
                    })
                })
                .collect();
            json!({
                "session": info.session.to_string(),
                "name": info.name,
                "address": info.address,
                "connection": info.connection,
                "detached": info.detached,
                "paused": info.paused,
                "queued_bytes": info.queued_bytes,
                "published": info.published,
                "dropped": info.dropped,
                "requests": info.requests,
                "subscriptions": subscriptions,
            })
        });
        sessions.collect()
    }
}

/// How the counts of [`Said::ALL`] are called.
const SAID: [&str; Said::ALL.len()] = [
    "queued_registered",
    "queued_ack",
    "queued_error",
    "queued_forward",
    "queued_deliver",
    "queued_stream_open",
    "queued_chunk",
    "queued_stream_close",
    "queued_stream_credit",
    "queued_introduce",
    "queued_connected",
    "queued_rejected",
    "queued_drain",
    "queued_cancel",
    "queued_other",
];

/// Random numbers that nobody can guess.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .expect("the system's random source works; without it no secret is one");
    bytes
}

/// Nanoseconds since 1970.
fn unix_nanos() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_nanos() as u64)
}

/// How a gRPC client sees the end of a session.
fn grpc_code(code: code::Code) -> Code {
    use code::Code as Agp;
    match code {
        Agp::Unspecified => Code::Ok,
        Agp::InvalidArgument => Code::InvalidArgument,
        Agp::Unauthenticated => Code::Unauthenticated,
        Agp::PermissionDenied | Agp::MlsRequired => Code::PermissionDenied,
        Agp::NotFound | Agp::Compacted => Code::NotFound,
        Agp::NoResponder | Agp::Unavailable => Code::Unavailable,
        Agp::DeadlineExceeded => Code::DeadlineExceeded,
        Agp::ResourceExhausted => Code::ResourceExhausted,
        Agp::Conflict => Code::Aborted,
        Agp::AlreadyExists => Code::AlreadyExists,
        Agp::Rejected => Code::FailedPrecondition,
        Agp::Cancelled => Code::Cancelled,
        Agp::Unsupported => Code::Unimplemented,
        _ => Code::Internal,
    }
}
