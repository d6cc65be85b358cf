//! A new certificate before the old one ends.

use std::sync::{Arc, Weak};
use std::time::Duration;

use ringgate_identity::keystore::Stored;
use ringgate_identity::{AgentKey, UnixTime, Verified};
use ringgate_proto::control::v1::RenewRequest;
use ringgate_proto::control::v1::identity_client::IdentityClient;
use tokio::sync::watch;

use super::{CredentialError, Held, Inner, control, newer};
use crate::backoff::Backoff;

/// First and longest wait between attempts. A certificate has hours left when it is renewed first, so there is no hurry.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));
/// Longest sleep between two looks at the clock, which may be set and which runs on while a machine sleeps.
const LOOK: Duration = Duration::from_secs(60);

/// Renews for as long as anybody has a handle.
pub(super) async fn keep_renewed(credential: Weak<Inner>, mut held: watch::Receiver<Arc<Held>>) {
    loop {
        let verified = held.borrow_and_update().verified.clone();
        let due = renew_at(&verified, fastrand::f64());
        tokio::select! {
            // Somebody has renewed it: what was due is not.
            changed = held.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            () = until(due) => {}
        }
        if !renew_due(&credential, &verified).await {
            return;
        }
    }
}

/// Tries until it works. False when it never will, or nobody needs it any more.
async fn renew_due(credential: &Weak<Inner>, verified: &Verified) -> bool {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        let Some(inner) = credential.upgrade() else {
            return false;
        };
        // The outcome of a renewal that somebody else has just made counts as well.
        if inner.held().verified.serial != verified.serial {
            return true;
        }
        let error = match inner.renew().await {
            Ok(()) => return true,
            Err(error) => error,
        };
        drop(inner);
        if !error.retryable() || UnixTime::now() > verified.not_after {
            tracing::error!(%error, identity = verified.uri, "the credential will not be renewed: enrol again");
            return false;
        }
        let wait = backoff.next(fastrand::f64());
        tracing::warn!(%error, identity = verified.uri, ?wait, "the credential was not renewed, trying again");
        tokio::time::sleep(wait).await;
    }
}

/// When two thirds of a life are over, give or take a twentieth, so that agents that were enrolled together do not all come back
/// at once. `random` is drawn from 0 to 1.
pub(super) fn renew_at(verified: &Verified, random: f64) -> UnixTime {
    let (start, end) = (verified.issued_at().as_secs(), verified.not_after.as_secs());
    share_of_life(start, end, 2.0 / 3.0 + (random - 0.5) / 10.0)
}

/// The moment at which this share of a life is over.
pub(super) fn share_of_life(start: u64, end: u64, share: f64) -> UnixTime {
    let life = Duration::from_secs(end.saturating_sub(start));
    UnixTime::since_unix_epoch(Duration::from_secs(start) + life.mul_f64(share.clamp(0.0, 1.0)))
}

/// Sleeps until the wall clock says so.
pub(super) async fn until(due: UnixTime) {
    loop {
        let left = due.as_secs().saturating_sub(UnixTime::now().as_secs());
        if left == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_secs(left).min(LOOK)).await;
    }
}

impl Inner {
    pub(super) async fn renew(&self) -> Result<(), CredentialError> {
        let _turn = self.turn.lock().await;
        let key = AgentKey::generate()?;
        let request = RenewRequest {
            csr_der: key.csr(None, &[])?.into(),
            ttl_seconds: 0,
            ..RenewRequest::default()
        };
        let renewed = IdentityClient::new(self.control_channel().await?)
            .renew(request)
            .await
            .map_err(|status| CredentialError::status(&self.control.url, &status))?
            .into_inner();
        let received = renewed.trust_bundle.map(control::bundle).transpose()?;
        let bundle = newer(self.verifier.load().bundle(), received);
        self.replace(Stored {
            key,
            chain: control::certificates(renewed.chain_der),
            bundle,
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_a_life_lies_within_it() {
        let at = |share| share_of_life(1000, 1300, share).as_secs();
        assert_eq!((at(0.0), at(2.0 / 3.0), at(1.0)), (1000, 1200, 1300));
        assert_eq!((at(-1.0), at(2.0)), (1000, 1300));
        assert_eq!(share_of_life(5, 4, 0.5).as_secs(), 5);
    }
}
