//! The thread that writes: many transactions, one `fsync`.

use bytes::Bytes;
use redb::{Database, ReadableTable, Table};
use tokio::sync::{mpsc, oneshot};

use super::log::Log;
use super::{ABOUT, ENTRIES, REVISION};
use crate::{Batch, Change, Revision, StoreError, Transaction, Write};

/// Most transactions that share one `fsync`. Enough to make its cost small beside theirs, and few enough that the first of them does
/// not wait long for the last: 256 take some milliseconds.
const GROUP_MAX: usize = 256;

/// A transaction, and who waits for its outcome.
pub(super) struct Request {
    pub(super) transaction: Transaction,
    pub(super) answer: oneshot::Sender<Result<Revision, StoreError>>,
}

/// Until nobody can ask any more.
pub(super) fn run(database: &Database, log: &Log, mut requests: mpsc::Receiver<Request>) {
    let mut group = Vec::with_capacity(GROUP_MAX);
    while let Some(first) = requests.blocking_recv() {
        group.push(first);
        while group.len() < GROUP_MAX
            && let Ok(next) = requests.try_recv()
        {
            group.push(next);
        }
        match write(database, &group) {
            Ok((outcomes, batches)) => {
                log.push(batches);
                for (request, outcome) in group.drain(..).zip(outcomes) {
                    // Whoever gave up waiting does not want to know.
                    let _ = request.answer.send(outcome);
                }
            }
            Err(error) => {
                tracing::error!(%error, transactions = group.len(), "the store cannot write");
                for request in group.drain(..) {
                    let _ = request.answer.send(Err(error.clone()));
                }
            }
        }
    }
}

type Outcomes = Vec<Result<Revision, StoreError>>;

/// Does a group, durably. An outcome that is an error has changed nothing; an error of the whole may have or not.
fn write(database: &Database, group: &[Request]) -> Result<(Outcomes, Vec<Batch>), StoreError> {
    let mut transaction = database.begin_write().map_err(redb::Error::from)?;
    // Recovery after a crash then does not read the whole file, and a torn write is found by construction and not by checksum
    // alone. It costs a second sync, which the group shares.
    transaction.set_quick_repair(true);
    let mut outcomes = Vec::with_capacity(group.len());
    let mut batches = Vec::new();
    {
        let mut about = transaction.open_table(ABOUT).map_err(redb::Error::from)?;
        let mut entries = transaction.open_table(ENTRIES).map_err(redb::Error::from)?;
        let before = stored_revision(&about)?;
        let mut revision = before;
        for request in group {
            let next = Revision(revision.0 + 1);
            outcomes.push(match apply(&mut entries, &request.transaction, next)? {
                Ok(changes) => {
                    if !changes.is_empty() {
                        revision = next;
                        batches.push(Batch { revision, changes });
                    }
                    Ok(revision)
                }
                Err(conflict) => Err(conflict),
            });
        }
        if revision > before {
            about
                .insert(REVISION, u128::from(revision.0))
                .map_err(redb::Error::from)?;
        }
    }
    if batches.is_empty() {
        // What they saw is durable already: only durable states are read.
        transaction.abort().map_err(redb::Error::from)?;
    } else {
        transaction.commit().map_err(redb::Error::from)?;
    }
    Ok((outcomes, batches))
}

/// Does one transaction: the changes it made, in the order of keys, or the condition that did not hold.
fn apply(
    entries: &mut Table<'_, &'static [u8], (u64, &'static [u8])>,
    transaction: &Transaction,
    revision: Revision,
) -> Result<Result<Vec<Change>, StoreError>, redb::Error> {
    for (index, condition) in transaction.conditions.iter().enumerate() {
        let found = entries
            .get(&condition.key[..])?
            .map_or(0, |found| found.value().0);
        if found != condition.revision.0 {
            return Ok(Err(StoreError::Conflict {
                condition: index,
                key: condition.key.clone(),
            }));
        }
    }
    let mut changes: Vec<Change> = Vec::with_capacity(transaction.writes.len());
    let changed = |key: &Bytes, value: Option<&Bytes>| Change {
        key: key.clone(),
        value: value.cloned(),
    };
    for write in &transaction.writes {
        match write {
            Write::Put(key, value) => {
                entries.insert(&key[..], (revision.0, &value[..]))?;
                changes.push(changed(key, Some(value)));
            }
            Write::Delete(key) => {
                if entries.remove(&key[..])?.is_some() {
                    changes.push(changed(key, None));
                }
            }
        }
    }
    changes.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(Ok(changes))
}

/// The store's revision.
pub(super) fn stored_revision(
    about: &impl ReadableTable<&'static str, u128>,
) -> Result<Revision, StoreError> {
    let found = about.get(REVISION).map_err(redb::Error::from)?;
    found
        .and_then(|found| u64::try_from(found.value()).ok())
        .map(Revision)
        .ok_or_else(|| StoreError::Corrupt("it does not say its revision".to_owned()))
}
