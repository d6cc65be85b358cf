//! Why the log of durable spaces cannot be used.

use std::io;
use std::path::PathBuf;

use ringgate_state::log::{Damage, Malformed};

/// The log cannot be read or kept. The message says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// A file or folder cannot be used.
    #[error(
        "durable spaces: cannot {what} {path}: {source}. Look at the disk and the folder's owner (key state.directory)"
    )]
    File {
        /// What was tried.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process uses the folder.
    #[error(
        "durable spaces: another process uses {path}; stop it, or give this node another folder (key state.directory)"
    )]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// What had been acknowledged is damaged.
    #[error(
        "durable spaces: {path} is damaged: {damage}. Nothing is served that may be wrong: restore the folder from a copy, or move this \
         file away to start without the changes in it"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        damage: Damage,
    },
    /// What had been acknowledged is gone.
    #[error(
        "durable spaces: {path} ends after {found} batches, though {wanted} were acknowledged. Restore the folder from a copy, or move this \
         file away to start without the changes in it"
    )]
    Short {
        /// The file.
        path: PathBuf,
        /// How many are good.
        found: u64,
        /// How many must be.
        wanted: u64,
    },
    /// It is of another version.
    #[error("durable spaces: {path}: {source}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where.
        source: Malformed,
    },
    /// The log's executor does not start.
    #[error("durable spaces: cannot start the executor of the log: {0}. See `ringgate doctor`")]
    Executor(String),
}
