//! The switch of the earlier dialects with clients on it, without anything around it; and messages as their applications send them.

use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use ringgate_switch::{ConnectionId, Dialect, Peer, Switch, SwitchConfig};
use ringgate_wire::slim::client::{AppName, Client, Greeting, Publish, TTL};
use ringgate_wire::slim::{HeaderMac, LinkKind, SlimConfig};
use ringgate_wire::{PubSub, Slim};

/// Bytes pulled for a connection at a time: as much as fits a socket's buffer.
const PULL_BYTES_MAX: usize = 256 * 1024;
/// Compression flag and length before each gRPC message.
const PREFIX_BYTES: usize = 5;
/// Any number but 1: to all.
const FANOUT_ALL: u32 = 256;
/// A token as long as those of applications with a shared secret.
const IDENTITY_BYTES: usize = 228;
/// The instance of all channels.
const CHANNEL: u128 = 1 << 100 | 7;

/// One core's switch.
pub struct Node<D: Dialect> {
    switch: Switch<D>,
    now: Instant,
    ready: Vec<ConnectionId>,
}

impl<D: Dialect> Node<D> {
    fn new(dialect: D) -> Node<D> {
        let now = Instant::now();
        Node {
            switch: Switch::new(SwitchConfig::new(0, 1, 7), dialect, now),
            now,
            ready: Vec::new(),
        }
    }

    /// A new connection.
    fn connect(&mut self) -> ConnectionId {
        let connected = self.switch.open(Peer::default(), self.now);
        connected.expect("a benchmark's connections are fewer than allowed")
    }

    /// Takes one message of a client, without its gRPC prefix.
    pub fn hear(&mut self, client: ConnectionId, message: &[u8]) {
        self.switch.message(client, message, self.now);
    }

    /// Ends the turn, and gives every byte that waits to `write`, with the connection it is for.
    fn flush(&mut self, mut write: impl FnMut(ConnectionId, &[u8])) {
        self.switch.turn_end(self.now);
        while let Some(client) = self.switch.next_ready() {
            self.ready.push(client);
        }
        while let Some(client) = self.ready.pop() {
            while let Some(bytes) = self.switch.pull(client, PULL_BYTES_MAX) {
                write(client, &bytes);
            }
        }
    }

    /// Ends the turn and throws away what was to be written. Returns how many bytes it was.
    pub fn drain(&mut self) -> usize {
        let mut written = 0;
        self.flush(|_, bytes| written += bytes.len());
        written
    }
}

/// An application of SLIM on its connection.
pub struct SlimApp {
    /// Its connection.
    pub connection: ConnectionId,
    client: Client,
}

impl SlimApp {
    /// A Subscribe to channel `number`, to be confirmed.
    pub fn subscribe(&mut self, number: usize) -> Bytes {
        self.client.subscribe(&channel(number), "", number as u64 + 1)
    }

    /// The reverse.
    pub fn unsubscribe(&mut self, number: usize) -> Bytes {
        self.client.unsubscribe(&channel(number), "", number as u64 + 1)
    }

    /// A Publish to all who have subscribed to channel `number`.
    pub fn publish(&mut self, number: usize, payload_bytes: usize) -> Bytes {
        self.client.publish(&Publish {
            from: &AppName::new(["bench", "load", "app"], Some(1)),
            to: &channel(number),
            identity: &"i".repeat(IDENTITY_BYTES),
            fanout: FANOUT_ALL,
            ttl: TTL,
            session: 1,
            message: 1,
            payload_type: "msg",
            payload: &vec![b'x'; payload_bytes],
        })
    }
}

fn channel(number: usize) -> AppName {
    AppName::new(["bench", "channel", &format!("{number:08}")], Some(CHANNEL))
}

/// A node of SLIM.
pub fn slim() -> Node<Slim> {
    let config = SlimConfig {
        header_mac: HeaderMac::Offered,
        ..SlimConfig::default()
    };
    Node::new(Slim::new(config, Box::new(|| [9; 32])))
}

impl Node<Slim> {
    /// An application whose link is negotiated, with codes in headers or without.
    ///
    /// # Panics
    /// When the node refuses it.
    pub fn app(&mut self, number: usize, mac: bool) -> SlimApp {
        let link_id = format!("00000000-0000-4000-8000-{number:012x}");
        let mut secret = [1; 32];
        secret[..8].copy_from_slice(&(number as u64).to_le_bytes());
        let greeting = Greeting {
            node_id: format!("node-{link_id}"),
            link_id,
            kind: LinkKind::Edge,
            secret: mac.then_some(secret),
            kem_seed: None,
        };
        let connection = self.connect();
        self.hear(connection, &greeting.message());
        let mut reply = Vec::new();
        // Others may be answered in the same turn.
        self.flush(|client, bytes| {
            if client == connection {
                reply.extend_from_slice(bytes);
            }
        });
        let client = greeting.finish(&reply[PREFIX_BYTES..]);
        SlimApp {
            connection,
            client: client.expect("both ends are ours"),
        }
    }
}

/// A node with a publisher and `subscribers` who have subscribed to channel 0.
pub fn slim_fan_out(subscribers: usize, mac: bool) -> (Node<Slim>, SlimApp) {
    let mut node = slim();
    let publisher = node.app(0, mac);
    for number in 1..=subscribers {
        let mut app = node.app(number, mac);
        let subscribe = app.subscribe(0);
        node.hear(app.connection, &subscribe);
    }
    node.drain();
    (node, publisher)
}

/// A node with an application that has subscribed to so many channels, and another that has to none.
pub fn slim_table(subscriptions: usize) -> (Node<Slim>, SlimApp) {
    let mut node = slim();
    let mut holder = node.app(0, true);
    for number in 0..subscriptions {
        let subscribe = holder.subscribe(number);
        node.hear(holder.connection, &subscribe);
        if number % 1024 == 0 {
            node.drain();
        }
    }
    node.drain();
    let app = node.app(1, true);
    (node, app)
}

/// A node of AGP 2025 with a publisher and `subscribers` who have subscribed to a topic, and a Publish to it.
pub fn agp2025_fan_out(subscribers: usize, payload_bytes: usize) -> (Node<PubSub>, ConnectionId, Vec<u8>) {
    let mut node = Node::new(PubSub::default());
    let publisher = node.connect();
    let header = {
        let mut header = Vec::new();
        put_bytes(1, &hashes(1, Some(1)), &mut header);
        put_bytes(2, &hashes(2, None), &mut header);
        put_number(3, u64::from(FANOUT_ALL), &mut header);
        header
    };
    let mut subscribe = Vec::new();
    put_bytes(1, &header, &mut subscribe);
    let subscribe = message(1, &subscribe);
    for _ in 0..subscribers {
        let subscriber = node.connect();
        node.hear(subscriber, &subscribe);
    }
    node.drain();
    (node, publisher, agp2025_publish(&header, payload_bytes))
}

fn agp2025_publish(header: &[u8], payload_bytes: usize) -> Vec<u8> {
    let mut session = Vec::new();
    for (number, value) in [(1, 5), (2, 1), (3, 1)] {
        put_number(number, value, &mut session);
    }
    let mut content = Vec::new();
    put_bytes(1, b"msg", &mut content);
    put_bytes(2, &vec![b'x'; payload_bytes], &mut content);
    let mut publish = Vec::new();
    put_bytes(1, header, &mut publish);
    put_bytes(2, &session, &mut publish);
    put_bytes(4, &content, &mut publish);
    message(3, &publish)
}

/// A name: three hashes, and an instance or any.
fn hashes(seed: u64, instance: Option<u64>) -> Vec<u8> {
    let mut name = Vec::new();
    for number in 1..=3 {
        let hash = (seed * 3 + u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 << 63;
        put_number(number, hash, &mut name);
    }
    if let Some(instance) = instance {
        put_number(4, instance, &mut name);
    }
    name
}

fn message(kind: u32, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    put_bytes(kind, body, &mut message);
    message
}

fn put_number(number: u32, value: u64, out: &mut Vec<u8>) {
    prost::encoding::uint64::encode(number, &value, out);
}

fn put_bytes(number: u32, value: &[u8], out: &mut Vec<u8>) {
    let mut key = BytesMut::new();
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut key);
    prost::encoding::encode_varint(value.len() as u64, &mut key);
    out.put(key);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else a benchmark would measure how fast messages are dropped.
    #[test]
    fn every_subscriber_gets_what_is_published() {
        for mac in [true, false] {
            let (mut node, mut publisher) = slim_fan_out(3, mac);
            let publish = publisher.publish(0, 256);
            node.hear(publisher.connection, &publish);
            assert_eq!(node.drain(), 3 * (PREFIX_BYTES + publish.len()));
        }
        let (mut node, publisher, publish) = agp2025_fan_out(3, 256);
        node.hear(publisher, &publish);
        assert_eq!(node.drain(), 3 * (PREFIX_BYTES + publish.len()));
    }

    #[test]
    fn subscriptions_are_confirmed() {
        let (mut node, mut app) = slim_table(10);
        let subscribe = app.subscribe(99);
        node.hear(app.connection, &subscribe);
        assert!(node.drain() > 0);
        let unsubscribe = app.unsubscribe(99);
        node.hear(app.connection, &unsubscribe);
        assert!(node.drain() > 0);
    }
}
