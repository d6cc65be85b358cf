//! The gateway's core with agents on it, without anything around it.

use std::time::Instant;

use ringgate_gateway::outgoing::{Dialect, Encoder};
use ringgate_gateway::{Closing, CoreId, Effect, Flow, Gateway, GatewayConfig, Now, PeerInfo, SessionId};
use ringgate_policy::{Identity, Limits};
use ringgate_wire::{AgpEncoder, agp};

use crate::messages;

/// Bytes pulled from a session at a time: as much as fits a socket's buffer.
const PULL_BYTES_MAX: usize = 256 * 1024;

/// The least that the gateway's limits allow: room for a few hundred topics.
const MATCH_CACHE_BYTES_MIN: u64 = 64 * 1024;

/// Topics that a session remembers policy's decisions about, all at once (`limits.decisions_max` is 256).
pub const TOPICS_REMEMBERED: usize = 200;

/// One core's gateway with its encoder.
pub struct Hub {
    gateway: Gateway,
    encoder: AgpEncoder,
    now: Now,
    ready: Vec<SessionId>,
    agents: usize,
}

impl Default for Hub {
    fn default() -> Hub {
        Hub::new()
    }
}

impl Hub {
    /// A gateway of one core whose limits do not get in the way of a benchmark.
    pub fn new() -> Hub {
        Hub::with_limits(Limits {
            subscriptions_max: 1_000_000,
            ..Limits::default()
        })
    }

    fn with_limits(limits: Limits) -> Hub {
        let mut config = GatewayConfig::development("bench", CoreId(0), 1, 7, Box::new(|| [7; 16]));
        config.limits = limits;
        let now = Now {
            mono: Instant::now(),
            unix_nanos: 1_700_000_000_000_000_000,
        };
        Hub {
            gateway: Gateway::new(config),
            encoder: AgpEncoder::default(),
            now,
            ready: Vec::new(),
            agents: 0,
        }
    }

    /// A registered agent.
    pub fn agent(&mut self) -> SessionId {
        let peer = PeerInfo {
            dialect: Dialect::Agp,
            address: "127.0.0.1:1".into(),
            identity: Identity::Declared,
            proof_uri: String::new(),
            connection: self.agents as u64,
        };
        let session = self.gateway.open(peer, &self.now);
        let name = messages::agent_name(self.agents);
        self.agents += 1;
        self.say(session, &messages::register(&name));
        session
    }

    /// Takes one message of an agent.
    ///
    /// # Panics
    /// When it cannot be decoded or the gateway pauses the agent: a benchmark sends nothing of the kind.
    pub fn say(&mut self, session: SessionId, message: &[u8]) {
        let action = agp::decode(message).expect("a benchmark sends good messages");
        let flow = self.gateway.apply(session, action, &self.now, &mut self.encoder);
        assert_eq!(flow, Flow::Continue);
    }

    /// Ends the turn, and gives every byte that waits to `write`, with the session it is for.
    pub fn flush(&mut self, mut write: impl FnMut(SessionId, &[u8])) {
        self.gateway.turn_end(&self.now, &mut self.encoder);
        while let Some(session) = self.gateway.next_ready() {
            self.ready.push(session);
        }
        while let Some(session) = self.ready.pop() {
            while let Some(bytes) = self
                .gateway
                .pull(session, PULL_BYTES_MAX, &self.now, &mut self.encoder)
            {
                write(session, &bytes);
            }
        }
        while let Some(effect) = self.gateway.next_effect() {
            assert!(
                !matches!(effect, Effect::End { .. }),
                "a benchmark's agents do nothing wrong: {effect:?}"
            );
        }
    }

    /// Ends the turn and throws away what was to be written. Returns how many bytes it was.
    pub fn drain(&mut self) -> usize {
        let mut written = 0;
        self.flush(|_, bytes| written += bytes.len());
        written
    }

    /// Ends an agent's session in order.
    pub fn leave(&mut self, session: SessionId) {
        self.gateway
            .close(session, Closing::Orderly, &self.now, &mut self.encoder);
    }

    /// Bytes of the run being built.
    pub fn pending(&self) -> usize {
        self.encoder.pending()
    }
}

/// A hub with one agent that publishes and `subscribers` that subscribe to [`messages::TOPIC`].
pub fn fan_out(subscribers: usize) -> (Hub, SessionId) {
    let mut hub = Hub::new();
    let publisher = hub.agent();
    let subscribe = messages::subscribe(1, messages::TOPIC);
    for _ in 0..subscribers {
        let subscriber = hub.agent();
        hub.say(subscriber, &subscribe);
    }
    hub.drain();
    (hub, publisher)
}

/// A hub with one agent that publishes and one that has `count` subscriptions, each to a topic of its own ([`topic`]). Unless
/// matches are `remembered`, the memory for them is too small to be of use, so that each publish searches the table.
pub fn table(count: usize, remembered: bool) -> (Hub, SessionId, SessionId) {
    let mut limits = Limits {
        subscriptions_max: 1_000_000,
        ..Limits::default()
    };
    if !remembered {
        limits.match_cache_bytes_max = MATCH_CACHE_BYTES_MIN;
    }
    let mut hub = Hub::with_limits(limits);
    let publisher = hub.agent();
    let subscriber = hub.agent();
    for number in 0..count {
        hub.say(
            subscriber,
            &messages::subscribe(number as u64 + 1, &topic(number)),
        );
        if number % 1024 == 0 {
            hub.drain();
        }
    }
    hub.drain();
    (hub, publisher, subscriber)
}

/// A small publish to each of `count` topics.
pub fn publishes(count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| messages::publish(&topic(number), 64))
        .collect()
}

/// The name of topic `number`: three segments, as topics have in practice.
pub fn topic(number: usize) -> String {
    format!("bench/{:03}/{:06}", number % 1000, number / 1000)
}
