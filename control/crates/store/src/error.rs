//! What can go wrong with a store, by who can recover.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::Revision;

/// A store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A condition did not hold, because somebody else was first; nothing was changed. The caller reads again and decides again.
    #[error("somebody else changed `{}` meanwhile (condition {condition}): read it again and repeat", printable(.key))]
    Conflict {
        /// Which condition, counted from 0.
        condition: usize,
        /// The key it is about.
        key: Bytes,
    },
    /// The store cannot be reached or does not answer now. Whether a commit was done is not known. The caller waits and repeats.
    #[error("the store does not answer now ({reason}); repeat in {} ms", retry.as_millis())]
    Unavailable {
        /// What failed.
        reason: String,
        /// How long to wait before asking again.
        retry: Duration,
    },
    /// A request is beyond a limit; nothing was changed. The caller sends less.
    #[error("{size} {what} are too many: {limit} are allowed")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        size: usize,
        /// How much is allowed.
        limit: usize,
    },
    /// A transaction writes one key twice; nothing was changed. An error of the program.
    #[error("a transaction writes `{}` twice", printable(.key))]
    KeyTwice {
        /// The key.
        key: Bytes,
    },
    /// Changes that a watch would have to tell are no longer known. The caller reads everything again and watches from there.
    #[error(
        "changes before revision {oldest} are no longer known: read everything again and watch from there"
    )]
    Compacted {
        /// A watch can begin at this revision or after it.
        oldest: Revision,
    },
    /// A session is over, and what was put through it is gone. The caller begins another and puts everything again.
    #[error(
        "the store has not heard of this process for too long and has forgotten what it told: tell everything again"
    )]
    SessionEnded,
    /// What is stored cannot be understood. The operator restores a backup.
    #[error("the store is damaged: {0}; restore it from a backup")]
    Corrupt(String),
    /// The store cannot be opened. The operator does what the message says.
    #[error("cannot open the store: {reason}")]
    Open {
        /// What to do.
        reason: String,
        /// What the system said.
        #[source]
        source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    },
}

fn printable(key: &Bytes) -> String {
    key.escape_ascii().to_string()
}
