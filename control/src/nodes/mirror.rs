//! One copy of the state for all data planes, which follows the store.

use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use ringgate_proto::control::v1::NodeState;
use ringgate_store::{Follow, Lineage, Revision, Store, StoreError};
use tokio::sync::watch;

use super::state::State;
use crate::keys;

/// Wait after something that no waiting in the store itself mends.
const RETRY: Duration = Duration::from_secs(1);

/// The state, and a signal when it changes.
#[derive(Debug)]
pub(super) struct Mirror {
    lineage: Lineage,
    state: RwLock<State>,
    version: watch::Sender<Revision>,
    /// Everything at a version: many who hold nothing come at once, after a failure.
    snapshot: Mutex<Option<(Revision, Arc<[NodeState]>)>>,
}

impl Mirror {
    /// Reads what is there, then follows until nobody has it any more.
    pub(super) async fn start(store: Arc<dyn Store>) -> Result<Arc<Mirror>, StoreError> {
        let mut state = State::default();
        let lineage = store.lineage();
        let mut follow = Follow::new(store, keys::STATE);
        state.take(follow.next().await?);
        let mirror = Arc::new(Mirror {
            lineage,
            version: watch::Sender::new(state.version()),
            state: RwLock::new(state),
            snapshot: Mutex::new(None),
        });
        tokio::spawn(run(Arc::downgrade(&mirror), follow));
        Ok(mirror)
    }

    pub(super) fn lineage(&self) -> Lineage {
        self.lineage
    }

    /// The version, whenever it changes.
    pub(super) fn versions(&self) -> watch::Receiver<Revision> {
        self.version.subscribe()
    }

    /// What one who holds a version needs; 0: everything. With the version they then have.
    pub(super) fn since(&self, held: Revision) -> (Revision, Arc<[NodeState]>) {
        // A writer that panicked left a state that is whole, if older.
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let version = state.version();
        if held > Revision(0) {
            return (version, state.since(held, self.lineage).into());
        }
        let mut snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        match &*snapshot {
            Some((of, parts)) if *of == version => (version, Arc::clone(parts)),
            _ => {
                let parts: Arc<[NodeState]> = state.since(held, self.lineage).into();
                *snapshot = Some((version, Arc::clone(&parts)));
                (version, parts)
            }
        }
    }
}

async fn run(mirror: Weak<Mirror>, mut follow: Follow) {
    loop {
        let update = follow.next().await;
        let Some(mirror) = mirror.upgrade() else { return };
        match update {
            Ok(update) => {
                let version = {
                    let mut state = mirror.state.write().unwrap_or_else(PoisonError::into_inner);
                    state.take(update);
                    state.version()
                };
                mirror.version.send_replace(version);
            }
            Err(error) => {
                tracing::error!(%error, "cannot follow the store; data planes go on with what they have");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
