//! A session: an etcd lease that is kept alive.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch as signal;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::api::lease_client::LeaseClient;
use super::api::{LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, TxnRequest};
use super::members::{Failure, unavailable};
use super::{Etcd, commit, revision};
use crate::{RETRY, Revision, Session, StoreError, Transaction, Write};

/// Keep-alives within one time to live: two may be lost.
const KEEP_ALIVES: u32 = 3;

pub(super) struct Lease {
    id: i64,
    store: Etcd,
    keeper: JoinHandle<()>,
    alive: signal::Receiver<bool>,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Lease {
    pub(super) async fn begin(store: Etcd, ttl: Duration) -> Result<Lease, StoreError> {
        let ttl = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX).max(1);
        let members = &store.members;
        let granted = members.once(|channel| {
            let request = members.request(LeaseGrantRequest { ttl });
            async move { LeaseClient::new(channel).lease_grant(request).await }
        });
        let granted = granted.await?;
        let (id, ttl) = (granted.id, seconds(granted.ttl));
        let (lives, alive) = signal::channel(true);
        let keeper = tokio::spawn({
            let store = store.clone();
            async move {
                keep(&store, id, ttl).await;
                lives.send_replace(false);
            }
        });
        Ok(Lease {
            id,
            store,
            keeper,
            alive,
        })
    }
}

#[async_trait]
impl Session for Lease {
    async fn write(&self, writes: Vec<Write>) -> Result<Revision, StoreError> {
        let transaction = Transaction {
            conditions: Vec::new(),
            writes,
        };
        transaction.check()?;
        let operation = |write: &Write| self.store.operation(write, self.id);
        let request = TxnRequest {
            success: transaction.writes.iter().map(operation).collect(),
            ..TxnRequest::default()
        };
        Ok(revision(commit(&self.store.members, request).await?.header))
    }

    async fn ended(&self) {
        // An error says that the keeper is gone, which ends the session too.
        let _ = self.alive.clone().wait_for(|alive| !alive).await;
    }
}

impl Drop for Lease {
    /// Removes what was put without waiting for it; if etcd does not answer now, time does it.
    fn drop(&mut self) {
        self.keeper.abort();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (store, id) = (self.store.clone(), self.id);
            runtime.spawn(async move {
                let members = &store.members;
                let revoked = members.ask(|channel| {
                    let request = members.request(LeaseRevokeRequest { id });
                    async move { LeaseClient::new(channel).lease_revoke(request).await }
                });
                if let Err(error) = revoked.await {
                    tracing::debug!(
                        ?error,
                        "what this process told of itself stays until its time is over"
                    );
                }
            });
        }
    }
}

/// Keeps a lease alive until it cannot be any more.
async fn keep(store: &Etcd, id: i64, ttl: Duration) {
    let mut until = Instant::now() + ttl;
    loop {
        // The lease lives from when etcd takes the request, which is not before now.
        let asked = Instant::now();
        match timeout_at(until, keep_once(store, id)).await {
            Ok(Ok(left)) => {
                until = asked + left;
                sleep(ttl / KEEP_ALIVES).await;
            }
            Ok(Err(StoreError::SessionEnded)) | Err(_) => break,
            Ok(Err(error)) => {
                tracing::warn!(%error, "etcd was not told that this process is alive; trying again");
                sleep(RETRY).await;
            }
        }
    }
    tracing::warn!("etcd has not heard of this process for too long");
}

/// One keep-alive: how long the lease now lives.
async fn keep_once(store: &Etcd, id: i64) -> Result<Duration, StoreError> {
    let members = &store.members;
    let opened = members.ask(|channel| {
        let request = members.request(futures_lite::stream::once(LeaseKeepAliveRequest { id }));
        async move { LeaseClient::new(channel).lease_keep_alive(request).await }
    });
    match opened.await?.message().await {
        Ok(Some(answer)) if answer.ttl > 0 => Ok(seconds(answer.ttl)),
        Ok(Some(_)) => Err(StoreError::SessionEnded),
        Ok(None) => Err(unavailable("etcd did not answer a keep-alive".to_owned())),
        Err(status) => Err(Failure::from(status).into()),
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(ttl.max(1).unsigned_abs())
}
