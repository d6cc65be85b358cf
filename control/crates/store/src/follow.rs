//! Following a prefix: what is there, then what changes, whatever happens in between.

use std::sync::Arc;

use bytes::Bytes;
use tokio_stream::StreamExt as _;

use crate::{Batch, Entry, RETRY, Revision, Store, StoreError, Watch};

/// What one who follows is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// All there is, in the order of keys, as of a revision. First, and again whenever changes were missed; what it does not hold
    /// is gone.
    All {
        /// The entries.
        entries: Vec<Entry>,
        /// What comes next is newer than this.
        revision: Revision,
    },
    /// What a commit changed.
    Changed(Batch),
}

/// Follows all keys under a prefix. It goes on by itself after everything a store recovers from.
#[derive(Debug)]
pub struct Follow {
    store: Arc<dyn Store>,
    prefix: Bytes,
    state: State,
}

enum State {
    /// Everything is to be read (again).
    Lost,
    /// A watch is to begin after this revision.
    Read(Revision),
    Watching(Watch, Revision),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            State::Lost => f.write_str("Lost"),
            State::Read(revision) => f.debug_tuple("Read").field(revision).finish(),
            State::Watching(_, revision) => f.debug_tuple("Watching").field(revision).finish(),
        }
    }
}

impl Follow {
    /// Begins with everything there is under the prefix.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, prefix: impl Into<Bytes>) -> Follow {
        Follow {
            store,
            prefix: prefix.into(),
            state: State::Lost,
        }
    }

    /// The next update. Waits, and asks again where the store does not answer; dropping the future loses nothing.
    ///
    /// # Errors
    /// What no waiting mends: [`StoreError::Corrupt`] and the like. It can be asked again, and begins with everything there is.
    pub async fn next(&mut self) -> Result<Update, StoreError> {
        loop {
            match self.step().await {
                Ok(Some(update)) => return Ok(update),
                Ok(None) => {}
                Err(StoreError::Unavailable { reason, retry }) => {
                    tracing::warn!(reason, prefix = %self.prefix.escape_ascii(), "the store does not answer; trying again");
                    tokio::time::sleep(retry.max(RETRY)).await;
                }
                Err(StoreError::Compacted { .. }) => self.state = State::Lost,
                Err(error) => {
                    self.state = State::Lost;
                    return Err(error);
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Option<Update>, StoreError> {
        match &mut self.state {
            State::Lost => {
                let (entries, revision) = self.store.all(&self.prefix).await?;
                self.state = State::Read(revision);
                Ok(Some(Update::All { entries, revision }))
            }
            State::Read(revision) => {
                let revision = *revision;
                let watch = self.store.watch(self.prefix.clone(), revision).await?;
                self.state = State::Watching(watch, revision);
                Ok(None)
            }
            State::Watching(watch, read) => match watch.next().await {
                Some(Ok(batch)) => {
                    *read = batch.revision;
                    Ok(Some(Update::Changed(batch)))
                }
                ended => {
                    self.state = State::Read(*read);
                    ended.map_or(Ok(None), |error| error.map(|_| None))
                }
            },
        }
    }
}
