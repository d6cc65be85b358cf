//! When to try again.

use std::time::Duration;

/// Exponential backoff with full jitter: each wait is drawn evenly between nothing and a bound that doubles, so that agents that
/// lost the same gateway do not come back at the same moment.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    attempts: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Backoff {
        Backoff {
            first,
            longest,
            attempts: 0,
        }
    }

    /// The next wait. `random` is drawn from 0 to 1.
    pub(crate) fn next(&mut self, random: f64) -> Duration {
        let doublings = self.attempts.min(31);
        self.attempts = self.attempts.saturating_add(1);
        let bound = self.first.saturating_mul(1 << doublings).min(self.longest);
        bound.mul_f64(random.clamp(0.0, 1.0))
    }

    /// After a success.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Failures since the last success.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(10);

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        let waits: Vec<u128> = (0..9).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    }

    #[test]
    fn jitter_spreads_over_the_whole_wait() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        assert_eq!(backoff.next(0.0), Duration::ZERO);
        assert_eq!(backoff.next(0.5), Duration::from_millis(100));
    }

    #[test]
    fn a_success_starts_over() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        for _ in 0..100 {
            backoff.next(1.0);
        }
        backoff.reset();
        assert_eq!((backoff.attempts(), backoff.next(1.0)), (0, FIRST));
    }
}
