//! How long an idle core looks for work before it parks.

use std::time::Duration;

/// The least a core spins once it has given up on longer spins: enough to notice that work comes quickly again.
const SPIN_LEAST: Duration = Duration::from_micros(1);

/// Spins longer while spinning pays, and hardly while it does not.
///
/// Parking and being woken costs a few microseconds of CPU and more of latency, so spinning pays when work arrives within about
/// that time. The budget doubles when a spin found work and halves when it did not.
#[derive(Debug)]
pub(crate) struct Spin {
    max: Duration,
    budget: Duration,
    forever: bool,
}

impl Spin {
    /// `forever`: the core is dedicated and never parks.
    pub(crate) fn new(max: Duration, forever: bool) -> Spin {
        Spin {
            max,
            budget: max,
            forever,
        }
    }

    pub(crate) fn never_parks(&self) -> bool {
        self.forever
    }

    pub(crate) fn budget(&self) -> Duration {
        self.budget
    }

    pub(crate) fn found_work(&mut self) {
        self.budget = (self.budget * 2).clamp(SPIN_LEAST.min(self.max), self.max);
    }

    pub(crate) fn found_nothing(&mut self) {
        self.budget = (self.budget / 2).clamp(SPIN_LEAST.min(self.max), self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_follows_success() {
        let mut spin = Spin::new(Duration::from_micros(40), false);
        (0..10).for_each(|_| spin.found_nothing());
        assert_eq!(spin.budget(), SPIN_LEAST);
        (0..10).for_each(|_| spin.found_work());
        assert_eq!(spin.budget(), Duration::from_micros(40));
    }

    #[test]
    fn no_spinning_where_none_is_wanted() {
        let mut spin = Spin::new(Duration::ZERO, false);
        spin.found_work();
        assert_eq!(spin.budget(), Duration::ZERO);
    }
}
