//! Watching etcd: its events, put together again to commits.

use std::collections::VecDeque;

use tonic::Streaming;

use super::api::event::EventType;
use super::api::watch_client::WatchClient;
use super::api::watch_request::RequestUnion;
use super::api::{WatchCreateRequest, WatchRequest, WatchResponse};
use super::members::{Failure, unavailable};
use super::{ANSWER_BYTES_MAX, Etcd, counted, end_of, signed};
use crate::{Batch, Change, Revision, StoreError, Watch};

pub(super) async fn watch(store: &Etcd, prefix: &[u8], after: Revision) -> Result<Watch, StoreError> {
    let first = store.outer(prefix);
    let create = WatchCreateRequest {
        range_end: end_of(&first).into(),
        key: first.into(),
        start_revision: signed(after).saturating_add(1),
        // Messages then stay within etcd's own limit of a request, however far behind this watch is.
        fragment: true,
    };
    let members = &store.members;
    let opened = members.ask(|channel| {
        let create = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create.clone())),
        };
        let requests = futures_lite::StreamExt::chain(
            futures_lite::stream::once(create),
            futures_lite::stream::pending(),
        );
        let request = members.request(requests);
        let mut client = WatchClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        async move { client.watch(request).await }
    });
    let reader = Reader {
        stream: opened.await?,
        store: store.clone(),
        found: VecDeque::new(),
        whole: true,
        ended: false,
    };
    Ok(Box::pin(futures_lite::stream::unfold(
        reader,
        |mut reader| async move {
            let next = reader.next().await?;
            reader.ended = next.is_err();
            Some((next, reader))
        },
    )))
}

struct Reader {
    stream: Streaming<WatchResponse>,
    store: Etcd,
    found: VecDeque<Batch>,
    /// Whether the newest of them is complete: a fragment may end within a commit.
    whole: bool,
    ended: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Batch, StoreError>> {
        while !self.ended {
            if (self.whole || self.found.len() > 1)
                && let Some(mut batch) = self.found.pop_front()
            {
                batch.changes.sort_by(|a, b| a.key.cmp(&b.key));
                return Some(Ok(batch));
            }
            let told = match self.stream.message().await {
                Ok(Some(response)) => self.take(response),
                Ok(None) => Err(unavailable("etcd ended the watch".to_owned())),
                Err(status) => Err(Failure::from(status).into()),
            };
            if let Err(error) = told {
                return Some(Err(error));
            }
        }
        None
    }

    /// etcd tells events in the order of revisions.
    fn take(&mut self, response: WatchResponse) -> Result<(), StoreError> {
        if response.canceled {
            return Err(match response.compact_revision {
                0 => unavailable(format!("etcd ended the watch: {}", response.cancel_reason)),
                // What came before this revision is gone, the revision itself is not.
                revision => StoreError::Compacted {
                    oldest: counted(revision - 1),
                },
            });
        }
        self.whole = !response.fragment;
        for event in response.events {
            let put = event.r#type() == EventType::Put;
            let Some(entry) = event.kv else { continue };
            let change = Change {
                key: self.store.inner(entry.key)?,
                value: put.then_some(entry.value),
            };
            let revision = counted(entry.mod_revision);
            match self.found.back_mut() {
                Some(batch) if batch.revision == revision => batch.changes.push(change),
                _ => self.found.push_back(Batch {
                    revision,
                    changes: vec![change],
                }),
            }
        }
        Ok(())
    }
}
