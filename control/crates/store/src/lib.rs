//! What the control process keeps: ordered keys, atomic transactions, watches; in a file of its own ([`Redb`]) or in [`Etcd`].
//!
//! The model is etcd's, cut down to what both can promise:
//! * Keys are bytes, in byte order. Each has a value and the [`Revision`] of the commit that wrote it last.
//! * The store has one revision, which each commit that changes something moves up. It never goes back within one [`Lineage`].
//! * A commit happens wholly or not at all, after all commits that were acknowledged before it began, and is durable when
//!   [`Store::commit`] returns.
//! * A watch tells every change under a prefix, in the order of revisions, one [`Batch`] for each, without gaps; or says that it
//!   cannot ([`StoreError::Compacted`]).
//!
//! Pages are read one after the other, and each is as new as it can be. Who needs all under a prefix as of one moment, to watch
//! from there, takes [`Store::all`], or [`Follow`], which does both and goes on after failures.
#![forbid(unsafe_code)]

mod embedded;
mod error;
mod etcd;
mod follow;
#[cfg(feature = "testing")]
pub mod testing;
mod transaction;

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_stream::Stream;

pub use embedded::Redb;
pub use error::StoreError;
pub use etcd::{Etcd, EtcdOptions, EtcdTls};
pub use follow::{Follow, Update};
pub use transaction::{Condition, Transaction, Write};

/// Longest key in bytes. Keys are names with a prefix, and a name has at most 1 KiB (DESIGN §4).
pub const KEY_BYTES_MAX: usize = 2 * 1024;
/// Largest value in bytes. etcd refuses requests above 1.5 MiB (`--max-request-bytes`); this leaves room for the rest of one.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes of keys and values in one transaction, for the same reason.
pub const TRANSACTION_BYTES_MAX: usize = 1024 * 1024 + 256 * 1024;
/// Most conditions, and most writes, of one transaction: etcd's default (`--max-txn-ops`).
pub const TRANSACTION_OPS_MAX: usize = 128;
/// Most entries of one page.
pub const PAGE_ENTRIES_MAX: usize = 1000;
/// A page ends with the entry that fills it to this many bytes, so that a reader's memory is bounded whatever the entries are.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long to wait before asking again a store that did not answer, unless it says better.
pub(crate) const RETRY: Duration = Duration::from_millis(200);

/// Counts the commits of a store. 0 is before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one history of revisions: made at random when a store is made. Revisions of different lineages cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lineage(pub [u8; 16]);

/// A key as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// Of the commit that wrote it last.
    pub revision: Revision,
}

/// Which keys [`Store::range`] reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Only keys that begin with this.
    pub prefix: Bytes,
    /// Only keys after this one (or before it, from the end), which need not exist.
    pub beyond: Option<Bytes>,
    /// Most entries of the page; [`PAGE_ENTRIES_MAX`] at most. A page may hold fewer, with more to come.
    pub limit: usize,
    /// From the last key to the first.
    pub descending: bool,
}

impl Range {
    /// All keys under a prefix, in order, as many as a page holds.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> Range {
        Range {
            prefix: prefix.into(),
            beyond: None,
            limit: PAGE_ENTRIES_MAX,
            descending: false,
        }
    }

    /// Beginning beyond this key.
    #[must_use]
    pub fn beyond(mut self, key: impl Into<Bytes>) -> Range {
        self.beyond = Some(key.into());
        self
    }

    /// With at most so many entries.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Range {
        self.limit = limit.min(PAGE_ENTRIES_MAX);
        self
    }

    /// From the last key to the first.
    #[must_use]
    pub fn descending(mut self) -> Range {
        self.descending = true;
        self
    }
}

/// One answer of [`Store::range`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In the order asked for.
    pub entries: Vec<Entry>,
    /// Whether there are more keys beyond the last entry.
    pub more: bool,
    /// Of the store when this was read. A watch from here misses nothing of what came after the page.
    pub revision: Revision,
}

/// What one commit changed under the prefix of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Of the commit.
    pub revision: Revision,
    /// Keys in order, each once.
    pub changes: Vec<Change>,
}

/// What happened to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// Its new value; `None`: it was deleted.
    pub value: Option<Bytes>,
}

/// The changes under a prefix, as they are committed. It ends only with an error; a new watch from the revision of the last batch
/// then goes on without a gap.
pub type Watch = Pin<Box<dyn Stream<Item = Result<Batch, StoreError>> + Send>>;

/// Ordered keys with atomic, durable commits.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// Which history this store's revisions count in.
    fn lineage(&self) -> Lineage;

    /// Whether other processes use this store at the same time.
    fn is_shared(&self) -> bool;

    /// The value of a key, as of the newest commit.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    async fn get(&self, key: &[u8]) -> Result<Option<Entry>, StoreError>;

    /// Some keys in order, as of the newest commit.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    async fn range(&self, range: Range) -> Result<Page, StoreError>;

    /// All entries under a prefix, in order, as of one revision. For what fits into memory; logs do not.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`]; [`StoreError::Compacted`] when it took so long that the moment it
    /// began with is no longer known: try again.
    async fn all(&self, prefix: &[u8]) -> Result<(Vec<Entry>, Revision), StoreError>;

    /// Does all writes if all conditions hold. Returns the store's revision after it, which is the one of this commit if anything
    /// changed (deleting what is not there changes nothing).
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a condition does not hold: nothing was changed. [`StoreError::TooLarge`] and
    /// [`StoreError::KeyTwice`]: nothing was changed. [`StoreError::Unavailable`]: it may have been done or not; a transaction with
    /// a condition on something it writes can be repeated safely.
    async fn commit(&self, transaction: Transaction) -> Result<Revision, StoreError>;

    /// All changes under a prefix that come after a revision.
    ///
    /// # Errors
    /// [`StoreError::Compacted`], here or from the stream, when changes after `after` are no longer known (or the reader was too
    /// slow): read everything again with [`Store::range`] and watch from there.
    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<Watch, StoreError>;

    /// Begins a session: what is put through it vanishes when this process does, at the latest `ttl` (whole seconds) after it was
    /// last heard of. `None` where the store is not shared, since nobody else would see it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn session(&self, ttl: Duration) -> Result<Option<Box<dyn Session>>, StoreError>;
}

/// Keys that vanish with whoever put them. Dropping the session removes them too, as soon as the store answers.
#[async_trait]
pub trait Session: Send + Sync + fmt::Debug + 'static {
    /// Does these writes, whatever is there.
    ///
    /// # Errors
    /// As [`Store::commit`], but for conflicts; [`StoreError::SessionEnded`] when the store has not heard of this process for too
    /// long, and has removed all that was put: begin another session and put everything again.
    async fn write(&self, writes: Vec<Write>) -> Result<Revision, StoreError>;

    /// Comes back when the store is known to have ended the session.
    async fn ended(&self);
}

/// The first key after all that begin with a prefix; `None`: there is none, as for the empty prefix.
pub(crate) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}
