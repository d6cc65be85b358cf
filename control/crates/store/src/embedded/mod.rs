//! The store in a file of its own, for one control process: redb.
//!
//! One thread writes. It takes all transactions that wait, does them one after the other in one transaction of redb, and makes them
//! durable together, so that many writers share the cost of one `fsync`. It is a thread and not a task because it blocks for most of
//! its life. Readers see the newest durable state and never wait for the writer.

mod file;
mod log;
mod writer;

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redb::{Database, ReadTransaction, ReadableDatabase, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Entry, Lineage, PAGE_BYTES_MAX, Page, RETRY, Range, Revision, Session, Store, StoreError, Transaction,
    Watch, after_prefix,
};
use log::Log;
use writer::Request;

/// Key to the revision that wrote it last, and its value.
const ENTRIES: TableDefinition<'_, &[u8], (u64, &[u8])> = TableDefinition::new("entries");
/// What the store knows about itself: [`FORMAT`], [`LINEAGE`], [`REVISION`].
const ABOUT: TableDefinition<'_, &str, u128> = TableDefinition::new("about");
/// Of this layout of tables.
const FORMAT: (&str, u128) = ("format", 1);
const LINEAGE: &str = "lineage";
const REVISION: &str = "revision";

/// Most transactions that wait for the writer. More would only wait longer: at 10 000 commits a second this is 0.4 s.
const WAITING_MAX: usize = 4096;

/// The embedded store.
#[derive(Debug)]
pub struct Redb {
    database: Arc<Database>,
    lineage: Lineage,
    log: Arc<Log>,
    /// `None` once the store is being dropped: that ends the writer.
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

impl Redb {
    /// Opens the store in this file, or makes it: with mode 0600, in a folder of mode 0700. Blocks on the disk.
    ///
    /// # Errors
    /// [`StoreError::Open`] with what to do, among others when another process uses the file or when others on this machine may
    /// read it. [`StoreError::Corrupt`].
    pub fn open(path: &Path) -> Result<Redb, StoreError> {
        let database = Arc::new(file::open(path)?);
        let (lineage, revision) = about(&database)?;
        let log = Arc::new(Log::new(revision));
        let (requests, waiting) = mpsc::channel(WAITING_MAX);
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn({
                let (database, log) = (Arc::clone(&database), Arc::clone(&log));
                move || writer::run(&database, &log, waiting)
            });
        let writer = writer.map_err(|source| {
            file::refused("no thread can be started; raise the limit of processes", source)
        })?;
        Ok(Redb {
            database,
            lineage,
            log,
            requests: Some(requests),
            writer: Some(writer),
        })
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let database = Arc::clone(&self.database);
        tokio::task::spawn_blocking(move || read(&database.begin_read().map_err(redb::Error::from)?))
            .await
            .map_err(|_| unavailable("a read was stopped"))?
    }
}

impl Drop for Redb {
    /// Waits for what is being written, so that the file can be opened again at once.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer has panicked");
        }
    }
}

#[async_trait]
impl Store for Redb {
    fn lineage(&self) -> Lineage {
        self.lineage
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        let key = Bytes::copy_from_slice(key);
        self.read(move |transaction| {
            let entries = transaction.open_table(ENTRIES).map_err(redb::Error::from)?;
            let found = entries.get(&key[..]).map_err(redb::Error::from)?;
            Ok(found.map(|found| entry(&key, found.value())))
        })
        .await
    }

    async fn range(&self, range: Range) -> Result<Page, StoreError> {
        self.read(move |transaction| page(transaction, &range)).await
    }

    async fn all(&self, prefix: &[u8]) -> Result<(Vec<Entry>, Revision), StoreError> {
        let mut range = Range::prefix(Bytes::copy_from_slice(prefix));
        self.read(move |transaction| {
            let mut all = Vec::new();
            loop {
                let page = page(transaction, &range)?;
                range.beyond = page.entries.last().map(|last| last.key.clone());
                all.extend(page.entries);
                if !page.more {
                    return Ok((all, page.revision));
                }
            }
        })
        .await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Revision, StoreError> {
        transaction.check()?;
        let (answer, answered) = oneshot::channel();
        let ended = || unavailable("its writer has ended; the log says why");
        let requests = self.requests.as_ref().ok_or_else(ended)?;
        let request = Request { transaction, answer };
        requests.send(request).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }

    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<Watch, StoreError> {
        log::watch(&self.log, prefix, after)
    }

    async fn session(&self, _ttl: Duration) -> Result<Option<Box<dyn Session>>, StoreError> {
        Ok(None)
    }
}

fn page(transaction: &ReadTransaction, range: &Range) -> Result<Page, StoreError> {
    let entries = transaction.open_table(ENTRIES).map_err(redb::Error::from)?;
    let mut page = Page {
        entries: Vec::new(),
        more: false,
        revision: revision(transaction)?,
    };
    let end = after_prefix(&range.prefix);
    let mut bounds = (
        Bound::Included(&range.prefix[..]),
        end.as_deref().map_or(Bound::Unbounded, Bound::Excluded),
    );
    match &range.beyond {
        Some(key) if range.descending && end.as_ref().is_none_or(|end| end[..] > key[..]) => {
            bounds.1 = Bound::Excluded(key)
        }
        Some(key) if !range.descending && key[..] >= range.prefix[..] => bounds.0 = Bound::Excluded(key),
        _ => {}
    }
    if is_empty(bounds) {
        return Ok(page);
    }
    let mut found = entries.range::<&[u8]>(bounds).map_err(redb::Error::from)?;
    let mut bytes = 0;
    while let Some(next) = if range.descending {
        found.next_back()
    } else {
        found.next()
    } {
        if page.entries.len() >= range.limit || bytes >= PAGE_BYTES_MAX {
            page.more = true;
            break;
        }
        let (key, value) = next.map_err(redb::Error::from)?;
        let next = entry(key.value(), value.value());
        bytes += next.key.len() + next.value.len();
        page.entries.push(next);
    }
    Ok(page)
}

/// Whether no key can be within these bounds; redb, like the standard library, takes such bounds for an error.
fn is_empty(bounds: (Bound<&[u8]>, Bound<&[u8]>)) -> bool {
    match bounds {
        (Bound::Included(first), Bound::Excluded(end)) | (Bound::Excluded(first), Bound::Excluded(end)) => {
            first >= end
        }
        _ => false,
    }
}

fn entry(key: &[u8], (revision, value): (u64, &[u8])) -> Entry {
    Entry {
        key: Bytes::copy_from_slice(key),
        value: Bytes::copy_from_slice(value),
        revision: Revision(revision),
    }
}

fn about(database: &Database) -> Result<(Lineage, Revision), StoreError> {
    let transaction = database.begin_read().map_err(redb::Error::from)?;
    let table = transaction.open_table(ABOUT).map_err(redb::Error::from)?;
    let get = |name: &str| -> Result<u128, StoreError> {
        let found = table.get(name).map_err(redb::Error::from)?;
        found
            .map(|found| found.value())
            .ok_or_else(|| StoreError::Corrupt(format!("it does not say its {name}")))
    };
    match get(FORMAT.0)? {
        format if format == FORMAT.1 => {}
        format => {
            return Err(file::refuse(format!(
                "it has format {format} and this version reads format {}: use the version of ringgate-control that wrote it",
                FORMAT.1
            )));
        }
    }
    Ok((Lineage(get(LINEAGE)?.to_be_bytes()), revision(&transaction)?))
}

fn revision(transaction: &ReadTransaction) -> Result<Revision, StoreError> {
    let table = transaction.open_table(ABOUT).map_err(redb::Error::from)?;
    writer::stored_revision(&table)
}

fn unavailable(reason: &str) -> StoreError {
    StoreError::Unavailable {
        reason: reason.to_owned(),
        retry: RETRY,
    }
}

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> StoreError {
        match error {
            redb::Error::Corrupted(what) => StoreError::Corrupt(what),
            redb::Error::PreviousIo => {
                unavailable("the disk failed before; look at it, then start the control process again")
            }
            error => unavailable(&error.to_string()),
        }
    }
}
