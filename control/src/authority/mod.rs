//! The authority: who issues, and the verifier that everyone in this process asks.
//!
//! The issuing key is in the store, sealed with a key that is in a file ([`seal`]): so several control processes over one store are
//! one authority, and a copy of the store alone certifies nobody. The verifier follows the store ([`follow`]), so that a revocation
//! by any process is known in all of them.

mod follow;
mod open;
mod own;
mod seal;

use std::sync::Arc;

use ringgate_identity::{AgentKey, BundleError, Issuer, SharedVerifier, TrustDomain};
use ringgate_proto::control::v1::TrustBundle;
use ringgate_store::{Revision, Store, StoreError};
use tokio::sync::watch;
use tonic::Status;

pub use open::OpenError;
pub use own::{CONTROL_NODE, FIRST_OPERATOR, OwnCredentials, OwnError};

use crate::settings::Settings;

/// Who issues and who verifies. Shared.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer,
    delivery: AgentKey,
    verifier: Arc<SharedVerifier>,
    trust: watch::Receiver<Arc<TrustBundle>>,
    followed: watch::Receiver<Revision>,
    changes: watch::Receiver<u64>,
}

/// The authority cannot start to follow the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The trust bundle in the store is damaged.
    #[error("the trust bundle cannot be used: {0}")]
    Bundle(#[from] BundleError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Authority {
    /// Finds the authority in the store, or makes it, and follows what it trusts from then on.
    ///
    /// # Errors
    /// [`StartError`], which says what to do.
    pub async fn start(settings: &Settings, store: &Arc<dyn Store>) -> Result<Authority, StartError> {
        let opened = open::open(settings, store).await?;
        let follower = follow::Follower::start(store.clone(), opened.bundle).await?;
        Ok(Authority {
            issuer: opened.issuer,
            delivery: opened.delivery,
            verifier: follower.verifier,
            trust: follower.trust,
            followed: follower.followed,
            changes: follower.changes,
        })
    }

    /// Who issues.
    #[must_use]
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The key that the delivery service of MLS groups signs with.
    #[must_use]
    pub fn delivery(&self) -> &AgentKey {
        &self.delivery
    }

    /// The trust domain.
    #[must_use]
    pub fn domain(&self) -> &TrustDomain {
        self.issuer.domain()
    }

    /// Who verifies; it changes as the store does.
    #[must_use]
    pub fn verifier(&self) -> &Arc<SharedVerifier> {
        &self.verifier
    }

    /// Counts the changes of the verifier.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// What everyone verifies with.
    #[must_use]
    pub fn trust(&self) -> Arc<TrustBundle> {
        self.trust.borrow().clone()
    }

    /// Waits until the verifier knows what was committed with this revision.
    ///
    /// # Errors
    /// That the process is ending.
    pub async fn caught_up(&self, revision: Revision) -> Result<(), Status> {
        let mut followed = self.followed.clone();
        followed
            .wait_for(|followed| *followed >= revision)
            .await
            .map_err(|_| Status::unavailable("the control process is ending; repeat"))?;
        Ok(())
    }
}
