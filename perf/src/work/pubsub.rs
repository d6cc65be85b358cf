//! Publishers and subscribers: fan-out, fan-in and many topics are all this.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::placed::{Placed, Usher};
use super::{
    Bounds, Clock, DRAIN_QUIET, Outcome, Pace, SAMPLE_EVERY, Target, check_payload, connect_all, histogram,
    record, wait_for,
};
use crate::Error;
use crate::fleet::{Fleet, QUIET_MAX};
use crate::wire::{Incoming, Plan, Role};

/// Messages that may be on their way at most in open loop. Beyond it the load falls behind its schedule, which latency shows.
const OUTSTANDING_MAX: usize = 1 << 18;
/// Publishes between two looks at what has arrived, so that a long window does not become one burst of unbounded size.
const BATCH_MAX: usize = 4096;

/// Publishers send to topics in turn; subscribers share the topics evenly.
#[derive(Debug, Clone, Copy)]
pub struct PubSub {
    /// Connections that publish, taking turns.
    pub publishers: usize,
    /// Connections that subscribe.
    pub subscribers: usize,
    /// Topics. Either the subscribers are a multiple of them (fan-out to several each) or they of the subscribers (several topics each).
    pub topics: usize,
    /// Bytes of a payload.
    pub payload_bytes: usize,
    /// When to publish.
    pub pace: Pace,
    /// Subscribers, besides the others, that subscribe to the first topic and then read nothing. What they miss is not counted.
    pub stalled: usize,
    /// Which of the server's cores the connections are on.
    pub placed: Placed,
}

impl PubSub {
    /// Runs it.
    ///
    /// # Errors
    /// When the numbers do not fit, the server cannot be reached, refuses, or stalls.
    pub fn run(&self, target: &Target, bounds: Bounds) -> Result<Outcome, Error> {
        self.check(target)?;
        let mut fleet = Fleet::new(target.dial)?;
        let plan = |role, index| Plan {
            role,
            index,
            run: target.run,
            payload_bytes: self.payload_bytes,
            mixed: self.publishers > 1,
            stalls: false,
        };
        let mut usher = Usher::new(self.placed, target)?;
        usher.connect(
            &mut fleet,
            (0..self.subscribers).map(|index| plan(Role::Subscriber, index)),
        )?;
        let publishers = usher.connect(
            &mut fleet,
            (0..self.publishers).map(|index| plan(Role::Publisher, index)),
        )?;
        let stalled = (0..self.stalled).map(|index| Plan {
            stalls: true,
            ..plan(Role::Subscriber, self.subscribers + index)
        });
        let stalled = connect_all(&mut fleet, stalled)?;
        if target.dial.protocol.has_subscriptions() {
            for topic in 0..self.topics.max(self.subscribers) {
                let subscriber = topic % self.subscribers;
                fleet.say(subscriber, |wire, out| {
                    wire.subscribe((topic % self.topics) as u32, out)
                });
            }
            for number in stalled..fleet.len() {
                fleet.say(number, |wire, out| wire.subscribe(0, out));
            }
            let count = (self.topics.max(self.subscribers) + self.stalled) as u64;
            wait_for(&mut fleet, "subscriptions to be confirmed", count, |incoming| {
                *incoming == Incoming::Subscribed
            })?;
        }
        (stalled..fleet.len()).for_each(|number| fleet.stall(number));
        Flow::new(self, fleet, publishers, Clock::start(bounds, target.pid)).run()
    }

    fn check(&self, target: &Target) -> Result<(), Error> {
        check_payload(self.payload_bytes)?;
        if self.publishers == 0 || self.subscribers == 0 || self.topics == 0 {
            return Err(Error::Invalid(
                "a publisher, a subscriber and a topic are the least",
            ));
        }
        if !self.topics.is_multiple_of(self.subscribers) && !self.subscribers.is_multiple_of(self.topics) {
            return Err(Error::Invalid(
                "--topics must divide --subscribers or be a multiple of it",
            ));
        }
        if self.topics > 1 && !target.dial.protocol.has_subscriptions() {
            return Err(Error::Unsupported {
                protocol: target.dial.protocol.name(),
                work: "several topics",
            });
        }
        if matches!(self.pace, Pace::Window(0)) {
            return Err(Error::Invalid("--window must be at least 1"));
        }
        Ok(())
    }

    /// Subscribers of each topic.
    fn receivers(&self) -> u32 {
        (self.subscribers / self.topics).max(1) as u32
    }

    /// The distance between two messages that the same subscriber gets.
    fn stride(&self) -> u64 {
        self.topics.min(self.subscribers) as u64
    }
}

/// A run under way.
struct Flow<'a> {
    work: &'a PubSub,
    fleet: Fleet,
    /// Number of the first publisher's connection; subscribers come before it.
    publishers: usize,
    clock: Clock,
    next_topic: u32,
    ledger: Ledger,
    latency: Histogram<u64>,
}

/// Which messages are on their way.
struct Ledger {
    /// For each message modulo the length: when it was sent or due, nanoseconds, and how many still wait for it.
    slots: Vec<Slot>,
    /// What each subscriber gets next.
    expected: Vec<u64>,
    stride: u64,
    receivers: u32,
    /// Whether subscribers must get messages in the order of their numbers.
    ordered: bool,
    sent: u64,
    outstanding: usize,
    delivered: u64,
    dropped: u64,
    misordered: u64,
    last_arrival: Instant,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    sent_nanos: u64,
    waiting: u32,
}

impl<'a> Flow<'a> {
    fn new(work: &'a PubSub, fleet: Fleet, publishers: usize, clock: Clock) -> Flow<'a> {
        let slots = match work.pace {
            Pace::Window(window) => (4 * window).next_power_of_two(),
            Pace::PerSecond(_) => OUTSTANDING_MAX,
        };
        let stride = work.stride();
        let ledger = Ledger {
            slots: vec![Slot::default(); slots],
            expected: (0..work.subscribers as u64)
                .map(|subscriber| subscriber % stride)
                .collect(),
            stride,
            receivers: work.receivers(),
            ordered: work.publishers == 1,
            sent: 0,
            outstanding: 0,
            delivered: 0,
            dropped: 0,
            misordered: 0,
            last_arrival: Instant::now(),
        };
        Flow {
            work,
            fleet,
            publishers,
            clock,
            next_topic: 0,
            ledger,
            latency: histogram(),
        }
    }

    fn run(mut self) -> Result<Outcome, Error> {
        loop {
            let now = Instant::now();
            if self.clock.tick(now, self.ledger.sent, self.ledger.delivered)? {
                break;
            }
            let due = self.publish(now);
            self.fleet.flush()?;
            self.turn(due.min(now + QUIET_MAX))?;
            self.check_progress()?;
        }
        self.finish()
    }

    /// Publishes what the pace allows, and returns when there will be more to do.
    fn publish(&mut self, now: Instant) -> Instant {
        let nanos = self.clock.nanos(now);
        match self.work.pace {
            Pace::Window(window) => {
                while self.ledger.outstanding < window && self.ledger.has_room() {
                    self.send(nanos);
                }
                now + QUIET_MAX
            }
            Pace::PerSecond(rate) => {
                let due_nanos = |sequence: u64| (sequence as f64 * 1e9 / rate) as u64;
                if self.ledger.has_room() {
                    self.clock.note_late(due_nanos(self.ledger.sent), nanos);
                }
                let mut batch = 0;
                while due_nanos(self.ledger.sent) <= nanos && self.ledger.has_room() && batch < BATCH_MAX {
                    self.send(due_nanos(self.ledger.sent));
                    batch += 1;
                }
                self.clock.base + Duration::from_nanos(due_nanos(self.ledger.sent))
            }
        }
    }

    fn send(&mut self, sent_nanos: u64) {
        let sequence = self.ledger.send(sent_nanos);
        let publisher = match self.work.publishers {
            1 => self.publishers,
            count => self.publishers + (sequence % count as u64) as usize,
        };
        let topic = self.next_topic;
        self.next_topic = if topic as usize + 1 == self.work.topics {
            0
        } else {
            topic + 1
        };
        self.fleet
            .say(publisher, |wire, out| wire.publish(topic, sequence, out));
    }

    fn turn(&mut self, deadline: Instant) -> Result<(), Error> {
        let (ledger, clock, latency) = (&mut self.ledger, &self.clock, &mut self.latency);
        let sample_mask = match self.work.pace {
            Pace::Window(_) => SAMPLE_EVERY - 1,
            Pace::PerSecond(_) => 0,
        };
        let measuring = clock.is_measuring();
        self.fleet.turn(deadline, |number, _, inbox, now| {
            let nanos = clock.nanos(now);
            for incoming in inbox {
                match *incoming {
                    Incoming::Message(sequence) => {
                        let (sequence, sent_nanos) = ledger.arrive(number, sequence);
                        if measuring && sequence & sample_mask == 0 {
                            record(latency, nanos.saturating_sub(sent_nanos));
                        }
                    }
                    Incoming::Dropped(count) => ledger.dropped += count,
                    _ => {}
                }
            }
            ledger.last_arrival = now;
        })
    }

    /// Ends a run in which nothing moves any more.
    fn check_progress(&self) -> Result<(), Error> {
        if self.ledger.dropped > 0 && matches!(self.work.pace, Pace::Window(_)) {
            return Err(Error::Dropped {
                count: self.ledger.dropped,
            });
        }
        let stalled = self.ledger.outstanding > 0 && self.ledger.last_arrival.elapsed() > QUIET_MAX;
        match stalled {
            true => Err(Error::Stalled {
                what: "deliveries",
                quiet: QUIET_MAX,
                missing: self.ledger.missing(),
            }),
            false => Ok(()),
        }
    }

    /// Closes the books, and then waits for what is still on its way, so that a loss can be told from lateness.
    fn finish(mut self) -> Result<Outcome, Error> {
        let latency = std::mem::replace(&mut self.latency, histogram());
        let mut outcome = self
            .clock
            .stop(self.ledger.sent, self.ledger.delivered, latency)?;
        while self.ledger.missing() > 0 {
            let deadline = self.ledger.last_arrival + DRAIN_QUIET;
            self.turn(deadline)?;
            if Instant::now() >= deadline {
                break;
            }
        }
        outcome.lost = self.ledger.missing().max(self.ledger.dropped);
        outcome.misordered = self.ledger.misordered;
        self.fleet.leave();
        Ok(outcome)
    }
}

impl Ledger {
    /// Whether the next message has a slot of its own.
    #[inline]
    fn has_room(&self) -> bool {
        self.slots[self.sent as usize & (self.slots.len() - 1)].waiting == 0
    }

    #[inline]
    fn send(&mut self, sent_nanos: u64) -> u64 {
        let sequence = self.sent;
        let mask = self.slots.len() - 1;
        self.slots[sequence as usize & mask] = Slot {
            sent_nanos,
            waiting: self.receivers,
        };
        self.sent += 1;
        self.outstanding += 1;
        sequence
    }

    /// Notes an arrival. Returns the message's number and when it was sent.
    #[inline]
    fn arrive(&mut self, subscriber: usize, sequence: Option<u64>) -> (u64, u64) {
        let expected = self.expected[subscriber];
        let sequence = sequence.unwrap_or(expected);
        if self.ordered && sequence != expected {
            self.out_of_step(sequence, expected);
        }
        self.expected[subscriber] = sequence + self.stride;
        self.delivered += 1;
        (sequence, self.settle(sequence))
    }

    /// One subscriber waits for a message no more. Returns when the message was sent.
    #[inline]
    fn settle(&mut self, sequence: u64) -> u64 {
        let mask = self.slots.len() - 1;
        let slot = &mut self.slots[sequence as usize & mask];
        slot.waiting = slot.waiting.saturating_sub(1);
        if slot.waiting == 0 {
            self.outstanding = self.outstanding.saturating_sub(1);
        }
        slot.sent_nanos
    }

    /// Messages that were skipped will not come any more, so that nothing waits for them; they stay missing.
    #[cold]
    fn out_of_step(&mut self, sequence: u64, expected: u64) {
        if sequence < expected {
            self.misordered += 1;
            return;
        }
        let mut skipped = expected;
        while skipped < sequence.min(self.sent) {
            self.settle(skipped);
            skipped += self.stride;
        }
    }

    /// Deliveries that have not arrived.
    fn missing(&self) -> u64 {
        (self.sent * u64::from(self.receivers)).saturating_sub(self.delivered)
    }
}
