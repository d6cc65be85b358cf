//! What the load does. Each work runs over any protocol that has what it takes.

mod churn;
mod connections;
mod placed;
mod pubsub;
mod request;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::fleet::{Dial, Fleet, QUIET_MAX};
use crate::process::Usage;
use crate::wire::{Incoming, Plan};
use crate::{Error, wire};

pub use churn::Churn;
pub use connections::Connections;
pub use placed::Placed;
pub use pubsub::PubSub;
pub use request::Requests;

/// When the next message goes out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Closed loop: as soon as fewer than so many messages are outstanding.
    Window(usize),
    /// Open loop: so many each second, whatever the server does. Latency counts from when a message was due.
    PerSecond(f64),
}

/// How long a run lasts: whichever comes first ends it.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Time that is not measured.
    pub warmup: Duration,
    /// Time that is.
    pub duration: Duration,
    /// Messages sent within the measured time.
    pub messages_max: u64,
}

/// What is loaded.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Where and how.
    pub dial: Dial,
    /// The server's process, where its usage can be read.
    pub pid: Option<u32>,
    /// Where the server tells which of its cores has a connection (the gateway's `--http`).
    pub stats: Option<SocketAddr>,
    /// Tells the runs of this process apart.
    pub run: u32,
}

/// What a run has shown.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The measured time.
    pub elapsed: Duration,
    /// Messages sent.
    pub sent: u64,
    /// Messages that arrived: deliveries, answers, confirmations.
    pub done: u64,
    /// Nanoseconds from sending (open loop: from when it was due) to arrival. In closed loop one of every [`SAMPLE_EVERY`] counts.
    pub latency: Histogram<u64>,
    /// Processor time that the server used.
    pub cpu: Option<Duration>,
    /// The server's memory at the start of the measured time and at its end.
    pub usage: Option<(Usage, Usage)>,
    /// Time in which the load could have run but waited for its core. Anything but nothing says that the machine was not quiet.
    pub load_waited: Duration,
    /// Open loop: the most by which a message left later than it was due because the load itself did not come to it. In that time it
    /// did not read either.
    pub load_late: Duration,
    /// Messages that never arrived, or that the server said it had dropped.
    pub lost: u64,
    /// Messages that arrived out of order.
    pub misordered: u64,
}

/// The most by which the load may be late for what was lost to be the server's doing. The gateway keeps 1 MiB for each subscription
/// (`limits.queue_bytes_default`), which the heaviest of the open loops fills in 600 ms; sockets keep some more.
pub const LOAD_LATE_MAX: Duration = Duration::from_millis(100);

/// How long to wait for what is still on its way at the end, since the last that came.
const DRAIN_QUIET: Duration = Duration::from_secs(2);

/// In closed loop so many messages share one recorded latency, because recording costs as much as receiving.
pub const SAMPLE_EVERY: u64 = 8;

impl Outcome {
    /// The server's processor time for each message that arrived, nanoseconds.
    pub fn cpu_ns_per_message(&self) -> Option<f64> {
        let cpu = self.cpu?;
        (self.done > 0).then(|| cpu.as_nanos() as f64 / self.done as f64)
    }

    /// Whether the load was kept from its work for so long that losses and latencies are its own and not the server's.
    pub fn is_load_starved(&self) -> bool {
        self.load_late > LOAD_LATE_MAX
    }

    /// Messages that arrived in each second.
    pub fn per_second(&self) -> f64 {
        self.done as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// A histogram of nanoseconds up to a minute, to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are constant and valid")
}

/// Records `nanos`; what lies beyond the histogram counts as its largest value.
pub(crate) fn record(histogram: &mut Histogram<u64>, nanos: u64) {
    histogram.saturating_record(nanos.max(1));
}

/// The stretch of a run that is measured.
#[derive(Debug)]
struct Clock {
    base: Instant,
    bounds: Bounds,
    pid: Option<u32>,
    begun: Option<Begun>,
    late: Duration,
}

#[derive(Debug)]
struct Begun {
    at: Instant,
    usage: Option<Usage>,
    load: Usage,
    sent: u64,
    done: u64,
}

impl Clock {
    fn start(bounds: Bounds, pid: Option<u32>) -> Clock {
        Clock {
            base: Instant::now(),
            bounds,
            pid,
            begun: None,
            late: Duration::ZERO,
        }
    }

    /// Nanoseconds since the run began.
    fn nanos(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.base).as_nanos() as u64
    }

    /// Notes that a message that was due at `due_nanos` could leave no earlier than `nanos`, and that only the load is to blame.
    fn note_late(&mut self, due_nanos: u64, nanos: u64) {
        self.late = self
            .late
            .max(Duration::from_nanos(nanos.saturating_sub(due_nanos)));
    }

    fn is_measuring(&self) -> bool {
        self.begun.is_some()
    }

    /// Moves on; true when the measured time is over.
    fn tick(&mut self, now: Instant, sent: u64, done: u64) -> Result<bool, Error> {
        match &self.begun {
            None => {
                if now.saturating_duration_since(self.base) >= self.bounds.warmup {
                    let usage = self.pid.map(Usage::of).transpose()?;
                    let load = Usage::of(std::process::id())?;
                    self.begun = Some(Begun {
                        at: Instant::now(),
                        usage,
                        load,
                        sent,
                        done,
                    });
                }
                Ok(false)
            }
            Some(begun) => Ok(now.saturating_duration_since(begun.at) >= self.bounds.duration
                || sent - begun.sent >= self.bounds.messages_max),
        }
    }

    /// What was measured, now that it is over.
    fn stop(&self, sent: u64, done: u64, latency: Histogram<u64>) -> Result<Outcome, Error> {
        let begun = self
            .begun
            .as_ref()
            .expect("a run is stopped after its measured time");
        let elapsed = begun.at.elapsed();
        let usage = match begun.usage {
            Some(first) => Some((first, Usage::of(self.pid.unwrap_or_default())?)),
            None => None,
        };
        Ok(Outcome {
            elapsed,
            sent: sent - begun.sent,
            done: done - begun.done,
            latency,
            cpu: usage.map(|(first, last)| last.cpu.saturating_sub(first.cpu)),
            usage,
            load_waited: Usage::of(std::process::id())?
                .waited
                .saturating_sub(begun.load.waited),
            load_late: self.late,
            lost: 0,
            misordered: 0,
        })
    }
}

/// Opens a connection for each plan and waits until all are ready. Returns the number of the first.
fn connect_all(fleet: &mut Fleet, plans: impl Iterator<Item = Plan>) -> Result<usize, Error> {
    let first = fleet.len();
    for plan in plans {
        fleet.connect(&plan)?;
    }
    let missing = (fleet.len() - first) as u64;
    wait_for(fleet, "connections to become ready", missing, |incoming| {
        *incoming == Incoming::Ready
    })?;
    Ok(first)
}

/// Turns the fleet until `count` of the wanted have arrived.
fn wait_for(
    fleet: &mut Fleet,
    what: &'static str,
    count: u64,
    wanted: impl Fn(&Incoming) -> bool,
) -> Result<(), Error> {
    let mut missing = count;
    let mut last = Instant::now();
    fleet.flush()?;
    while missing > 0 {
        let deadline = last + QUIET_MAX;
        fleet.turn(deadline, |_, _, inbox, now| {
            missing = missing.saturating_sub(inbox.iter().filter(|incoming| wanted(incoming)).count() as u64);
            last = now;
        })?;
        if Instant::now() >= deadline {
            return Err(Error::Stalled {
                what,
                quiet: QUIET_MAX,
                missing,
            });
        }
    }
    Ok(())
}

fn check_payload(payload_bytes: usize) -> Result<(), Error> {
    match payload_bytes >= wire::PAYLOAD_BYTES_MIN {
        true => Ok(()),
        false => Err(Error::Invalid(
            "a payload has at least 8 bytes, which carry the sequence number",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_that_comes_late_to_its_schedule_says_so() -> Result<(), Error> {
        let bounds = Bounds {
            warmup: Duration::ZERO,
            duration: Duration::ZERO,
            messages_max: 0,
        };
        let mut clock = Clock::start(bounds, None);
        clock.tick(clock.base, 0, 0)?;
        clock.note_late(5_000_000, 7_000_000);
        assert!(!clock.stop(0, 0, histogram())?.is_load_starved());
        clock.note_late(10_000_000, 900_000_000);
        clock.note_late(901_000_000, 901_000_000);
        let outcome = clock.stop(0, 0, histogram())?;
        assert!(outcome.is_load_starved());
        assert_eq!(outcome.load_late, Duration::from_millis(890));
        Ok(())
    }
}
