//! What is looked at beside the switch's own counts: times of sampled messages.

use std::time::{Duration, Instant};

use ringgate_config::ObserveConfig;
use ringgate_switch::ConnectionId;

use crate::observe::{Hop, HopKey, Hops, Sampler};

/// Messages of these dialects are told apart no further.
const KIND: &str = "message";

/// One for each dialect of a core.
#[derive(Debug)]
pub struct Watched {
    sampler: Sampler,
    pub(super) hops: Hops,
    probe: Probe,
}

/// Times one queue at a time: from the moment that it has something to send to the first bytes that are handed to a send.
#[derive(Debug, Default)]
enum Probe {
    #[default]
    Off,
    /// For the next queue that gets something.
    Wanted,
    /// For this one.
    Since(ConnectionId, Instant),
}

impl Watched {
    /// As `config` says, for one core.
    pub fn new(config: &ObserveConfig, seed: u64, core: usize) -> Watched {
        let one_in = match config.enabled {
            true => config.sample_one_in,
            false => 0,
        };
        Watched {
            sampler: Sampler::new(one_in, seed.wrapping_mul(core as u64 + 3)),
            hops: Hops::default(),
            probe: Probe::Off,
        }
    }

    /// Whether the next message is timed.
    #[inline]
    pub(super) fn next(&mut self) -> bool {
        self.sampler.is_due()
    }

    pub(super) fn record(&mut self, hop: Hop, dialect: &'static str, time: Duration) {
        let key = HopKey {
            hop,
            dialect,
            kind: KIND,
        };
        self.hops.record(key, time.as_nanos() as u64);
    }

    /// A message was timed on its way in; the next queue is timed on the way out.
    pub(super) fn look_for_next(&mut self) {
        if matches!(self.probe, Probe::Off) {
            self.probe = Probe::Wanted;
        }
    }

    #[inline]
    pub(super) fn ready(&mut self, connection: ConnectionId) {
        if let Probe::Wanted = self.probe {
            self.probe = Probe::Since(connection, Instant::now());
        }
    }

    #[inline]
    pub(super) fn pulled(&mut self, connection: ConnectionId, dialect: &'static str) {
        if let Probe::Since(wanted, since) = self.probe
            && wanted == connection
        {
            self.probe = Probe::Off;
            self.record(Hop::QueueWire, dialect, since.elapsed());
        }
    }

    /// A connection is gone.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        if let Probe::Since(wanted, _) = self.probe
            && wanted == connection
        {
            self.probe = Probe::Off;
        }
    }
}
