//! Links to other nodes, as streams of this core; and on core 0, this node's part in their network.
//!
//! ```text
//!   other node ══ link ══► stream of some core ──messages──► core 0: hub ◄──► network (sans-IO)
//!                                                              │
//!                                             agents of core 0 ─┘ (they stand for the network towards all cores)
//! ```
//!
//! # Invariants worth naming
//!
//! * A link's stream lives on the core that accepted it, or on core 0 where this node dialled; what it means is decided on core 0 alone.
//! * Nothing waits for a neighbour: what does not fit into a link's queue is dropped, and subscribers behind it are told. Control messages
//!   are bounded by the tables they are about; a link that cannot take even those is ended.
//! * A node that never had a link pays nothing: its agents learn of the network when the first link is up.

mod hub;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use ringgate_grpc::{Code, Request, Status, frame};
use serde_json::json;

use crate::agents::{Agents, ToNetwork};
use crate::observe::{Inspection, Row};
use crate::rules::Rules;
use crate::shard::{Answer, CallId, Closing, Flow, Now, Peer, Service, StreamTag};
pub use hub::DialRequest;
use hub::{Hub, ToAgents};

/// Full name of the service between nodes.
pub const SERVICE: &str = "agp.neighbour.v1.Neighbours";
/// Its only method.
const METHOD: &str = "Link";
/// Its path.
pub const PATH: &str = "/agp.neighbour.v1.Neighbours/Link";

/// Bytes that wait for one neighbour before messages for it are dropped: a second of a fast link, and no more than a few subscribers'
/// queues.
const QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// With control messages; a neighbour that lets that much wait is given up.
const CONTROL_BYTES_MAX: usize = 2 * QUEUE_BYTES_MAX;
/// What a link's message holds beyond the messages of agents in it.
const AROUND_BYTES: u32 = 1024 * 1024;

/// What each core's links are made from.
#[derive(Debug, Clone)]
pub struct NeighboursConfig {
    /// Name of this node.
    pub node: String,
    /// Nodes to keep a link to, host:port.
    pub neighbours: Vec<String>,
    /// Who makes connections.
    pub dialler: tokio::sync::mpsc::Sender<DialRequest>,
    /// Grows with each start of the node.
    pub incarnation: u64,
    /// For the times between attempts.
    pub seed: u64,
    /// Who is a node, where links are encrypted.
    pub rules: Arc<Rules>,
}

/// A link's stream, anywhere in the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LinkKey {
    core: u16,
    index: u32,
    generation: u32,
}

/// What cores tell each other of links.
#[derive(Debug)]
pub struct Message(Body);

#[derive(Debug)]
pub(crate) enum Body {
    // To core 0.
    Opened {
        link: LinkKey,
        ticket: Option<u64>,
        address: SocketAddr,
        /// The name that its certificate says.
        certified: Option<String>,
    },
    Heard {
        link: LinkKey,
        message: Bytes,
    },
    Dropped {
        link: LinkKey,
    },
    Closed {
        link: LinkKey,
    },
    // From core 0.
    Say {
        link: LinkKey,
        head: Bytes,
        body: Bytes,
    },
    Close {
        link: LinkKey,
        why: Status,
    },
}

/// The links of one core.
pub struct Neighbours {
    core: u16,
    streams: Vec<Place>,
    free: Vec<u32>,
    ready: VecDeque<CallId>,
    outbound: VecDeque<(usize, Message)>,
    hub: Option<Box<Hub>>,
    rules: Arc<Rules>,
}

#[derive(Debug, Default)]
struct Place {
    generation: u32,
    stream: Option<Stream>,
}

#[derive(Debug)]
struct Stream {
    call: CallId,
    queue: VecDeque<Bytes>,
    bytes: usize,
    /// Messages were dropped, and core 0 was told, since the queue was half empty.
    dropping: bool,
    end: Option<Status>,
}

impl Neighbours {
    /// The links of one core. Made on that core.
    pub(crate) fn new(config: NeighboursConfig, core: usize, now: Instant) -> Neighbours {
        Neighbours {
            core: core as u16,
            streams: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            outbound: VecDeque::new(),
            rules: config.rules.clone(),
            hub: (core == 0).then(|| Box::new(Hub::new(config, now))),
        }
    }

    /// Who is at the other end, as its certificate says; in the profile `development` there is none.
    fn certified(&self, peer: &Peer, now: &Now) -> Result<Option<String>, Status> {
        if !self.rules.is_strict() {
            return Ok(None);
        }
        let Some(chain) = &peer.certificate else {
            let text = "a link needs a node's certificate: enrol the node with the control process";
            return Err(Status::new(Code::Unauthenticated, text));
        };
        let seconds = (now.unix_nanos / 1_000_000_000) as i64;
        let node = self.rules.node(chain, seconds);
        node.map(Some).map_err(|rejection| {
            Status::new(
                Code::PermissionDenied,
                format!("{}: {}", rejection.code, rejection.reason),
            )
        })
    }

    /// Other rules hold.
    pub(crate) fn set_rules(&mut self, rules: Arc<Rules>) {
        self.rules = rules;
    }

    fn open(
        &mut self,
        call: CallId,
        ticket: Option<u64>,
        certified: Option<String>,
        peer: &Peer,
        now: &Now,
    ) -> StreamTag {
        let index = self.free.pop().unwrap_or_else(|| {
            self.streams.push(Place::default());
            (self.streams.len() - 1) as u32
        });
        let place = &mut self.streams[index as usize];
        place.stream = Some(Stream {
            call,
            queue: VecDeque::new(),
            bytes: 0,
            dropping: false,
            end: None,
        });
        let link = LinkKey {
            core: self.core,
            index,
            generation: place.generation,
        };
        self.tell_hub(
            Body::Opened {
                link,
                ticket,
                address: peer.address,
                certified,
            },
            now,
        );
        StreamTag(u64::from(link.generation) << 32 | u64::from(index))
    }

    fn key(&self, stream: StreamTag) -> LinkKey {
        LinkKey {
            core: self.core,
            index: stream.0 as u32,
            generation: (stream.0 >> 32) as u32,
        }
    }

    fn stream(&mut self, link: LinkKey) -> Option<&mut Stream> {
        let place = self.streams.get_mut(link.index as usize)?;
        match place.generation == link.generation {
            true => place.stream.as_mut(),
            false => None,
        }
    }

    fn tell_hub(&mut self, body: Body, now: &Now) {
        match &mut self.hub {
            Some(hub) => hub.told(body, now),
            None => self.outbound.push_back((0, Message(body))),
        }
    }

    /// What core 0 wants of a link of this core.
    fn work(&mut self, body: Body, now: &Now) {
        match body {
            Body::Say { link, head, body } => self.say(link, &head, body, now),
            Body::Close { link, why } => {
                if let Some(stream) = self.stream(link) {
                    stream.end.get_or_insert(why);
                    let call = stream.call;
                    self.ready.push_back(call);
                }
            }
            other => debug_assert!(false, "only core 0 is told {other:?}"),
        }
    }

    fn say(&mut self, link: LinkKey, head: &[u8], body: Bytes, now: &Now) {
        let Some(stream) = self.stream(link) else { return };
        let len = head.len() + body.len();
        if stream.bytes > CONTROL_BYTES_MAX {
            let text = "the neighbour does not read";
            stream
                .end
                .get_or_insert(Status::new(Code::ResourceExhausted, text));
        } else if stream.bytes + len > QUEUE_BYTES_MAX && !body.is_empty() {
            if !std::mem::replace(&mut stream.dropping, true) {
                self.tell_hub(Body::Dropped { link }, now);
            }
            return;
        } else {
            let mut framed = BytesMut::with_capacity(frame::PREFIX_BYTES + head.len());
            framed.put_slice(&frame::prefix(len as u32));
            framed.put_slice(head);
            stream.bytes += frame::PREFIX_BYTES + len;
            stream.queue.push_back(framed.freeze());
            if !body.is_empty() {
                stream.queue.push_back(body);
            }
        }
        let call = stream.call;
        self.ready.push_back(call);
    }

    /// Tells the network what this node's agents say and want, and the agents what other nodes do.
    pub(crate) fn exchange(&mut self, agents: &mut Agents, now: &Now) {
        let Some(hub) = &mut self.hub else { return };
        hub.pump();
        loop {
            while let Some(told) = agents.next_to_network() {
                match told {
                    ToNetwork::Published {
                        topic,
                        bytes,
                        messages,
                    } => hub.publish(&topic, bytes, messages, now),
                    ToNetwork::Wanted { pattern, subscribers } => hub.want(pattern, subscribers, now),
                }
            }
            let Some(told) = hub.next_to_agents() else { break };
            match told {
                ToAgents::Join => agents.join_network(),
                ToAgents::Elsewhere { pattern, subscribers } => {
                    agents.wanted_elsewhere(&pattern, subscribers, now);
                }
                ToAgents::Published {
                    topic,
                    bytes,
                    messages,
                } => agents.published_elsewhere(&topic, bytes, messages, now),
                ToAgents::Lost { topic, messages } => agents.lost_elsewhere(&topic, messages, now),
            }
        }
        while let Some((link, body)) = self.hub.as_mut().and_then(|hub| hub.next_work()) {
            match link.core == self.core {
                true => self.work(body, now),
                false => self.outbound.push_back((usize::from(link.core), Message(body))),
            }
        }
    }

    /// A connection could not be made.
    pub(crate) fn unconnected(&mut self, ticket: u64, cause: &str, now: &Now) {
        if let Some(hub) = &mut self.hub {
            hub.unconnected(ticket, cause, now);
        }
    }
}

impl Service for Neighbours {
    type Message = Message;

    fn call(&mut self, call: CallId, request: &Request, peer: &Peer, now: &Now) -> Answer {
        match request.method() {
            METHOD => match self.certified(peer, now) {
                Ok(certified) => Answer::Stream(self.open(call, None, certified, peer, now)),
                Err(status) => Answer::Refuse(status),
            },
            _ => Answer::Refuse(request.unimplemented()),
        }
    }

    fn connected(&mut self, call: CallId, ticket: u64, peer: &Peer, now: &Now) -> Option<StreamTag> {
        let hub = self.hub.as_mut()?;
        if !hub.expects(ticket) {
            return None;
        }
        match self.certified(peer, now) {
            Ok(certified) => Some(self.open(call, Some(ticket), certified, peer, now)),
            Err(status) => {
                self.unconnected(ticket, &status.to_string(), now);
                None
            }
        }
    }

    fn message_bytes_max(&self, _: StreamTag, node: u32) -> u32 {
        node.saturating_add(AROUND_BYTES)
    }

    fn message(&mut self, stream: StreamTag, message: &[u8], now: &Now) -> Flow {
        let link = self.key(stream);
        let message = Bytes::copy_from_slice(message);
        self.tell_hub(Body::Heard { link, message }, now);
        Flow::Continue
    }

    fn half_closed(&mut self, stream: StreamTag, _: &Now) {
        let link = self.key(stream);
        if let Some(stream) = self.stream(link) {
            stream.end.get_or_insert(Status::OK);
            let call = stream.call;
            self.ready.push_back(call);
        }
    }

    fn closed(&mut self, stream: StreamTag, _: Closing, now: &Now) {
        let link = self.key(stream);
        if self.stream(link).is_none() {
            return;
        }
        let place = &mut self.streams[link.index as usize];
        place.stream = None;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(link.index);
        self.tell_hub(Body::Closed { link }, now);
    }

    fn next_ready(&mut self) -> Option<CallId> {
        self.ready.pop_front()
    }

    fn pull(&mut self, stream: StreamTag, bytes_max: usize) -> Option<Bytes> {
        let link = self.key(stream);
        let stream = self.stream(link)?;
        let mut piece = stream.queue.pop_front()?;
        if piece.len() > bytes_max {
            let rest = piece.split_off(bytes_max);
            stream.queue.push_front(rest);
        }
        stream.bytes -= piece.len();
        stream.dropping &= stream.bytes > QUEUE_BYTES_MAX / 2;
        Some(piece)
    }

    fn is_empty(&self, stream: StreamTag) -> bool {
        let place = self.streams.get(stream.0 as u32 as usize);
        let stream = place.and_then(|place| place.stream.as_ref());
        stream.is_none_or(|stream| stream.queue.is_empty())
    }

    fn end(&mut self, stream: StreamTag) -> Option<Status> {
        let link = self.key(stream);
        self.stream(link)?.end.clone()
    }

    fn must_end(&self, stream: StreamTag) -> bool {
        let place = self.streams.get(stream.0 as u32 as usize);
        let stream = place.and_then(|place| place.stream.as_ref());
        stream.is_some_and(|stream| stream.end.as_ref().is_some_and(|status| !status.is_ok()))
    }

    fn has_pending(&self) -> bool {
        !self.ready.is_empty()
            || !self.outbound.is_empty()
            || self.hub.as_ref().is_some_and(|hub| hub.has_pending())
    }

    fn next_outbound(&mut self) -> Option<(usize, Message)> {
        self.outbound.pop_front()
    }

    fn receive(&mut self, _: usize, message: Message, now: &Now) {
        match message.0 {
            body @ (Body::Say { .. } | Body::Close { .. }) => self.work(body, now),
            body => self.tell_hub(body, now),
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.hub.as_ref().map(|hub| hub.next_deadline())
    }

    fn tick(&mut self, now: &Now) {
        if let Some(hub) = &mut self.hub {
            hub.tick(now);
        }
    }

    fn drain(&mut self, _: Duration, now: &Now) {
        if let Some(hub) = &mut self.hub {
            hub.drain(now);
        }
        let status = Status::new(Code::Unavailable, "the node is shutting down");
        for place in &mut self.streams {
            if let Some(stream) = &mut place.stream {
                stream.end.get_or_insert_with(|| status.clone());
                self.ready.push_back(stream.call);
            }
        }
    }

    fn inspect(&self, inspection: &Inspection) -> Vec<Row> {
        let Some(hub) = &self.hub else {
            return Vec::new();
        };
        let rows = match inspection {
            Inspection::Links { .. } => hub.links_json(),
            Inspection::Nodes { most } => hub.nodes_json(*most),
            _ => Vec::new(),
        };
        let rows = rows.into_iter();
        rows.map(|(key, json)| Row {
            rank: [0; 2],
            key,
            json: json!(json),
        })
        .collect()
    }
}
