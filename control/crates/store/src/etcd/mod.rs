//! The store in etcd (v3 API, 3.4 or newer), for several control processes.
//!
//! Keys live below a namespace, so that one etcd can serve others too. Revisions are etcd's, of the whole etcd. How long it keeps
//! old revisions, and so how far back a watch can begin, is etcd's to configure; `--auto-compaction-mode=revision
//! --auto-compaction-retention=10000` fits what the control process needs.
//!
//! The API's client is generated from what of it is used; the library there is for all of it needs `protoc` to build.

mod members;
mod session;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tonic::transport::Channel;

use crate::{
    Condition, Entry, Lineage, PAGE_BYTES_MAX, Page, Range, Revision, Session, Store, StoreError,
    Transaction, Watch, Write, after_prefix,
};
use api::compare::{CompareTarget, TargetUnion};
use api::kv_client::KvClient;
use api::range_request::SortOrder;
use api::request_op::Request as Operation;
use api::response_op::Response as Outcome;
use api::{
    Compare, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, RequestOp, ResponseHeader, ResponseOp,
    TxnRequest, TxnResponse,
};
use members::{Failure, Members};

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "generated; etcd documents it"
)]
mod api {
    tonic::include_proto!("etcdserverpb");
}

/// Below the namespace: where the store's keys are, and the key that makes the lineage.
const DATA: &str = "data/";
const LINEAGE: &str = "lineage";

/// Largest answer to a range: a page that is full, and one entry more, which there is room for.
const ANSWER_BYTES_MAX: usize = 2 * PAGE_BYTES_MAX;

/// Where etcd is, and how to be let in.
#[derive(Clone)]
pub struct EtcdOptions {
    /// Its members, as URLs: `http://…` or `https://…`.
    pub endpoints: Vec<String>,
    /// Before every key.
    pub namespace: String,
    /// User and password, where etcd asks for them.
    pub user: Option<(String, String)>,
    /// For `https` endpoints.
    pub tls: Option<EtcdTls>,
    /// Longest time for one request. After it the store counts as unavailable.
    pub timeout: Duration,
}

impl EtcdOptions {
    /// With these members, the namespace `ringgate/` and 5 s for a request.
    #[must_use]
    pub fn new(endpoints: Vec<String>) -> EtcdOptions {
        EtcdOptions {
            endpoints,
            namespace: "ringgate/".to_owned(),
            user: None,
            tls: None,
            timeout: Duration::from_secs(5),
        }
    }
}

impl std::fmt::Debug for EtcdOptions {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdOptions")
            .field("endpoints", &self.endpoints)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// TLS towards etcd; all PEM.
#[derive(Clone)]
pub struct EtcdTls {
    /// Who signs its certificates.
    pub ca: Vec<u8>,
    /// Own certificate chain and key, where etcd asks for them.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for EtcdTls {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdTls").finish_non_exhaustive()
    }
}

/// The store in etcd.
#[derive(Clone)]
pub struct Etcd {
    members: Arc<Members>,
    /// Before every key of the store.
    prefix: Bytes,
    lineage: Lineage,
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Etcd")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl Etcd {
    /// Connects and agrees with the others on the lineage.
    ///
    /// # Errors
    /// [`StoreError::Open`] for options that cannot be used; [`StoreError::Unavailable`].
    pub async fn open(options: EtcdOptions) -> Result<Etcd, StoreError> {
        let members = Members::connect(&options).await?;
        let lineage = agree(&members, format!("{}{LINEAGE}", options.namespace).into()).await?;
        Ok(Etcd {
            members: Arc::new(members),
            prefix: format!("{}{DATA}", options.namespace).into(),
            lineage,
        })
    }

    /// A key as etcd has it.
    fn outer(&self, key: &[u8]) -> Vec<u8> {
        [&self.prefix[..], key].concat()
    }

    /// A key of etcd's as the store has it.
    fn inner(&self, mut key: Bytes) -> Result<Bytes, StoreError> {
        if !key.starts_with(&self.prefix) {
            return Err(StoreError::Corrupt(format!(
                "etcd told of `{}`, which nobody asked for",
                key.escape_ascii()
            )));
        }
        Ok(key.split_off(self.prefix.len()))
    }

    fn entry(&self, found: KeyValue) -> Result<Entry, StoreError> {
        Ok(Entry {
            key: self.inner(found.key)?,
            value: found.value,
            revision: counted(found.mod_revision),
        })
    }

    fn operation(&self, write: &Write, lease: i64) -> RequestOp {
        let key = self.outer(write.key()).into();
        operation(match write {
            Write::Put(_, value) => Operation::RequestPut(PutRequest {
                key,
                value: value.clone(),
                lease,
            }),
            Write::Delete(_) => Operation::RequestDeleteRange(DeleteRangeRequest { key }),
        })
    }

    async fn find(&self, range: RangeRequest) -> Result<(Vec<Entry>, bool, Revision), Failure> {
        let members = &self.members;
        let found = members.ask(|channel| {
            let request = members.request(range.clone());
            async move { keys(channel).range(request).await }
        });
        let found = found.await?;
        let entries = found.kvs.into_iter().map(|found| self.entry(found));
        Ok((
            entries.collect::<Result<_, _>>()?,
            found.more,
            revision(found.header),
        ))
    }

    /// A page as of a revision; `None`: of the newest.
    async fn page(&self, range: &Range, at: Option<Revision>) -> Result<Page, StoreError> {
        let (first, end) = bounds(&self.prefix, range);
        let none = first >= end || range.limit == 0;
        let mut request = RangeRequest {
            key: if none { self.prefix.clone() } else { first.into() },
            range_end: end.into(),
            limit: i64::try_from(range.limit).unwrap_or(i64::MAX),
            revision: at.map_or(0, signed),
            sort_order: if range.descending {
                SortOrder::Descend
            } else {
                SortOrder::Ascend
            }
            .into(),
            keys_only: false,
            count_only: none,
        };
        loop {
            match self.find(request.clone()).await {
                // etcd bounds pages in entries only; what is too large in bytes is asked for again in smaller pages.
                Err(Failure::TooMuch) if request.limit > 1 => request.limit = request.limit / 4 + 1,
                Err(failure) => return Err(failure.into()),
                Ok((entries, more, revision)) => {
                    return Ok(Page {
                        entries,
                        more,
                        revision,
                    });
                }
            }
        }
    }
}

#[async_trait]
impl Store for Etcd {
    fn lineage(&self) -> Lineage {
        self.lineage
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        let key = self.outer(key).into();
        let found = self.find(RangeRequest {
            key,
            ..RangeRequest::default()
        });
        Ok(found.await?.0.pop())
    }

    async fn range(&self, range: Range) -> Result<Page, StoreError> {
        self.page(&range, None).await
    }

    async fn all(&self, prefix: &[u8]) -> Result<(Vec<Entry>, Revision), StoreError> {
        let mut range = Range::prefix(Bytes::copy_from_slice(prefix));
        let Page {
            mut entries,
            mut more,
            revision,
        } = self.page(&range, None).await?;
        while more {
            range.beyond = entries.last().map(|last| last.key.clone());
            let page = self.page(&range, Some(revision)).await?;
            entries.extend(page.entries);
            more = page.more;
        }
        Ok((entries, revision))
    }

    async fn commit(&self, transaction: Transaction) -> Result<Revision, StoreError> {
        transaction.check()?;
        let conditions = &transaction.conditions;
        let request = TxnRequest {
            compare: conditions
                .iter()
                .map(|condition| is_at(self.outer(&condition.key).into(), condition.revision))
                .collect(),
            success: transaction
                .writes
                .iter()
                .map(|write| self.operation(write, 0))
                .collect(),
            failure: conditions
                .iter()
                .map(|condition| {
                    operation(Operation::RequestRange(RangeRequest {
                        key: self.outer(&condition.key).into(),
                        keys_only: true,
                        ..RangeRequest::default()
                    }))
                })
                .collect(),
        };
        let answer = commit(&self.members, request).await?;
        if answer.succeeded {
            return Ok(revision(answer.header));
        }
        Err(conflict(conditions, &answer.responses))
    }

    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<Watch, StoreError> {
        watch::watch(self, &prefix, after).await
    }

    async fn session(&self, ttl: Duration) -> Result<Option<Box<dyn Session>>, StoreError> {
        Ok(Some(Box::new(session::Lease::begin(self.clone(), ttl).await?)))
    }
}

/// The lineage: what the first who opened the store wrote. An etcd restored from a backup is another cluster, with another history,
/// though it has the same keys.
async fn agree(members: &Members, key: Bytes) -> Result<Lineage, StoreError> {
    // Need not be secret: it only tells one history from another.
    let made = Bytes::copy_from_slice(&fastrand::u128(..).to_be_bytes());
    let answer = commit(
        members,
        TxnRequest {
            compare: vec![is_at(key.clone(), Revision(0))],
            success: vec![operation(Operation::RequestPut(PutRequest {
                key: key.clone(),
                value: made.clone(),
                lease: 0,
            }))],
            failure: vec![operation(Operation::RequestRange(RangeRequest {
                key,
                ..RangeRequest::default()
            }))],
        },
    )
    .await?;
    let stored = match answer.responses.first().and_then(|first| first.response.as_ref()) {
        Some(Outcome::ResponseRange(found)) => found.kvs.first().map(|found| &found.value[..]),
        _ => Some(&made[..]),
    };
    let stored: [u8; 16] = stored
        .and_then(|stored| stored.try_into().ok())
        .ok_or_else(|| StoreError::Corrupt("it does not say its lineage".to_owned()))?;
    let cluster = answer.header.map_or(0, |header| header.cluster_id);
    Ok(Lineage(
        (u128::from_be_bytes(stored) ^ u128::from(cluster)).to_be_bytes(),
    ))
}

async fn commit(members: &Members, request: TxnRequest) -> Result<TxnResponse, Failure> {
    let done = members.once(|channel| {
        let request = members.request(request.clone());
        async move { keys(channel).txn(request).await }
    });
    done.await
}

/// Which condition did not hold, from what etcd says of their keys.
fn conflict(conditions: &[Condition], found: &[ResponseOp]) -> StoreError {
    let failed = |(condition, found): (&Condition, &ResponseOp)| {
        let Some(Outcome::ResponseRange(found)) = &found.response else {
            return false;
        };
        let found = found.kvs.first().map_or(0, |found| found.mod_revision);
        counted(found) != condition.revision
    };
    match conditions.iter().zip(found).position(failed) {
        Some(condition) => StoreError::Conflict {
            condition,
            key: conditions[condition].key.clone(),
        },
        None => StoreError::Corrupt("etcd refused a commit whose conditions all hold".to_owned()),
    }
}

/// The first key of a range and the one after its last, as etcd has them.
fn bounds(prefix: &[u8], range: &Range) -> (Vec<u8>, Vec<u8>) {
    let mut first = [prefix, &range.prefix].concat();
    let mut end = end_of(&first);
    if let Some(beyond) = &range.beyond {
        let mut beyond = [prefix, beyond].concat();
        if range.descending {
            end = end.min(beyond);
        } else {
            // The next key there can be.
            beyond.push(0);
            first = first.max(beyond);
        }
    }
    (first, end)
}

/// The first key after all that begin with a prefix of etcd's. There is one, since [`DATA`] is part of the prefix.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    after_prefix(prefix).unwrap_or_default()
}

fn keys(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

fn operation(request: Operation) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

/// That a key was written last by this commit; 0: that there is none.
fn is_at(key: Bytes, revision: Revision) -> Compare {
    Compare {
        key,
        target: CompareTarget::Mod.into(),
        target_union: Some(TargetUnion::ModRevision(signed(revision))),
        ..Compare::default()
    }
}

fn revision(header: Option<ResponseHeader>) -> Revision {
    counted(header.map_or(0, |header| header.revision))
}

/// etcd counts with signs, and never below zero.
fn counted(revision: i64) -> Revision {
    Revision(u64::try_from(revision).unwrap_or(0))
}

fn signed(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}
