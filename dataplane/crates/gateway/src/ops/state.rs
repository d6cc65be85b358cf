//! State spaces: what agents ask of them, and what their owners answer.
//!
//! A space is owned by one core, found by its name as a name's home is. The agent's core checks what the agent may and sends the
//! rest there; the owner's answer ends it. An agent whose questions are too many waits, as its input does.
//!
//! Answers and changes of a durable space leave the owner once what they tell is on disk (`journal`).

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hashbrown::HashMap;
use ringgate_policy::{Permission, Topic};
use ringgate_state::{Change, Changed, Fault, Moment, Past, Spaces, Write};

use crate::action::{StateGet, StateWrite};
use crate::code::Code;
use crate::core_message::{Answer, Body, Fed, Fetch, Piece, StateAnswer, StateAsk, Wanted};
use crate::gateway::Gateway;
use crate::hash::Seed;
use crate::ids::{Address, CoreId, Now, SessionId};
use crate::ops::journal::Journal;
use crate::ops::watch::Watched;
use crate::outgoing::{Encoder, Outgoing};
use crate::refusal::Refusal;
use crate::session::Stage;

/// The spaces of a core, and the watches of its agents.
pub(crate) struct State {
    pub(crate) spaces: Spaces,
    pub(crate) journal: Journal,
    /// Spaces of all cores that agents of this core watch.
    pub(crate) watched: HashMap<Arc<str>, Watched, Seed>,
    /// Changes that watching cores are to be told together.
    fresh: Vec<(Arc<str>, Arc<Change>)>,
    fresh_bytes: u64,
    /// Snapshots that watchers may hold still.
    snapshots: Vec<Snapshot>,
    /// When there is something to do.
    pub(crate) due: Option<Instant>,
}

struct Snapshot {
    space: Arc<str>,
    prefix: Arc<str>,
    revision: u64,
    entries: Weak<[Arc<Change>]>,
    len: u64,
}

/// Something that leaves the owner of a space.
pub(crate) enum Output {
    Answer {
        to: Address,
        id: u64,
        answer: Answer,
    },
    Change {
        space: Arc<str>,
        change: Arc<Change>,
    },
    Fed(Box<Fed>),
    /// The Ack of a publish that its topic keeps.
    Published {
        to: SessionId,
        id: u64,
        receivers: u32,
    },
}

impl State {
    pub(crate) fn new(seed: u64, durable: Arc<[Box<str>]>, durable_topics: bool) -> Self {
        Self {
            journal: Journal::new(durable_topics || !durable.is_empty()),
            spaces: Spaces::new(seed, durable),
            watched: HashMap::with_hasher(Seed::new(seed)),
            fresh: Vec::new(),
            fresh_bytes: 0,
            snapshots: Vec::new(),
            due: None,
        }
    }
}

impl Gateway {
    pub(crate) fn state_get<E: Encoder>(&mut self, id: SessionId, get: StateGet<'_>, now: &Now, enc: &mut E) {
        let checked = check_space(get.space)
            .and_then(|()| ringgate_state::key(get.key).map_err(|fault| refusal(&fault)))
            .and_then(|()| self.permit(id, Permission::StateRead(get.space)));
        if let Err(refusal) = checked {
            return self.refuse(id, get.id, &refusal, enc);
        }
        self.begin_ask(id);
        let from = self.address(id);
        let owner = self.home_of(get.space);
        if owner == self.core {
            return self.read_space(from, get.id, get.space, get.key, now, enc);
        }
        let ask = StateAsk {
            from,
            id: get.id,
            space: get.space.into(),
            key: get.key.into(),
            what: Wanted::Get,
        };
        self.send(owner, Body::StateAsk(Box::new(ask)));
    }

    pub(crate) fn state_write<E: Encoder>(
        &mut self,
        id: SessionId,
        write: StateWrite<'_>,
        now: &Now,
        enc: &mut E,
    ) {
        let checked =
            check_space(write.space).and_then(|()| self.permit(id, Permission::StateWrite(write.space)));
        if let Err(refusal) = checked {
            return self.refuse(id, write.id, &refusal, enc);
        }
        let Some(card) = self.card_of(id) else { return };
        self.begin_ask(id);
        let from = self.address(id);
        let owner = self.home_of(write.space);
        let value = write.value.map(Bytes::copy_from_slice);
        if owner == self.core {
            let wanted = Write {
                key: write.key,
                value,
                expect: write.expect,
                ttl_ms: write.ttl_ms,
                source: card.name.shared(),
            };
            return self.write_space(from, write.id, write.space, wanted, now, enc);
        }
        let ask = StateAsk {
            from,
            id: write.id,
            space: write.space.into(),
            key: write.key.into(),
            what: Wanted::Write {
                value,
                expect: write.expect,
                ttl_ms: write.ttl_ms,
                source: Arc::clone(card.name.shared()),
            },
        };
        self.send(owner, Body::StateAsk(Box::new(ask)));
    }

    /// At the owner: an agent of another core wants something.
    pub(crate) fn state_asked<E: Encoder>(&mut self, ask: StateAsk, now: &Now, enc: &mut E) {
        match ask.what {
            Wanted::Get => self.read_space(ask.from, ask.id, &ask.space, &ask.key, now, enc),
            Wanted::Write {
                value,
                expect,
                ttl_ms,
                source,
            } => {
                let write = Write {
                    key: &ask.key,
                    value,
                    expect,
                    ttl_ms,
                    source: &source,
                };
                self.write_space(ask.from, ask.id, &ask.space, write, now, enc);
            }
        }
    }

    fn read_space<E: Encoder>(
        &mut self,
        to: Address,
        id: u64,
        name: &str,
        key: &str,
        now: &Now,
        enc: &mut E,
    ) {
        self.expire_keys(now, enc);
        self.sessions.ledger.stats.state_gets += 1;
        let space = self.state.spaces.get(name);
        let position = space.map_or(0, |space| space.position);
        // Where the disk fails, keys outlive their time.
        let lives =
            |entry: &&Arc<Change>| entry.expires_unix_ms == 0 || entry.expires_unix_ms > moment(now).millis();
        let answer = Answer::Value {
            space: name.into(),
            key: key.into(),
            entry: space.and_then(|space| space.get(key)).filter(lives).cloned(),
        };
        self.put_out(position, Output::Answer { to, id, answer }, enc);
    }

    fn write_space<E: Encoder>(
        &mut self,
        to: Address,
        id: u64,
        name: &str,
        write: Write<'_>,
        now: &Now,
        enc: &mut E,
    ) {
        self.expire_keys(now, enc);
        let written = match self.check_journal(name) {
            Ok(()) => {
                let written = self.state.spaces.write(name, write, &self.limits, moment(now));
                written.map_err(|fault| refusal(&fault))
            }
            Err(refusal) => Err(refusal),
        };
        let (position, answer) = match written {
            Ok(changed) => {
                let revision = changed.change.revision;
                let expires = changed.change.expires_unix_ms > 0;
                let position = self.changed(changed, enc);
                if expires {
                    self.set_state_due(now);
                }
                (position, Answer::Done { revision })
            }
            Err(refusal) => {
                // What it tells of the space must be on disk too.
                let position = self.state.spaces.get(name).map_or(0, |space| space.position);
                (position, Answer::Refused(refusal))
            }
        };
        self.put_out(position, Output::Answer { to, id, answer }, enc);
    }

    /// A space has changed: that goes to the log, and to those who watch. Returns its position in the log.
    fn changed<E: Encoder>(&mut self, changed: Changed, enc: &mut E) -> u64 {
        self.sessions.ledger.stats.state_changes += 1;
        let (space, change, durable) = (
            Arc::clone(&changed.space),
            Arc::clone(&changed.change),
            changed.durable,
        );
        let position = match durable {
            true => self.state.journal.append(changed),
            false => 0,
        };
        let watched = self.state.spaces.get_mut(&space).is_some_and(|space| {
            space.position = position;
            !space.watchers.is_empty()
        });
        if watched {
            self.put_out(position, Output::Change { space, change }, enc);
        }
        position
    }

    /// Lets something go, once the log is on disk up to `position`.
    pub(crate) fn put_out<E: Encoder>(&mut self, position: u64, output: Output, enc: &mut E) {
        if let Some(output) = self.state.journal.hold(position, output) {
            self.let_out(output, enc);
        }
    }

    pub(crate) fn let_out<E: Encoder>(&mut self, output: Output, enc: &mut E) {
        match output {
            Output::Answer { to, id, answer } => {
                let answer = StateAnswer {
                    to: to.session,
                    id,
                    answer,
                };
                match to.core == self.core {
                    true => self.state_answered(answer, enc),
                    false => self.send(to.core, Body::StateAnswer(Box::new(answer))),
                }
            }
            Output::Change { space, change } => {
                self.state.fresh_bytes += change.cost();
                self.state.fresh.push((space, change));
                if self.state.fresh_bytes >= self.limits.run_bytes_max {
                    self.flush_changes(enc);
                }
            }
            Output::Published { to, id, receivers } => self.acknowledge(to, id, receivers, enc),
            Output::Fed(fed) => {
                // What it tells comes behind the changes before it.
                self.flush_changes(enc);
                match fed.watcher.at.core == self.core {
                    true => self.state_fed(*fed, enc),
                    false => self.send(fed.watcher.at.core, Body::StateFed(fed)),
                }
            }
        }
    }

    /// Tells those who watch what has changed.
    pub(crate) fn flush_changes<E: Encoder>(&mut self, enc: &mut E) {
        if self.state.fresh.is_empty() {
            return;
        }
        self.state.fresh_bytes = 0;
        let mut fresh = std::mem::take(&mut self.state.fresh);
        // Each space's changes stay in order.
        fresh.sort_by(|(one, _), (other, _)| one.cmp(other));
        for of_space in fresh.chunk_by(|(one, _), (other, _)| one == other) {
            let space = &of_space[0].0;
            let Some(owned) = self.state.spaces.get(space) else {
                continue;
            };
            let changes: Vec<Arc<Change>> = of_space.iter().map(|(_, change)| Arc::clone(change)).collect();
            for core in owned.watchers.clone() {
                match core == self.core.0 {
                    true => self.state_changes_told(space, &changes, enc),
                    false => self.send(
                        CoreId(core),
                        Body::StateChanges {
                            space: Arc::clone(space),
                            changes: changes.clone(),
                        },
                    ),
                }
            }
        }
        fresh.clear();
        self.state.fresh = fresh;
    }

    /// At the owner: a watch wants to know what there is.
    pub(crate) fn state_fetched<E: Encoder>(&mut self, fetch: Fetch, now: &Now, enc: &mut E) {
        self.expire_keys(now, enc);
        let (mut revision, mut position) = (0, 0);
        let core = fetch.watcher.at.core.0;
        let found = match self.state.spaces.ensure(&fetch.space, &self.limits, moment(now)) {
            Err(fault) => Err(refusal(&fault)),
            Ok((_, space)) => {
                (revision, position) = (space.revision(), space.position);
                if !space.watchers.contains(&core) {
                    space.watchers.push(core);
                }
                match fetch.from.map(|from| (from, space.since(from, &fetch.prefix))) {
                    Some((_, Past::Changes(changes))) => Ok(Some(changes)),
                    Some((from, past)) if !fetch.or_snapshot => Err(compacted(from, revision, &past)),
                    _ => Ok(None),
                }
            }
        };
        let piece = match found {
            Ok(Some(changes)) => Piece::Changes(changes),
            Ok(None) => match self.snapshot(&fetch, revision) {
                Ok(entries) => Piece::Snapshot(entries),
                Err(refusal) => Piece::Refused(refusal),
            },
            Err(refusal) => Piece::Refused(refusal),
        };
        let fed = Fed {
            watcher: fetch.watcher,
            revision,
            piece,
        };
        self.put_out(position, Output::Fed(Box::new(fed)), enc);
    }

    /// A list of what a space holds now, shared with others who want the same.
    fn snapshot(&mut self, fetch: &Fetch, revision: u64) -> Result<Arc<[Arc<Change>]>, Refusal> {
        let snapshots = &mut self.state.snapshots;
        snapshots.retain(|snapshot| snapshot.entries.strong_count() > 0);
        let same = snapshots.iter().find(|snapshot| {
            (&snapshot.space, &snapshot.prefix, snapshot.revision) == (&fetch.space, &fetch.prefix, revision)
        });
        if let Some(entries) = same.and_then(|snapshot| snapshot.entries.upgrade()) {
            return Ok(entries);
        }
        let held: u64 = snapshots.iter().map(|snapshot| snapshot.len).sum();
        let max = self.limits.state_snapshot_entries_max;
        if held > max {
            return Err(Refusal::retryable(
                Code::ResourceExhausted,
                format!(
                    "slow watchers hold snapshots of {held} entries, more than {max} (limits.state_snapshot_entries_max); try again later"
                ),
            ));
        }
        let space = self.state.spaces.get(&fetch.space);
        let entries: Arc<[Arc<Change>]> = space.map_or_else(Arc::default, |space| {
            space.entries(&fetch.prefix).cloned().collect()
        });
        snapshots.push(Snapshot {
            space: Arc::clone(&fetch.space),
            prefix: Arc::clone(&fetch.prefix),
            revision,
            entries: Arc::downgrade(&entries),
            len: entries.len() as u64,
        });
        Ok(entries)
    }

    /// At the owner: nobody on a core watches a space any more.
    pub(crate) fn state_forgotten(&mut self, from: CoreId, space: &str) {
        if let Some(space) = self.state.spaces.get_mut(space) {
            space.watchers.retain(|&core| core != from.0);
        }
    }

    /// At the agent's core: the answer.
    pub(crate) fn state_answered<E: Encoder>(&mut self, answer: StateAnswer, enc: &mut E) {
        let (to, id) = (answer.to, answer.id);
        // Whose stream is gone waits for nothing.
        let Some(session) = self
            .sessions
            .get_mut(to)
            .filter(|session| session.stage == Stage::Active)
        else {
            return;
        };
        session.calls.asks = session.calls.asks.saturating_sub(1);
        if session.pauses.asks && session.calls.asks <= self.limits.state_pending_max / 2 {
            session.pauses.asks = false;
            self.let_go(to);
        }
        match &answer.answer {
            Answer::Done { .. } if id == 0 => {}
            Answer::Done { revision } => self.say(
                to,
                &Outgoing::Ack {
                    id,
                    revision: *revision,
                    receivers: 0,
                },
                enc,
            ),
            Answer::Value { space, key, entry } => self.say(
                to,
                &Outgoing::StateValue {
                    id,
                    space,
                    key,
                    value: entry.as_ref().and_then(|entry| entry.value.as_deref()),
                    revision: entry.as_ref().map_or(0, |entry| entry.revision),
                    source: entry.as_ref().map_or("", |entry| &entry.source),
                },
                enc,
            ),
            Answer::Refused(refusal) => self.refuse(to, id, refusal, enc),
        }
    }

    fn begin_ask(&mut self, id: SessionId) {
        let max = self.limits.state_pending_max;
        if let Some(session) = self.sessions.get_mut(id) {
            session.calls.asks += 1;
            session.pauses.asks |= session.calls.asks >= max;
        }
    }

    /// Deletes the keys whose time is over.
    fn expire_keys<E: Encoder>(&mut self, now: &Now, enc: &mut E) {
        let next = self.state.spaces.next_expiry_unix_ms();
        if next.is_none_or(|at| at > moment(now).millis()) || self.state.journal.rests(now.mono) {
            return;
        }
        while let Some(changed) = self.state.spaces.expire(&self.limits, moment(now)) {
            self.changed(changed, enc);
        }
    }

    pub(crate) fn state_tick<E: Encoder>(&mut self, now: &Now, enc: &mut E) {
        if self.state.due.is_some_and(|due| due <= now.mono) {
            self.expire_keys(now, enc);
            self.flush_changes(enc);
            self.write_snapshot();
            self.set_state_due(now);
        }
    }

    /// Finds out when there is something to do next.
    pub(crate) fn set_state_due(&mut self, now: &Now) {
        let expiry = self.state.spaces.next_expiry_unix_ms().map(|at_unix_ms| {
            let left_nanos = (at_unix_ms * 1_000_000).saturating_sub(now.unix_nanos);
            let at = now.mono + Duration::from_nanos(left_nanos);
            self.state.journal.rest_over().map_or(at, |over| at.max(over))
        });
        let snapshot = self.state.journal.snapshot_due(now.mono);
        self.state.due = [expiry, snapshot].into_iter().flatten().min();
    }
}

/// The time as spaces tell it.
pub(crate) fn moment(now: &Now) -> Moment {
    Moment(now.unix_nanos)
}

fn check_space(name: &str) -> Result<(), Refusal> {
    Topic::new(name)
        .map(drop)
        .map_err(|error| Refusal::invalid(format!("space {name:?}: {error}")))
}

/// How a fault is told to an agent.
pub(crate) fn refusal(fault: &Fault) -> Refusal {
    let code = match fault {
        Fault::Name(_) | Fault::Key(_) | Fault::Value { .. } => Code::InvalidArgument,
        Fault::Conflict { .. } => Code::Conflict,
        Fault::NotFound => Code::NotFound,
        _ => Code::ResourceExhausted,
    };
    Refusal::new(code, fault.to_string())
}

fn compacted(from: u64, revision: u64, past: &Past) -> Refusal {
    let text = match past {
        Past::Compacted { first } => {
            format!(
                "changes are kept from revision {first} on (limits.state_history_max); revision {from} is gone: watch anew"
            )
        }
        _ => format!(
            "the space has come to revision {revision}, not to {from}: it is not the one that was watched before; watch anew"
        ),
    };
    Refusal::new(Code::Compacted, text)
}
