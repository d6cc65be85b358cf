//! A mock dialect, and a node of several cores whose links the test drives.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use ringgate_gateway::action::{
    Action, Balance, Delivery, DeliveryPolicy, Publish, Register, Request, Response, StateGet, StateWatch,
    StateWrite, Subscribe, Target, To,
};
use ringgate_gateway::code::Code;
use ringgate_gateway::outgoing::{Dialect, Encoder, Outgoing, StateChange};
use ringgate_gateway::{
    Closing, CoreId, CoreMessage, Effect, Flow, Gateway, GatewayConfig, LogPiece, LogReport, Now, PeerInfo,
    SecurityEvent, SessionId, Step,
};
use ringgate_policy::{Identity, Limits};
use ringgate_state::TopicRules;
use ringgate_state::log::Replay;

/// What an agent was told, owned.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    Registered {
        name: String,
        token: Vec<u8>,
        resumed: bool,
    },
    Ack {
        id: u64,
        receivers: u32,
    },
    Error {
        id: u64,
        code: Code,
        message: String,
        retryable: bool,
    },
    Notify {
        body: Vec<u8>,
        source: String,
        sequence: u64,
    },
    Forward {
        body: Vec<u8>,
        source: String,
        request: u64,
    },
    Deliver {
        body: Vec<u8>,
        id: u64,
        source: String,
    },
    StreamOpen {
        stream: u64,
        source: String,
    },
    Chunk {
        body: Vec<u8>,
        stream: u64,
    },
    StreamClose {
        stream: u64,
    },
    StreamEnded {
        stream: u64,
        code: Code,
    },
    StreamCredit {
        stream: u64,
        bytes: u64,
    },
    Introduce {
        introduction: u64,
        source: String,
    },
    Connected {
        id: u64,
        channel: String,
        source: String,
    },
    Rejected {
        id: u64,
    },
    Gap {
        subscription: u64,
        dropped: u64,
        dropped_bytes: u64,
        topic: String,
    },
    Value {
        id: u64,
        value: Option<Vec<u8>>,
        revision: u64,
        source: String,
    },
    Event {
        id: u64,
        key: String,
        value: Vec<u8>,
        revision: u64,
        change: StateChange,
    },
    /// The Ack of a state change, or of a watch.
    Done {
        id: u64,
        revision: u64,
    },
    Drain,
    CancelRequest {
        request: u64,
    },
    CancelIntroduction {
        introduction: u64,
    },
}

impl Said {
    fn of(message: &Outgoing<'_>) -> Self {
        match *message {
            Outgoing::Registered(r) => Self::Registered {
                name: r.name.into(),
                token: r.resume_token.into(),
                resumed: r.resumed,
            },
            Outgoing::Ack { id, revision, .. } if revision > 0 => Self::Done { id, revision },
            Outgoing::StateValue {
                id,
                value,
                revision,
                source,
                ..
            } => Self::Value {
                id,
                value: value.map(Into::into),
                revision,
                source: source.into(),
            },
            Outgoing::StateEvent {
                id,
                key,
                value,
                revision,
                change,
                ..
            } => Self::Event {
                id,
                key: key.into(),
                value: value.into(),
                revision,
                change,
            },
            Outgoing::Ack { id, receivers, .. } => Self::Ack { id, receivers },
            Outgoing::Error {
                id,
                code,
                message,
                retryable,
                ..
            } => Self::Error {
                id,
                code,
                message: message.into(),
                retryable,
            },
            Outgoing::Notify {
                body,
                source,
                sequence,
                ..
            } => Self::Notify {
                body: body.into(),
                source: source.into(),
                sequence,
            },
            Outgoing::Forward {
                body,
                source,
                request,
                ..
            } => Self::Forward {
                body: body.into(),
                source: source.into(),
                request,
            },
            Outgoing::Deliver { body, id, source } => Self::Deliver {
                body: body.into(),
                id,
                source: source.into(),
            },
            Outgoing::StreamOpen { stream, source, .. } => Self::StreamOpen {
                stream,
                source: source.into(),
            },
            Outgoing::Chunk { body, stream } => Self::Chunk {
                body: body.into(),
                stream,
            },
            Outgoing::StreamClose { stream, .. } => Self::StreamClose { stream },
            Outgoing::StreamEnded { stream, code, .. } => Self::StreamEnded { stream, code },
            Outgoing::StreamCredit { stream, bytes } => Self::StreamCredit { stream, bytes },
            Outgoing::Introduce {
                introduction, source, ..
            } => Self::Introduce {
                introduction,
                source: source.into(),
            },
            Outgoing::Connected {
                id, channel, source, ..
            } => Self::Connected {
                id,
                channel: channel.into(),
                source: source.into(),
            },
            Outgoing::Rejected { id, .. } => Self::Rejected { id },
            Outgoing::Gap {
                subscription,
                dropped,
                dropped_bytes,
                topic,
            } => Self::Gap {
                subscription,
                dropped,
                dropped_bytes,
                topic: topic.into(),
            },
            Outgoing::Drain { .. } => Self::Drain,
            Outgoing::CancelRequest { request } => Self::CancelRequest { request },
            Outgoing::CancelIntroduction { introduction } => Self::CancelIntroduction { introduction },
        }
    }

    fn body_len(&self) -> usize {
        match self {
            Self::Notify { body, .. }
            | Self::Forward { body, .. }
            | Self::Deliver { body, .. }
            | Self::Chunk { body, .. } => body.len(),
            Self::Event { value, .. } => value.len(),
            _ => 0,
        }
    }
}

/// Bytes of a frame besides the body.
pub const FRAME: usize = 8;

/// Frames are a length, a number in the shared book, and as many bytes as the body has.
#[derive(Clone, Default)]
pub struct TestEncoder {
    book: Rc<RefCell<Vec<Said>>>,
    buffer: BytesMut,
}

impl TestEncoder {
    pub fn sharing(book: &Rc<RefCell<Vec<Said>>>) -> Self {
        Self {
            book: Rc::clone(book),
            buffer: BytesMut::new(),
        }
    }
}

impl Encoder for TestEncoder {
    fn append(&mut self, _: Dialect, message: &Outgoing<'_>) {
        let said = Said::of(message);
        let len = FRAME + said.body_len();
        let mut book = self.book.borrow_mut();
        self.buffer.extend_from_slice(&(len as u32).to_be_bytes());
        self.buffer.extend_from_slice(&(book.len() as u32).to_be_bytes());
        self.buffer.resize(self.buffer.len() + len - FRAME, 0xaa);
        book.push(said);
    }

    fn pending(&self) -> usize {
        self.buffer.len()
    }

    fn take(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }

    fn first_len(_: Dialect, run: &[u8]) -> usize {
        u32::from_be_bytes(run[..4].try_into().expect("a frame starts with its length")) as usize
    }

    fn own(&mut self, body: &[u8]) -> Bytes {
        Bytes::copy_from_slice(body)
    }
}

/// Several cores, and the links between them.
pub struct Node {
    pub gateways: Vec<Gateway>,
    pub encoders: Vec<TestEncoder>,
    pub links: Vec<VecDeque<CoreMessage>>,
    pub now: Now,
    pub resumed: Vec<(usize, SessionId)>,
    pub ended: Vec<(usize, SessionId, Code)>,
    /// Those among them whose credential was no longer good.
    pub expelled: Vec<(usize, SessionId)>,
    pub events: Vec<SecurityEvent>,
    /// Who came (true) and left, in order.
    pub presence: Vec<(String, bool)>,
    /// What became of messages that are followed, by core.
    pub steps: Vec<(usize, Step)>,
    /// Messages for other nodes: topic, bytes, how many.
    pub to_network: Vec<(String, Bytes, u32)>,
    /// What other nodes were told is wanted here.
    pub wanted: Vec<(String, u32)>,
    /// Pieces of each core's log that are not on disk.
    pub logs: Vec<VecDeque<LogPiece>>,
    /// What is on each core's disk.
    pub disks: Vec<Vec<u8>>,
    /// What an earlier run left, until all cores have written theirs anew.
    pub inherited: Vec<u8>,
    rewritten: Vec<bool>,
    /// Where each disk's last snapshot begins.
    begins: Vec<usize>,
    book: Rc<RefCell<Vec<Said>>>,
    streams: u64,
}

impl Node {
    pub fn new(cores: u16, limits: Limits, seed: u64) -> Self {
        Self::keeping(cores, limits, seed, &[])
    }

    /// A node whose spaces that match `durable` go to the log.
    pub fn keeping(cores: u16, limits: Limits, seed: u64, durable: &[&str]) -> Self {
        Self::with_rules(cores, limits, seed, durable, &TopicRules::default())
    }

    /// A node whose topics keep messages by these rules.
    pub fn with_topics(cores: u16, limits: Limits, seed: u64, topics: &TopicRules) -> Self {
        Self::with_rules(cores, limits, seed, &[], topics)
    }

    fn with_rules(cores: u16, limits: Limits, seed: u64, durable: &[&str], topics: &TopicRules) -> Self {
        let durable: Arc<[Box<str>]> = durable.iter().map(|&pattern| pattern.into()).collect();
        let book = Rc::new(RefCell::new(Vec::new()));
        let gateways = (0..cores)
            .map(|core| {
                let mut count = 0u64;
                let token = move || {
                    count += 1;
                    (u128::from(core) << 64 | u128::from(count)).to_be_bytes()
                };
                let config = GatewayConfig::development("node", CoreId(core), cores, seed, Box::new(token));
                let durable = durable.clone();
                Gateway::new(GatewayConfig {
                    limits,
                    durable,
                    topics: topics.clone(),
                    ..config
                })
            })
            .collect();
        Self {
            gateways,
            encoders: (0..cores).map(|_| TestEncoder::sharing(&book)).collect(),
            links: (0..usize::from(cores) * usize::from(cores))
                .map(|_| VecDeque::new())
                .collect(),
            now: Now {
                mono: Instant::now(),
                unix_nanos: 1_000_000_000,
            },
            resumed: Vec::new(),
            ended: Vec::new(),
            expelled: Vec::new(),
            events: Vec::new(),
            presence: Vec::new(),
            steps: Vec::new(),
            to_network: Vec::new(),
            wanted: Vec::new(),
            logs: (0..cores).map(|_| VecDeque::new()).collect(),
            disks: vec![Vec::new(); usize::from(cores)],
            inherited: Vec::new(),
            rewritten: vec![false; usize::from(cores)],
            begins: vec![0; usize::from(cores)],
            book,
            streams: 0,
        }
    }

    pub fn cores(&self) -> usize {
        self.gateways.len()
    }

    pub fn open(&mut self, core: usize) -> SessionId {
        self.open_as(core, Identity::Declared)
    }

    pub fn open_as(&mut self, core: usize, identity: Identity) -> SessionId {
        self.streams += 1;
        let peer = PeerInfo {
            dialect: Dialect::Agp,
            address: "test".into(),
            identity,
            proof_uri: String::new(),
            connection: self.streams,
        };
        self.gateways[core].open(peer, &self.now)
    }

    pub fn apply(&mut self, core: usize, session: SessionId, action: Action<'_>) -> Flow {
        let flow = self.gateways[core].apply(session, action, &self.now, &mut self.encoders[core]);
        self.collect(core);
        flow
    }

    pub fn close(&mut self, core: usize, session: SessionId, how: Closing) {
        self.gateways[core].close(session, how, &self.now, &mut self.encoders[core]);
        self.collect(core);
    }

    /// Core 0 stands for the network from now on.
    pub fn join_network(&mut self) {
        self.gateways[0].join_network();
        self.collect(0);
    }

    pub fn wanted_elsewhere(&mut self, pattern: &str, subscribers: u32) {
        self.gateways[0].wanted_elsewhere(pattern, subscribers, &self.now, &mut self.encoders[0]);
        self.collect(0);
        self.settle();
    }

    pub fn published_elsewhere(&mut self, topic: &str, bytes: Bytes, messages: u32) {
        self.gateways[0].published_elsewhere(topic, bytes, messages, &self.now, &mut self.encoders[0]);
        self.collect(0);
        self.settle();
    }

    pub fn lost_elsewhere(&mut self, topic: &str, messages: u64) {
        self.gateways[0].lost_elsewhere(topic, messages, &self.now, &mut self.encoders[0]);
        self.collect(0);
        self.settle();
    }

    pub fn turn_end(&mut self, core: usize) {
        self.gateways[core].turn_end(&self.now, &mut self.encoders[core]);
        self.collect(core);
    }

    pub fn advance(&mut self, ms: u64) {
        self.now.mono += Duration::from_millis(ms);
        self.now.unix_nanos += ms * 1_000_000;
        for core in 0..self.cores() {
            self.gateways[core].tick(&self.now, &mut self.encoders[core]);
            self.collect(core);
        }
    }

    /// Writes up to `most` pieces of a core's log to its disk, and tells so.
    pub fn sync(&mut self, core: usize, most: usize) {
        let mut last = None;
        for _ in 0..most {
            let Some(piece) = self.logs[core].pop_front() else {
                break;
            };
            let disk = &mut self.disks[core];
            if piece.begins_snapshot {
                self.begins[core] = disk.len();
            }
            disk.extend_from_slice(&piece.records);
            if piece.ends_snapshot {
                disk.drain(..std::mem::take(&mut self.begins[core]));
                self.rewritten[core] = true;
                if self.rewritten.iter().all(|&all| all) {
                    self.inherited.clear();
                }
            }
            last = Some((piece.epoch, piece.number));
        }
        if let Some((epoch, number)) = last {
            self.report(core, LogReport::Synced { epoch, number });
        }
    }

    /// A core's log fails.
    pub fn fail(&mut self, core: usize) {
        if let Some(piece) = self.logs[core].front() {
            let epoch = piece.epoch;
            self.logs[core].clear();
            let reason = "no space left".to_owned();
            self.report(core, LogReport::Failed { epoch, reason });
        }
    }

    fn report(&mut self, core: usize, report: LogReport) {
        self.gateways[core].logged(report, &self.now, &mut self.encoders[core]);
        self.collect(core);
    }

    /// Brings back what the disks of another node have.
    pub fn restore(&mut self, earlier: &Node) {
        self.inherited = [&earlier.inherited[..], &earlier.disks.concat()].concat();
        let mut replay = Replay::default();
        replay.take(&self.inherited).expect("well formed");
        // Kept messages are frames, which name what was said.
        self.book.replace(earlier.book.borrow().clone());
        let kept = replay.take_kept();
        for gateway in &mut self.gateways {
            let own = kept.iter().filter(|kept| gateway.owns_space(&kept.topic));
            let own = own.cloned().collect();
            gateway.restore_kept(own);
        }
        for (name, space) in replay.finish() {
            let owner = self.gateways.iter_mut().find(|gateway| gateway.owns_space(&name));
            let entries = space.keys.into_values().collect();
            owner
                .expect("every space has one")
                .restore_space(name, space.revision, entries);
        }
        for core in 0..self.cores() {
            self.gateways[core].begin_state(&self.now);
        }
    }

    fn collect(&mut self, core: usize) {
        while let Some(piece) = self.gateways[core].take_log() {
            self.logs[core].push_back(piece);
        }
        while let Some(effect) = self.gateways[core].next_effect() {
            match effect {
                Effect::ToCore { core: to, message } => {
                    let link = core * self.cores() + to.index();
                    self.links[link].push_back(message);
                }
                Effect::Resume(session) => self.resumed.push((core, session)),
                Effect::End {
                    session,
                    code,
                    expelled,
                    ..
                } => {
                    self.ended.push((core, session, code));
                    if expelled {
                        self.expelled.push((core, session));
                    }
                }
                Effect::Security(event) => self.events.push(*event),
                Effect::Present(agent) => self.presence.push((agent.name, true)),
                Effect::Absent(name) => self.presence.push((name.to_string(), false)),
                Effect::Step(step) => self.steps.push((core, step)),
                Effect::ToNetwork {
                    topic,
                    bytes,
                    messages,
                } => self.to_network.push((topic.to_string(), bytes, messages)),
                Effect::Wanted { pattern, subscribers } => {
                    self.wanted.push((pattern.to_string(), subscribers))
                }
            }
        }
    }

    /// Delivers the oldest message of one link.
    pub fn carry(&mut self, link: usize) -> bool {
        let Some(message) = self.links[link].pop_front() else {
            return false;
        };
        let (from, to) = (link / self.cores(), link % self.cores());
        self.gateways[to].receive(CoreId(from as u16), message, &self.now, &mut self.encoders[to]);
        self.collect(to);
        true
    }

    /// Delivers everything, and ends the turn.
    pub fn settle(&mut self) {
        loop {
            for core in 0..self.cores() {
                self.turn_end(core);
            }
            let mut any = false;
            for link in 0..self.links.len() {
                while self.carry(link) {
                    any = true;
                }
            }
            if !any {
                return;
            }
        }
    }

    pub fn pull(&mut self, core: usize, session: SessionId, bytes_max: usize) -> Option<Bytes> {
        let pulled = self.gateways[core].pull(session, bytes_max, &self.now, &mut self.encoders[core]);
        self.collect(core);
        pulled
    }

    /// Everything that waits for a session.
    pub fn read(&mut self, core: usize, session: SessionId) -> Vec<Said> {
        self.settle();
        let mut stream = Vec::new();
        while let Some(bytes) = self.pull(core, session, usize::MAX) {
            stream.extend_from_slice(&bytes);
        }
        self.settle();
        self.parse(&mut stream)
    }

    /// Takes whole frames off a byte stream.
    pub fn parse(&self, stream: &mut Vec<u8>) -> Vec<Said> {
        let (mut said, mut at) = (Vec::new(), 0);
        while stream.len() >= at + FRAME {
            let len = TestEncoder::first_len(Dialect::Agp, &stream[at..]);
            if stream.len() < at + len {
                break;
            }
            let number = u32::from_be_bytes(stream[at + 4..at + 8].try_into().expect("four bytes"));
            said.push(self.book.borrow()[number as usize].clone());
            at += len;
        }
        stream.drain(..at);
        said
    }

    /// A registered agent.
    pub fn agent(&mut self, core: usize, name: &str) -> Agent {
        self.agent_with(
            core,
            Register {
                name,
                ..Register::default()
            },
        )
    }

    pub fn agent_with(&mut self, core: usize, register: Register<'_>) -> Agent {
        let session = self.open(core);
        let _ = self.apply(core, session, Action::Register(register));
        let said = self.read(core, session);
        let [Said::Registered { token, .. }] = &said[..] else {
            panic!("not registered: {said:?}")
        };
        let agent = Agent {
            core,
            session,
            token: token.clone(),
        };
        self.resumed
            .retain(|&(core, session)| (core, session) != (agent.core, agent.session));
        agent
    }

    pub fn subscribe(&mut self, agent: &Agent, id: u64, pattern: &str, group: &str, delivery: Delivery) {
        let action = Action::Subscribe(Subscribe {
            id,
            pattern,
            group,
            delivery,
        });
        let _ = self.apply(agent.core, agent.session, action);
        assert_eq!(
            self.read(agent.core, agent.session),
            [Said::Ack { id, receivers: 0 }]
        );
    }

    pub fn publish(&mut self, agent: &Agent, topic: &str, id: u64, body: &[u8]) -> Flow {
        self.apply(
            agent.core,
            agent.session,
            Action::Publish(Publish { topic, id, body }),
        )
    }

    pub fn request(&mut self, agent: &Agent, id: u64, to: To<'_>, timeout_ms: u32, body: &[u8]) -> Flow {
        let target = Target {
            to,
            balance: Balance::RoundRobin,
            affinity: "",
        };
        self.apply(
            agent.core,
            agent.session,
            Action::Request(Request {
                id,
                target,
                timeout_ms,
                body,
            }),
        )
    }

    pub fn put(
        &mut self,
        agent: &Agent,
        id: u64,
        space: &str,
        key: &str,
        value: &[u8],
        expect: Option<u64>,
    ) -> Flow {
        let write = StateWrite {
            id,
            space,
            key,
            value: Some(value),
            expect,
            ttl_ms: 0,
        };
        self.apply(agent.core, agent.session, Action::StateWrite(write))
    }

    pub fn delete(&mut self, agent: &Agent, id: u64, space: &str, key: &str) -> Flow {
        let write = StateWrite {
            id,
            space,
            key,
            value: None,
            expect: None,
            ttl_ms: 0,
        };
        self.apply(agent.core, agent.session, Action::StateWrite(write))
    }

    pub fn get(&mut self, agent: &Agent, id: u64, space: &str, key: &str) -> Flow {
        let get = StateGet { id, space, key };
        self.apply(agent.core, agent.session, Action::StateGet(get))
    }

    pub fn watch(&mut self, agent: &Agent, id: u64, space: &str, prefix: &str, from: Option<u64>) -> Flow {
        let watch = StateWatch {
            id,
            space,
            prefix,
            from,
        };
        self.apply(agent.core, agent.session, Action::StateWatch(watch))
    }

    /// Everything that comes to an agent until nothing more does.
    pub fn told_all(&mut self, agent: &Agent) -> Vec<Said> {
        let mut all = Vec::new();
        loop {
            let said = self.told(agent);
            if said.is_empty() {
                return all;
            }
            all.extend(said);
        }
    }

    pub fn respond(&mut self, agent: &Agent, request: u64, body: &[u8]) -> Flow {
        self.apply(
            agent.core,
            agent.session,
            Action::Response(Response { request, body }),
        )
    }

    pub fn told(&mut self, agent: &Agent) -> Vec<Said> {
        self.read(agent.core, agent.session)
    }

    pub fn leave(&mut self, agent: &Agent, how: Closing) {
        self.close(agent.core, agent.session, how);
        self.settle();
    }

    pub fn assert_idle(&mut self) {
        self.settle();
        for gateway in &self.gateways {
            assert!(gateway.stats().is_idle(), "residue: {:?}", gateway.stats());
        }
    }
}

/// Patterns of topics.
pub fn topics(retain: &[&str], replay: &[&str], durable: &[&str]) -> TopicRules {
    let list = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.into()).collect();
    TopicRules {
        retain: list(retain),
        replay: list(replay),
        durable: list(durable),
    }
}

/// A registered agent's session.
#[derive(Debug, Clone)]
pub struct Agent {
    pub core: usize,
    pub session: SessionId,
    pub token: Vec<u8>,
}

pub fn delivery(policy: DeliveryPolicy, queue_bytes: u64) -> Delivery {
    Delivery {
        policy,
        queue_bytes,
        block_ms: 0,
    }
}

/// Bodies of the Notify messages among what was said.
pub fn bodies(said: &[Said]) -> Vec<String> {
    said.iter()
        .filter_map(|said| match said {
            Said::Notify { body, .. } => Some(String::from_utf8_lossy(body).into_owned()),
            _ => None,
        })
        .collect()
}
