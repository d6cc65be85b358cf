//! The verifier follows the store.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ringgate_identity::{Revocations, SharedVerifier, UnixTime, Verifier};
use ringgate_proto::control::v1::{Revocation, TrustBundle};
use ringgate_store::{Follow, Revision, Store, StoreError, Update};
use tokio::sync::watch;

use super::StartError;
use crate::keys;
use crate::wire;

/// Wait after something that no waiting in the store itself mends.
const RETRY: Duration = Duration::from_secs(1);

/// What others see of a follower. It ends when nobody does any more.
pub(super) struct Follower {
    pub(super) verifier: Arc<SharedVerifier>,
    pub(super) trust: watch::Receiver<Arc<TrustBundle>>,
    pub(super) followed: watch::Receiver<Revision>,
    pub(super) changes: watch::Receiver<u64>,
}

struct Task {
    verifier: Arc<SharedVerifier>,
    trust: watch::Sender<Arc<TrustBundle>>,
    followed: watch::Sender<Revision>,
    changes: watch::Sender<u64>,
}

impl Follower {
    /// Reads what is there, then follows in the background.
    pub(super) async fn start(store: Arc<dyn Store>, bundle: TrustBundle) -> Result<Follower, StartError> {
        let verifier = verifier(&bundle, Revocations::default())?;
        let mut follow = Follow::new(store, keys::STATE);
        let (trust, trust_seen) = watch::channel(Arc::new(bundle));
        let (followed, followed_seen) = watch::channel(Revision::default());
        let (changes, changes_seen) = watch::channel(0);
        let task = Task {
            verifier: Arc::new(SharedVerifier::new(verifier)),
            trust,
            followed,
            changes,
        };
        task.take(follow.next().await?);
        let follower = Follower {
            verifier: task.verifier.clone(),
            trust: trust_seen,
            followed: followed_seen,
            changes: changes_seen,
        };
        tokio::spawn(task.run(follow));
        Ok(follower)
    }
}

impl Task {
    async fn run(self, mut follow: Follow) {
        loop {
            tokio::select! {
                update = follow.next() => match update {
                    Ok(update) => self.take(update),
                    Err(error) => {
                        tracing::error!(%error, "cannot follow the store");
                        tokio::time::sleep(RETRY).await;
                    }
                },
                () = self.followed.closed() => return,
            }
        }
    }

    fn take(&self, update: Update) {
        let now = UnixTime::now();
        let bundle = self.trust.borrow().clone();
        let (bundle, revocations, revision) = match update {
            Update::All { entries, revision } => {
                let mut revocations = Revocations::default();
                let mut trust = None;
                for entry in &entries {
                    if entry.key == keys::trust().key() {
                        trust = decode::<TrustBundle>(&entry.value);
                    } else if keys::REVOCATIONS.rest(&entry.key).is_some() {
                        enter(&mut revocations, &entry.value);
                    }
                }
                revocations.prune(now, bundle.leaf_ttl_seconds_max, &HashSet::new());
                (trust.map(Arc::new).unwrap_or(bundle), Some(revocations), revision)
            }
            Update::Changed(batch) => {
                let (mut trust, mut revocations) = (bundle.clone(), None);
                for change in &batch.changes {
                    let Some(value) = &change.value else { continue };
                    if change.key == keys::trust().key() {
                        trust = decode(value).map_or(trust, Arc::new);
                    } else if keys::REVOCATIONS.rest(&change.key).is_some() {
                        let present = || self.verifier.load().revocations().clone();
                        enter(revocations.get_or_insert_with(present), value);
                    }
                }
                if Arc::ptr_eq(&trust, &bundle) && revocations.is_none() {
                    self.followed.send_replace(batch.revision);
                    return;
                }
                (trust, revocations, batch.revision)
            }
        };
        let revocations = revocations.unwrap_or_else(|| self.verifier.load().revocations().clone());
        match verifier(&bundle, revocations) {
            Ok(verifier) => {
                self.verifier.swap(verifier);
                self.trust.send_replace(bundle);
                self.changes.send_modify(|count| *count += 1);
            }
            Err(error) => {
                tracing::error!(%error, "the trust bundle in the store cannot be used; going on with the one before")
            }
        }
        self.followed.send_replace(revision);
    }
}

fn verifier(bundle: &TrustBundle, revocations: Revocations) -> Result<Verifier, StartError> {
    let bundle = wire::bundle_from_proto(bundle)
        .ok_or_else(|| StoreError::Corrupt("the trust bundle cannot be read".to_owned()))?;
    Ok(Verifier::new(bundle, revocations)?)
}

fn enter(revocations: &mut Revocations, value: &bytes::Bytes) {
    let Some(revocation) = decode::<Revocation>(value)
        .as_ref()
        .and_then(wire::revocation_from_proto)
    else {
        tracing::error!("a revocation in the store cannot be read");
        return;
    };
    if let Err(error) = revocations.insert(revocation) {
        tracing::error!(%error, "a revocation in the store cannot be taken");
    }
}

fn decode<T: prost::Message + Default>(value: &bytes::Bytes) -> Option<T> {
    T::decode(value.clone()).ok()
}
