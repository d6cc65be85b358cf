//! Subscriptions that come and go in a table of a given size.

use std::time::Instant;

use super::{Bounds, Clock, Outcome, Target, connect_all, histogram, record, wait_for};
use crate::Error;
use crate::fleet::{Fleet, QUIET_MAX};
use crate::wire::{Incoming, Plan, Role};

/// Subscriptions asked for at a time while the table is filled.
const FILL_STEP: usize = 1024;

/// One connection makes and gives up subscriptions, while others hold the rest of the table.
#[derive(Debug, Clone, Copy)]
pub struct Churn {
    /// Subscriptions that stand all the time.
    pub standing: usize,
    /// Connections that hold them.
    pub holders: usize,
    /// Changes under way at a time.
    pub window: usize,
}

impl Churn {
    /// Runs it. `done` are changes that were confirmed; each subscription made is given up again.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses, or stalls, and with protocols that have no subscriptions or do not confirm them.
    pub fn run(&self, target: &Target, bounds: Bounds) -> Result<Outcome, Error> {
        if !target.dial.protocol.confirms_subscriptions() {
            return Err(Error::Unsupported {
                protocol: target.dial.protocol.name(),
                work: "subscription churn",
            });
        }
        if self.window == 0 || self.holders == 0 {
            return Err(Error::Invalid("a holder and a window of 1 are the least"));
        }
        let mut fleet = Fleet::new(target.dial)?;
        let plan = |index| Plan {
            role: Role::Subscriber,
            index,
            run: target.run,
            payload_bytes: 8,
            mixed: false,
            stalls: false,
        };
        connect_all(&mut fleet, (0..self.holders).map(plan))?;
        let churner = connect_all(&mut fleet, std::iter::once(plan(self.holders)))?;
        self.fill(&mut fleet)?;
        self.churn(fleet, churner, Clock::start(bounds, target.pid))
    }

    fn fill(&self, fleet: &mut Fleet) -> Result<(), Error> {
        for start in (0..self.standing).step_by(FILL_STEP) {
            let end = self.standing.min(start + FILL_STEP);
            for topic in start..end {
                fleet.say(topic % self.holders, |wire, out| {
                    wire.subscribe(topic as u32, out)
                });
            }
            wait_for(
                fleet,
                "subscriptions to be confirmed",
                (end - start) as u64,
                |incoming| *incoming == Incoming::Subscribed,
            )?;
        }
        Ok(())
    }

    fn churn(&self, mut fleet: Fleet, churner: usize, mut clock: Clock) -> Result<Outcome, Error> {
        let mut latency = histogram();
        let mut asked_at = vec![Instant::now(); (2 * self.window).next_power_of_two()];
        let mask = asked_at.len() - 1;
        let (mut asked, mut confirmed) = (0u64, 0u64);
        loop {
            let now = Instant::now();
            if clock.tick(now, asked, confirmed)? {
                let outcome = clock.stop(asked, confirmed, latency)?;
                fleet.leave();
                return Ok(outcome);
            }
            while asked - confirmed < self.window as u64 {
                // Even changes subscribe, odd ones give up what the change before has made.
                let topic = (self.standing as u64 + asked / 2 % u64::from(u16::MAX)) as u32;
                fleet.say(churner, |wire, out| match asked % 2 {
                    0 => wire.subscribe(topic, out),
                    _ => wire.unsubscribe(topic, out),
                });
                asked_at[asked as usize & mask] = now;
                asked += 1;
            }
            fleet.flush()?;
            let measuring = clock.is_measuring();
            let deadline = now + QUIET_MAX;
            fleet.turn(deadline, |_, _, inbox, now| {
                for _ in inbox.iter().filter(|incoming| **incoming == Incoming::Subscribed) {
                    if measuring {
                        let waited = now.saturating_duration_since(asked_at[confirmed as usize & mask]);
                        record(&mut latency, waited.as_nanos() as u64);
                    }
                    confirmed += 1;
                }
            })?;
            if Instant::now() >= deadline {
                return Err(Error::Stalled {
                    what: "confirmations",
                    quiet: QUIET_MAX,
                    missing: asked - confirmed,
                });
            }
        }
    }
}
