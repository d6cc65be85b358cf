//! Requests and their answers.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::{
    Bounds, Clock, DRAIN_QUIET, Outcome, Pace, Target, check_payload, connect_all, histogram, record,
};
use crate::Error;
use crate::fleet::{Fleet, QUIET_MAX};
use crate::wire::{Incoming, Plan, Role};

/// Requests that may be unanswered at most in open loop.
const OUTSTANDING_MAX: usize = 1 << 16;

/// One requester asks responders in turn; each answers at once, with as many bytes.
#[derive(Debug, Clone, Copy)]
pub struct Requests {
    /// Connections that answer.
    pub responders: usize,
    /// Bytes of a payload, both ways.
    pub payload_bytes: usize,
    /// When to ask.
    pub pace: Pace,
}

impl Requests {
    /// Runs it.
    ///
    /// # Errors
    /// When the numbers do not fit, the server cannot be reached, refuses, or stalls.
    pub fn run(&self, target: &Target, bounds: Bounds) -> Result<Outcome, Error> {
        check_payload(self.payload_bytes)?;
        if self.responders == 0 || matches!(self.pace, Pace::Window(0)) {
            return Err(Error::Invalid("a responder and a window of 1 are the least"));
        }
        if self.responders > 1 && !target.dial.protocol.has_subscriptions() {
            return Err(Error::Unsupported {
                protocol: target.dial.protocol.name(),
                work: "several responders",
            });
        }
        let mut fleet = Fleet::new(target.dial)?;
        let plan = |role, index| Plan {
            role,
            index,
            run: target.run,
            payload_bytes: self.payload_bytes,
            mixed: false,
            stalls: false,
        };
        connect_all(
            &mut fleet,
            (0..self.responders).map(|index| plan(Role::Responder, index)),
        )?;
        let requester = connect_all(&mut fleet, std::iter::once(plan(Role::Requester, 0)))?;
        Exchange {
            work: self,
            fleet,
            requester,
            clock: Clock::start(bounds, target.pid),
            sent_nanos: vec![None; self.outstanding_max().next_power_of_two()],
            sent: 0,
            answered: 0,
            last_arrival: Instant::now(),
            latency: histogram(),
        }
        .run()
    }

    fn outstanding_max(&self) -> usize {
        match self.pace {
            Pace::Window(window) => window,
            Pace::PerSecond(_) => OUTSTANDING_MAX,
        }
    }
}

/// A run under way.
struct Exchange<'a> {
    work: &'a Requests,
    fleet: Fleet,
    requester: usize,
    clock: Clock,
    /// When each unanswered request was sent or due, by its number modulo the length.
    sent_nanos: Vec<Option<u64>>,
    sent: u64,
    answered: u64,
    last_arrival: Instant,
    latency: Histogram<u64>,
}

impl Exchange<'_> {
    fn run(mut self) -> Result<Outcome, Error> {
        loop {
            let now = Instant::now();
            if self.clock.tick(now, self.sent, self.answered)? {
                return self.finish();
            }
            let due = self.ask(now);
            self.fleet.flush()?;
            self.turn(due.min(now + QUIET_MAX))?;
            let missing = self.sent - self.answered;
            if missing > 0 && self.last_arrival.elapsed() > QUIET_MAX {
                return Err(Error::Stalled {
                    what: "answers",
                    quiet: QUIET_MAX,
                    missing,
                });
            }
        }
    }

    /// Closes the books, and then waits for the answers that are still on their way, so that a loss can be told from lateness.
    fn finish(mut self) -> Result<Outcome, Error> {
        let latency = std::mem::replace(&mut self.latency, histogram());
        let mut outcome = self.clock.stop(self.sent, self.answered, latency)?;
        while self.sent > self.answered {
            let deadline = self.last_arrival + DRAIN_QUIET;
            self.fleet.flush()?;
            self.turn(deadline)?;
            if Instant::now() >= deadline {
                break;
            }
        }
        outcome.lost = self.sent - self.answered;
        self.fleet.leave();
        Ok(outcome)
    }

    /// Asks as much as the pace allows, and returns when there will be more to do.
    fn ask(&mut self, now: Instant) -> Instant {
        let nanos = self.clock.nanos(now);
        match self.work.pace {
            Pace::Window(window) => {
                while self.sent - self.answered < window as u64 && self.has_room() {
                    self.send(nanos);
                }
                now + QUIET_MAX
            }
            Pace::PerSecond(rate) => {
                let due_nanos = |sequence: u64| (sequence as f64 * 1e9 / rate) as u64;
                if self.has_room() {
                    self.clock.note_late(due_nanos(self.sent), nanos);
                }
                while due_nanos(self.sent) <= nanos && self.has_room() {
                    self.send(due_nanos(self.sent));
                }
                self.clock.base + Duration::from_nanos(due_nanos(self.sent))
            }
        }
    }

    fn slot(&self, sequence: u64) -> usize {
        sequence as usize & (self.sent_nanos.len() - 1)
    }

    fn has_room(&self) -> bool {
        self.sent_nanos[self.slot(self.sent)].is_none()
    }

    fn send(&mut self, sent_nanos: u64) {
        let sequence = self.sent;
        let slot = self.slot(sequence);
        self.sent_nanos[slot] = Some(sent_nanos);
        self.sent += 1;
        let responder = (sequence % self.work.responders as u64) as usize;
        self.fleet
            .say(self.requester, |wire, out| wire.request(responder, sequence, out));
    }

    fn turn(&mut self, deadline: Instant) -> Result<(), Error> {
        let mask = self.sent_nanos.len() - 1;
        let measuring = self.clock.is_measuring();
        let (clock, latency, answered) = (&self.clock, &mut self.latency, &mut self.answered);
        let (sent_nanos, last_arrival) = (&mut self.sent_nanos, &mut self.last_arrival);
        self.fleet.turn(deadline, |_, member, inbox, now| {
            for incoming in inbox {
                match *incoming {
                    Incoming::Request { token, sequence } => {
                        member.say(|wire, out| wire.respond(token, sequence, out));
                    }
                    Incoming::Response(sequence) => {
                        let Some(sent) = sent_nanos[sequence as usize & mask].take() else {
                            continue;
                        };
                        *answered += 1;
                        if measuring {
                            record(latency, clock.nanos(now).saturating_sub(sent));
                        }
                    }
                    _ => {}
                }
            }
            *last_arrival = now;
        })
    }
}
