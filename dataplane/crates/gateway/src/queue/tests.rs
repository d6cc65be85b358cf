//! The queue against its promise: what was pushed is pulled in order, or counted in a `Gap` that stands where it was lost.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::action::DeliveryPolicy;
use crate::outgoing::{Dialect, Encoder, Outgoing};

/// A frame is its length (4 bytes), a tag, the subscription or control (8 bytes), a number (8 bytes), and padding.
#[derive(Default)]
struct Plain(BytesMut);

const HEAD: usize = 21;

fn frame(tag: u8, lane: u64, number: u64, padding: usize) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.extend_from_slice(&((HEAD + padding) as u32).to_be_bytes());
    bytes.extend_from_slice(&[tag]);
    bytes.extend_from_slice(&lane.to_be_bytes());
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.resize(HEAD + padding, 0);
    bytes.freeze()
}

impl Encoder for Plain {
    fn append(&mut self, _: Dialect, message: &Outgoing<'_>) {
        if let Outgoing::Gap {
            subscription,
            dropped,
            ..
        } = *message
        {
            self.0.extend_from_slice(&frame(b'G', subscription, dropped, 0));
        }
    }

    fn pending(&self) -> usize {
        self.0.len()
    }

    fn take(&mut self) -> Bytes {
        self.0.split().freeze()
    }

    fn first_len(_: Dialect, run: &[u8]) -> usize {
        u32::from_be_bytes(run[..4].try_into().expect("a frame")) as usize
    }

    fn own(&mut self, body: &[u8]) -> Bytes {
        Bytes::copy_from_slice(body)
    }
}

/// A queue, and what is known of each of its lanes.
struct Bench {
    queue: Queue,
    ledger: Ledger,
    enc: Plain,
    stream: Vec<u8>,
    lanes: Vec<Book>,
    chance: u64,
}

struct Book {
    key: u32,
    policy: DeliveryPolicy,
    bound: u64,
    pushed: u64,
    /// The last message received, and losses told since.
    received: u64,
    lost: u64,
    told: u64,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let mut queue = Queue::default();
        let policies = [
            DeliveryPolicy::DropOldest,
            DeliveryPolicy::DropOldest,
            DeliveryPolicy::DropNewest,
            DeliveryPolicy::Latest,
        ];
        let lanes = (1..).zip(policies).map(|(id, policy)| {
            let bound = 150 * id;
            let exact = id != 2 && policy != DeliveryPolicy::Latest;
            let pattern = Arc::from("t0");
            let spec = LaneSpec {
                id,
                pattern,
                born: 0,
                bound: bound as u32,
                block_ms: 0,
                policy,
                exact,
            };
            let key = queue.lanes.insert(Lane::new(spec)) as u32;
            Book {
                key,
                policy,
                bound,
                pushed: 0,
                received: 0,
                lost: 0,
                told: 0,
            }
        });
        let lanes = lanes.collect();
        let ledger = Ledger::new(2000);
        Self {
            queue,
            ledger,
            enc: Plain::default(),
            stream: Vec::new(),
            lanes,
            chance: seed,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.chance = self
            .chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) % bound
    }

    fn push(&mut self) {
        let at = self.below(4) as usize;
        let topic: Arc<str> = match self.lanes[at].policy {
            DeliveryPolicy::Latest => format!("t{}", self.below(3)).into(),
            _ => "t0".into(),
        };
        let messages = 1 + self.below(4) as u32;
        let mut run = BytesMut::new();
        for _ in 0..messages {
            let padding = self.below(40) as usize;
            let book = &mut self.lanes[at];
            book.pushed += 1;
            run.extend_from_slice(&frame(b'M', at as u64 + 1, book.pushed, padding));
        }
        let bytes = run.freeze();
        let run = Run {
            dialect: Dialect::Agp,
            topic: &topic,
            bytes: &bytes,
            messages,
        };
        let pushed = self
            .queue
            .push_run::<Plain>(self.lanes[at].key, run, &mut self.ledger);
        assert!(matches!(pushed, Pushed::Queued(_)));
    }

    fn pull(&mut self, bytes_max: usize) -> bool {
        let Some(pulled) = self
            .queue
            .pull(bytes_max, Dialect::Agp, &mut self.enc, &mut self.ledger)
        else {
            return false;
        };
        assert!(!pulled.bytes.is_empty() && pulled.bytes.len() <= bytes_max);
        self.stream.extend_from_slice(&pulled.bytes);
        while self.stream.len() >= 4 && self.stream.len() >= Plain::first_len(Dialect::Agp, &self.stream) {
            let len = Plain::first_len(Dialect::Agp, &self.stream);
            let message: Vec<u8> = self.stream.drain(..len).collect();
            self.hear(&message);
        }
        true
    }

    fn hear(&mut self, message: &[u8]) {
        let number = |at: usize| u64::from_be_bytes(message[at..at + 8].try_into().expect("eight bytes"));
        let (lane, value) = (number(5), number(13));
        match message[4] {
            b'M' => {
                let book = &mut self.lanes[lane as usize - 1];
                assert!(value > book.received, "order");
                if book.policy != DeliveryPolicy::Latest {
                    assert_eq!(
                        value - book.received - 1,
                        book.lost,
                        "a Gap at its place with the exact count"
                    );
                }
                (book.received, book.lost) = (value, 0);
                book.told += 1;
            }
            b'G' => {
                let book = &mut self.lanes[lane as usize - 1];
                book.lost += value;
                book.told += value;
            }
            _ => {}
        }
    }

    fn check(&self) {
        let waiting: u64 = self
            .lanes
            .iter()
            .map(|book| self.queue.lanes[book.key as usize].waiting())
            .sum();
        assert_eq!(self.queue.bytes(), waiting + self.queue.control_bytes());
        assert_eq!(self.queue.bytes(), self.ledger.queued_bytes);
        for book in &self.lanes {
            assert!(self.queue.lanes[book.key as usize].waiting() <= book.bound);
        }
    }
}

#[test]
fn whatever_happens_each_message_is_delivered_or_counted() {
    for seed in 0..200 {
        let mut bench = Bench::new(seed);
        for _ in 0..600 {
            match bench.below(20) {
                0..=9 => bench.push(),
                10..=15 => {
                    let bytes_max = 1 + bench.below(120) as usize;
                    bench.pull(bytes_max);
                }
                16 => bench.queue.push_control(frame(b'C', 0, 0, 5), &mut bench.ledger),
                17 => {
                    let copied = bench.queue.settle();
                    assert!(copied < 100_000);
                }
                18 => {
                    bench.queue.detach(&mut bench.ledger);
                    bench.stream.clear();
                }
                _ => {
                    let shipments = bench.queue.export_for_test(&mut bench.ledger);
                    for (key, shipment) in shipments {
                        bench.import(key, shipment);
                    }
                }
            }
            bench.check();
        }
        while bench.pull(1000) {}
        assert!(bench.queue.is_empty() && bench.queue.bytes() == 0);
        for book in &bench.lanes {
            assert_eq!(book.told, book.pushed, "seed {seed}, {:?}", book.policy);
        }
    }
}

impl Bench {
    fn import(&mut self, key: u32, shipment: Shipment) {
        match shipment.cargo {
            Cargo::Gap(gap) => self.queue.push_gap(key, gap),
            Cargo::Run {
                topic,
                bytes,
                messages,
            } => {
                let run = Run {
                    dialect: Dialect::Agp,
                    topic: &topic,
                    bytes: &bytes,
                    messages,
                };
                self.queue.push_run::<Plain>(key, run, &mut self.ledger);
            }
        }
    }
}

impl Queue {
    /// Exports after the stream was lost, as a handover does.
    fn export_for_test(&mut self, ledger: &mut Ledger) -> Vec<(u32, Shipment)> {
        if self.torn.is_some() {
            return Vec::new();
        }
        let shipments = self.export(ledger);
        let key = |id: u64| {
            let lane = self.lanes.iter().find(|(_, lane)| lane.id == id);
            lane.map_or(0, |(key, _)| key as u32)
        };
        shipments
            .into_iter()
            .map(|shipment| (key(shipment.subscription), shipment))
            .collect()
    }
}

#[test]
fn a_stalled_reader_costs_what_waits_for_it() {
    let mut bench = Bench::new(1);
    for _ in 0..20_000 {
        bench.push();
    }
    assert!(
        bench.queue.segments.len() < 200,
        "{} segments",
        bench.queue.segments.len()
    );
    bench.queue.settle();
    bench.queue.settle();
    let joined = bench
        .queue
        .segments
        .iter()
        .filter(|segment| !matches!(segment.body, Body::Dead))
        .count();
    assert!(joined < 60, "{joined} segments after joining neighbours");
}
