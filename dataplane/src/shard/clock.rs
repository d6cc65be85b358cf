//! The clock of a core.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::service::Now;

/// How often the wall clock is read anew, to follow adjustments of it. In between it moves with the monotonic clock.
const WALL_CLOCK_EVERY: Duration = Duration::from_secs(1);

/// Reads the monotonic clock once per turn and derives the wall clock from it.
#[derive(Debug)]
pub(crate) struct Clock {
    base: Instant,
    base_unix_nanos: u64,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock {
            base: Instant::now(),
            base_unix_nanos: unix_nanos(),
        }
    }

    pub(crate) fn now(&mut self) -> Now {
        let mono = Instant::now();
        let mut since = mono.duration_since(self.base);
        if since >= WALL_CLOCK_EVERY {
            *self = Clock {
                base: mono,
                base_unix_nanos: unix_nanos(),
            };
            since = Duration::ZERO;
        }
        Now {
            mono,
            unix_nanos: self.base_unix_nanos + since.as_nanos() as u64,
        }
    }
}

fn unix_nanos() -> u64 {
    // Before 1970 there are no agents: a clock set so far back counts as 1970.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}
