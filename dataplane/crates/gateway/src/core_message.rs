//! What cores tell each other. The caller carries it, in order for each pair of cores, and looks no further.
//!
//! Messages for an agent travel encoded: the core that has the sender encodes, the core that has the receiver queues. Numbers of
//! requests, streams and introductions are unique in the node, so that both cores mean the same by them.

use std::sync::Arc;

use bytes::Bytes;
use ringgate_policy::{AgentName, Identity, Proof};

use crate::action::Status;
use crate::code::Code;
use crate::config::TOKEN_BYTES;
use crate::directory::Card;
use crate::handover::{Handover, Moved, Tail};
use crate::ids::{Address, SessionId};
use crate::outgoing::Dialect;
use crate::refusal::Refusal;
use ringgate_state::{Change, Kept};

/// One message from a core to another.
#[derive(Debug)]
pub struct CoreMessage(pub(crate) Body);

#[derive(Debug)]
pub(crate) enum Body {
    // Publishing.
    Run {
        topic: Arc<str>,
        bytes: Bytes,
        messages: u32,
        hold: Option<u64>,
    },
    GroupRun(Box<GroupRun>),
    /// Messages of a topic were lost on their way from another node.
    Lost {
        topic: Arc<str>,
        messages: u64,
    },
    /// A publish that was held is settled.
    Released {
        hold: u64,
    },

    // Interest, and proof that it is known.
    Interest {
        pattern: Arc<str>,
        subscribers: u32,
        blocking: bool,
        barrier: Option<u64>,
    },
    GroupInterest(Box<GroupInterest>),
    GroupFull {
        pattern: Arc<str>,
        group: Arc<str>,
        full: bool,
    },
    Reached {
        barrier: u64,
    },

    // What topics keep, for those who subscribe later.
    KeptWanted(Box<KeptWanted>),
    KeptTold {
        number: u64,
        messages: Vec<Arc<Kept>>,
    },

    // Names and the directory.
    Claim(Box<Claim>),
    Granted {
        session: SessionId,
        name: Arc<str>,
        token: [u8; TOKEN_BYTES],
    },
    Refused {
        session: SessionId,
        refusal: Box<Refusal>,
    },
    /// Give a session up, to be resumed by `to`, or for good.
    Yield {
        session: SessionId,
        to: Option<Address>,
    },
    NameSettled {
        name: Arc<str>,
        session: SessionId,
    },
    Handover(Box<Handover>),
    Moved(Box<Moved>),
    Switched {
        session: SessionId,
    },
    Tail(Box<Tail>),
    NameDetached {
        name: Arc<str>,
        session: SessionId,
    },
    NameReleased {
        name: Arc<str>,
        session: SessionId,
    },
    AgentUp {
        card: Arc<Card>,
        barrier: u64,
    },
    AgentDown {
        card: Arc<Card>,
    },
    /// It lost a capability.
    AgentChanged {
        card: Arc<Card>,
    },
    AgentStatus {
        card: Arc<Card>,
        status: Status,
    },

    // Requests.
    Forward {
        to: SessionId,
        number: u64,
        requester: Address,
        id: u64,
        frame: Bytes,
    },
    Deliver {
        number: u64,
        frame: Bytes,
    },
    RequestFailed {
        number: u64,
        refusal: Box<Refusal>,
    },
    CancelRequest {
        to: SessionId,
        number: u64,
    },

    // Streams: `number` is the receiver's.
    StreamOpen(Box<StreamOpened>),
    Chunk {
        to: SessionId,
        number: u64,
        frame: Bytes,
    },
    StreamClose {
        to: SessionId,
        number: u64,
        frame: Bytes,
    },
    StreamCredit {
        to: SessionId,
        number: u64,
        bytes: u64,
    },
    StreamEnded {
        to: SessionId,
        number: u64,
        code: Code,
        message: Box<str>,
    },

    /// The acceptor could not take it; `peer_number` tells it from a later stream of the same number.
    StreamRefused {
        to: SessionId,
        number: u64,
        peer_number: u64,
        refusal: Box<Refusal>,
    },
    /// As `StreamEnded`, from a core to itself, for an end that is gone already.
    StreamEndedHere {
        to: SessionId,
        number: u64,
    },

    // State spaces.
    StateAsk(Box<StateAsk>),
    StateAnswer(Box<StateAnswer>),
    StateFetch(Box<Fetch>),
    StateFed(Box<Fed>),
    StateChanges {
        space: Arc<str>,
        changes: Vec<Arc<Change>>,
    },
    /// Nobody here watches the space any more.
    StateForget {
        space: Arc<str>,
    },

    // Introductions.
    Introduce(Box<Introduced>),
    Accepted {
        number: u64,
        frame: Bytes,
    },
    ChannelOpen {
        to: SessionId,
        number: u64,
    },
    Rejected {
        number: u64,
        frame: Bytes,
    },
    IntroductionFailed {
        number: u64,
        refusal: Box<Refusal>,
    },
    CancelIntroduction {
        to: SessionId,
        number: u64,
    },
    ChannelClosed {
        to: SessionId,
        number: u64,
    },
}

#[derive(Debug)]
pub(crate) struct GroupRun {
    pub(crate) pattern: Arc<str>,
    pub(crate) group: Arc<str>,
    pub(crate) topic: Arc<str>,
    pub(crate) bytes: Bytes,
    pub(crate) hold: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct GroupInterest {
    pub(crate) pattern: Arc<str>,
    pub(crate) group: Arc<str>,
    pub(crate) members: u32,
    pub(crate) blocking: bool,
    pub(crate) barrier: Option<u64>,
}

/// A new subscription wants what is kept; what its core is sent from then on, it gets too.
#[derive(Debug)]
pub(crate) struct KeptWanted {
    /// To be answered on.
    pub(crate) number: u64,
    pub(crate) pattern: Arc<str>,
}

/// A session wants a name; sent to the name's home.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) name: Arc<str>,
    pub(crate) claimant: Address,
    /// What the agent showed.
    pub(crate) resume: Option<[u8; TOKEN_BYTES]>,
    /// What it would get.
    pub(crate) token: [u8; TOKEN_BYTES],
    /// Of the bearer token by which it claims.
    pub(crate) proof: Option<Proof>,
}

#[derive(Debug)]
pub(crate) struct StreamOpened {
    pub(crate) to: SessionId,
    pub(crate) number: u64,
    pub(crate) opener: Address,
    pub(crate) opener_number: u64,
    /// What the acceptor may send.
    pub(crate) credit: u64,
    pub(crate) frame: Bytes,
}

#[derive(Debug)]
pub(crate) struct Introduced {
    pub(crate) to: SessionId,
    pub(crate) number: u64,
    pub(crate) introducer: Address,
    pub(crate) id: u64,
    pub(crate) source: AgentName,
    pub(crate) identity: Identity,
    pub(crate) dialect: Dialect,
    pub(crate) frame: Bytes,
}

/// An agent wants something of a space; sent to the space's owner.
#[derive(Debug)]
pub(crate) struct StateAsk {
    pub(crate) from: Address,
    /// The agent's.
    pub(crate) id: u64,
    pub(crate) space: Box<str>,
    pub(crate) key: Box<str>,
    pub(crate) what: Wanted,
}

/// See [`StateAsk`].
#[derive(Debug)]
pub(crate) enum Wanted {
    Get,
    Write {
        value: Option<Bytes>,
        expect: Option<u64>,
        ttl_ms: u64,
        source: Arc<str>,
    },
}

/// The owner's answer.
#[derive(Debug)]
pub(crate) struct StateAnswer {
    pub(crate) to: SessionId,
    pub(crate) id: u64,
    pub(crate) answer: Answer,
}

/// See [`StateAnswer`].
#[derive(Debug)]
pub(crate) enum Answer {
    Done {
        revision: u64,
    },
    Value {
        space: Box<str>,
        key: Box<str>,
        entry: Option<Arc<Change>>,
    },
    Refused(Refusal),
}

/// A watch wants to know what it does not know yet; sent to the space's owner, which tells this core all changes from then on.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub(crate) watcher: Watcher,
    pub(crate) space: Arc<str>,
    pub(crate) prefix: Arc<str>,
    /// The first revision wanted; none: a snapshot.
    pub(crate) from: Option<u64>,
    /// Where the changes from there on are gone, a snapshot will do.
    pub(crate) or_snapshot: bool,
}

/// A watch, as its space's owner knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watcher {
    pub(crate) at: Address,
    /// The agent's id of the watch.
    pub(crate) id: u64,
    /// Tells it from an earlier watch of this id.
    pub(crate) number: u64,
}

/// The owner's answer: what is up to `revision`. What comes after it, comes as it happens.
#[derive(Debug)]
pub(crate) struct Fed {
    pub(crate) watcher: Watcher,
    pub(crate) revision: u64,
    pub(crate) piece: Piece,
}

/// See [`Fed`].
#[derive(Debug)]
pub(crate) enum Piece {
    Snapshot(Arc<[Arc<Change>]>),
    Changes(Vec<Arc<Change>>),
    Refused(Refusal),
}

// It is moved a few times on its way; two cache lines are enough.
const _: () = assert!(size_of::<CoreMessage>() <= 96);
