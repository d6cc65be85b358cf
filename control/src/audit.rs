//! The audit log: what was changed, by whom, and what was refused; and what data planes saw.
//!
//! Append-only and chained by hashes ([`crate::ledger`]). Refusals and security events can be provoked by anybody, so their rate is
//! bounded; what is beyond is counted, and the count is in the next entry.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use async_trait::async_trait;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;
use ringgate_proto::control::v1::audit_server::Audit;
use ringgate_proto::control::v1::{
    AuditEntry, ListAuditRequest, ListAuditResponse, NodeSecurityEvent, SecurityEvent,
    WatchSecurityEventsRequest,
};
use ringgate_store::{Revision, Store, StoreError};

use tonic::{Request, Response, Status};

use crate::errors::store_refusal;
use crate::gate::rate::Bucket;
use crate::keys;
use crate::ledger::{Draft, Ledger, Step};

/// Security events of one call that are taken; a node sends them in small lists.
pub const EVENTS_PER_MESSAGE_MAX: usize = 1024;
/// Bytes of the detail of one entry; longer ones are cut.
pub const DETAIL_BYTES_MAX: usize = 2048;
/// Entries read at once while a list is filtered.
const SCAN_ENTRIES: usize = 1000;
/// What the action of a security event begins with.
const EVENT: &str = "event/";

/// The log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AuditLog {
    ledger: Ledger,
    store: Arc<dyn Store>,
    page_size_max: usize,
    /// Of refusals, and of each node's events.
    budgets: Arc<Mutex<Budgets>>,
}

#[derive(Debug)]
struct Budgets {
    per_second: u64,
    of: BTreeMap<String, Budget>,
}

#[derive(Debug)]
struct Budget {
    bucket: Bucket,
    unwritten: u64,
}

/// An entry of now. Its number and hashes come with the commit.
#[must_use]
pub fn entry() -> AuditEntry {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    AuditEntry {
        time_unix_nanos: i64::try_from(now.as_nanos()).unwrap_or(i64::MAX),
        ..AuditEntry::default()
    }
}

struct Append(Vec<AuditEntry>);

#[async_trait]
impl Step for Append {
    type Output = ();

    async fn take(&self, draft: &mut Draft) -> Result<(), Status> {
        for entry in &self.0 {
            draft.audit(entry.clone()).await?;
        }
        Ok(())
    }
}

impl AuditLog {
    /// The log that a ledger writes. At most so many refusals a second are written, and events of each node.
    #[must_use]
    pub fn new(
        ledger: Ledger,
        store: Arc<dyn Store>,
        refusals_per_second: u64,
        page_size_max: usize,
    ) -> AuditLog {
        let budgets = Budgets {
            per_second: refusals_per_second,
            of: BTreeMap::new(),
        };
        AuditLog {
            ledger,
            store,
            page_size_max,
            budgets: Arc::new(Mutex::new(budgets)),
        }
    }

    /// Appends an entry and waits until it is durable.
    ///
    /// # Errors
    /// That the store does not answer.
    pub async fn record(&self, entry: AuditEntry) -> Result<(), Status> {
        self.append(vec![entry]).await
    }

    /// Appends the entry of a refusal, unless there are too many of them now.
    pub async fn record_refusal(&self, entry: AuditEntry) {
        self.record_bounded("", vec![entry]).await;
    }

    /// Appends what a data plane saw, unless it says too much.
    pub async fn record_events(&self, node: &str, events: Vec<SecurityEvent>) {
        let entries = events
            .into_iter()
            .take(EVENTS_PER_MESSAGE_MAX)
            .map(|event| event_entry(node, event))
            .collect();
        self.record_bounded(node, entries).await;
    }

    async fn record_bounded(&self, of: &str, entries: Vec<AuditEntry>) {
        let entries = self.within_budget(of, entries, Instant::now());
        // Some at a time: a step may write only so much.
        for entries in entries.chunks(crate::ledger::STEP_KEYS_MAX / 2) {
            if let Err(status) = self.append(entries.to_vec()).await {
                tracing::warn!(
                    lost = entries.len(),
                    error = status.message(),
                    "audit entries were not written"
                );
            }
        }
    }

    fn within_budget(&self, of: &str, mut entries: Vec<AuditEntry>, now: Instant) -> Vec<AuditEntry> {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let per_second = budgets.per_second;
        let budget = budgets.of.entry(of.to_owned()).or_insert_with(|| Budget {
            bucket: Bucket::new(per_second, now),
            unwritten: 0,
        });
        let before = entries.len();
        entries.retain(|_| budget.bucket.take(now));
        if let Some(first) = entries.first_mut()
            && budget.unwritten > 0
        {
            let more = format!(" [before this, {} more were not written]", budget.unwritten);
            first.detail.push_str(&more);
            budget.unwritten = 0;
        }
        budget.unwritten += (before - entries.len()) as u64;
        entries
    }

    async fn append(&self, mut entries: Vec<AuditEntry>) -> Result<(), Status> {
        for entry in &mut entries {
            let mut end = entry.detail.len().min(DETAIL_BYTES_MAX);
            while !entry.detail.is_char_boundary(end) {
                end -= 1;
            }
            entry.detail.truncate(end);
        }
        self.ledger.take(Append(entries)).await?;
        Ok(())
    }

    async fn list(&self, request: &ListAuditRequest) -> Result<ListAuditResponse, StoreError> {
        let limit = match request.page_size as usize {
            0 => self.page_size_max,
            size => size.min(self.page_size_max),
        };
        let about = |entry: &AuditEntry| {
            request.subject.is_empty() || entry.subject == request.subject || entry.actor == request.subject
        };
        let mut entries = Vec::new();
        let mut after = request.after_number;
        loop {
            let page = keys::AUDIT.after(&*self.store, after, SCAN_ENTRIES).await?;
            for (_, stored) in page.items {
                if entries.len() == limit {
                    return Ok(ListAuditResponse { entries, more: true });
                }
                after = stored.value.number;
                if about(&stored.value) {
                    entries.push(stored.value);
                }
            }
            if !page.more {
                return Ok(ListAuditResponse { entries, more: false });
            }
        }
    }
}

fn event_entry(node: &str, event: SecurityEvent) -> AuditEntry {
    AuditEntry {
        time_unix_nanos: event.time_unix_nanos,
        actor: event.identity,
        action: format!("{EVENT}{}", event.kind),
        subject: format!("node {node}"),
        outcome: event.kind,
        detail: format!("core={} address={} {}", event.core, event.address, event.detail),
        ..AuditEntry::default()
    }
}

/// The security event that an entry holds.
fn event_of(entry: &AuditEntry) -> Option<NodeSecurityEvent> {
    let kind = entry.action.strip_prefix(EVENT)?;
    let mut words = entry.detail.splitn(3, ' ');
    let core = words.next()?.strip_prefix("core=")?.parse().ok()?;
    let address = words.next()?.strip_prefix("address=")?.to_owned();
    let event = SecurityEvent {
        time_unix_nanos: entry.time_unix_nanos,
        kind: kind.to_owned(),
        identity: entry.actor.clone(),
        address,
        core,
        detail: words.next().unwrap_or_default().to_owned(),
    };
    let node = entry.subject.strip_prefix("node ")?.to_owned();
    Some(NodeSecurityEvent {
        node,
        event: Some(event),
    })
}

#[async_trait]
impl Audit for AuditLog {
    async fn list_audit(
        &self,
        request: Request<ListAuditRequest>,
    ) -> Result<Response<ListAuditResponse>, Status> {
        let listed = self.list(request.get_ref()).await;
        listed.map(Response::new).map_err(|error| store_refusal(&error))
    }

    type WatchSecurityEventsStream =
        Pin<Box<dyn Stream<Item = Result<NodeSecurityEvent, Status>> + Send + 'static>>;

    async fn watch_security_events(
        &self,
        request: Request<WatchSecurityEventsRequest>,
    ) -> Result<Response<Self::WatchSecurityEventsStream>, Status> {
        let kind = request.into_inner().kind;
        let newest = self
            .store
            .range(ringgate_store::Range::prefix(keys::AUDIT.prefix()).limit(1))
            .await;
        let revision: Revision = newest.map_err(|error| store_refusal(&error))?.revision;
        let watch = self.store.watch(keys::AUDIT.prefix(), revision).await;
        let watch = watch.map_err(|error| store_refusal(&error))?;
        let events = watch.map(move |batch| {
            let batch = batch.map_err(|error| store_refusal(&error))?;
            let wanted = |event: &NodeSecurityEvent| {
                kind.is_empty() || event.event.as_ref().is_some_and(|event| event.kind == kind)
            };
            let entries = batch
                .changes
                .into_iter()
                .filter_map(|change| AuditEntry::decode(change.value?).ok());
            let events = entries.filter_map(|entry| event_of(&entry)).filter(wanted);
            Ok::<_, Status>(stream::iter(events.map(Ok).collect::<Vec<_>>()))
        });
        Ok(Response::new(Box::pin(events.try_flatten())))
    }
}
