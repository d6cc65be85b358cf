//! What the network wants done.

use std::sync::Arc;

use bytes::Bytes;
use ringgate_policy::AgentName;

use crate::ids::{LinkId, NodeId};

/// Something for the caller to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send one message: `head`, then `body` as it is. All messages of a link arrive in order, or the link is down.
    Send {
        /// Over which link.
        link: LinkId,
        /// The beginning, the same for all links of one message.
        head: Bytes,
        /// The rest; shared, never copied.
        body: Bytes,
    },
    /// Messages of another node for the subscribers of a topic here.
    Published {
        /// Where they come from.
        origin: NodeId,
        /// Their topic.
        topic: Arc<str>,
        /// How many there are in `body`.
        messages: u32,
        /// As the origin gave them.
        body: Bytes,
    },
    /// Messages of a topic were lost on the way here; comes before what came after them.
    Gap {
        /// Where they came from.
        origin: NodeId,
        /// Their topic.
        topic: Arc<str>,
        /// How many; where `exact` is not set, at least.
        missing: u64,
        /// Whether it is known how many.
        exact: bool,
    },
    /// A message of another node for this one.
    Message {
        /// Where it comes from.
        origin: NodeId,
        /// As the origin gave it.
        body: Bytes,
    },
    /// The answer to [`locate`](crate::Network::locate).
    Located {
        /// Which agent.
        name: AgentName,
        /// Where it is; none: nowhere that can be reached.
        node: Option<NodeId>,
    },
    /// Other nodes want another share of a pattern than before.
    Elsewhere {
        /// Which.
        pattern: Arc<str>,
        /// About how many subscribers there are on all of them; 0: none.
        subscribers: u32,
    },
    /// A node can be reached now.
    Reached(NodeId),
    /// A node can no longer be reached.
    Lost(NodeId),
}
