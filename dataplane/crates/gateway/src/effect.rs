//! What a gateway core wants done, and how it answers its caller.

use std::sync::Arc;

use bytes::Bytes;
use ringgate_policy::AgentName;

use crate::code::Code;
use crate::core_message::CoreMessage;
use crate::event::SecurityEvent;
use crate::follow::Step;
use crate::ids::{CoreId, SessionId};
use crate::stats::AgentInfo;

/// Whether the caller may go on with a session's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a paused session's input must be held"]
pub enum Flow {
    /// Go on.
    Continue,
    /// Hold this session's further input until [`Effect::Resume`] names it.
    Pause,
}

/// How a session's stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// The agent half-closed or cancelled it, or the gateway asked for the end: nothing is kept.
    Orderly,
    /// The connection was lost: the session may be resumed within the grace period.
    Lost,
}

/// Something for the caller to do.
#[derive(Debug)]
pub enum Effect {
    /// Hand `message` to [`Gateway::receive`](crate::Gateway::receive) of another core, in order.
    ToCore {
        /// Which core.
        core: CoreId,
        /// What.
        message: CoreMessage,
    },
    /// Pass messages on to the other nodes that want their topic.
    ToNetwork {
        /// Their topic.
        topic: Arc<str>,
        /// Messages as subscribers get them, one behind the other.
        bytes: Bytes,
        /// How many.
        messages: u32,
    },
    /// Tell the other nodes how many subscribers a pattern has on this one.
    Wanted {
        /// Which pattern.
        pattern: Arc<str>,
        /// On all cores; 0: nobody wants it any more.
        subscribers: u32,
    },
    /// The input of a session that was paused may go on.
    Resume(SessionId),
    /// End the stream: write what [`Gateway::pull`](crate::Gateway::pull) still gives, then the status; then tell
    /// [`Gateway::close`](crate::Gateway::close). Input of the session is ignored from now on.
    End {
        /// Which session.
        session: SessionId,
        /// With which status.
        code: Code,
        /// In words for the agent.
        message: String,
        /// Whether it ends because the agent's credential is no longer good: then its connection is no longer good either, unless
        /// something else vouches for that.
        expelled: bool,
    },
    /// For the operator's audit log.
    Security(Box<SecurityEvent>),
    /// For those who follow who is there: an agent of this core came, or is another than it was.
    Present(Box<AgentInfo>),
    /// An agent of this core left.
    Absent(AgentName),
    /// What became of a message that is [followed](crate::Gateway::follow).
    Step(Step),
}
