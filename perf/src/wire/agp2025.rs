//! The Agent Gateway Protocol of 2025, `pubsub.proto.v1` (`../shared/wire/agp-wire.md`): names are hashes, and nothing is confirmed.
//!
//! What the protocol does not confirm, HTTP/2 does: behind each change of subscriptions goes a PING (RFC 9113 section 6.7), and its
//! answer says that the server has taken what came before it. That the change is in force then is true of a server that routes on one
//! core, as those do that are compared; elsewhere the first messages may be lost, which the run shows.

use super::http2::Call;
use super::protobuf::{Fields, put_bytes, put_number};
use super::split::Splitter;
use super::template::Template;
use super::{Incoming, Plan, Role, Wire, WireError, payload, sequence_of};

const PATH: &str = "/pubsub.proto.v1.PubSubService/OpenChannel";
/// Compression flag and length before each gRPC message.
const PREFIX_BYTES: usize = 5;
/// The payload of a delivery begins within so many bytes: two names of hashes and a session before it.
const HEAD_BYTES: usize = 512;
/// What applications publish to topics with: to all (any number but 1).
const FANOUT_ALL: u64 = 50;
/// The instance that stands for all of a name.
const ANY_INSTANCE: u64 = u64::MAX;
/// `PUB_SUB` of the bindings 0.2. A node does not look at it.
const SESSION_KIND: u64 = 5;

/// Fields of `Message`.
mod kind {
    pub(super) const SUBSCRIBE: u32 = 1;
    pub(super) const UNSUBSCRIBE: u32 = 2;
    pub(super) const PUBLISH: u32 = 3;
}

/// Fields of `Publish` and of its `Content`.
mod field {
    pub(super) const MSG: u32 = 4;
    pub(super) const BLOB: u32 = 2;
}

#[derive(Debug)]
pub(super) struct Agp2025 {
    plan: Plan,
    call: Call,
    splitter: Splitter,
    /// The name that was published to last, and the message.
    publish: Option<(Name, Template)>,
    /// Whether the first PING, which is behind the connection's own name, has been answered.
    ready: bool,
}

/// Hashes of organization, namespace and type, and the instance.
type Name = ([u64; 3], u64);

impl Agp2025 {
    pub(super) fn new(plan: &Plan) -> Agp2025 {
        Agp2025 {
            plan: plan.clone(),
            call: Call::new(),
            splitter: Splitter::default(),
            publish: None,
            ready: false,
        }
    }

    fn own_name(&self) -> Name {
        agent(self.plan.role, self.plan.index, self.plan.run)
    }

    /// A change of subscriptions, and the PING behind it.
    fn change(&mut self, kind: u32, name: Name, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        put_bytes(1, &header(self.own_name(), name, 1), &mut body);
        put_message(kind, &body, self.call.pending());
        self.call.ping(out);
    }

    fn publish_to(&mut self, name: Name, fanout: u64, sequence: u64) {
        let prepared = self.publish.take().filter(|(to, _)| *to == name);
        let prepared = prepared.unwrap_or_else(|| {
            let header = header(self.own_name(), name, fanout);
            (name, publish(&header, self.plan.payload_bytes))
        });
        let (_, publish) = self.publish.insert(prepared);
        publish.append(0, sequence, self.call.pending());
    }
}

/// As wide on the wire as a hash, and another one for each number.
fn hash(number: u64) -> u64 {
    (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 << 63
}

fn topic(number: u32) -> Name {
    ([hash(0), hash(1), hash(u64::from(number) + 2)], ANY_INSTANCE)
}

fn agent(role: Role, index: usize, run: u32) -> Name {
    let process = u64::from(std::process::id());
    (
        [hash(0), hash(process), hash(u64::from(run) << 8 | role as u64)],
        hash(index as u64),
    )
}

fn put_name(number: u32, (components, instance): Name, out: &mut Vec<u8>) {
    let mut name = Vec::new();
    for (number, component) in (1..).zip(components) {
        put_number(number, component, &mut name);
    }
    put_number(4, instance, &mut name);
    put_bytes(number, &name, out);
}

fn header(source: Name, destination: Name, fanout: u64) -> Vec<u8> {
    let mut header = Vec::new();
    put_name(1, source, &mut header);
    put_name(2, destination, &mut header);
    put_number(3, fanout, &mut header);
    header
}

fn publish(header: &[u8], payload_bytes: usize) -> Template {
    let payload = payload(payload_bytes);
    let mut session = Vec::new();
    for (number, value) in [(1, SESSION_KIND), (2, 1), (3, 1)] {
        put_number(number, value, &mut session);
    }
    let mut content = Vec::new();
    put_bytes(1, b"msg", &mut content);
    put_bytes(field::BLOB, &payload, &mut content);
    let mut body = Vec::new();
    put_bytes(1, header, &mut body);
    put_bytes(2, &session, &mut body);
    put_bytes(field::MSG, &content, &mut body);
    let mut message = Vec::new();
    put_message(kind::PUBLISH, &body, &mut message);
    let payload_at = message.len() - payload.len();
    Template::new(message, payload_at, None)
}

/// Appends a gRPC message with one field, whose value is `body`.
fn put_message(kind: u32, body: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    put_bytes(kind, body, out);
    let len = (out.len() - start - PREFIX_BYTES) as u32;
    out[start + 1..start + PREFIX_BYTES].copy_from_slice(&len.to_be_bytes());
}

impl Wire for Agp2025 {
    fn open(&mut self, out: &mut Vec<u8>) {
        self.call.open(PATH, out);
        self.change(kind::SUBSCRIBE, self.own_name(), out);
    }

    fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        inbox: &mut Vec<Incoming>,
    ) -> Result<(), WireError> {
        let (splitter, role) = (&mut self.splitter, self.plan.role);
        self.call.receive(bytes, out, |data| {
            splitter.feed(data, |bytes| message(bytes, role, inbox))
        })?;
        for _ in 0..self.call.take_pongs() {
            inbox.push(match std::mem::replace(&mut self.ready, true) {
                false => Incoming::Ready,
                true => Incoming::Subscribed,
            });
        }
        if self.call.take_over() {
            inbox.push(Incoming::Ended);
        }
        Ok(())
    }

    fn subscribe(&mut self, number: u32, out: &mut Vec<u8>) {
        self.change(kind::SUBSCRIBE, topic(number), out);
    }

    fn unsubscribe(&mut self, number: u32, out: &mut Vec<u8>) {
        self.change(kind::UNSUBSCRIBE, topic(number), out);
    }

    fn publish(&mut self, number: u32, sequence: u64, _: &mut Vec<u8>) {
        self.publish_to(topic(number), FANOUT_ALL, sequence);
    }

    fn request(&mut self, responder: usize, sequence: u64, _: &mut Vec<u8>) {
        self.publish_to(agent(Role::Responder, responder, self.plan.run), 1, sequence);
    }

    /// To the run's only requester, as an application does that has learnt its name from the request.
    fn respond(&mut self, _: u64, sequence: u64, _: &mut Vec<u8>) {
        self.publish_to(agent(Role::Requester, 0, self.plan.run), 1, sequence);
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        self.call.flush(out);
    }

    fn close(&mut self, out: &mut Vec<u8>) -> bool {
        self.call.end(out);
        true
    }
}

/// Reads a message from its prefix on. Its length, when enough of it is there.
#[inline]
fn message(bytes: &[u8], role: Role, inbox: &mut Vec<Incoming>) -> Result<Option<usize>, WireError> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if rest.len() < len.min(HEAD_BYTES) {
        return Ok(None);
    }
    let sequence = sequence(&rest[..len.min(rest.len())])?;
    inbox.push(match role {
        Role::Publisher | Role::Subscriber => Incoming::Message(Some(sequence)),
        Role::Responder => Incoming::Request { token: 0, sequence },
        Role::Requester => Incoming::Response(sequence),
    });
    Ok(Some(PREFIX_BYTES + len))
}

/// The sequence number in a message of which the head is there.
#[inline]
fn sequence(message: &[u8]) -> Result<u64, WireError> {
    const NOT_OURS: WireError = WireError::Malformed("a payload that nobody published");
    let mut inner = message;
    for wanted in [kind::PUBLISH, field::MSG, field::BLOB] {
        inner = Fields(inner).find(wanted)?.ok_or(NOT_OURS)?;
    }
    sequence_of(inner).ok_or(NOT_OURS)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use ringgate_switch::{Peer, Switch, SwitchConfig};
    use ringgate_wire::PubSub;

    use super::*;

    /// Bytes of the head of an HTTP/2 frame, and of a PING.
    const FRAME_HEAD_BYTES: usize = 9;
    const PING_BYTES: usize = FRAME_HEAD_BYTES + 8;

    fn wire(role: Role) -> Agp2025 {
        Agp2025::new(&Plan {
            role,
            index: 0,
            run: 1,
            payload_bytes: 300,
            mixed: false,
            stalls: false,
        })
    }

    #[test]
    fn a_node_delivers_what_is_published_and_it_is_read_at_any_split() {
        let now = Instant::now();
        let mut node = Switch::new(SwitchConfig::new(0, 1, 7), PubSub::default(), now);
        let mut join = || node.open(Peer::default(), now).expect("there is room");
        let (from, to) = (join(), join());
        let mut said = Vec::new();
        wire(Role::Subscriber).subscribe(5, &mut said);
        let subscribe = &said[FRAME_HEAD_BYTES + PREFIX_BYTES..said.len() - PING_BYTES];
        node.message(to, subscribe, now);
        let mut publisher = wire(Role::Publisher);
        for sequence in 1..=3 {
            publisher.publish(5, sequence, &mut Vec::new());
            let message = std::mem::take(publisher.call.pending());
            node.message(from, &message[PREFIX_BYTES..], now);
        }
        node.turn_end(now);
        let mut stream = Vec::new();
        while let Some(bytes) = node.pull(to, 1 << 20) {
            stream.extend_from_slice(&bytes);
        }
        let expected = [1, 2, 3].map(|sequence| Incoming::Message(Some(sequence)));
        for split in 0..stream.len() {
            let mut splitter = Splitter::default();
            let mut inbox = Vec::new();
            for piece in [&stream[..split], &stream[split..]] {
                splitter
                    .feed(piece, |bytes| message(bytes, Role::Subscriber, &mut inbox))
                    .expect("the node speaks the protocol");
            }
            assert_eq!(inbox, expected, "split at {split}");
        }
    }
}
