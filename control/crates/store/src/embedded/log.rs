//! The newest commits, kept in memory for those who watch.
//!
//! There is one log and no queue per watch: each watch remembers how far it has read. So a slow one costs nothing, and learns that
//! it was too slow when what it wants next is gone.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch as signal;

use super::unavailable;
use crate::{Batch, Change, Revision, StoreError, Watch};

/// Most commits remembered. A watch may fall this far behind: ten seconds at 1 000 commits a second.
const COMMITS_MAX: usize = 10_000;
/// Most bytes of keys and values remembered.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most commits a watch looks at in one go, which bounds how long it holds the log.
const LOOK_MAX: usize = 256;

/// The newest commits.
#[derive(Debug)]
pub(super) struct Log {
    kept: Mutex<Kept>,
    newest: signal::Sender<Revision>,
}

#[derive(Debug)]
struct Kept {
    /// Consecutive revisions, the first of which is the one after `oldest`.
    commits: VecDeque<Arc<Batch>>,
    bytes: usize,
    /// All commits after this one are kept.
    oldest: Revision,
}

impl Log {
    /// One that begins after a revision.
    pub(super) fn new(revision: Revision) -> Log {
        let kept = Kept {
            commits: VecDeque::new(),
            bytes: 0,
            oldest: revision,
        };
        Log {
            kept: Mutex::new(kept),
            newest: signal::Sender::new(revision),
        }
    }

    /// Adds the next commits and tells those who watch.
    pub(super) fn push(&self, batches: Vec<Batch>) {
        let Some(newest) = batches.last().map(|batch| batch.revision) else {
            return;
        };
        {
            let mut kept = self.kept();
            for batch in batches {
                debug_assert_eq!(batch.revision.0, kept.oldest.0 + kept.commits.len() as u64 + 1);
                kept.bytes += size(&batch);
                kept.commits.push_back(Arc::new(batch));
            }
            while kept.commits.len() > COMMITS_MAX || kept.bytes > BYTES_MAX {
                let Some(gone) = kept.commits.pop_front() else {
                    break;
                };
                kept.bytes -= size(&gone);
                kept.oldest = gone.revision;
            }
        }
        self.newest.send_replace(newest);
    }

    /// The commits after a revision, oldest first; `None`: some are gone.
    fn after(&self, revision: Revision) -> Result<Vec<Arc<Batch>>, StoreError> {
        let kept = self.kept();
        let Some(skip) = revision.0.checked_sub(kept.oldest.0) else {
            return Err(StoreError::Compacted { oldest: kept.oldest });
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        Ok(kept.commits.iter().skip(skip).take(LOOK_MAX).cloned().collect())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // What holds the lock cannot panic half-way through a change.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is committed under a prefix after a revision.
pub(super) fn watch(log: &Arc<Log>, prefix: Bytes, after: Revision) -> Result<Watch, StoreError> {
    log.after(after)?;
    let reader = Reader {
        newest: log.newest.subscribe(),
        // The stream must not keep the store open: it ends when the store is dropped.
        log: Arc::downgrade(log),
        prefix,
        read: after,
        found: VecDeque::new(),
        ended: false,
    };
    Ok(Box::pin(futures_lite::stream::unfold(
        reader,
        |mut reader| async move {
            let next = reader.next().await?;
            reader.ended = next.is_err();
            Some((next, reader))
        },
    )))
}

struct Reader {
    log: std::sync::Weak<Log>,
    newest: signal::Receiver<Revision>,
    prefix: Bytes,
    /// Everything up to here was looked at.
    read: Revision,
    found: VecDeque<Batch>,
    ended: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Batch, StoreError>> {
        while !self.ended {
            if let Some(batch) = self.found.pop_front() {
                return Some(Ok(batch));
            }
            // Marked as seen before the log is read, so that no commit in between is missed.
            self.newest.borrow_and_update();
            let Some(log) = self.log.upgrade() else {
                return Some(Err(unavailable("it is being closed")));
            };
            let commits = match log.after(self.read) {
                Ok(commits) => commits,
                Err(gone) => return Some(Err(gone)),
            };
            drop(log);
            if commits.is_empty() {
                if self.newest.changed().await.is_err() {
                    return Some(Err(unavailable("it is being closed")));
                }
                continue;
            }
            for commit in commits {
                self.read = commit.revision;
                self.found.extend(under(&commit, &self.prefix));
            }
        }
        None
    }
}

fn under(commit: &Batch, prefix: &[u8]) -> Option<Batch> {
    let changes: Vec<Change> = commit
        .changes
        .iter()
        .filter(|change| change.key.starts_with(prefix))
        .cloned()
        .collect();
    (!changes.is_empty()).then_some(Batch {
        revision: commit.revision,
        changes,
    })
}

fn size(batch: &Batch) -> usize {
    let change = |change: &Change| change.key.len() + change.value.as_ref().map_or(0, Bytes::len);
    batch.changes.iter().map(change).sum()
}
