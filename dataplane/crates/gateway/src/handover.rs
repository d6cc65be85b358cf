//! What passes between cores when a session goes on at another core. See `ops::resume` for the way it takes.

use std::sync::Arc;

use crate::config::TOKEN_BYTES;
use crate::core_message::Body;
use crate::ids::{Address, CoreId, SessionId};
use crate::queue::{LaneSpec, Shipment};

/// A session on its way to another core.
#[derive(Debug)]
pub(crate) struct Departure {
    pub(crate) to: Address,
    /// Its new core announced its subscriptions here: they are no longer in this core's table.
    pub(crate) moved: bool,
    /// Cores that route to the new place.
    pub(crate) switched: Vec<CoreId>,
    pub(crate) lanes: Vec<DepartingLane>,
}

/// A subscription on its way.
#[derive(Debug)]
pub(crate) struct DepartingLane {
    pub(crate) lane: u32,
    pub(crate) pattern: Arc<str>,
    /// Or empty.
    pub(crate) group: Arc<str>,
}

impl Departure {
    pub(crate) fn has_switched(&self, core: CoreId) -> bool {
        self.switched.contains(&core)
    }
}

/// The session itself, to its new core.
#[derive(Debug)]
pub(crate) struct Handover {
    pub(crate) session: SessionId,
    pub(crate) from: Address,
    pub(crate) token: [u8; TOKEN_BYTES],
    pub(crate) sequence: u64,
    pub(crate) born: u32,
    /// Each with its group, or empty.
    pub(crate) lanes: Vec<(LaneSpec, Arc<str>)>,
}

/// What waited for it, behind which everything that came to the new place since belongs.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) session: SessionId,
    pub(crate) shipments: Vec<Shipment>,
}

/// The session's new place, to every core.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) from: Address,
    pub(crate) to: Address,
    /// What the new core has subscribers for.
    pub(crate) interest: Vec<Body>,
}
