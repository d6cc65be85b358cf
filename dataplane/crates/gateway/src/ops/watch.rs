//! Watches, at the core of the agent that watches.
//!
//! ```text
//!   StateWatch ──► fetch ──► owner ──► piece ──► queue, as far as there is room ─┬─ all of it ──► live: changes as they happen
//!                    ▲                                                         │
//!                    └──────── from behind the piece, once that is read ◄────── the rest, as the agent reads
//!   live, no room ──► behind: what comes is not queued; from behind what was, once that is read ──► fetch
//! ```
//!
//! So an agent that reads slowly gets every change for as long as the owner keeps them, and is never skipped silently: where they are
//! gone, a `Gap` tells how many, and a snapshot follows.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use ringgate_policy::{Permission, Topic};
use ringgate_state::Change;

use crate::action::{DeliveryPolicy, StateWatch};
use crate::code::Code;
use crate::core_message::{Body, Fed, Fetch, Piece, Watcher};
use crate::gateway::{Gateway, RUN_DIALECT};
use crate::hash::Seed;
use crate::ids::{Now, SessionId};
use crate::outgoing::{Encoder, Outgoing, StateChange};
use crate::queue::{FedBy, Gap, Lane, LaneSpec, Run};
use crate::refusal::Refusal;

/// What an event costs in bytes besides key and value, at most: numbers, tags, and the names of space and source.
const EVENT_BYTES: u64 = 128;

/// A watch of one agent.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Its place in the session's queue.
    lane: u32,
    space: Arc<str>,
    prefix: Arc<str>,
    /// Tells it from an earlier watch of its id.
    number: u64,
    /// All changes up to this revision are queued.
    position: u64,
    /// The agent was told that it watches.
    begun: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The owner is to tell what there is.
    Asked,
    /// The owner told more than the queue has room for: the next of it.
    Feeding {
        piece: Piece,
        next: usize,
        revision: u64,
    },
    /// It gets changes as they happen.
    Live,
    /// It missed some; the owner is asked as soon as the agent has read what waits.
    Behind,
}

/// A space that agents of this core watch.
#[derive(Debug)]
pub(crate) struct Watched {
    /// How far this core has been told.
    revision: u64,
    /// Watches that get the same bytes: of one prefix and id. (Agents that run the same program mostly choose the same ids.)
    groups: HashMap<(Arc<str>, u64), Members, Seed>,
}

/// Sessions, and the watch's place in the queue of each.
type Members = Vec<(SessionId, u32)>;

impl Gateway {
    pub(crate) fn state_watch<E: Encoder>(
        &mut self,
        id: SessionId,
        watch: StateWatch<'_>,
        now: &Now,
        enc: &mut E,
    ) {
        if let Err(refusal) = self.check_watch(id, watch) {
            return self.refuse(id, watch.id, &refusal, enc);
        }
        let space: Arc<str> = match self.state.watched.get_key_value(watch.space) {
            Some((known, _)) => Arc::clone(known),
            None => watch.space.into(),
        };
        let number = self.next_number();
        let bound = self.limits.queue_bytes_default.min(self.limits.queue_bytes_max);
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let mut lane = Lane::new(LaneSpec {
            id: watch.id,
            pattern: Arc::clone(&space),
            born: 0,
            bound: bound as u32,
            block_ms: 0,
            policy: DeliveryPolicy::DropNewest,
            exact: true,
        });
        lane.fed = FedBy::Pieces;
        let lane = session.queue.lanes.insert(lane) as u32;
        let prefix: Arc<str> = watch.prefix.into();
        session.calls.watches.insert(
            watch.id,
            Watch {
                lane,
                space: Arc::clone(&space),
                prefix: Arc::clone(&prefix),
                number,
                position: watch.from.unwrap_or(0).saturating_sub(1),
                begun: false,
                stage: Stage::Asked,
            },
        );
        let hasher = *session.subscriptions.hasher();
        let watched = self
            .state
            .watched
            .entry(Arc::clone(&space))
            .or_insert_with(|| Watched {
                revision: 0,
                groups: HashMap::with_hasher(hasher),
            });
        let group = watched.groups.entry((Arc::clone(&prefix), watch.id)).or_default();
        group.push((id, lane));
        let fetch = Fetch {
            watcher: Watcher {
                at: self.address(id),
                id: watch.id,
                number,
            },
            space,
            prefix,
            from: watch.from,
            or_snapshot: false,
        };
        self.fetch(fetch, now, enc);
    }

    fn check_watch(&mut self, id: SessionId, watch: StateWatch<'_>) -> Result<(), Refusal> {
        Topic::new(watch.space)
            .map_err(|error| Refusal::invalid(format!("space {:?}: {error}", watch.space)))?;
        if !watch.prefix.is_empty() {
            ringgate_state::key(watch.prefix)
                .map_err(|fault| Refusal::invalid(format!("prefix: {fault}")))?;
        }
        let max = self.limits.state_watches_max;
        let Some(session) = self.sessions.get(id) else {
            return Ok(());
        };
        if session.calls.watches.contains_key(&watch.id) {
            let message = format!("watch {} exists; unwatch it first or choose another id", watch.id);
            return Err(Refusal::new(Code::AlreadyExists, message));
        }
        if session.calls.watches.len() as u64 >= max {
            let message = format!(
                "this agent has {max} watches, as many as limits.state_watches_max allows; unwatch some"
            );
            return Err(Refusal::new(Code::ResourceExhausted, message));
        }
        self.permit(id, Permission::StateRead(watch.space))
    }

    fn fetch<E: Encoder>(&mut self, fetch: Fetch, now: &Now, enc: &mut E) {
        let owner = self.home_of(&fetch.space);
        match owner == self.core {
            true => self.state_fetched(fetch, now, enc),
            false => self.send(owner, Body::StateFetch(Box::new(fetch))),
        }
    }

    /// Asks the owner for what a watch does not know yet.
    fn catch_up(&mut self, id: SessionId, watch_id: u64) {
        let at = self.address(id);
        let Some(watch) = self.watch(id, watch_id) else {
            return;
        };
        watch.stage = Stage::Asked;
        let fetch = Fetch {
            watcher: Watcher {
                at,
                id: watch_id,
                number: watch.number,
            },
            space: Arc::clone(&watch.space),
            prefix: Arc::clone(&watch.prefix),
            from: Some(watch.position + 1),
            or_snapshot: true,
        };
        self.sessions.ledger.stats.state_catchups += 1;
        let owner = self.home_of(&fetch.space);
        // Also where that is this core: who calls may be in the midst of something.
        self.send(owner, Body::StateFetch(Box::new(fetch)));
    }

    /// The owner tells what there is.
    pub(crate) fn state_fed<E: Encoder>(&mut self, fed: Fed, enc: &mut E) {
        let Watcher {
            at,
            id: watch_id,
            number,
        } = fed.watcher;
        let id = at.session;
        let Some(watch) = self.watch(id, watch_id).filter(|watch| watch.number == number) else {
            return;
        };
        if let Piece::Refused(refusal) = &fed.piece {
            self.end_watch(id, watch_id);
            return self.refuse(id, watch_id, refusal, enc);
        }
        let begun = std::mem::replace(&mut watch.begun, true);
        let (lane, missed) = (watch.lane, fed.revision.saturating_sub(watch.position));
        let space = Arc::clone(&watch.space);
        if let Some(watched) = self.state.watched.get_mut(&space) {
            watched.revision = watched.revision.max(fed.revision);
        }
        if !begun {
            let ack = Outgoing::Ack {
                id: watch_id,
                revision: fed.revision,
                receivers: 0,
            };
            self.say(id, &ack, enc);
        } else if matches!(fed.piece, Piece::Snapshot(_))
            && let Some((session, _)) = self.sessions.at(id.index)
        {
            // Some of what it missed, the snapshot tells; how many it does not is not known.
            let mut gap = Gap::default();
            gap.add(missed.max(1), 0, &space);
            session.queue.push_gap(lane, Box::new(gap));
        }
        if let Some(watch) = self.watch(id, watch_id) {
            watch.stage = Stage::Feeding {
                piece: fed.piece,
                next: 0,
                revision: fed.revision,
            };
        }
        if self.feed(id, watch_id, enc)
            && let Some(watch) = self.watch(id, watch_id)
        {
            watch.stage = Stage::Live;
            self.set_fed(id, lane, FedBy::Changes);
        }
    }

    /// Queues as much of a piece as there is room for. Whether that is all of it.
    fn feed<E: Encoder>(&mut self, id: SessionId, watch_id: u64, enc: &mut E) -> bool {
        let run_bytes_max = self.limits.run_bytes_max;
        loop {
            let Some((session, ledger)) = self.sessions.at(id.index) else {
                return false;
            };
            let Some(watch) = session.calls.watches.get_mut(&watch_id) else {
                return false;
            };
            let Stage::Feeding {
                piece,
                next,
                revision,
            } = &mut watch.stage
            else {
                return false;
            };
            let (events, snapshot) = match piece {
                Piece::Snapshot(entries) => (&entries[..], true),
                Piece::Changes(changes) => (&changes[..], false),
                Piece::Refused(_) => return false,
            };
            let total = events.len() + usize::from(snapshot);
            let (room, alone) = session.queue.room(watch.lane, ledger);
            let (mut bytes, mut end) = (0, *next);
            while end < total {
                let event = events.get(end);
                let len = event.map_or(EVENT_BYTES, |change| event_len(&watch.space, change));
                let fits = match bytes {
                    0 => alone || len <= room,
                    _ => bytes + len <= room.min(run_bytes_max),
                };
                if !fits {
                    break;
                }
                match event {
                    Some(change) => append_event(enc, watch_id, &watch.space, change),
                    None => append_snapshot_end(enc, watch_id, &watch.space, *revision),
                }
                bytes += len;
                end += 1;
            }
            let messages = (end - *next) as u32;
            let finished = end == total;
            *next = end;
            if finished {
                watch.position = *revision;
            }
            let (lane, space) = (watch.lane, Arc::clone(&watch.space));
            if messages > 0 {
                let run = Run {
                    dialect: RUN_DIALECT,
                    topic: &space,
                    bytes: &enc.take(),
                    messages,
                };
                session.queue.push_surely(lane, run, ledger);
                self.sessions.mark(id);
            }
            if finished || messages == 0 {
                return finished;
            }
        }
    }

    /// A watch that is not live has been read so far that it can go on.
    pub(crate) fn watch_is_hungry<E: Encoder>(&mut self, id: SessionId, lane: u32, enc: &mut E) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let Some(watch_id) = session.queue.lanes.get(lane as usize).map(|lane| lane.id) else {
            return;
        };
        match session.calls.watches.get(&watch_id).map(|watch| &watch.stage) {
            Some(Stage::Feeding { .. }) => {
                if self.feed(id, watch_id, enc) {
                    // Meanwhile more has happened.
                    self.catch_up(id, watch_id);
                }
            }
            Some(Stage::Behind) => self.catch_up(id, watch_id),
            Some(Stage::Asked | Stage::Live) | None => {}
        }
    }

    /// What has changed in a space that agents of this core watch.
    pub(crate) fn state_changes_told<E: Encoder>(
        &mut self,
        space: &Arc<str>,
        changes: &[Arc<Change>],
        enc: &mut E,
    ) {
        let Some(watched) = self.state.watched.get_mut(space) else {
            return;
        };
        let before = watched.revision;
        watched.revision = changes
            .last()
            .map_or(before, |change| before.max(change.revision));
        let mut behind = Vec::new();
        for ((prefix, watch_id), members) in &watched.groups {
            let mut encoded: Option<(Bytes, u32)> = None;
            for &(id, lane) in members {
                let Some((session, ledger)) = self.sessions.at(id.index) else {
                    continue;
                };
                if session.queue.lanes[lane as usize].fed != FedBy::Changes {
                    continue;
                }
                let (bytes, messages) = encoded.get_or_insert_with(|| {
                    let wanted = changes.iter().filter(|change| change.key.starts_with(&**prefix));
                    let messages = wanted
                        .map(|change| append_event(enc, *watch_id, space, change))
                        .count();
                    (enc.take(), messages as u32)
                });
                if *messages == 0 {
                    break;
                }
                let run = Run {
                    dialect: RUN_DIALECT,
                    topic: space,
                    bytes,
                    messages: *messages,
                };
                match session.queue.push_waiting(lane, run, ledger) {
                    true => self.sessions.mark(id),
                    false => behind.push((id, *watch_id, lane)),
                }
            }
        }
        for (id, watch_id, lane) in behind {
            self.fell_behind(id, watch_id, lane, before);
        }
    }

    #[cold]
    fn fell_behind(&mut self, id: SessionId, watch_id: u64, lane: u32, position: u64) {
        self.set_fed(id, lane, FedBy::Pieces);
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let hungry = session.queue.is_hungry(lane);
        if let Some(watch) = session.calls.watches.get_mut(&watch_id) {
            watch.stage = Stage::Behind;
            watch.position = position;
        }
        if hungry {
            self.catch_up(id, watch_id);
        }
    }

    pub(crate) fn state_unwatch<E: Encoder>(&mut self, id: SessionId, watch_id: u64, enc: &mut E) {
        if self.watch(id, watch_id).is_none() {
            let message = format!("there is no watch {watch_id}; it may be gone already");
            return self.refuse(id, watch_id, &Refusal::new(Code::NotFound, message), enc);
        }
        self.end_watch(id, watch_id);
        self.acknowledge(id, watch_id, 0, enc);
    }

    /// Ends all watches of a session: they do not outlive its stream, but can be resumed by revision.
    pub(crate) fn end_watches(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let watches: Vec<u64> = session.calls.watches.keys().copied().collect();
        watches.into_iter().for_each(|watch| self.end_watch(id, watch));
    }

    pub(crate) fn end_watch(&mut self, id: SessionId, watch_id: u64) {
        let Some((session, ledger)) = self.sessions.at(id.index) else {
            return;
        };
        let Some(watch) = session.calls.watches.remove(&watch_id) else {
            return;
        };
        session.queue.discard_lane(watch.lane, ledger);
        let Some(watched) = self.state.watched.get_mut(&watch.space) else {
            return;
        };
        let group = (watch.prefix, watch_id);
        if let Some(members) = watched.groups.get_mut(&group) {
            members.retain(|&(session, _)| session != id);
            if members.is_empty() {
                watched.groups.remove(&group);
            }
        }
        if watched.groups.is_empty() {
            self.state.watched.remove(&watch.space);
            let owner = self.home_of(&watch.space);
            self.send(owner, Body::StateForget { space: watch.space });
        }
    }

    /// The space that a session watches by an id.
    pub(crate) fn watched_space(&self, id: SessionId, watch_id: u64) -> Option<Arc<str>> {
        let watch = self.sessions.get(id)?.calls.watches.get(&watch_id)?;
        Some(Arc::clone(&watch.space))
    }

    fn watch(&mut self, id: SessionId, watch_id: u64) -> Option<&mut Watch> {
        self.sessions.get_mut(id)?.calls.watches.get_mut(&watch_id)
    }

    fn set_fed(&mut self, id: SessionId, lane: u32, fed: FedBy) {
        if let Some((session, _)) = self.sessions.at(id.index) {
            session.queue.lanes[lane as usize].fed = fed;
        }
    }
}

/// Bytes of an event, at most.
fn event_len(space: &str, change: &Change) -> u64 {
    let value = change.value.as_ref().map_or(0, Bytes::len);
    (space.len() + change.key.len() + change.source.len() + value) as u64 + EVENT_BYTES
}

fn append_event<E: Encoder>(enc: &mut E, id: u64, space: &str, change: &Change) {
    let event = Outgoing::StateEvent {
        id,
        space,
        key: &change.key,
        value: change.value.as_deref().unwrap_or_default(),
        revision: change.revision,
        change: match change.value {
            Some(_) => StateChange::Put,
            None => StateChange::Delete,
        },
        source: &change.source,
        time_unix_nanos: change.time_unix_nanos,
    };
    enc.append(RUN_DIALECT, &event);
}

fn append_snapshot_end<E: Encoder>(enc: &mut E, id: u64, space: &str, revision: u64) {
    let event = Outgoing::StateEvent {
        id,
        space,
        key: "",
        value: b"",
        revision,
        change: StateChange::SnapshotEnd,
        source: "",
        time_unix_nanos: 0,
    };
    enc.append(RUN_DIALECT, &event);
}
