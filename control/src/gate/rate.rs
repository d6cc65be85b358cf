//! How often somebody may call. Sans-IO: the time is an argument.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Instant;

/// A bucket of tokens that fills at a rate and holds one second's worth.
#[derive(Debug, Clone)]
pub struct Bucket {
    per_second: u64,
    /// Thousandths of a token.
    millis: u64,
    at: Instant,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub fn new(per_second: u64, now: Instant) -> Bucket {
        let millis = per_second.saturating_mul(1000);
        Bucket {
            per_second,
            millis,
            at: now,
        }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        match self.millis.checked_sub(1000) {
            Some(rest) => {
                self.millis = rest;
                true
            }
            None => false,
        }
    }

    fn fill(&mut self, now: Instant) {
        // A rate per second is as many thousandths in each millisecond. What is less than one stays in the clock.
        let elapsed = now.saturating_duration_since(self.at).as_millis();
        if elapsed > 0 {
            let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX);
            let full = self.per_second.saturating_mul(1000);
            self.millis = self
                .millis
                .saturating_add(elapsed.saturating_mul(self.per_second))
                .min(full);
            self.at = now;
        }
    }

    fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.millis >= self.per_second.saturating_mul(1000)
    }
}

/// Buckets by who calls. Bounded: those whose bucket is full again are forgotten, and while there are too many at once, newcomers
/// share one.
#[derive(Debug)]
pub struct Rates<K> {
    per_second: u64,
    callers_max: usize,
    of: HashMap<K, Bucket>,
    newcomers: Bucket,
}

impl<K: Hash + Eq> Rates<K> {
    /// For at most so many callers at once.
    #[must_use]
    pub fn new(per_second: u64, callers_max: usize, now: Instant) -> Rates<K> {
        Rates {
            per_second,
            callers_max,
            of: HashMap::new(),
            newcomers: Bucket::new(per_second, now),
        }
    }

    /// Whether somebody may call now.
    pub fn take(&mut self, caller: K, now: Instant) -> bool {
        if self.of.len() >= self.callers_max && !self.of.contains_key(&caller) {
            self.of.retain(|_, bucket| !bucket.is_full(now));
            if self.of.len() >= self.callers_max {
                return self.newcomers.take(now);
            }
        }
        let per_second = self.per_second;
        self.of
            .entry(caller)
            .or_insert_with(|| Bucket::new(per_second, now))
            .take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_second_holds_so_many_and_no_more() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, start);
        assert_eq!((0..20).filter(|_| bucket.take(start)).count(), 10);
        let later = start + Duration::from_millis(350);
        assert_eq!((0..20).filter(|_| bucket.take(later)).count(), 3);
        let much_later = start + Duration::from_secs(100);
        assert_eq!((0..20).filter(|_| bucket.take(much_later)).count(), 10);
    }

    #[test]
    fn callers_do_not_share_until_there_are_too_many() {
        let start = Instant::now();
        let mut rates = Rates::new(1, 2, start);
        assert!(rates.take("a", start) && rates.take("b", start));
        assert!(!rates.take("a", start));
        assert!(rates.take("c", start), "the bucket that newcomers share");
        assert!(!rates.take("d", start), "it is shared");
        let later = start + Duration::from_secs(1);
        assert!(
            rates.take("d", later) && rates.take("e", later),
            "idle callers are forgotten"
        );
    }
}
