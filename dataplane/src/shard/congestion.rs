//! Whether calls wait because another core is too far behind.
//!
//! # Invariants worth naming
//!
//! * Once raised it stays raised until [`Congestion::clears`] has said so, and whoever asked lets the calls go on. Another core may
//!   catch up at any moment, also between two looks within a turn: that must not be the end of it unseen.

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Congestion {
    raised: bool,
}

impl Congestion {
    /// Takes note of whether another core is too far behind at the moment.
    pub(crate) fn note(&mut self, is_behind: bool) {
        self.raised |= is_behind;
    }

    /// Whether calls take in nothing, or still wait to be told that they may again.
    pub(crate) fn is_raised(&self) -> bool {
        self.raised
    }

    /// Whether it ends now: then the calls that waited are to go on.
    pub(crate) fn clears(&mut self, is_behind: bool) -> bool {
        let clears = self.raised && !is_behind;
        self.raised &= is_behind;
        clears
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn catching_up_between_two_looks_is_not_missed() {
        let mut congestion = Congestion::default();
        congestion.note(true);
        congestion.note(false);
        assert!(congestion.is_raised());
        assert!(congestion.clears(false));
        assert!(!congestion.is_raised() && !congestion.clears(false));
    }

    #[test]
    fn it_lasts_while_a_core_is_behind() {
        let mut congestion = Congestion::default();
        congestion.note(true);
        assert!(!congestion.clears(true) && congestion.is_raised());
        assert!(congestion.clears(false));
    }
}
