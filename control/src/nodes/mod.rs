//! Data planes attach here.
//!
//! Each has a task of its own ([`attachment`]), which looks at one copy of the state ([`mirror`]) and works out what its data plane
//! lacks when that is ready for more. So a slow one delays nobody, holds no queue, and gets what is newest when its turn comes. A
//! state is sent when the one before was answered; one that was rejected is sent again with the next change.
//!
//! Versions and lineage are the store's. So a data plane that moves to another control process over the same store goes on with the
//! version it has.

mod attachment;
mod mirror;
mod state;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{Stream, StreamExt as _};
use ringgate_identity::Subject;
use ringgate_proto::control::v1::nodes_server::Nodes;
use ringgate_proto::control::v1::{Hello, Node, NodeMessage, NodeState, node_message::Body};
use ringgate_store::{Range, Revision, Store, StoreError, Transaction};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::Context;
use crate::audit::AuditLog;
use crate::caller::Caller;
use crate::errors::{refusal, store_refusal};
use crate::keys;
use crate::registry::Registry;
use attachment::Attachment;
use mirror::Mirror;

/// Data planes that may be attached to one control process.
pub const ATTACHED_MAX: usize = 10_000;
/// How long a data plane has for its first message.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// How long is waited for the state to come to a version that a data plane has already, from another control process.
const BEHIND_PATIENCE: Duration = Duration::from_secs(5);
/// Messages that are on their way to a data plane; more would only be older when they arrive.
const OUTGOING_MAX: usize = 2;
/// Longest text that a data plane says of itself.
const TEXT_BYTES_MAX: usize = 1024;

/// The data planes that are attached. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NodeHub {
    mirror: Arc<Mirror>,
    registry: Registry,
    store: Arc<dyn Store>,
    audit: AuditLog,
    attached: Arc<Mutex<Attached>>,
}

#[derive(Debug, Default)]
struct Attached {
    next: u64,
    /// The newest attachment of each; dropping the sender ends it.
    by_node: HashMap<String, (u64, oneshot::Sender<()>)>,
}

impl NodeHub {
    /// One over what the other parts share.
    ///
    /// # Errors
    /// That the store cannot be read.
    pub async fn start(context: &Context, registry: Registry) -> Result<NodeHub, StoreError> {
        NodeHub::over(context.store.clone(), context.audit.clone(), registry).await
    }

    /// One over a store.
    ///
    /// # Errors
    /// That the store cannot be read.
    pub async fn over(
        store: Arc<dyn Store>,
        audit: AuditLog,
        registry: Registry,
    ) -> Result<NodeHub, StoreError> {
        Ok(NodeHub {
            mirror: Mirror::start(store.clone()).await?,
            registry,
            store,
            audit,
            attached: Arc::default(),
        })
    }

    /// Attaches a data plane that proved to be `node`: what it is told, until it is gone, or attached again.
    ///
    /// # Errors
    /// `NODE_ID_MISMATCH`, `HELLO_MISSING`, `TOO_MANY_NODES`, and that the store does not answer.
    pub async fn attach(
        &self,
        node: &str,
        mut messages: impl Stream<Item = Result<NodeMessage, Status>> + Send + Unpin + 'static,
    ) -> Result<ReceiverStream<Result<NodeState, Status>>, Status> {
        let first = tokio::time::timeout(HELLO_PATIENCE, messages.next()).await;
        let Ok(Some(Ok(NodeMessage {
            body: Some(Body::Hello(hello)),
        }))) = first
        else {
            return Err(refusal(
                Code::InvalidArgument,
                "HELLO_MISSING",
                "the first message must be Hello",
            ));
        };
        if hello.node != node {
            return Err(refusal(
                Code::PermissionDenied,
                "NODE_ID_MISMATCH",
                format!(
                    "the certificate is for node {node}, and Hello says {:?}: set `node` to what the certificate says, or enrol again",
                    hello.node
                ),
            ));
        }
        let held = self.held(&hello).await?;
        let (number, superseded) = self.enter(node)?;
        let present = Node {
            id: node.to_owned(),
            software: shortened(hello.software),
            agents_address: shortened(hello.agents_address),
            http_address: shortened(hello.http_address),
            cores: hello.cores,
            applied_version: held.0,
            attached: true,
            since_unix: crate::audit::entry().time_unix_nanos / 1_000_000_000,
            ..Node::default()
        };
        self.remember(&present).await;
        let (outgoing, told) = mpsc::channel(OUTGOING_MAX);
        let attachment = Attachment::new(
            self.mirror.clone(),
            self.registry.attach(node),
            self.audit.clone(),
            present,
            held,
        );
        let hub = self.clone();
        tokio::spawn(async move {
            let present = attachment.run(messages, outgoing, superseded).await;
            hub.leave(&present.id, number);
            hub.remember(&present).await;
        });
        Ok(ReceiverStream::new(told))
    }

    /// The version that a data plane holds, if what it lacks can be told from there; 0 otherwise.
    async fn held(&self, hello: &Hello) -> Result<Revision, Status> {
        let held = Revision(hello.version);
        if hello.lineage[..] != self.mirror.lineage().0 {
            return Ok(Revision(0));
        }
        let mut versions = self.mirror.versions();
        if *versions.borrow() < held {
            // Another control process told it something that has not come here yet; or the store was set back.
            let newest = self.store.range(Range::prefix(keys::STATE).limit(1)).await;
            if newest.map_err(|error| store_refusal(&error))?.revision < held {
                tracing::warn!(
                    node = hello.node,
                    version = held.0,
                    "it has a version that the store does not know; was a backup restored?"
                );
                return Ok(Revision(0));
            }
            let caught_up = versions.wait_for(|version| *version >= held);
            if tokio::time::timeout(BEHIND_PATIENCE, caught_up).await.is_err() {
                return Ok(Revision(0));
            }
        }
        Ok(held)
    }

    fn enter(&self, node: &str) -> Result<(u64, oneshot::Receiver<()>), Status> {
        let mut attached = self.attached();
        if attached.by_node.len() >= ATTACHED_MAX && !attached.by_node.contains_key(node) {
            return Err(refusal(
                Code::ResourceExhausted,
                "TOO_MANY_NODES",
                format!(
                    "{ATTACHED_MAX} nodes are attached; start another control process over the same etcd"
                ),
            ));
        }
        attached.next += 1;
        let number = attached.next;
        let (end, superseded) = oneshot::channel();
        attached.by_node.insert(node.to_owned(), (number, end));
        Ok((number, superseded))
    }

    fn leave(&self, node: &str, number: u64) {
        let mut attached = self.attached();
        if attached
            .by_node
            .get(node)
            .is_some_and(|(newest, _)| *newest == number)
        {
            attached.by_node.remove(node);
        }
    }

    fn attached(&self) -> MutexGuard<'_, Attached> {
        // No change is left half-made by a panic.
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what is known of a data plane, for the time when it is not attached. It serves all the same if that fails.
    async fn remember(&self, node: &Node) {
        let write = keys::node(&node.id).put(node);
        if let Err(error) = self.store.commit(Transaction::new().write(write)).await {
            tracing::warn!(node = node.id, %error, "what is known of the node was not kept");
        }
    }
}

#[async_trait]
impl Nodes for NodeHub {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<NodeState, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<Streaming<NodeMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let caller = Caller::of(&request)?;
        let credential = caller.credential()?;
        let Subject::Node(node) = credential.subject() else {
            return Err(refusal(
                Code::PermissionDenied,
                "NOT_A_NODE",
                format!(
                    "{} is no node; nodes attach with the certificate of agp://…/node/<id>",
                    credential.uri()
                ),
            ));
        };
        let node = node.to_string();
        caller.about(format!("node {node}"), "");
        let told = NodeHub::attach(self, &node, request.into_inner()).await?;
        Ok(Response::new(Box::pin(told)))
    }
}

/// What is said by a data plane, as far as it is sensible.
fn shortened(mut text: String) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests;
