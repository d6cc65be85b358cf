//! Budgets against floods; [`Allowance`] explains the idea.

use std::time::Instant;

use crate::config::{Allowance, Config};

/// Cost of a SETTINGS frame, in units of `overhead`: it may touch every stream.
pub(crate) const SETTINGS_COST: u32 = 10;
/// Cost of a frame that carries nothing.
pub(crate) const FRAME_COST: u32 = 1;
/// A WINDOW_UPDATE by fewer bytes is paid for. Larger ones are bounded by the window, which overflows at 2^31.
pub(crate) const WINDOW_UPDATE_FREE_BYTES: u32 = 1024;
/// Earned by a stream that was opened: a client may follow it with credit and a ping.
pub(crate) const STREAM_EARNS: u32 = 4;
/// Body bytes that earn one unit beyond the frame's own.
const BODY_BYTES_PER_UNIT: u32 = 1024;
/// Earned by each frame with body: enough for its receiver to return credit on the stream and the connection.
const BODY_FRAME_EARNS: u32 = 2;

/// A body frame of fewer bytes that does not end its stream is paid for like an empty one: it is too small for a gRPC message's
/// prefix. Senders of messages leave such pieces now and then (at the end of a window, behind a prefix framed alone), one for
/// each frame that earns; only a flood consists of them.
pub(crate) const TINY_BODY_BYTES: u32 = 5;

/// What body frames of `len` bytes earn.
#[inline]
pub(crate) fn body_earns(len: u32) -> u32 {
    BODY_FRAME_EARNS + len / BODY_BYTES_PER_UNIT
}

/// One budget. Time refills it only when it is found short, so that spending and earning are an addition each.
#[derive(Debug)]
pub(crate) struct Budget {
    units: u32,
    allowance: Allowance,
    refilled: Instant,
}

impl Budget {
    pub(crate) fn new(allowance: Allowance, now: Instant) -> Self {
        Self {
            units: allowance.burst,
            allowance,
            refilled: now,
        }
    }

    /// Takes `cost`, or tells that the budget is exhausted.
    #[must_use]
    pub(crate) fn spend(&mut self, cost: u32, now: Instant) -> bool {
        if self.units < cost {
            self.refill(now);
        }
        let enough = self.units >= cost;
        self.units = self.units.saturating_sub(cost);
        enough
    }

    #[inline]
    pub(crate) fn earn(&mut self, units: u32) {
        self.units = self.units.saturating_add(units).min(self.allowance.burst);
    }

    fn refill(&mut self, now: Instant) {
        let per_second = u128::from(self.allowance.per_second);
        let elapsed = now.saturating_duration_since(self.refilled);
        let units = elapsed.as_micros() * per_second / 1_000_000;
        // Less than a unit is kept for the next time.
        if units > 0 {
            self.earn(u32::try_from(units).unwrap_or(u32::MAX));
            self.refilled = now;
        }
    }
}

/// The budgets of a connection.
#[derive(Debug)]
pub(crate) struct Budgets {
    pub(crate) resets: Budget,
    pub(crate) stream_errors: Budget,
    pub(crate) refusals: Budget,
    pub(crate) overhead: Budget,
}

impl Budgets {
    pub(crate) fn new(config: &Config, now: Instant) -> Self {
        Self {
            resets: Budget::new(config.resets, now),
            stream_errors: Budget::new(config.stream_errors, now),
            refusals: Budget::new(config.refusals, now),
            overhead: Budget::new(config.overhead, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_spent_comes_back_by_work_and_time() {
        let start = Instant::now();
        let mut budget = Budget::new(
            Allowance {
                burst: 10,
                per_second: 2,
            },
            start,
        );
        assert!(budget.spend(10, start));
        assert!(!budget.spend(1, start));
        budget.earn(1);
        assert!(budget.spend(1, start));
        assert!(!budget.spend(1, start + Duration::from_millis(499)));
        assert!(budget.spend(1, start + Duration::from_millis(500)));
        assert!(
            !budget.spend(11, start + Duration::from_secs(3600)),
            "never above the burst"
        );
    }
}
