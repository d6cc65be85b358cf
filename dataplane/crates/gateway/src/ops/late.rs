//! Late subscribers: they are told first what topics keep, then what comes.
//!
//! ```text
//!   Subscribe ──► interest, then KeptWanted ──► every other core ──► KeptTold, and behind it what is sent there from then on
//!       │                                                               │
//!       └─► what this core keeps                                        ▼ all have told
//!                     Ack ──► backlog: what is kept, in the node's order, then what came meanwhile ──► queue, as it is read ──► live
//! ```
//!
//! Invariants worth naming:
//! * What comes from a core that has not told yet is not taken: where its topic keeps it, it will be told; where not, the Subscribe is
//!   not acknowledged yet. So each core's messages join without a gap, and none comes twice.
//! * A subscription is told nothing of topics that an older one of its session gets: an agent gets one copy of a message.
//! * What comes meanwhile is bounded by the subscription's bound and policy, as what waits in a queue; what is kept lies in memory that
//!   all share. Both together are bounded for each core (`limits.replaying_bytes_max`), and what is left out is told by a `Gap`.
//! * A publisher is never held back for a late `BLOCK` subscription: what it has no room for is dropped and told.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use ringgate_policy::matches;
use ringgate_state::{Keep, Kept, Moment, merge};

use crate::action::DeliveryPolicy;
use crate::core_message::{Body, KeptWanted};
use crate::gateway::{Gateway, Numbered, RUN_DIALECT};
use crate::hash::Seed;
use crate::ids::{CoreId, Now, SessionId};
use crate::ops::state::moment;
use crate::outgoing::Encoder;
use crate::queue::{Cargo, FedBy, Gap, NO_GROUP, Pushed, Run};
use crate::table::Local;

/// Subscriptions that are not live yet, by number.
pub(crate) struct Latecomers {
    by_number: Numbered<Latecomer>,
    /// Their numbers, by their places in the table.
    numbers: Numbered<u64>,
    /// What all of them have still to be told.
    bytes: u64,
}

struct Latecomer {
    session: SessionId,
    lane: u32,
    /// The agent's id of the subscription.
    id: u64,
    /// Cores that have not told what they keep.
    missing: Vec<CoreId>,
    /// What the others told.
    kept: Vec<Arc<Kept>>,
    /// Behind what is kept: what came meanwhile.
    backlog: VecDeque<Cargo>,
    /// Pieces of the backlog that were kept; they are in front.
    kept_left: usize,
    /// Of the backlog.
    bytes: u64,
    /// Of what came meanwhile.
    live_bytes: u64,
}

impl Latecomers {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            by_number: Numbered::with_hasher(Seed::new(seed)),
            numbers: Numbered::with_hasher(Seed::new(seed)),
            bytes: 0,
        }
    }

    /// The number of the late subscription at a place.
    pub(crate) fn at(&self, session: u32, lane: u32) -> Option<u64> {
        self.numbers.get(&place(session, lane)).copied()
    }

    /// How many there are, and what they have still to be told.
    pub(crate) fn load(&self) -> (u64, u64) {
        (self.by_number.len() as u64, self.bytes)
    }

    fn of_session(&self, session: SessionId) -> Vec<u64> {
        let of_session = self.by_number.iter().filter(|(_, late)| late.session == session);
        of_session.map(|(number, _)| *number).collect()
    }

    fn insert(&mut self, number: u64, late: Latecomer) {
        self.numbers.insert(place(late.session.index, late.lane), number);
        self.by_number.insert(number, late);
    }

    fn remove(&mut self, number: u64) -> Option<Latecomer> {
        let late = self.by_number.remove(&number)?;
        self.numbers.remove(&place(late.session.index, late.lane));
        self.bytes -= late.bytes;
        Some(late)
    }
}

impl Latecomer {
    /// Takes the oldest piece out of the backlog; returns its bytes.
    fn pop_oldest(&mut self) -> Option<(Cargo, u64)> {
        let cargo = self.backlog.pop_front()?;
        let Cargo::Run { bytes, .. } = &cargo else {
            return Some((cargo, 0));
        };
        let len = bytes.len() as u64;
        self.bytes -= len;
        match self.kept_left {
            0 => self.live_bytes -= len,
            _ => self.kept_left -= 1,
        }
        Some((cargo, len))
    }
}

fn place(session: u32, lane: u32) -> u64 {
    u64::from(session) << 32 | u64::from(lane)
}

impl Gateway {
    /// Keeps a message; returns its position in the log, or 0.
    pub(crate) fn keep(&mut self, topic: &Arc<str>, keep: Keep, bytes: &[u8], unix_nanos: u64) -> u64 {
        let kept = self
            .archive
            .keep(topic, keep, bytes, Moment(unix_nanos), &self.limits);
        match keep.durable {
            true => self.state.journal.append_kept(&kept),
            false => 0,
        }
    }

    /// A subscription begins that is to be told what is kept. The other cores were told of its interest before.
    pub(crate) fn begin_late(&mut self, id: SessionId, lane: u32, now: &Now) -> u64 {
        let number = self.next_number();
        let Some(session) = self.sessions.get_mut(id) else {
            return number;
        };
        session.subscribing += 1;
        let at = &mut session.queue.lanes[lane as usize];
        at.fed = FedBy::Kept;
        let (pattern, subscription) = (Arc::clone(&at.pattern), at.id);
        let (entry, position) = (at.entry, at.position as usize);
        self.table.set_late(entry, position, true);
        let kept = self.archive.matching(&pattern, moment(now), &self.limits);
        let missing: Vec<CoreId> = self.others().collect();
        for &core in &missing {
            let pattern = Arc::clone(&pattern);
            self.send(core, Body::KeptWanted(Box::new(KeptWanted { number, pattern })));
        }
        let late = Latecomer {
            session: id,
            lane,
            id: subscription,
            missing,
            kept,
            backlog: VecDeque::new(),
            kept_left: 0,
            bytes: 0,
            live_bytes: 0,
        };
        self.latecomers.insert(number, late);
        number
    }

    /// Another core has a late subscriber.
    pub(crate) fn kept_wanted(&mut self, from: CoreId, wanted: &KeptWanted, now: &Now) {
        let messages = self.archive.matching(&wanted.pattern, moment(now), &self.limits);
        let number = wanted.number;
        self.send(from, Body::KeptTold { number, messages });
    }

    /// Another core tells what it keeps.
    pub(crate) fn kept_told<E: Encoder>(
        &mut self,
        from: CoreId,
        number: u64,
        messages: Vec<Arc<Kept>>,
        enc: &mut E,
    ) {
        // It may be gone meanwhile.
        if let Some(late) = self.latecomers.by_number.get_mut(&number) {
            late.missing.retain(|&core| core != from);
            late.kept.extend(messages);
            self.check_late(number, enc);
        }
    }

    /// If all cores have told what they keep: the subscriber is told.
    pub(crate) fn check_late<E: Encoder>(&mut self, number: u64, enc: &mut E) {
        let Some(late) = self
            .latecomers
            .by_number
            .get_mut(&number)
            .filter(|late| late.missing.is_empty())
        else {
            return;
        };
        let mut messages = std::mem::take(&mut late.kept);
        let (id, lane, subscription) = (late.session, late.lane, late.id);
        let Some((session, ledger)) = self.sessions.at(id.index) else {
            return;
        };
        let lanes = &session.queue.lanes;
        let (born, policy) = (lanes[lane as usize].born, lanes[lane as usize].policy);
        let older: Vec<&str> = lanes
            .iter()
            .map(|(_, other)| other)
            .filter(|other| matches!(other.fed, FedBy::Publishes | FedBy::Kept) && !other.closed)
            .filter(|other| other.group == NO_GROUP && other.born < born)
            .map(|other| &*other.pattern)
            .collect();
        messages.retain(|kept| !older.iter().any(|pattern| matches(pattern, &kept.topic)));
        let mut messages = merge(messages, policy == DeliveryPolicy::Latest, &self.limits);
        let mut bytes: u64 = messages.iter().map(|kept| kept.bytes.len() as u64).sum();
        let room = self
            .limits
            .replaying_bytes_max
            .saturating_sub(self.latecomers.bytes);
        let mut gap = Gap::default();
        let mut left_out = 0;
        while bytes > room {
            let kept = &messages[left_out];
            let len = kept.bytes.len() as u64;
            gap.add(1, len, &kept.topic);
            bytes -= len;
            left_out += 1;
        }
        messages.drain(..left_out);
        late.bytes += bytes;
        self.latecomers.bytes += bytes;
        late.kept_left = messages.len();
        for kept in messages.iter().rev() {
            late.backlog.push_front(Cargo::Run {
                topic: Arc::clone(&kept.topic),
                bytes: kept.bytes.clone(),
                messages: 1,
            });
        }
        if left_out > 0 {
            session.queue.count_dropped(lane, left_out as u64, ledger);
            late.backlog.push_front(Cargo::Gap(Box::new(gap)));
        }
        self.acknowledge(id, subscription, 0, enc);
        self.feed_late(number, enc);
    }

    /// A run for a late subscription; returns how many of its messages are kept for it.
    pub(crate) fn deliver_late(&mut self, local: Local, from: CoreId, run: Run<'_>) -> u32 {
        let Some(number) = self.latecomers.at(local.session, local.lane) else {
            return 0;
        };
        let Some(late) = self.latecomers.by_number.get_mut(&number) else {
            return 0;
        };
        if late.missing.contains(&from) {
            return 0;
        }
        let Some((session, ledger)) = self.sessions.at(local.session) else {
            return 0;
        };
        let bound = u64::from(session.queue.lanes[local.lane as usize].bound);
        let max = self.limits.replaying_bytes_max;
        let (len, total) = (run.bytes.len() as u64, &mut self.latecomers.bytes);
        let fits = |live_bytes: u64, total: u64| {
            (live_bytes == 0 || live_bytes + len <= bound) && total + len <= max
        };
        if !fits(late.live_bytes, *total) {
            match local.policy {
                DeliveryPolicy::Disconnect => {
                    let id = late.session;
                    self.doom(id, local, run.messages);
                    return 0;
                }
                DeliveryPolicy::DropOldest | DeliveryPolicy::Latest => {
                    let mut gap = Gap::default();
                    let mut dropped = 0;
                    while !fits(late.live_bytes, *total)
                        && let Some((cargo, freed)) = late.pop_oldest()
                    {
                        *total -= freed;
                        match cargo {
                            Cargo::Gap(earlier) => gap.merge(&earlier),
                            Cargo::Run { topic, messages, .. } => {
                                gap.add(u64::from(messages), freed, &topic);
                                dropped += u64::from(messages);
                            }
                        }
                    }
                    session.queue.count_dropped(local.lane, dropped, ledger);
                    if !gap.is_empty() {
                        late.backlog.push_front(Cargo::Gap(Box::new(gap)));
                    }
                }
                DeliveryPolicy::DropNewest | DeliveryPolicy::Block => {}
            }
        }
        if !fits(late.live_bytes, *total) {
            session
                .queue
                .count_dropped(local.lane, u64::from(run.messages), ledger);
            if !matches!(late.backlog.back(), Some(Cargo::Gap(_))) {
                late.backlog.push_back(Cargo::Gap(Box::default()));
            }
            if let Some(Cargo::Gap(gap)) = late.backlog.back_mut() {
                gap.add(u64::from(run.messages), len, run.topic);
            }
            return 0;
        }
        *total += len;
        late.bytes += len;
        late.live_bytes += len;
        late.backlog.push_back(Cargo::Run {
            topic: Arc::clone(run.topic),
            // It may wait for long: not in memory that it shares with others.
            bytes: Bytes::copy_from_slice(run.bytes),
            messages: run.messages,
        });
        run.messages
    }

    /// Queues as much of the backlog as there is room for; behind all of it the subscription is live.
    pub(crate) fn feed_late<E: Encoder>(&mut self, number: u64, enc: &mut E) {
        debug_assert_eq!(enc.pending(), 0, "the run being built was not flushed");
        loop {
            let Some(late) = self.latecomers.by_number.get_mut(&number) else {
                return;
            };
            if !late.missing.is_empty() {
                return;
            }
            let (id, lane) = (late.session, late.lane);
            let Some((session, ledger)) = self.sessions.at(id.index) else {
                return;
            };
            let (taken, len) = match late.backlog.front() {
                None => break,
                Some(Cargo::Gap(_)) => (0, 0),
                Some(Cargo::Run {
                    topic,
                    bytes,
                    messages,
                }) => {
                    let run = Run {
                        dialect: RUN_DIALECT,
                        topic,
                        bytes,
                        messages: *messages,
                    };
                    let (taken, len) = match session.queue.lanes[lane as usize].policy {
                        // Newer ones take its place.
                        DeliveryPolicy::Latest => {
                            session.queue.push_run::<E>(lane, run, ledger);
                            (run.messages, bytes.len())
                        }
                        _ => session.queue.push_some::<E>(lane, run, ledger),
                    };
                    self.sessions.mark(id);
                    if taken == 0 {
                        return;
                    }
                    (taken, len)
                }
            };
            let is_kept = late.kept_left > 0;
            self.sessions.ledger.stats.replayed += if is_kept { u64::from(taken) } else { 0 };
            match late.backlog.front_mut() {
                Some(Cargo::Run { bytes, messages, .. }) if *messages > taken => {
                    // Only what came meanwhile comes in pieces of several.
                    bytes.advance(len);
                    *messages -= taken;
                    late.bytes -= len as u64;
                    late.live_bytes -= len as u64;
                    self.latecomers.bytes -= len as u64;
                }
                _ => match late.pop_oldest() {
                    Some((Cargo::Gap(gap), _)) => {
                        if let Some((session, _)) = self.sessions.at(id.index) {
                            session.queue.push_gap(lane, gap);
                            self.sessions.mark(id);
                        }
                    }
                    Some((Cargo::Run { .. }, freed)) => self.latecomers.bytes -= freed,
                    None => break,
                },
            }
        }
        self.end_late(number);
    }

    /// A subscription is live from now on.
    fn end_late(&mut self, number: u64) {
        let Some(late) = self.latecomers.remove(number) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(late.session) else {
            return;
        };
        session.subscribing = session.subscribing.saturating_sub(1);
        let lane = &mut session.queue.lanes[late.lane as usize];
        lane.fed = FedBy::Publishes;
        let (entry, position) = (lane.entry, lane.position as usize);
        self.table.set_late(entry, position, false);
    }

    /// A subscription leaves the table: it is told no more.
    pub(crate) fn forget_late(&mut self, id: SessionId, lane: u32) {
        if let Some(number) = self.latecomers.at(id.index, lane)
            && self.latecomers.remove(number).is_some()
            && let Some(session) = self.sessions.get_mut(id)
        {
            session.subscribing = session.subscribing.saturating_sub(1);
            session.queue.lanes[lane as usize].fed = FedBy::Publishes;
        }
    }

    /// Another session of this core has taken over what a session had.
    pub(crate) fn late_moved_here<E: Encoder>(&mut self, old: SessionId, new: SessionId, enc: &mut E) {
        for number in self.latecomers.of_session(old) {
            let Some(late) = self.latecomers.by_number.get_mut(&number) else {
                continue;
            };
            late.session = new;
            let lane = late.lane;
            self.latecomers.numbers.remove(&place(old.index, lane));
            self.latecomers.numbers.insert(place(new.index, lane), number);
            if let Some(session) = self.sessions.get_mut(new) {
                session.subscribing += 1;
            }
            // What was to be read before more of it came may have been lost with the stream.
            self.feed_late(number, enc);
        }
    }

    /// A session goes to another core: what it has still to be told is queued as its policies say. A subscription that was not
    /// acknowledged ends.
    pub(crate) fn late_departs<E: Encoder>(&mut self, id: SessionId, enc: &mut E) {
        for number in self.latecomers.of_session(id) {
            let Some(late) = self.latecomers.by_number.get_mut(&number) else {
                continue;
            };
            let (lane, subscription) = (late.lane, late.id);
            if !late.missing.is_empty() {
                if let Some(session) = self.sessions.get_mut(id) {
                    session.subscriptions.remove(&subscription);
                }
                self.drop_lane(id, lane, enc);
                continue;
            }
            let backlog = std::mem::take(&mut late.backlog);
            let Some((session, ledger)) = self.sessions.at(id.index) else {
                continue;
            };
            for cargo in backlog {
                let Cargo::Run {
                    topic,
                    bytes,
                    messages,
                } = &cargo
                else {
                    if let Cargo::Gap(gap) = cargo {
                        session.queue.push_gap(lane, gap);
                    }
                    continue;
                };
                let run = Run {
                    dialect: RUN_DIALECT,
                    topic,
                    bytes,
                    messages: *messages,
                };
                match session.queue.push_run::<E>(lane, run, ledger) {
                    Pushed::Queued(_) => {}
                    // Nobody can be held back, and the stream is gone.
                    Pushed::Full | Pushed::Disconnect => session.queue.drop_arriving(lane, run, ledger),
                }
            }
            self.end_late(number);
        }
    }

    /// Whether a subscription is late.
    pub(crate) fn is_late(&self, id: SessionId, lane: u32) -> bool {
        self.latecomers.at(id.index, lane).is_some()
    }

    /// Whether a new subscription is to be told what topics keep.
    pub(crate) fn wants_kept(&self, pattern: &str, group: Option<u32>) -> bool {
        group.is_none() && self.archive.rules().meet(pattern)
    }
}
