//! How long messages take on their way through a core: histograms with one writer.
//!
//! A core records into its own; when it is asked for a report it gives them away and begins anew, which costs a pointer each. They are
//! added up off the data cores.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

/// Longest time that is told apart from longer ones.
const NANOS_MAX: u64 = 60_000_000_000;
/// Digits that are kept: 1 %. A histogram takes 16 KiB by it.
const DIGITS: u8 = 2;

/// A part of the way. A closed list; metrics use these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hop {
    /// From the turn that found the bytes received to the decision where the message goes; what was handled before it included.
    ReceiveRoute,
    /// From there until it is in the queues of this core's receivers.
    RouteQueue,
    /// From there until its last byte is handed to a send.
    QueueWire,
    /// From the queues of one core to those of another.
    CrossCore,
}

impl Hop {
    /// All there are.
    pub const ALL: [Hop; 4] = [Hop::ReceiveRoute, Hop::RouteQueue, Hop::QueueWire, Hop::CrossCore];

    /// As metrics write it.
    pub fn name(self) -> &'static str {
        match self {
            Hop::ReceiveRoute => "receive_route",
            Hop::RouteQueue => "route_queue",
            Hop::QueueWire => "queue_wire",
            Hop::CrossCore => "cross_core",
        }
    }
}

/// Which messages a histogram is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HopKey {
    /// Which part of the way.
    pub hop: Hop,
    /// Which dialect.
    pub dialect: &'static str,
    /// Which kind of message, as metrics write it.
    pub kind: &'static str,
}

/// Histograms of one core, or of all. Made when first needed: few of the possible ones are.
#[derive(Debug, Default, Clone)]
pub struct Hops(BTreeMap<HopKey, Histogram<u32>>);

impl Hops {
    /// Records a time.
    pub fn record(&mut self, key: HopKey, nanos: u64) {
        let histogram = self.0.entry(key).or_insert_with(histogram);
        histogram.saturating_record(nanos.max(1));
    }

    /// Gives away what was recorded.
    #[must_use]
    pub fn take(&mut self) -> Hops {
        std::mem::take(self)
    }

    /// Adds what others recorded.
    pub fn add(&mut self, others: Hops) {
        for (key, theirs) in others.0 {
            match self.0.entry(key) {
                std::collections::btree_map::Entry::Vacant(entry) => _ = entry.insert(theirs),
                std::collections::btree_map::Entry::Occupied(mut entry) => {
                    // All have the same bounds, so nothing is refused.
                    let _ = entry.get_mut().add(&theirs);
                }
            }
        }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&HopKey, &Histogram<u32>)> {
        self.0.iter()
    }
}

fn histogram() -> Histogram<u32> {
    Histogram::new_with_bounds(1, NANOS_MAX, DIGITS).expect("the bounds are constant and allowed")
}

/// Says which messages are timed: one in so many, at irregular distances, so that no pattern of the traffic is met again and again.
#[derive(Debug)]
pub struct Sampler {
    one_in: u32,
    left: u32,
    state: u64,
}

impl Sampler {
    /// `one_in` of 0: none. `seed` must not be 0.
    pub fn new(one_in: u32, seed: u64) -> Sampler {
        let mut sampler = Sampler {
            one_in,
            left: 0,
            state: seed | 1,
        };
        sampler.rewind();
        sampler
    }

    /// Whether the next message is timed.
    #[inline]
    pub fn is_due(&mut self) -> bool {
        self.left = self.left.wrapping_sub(1);
        if self.left > 0 {
            return false;
        }
        self.rewind()
    }

    /// Chooses when the next one is due. Whether this one is: none is where none is to be timed.
    #[cold]
    fn rewind(&mut self) -> bool {
        // xorshift64 (Marsaglia 2003): good enough to be irregular.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        // From one to one less than twice as many: on average as many as were asked for.
        self.left = match self.one_in {
            0 => u32::MAX,
            one_in => 1 + (self.state % u64::from(2 * one_in - 1)) as u32,
        };
        self.one_in > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: HopKey = HopKey {
        hop: Hop::RouteQueue,
        dialect: "agp.v1",
        kind: "publish",
    };

    #[test]
    fn what_two_cores_recorded_adds_up() {
        let (mut one, mut other, mut total) = (Hops::default(), Hops::default(), Hops::default());
        (1..=100).for_each(|n| one.record(KEY, n * 1000));
        other.record(KEY, NANOS_MAX * 5);
        total.add(one.take());
        total.add(other.take());
        total.add(one.take());
        let histograms: Vec<_> = total.iter().collect();
        assert_eq!(histograms.len(), 1);
        assert_eq!(histograms[0].1.len(), 101);
        let median = histograms[0].1.value_at_quantile(0.5);
        assert!((50_000..=52_000).contains(&median), "{median}");
    }

    #[test]
    fn one_in_so_many_is_sampled_on_average() {
        for one_in in [1, 2, 64, 256] {
            let mut sampler = Sampler::new(one_in, 7);
            let total = 20_000 * u64::from(one_in);
            let taken = (0..total).filter(|_| sampler.is_due()).count() as f64;
            assert!((19_000.0..=21_000.0).contains(&taken), "{one_in}: {taken}");
        }
        let mut never = Sampler::new(0, 7);
        assert!(!(0..100_000).any(|_| never.is_due()));
    }
}
