//! The sessions of one core.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use crate::hash::Seed;
use bytes::Bytes;
use hashbrown::HashMap;
use ringgate_policy::{AgentName, Identity};

use crate::action::Status;
use crate::config::{PeerInfo, TOKEN_BYTES};
use crate::decisions::Decisions;
use crate::directory::Card;
use crate::handover::Departure;
use crate::ids::{Address, CoreId, Now, SessionId};
use crate::ledger::Ledger;
use crate::ops::watch::Watch;
use crate::outgoing::{Dialect, Encoder};
use crate::queue::{Pushed, Queue, Run};
use crate::table::{Local, MatchSet};

/// Tables by numbers that agents choose.
pub(crate) type Map<V> = HashMap<u64, V, Seed>;

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Before Register.
    Opened,
    /// Its name is being claimed, or its earlier session handed over.
    Claiming,
    /// Registered.
    Active,
    /// Its stream was lost; it may be resumed.
    Detached,
    /// It goes on at another place; its queue is on its way there.
    Departing,
    /// Nothing left but what is to be written.
    Ending,
}

/// Why a session's input is paused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pauses {
    /// Register is being carried out.
    pub(crate) claiming: bool,
    /// So many of its publishes are held by `BLOCK` subscriptions.
    pub(crate) holds: u32,
    /// It does not read its answers.
    pub(crate) unread: bool,
    /// It has as many unanswered questions to state spaces as it may.
    pub(crate) asks: bool,
    /// The caller was told to pause.
    pub(crate) told: bool,
}

impl Pauses {
    pub(crate) fn any(self) -> bool {
        self.claiming || self.holds > 0 || self.unread || self.asks
    }
}

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) stage: Stage,
    /// The stream is gone while its Register is carried out.
    pub(crate) stream_gone: bool,
    /// Nothing may be written yet: Registered must be first.
    pub(crate) gated: bool,
    pub(crate) pauses: Pauses,
    ready: bool,
    watched: bool,
    pub(crate) queue: Queue,
    /// Publishes so far, over all topics.
    pub(crate) sequence: u64,
    /// Who got its last publish.
    pub(crate) last: Option<Rc<MatchSet>>,
    /// Generation of the authority that allowed `last`.
    pub(crate) allowed: u64,
    /// Of the authority at its Register.
    pub(crate) generation: u64,
    /// What policy decided lately.
    pub(crate) decisions: Decisions,
    pub(crate) card: Option<Arc<Card>>,
    /// Subscriptions by the agent's ids: places in the queue's lanes.
    pub(crate) subscriptions: HashMap<u64, u32, Seed>,
    /// Subscriptions that wait for every core to know them.
    pub(crate) subscribing: u32,
    /// Subscriptions so far.
    pub(crate) born: u32,
    pub(crate) token: [u8; TOKEN_BYTES],
    pub(crate) resumed: bool,
    /// A `DISCONNECT` subscription that overflowed while the session was being resumed.
    pub(crate) overflowed: Option<u64>,
    pub(crate) calls: Box<Calls>,
    pub(crate) departure: Option<Box<Departure>>,
    /// Coming from another core: the cores that route to this place.
    pub(crate) arrival: Option<Vec<CoreId>>,
    pub(crate) peer: PeerInfo,
}

/// What a session has going on with others; it ends with the stream.
#[derive(Debug)]
pub(crate) struct Calls {
    /// Its requests in flight: the agent's id to the node's number.
    pub(crate) requests: Map<u64>,
    /// Requests it is to answer, by number.
    pub(crate) inbound: Map<Inbound>,
    /// Streams, by its own number.
    pub(crate) streams: Map<StreamEnd>,
    /// Its introductions in flight: the agent's id to the node's number.
    pub(crate) introductions: Map<u64>,
    /// Introductions it is to answer, by number.
    pub(crate) invitations: Map<Invitation>,
    /// Channels, by number.
    pub(crate) channels: Map<Channel>,
    /// Watches of state spaces, by its own ids.
    pub(crate) watches: Map<Watch>,
    /// Questions to state spaces, and changes of them, that are not answered yet.
    pub(crate) asks: u64,
    /// The last load report, and what was spread of it.
    pub(crate) status: Option<StatusReport>,
}

/// A request to answer.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) requester: Address,
    /// The requester's id.
    pub(crate) id: u64,
}

/// One end of a stream.
#[derive(Debug)]
pub(crate) struct StreamEnd {
    pub(crate) peer: Address,
    /// The peer's number of the stream.
    pub(crate) peer_number: u64,
    /// Payload bytes this end may still send.
    pub(crate) credit: u64,
    /// At the opener's end, what policy was asked.
    pub(crate) asked: Option<AskedFor>,
}

/// Whom a stream was asked for.
#[derive(Debug, Clone)]
pub(crate) struct AskedFor {
    /// The target's name, or that of the peer of a channel.
    pub(crate) target: Box<str>,
    /// Who was chosen, where the target stands for several.
    pub(crate) member: Option<AgentName>,
}

/// An introduction to answer.
#[derive(Debug)]
pub(crate) struct Invitation {
    pub(crate) introducer: Address,
    pub(crate) id: u64,
    pub(crate) source: AgentName,
    pub(crate) identity: Identity,
    pub(crate) dialect: Dialect,
    /// Accept was said; the introducer's core has the last word.
    pub(crate) accepted: bool,
}

/// One end of a channel.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) peer: Address,
    pub(crate) name: AgentName,
    pub(crate) dialect: Dialect,
}

/// See [`Calls::status`].
#[derive(Debug)]
pub(crate) struct StatusReport {
    pub(crate) latest: Status,
    pub(crate) spread_at: std::time::Instant,
    pub(crate) waiting: bool,
}

impl Calls {
    fn new(hasher: Seed) -> Self {
        Self {
            requests: Map::with_hasher(hasher),
            inbound: Map::with_hasher(hasher),
            streams: Map::with_hasher(hasher),
            introductions: Map::with_hasher(hasher),
            invitations: Map::with_hasher(hasher),
            channels: Map::with_hasher(hasher),
            watches: Map::with_hasher(hasher),
            asks: 0,
            status: None,
        }
    }
}

impl Session {
    fn new(id: SessionId, peer: PeerInfo, hasher: Seed) -> Self {
        Self {
            id,
            stage: Stage::Opened,
            stream_gone: false,
            gated: false,
            pauses: Pauses::default(),
            ready: false,
            watched: false,
            queue: Queue::default(),
            sequence: 0,
            last: None,
            allowed: 0,
            generation: 0,
            decisions: Decisions::default(),
            card: None,
            subscriptions: HashMap::with_hasher(hasher),
            subscribing: 0,
            born: 0,
            token: [0; TOKEN_BYTES],
            resumed: false,
            overflowed: None,
            calls: Box::new(Calls::new(hasher)),
            departure: None,
            arrival: None,
            peer,
        }
    }

    /// Whether a stream is there to be written to.
    pub(crate) fn has_stream(&self) -> bool {
        !self.stream_gone && !matches!(self.stage, Stage::Detached)
    }

    /// Takes out what it has going on with others.
    pub(crate) fn take_calls(&mut self) -> Calls {
        let hasher = *self.calls.requests.hasher();
        std::mem::replace(&mut *self.calls, Calls::new(hasher))
    }

    /// The agent's name; empty before Register.
    pub(crate) fn name(&self) -> &str {
        self.card.as_ref().map_or("", |card| card.name.as_str())
    }

    /// Whether a run of another core must not be queued here, because that core routes, or still routes, to this session's other
    /// place.
    pub(crate) fn ignores(&self, from: CoreId) -> bool {
        self.departure
            .as_ref()
            .is_some_and(|departure| departure.has_switched(from))
            || self
                .arrival
                .as_ref()
                .is_some_and(|switched| !switched.contains(&from))
    }
}

/// See the module. Places are reused; generations tell sessions of one place apart.
#[derive(Debug)]
pub(crate) struct Sessions {
    slots: Vec<Slot>,
    free: Vec<u32>,
    hasher: Seed,
    ready: VecDeque<SessionId>,
    /// Sessions whose queue was not empty at some time since the last look for stalled ones.
    watched: Vec<SessionId>,
    pub(crate) ledger: Ledger,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    session: Option<Session>,
}

impl Sessions {
    pub(crate) fn new(seed: u64, ledger: Ledger) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            hasher: Seed::new(seed),
            ready: VecDeque::new(),
            watched: Vec::new(),
            ledger,
        }
    }

    pub(crate) fn insert(&mut self, peer: PeerInfo) -> SessionId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                session: None,
            });
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        let id = SessionId {
            index,
            generation: slot.generation,
        };
        slot.session = Some(Session::new(id, peer, self.hasher));
        id
    }

    pub(crate) fn remove(&mut self, id: SessionId) {
        let slot = &mut self.slots[id.index as usize];
        debug_assert_eq!(slot.generation, id.generation);
        if let Some(mut session) = slot.session.take() {
            session.queue.clear(&mut self.ledger);
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(id.index);
        }
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<&Session> {
        let slot = self.slots.get(id.index as usize)?;
        slot.session.as_ref().filter(|session| session.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        let slot = self.slots.get_mut(id.index as usize)?;
        slot.session.as_mut().filter(|session| session.id == id)
    }

    /// The session at a place that the subscription table names, which only names places in use.
    pub(crate) fn at(&mut self, index: u32) -> Option<(&mut Session, &mut Ledger)> {
        let session = self.slots.get_mut(index as usize)?.session.as_mut()?;
        Some((session, &mut self.ledger))
    }

    /// Two sessions at once.
    pub(crate) fn pair(&mut self, a: SessionId, b: SessionId) -> Option<(&mut Session, &mut Session)> {
        let [a, b] = self
            .slots
            .get_disjoint_mut([a.index as usize, b.index as usize])
            .ok()?;
        Some((a.session.as_mut()?, b.session.as_mut()?))
    }

    /// How many places there are, in use or not.
    pub(crate) fn places(&self) -> u32 {
        self.slots.len() as u32
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.slots.iter().filter_map(|slot| slot.session.as_ref())
    }

    /// Queues a message that is not of a subscription.
    pub(crate) fn push_control(&mut self, id: SessionId, bytes: Bytes) {
        if let Some(session) = self
            .slots
            .get_mut(id.index as usize)
            .and_then(|slot| slot.session.as_mut())
            && session.id == id
        {
            session.queue.push_control(bytes, &mut self.ledger);
            self.mark(id);
        }
    }

    /// As [`push_control`](Self::push_control), before everything that waits.
    pub(crate) fn push_control_first(&mut self, id: SessionId, bytes: Bytes) {
        if let Some((session, ledger)) = self.at(id.index) {
            session.queue.push_control_first(bytes, ledger);
            self.mark(id);
        }
    }

    /// Something was queued for a session.
    pub(crate) fn mark(&mut self, id: SessionId) {
        if let Some(session) = self.slots[id.index as usize].session.as_mut() {
            note_queued(session, &mut self.ready, &mut self.watched);
        }
    }

    /// Queues a run for a subscription that the table names; with its session's id.
    #[inline]
    pub(crate) fn deliver<E: Encoder>(&mut self, local: Local, run: Run<'_>) -> Option<(SessionId, Pushed)> {
        let session = self.slots.get_mut(local.session as usize)?.session.as_mut()?;
        let pushed = session.queue.push_run::<E>(local.lane, run, &mut self.ledger);
        note_queued(session, &mut self.ready, &mut self.watched);
        Some((session.id, pushed))
    }

    /// Tells a subscription, behind what waits for it, that messages were lost before they came here.
    pub(crate) fn tell_lost(&mut self, local: Local, messages: u64, topic: &Arc<str>) {
        let Some(session) = self
            .slots
            .get_mut(local.session as usize)
            .and_then(|slot| slot.session.as_mut())
        else {
            return;
        };
        session.queue.lose(local.lane, messages, topic);
        note_queued(session, &mut self.ready, &mut self.watched);
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(crate) fn next_ready(&mut self) -> Option<SessionId> {
        while let Some(id) = self.ready.pop_front() {
            if let Some(session) = self.get_mut(id) {
                session.ready = false;
                return Some(id);
            }
        }
        None
    }

    /// Whether any queue may hold something.
    pub(crate) fn any_watched(&self) -> bool {
        !self.watched.is_empty()
    }

    /// Copies out what waited since the last call, and forgets sessions that have nothing waiting.
    pub(crate) fn settle_stalled(&mut self) {
        let mut watched = std::mem::take(&mut self.watched);
        watched.retain(|&id| {
            let Some(session) = self.slots[id.index as usize]
                .session
                .as_mut()
                .filter(|s| s.id == id)
            else {
                return false;
            };
            if session.queue.is_empty() {
                session.queue.shrink();
                session.watched = false;
                return false;
            }
            self.ledger.stats.copied_out += session.queue.settle();
            true
        });
        self.watched = watched;
    }
}

/// Puts a session on the lists of those that have something to send, and of those to look after, once each.
#[inline]
fn note_queued(session: &mut Session, ready: &mut VecDeque<SessionId>, watched: &mut Vec<SessionId>) {
    if !session.watched {
        session.watched = true;
        watched.push(session.id);
    }
    if !session.ready && session.has_stream() && !session.gated {
        session.ready = true;
        ready.push_back(session.id);
    }
}

/// When a duration in milliseconds is over.
pub(crate) fn after(now: &Now, ms: u64) -> std::time::Instant {
    now.mono + std::time::Duration::from_millis(ms)
}

// 20 000 idle sessions are to fit on a core; the caller's connection costs more than this.
const _: () = assert!(size_of::<Session>() <= 768);
