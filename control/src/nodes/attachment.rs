//! One attached data plane: what it is told, and what it tells.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use ringgate_proto::control::v1::{Node, NodeMessage, NodeState, SecurityEvent, node_message::Body};
use ringgate_store::Revision;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::mirror::Mirror;
use super::shortened;
use crate::audit::AuditLog;
use crate::errors::refusal;
use crate::registry::Attached;

/// How long a data plane has to put a state in force. One that takes longer is stuck, and may be better for attaching again.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);
/// Lists of security events that may wait to be written.
const EVENTS_MAX: usize = 64;

type Outgoing = mpsc::Sender<Result<NodeState, Status>>;

pub(super) struct Attachment {
    mirror: Arc<Mirror>,
    told: Attached,
    audit: AuditLog,
    node: Node,
    /// What the data plane serves by; 0: nothing that is known here.
    held: Revision,
    /// The newest that it was sent.
    sent: Option<Revision>,
    /// Since when its answer is awaited; after all parts were sent.
    awaiting: Option<Instant>,
    /// What is still to be sent of a state.
    parts: VecDeque<NodeState>,
}

impl Attachment {
    pub(super) fn new(
        mirror: Arc<Mirror>,
        told: Attached,
        audit: AuditLog,
        node: Node,
        held: Revision,
    ) -> Attachment {
        told.node(node.clone());
        Attachment {
            mirror,
            told,
            audit,
            node,
            held,
            sent: None,
            awaiting: None,
            parts: VecDeque::new(),
        }
    }

    /// Serves it to its end; what is known of it then.
    pub(super) async fn run(
        mut self,
        messages: impl Stream<Item = Result<NodeMessage, Status>> + Send + Unpin,
        outgoing: Outgoing,
        superseded: oneshot::Receiver<()>,
    ) -> Node {
        tracing::info!(node = self.node.id, version = self.held.0, "a node attached");
        let (events, writing) = mpsc::channel(EVENTS_MAX);
        tokio::spawn(write(self.audit.clone(), self.node.id.clone(), writing));
        let ended = self.serve(messages, &outgoing, superseded, &events).await;
        match ended {
            Ok(()) => tracing::info!(node = self.node.id, "a node detached"),
            Err(status) => {
                tracing::warn!(
                    node = self.node.id,
                    reason = status.message(),
                    "a node was detached"
                );
                // One that is gone needs not to be told.
                let _ = outgoing.try_send(Err(status));
            }
        }
        Node {
            attached: false,
            ..self.node
        }
    }

    async fn serve(
        &mut self,
        mut messages: impl Stream<Item = Result<NodeMessage, Status>> + Send + Unpin,
        outgoing: &Outgoing,
        mut superseded: oneshot::Receiver<()>,
        events: &mpsc::Sender<Vec<SecurityEvent>>,
    ) -> Result<(), Status> {
        let mut versions = self.mirror.versions();
        loop {
            // The first is sent in any case: it says that the node is attached.
            let version = *versions.borrow_and_update();
            if self.awaiting.is_none() && self.parts.is_empty() && self.sent != Some(version) {
                self.prepare();
            }
            let patience = self.awaiting.map_or_else(
                || Instant::now() + ANSWER_PATIENCE,
                |since| since + ANSWER_PATIENCE,
            );
            tokio::select! {
                message = messages.next() => match message {
                    Some(Ok(message)) => self.take(message, events)?,
                    Some(Err(_)) | None => return Ok(()),
                },
                room = outgoing.reserve(), if !self.parts.is_empty() => match room {
                    Ok(room) => self.send(room),
                    Err(_) => return Ok(()),
                },
                () = outgoing.closed() => return Ok(()),
                changed = versions.changed() => if changed.is_err() {
                    return Err(refusal(Code::Unavailable, "DRAINING", "the control process is ending; connect again"));
                },
                _ = &mut superseded => {
                    return Err(refusal(Code::Aborted, "ATTACHED_AGAIN", format!("node {} has attached again", self.node.id)));
                }
                () = tokio::time::sleep_until(patience), if self.awaiting.is_some() => {
                    return Err(refusal(
                        Code::DeadlineExceeded,
                        "NO_ANSWER",
                        format!("the node has not answered for {} s; attach again", ANSWER_PATIENCE.as_secs()),
                    ));
                }
            }
        }
    }

    /// What the data plane lacks now.
    fn prepare(&mut self) {
        let (version, parts) = self.mirror.since(self.held);
        self.sent = Some(version);
        self.parts = parts.iter().cloned().collect();
    }

    fn send(&mut self, room: mpsc::Permit<'_, Result<NodeState, Status>>) {
        if let Some(part) = self.parts.pop_front() {
            room.send(Ok(part));
        }
        if self.parts.is_empty() {
            self.awaiting = Some(Instant::now());
        }
    }

    fn take(
        &mut self,
        message: NodeMessage,
        events: &mpsc::Sender<Vec<SecurityEvent>>,
    ) -> Result<(), Status> {
        match message.body {
            Some(Body::Applied(applied)) => {
                self.held = self.answered(applied.version)?;
                self.node.applied_version = self.held.0;
                self.node.rejected_reason.clear();
                self.told.node(self.node.clone());
            }
            Some(Body::Rejected(rejected)) => {
                self.answered(rejected.version)?;
                self.node.rejected_reason = shortened(rejected.reason);
                tracing::warn!(
                    node = self.node.id,
                    version = rejected.version,
                    reason = self.node.rejected_reason,
                    "a node rejected the state and goes on with what it had"
                );
                self.told.node(self.node.clone());
            }
            Some(Body::Presence(presence)) => self.told.agents(presence),
            Some(Body::Load(load)) => {
                self.node.connections = load.connections;
                self.node.agents = load.agents;
                self.node.delivered = load.delivered;
                self.told.node(self.node.clone());
            }
            Some(Body::SecurityEvents(seen)) => {
                if let Err(full) = events.try_send(seen.events) {
                    let lost = full.into_inner().len();
                    tracing::warn!(
                        node = self.node.id,
                        lost,
                        "security events came faster than they can be written"
                    );
                }
            }
            Some(Body::Hello(_)) => {
                return Err(refusal(
                    Code::InvalidArgument,
                    "HELLO_TWICE",
                    "Hello is said once, at first",
                ));
            }
            // Of a later version of the protocol.
            None => {}
        }
        Ok(())
    }

    /// The version that was sent and is answered now.
    fn answered(&mut self, version: u64) -> Result<Revision, Status> {
        match (self.sent, self.awaiting.take()) {
            (Some(sent), Some(_)) if sent.0 == version => Ok(sent),
            (sent, _) => Err(refusal(
                Code::InvalidArgument,
                "ANSWER_UNEXPECTED",
                format!(
                    "the node answers version {version}, and was sent {}",
                    sent.map_or(0, |sent| sent.0)
                ),
            )),
        }
    }
}

/// Writes security events to the audit log, so that nobody else waits for it.
async fn write(audit: AuditLog, node: String, mut events: mpsc::Receiver<Vec<SecurityEvent>>) {
    while let Some(events) = events.recv().await {
        audit.record_events(&node, events).await;
    }
}
