//! A switch that speaks SLIM or AGP 2025 allocates nothing for a message or a delivery, once buffers have grown.
//!
//! `RINGGATE_HOT_PATH=1 cargo test --release -p ringgate-wire --test hot_path -- --nocapture --test-threads 1` also prints what it costs.

mod pubsub_proto;
mod slim_support;

use std::time::{Duration, Instant};

use prost::Message as _;
use ringgate_switch::{ConnectionId, Dialect, Peer, Switch, SwitchConfig};
use ringgate_wire::slim::client::{AppName, Client};
use ringgate_wire::slim::{HeaderMac, SlimConfig};
use ringgate_wire::{PubSub, Slim};
use slim_support::{Node, greeting, name, plain, publish};

/// A token as clients send them: 228 bytes.
const IDENTITY: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJvcmcvbnMvYWxpY2UiLCJleHAiOjE3NjM4MjcyMDB9.\
    sssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss\
    sssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss";

/// Time that this thread has had on a CPU: what others do meanwhile does not count.
fn cpu() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let ns = schedstat.split(' ').next().unwrap();
    Duration::from_nanos(ns.parse().unwrap())
}

/// A switch with one publisher and many subscribers, and the message that goes to them all.
struct Bench<D: Dialect> {
    switch: Switch<D>,
    now: Instant,
    publisher: ConnectionId,
    readers: u64,
    message: Vec<u8>,
    pulled: u64,
}

/// Connects a client and has it subscribe to the room.
fn join(
    switch: &mut Switch<Slim>,
    now: Instant,
    number: u16,
    is_keyed: bool,
    room: Option<&AppName>,
) -> (Client, ConnectionId) {
    let id = switch.open(Peer::default(), now).unwrap();
    let mut greeting = greeting((number % 200) as u8 + 1);
    greeting.link_id = format!("00000000-0000-4000-8000-00000000{number:04x}");
    greeting.node_id = format!("node-{number}");
    let greeting = if is_keyed { greeting } else { plain(greeting) };
    switch.message(id, &greeting.message(), now);
    let reply = switch.pull(id, 1 << 20).expect("a reply");
    let mut client = greeting.finish(&reply[5..]).unwrap();
    if let Some(room) = room {
        switch.message(id, &client.subscribe(room, IDENTITY, 1), now);
    }
    switch.turn_end(now);
    while switch.pull(id, 1 << 20).is_some() {}
    (client, id)
}

fn slim(readers: u16, payload: usize, header_mac: HeaderMac) -> Bench<Slim> {
    let config = SlimConfig {
        header_mac,
        ..SlimConfig::default()
    };
    let now = Instant::now();
    let mut switch = Switch::new(SwitchConfig::new(0, 1, 7), Node::new(config).0, now);
    let is_keyed = header_mac != HeaderMac::Off;
    let room = name("room", 9);
    for number in 0..readers {
        join(&mut switch, now, number + 1, is_keyed, Some(&room));
    }
    let (mut client, publisher) = join(&mut switch, now, 0, is_keyed, None);
    let alice = name("alice", 1);
    let payload = vec![7; payload];
    let message = client.publish(&slim_support::Publish {
        fanout: 256,
        identity: IDENTITY,
        ..publish(&alice, &room, &payload)
    });
    Bench {
        switch,
        now,
        publisher,
        readers: readers.into(),
        message: message.to_vec(),
        pulled: 0,
    }
}

fn pubsub(readers: u16) -> Bench<PubSub> {
    let now = Instant::now();
    let mut switch = Switch::new(SwitchConfig::new(0, 1, 7), PubSub::default(), now);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut message = pubsub_proto::publish(&mut rng);
    let Some(pubsub_proto::Kind::Publish(sent)) = &mut message.kind else {
        panic!()
    };
    let header = sent.header.as_mut().unwrap();
    (header.recv_from, header.forward_to, header.fanout) = (None, None, 50);
    let subscribe = pubsub_proto::Message {
        kind: Some(pubsub_proto::Kind::Subscribe(pubsub_proto::Subscribe {
            header: sent.header.clone(),
        })),
        ..Default::default()
    };
    for _ in 0..readers {
        let id = switch.open(Peer::default(), now).unwrap();
        switch.message(id, &subscribe.encode_to_vec(), now);
    }
    let publisher = switch.open(Peer::default(), now).unwrap();
    Bench {
        switch,
        now,
        publisher,
        readers: readers.into(),
        message: message.encode_to_vec(),
        pulled: 0,
    }
}

impl<D: Dialect> Bench<D> {
    /// `turns` turns in each of which `burst` messages arrive and everything is pulled.
    fn run(&mut self, turns: u64, burst: u64) {
        for _ in 0..turns {
            for _ in 0..burst {
                self.switch.message(self.publisher, &self.message, self.now);
            }
            self.switch.turn_end(self.now);
            while let Some(id) = self.switch.next_ready() {
                while let Some(bytes) = self.switch.pull(id, 16 << 10) {
                    self.pulled += bytes.len() as u64;
                }
            }
            self.now += Duration::from_millis(1);
            if self.switch.next_deadline().is_some_and(|at| at <= self.now) {
                self.switch.tick(self.now);
            }
        }
    }

    fn check(mut self, what: &str, burst: u64) {
        let turns = 2_000 / burst / self.readers.min(100) + 2;
        self.run(turns, burst);
        let before = self.pulled;
        let counted = allocation_counter::measure(|| self.run(turns, burst));
        assert_eq!(counted.count_total, 0, "{what}");
        let delivered = turns * burst * self.readers;
        assert!(self.pulled - before >= delivered * self.message.len() as u64);
        assert_eq!(self.switch.stats().queued_bytes, 0);
        if std::env::var_os("RINGGATE_HOT_PATH").is_some() {
            let turns = turns * 100;
            let start = cpu();
            self.run(turns, burst);
            let ns = (cpu() - start).as_nanos() as f64 / (turns * burst * self.readers) as f64;
            println!(
                "{what}, {} subscribers, {burst} at a time: {ns:.0} ns for each delivery",
                self.readers
            );
        }
    }
}

#[test]
fn with_authenticated_headers() {
    for (readers, payload, burst) in [
        (1, 256, 1),
        (1, 256, 16),
        (100, 256, 1),
        (100, 256, 16),
        (100, 16 << 10, 4),
    ] {
        let what = format!("SLIM with codes, {payload} bytes");
        slim(readers, payload, HeaderMac::Offered).check(&what, burst);
    }
}

#[test]
fn without_authenticated_headers() {
    for (readers, burst) in [(1, 16), (100, 1), (100, 16)] {
        slim(readers, 256, HeaderMac::Off).check("SLIM without codes, 256 bytes", burst);
    }
}

#[test]
fn agp_2025() {
    for (readers, burst) in [(1, 16), (100, 1), (100, 16)] {
        pubsub(readers).check("AGP 2025", burst);
    }
}

/// Prints what a Subscribe costs where there are many; the codes of the requests are made beforehand.
#[test]
fn subscribes_are_acknowledged() {
    let names: u128 = match std::env::var_os("RINGGATE_HOT_PATH") {
        Some(_) => 20_000,
        None => 200,
    };
    let now = Instant::now();
    let mut switch = Switch::new(
        SwitchConfig::new(0, 1, 7),
        Node::new(SlimConfig::default()).0,
        now,
    );
    let (mut client, id) = join(&mut switch, now, 1, true, None);
    let requests = |client: &mut Client, from: u128| -> Vec<_> {
        (from..from + names)
            .map(|instance| client.subscribe(&name("many", instance), IDENTITY, instance as u64 + 1))
            .collect()
    };
    let mut cost = Duration::ZERO;
    for from in [0, names] {
        let requests = requests(&mut client, from);
        let start = cpu();
        for turn in requests.chunks(64) {
            turn.iter().for_each(|request| switch.message(id, request, now));
            switch.turn_end(now);
            while switch.pull(id, 16 << 10).is_some() {}
        }
        cost = cpu() - start;
    }
    assert_eq!(u128::from(switch.stats().subscriptions), 2 * names);
    assert_eq!(switch.stats().subscribes_waiting, 0);
    if names == 20_000 {
        println!(
            "{:.0} subscribes/s with 20 000 to 40 000 names",
            names as f64 / cost.as_secs_f64()
        );
    }
}
