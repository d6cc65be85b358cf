//! The one writer of this process: many changes, one commit.
//!
//! A change is a [`Step`]: it reads from a [`Draft`], decides, and writes into it. The ledger takes the steps that wait, lets them
//! see each other's writes in turn, and commits what they wrote as one transaction on the condition that nothing they read has
//! changed. If another process was first, all are taken again on what is there now. So steps never conflict within a process, a chain
//! of hashes costs one sync of the disk for many entries, and each step is atomic.
//!
//! A step that refuses leaves nothing behind. The answer of a step is given when its writes are durable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use ringgate_store::{
    Condition, Entry, Revision, Store, StoreError, TRANSACTION_BYTES_MAX, TRANSACTION_OPS_MAX, Transaction,
    Write,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot};
use tonic::{Code, Status};

use crate::errors::{refusal, store_refusal};
use crate::keys::{self, Slot};

use ringgate_proto::control::v1::{AuditEntry, Issued};

/// Steps that wait; more are refused with `OVERLOADED`. At 1 000 a second this is a wait of four seconds.
pub const WAITING_MAX: usize = 4096;
/// Keys that one step may read, and write, unless it says otherwise ([`Step::keys_max`]). A batch takes another step only while it
/// has room for that many.
pub const STEP_KEYS_MAX: usize = 16;
/// Bytes that one step may write, for the same reason, unless it says otherwise ([`Step::bytes_max`]).
pub const STEP_BYTES_MAX: usize = 256 * 1024;
/// How often a batch is taken again because another process was first, or because the store did not answer.
const ATTEMPTS_MAX: u32 = 20;
/// Longest wait before a batch is taken again.
const RETRY_MAX: Duration = Duration::from_millis(500);

/// A change.
#[async_trait]
pub trait Step: Send + Sync + 'static {
    /// What the caller learns when it is done.
    type Output: Send + 'static;

    /// Reads and writes. May be called several times, each time on a draft without what the last call wrote.
    ///
    /// # Errors
    /// Why it refuses; then nothing that it wrote happens.
    async fn take(&self, draft: &mut Draft) -> Result<Self::Output, Status>;

    /// Bytes that it may write. A batch takes it only while it has room for that many; no more than a transaction takes
    /// ([`TRANSACTION_BYTES_MAX`]), which is then its own.
    fn bytes_max(&self) -> usize {
        STEP_BYTES_MAX
    }

    /// Keys that it may read, and write; no more than a transaction takes ([`TRANSACTION_OPS_MAX`]).
    fn keys_max(&self) -> usize {
        STEP_KEYS_MAX
    }
}

/// The one writer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ledger {
    queue: mpsc::Sender<Box<dyn Job>>,
}

impl Ledger {
    /// Starts it. It ends when the last clone is gone and what waited is done.
    #[must_use]
    pub fn start(store: Arc<dyn Store>) -> Ledger {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        tokio::spawn(
            Writer {
                store,
                heads: BTreeMap::new(),
            }
            .run(waiting),
        );
        Ledger { queue }
    }

    /// Takes a step and waits until what it wrote is durable. Gives also the revision of the store that holds it.
    ///
    /// # Errors
    /// What the step refuses with; `OVERLOADED`; `STORE_UNAVAILABLE` (the change may have happened or not).
    pub async fn take<S: Step>(&self, step: S) -> Result<(S::Output, Revision), Status> {
        let (answer, done) = oneshot::channel();
        let job = Box::new(Waiting {
            step,
            outcome: None,
            answer,
        });
        self.queue.try_send(job).map_err(|_| {
            refusal(
                Code::ResourceExhausted,
                "OVERLOADED",
                "too many changes wait for the store; repeat in a second",
            )
        })?;
        done.await
            .unwrap_or_else(|_| Err(Status::unavailable("the control process is ending; repeat")))
    }
}

/// What steps see and write.
#[derive(Debug)]
pub struct Draft {
    store: Arc<dyn Store>,
    /// What this process wrote last: read from here, not from the store.
    cached: BTreeMap<Bytes, Entry>,
    /// What was read, which must be unchanged at the commit.
    read: BTreeMap<Bytes, Option<Entry>>,
    /// What steps before this one wrote.
    written: BTreeMap<Bytes, Write>,
    written_bytes: usize,
    /// What this step read and wrote.
    step_read: BTreeMap<Bytes, Option<Entry>>,
    step_written: BTreeMap<Bytes, Write>,
}

impl Draft {
    /// The value of a key, as earlier steps left it.
    ///
    /// # Errors
    /// That the store does not answer.
    pub async fn get<T: Message + Default>(&mut self, slot: &Slot<T>) -> Result<Option<T>, Status> {
        let unreadable = || {
            store_refusal(&StoreError::Corrupt(format!(
                "`{}` cannot be read",
                slot.key().escape_ascii()
            )))
        };
        if let Some(write) = self
            .step_written
            .get(slot.key())
            .or_else(|| self.written.get(slot.key()))
        {
            return match write {
                Write::Put(_, value) => T::decode(value.clone()).map(Some).map_err(|_| unreadable()),
                Write::Delete(_) => Ok(None),
            };
        }
        let seen = [&self.read, &self.step_read]
            .into_iter()
            .find_map(|read| read.get(slot.key()));
        let entry = match (seen, self.cached.get(slot.key())) {
            (Some(entry), _) => entry.clone(),
            (None, Some(entry)) => Some(entry.clone()),
            (None, None) => self
                .store
                .get(slot.key())
                .await
                .map_err(|error| store_refusal(&error))?,
        };
        self.step_read.insert(slot.key().clone(), entry.clone());
        entry
            .map(|entry| T::decode(entry.value).map_err(|_| unreadable()))
            .transpose()
    }

    /// Writes a key.
    pub fn put<T: Message + Default>(&mut self, slot: &Slot<T>, value: &T) {
        self.write(slot.put(value));
    }

    /// Removes a key.
    pub fn delete<T: Message + Default>(&mut self, slot: &Slot<T>) {
        self.write(slot.delete());
    }

    /// Writes.
    pub fn write(&mut self, write: Write) {
        self.step_written.insert(write.key().clone(), write);
    }

    /// Appends to the issuance log and its indexes. Gives the entry with its number and hashes.
    ///
    /// # Errors
    /// That the store does not answer.
    pub async fn issued(&mut self, entry: Issued) -> Result<Issued, Status> {
        let entry = self.append(&keys::issued_head(), keys::issued, entry).await?;
        self.put(&keys::issued_serial(&entry.serial), &entry.number);
        self.put(&keys::issued_key(&hex(&entry.key_sha256)), &entry.number);
        self.put(
            &keys::issued_identity(&entry.identity, entry.number),
            &entry.number,
        );
        Ok(entry)
    }

    /// Appends to the audit log.
    ///
    /// # Errors
    /// That the store does not answer.
    pub async fn audit(&mut self, entry: AuditEntry) -> Result<(), Status> {
        self.append(&keys::audit_head(), keys::audit, entry).await?;
        Ok(())
    }

    async fn append<T: Chained>(
        &mut self,
        head: &Slot<T>,
        slot: fn(u64) -> Slot<T>,
        entry: T,
    ) -> Result<T, Status> {
        let before = self.get(head).await?;
        let entry = entry.linked(before.as_ref());
        self.put(head, &entry);
        self.put(&slot(entry.number()), &entry);
        Ok(entry)
    }

    fn new(store: Arc<dyn Store>, cached: &BTreeMap<Bytes, Entry>) -> Draft {
        Draft {
            store,
            cached: cached.clone(),
            read: BTreeMap::new(),
            written: BTreeMap::new(),
            written_bytes: 0,
            step_read: BTreeMap::new(),
            step_written: BTreeMap::new(),
        }
    }

    /// Whether another step, of so many bytes, surely fits. The first one does.
    fn has_room(&self, bytes_max: usize, keys_max: usize) -> bool {
        let keys_max = TRANSACTION_OPS_MAX.saturating_sub(keys_max);
        self.read.len() <= keys_max
            && self.written.len() <= keys_max
            && (self.written.is_empty() || self.written_bytes + bytes_max <= TRANSACTION_BYTES_MAX)
    }

    fn keep_step(&mut self, bytes_max: usize, keys_max: usize) -> Result<(), Status> {
        let bytes: usize = self
            .step_written
            .values()
            .map(|write| {
                write.key().len()
                    + if let Write::Put(_, value) = write {
                        value.len()
                    } else {
                        0
                    }
            })
            .sum();
        if bytes > bytes_max || self.step_written.len() > keys_max || self.step_read.len() > keys_max {
            self.drop_step();
            return Err(refusal(
                Code::ResourceExhausted,
                "TOO_LARGE",
                format!("this change may write {bytes_max} bytes under {keys_max} keys; make it smaller"),
            ));
        }
        self.written_bytes += bytes;
        self.read.append(&mut self.step_read);
        self.written.append(&mut self.step_written);
        Ok(())
    }

    fn drop_step(&mut self) {
        self.step_read.clear();
        self.step_written.clear();
    }

    fn transaction(&self) -> Transaction {
        let conditions = self.read.iter().map(|(key, entry)| match entry {
            Some(entry) => Condition::at(key.clone(), entry.revision),
            None => Condition::absent(key.clone()),
        });
        Transaction {
            conditions: conditions.collect(),
            writes: self.written.values().cloned().collect(),
        }
    }
}

/// An entry of a log whose entries each hold the hash of the one before.
pub trait Chained: Message + Default + Clone {
    /// Counts from 1.
    fn number(&self) -> u64;
    /// SHA-256 of the entry: of its protobuf encoding, fields in the order of their numbers, without this field.
    fn hash(&self) -> Bytes;
    /// The hash it holds of itself, and of the one before.
    fn holds(&self) -> (&Bytes, &Bytes);
    /// As the entry after `before`.
    #[must_use]
    fn linked(self, before: Option<&Self>) -> Self;
}

macro_rules! chained {
    ($type:ty) => {
        impl Chained for $type {
            fn number(&self) -> u64 {
                self.number
            }

            fn hash(&self) -> Bytes {
                let bare = Self {
                    entry_sha256: Bytes::new(),
                    ..self.clone()
                };
                Bytes::copy_from_slice(&Sha256::digest(bare.encode_to_vec()))
            }

            fn holds(&self) -> (&Bytes, &Bytes) {
                (&self.entry_sha256, &self.previous_sha256)
            }

            fn linked(mut self, before: Option<&Self>) -> Self {
                self.number = before.map_or(1, |before| before.number + 1);
                self.previous_sha256 = before.map_or(Bytes::new(), |before| before.entry_sha256.clone());
                self.entry_sha256 = self.hash();
                self
            }
        }
    };
}

chained!(AuditEntry);
chained!(Issued);

/// Whether entries follow each other, the first one upon `before` (`None`: it is the first of all). Gives the number of the first
/// that does not.
///
/// # Errors
/// That number.
pub fn check_chain<T: Chained>(before: Option<&T>, entries: &[T]) -> Result<(), u64> {
    let mut before = before;
    for entry in entries {
        let number = before.map_or(1, |before| before.number() + 1);
        let previous = before.map_or(Bytes::new(), |before| before.holds().0.clone());
        if entry.number() != number || entry.holds() != (&entry.hash(), &previous) {
            return Err(number);
        }
        before = Some(entry);
    }
    Ok(())
}

/// Bytes as people read them.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// A step with the one who waits for it.
#[async_trait]
trait Job: Send + std::fmt::Debug {
    /// Takes the step on a draft.
    async fn attempt(&mut self, draft: &mut Draft);
    fn bytes_max(&self) -> usize;
    fn keys_max(&self) -> usize;
    fn finish(self: Box<Self>, committed: Result<Revision, Status>);
}

struct Waiting<S: Step> {
    step: S,
    outcome: Option<Result<S::Output, Status>>,
    answer: oneshot::Sender<Result<(S::Output, Revision), Status>>,
}

impl<S: Step> std::fmt::Debug for Waiting<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waiting")
    }
}

#[async_trait]
impl<S: Step> Job for Waiting<S> {
    async fn attempt(&mut self, draft: &mut Draft) {
        let outcome = match self.step.take(draft).await {
            Ok(output) => draft
                .keep_step(self.step.bytes_max(), self.step.keys_max())
                .map(|()| output),
            Err(status) => {
                draft.drop_step();
                Err(status)
            }
        };
        self.outcome = Some(outcome);
    }

    fn bytes_max(&self) -> usize {
        self.step.bytes_max()
    }

    fn keys_max(&self) -> usize {
        self.step.keys_max()
    }

    fn finish(self: Box<Self>, committed: Result<Revision, Status>) {
        let outcome = self
            .outcome
            .unwrap_or_else(|| Err(Status::internal("the step was not taken")));
        // A refusal stands, whatever became of the others. Nobody waits any more: the caller has gone away.
        let _ = self
            .answer
            .send(outcome.and_then(|output| committed.map(|revision| (output, revision))));
    }
}

struct Writer {
    store: Arc<dyn Store>,
    /// The heads of the logs as this process wrote them last, so that they need not be read for each batch.
    heads: BTreeMap<Bytes, Entry>,
}

impl Writer {
    async fn run(mut self, mut waiting: mpsc::Receiver<Box<dyn Job>>) {
        let mut next = waiting.recv().await;
        while let Some(first) = next.take() {
            let mut jobs = vec![first];
            let mut draft = Draft::new(self.store.clone(), &self.heads);
            jobs[0].attempt(&mut draft).await;
            while let Ok(mut job) = waiting.try_recv() {
                if !draft.has_room(job.bytes_max(), job.keys_max()) {
                    next = Some(job);
                    break;
                }
                job.attempt(&mut draft).await;
                jobs.push(job);
            }
            let committed = self.commit(draft, &mut jobs).await;
            for job in jobs {
                job.finish(committed.clone());
            }
            if next.is_none() {
                next = waiting.recv().await;
            }
        }
    }

    /// Commits a draft; as long as others were first, takes the jobs again.
    async fn commit(&mut self, mut draft: Draft, jobs: &mut [Box<dyn Job>]) -> Result<Revision, Status> {
        let mut refused = None;
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                draft = Draft::new(self.store.clone(), &self.heads);
                for job in jobs.iter_mut() {
                    job.attempt(&mut draft).await;
                }
            }
            if draft.written.is_empty() {
                return Ok(Revision::default());
            }
            let error = match self.store.commit(draft.transaction()).await {
                Ok(revision) => {
                    self.keep_heads(&draft, revision);
                    return Ok(revision);
                }
                Err(error) => error,
            };
            self.heads.clear();
            match &error {
                StoreError::Conflict { .. } => {}
                StoreError::Unavailable { retry, .. } => {
                    tokio::time::sleep((*retry).min(RETRY_MAX)).await;
                    if let Some(revision) = self.was_done(&draft).await {
                        return Ok(revision);
                    }
                }
                _ => return Err(store_refusal(&error)),
            }
            refused = Some(store_refusal(&error));
        }
        Err(refused.unwrap_or_else(|| Status::internal("no attempt was made")))
    }

    /// Whether a commit that was not answered happened all the same: then an entry that it appended to a log is there. No other
    /// process writes the same one, for it names its time and subject.
    async fn was_done(&self, draft: &Draft) -> Option<Revision> {
        let is_entry = |key: &[u8]| keys::AUDIT.rest(key).is_some() || keys::ISSUED.rest(key).is_some();
        let appended = draft.written.values().find_map(|write| match write {
            Write::Put(key, value) if is_entry(key) => Some((key, value)),
            _ => None,
        });
        let (key, value) = appended?;
        let entry = self.store.get(key).await.ok()??;
        (entry.value == value).then_some(entry.revision)
    }

    fn keep_heads(&mut self, draft: &Draft, revision: Revision) {
        for head in [keys::issued_head().key(), keys::audit_head().key()] {
            if let Some(Write::Put(key, value)) = draft.written.get(head) {
                let entry = Entry {
                    key: key.clone(),
                    value: value.clone(),
                    revision,
                };
                self.heads.insert(key.clone(), entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ringgate_store::Redb;

    use super::*;
    use crate::audit;
    use crate::errors::reason_of;

    /// Counts in a key, and writes it down.
    struct Count {
        refuse: bool,
    }

    #[async_trait]
    impl Step for Count {
        type Output = u64;

        async fn take(&self, draft: &mut Draft) -> Result<u64, Status> {
            let slot = keys::issued_serial("count");
            let next = draft.get(&slot).await?.unwrap_or(0) + 1;
            draft.put(&slot, &next);
            let entry = AuditEntry {
                detail: next.to_string(),
                ..audit::entry()
            };
            draft.audit(entry).await?;
            match self.refuse {
                true => Err(refusal(Code::PermissionDenied, "NO", "it refuses")),
                false => Ok(next),
            }
        }
    }

    struct Large;

    #[async_trait]
    impl Step for Large {
        type Output = ();

        async fn take(&self, draft: &mut Draft) -> Result<(), Status> {
            let value = vec![0; STEP_BYTES_MAX + 1];
            draft.write(Write::Put(Bytes::from_static(b"large"), value.into()));
            Ok(())
        }
    }

    /// Writes as much as one transaction takes.
    struct Huge;

    #[async_trait]
    impl Step for Huge {
        type Output = ();

        async fn take(&self, draft: &mut Draft) -> Result<(), Status> {
            let value = vec![0; TRANSACTION_BYTES_MAX / 2 - 100];
            for key in ["one", "two"] {
                draft.write(Write::Put(
                    Bytes::from_static(key.as_bytes()),
                    value.clone().into(),
                ));
            }
            Ok(())
        }

        fn bytes_max(&self) -> usize {
            TRANSACTION_BYTES_MAX
        }
    }

    #[tokio::test]
    async fn a_step_that_fills_a_transaction_gets_one_among_others() {
        let (_folder, store) = store();
        let ledger = Ledger::start(store.clone());
        let small = |_| ledger.take(Count { refuse: false });
        let (before, after) = (
            futures_util::future::join_all((0..3).map(small)),
            (3..6).map(small),
        );
        let after = futures_util::future::join_all(after);
        let (before, huge, after) = tokio::join!(before, ledger.take(Huge), after);
        huge.expect("it has room of its own");
        let counted: Vec<_> = before
            .into_iter()
            .chain(after)
            .map(|taken| taken.expect("taken").0)
            .collect();
        assert_eq!(counted, [1, 2, 3, 4, 5, 6]);
    }

    fn store() -> (tempfile::TempDir, Arc<dyn Store>) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Redb::open(&folder.path().join("store/store.redb")).expect("a store");
        (folder, Arc::new(store))
    }

    async fn chain(store: &Arc<dyn Store>) -> Vec<AuditEntry> {
        let listed = keys::AUDIT.after(&**store, 0, 10_000).await.expect("read");
        listed.items.into_iter().map(|(_, stored)| stored.value).collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn writers_that_are_in_each_others_way_count_and_chain_without_a_gap() {
        let (_folder, store) = store();
        // Two ledgers stand for two processes over one store.
        let ledgers = [Ledger::start(store.clone()), Ledger::start(store.clone())];
        let tasks: Vec<_> = (0..200)
            .map(|number| {
                let ledger = ledgers[number % 2].clone();
                tokio::spawn(async move {
                    ledger
                        .take(Count {
                            refuse: number % 10 == 0,
                        })
                        .await
                })
            })
            .collect();
        let mut counted = Vec::new();
        for task in tasks {
            match task.await.expect("no panic") {
                Ok((count, revision)) => {
                    assert!(revision > Revision::default());
                    counted.push(count);
                }
                Err(status) => assert_eq!(reason_of(&status), "NO"),
            }
        }
        counted.sort_unstable();
        assert_eq!(
            counted,
            (1..=180).collect::<Vec<_>>(),
            "what refuses leaves nothing"
        );
        let entries = chain(&store).await;
        assert_eq!(check_chain(None, &entries), Ok(()));
        let told: Vec<_> = entries.iter().map(|entry| entry.detail.clone()).collect();
        assert_eq!(
            told,
            (1..=180).map(|count: u64| count.to_string()).collect::<Vec<_>>()
        );
    }

    #[tokio::test]
    async fn a_step_that_is_too_large_is_refused_alone() {
        let (_folder, store) = store();
        let ledger = Ledger::start(store);
        let (large, counted) = tokio::join!(ledger.take(Large), ledger.take(Count { refuse: false }));
        assert_eq!(reason_of(&large.expect_err("too large")), "TOO_LARGE");
        assert_eq!(counted.expect("counted").0, 1);
    }
}
