//! One connection.

use hashbrown::HashMap;
use smallvec::SmallVec;

use foldhash::fast::FixedState;

use crate::dialect::{Client, Form};
use crate::ids::{ConnectionId, End, Peer};
use crate::notice::Offences;
use crate::queue::Queue;

/// A connection, its subscriptions and its queue.
#[derive(Debug)]
pub(crate) struct Connection<L> {
    pub(crate) id: ConnectionId,
    pub(crate) peer: Peer,
    pub(crate) link: L,
    pub(crate) queue: Queue,
    pub(crate) form: Form,
    /// May be delivered to and listened to.
    pub(crate) state: State,
    /// Stands in the list of connections with something to send.
    pub(crate) is_listed: bool,
    /// Stands in the list of queues to look after.
    pub(crate) is_watched: bool,
    /// Another connection of this core is of the same node.
    pub(crate) has_twin: bool,
    pub(crate) client: Client,
    pub(crate) offences: Offences,
    /// Hash of the client's link and node; 0: unknown.
    pub(crate) link_key: u128,
    pub(crate) node_key: u128,
    pub(crate) subscriptions: HashMap<u32, Subscribed, FixedState>,
    pub(crate) names: HashMap<u32, Listed, FixedState>,
    /// Ids over all subscriptions.
    pub(crate) subscription_count: u32,
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) dropped: u64,
}

/// How far a connection is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Its greeting has not come.
    Silent,
    Ready,
    /// To be ended so when its queue is empty.
    Ending(End),
    /// The end was told.
    Ended,
}

/// A connection's subscription to one instance.
#[derive(Debug)]
pub(crate) struct Subscribed {
    /// Place in the instance's audience.
    pub(crate) position: u32,
    /// The numbers it was subscribed with.
    pub(crate) ids: SmallVec<[u64; 2]>,
}

/// A connection's place among those that want any instance of a name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listed {
    pub(crate) position: u32,
    /// How many instances it has subscribed to.
    pub(crate) instances: u32,
}

impl<L> Connection<L> {
    pub(crate) fn new(id: ConnectionId, peer: Peer, link: L, state: State, form: Form, seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            id,
            peer,
            link,
            queue: Queue::default(),
            form,
            state,
            is_listed: false,
            is_watched: false,
            has_twin: false,
            client: Client::default(),
            offences: Offences::default(),
            link_key: 0,
            node_key: 0,
            subscriptions: HashMap::with_hasher(hasher.clone()),
            names: HashMap::with_hasher(hasher),
            subscription_count: 0,
            published: 0,
            delivered: 0,
            dropped: 0,
        }
    }

    pub(crate) fn is_ending(&self) -> bool {
        matches!(self.state, State::Ending(_) | State::Ended)
    }
}
