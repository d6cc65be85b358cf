//! Who waits for what: one watch of the store for all who follow groups, mail and pools.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use ringgate_store::{Revision, Store, StoreError};
use tokio::sync::watch;

use crate::keys;

/// Wait after the store did not answer.
const RETRY: Duration = Duration::from_millis(500);
/// Names that are kept until those that nobody follows any more are looked for.
const SWEEP_ABOVE: usize = 1024;

/// Names of what can be followed: what comes after [`keys::MLS_LIVE`] in a key, as far as it names one thing.
pub(crate) mod signal {
    /// The record of a group, by its id (hex).
    pub(crate) fn group(id: &str) -> String {
        format!("group/{id}")
    }

    /// The mail of an identity.
    pub(crate) fn mail(identity: &str) -> String {
        format!("mail/{identity}")
    }

    /// The pools of an identity.
    pub(crate) fn pool(identity: &str) -> String {
        format!("pool/{identity}")
    }
}

/// Tells who follows something that it changed. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Hub {
    followed: Arc<Mutex<HashMap<String, watch::Sender<()>>>>,
}

impl Hub {
    /// Something to be waited on: it has changed once already, so that who follows looks first.
    pub(crate) fn follow(&self, name: &str) -> watch::Receiver<()> {
        let mut followed = self.followed();
        if followed.len() > SWEEP_ABOVE {
            followed.retain(|_, sender| sender.receiver_count() > 0);
        }
        let sender = followed
            .entry(name.to_owned())
            .or_insert_with(|| watch::Sender::new(()));
        let mut receiver = sender.subscribe();
        receiver.mark_changed();
        receiver
    }

    /// Follows the store for as long as it is polled.
    pub async fn run(self, store: Arc<dyn Store>) {
        loop {
            match self.watch(&store).await {
                Ok(()) | Err(StoreError::Compacted { .. }) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot follow groups in the store; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn watch(&self, store: &Arc<dyn Store>) -> Result<(), StoreError> {
        let prefix = bytes::Bytes::from_static(keys::MLS_LIVE);
        // The revision of now: nothing is read but that.
        let page = store
            .range(ringgate_store::Range::prefix(prefix.clone()).limit(1))
            .await?;
        let mut changes = store.watch(prefix, Revision(page.revision.0)).await?;
        // What was missed between two watches is unknown: everybody looks.
        self.followed().values().for_each(|sender| {
            sender.send_replace(());
        });
        while let Some(batch) = changes.next().await {
            let followed = self.followed();
            for change in batch?.changes {
                if let Some(sender) = name_of(&change.key).and_then(|name| followed.get(name)) {
                    sender.send_replace(());
                }
            }
        }
        Ok(())
    }

    fn followed(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<()>>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a key is followed by.
fn name_of(key: &[u8]) -> Option<&str> {
    let rest = std::str::from_utf8(key.strip_prefix(keys::MLS_LIVE)?).ok()?;
    Some(rest.split_once("%/").map_or(rest, |(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_followed_by_what_they_belong_to() {
        let identity = "agp://t/a/b/c/d%20e";
        for (key, name) in [
            (keys::group("00ff").key().clone(), signal::group("00ff")),
            (
                keys::mail(identity).at("x-1").key().clone(),
                signal::mail(identity),
            ),
            (
                keys::key_package_list(identity, 1).key().clone(),
                signal::pool(identity),
            ),
        ] {
            assert_eq!(name_of(&key), Some(&*name));
        }
        assert_eq!(name_of(b"state/policy"), None);
    }
}
