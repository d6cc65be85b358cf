//! The log of durable state spaces, and of what durable topics keep, in files: `ringgate-state` says what is in them, the gateway what is written.
//!
//! ```text
//!   core 0 ── pieces ──►┐                       ┌── 00000000000000000007.log   core 0, older
//!   core 1 ── pieces ──►│  executor of the log  ├── 00000000000000000009.log   core 0, written now
//!      ▲                │  (a task each core)   └── 00000000000000000008.log   core 1, written now
//!      └─ Synced, Failed ◄┘
//! ```
//!
//! The files are written by glommio (direct I/O), on an executor of their own: on a data core glommio would submit and reap only when
//! our loop parks or is pre-empted, and a sync would take as long as that.
//!
//! Invariants worth naming:
//! * Of each core one batch is being written; the next is written when that is synced. All that came meanwhile is one batch.
//! * The room that a file may need is taken before anything is in it, so that a full disk shows before there is half a batch.
//! * After a failure a new file is begun, which says how much of the last one counts.
//! * Files are deleted oldest first, and only once a snapshot that is newer is on disk.

mod error;
mod keeper;
mod recovery;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use ringgate_gateway::LogPiece;
use ringgate_state::Kept;
use ringgate_state::log::Recovered;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub use error::LogError;

use crate::config::StateConfig;
use crate::observe::CommandSender;

/// Memory that glommio registers for the log's writes.
const IO_BYTES: usize = 1024 * 1024;

/// Spaces as they were, by name.
type Spaces = BTreeMap<Arc<str>, Recovered>;

/// What a node's cores need of the log. Clones are the same.
#[derive(Debug, Clone)]
pub struct LogPort {
    /// Where each core's pieces go. Not bounded by itself: `limits.state_unsynced_bytes_max` bounds what a core sends.
    senders: Arc<[UnboundedSender<LogPiece>]>,
    /// What was there, until its owner takes it. Locked once by each core, before it serves.
    recovered: Arc<Mutex<Spaces>>,
    /// Likewise, the messages that topics kept.
    kept: Arc<Mutex<Vec<Kept>>>,
}

impl LogPort {
    /// Writes a piece of a core's log, behind those before it.
    pub fn send(&self, core: usize, piece: LogPiece) {
        // The keeper ends after the cores.
        let _ = self.senders[core].send(piece);
    }

    /// Takes out the spaces for which `wanted` holds.
    pub fn take(&self, wanted: impl Fn(&str) -> bool) -> Vec<(Arc<str>, Recovered)> {
        let mut recovered = self.recovered.lock().unwrap_or_else(PoisonError::into_inner);
        let names: Vec<Arc<str>> = recovered.keys().filter(|name| wanted(name)).cloned().collect();
        let taken = names.into_iter().map(|name| {
            let space = recovered.remove(&name).unwrap_or_default();
            (name, space)
        });
        taken.collect()
    }

    /// Takes out the messages of topics for which `wanted` holds.
    pub fn take_kept(&self, wanted: impl Fn(&str) -> bool) -> Vec<Kept> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extract_if(.., |kept| wanted(&kept.topic)).collect()
    }
}

/// The log, read; to be written.
#[derive(Debug)]
pub struct Log {
    directory: PathBuf,
    segment_bytes: u64,
    /// Keeps other processes out.
    lock: File,
    /// Files of earlier runs, oldest first.
    inherited: Vec<PathBuf>,
    next_segment: u64,
    receivers: Vec<UnboundedReceiver<LogPiece>>,
}

impl Log {
    /// Reads what is there, for a node of so many cores.
    ///
    /// # Errors
    /// [`LogError`] with what to do.
    pub fn open(config: &StateConfig, cores: usize) -> Result<(Log, LogPort), LogError> {
        let lock = recovery::lock(&config.directory)?;
        let found = recovery::read(&config.directory)?;
        let keys: usize = found.spaces.values().map(|space| space.keys.len()).sum();
        let files = found.files.len();
        let (spaces, messages) = (found.spaces.len(), found.kept.len());
        tracing::info!(directory = %config.directory.display(), files, spaces, keys, messages, "durable spaces and topics recovered");
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..cores).map(|_| unbounded_channel()).unzip();
        let log = Log {
            directory: config.directory.clone(),
            segment_bytes: config.segment_bytes,
            lock,
            inherited: found.files,
            next_segment: found.next_segment,
            receivers,
        };
        let port = LogPort {
            senders: senders.into(),
            recovered: Arc::new(Mutex::new(found.spaces)),
            kept: Arc::new(Mutex::new(found.kept)),
        };
        Ok((log, port))
    }

    /// Writes until all cores have ended.
    ///
    /// # Errors
    /// [`LogError::Executor`].
    pub fn run(self, cores: Vec<CommandSender>) -> Result<ExecutorJoinHandle<()>, LogError> {
        LocalExecutorBuilder::new(Placement::Unbound)
            .name("log")
            .io_memory(IO_BYTES)
            .spawn(move || keeper::keep(self, cores))
            .map_err(|error| LogError::Executor(error.to_string()))
    }
}
