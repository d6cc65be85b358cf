//! What cores tell each other.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::ids::Name;

/// A message from one core's switch to another's. Opaque: carry it in order.
#[derive(Debug)]
pub struct CoreMessage(pub(crate) Body);

#[derive(Debug)]
pub(crate) enum Body {
    /// How many of the sender's connections want which names; to be answered with `barrier`.
    Interest { changes: Arc<[Change]>, barrier: u64 },
    /// Every message up to the interest of `barrier` has been dealt with.
    Answer { barrier: u64 },
    /// Messages for the receiver's connections.
    Run(SentRun),
    /// A client is on the sender now: an older connection of the same link is stale.
    Identified { link: u128, since: Instant },
}

/// The number of a core's connections that want a name. Absolute, so that the last one holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    pub(crate) name: Name,
    /// For this instance.
    pub(crate) members: u32,
    /// For any instance of the name.
    pub(crate) any: u32,
}

/// Consecutive messages to one name.
#[derive(Debug)]
pub(crate) struct SentRun {
    pub(crate) to: Name,
    /// One of the receiver's connections gets it, or all.
    pub(crate) one: bool,
    pub(crate) bytes: Bytes,
    pub(crate) messages: u32,
    /// The sender's node, whose connections do not get it; 0: unknown.
    pub(crate) node: u128,
}
