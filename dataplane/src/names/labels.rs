//! How the counts of a dialect are called.

use ringgate_switch::Stats;

/// Number of counts.
const COUNTS: usize = 22;

/// The names of one dialect's counts, fixed as metrics need them.
#[derive(Debug)]
pub struct Labels {
    /// The dialect.
    pub dialect: &'static str,
    counts: [&'static str; COUNTS],
}

macro_rules! labels {
    ($dialect:literal) => {
        Labels {
            dialect: $dialect,
            counts: [
                concat!($dialect, "_connections"),
                concat!($dialect, "_subscriptions"),
                concat!($dialect, "_names"),
                concat!($dialect, "_subscribes_waiting"),
                concat!($dialect, "_queued_bytes"),
                concat!($dialect, "_published"),
                concat!($dialect, "_unrouted"),
                concat!($dialect, "_delivered"),
                concat!($dialect, "_dropped_oldest"),
                concat!($dialect, "_dropped_newest"),
                concat!($dialect, "_dropped_disconnect"),
                concat!($dialect, "_malformed"),
                concat!($dialect, "_unauthenticated"),
                concat!($dialect, "_expired"),
                concat!($dialect, "_oversize"),
                concat!($dialect, "_not_mls"),
                concat!($dialect, "_unused"),
                concat!($dialect, "_refused"),
                concat!($dialect, "_stale"),
                concat!($dialect, "_ended"),
                concat!($dialect, "_copied_out"),
                concat!($dialect, "_turned_away"),
            ],
        }
    };
}

impl Labels {
    /// SLIM v3.
    pub const SLIM: &'static Labels = &labels!("slim");
    /// AGP 2025.
    pub const AGP2025: &'static Labels = &labels!("agp2025");

    /// The counts by name. `turned_away`: streams that were refused for want of a credential.
    pub(super) fn counts(&self, stats: &Stats, turned_away: u64) -> Vec<(&'static str, u64)> {
        let [oldest, newest, disconnect] = stats.dropped;
        let values: [u64; COUNTS] = [
            stats.connections,
            stats.subscriptions,
            stats.names,
            stats.subscribes_waiting,
            stats.queued_bytes,
            stats.published,
            stats.unrouted,
            stats.delivered,
            oldest,
            newest,
            disconnect,
            stats.malformed,
            stats.unauthenticated,
            stats.expired,
            stats.oversize,
            stats.not_mls,
            stats.unused,
            stats.refused,
            stats.stale,
            stats.ended,
            stats.copied_out,
            turned_away,
        ];
        self.counts.into_iter().zip(values).collect()
    }
}
