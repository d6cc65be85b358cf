//! Proofs that have been seen.

use std::collections::HashSet;

use rustls::pki_types::UnixTime;

use crate::token::PROOF_AGE_SECONDS_MAX;
use crate::{CLOCK_SKEW_SECONDS, Reason, sha256};

/// Proofs remembered for one window, by default. Each takes 32 bytes and some for the table; 65 536 are 700 new connections a
/// second, with room.
pub const PROOFS_DEFAULT: usize = 65_536;

/// A proof is acceptable from a skew before its time to its greatest age, so that is how long it must be remembered.
const WINDOW_SECONDS: u64 = PROOF_AGE_SECONDS_MAX + CLOCK_SKEW_SECONDS;

/// One proof: a digest of its key and its `jti`, which a proof that is written in another way shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProofId(pub [u8; 32]);

impl ProofId {
    pub(crate) fn of(thumbprint: &str, jti: &str) -> Self {
        Self(sha256(format!("{thumbprint}.{jti}").as_bytes()))
    }
}

/// Remembers the proofs of the acceptance window, so that none is accepted twice (RFC 9449 §11.1). Bounded: when it is full, new
/// proofs are refused until the window has moved on.
///
/// One cache must see every proof for a URI; where several threads answer for one, they share it.
#[derive(Debug)]
pub struct ReplayCache {
    // Two generations of one window each: what was seen in the last window is in one of them.
    current: HashSet<ProofId>,
    previous: HashSet<ProofId>,
    turned_at: u64,
    capacity: usize,
}

impl Default for ReplayCache {
    fn default() -> Self {
        Self::new(PROOFS_DEFAULT)
    }
}

impl ReplayCache {
    /// A cache of at most `capacity` proofs for each window.
    pub fn new(capacity: usize) -> Self {
        Self {
            current: HashSet::new(),
            previous: HashSet::new(),
            turned_at: 0,
            capacity,
        }
    }

    /// Enters a proof.
    ///
    /// # Errors
    /// [`Reason::ProofReplayed`] if it is in already, [`Reason::ProofsExhausted`] if there is no room.
    pub fn enter(&mut self, proof: ProofId, now: UnixTime) -> Result<(), Reason> {
        self.turn(now.as_secs());
        if self.current.contains(&proof) || self.previous.contains(&proof) {
            return Err(Reason::ProofReplayed);
        }
        if self.current.len() >= self.capacity {
            return Err(Reason::ProofsExhausted);
        }
        self.current.insert(proof);
        Ok(())
    }

    fn turn(&mut self, now: u64) {
        // A clock that was set back must not keep a full generation for ever, nor forget what was seen.
        let passed = now.saturating_sub(self.turned_at);
        if passed >= 2 * WINDOW_SECONDS {
            self.previous.clear();
            self.current.clear();
            self.turned_at = now;
        } else if passed >= WINDOW_SECONDS {
            self.previous = std::mem::take(&mut self.current);
            self.turned_at = now;
        } else if now + WINDOW_SECONDS < self.turned_at {
            self.turned_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn time(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn a_proof_is_remembered_for_its_window() {
        let mut cache = ReplayCache::default();
        for start in [1000, 1000 + WINDOW_SECONDS - 1, 1000 + WINDOW_SECONDS] {
            let id = start.to_string();
            assert_eq!(cache.enter(ProofId::of("key", &id), time(start)), Ok(()));
            assert_eq!(cache.enter(ProofId::of("other key", &id), time(start)), Ok(()));
            for later in [0, 1, WINDOW_SECONDS - 1] {
                assert_eq!(
                    cache.enter(ProofId::of("key", &id), time(start + later)),
                    Err(Reason::ProofReplayed)
                );
            }
        }
    }

    #[test]
    fn a_full_cache_refuses_until_the_window_has_moved() {
        let mut cache = ReplayCache::new(2);
        assert_eq!(cache.enter(ProofId::of("k", "1"), time(1000)), Ok(()));
        assert_eq!(cache.enter(ProofId::of("k", "2"), time(1001)), Ok(()));
        assert_eq!(
            cache.enter(ProofId::of("k", "3"), time(1002)),
            Err(Reason::ProofsExhausted)
        );
        assert_eq!(
            cache.enter(ProofId::of("k", "3"), time(1000 + WINDOW_SECONDS)),
            Ok(())
        );
        assert_eq!(
            cache.enter(ProofId::of("k", "2"), time(1000 + WINDOW_SECONDS)),
            Err(Reason::ProofReplayed),
            "the generation before is still asked"
        );
        assert_eq!(
            cache.enter(ProofId::of("k", "2"), time(1000 + 3 * WINDOW_SECONDS)),
            Ok(())
        );
    }

    #[test]
    fn a_clock_set_back_does_not_stop_it() {
        let mut cache = ReplayCache::new(1);
        assert_eq!(cache.enter(ProofId::of("k", "1"), time(1_000_000)), Ok(()));
        assert_eq!(
            cache.enter(ProofId::of("k", "1"), time(1000)),
            Err(Reason::ProofReplayed)
        );
        assert_eq!(
            cache.enter(ProofId::of("k", "2"), time(1000)),
            Err(Reason::ProofsExhausted)
        );
        assert_eq!(
            cache.enter(ProofId::of("k", "2"), time(1000 + WINDOW_SECONDS)),
            Ok(())
        );
    }
}
