//! Connections for their own sake: how fast they come up, and what they hold while idle.

use std::time::{Duration, Instant};

use super::{Outcome, Target, histogram, record};
use crate::Error;
use crate::fleet::{Fleet, QUIET_MAX};
use crate::process::Usage;
use crate::wire::{Incoming, Plan, Role};

/// Opens many connections, some at a time, each up to the point where it can be used.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// How many.
    pub count: usize,
    /// How many may be on their way to readiness at the same time.
    pub at_once: usize,
    /// How long to hold them, idle, before memory is read.
    pub hold: Duration,
}

impl Connections {
    /// Runs it. `done` are connections that became ready, `elapsed` is the time until all were (without the hold), and `usage` is the
    /// server's before the first and after the hold.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses, or stalls.
    pub fn run(&self, target: &Target) -> Result<Outcome, Error> {
        if self.count == 0 || self.at_once == 0 {
            return Err(Error::Invalid("one connection at a time is the least"));
        }
        let mut fleet = Fleet::new(target.dial)?;
        let before = target.pid.map(Usage::of).transpose()?;
        let load = Usage::of(std::process::id())?;
        let begun = Instant::now();
        let mut dialled = Vec::with_capacity(self.count);
        let mut latency = histogram();
        let mut ready = 0;
        while ready < self.count {
            while dialled.len() < self.count && dialled.len() - ready < self.at_once {
                let index = dialled.len();
                dialled.push(Instant::now());
                fleet.connect(&Plan {
                    role: Role::Subscriber,
                    index,
                    run: target.run,
                    payload_bytes: 8,
                    mixed: false,
                    stalls: false,
                })?;
            }
            let deadline = Instant::now() + QUIET_MAX;
            fleet.turn(deadline, |number, _, inbox, now| {
                if inbox.contains(&Incoming::Ready) {
                    ready += 1;
                    record(
                        &mut latency,
                        now.saturating_duration_since(dialled[number]).as_nanos() as u64,
                    );
                }
            })?;
            if Instant::now() >= deadline {
                let missing = (self.count - ready) as u64;
                return Err(Error::Stalled {
                    what: "connections",
                    quiet: QUIET_MAX,
                    missing,
                });
            }
        }
        let elapsed = begun.elapsed();
        let load_waited = Usage::of(std::process::id())?.waited.saturating_sub(load.waited);
        let busy = target.pid.map(Usage::of).transpose()?;
        hold(&mut fleet, self.hold)?;
        let after = target.pid.map(Usage::of).transpose()?;
        fleet.leave();
        Ok(Outcome {
            elapsed,
            sent: self.count as u64,
            done: ready as u64,
            latency,
            cpu: before
                .zip(busy)
                .map(|(before, busy)| busy.cpu.saturating_sub(before.cpu)),
            usage: before.zip(after),
            load_waited,
            load_late: Duration::ZERO,
            lost: 0,
            misordered: 0,
        })
    }
}

/// Keeps the connections open, answering what must be answered.
fn hold(fleet: &mut Fleet, time: Duration) -> Result<(), Error> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        fleet.turn(until, |_, _, _, _| {})?;
    }
    Ok(())
}
