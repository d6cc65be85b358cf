//! The hot path allocates nothing: neither for a message nor for a delivery, once buffers have grown.
//!
//! `RINGGATE_HOT_PATH=1 cargo test --release -p ringgate-gateway --test allocations -- --nocapture` also prints what it costs.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use ringgate_gateway::action::{Action, Delivery, Publish, Register, Subscribe};
use ringgate_gateway::outgoing::{Dialect, Encoder, Outgoing};
use ringgate_gateway::{CoreId, Gateway, GatewayConfig, Now, PeerInfo, SessionId};
use ringgate_policy::Identity;

const CHUNK: usize = 1 << 20;

/// One large chunk, taken back when all its runs are gone, as the real arena does.
struct Arena {
    chunk: BytesMut,
}

impl Encoder for Arena {
    fn append(&mut self, _: Dialect, message: &Outgoing<'_>) {
        let body = match message {
            Outgoing::Notify { body, .. } => *body,
            _ => b"other",
        };
        self.chunk
            .extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        self.chunk.extend_from_slice(body);
    }

    fn pending(&self) -> usize {
        self.chunk.len()
    }

    fn take(&mut self) -> Bytes {
        self.chunk.split().freeze()
    }

    fn first_len(_: Dialect, run: &[u8]) -> usize {
        u32::from_be_bytes(run[..4].try_into().expect("a frame")) as usize
    }

    fn own(&mut self, body: &[u8]) -> Bytes {
        Bytes::copy_from_slice(body)
    }
}

struct Bench {
    gateway: Gateway,
    arena: Arena,
    now: Now,
    publisher: SessionId,
    readers: usize,
}

impl Bench {
    fn new(readers: usize) -> Self {
        let token = Box::new(|| [7; 16]);
        let mut bench = Self {
            gateway: Gateway::new(GatewayConfig::development("node", CoreId(0), 1, 7, token)),
            arena: Arena {
                chunk: BytesMut::with_capacity(CHUNK),
            },
            now: Now {
                mono: Instant::now(),
                unix_nanos: 1,
            },
            publisher: SessionId::from_bits(0),
            readers,
        };
        bench.publisher = bench.agent("a/b/c/publisher");
        for reader in 0..readers {
            let session = bench.agent(&format!("a/b/c/{reader}"));
            let subscribe = Subscribe {
                id: 1,
                pattern: "topic/one",
                group: "",
                delivery: Delivery::default(),
            };
            let _ = bench.gateway.apply(
                session,
                Action::Subscribe(subscribe),
                &bench.now,
                &mut bench.arena,
            );
        }
        bench.flush();
        bench
    }

    fn agent(&mut self, name: &str) -> SessionId {
        let peer = PeerInfo {
            dialect: Dialect::Agp,
            address: String::new(),
            identity: Identity::Declared,
            proof_uri: String::new(),
            connection: 0,
        };
        let session = self.gateway.open(peer, &self.now);
        let register = Register {
            name,
            ..Register::default()
        };
        let _ = self
            .gateway
            .apply(session, Action::Register(register), &self.now, &mut self.arena);
        session
    }

    /// One turn: so many messages, then everything is written.
    fn turn(&mut self, messages: usize, body: &[u8]) -> usize {
        for _ in 0..messages {
            let publish = Publish {
                topic: "topic/one",
                id: 0,
                body,
            };
            let _ = self.gateway.apply(
                self.publisher,
                Action::Publish(publish),
                &self.now,
                &mut self.arena,
            );
        }
        self.gateway.turn_end(&self.now, &mut self.arena);
        self.flush()
    }

    fn flush(&mut self) -> usize {
        let mut pulled = 0;
        while let Some(session) = self.gateway.next_ready() {
            while let Some(bytes) = self.gateway.pull(session, usize::MAX, &self.now, &mut self.arena) {
                pulled += bytes.len();
            }
        }
        let _ = self.arena.chunk.try_reclaim(CHUNK);
        pulled
    }
}

#[test]
fn a_publish_allocates_nothing() {
    let mut bench = Bench::new(50);
    for _ in 0..10 {
        bench.turn(64, &[1; 256]);
    }
    let mut pulled = 0;
    let counted = allocation_counter::measure(|| {
        for _ in 0..100 {
            pulled += bench.turn(64, &[1; 256]);
        }
    });
    assert_eq!(pulled, 100 * 64 * 50 * 260);
    assert_eq!(counted.count_total, 0);
    if std::env::var_os("RINGGATE_HOT_PATH").is_some() {
        measure();
    }
}

/// Not a test: there is nothing to fail.
fn measure() {
    for (readers, messages) in [(0, 256), (1, 64), (10, 64), (100, 16), (1000, 1)] {
        let mut bench = Bench::new(readers);
        let turns = 8_000_000 / (messages * readers.max(1)).max(16);
        bench.turn(messages, &[1; 256]);
        let start = Instant::now();
        for _ in 0..turns {
            bench.turn(messages, &[1; 256]);
        }
        let nanos = start.elapsed().as_nanos() as f64;
        let published = (turns * messages) as f64;
        let delivered = published * bench.readers.max(1) as f64;
        println!(
            "{readers:>5} readers, {messages:>3} in a turn: {:>8.1} ns a publish, {:>6.1} ns a delivery",
            nanos / published,
            nanos / delivered
        );
    }
}
