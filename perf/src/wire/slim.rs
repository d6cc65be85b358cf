//! SLIM v3, `dataplane.proto.v1`: a link is negotiated, names are subscribed to and confirmed, and headers carry a code that
//! authenticates them to the next hop (`../shared/wire/slim-wire.md`).
//!
//! Messages are made by `ringgate_wire::slim::client`, once for each destination: a code covers the header alone, so publishes to one
//! name differ in nothing but their payload. Of a delivery this reads no more than the way to the payload; one of every
//! [`VERIFY_EVERY`] is read whole as an application does, its code included, so that a server that signs wrongly ends the run while the
//! load stays cheaper than the server.

use std::collections::HashMap;

use ringgate_wire::slim::LinkKind;
use ringgate_wire::slim::client::{AppName, Client, Greeting, Publish, Received, TTL};

use super::http2::Call;
use super::protobuf::Fields;
use super::split::Splitter;
use super::template::Template;
use super::{Incoming, Plan, Role, Wire, WireError, payload, sequence_of, topic_name};

const PATH: &str = "/dataplane.proto.v1.DataPlaneService/OpenChannel";
/// Compression flag and length before each gRPC message.
const PREFIX_BYTES: usize = 5;
/// The payload of a delivery begins within so many bytes: its header has two names and a token.
const HEAD_BYTES: usize = 1024;
/// One of so many deliveries of a connection, the first included, is read whole.
const VERIFY_EVERY: u32 = 1024;
/// Longer ones are not, for they would have to be held in memory.
const VERIFY_BYTES_MAX: usize = 64 * 1024;
/// A token of the length that applications with a shared secret send.
const IDENTITY: &str = match std::str::from_utf8(&[b'i'; 228]) {
    Ok(identity) => identity,
    Err(_) => "",
};
/// What applications publish to groups with: to all (any number but 1).
const FANOUT_ALL: u32 = 256;
/// The instance that all channels have. Those of applications are hashes; any exact number does.
const CHANNEL: u128 = 0x7065_7266_2d63_6861_6e6e_656c_2d69_6400;
/// Number of the Subscribe for a connection's own name. Topics come behind it.
const OWN_NAME: u64 = 1;

/// Fields of `Message`, `Publish`, `Content` and `ApplicationPayload`, on the way to the payload.
mod field {
    pub(super) const PUBLISH: u32 = 3;
    pub(super) const MSG: u32 = 3;
    pub(super) const APP_PAYLOAD: u32 = 1;
    pub(super) const BLOB: u32 = 2;
}

#[derive(Debug)]
pub(super) struct Slim {
    plan: Plan,
    call: Call,
    splitter: Splitter,
    link: Link,
    /// What has been published to, ready to be sent again.
    publishes: HashMap<Destination, Template>,
}

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Destination {
    /// All who have subscribed to a topic.
    Topic(u32),
    /// One other connection of this run.
    Agent(Role, usize),
}

/// The receiving side of the dialect.
#[derive(Debug)]
struct Link {
    role: Role,
    greeting: Greeting,
    /// There once the node has answered the greeting.
    client: Option<Client>,
    /// Whether it has answered since this was last asked.
    agreed: bool,
    /// Deliveries since one was read whole.
    unverified: u32,
}

impl Slim {
    /// With codes in all headers, or without any.
    pub(super) fn new(plan: &Plan, mac: bool) -> Slim {
        Slim {
            plan: plan.clone(),
            call: Call::new(),
            splitter: Splitter::default(),
            link: Link {
                role: plan.role,
                greeting: greeting(plan, mac),
                client: None,
                agreed: false,
                unverified: VERIFY_EVERY,
            },
            publishes: HashMap::new(),
        }
    }

    /// Goes on after the negotiation: who is spoken to by name takes it first.
    fn begin(&mut self, out: &mut Vec<u8>, inbox: &mut Vec<Incoming>) {
        match self.plan.role {
            Role::Publisher | Role::Subscriber => inbox.push(Incoming::Ready),
            role @ (Role::Requester | Role::Responder) => {
                let name = agent(role, self.plan.index, self.plan.run);
                self.say(out, |client| client.subscribe(&name, IDENTITY, OWN_NAME));
            }
        }
    }

    /// Sends one message. There is a client: nobody speaks before [`Incoming::Ready`].
    fn say(&mut self, out: &mut Vec<u8>, speak: impl FnOnce(&mut Client) -> bytes::Bytes) {
        if let Some(client) = &mut self.link.client {
            put_message(&speak(client), self.call.pending());
            self.call.flush(out);
        }
    }

    fn publish_to(&mut self, destination: Destination, sequence: u64) {
        let Some(client) = &mut self.link.client else {
            return;
        };
        let plan = &self.plan;
        let publish = self
            .publishes
            .entry(destination)
            .or_insert_with(|| publish(client, plan, destination));
        publish.append(0, sequence, self.call.pending());
    }
}

/// Nobody has to be kept out of a benchmark: link and secret are made of the connection's place in the run, which is unique.
fn greeting(plan: &Plan, mac: bool) -> Greeting {
    let role = plan.role as u8;
    let link_id = format!(
        "{:08x}-{:04x}-4000-8{role:03x}-{:012x}",
        std::process::id(),
        plan.run & 0xffff,
        plan.index
    );
    let mut secret = [0; 32];
    for (byte, text) in secret.iter_mut().zip(link_id.bytes().rev()) {
        *byte = text;
    }
    Greeting {
        node_id: format!("node-{link_id}"),
        link_id,
        kind: LinkKind::Edge,
        secret: mac.then_some(secret),
        kem_seed: None,
    }
}

fn agent(role: Role, index: usize, run: u32) -> AppName {
    let kind = format!("{}-{:06x}-{run:03x}", role.name(), std::process::id());
    AppName::new(["perf", "load", &kind], Some(index as u128 + 1))
}

fn channel(topic: u32) -> AppName {
    AppName::new(["perf", "channel", &topic_name(topic)], Some(CHANNEL))
}

fn publish(client: &mut Client, plan: &Plan, destination: Destination) -> Template {
    let (to, fanout) = match destination {
        Destination::Topic(topic) => (channel(topic), FANOUT_ALL),
        Destination::Agent(role, index) => (agent(role, index, plan.run), 1),
    };
    let payload = payload(plan.payload_bytes);
    let message = client.publish(&Publish {
        from: &agent(plan.role, plan.index, plan.run),
        to: &to,
        identity: IDENTITY,
        fanout,
        ttl: TTL,
        session: 1,
        message: 1,
        payload_type: "msg",
        payload: &payload,
    });
    let mut bytes = Vec::new();
    put_message(&message, &mut bytes);
    let payload_at = bytes.len() - payload.len();
    debug_assert_eq!(
        bytes[payload_at..],
        payload,
        "the payload is what a message ends with"
    );
    Template::new(bytes, payload_at, None)
}

fn put_message(message: &[u8], out: &mut Vec<u8>) {
    out.push(0);
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(message);
}

/// A topic's number for the node.
fn subscription(topic: u32) -> u64 {
    u64::from(topic) + OWN_NAME + 1
}

impl Wire for Slim {
    fn open(&mut self, out: &mut Vec<u8>) {
        self.call.open(PATH, out);
        put_message(&self.link.greeting.message(), self.call.pending());
        self.call.flush(out);
    }

    fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        inbox: &mut Vec<Incoming>,
    ) -> Result<(), WireError> {
        let (splitter, link) = (&mut self.splitter, &mut self.link);
        self.call.receive(bytes, out, |data| {
            splitter.feed(data, |bytes| link.message(bytes, inbox))
        })?;
        if std::mem::take(&mut self.link.agreed) {
            self.begin(out, inbox);
        }
        if self.call.take_over() {
            inbox.push(Incoming::Ended);
        }
        Ok(())
    }

    fn subscribe(&mut self, topic: u32, out: &mut Vec<u8>) {
        self.say(out, |client| {
            client.subscribe(&channel(topic), "", subscription(topic))
        });
    }

    fn unsubscribe(&mut self, topic: u32, out: &mut Vec<u8>) {
        self.say(out, |client| {
            client.unsubscribe(&channel(topic), "", subscription(topic))
        });
    }

    fn publish(&mut self, topic: u32, sequence: u64, _: &mut Vec<u8>) {
        self.publish_to(Destination::Topic(topic), sequence);
    }

    fn request(&mut self, responder: usize, sequence: u64, _: &mut Vec<u8>) {
        self.publish_to(Destination::Agent(Role::Responder, responder), sequence);
    }

    /// To the run's only requester, as an application does that has learnt its name from the request.
    fn respond(&mut self, _: u64, sequence: u64, _: &mut Vec<u8>) {
        self.publish_to(Destination::Agent(Role::Requester, 0), sequence);
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        self.call.flush(out);
    }

    fn close(&mut self, out: &mut Vec<u8>) -> bool {
        self.call.end(out);
        true
    }
}

impl Link {
    /// Reads a message from its prefix on. Its length, when enough of it is there.
    #[inline]
    fn message(&mut self, bytes: &[u8], inbox: &mut Vec<Incoming>) -> Result<Option<usize>, WireError> {
        let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if rest.len() < len.min(HEAD_BYTES) {
            return Ok(None);
        }
        let head = &rest[..len.min(rest.len())];
        let is_delivery = matches!(Fields(head).next()?, Some((field::PUBLISH, _)));
        let whole = !is_delivery || (self.unverified >= VERIFY_EVERY && len <= VERIFY_BYTES_MAX);
        if whole && rest.len() < len {
            return Ok(None);
        }
        let incoming = match whole {
            true => self.read(head)?,
            false => {
                self.unverified += 1;
                Some(self.delivery(sequence(head)?))
            }
        };
        inbox.extend(incoming);
        Ok(Some(PREFIX_BYTES + len))
    }

    /// Reads a whole message as an application does.
    fn read(&mut self, message: &[u8]) -> Result<Option<Incoming>, WireError> {
        let Some(client) = &mut self.client else {
            let agreed = self.greeting.finish(message);
            self.client = Some(agreed.map_err(|error| WireError::Refused(error.to_string()))?);
            self.agreed = true;
            return Ok(None);
        };
        let received = client.read(message).map_err(|error| {
            WireError::Refused(format!("an application would drop what it sent: {error}"))
        })?;
        Ok(Some(match received {
            Received::Ack {
                success: false,
                error,
                ..
            } => return Err(WireError::Refused(error.to_owned())),
            Received::Ack {
                subscription: OWN_NAME,
                ..
            } => Incoming::Ready,
            Received::Ack { .. } => Incoming::Subscribed,
            Received::Publish { payload, .. } => {
                self.unverified = 0;
                let sequence = sequence_of(payload).ok_or(NOT_OURS)?;
                self.delivery(sequence)
            }
        }))
    }

    /// What a delivery is to this connection.
    #[inline]
    fn delivery(&self, sequence: u64) -> Incoming {
        match self.role {
            Role::Publisher | Role::Subscriber => Incoming::Message(Some(sequence)),
            Role::Responder => Incoming::Request { token: 0, sequence },
            Role::Requester => Incoming::Response(sequence),
        }
    }
}

const NOT_OURS: WireError = WireError::Malformed("a payload that nobody published");

/// The sequence number in a message of which the head is there.
#[inline]
fn sequence(message: &[u8]) -> Result<u64, WireError> {
    let mut inner = message;
    for wanted in [field::PUBLISH, field::MSG, field::APP_PAYLOAD, field::BLOB] {
        inner = Fields(inner).find(wanted)?.ok_or(NOT_OURS)?;
    }
    sequence_of(inner).ok_or(NOT_OURS)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use ringgate_switch::{ConnectionId, Peer, Switch, SwitchConfig};
    use ringgate_wire::Slim as Dialect;
    use ringgate_wire::slim::{HeaderMac, SlimConfig};

    use super::*;

    fn plan(role: Role, index: usize) -> Plan {
        Plan {
            role,
            index,
            run: 1,
            payload_bytes: 300,
            mixed: false,
            stalls: false,
        }
    }

    /// The gateway's own switch with links of this load on it: gRPC messages in, gRPC messages out.
    struct Node {
        switch: Switch<Dialect>,
        now: Instant,
    }

    impl Node {
        fn new() -> Node {
            let config = SlimConfig {
                header_mac: HeaderMac::Offered,
                ..SlimConfig::default()
            };
            let now = Instant::now();
            let dialect = Dialect::new(config, Box::new(|| [9; 32]));
            Node {
                switch: Switch::new(SwitchConfig::new(0, 1, 7), dialect, now),
                now,
            }
        }

        fn join(&mut self, plan: &Plan, mac: bool) -> (Slim, ConnectionId) {
            let id = self
                .switch
                .open(Peer::default(), self.now)
                .expect("there is room");
            let mut slim = Slim::new(plan, mac);
            self.hear(id, &slim.link.greeting.message());
            let reply = self.say(id);
            let mut inbox = Vec::new();
            feed(&mut slim, &reply, &mut inbox);
            assert!(slim.link.client.is_some() && inbox.is_empty());
            (slim, id)
        }

        fn hear(&mut self, id: ConnectionId, message: &[u8]) {
            self.switch.message(id, message, self.now);
        }

        fn say(&mut self, id: ConnectionId) -> Vec<u8> {
            self.switch.turn_end(self.now);
            while self.switch.next_ready().is_some() {}
            let mut out: Vec<u8> = Vec::new();
            while let Some(bytes) = self.switch.pull(id, 1 << 20) {
                out.extend_from_slice(&bytes);
            }
            out
        }
    }

    fn feed(slim: &mut Slim, bytes: &[u8], inbox: &mut Vec<Incoming>) {
        let (splitter, link) = (&mut slim.splitter, &mut slim.link);
        splitter
            .feed(bytes, |bytes| link.message(bytes, inbox))
            .expect("the node speaks the protocol");
    }

    /// A group of a publisher and a subscriber, and what the node sends the subscriber for three publishes.
    fn three_deliveries(mac: bool) -> (Slim, Vec<u8>) {
        let mut node = Node::new();
        let (mut publisher, from) = node.join(&plan(Role::Publisher, 0), mac);
        let (mut subscriber, to) = node.join(&plan(Role::Subscriber, 0), mac);
        let client = subscriber.link.client.as_mut().expect("it has joined");
        let subscribe = client.subscribe(&channel(5), "", subscription(5));
        node.hear(to, &subscribe);
        let mut stream = node.say(to);
        for sequence in 1..=3 {
            publisher.publish_to(Destination::Topic(5), sequence);
            let message = std::mem::take(publisher.call.pending());
            node.hear(from, &message[PREFIX_BYTES..]);
        }
        stream.extend(node.say(to));
        (subscriber, stream)
    }

    #[test]
    fn a_node_delivers_what_is_published_and_it_is_read_at_any_split() {
        for mac in [true, false] {
            let (mut subscriber, stream) = three_deliveries(mac);
            let mut expected = vec![Incoming::Subscribed];
            expected.extend((1..=3).map(|sequence| Incoming::Message(Some(sequence))));
            for split in 0..stream.len() {
                let mut inbox = Vec::new();
                subscriber.splitter = Splitter::default();
                subscriber.link.unverified = VERIFY_EVERY;
                feed(&mut subscriber, &stream[..split], &mut inbox);
                feed(&mut subscriber, &stream[split..], &mut inbox);
                assert_eq!(inbox, expected, "split at {split}, mac {mac}");
            }
            assert_eq!(subscriber.link.unverified, 2, "the first delivery was read whole");
        }
    }

    #[test]
    fn a_wrong_code_ends_the_run() {
        let (mut subscriber, mut stream) = three_deliveries(true);
        let token = stream
            .windows(3)
            .position(|window| window == b"iii")
            .expect("a token");
        stream[token] = b'j';
        let (splitter, link) = (&mut subscriber.splitter, &mut subscriber.link);
        let read = splitter.feed(&stream, |bytes| link.message(bytes, &mut Vec::new()));
        assert!(matches!(read, Err(WireError::Refused(_))), "{read:?}");
    }
}
