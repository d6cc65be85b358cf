//! What has been revoked.

use std::collections::{HashMap, HashSet};

use rustls::pki_types::UnixTime;
use thiserror::Error;

use crate::{CLOCK_SKEW_SECONDS, Serial};

/// Most revocations kept. A revocation is dropped once the credential would have expired anyhow ([`Revocations::prune`]), so
/// that this is a bound on a week of them; at about 64 bytes each they take 64 MiB.
pub const REVOCATIONS_MAX: usize = 1_000_000;

/// What one revocation makes void.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    /// The certificate with this number, and the tokens issued to its holder by it.
    Serial(Serial),
    /// Every certificate and token of an identity (its URI), now and later, until it is allowed again.
    Identity(String),
    /// An identity is allowed again: what it was issued until this moment stays void, what comes later is good.
    IdentityUntil(String, UnixTime),
}

/// One entry of the numbered log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Its place in the log, from 1 without a gap.
    pub number: u64,
    /// What it makes void.
    pub revoked: Revoked,
    /// When it was entered.
    pub at: UnixTime,
}

/// Why a revocation cannot be taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RevocationError {
    /// One in between is missing.
    #[error("revocation {found} follows {last}; ask for those after {last}")]
    Gap {
        /// The last number that was taken in.
        last: u64,
        /// The number that came.
        found: u64,
    },
    /// More than are kept.
    #[error(
        "there are more than {REVOCATIONS_MAX} revocations; prune those that have expired, or rotate the issuing authority"
    )]
    Full,
}

/// The revocations up to a number.
#[derive(Debug, Clone, Default)]
pub struct Revocations {
    /// With the time of each revocation.
    serials: HashMap<Serial, UnixTime>,
    identities: HashMap<String, Void>,
    number: u64,
}

/// Which credentials of an identity are void.
#[derive(Debug, Clone, Copy)]
enum Void {
    All,
    IssuedUntil(UnixTime),
}

impl Revocations {
    /// Those of a snapshot that stands for all up to `number`, expired ones left out.
    ///
    /// # Errors
    /// [`RevocationError::Full`].
    pub fn from_snapshot(
        number: u64,
        revocations: impl IntoIterator<Item = Revocation>,
    ) -> Result<Self, RevocationError> {
        let mut all = Self::default();
        for revocation in revocations {
            all.apply(revocation)?;
        }
        all.number = number;
        Ok(all)
    }

    /// Takes in the next entry of the log. One that is known already changes nothing.
    ///
    /// # Errors
    /// [`RevocationError`].
    pub fn insert(&mut self, revocation: Revocation) -> Result<(), RevocationError> {
        let number = revocation.number;
        if number <= self.number {
            return Ok(());
        }
        if number != self.number + 1 {
            return Err(RevocationError::Gap {
                last: self.number,
                found: number,
            });
        }
        self.apply(revocation)?;
        self.number = number;
        Ok(())
    }

    fn apply(&mut self, revocation: Revocation) -> Result<(), RevocationError> {
        if self.serials.len() + self.identities.len() >= REVOCATIONS_MAX {
            return Err(RevocationError::Full);
        }
        match revocation.revoked {
            Revoked::Serial(serial) => {
                self.serials.insert(serial, revocation.at);
            }
            Revoked::Identity(uri) => {
                self.identities.insert(uri, Void::All);
            }
            Revoked::IdentityUntil(uri, until) => {
                let until = match self.identities.get(&uri) {
                    Some(Void::IssuedUntil(before)) => until.max(*before),
                    _ => until,
                };
                self.identities.insert(uri, Void::IssuedUntil(until));
            }
        }
        Ok(())
    }

    /// Whether a credential of `identity` (a URI) is void: by the number of its certificate, or by its holder and the moment it
    /// was issued.
    pub fn is_revoked(&self, serial: Option<&Serial>, identity: &str, issued_at: UnixTime) -> bool {
        serial.is_some_and(|serial| self.serials.contains_key(serial))
            || match self.identities.get(identity) {
                Some(Void::All) => true,
                Some(Void::IssuedUntil(until)) => issued_at <= *until,
                None => false,
            }
    }

    /// Whether the certificate with this number is revoked, whoever holds it.
    pub fn is_serial_revoked(&self, serial: &Serial) -> bool {
        self.serials.contains_key(serial)
    }

    /// The number of the last entry taken in; 0 when there was none.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many entries are kept.
    pub fn len(&self) -> usize {
        self.serials.len() + self.identities.len()
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops what can no longer match: a leaf lives for at most `leaf_ttl_seconds_max`, so a serial number may go that long
    /// after its revocation, and an identity that is allowed again that long after. Serial numbers in `keep` stay: those of
    /// authorities, which live longer.
    pub fn prune(&mut self, now: UnixTime, leaf_ttl_seconds_max: u32, keep: &HashSet<Serial>) {
        let life = u64::from(leaf_ttl_seconds_max) + 2 * CLOCK_SKEW_SECONDS;
        let over = |since: &UnixTime| since.as_secs().saturating_add(life) < now.as_secs();
        self.serials
            .retain(|serial, at| keep.contains(serial) || !over(at));
        self.identities.retain(|_, void| match void {
            Void::All => true,
            Void::IssuedUntil(until) => !over(until),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ALICE: &str = "agp://acme.example/acme/demo/alice/1";

    fn time(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn serial(text: &str) -> Serial {
        text.parse().expect("valid")
    }

    fn entry(number: u64, revoked: Revoked) -> Revocation {
        Revocation {
            number,
            revoked,
            at: time(number),
        }
    }

    #[test]
    fn a_log_is_taken_in_order() {
        let mut log = Revocations::default();
        log.insert(entry(1, Revoked::Serial(serial("a1"))))
            .expect("first");
        assert!(log.is_revoked(Some(&serial("a1")), ALICE, time(9)));
        assert!(!log.is_revoked(Some(&serial("a2")), ALICE, time(9)));
        assert_eq!(
            log.insert(entry(3, Revoked::Identity(ALICE.into()))),
            Err(RevocationError::Gap { last: 1, found: 3 })
        );
        assert!(!log.is_revoked(None, ALICE, time(9)), "nothing was changed");
        log.insert(entry(1, Revoked::Identity(ALICE.into())))
            .expect("known");
        assert!(
            !log.is_revoked(None, ALICE, time(9)),
            "a known number changes nothing"
        );
        assert_eq!(log.number(), 1);
    }

    #[test]
    fn an_identity_that_is_allowed_again_keeps_its_old_credentials_void() {
        let mut log = Revocations::default();
        log.insert(entry(1, Revoked::Identity(ALICE.into())))
            .expect("first");
        assert!(
            log.is_revoked(None, ALICE, time(1_000_000)),
            "also what comes later"
        );
        log.insert(entry(2, Revoked::IdentityUntil(ALICE.into(), time(50))))
            .expect("second");
        assert!(log.is_revoked(None, ALICE, time(50)));
        assert!(!log.is_revoked(None, ALICE, time(51)));
        log.insert(entry(3, Revoked::IdentityUntil(ALICE.into(), time(40))))
            .expect("third");
        assert!(
            log.is_revoked(None, ALICE, time(50)),
            "the border never goes back"
        );
        assert!(!log.is_revoked(None, "agp://acme.example/acme/demo/bob/1", time(1)));
    }

    #[test]
    fn what_has_expired_is_pruned() {
        let mut log = Revocations::from_snapshot(
            9,
            [
                entry(1, Revoked::Serial(serial("a1"))),
                entry(2, Revoked::Serial(serial("ca"))),
                entry(3, Revoked::IdentityUntil(ALICE.into(), time(3))),
                entry(4, Revoked::Identity("agp://acme.example/node/x".into())),
            ],
        )
        .expect("fits");
        assert_eq!((log.number(), log.len()), (9, 4));
        let authorities = HashSet::from([serial("ca")]);
        log.prune(time(60), 10, &authorities);
        assert_eq!(log.len(), 4, "the skew of both clocks is waited for");
        log.prune(time(74), 10, &authorities);
        assert_eq!(log.len(), 2);
        assert!(log.is_serial_revoked(&serial("ca")));
        assert!(log.is_revoked(None, "agp://acme.example/node/x", time(74)));
    }
}
