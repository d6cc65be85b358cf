//! A session goes on: on this core its subscriptions and queue change hands at once; on another core without loss, repetition or
//! disorder, though messages for it are under way from every core:
//!
//! ```text
//! old core ── Handover ──► new core        its subscriptions; the old core goes on collecting for it
//!             new core ── Interest…, Moved ──► every core      from here on they route to the new core
//!             every core ── Switched ──► both                  behind the last they routed to the old one
//! old core ── Tail ──► new core            once all have switched: what waited, in front of what came to the new core since
//! ```
//!
//! The old core withdraws its interest last, and ignores for this session what comes from a core that has switched; the new core
//! what comes from one that has not. A queue group's
//! message that is sent to a session which is just leaving still reaches it, but not in order.

use std::sync::Arc;

use crate::code::Code;
use crate::core_message::Body;
use crate::effect::Effect;
use crate::gateway::{Gateway, RUN_DIALECT};
use crate::handover::{DepartingLane, Departure, Handover, Moved, Tail};
use crate::ids::{Address, CoreId, Now, SessionId};
use crate::ops::publish::Parcel;
use crate::ops::subscribe::places;
use crate::outgoing::Encoder;
use crate::queue::{Cargo, LaneSpec, Pushed, Run, Shipment};
use crate::session::Stage;

impl Gateway {
    /// The name's home wants a session given up: to be resumed at `to`, or for good.
    pub(crate) fn give_up<E: Encoder>(&mut self, id: SessionId, to: Option<Address>, now: &Now, enc: &mut E) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let stage = session.stage;
        if !matches!(stage, Stage::Active | Stage::Detached) {
            return;
        }
        let Some(to) = to else {
            self.retire(id, enc);
            return self.sessions.remove(id);
        };
        if stage == Stage::Active {
            self.leave_stream(id);
            self.push_effect(Effect::End {
                session: id,
                code: Code::Unavailable,
                message: "the session was resumed on another stream".to_owned(),
                expelled: false,
            });
        }
        let lanes: Vec<u32> = self.lanes_of(id);
        for lane in lanes {
            self.drop_waiting(id, lane, enc);
        }
        self.sessions.ledger.stats.resumed += 1;
        match to.core == self.core {
            true => self.move_here(id, to.session, stage == Stage::Active, now, enc),
            false => {
                self.late_departs(id, enc);
                self.depart(id, to, stage == Stage::Active);
            }
        }
    }

    /// Another session of this core takes everything over.
    fn move_here<E: Encoder>(
        &mut self,
        old: SessionId,
        new: SessionId,
        has_stream: bool,
        now: &Now,
        enc: &mut E,
    ) {
        let Some((from, to)) = self.sessions.pair(old, new) else {
            return;
        };
        to.queue = std::mem::take(&mut from.queue);
        std::mem::swap(&mut to.subscriptions, &mut from.subscriptions);
        (to.sequence, to.born, to.token, to.resumed) = (from.sequence, from.born, from.token, true);
        from.stage = Stage::Ending;
        if !has_stream {
            self.sessions.remove(old);
        }
        for lane in self.lanes_of(new) {
            let Some(session) = self.sessions.get(new) else {
                return;
            };
            let lane = &session.queue.lanes[lane as usize];
            let ((entry, group), position) = (places(lane), lane.position as usize);
            self.table.relocate(entry, group, position, new.index);
        }
        self.late_moved_here(old, new, enc);
        self.go_public(new, now, enc);
    }

    fn depart(&mut self, id: SessionId, to: Address, has_stream: bool) {
        let from = self.address(id);
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        session.stage = Stage::Departing;
        session.stream_gone = !has_stream;
        let (mut specs, mut lanes) = (Vec::new(), Vec::new());
        for (key, lane) in session.queue.lanes.iter().filter(|(_, lane)| !lane.closed) {
            let group: Arc<str> = match places(lane).1 {
                Some(group) => Arc::clone(&self.table.group(group).name),
                None => "".into(),
            };
            lanes.push(DepartingLane {
                lane: key as u32,
                pattern: Arc::clone(&lane.pattern),
                group: Arc::clone(&group),
            });
            let spec = LaneSpec {
                id: lane.id,
                pattern: Arc::clone(&lane.pattern),
                born: lane.born,
                bound: lane.bound,
                block_ms: lane.block_ms,
                policy: lane.policy,
                exact: lane.exact,
            };
            specs.push((spec, group));
        }
        lanes.sort_unstable_by_key(|lane| session.queue.lanes[lane.lane as usize].born);
        let handover = Handover {
            session: to.session,
            from,
            token: session.token,
            sequence: session.sequence,
            born: session.born,
            lanes: specs,
        };
        session.departure = Some(Box::new(Departure {
            to,
            moved: false,
            switched: Vec::new(),
            lanes,
        }));
        self.departing.push(id);
        self.send(to.core, Body::Handover(Box::new(handover)));
    }

    /// At the new core: the session's subscriptions.
    pub(crate) fn handed_over(&mut self, handover: Handover) {
        let id = handover.session;
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        session.token = handover.token;
        session.sequence = handover.sequence;
        session.born = handover.born;
        session.resumed = true;
        session.arrival = Some(Vec::new());
        let mut lanes = Vec::with_capacity(handover.lanes.len());
        for (spec, group) in handover.lanes {
            lanes.extend(self.add_lane(id, spec, &group));
        }
        let from = handover.from;
        let to = self.address(id);
        // One message, so that each core's routing changes at one moment.
        for core in self.others() {
            let Some(session) = self.sessions.get(id) else {
                return;
            };
            let at = lanes
                .iter()
                .map(|&lane| places(&session.queue.lanes[lane as usize]));
            let interest = at
                .map(|(entry, group)| self.interest(entry, group, None))
                .collect();
            self.send(core, Body::Moved(Box::new(Moved { from, to, interest })));
        }
    }

    /// At every core: the new place is known here from now on.
    pub(crate) fn moved<E: Encoder>(&mut self, by: CoreId, moved: Moved, now: &Now, enc: &mut E) {
        let Moved { from, to, interest } = moved;
        for interest in interest {
            self.take_message(by, interest, now, enc);
        }
        self.send(to.core, Body::Switched { session: to.session });
        if from.core != self.core {
            return self.send(
                from.core,
                Body::Switched {
                    session: from.session,
                },
            );
        }
        for lane in self.lanes_of(from.session) {
            self.drop_waiting(from.session, lane, enc);
            self.unlist_lane(from.session, lane);
            let Some(session) = self.sessions.get(from.session) else {
                return;
            };
            let (entry, group) = places(&session.queue.lanes[lane as usize]);
            self.table.tidy(entry, group);
        }
        if let Some(session) = self.sessions.get_mut(from.session)
            && let Some(departure) = &mut session.departure
        {
            departure.moved = true;
        }
        self.switched(from.session, by);
    }

    /// At the old and the new core: another routes to the new place.
    pub(crate) fn switched(&mut self, id: SessionId, by: CoreId) {
        let others = usize::from(self.cores) - 1;
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        // One that moves on before all route to it here gets two from each core, in order.
        if let Some(arrival) = &mut session.arrival
            && !arrival.contains(&by)
        {
            arrival.push(by);
            if arrival.len() == others {
                session.arrival = None;
            }
            return;
        }
        let Some(departure) = &mut session.departure else {
            return;
        };
        departure.switched.push(by);
        if !departure.moved || departure.switched.len() < others {
            return;
        }
        let Some(departure) = session.departure.take() else {
            return;
        };
        session.subscriptions.clear();
        let (session, ledger) = match self.sessions.at(id.index) {
            Some(both) => both,
            None => return,
        };
        let shipments = session.queue.export(ledger);
        session.queue.clear(ledger);
        let gone = session.stream_gone;
        session.stage = Stage::Ending;
        self.departing.retain(|&departing| departing != id);
        if gone {
            self.sessions.remove(id);
        }
        for lane in &departure.lanes {
            let entry = self.table.ensure(&lane.pattern);
            let group = (!lane.group.is_empty()).then(|| self.table.ensure_group(entry, &lane.group));
            self.announce(entry, group, None);
            self.table.tidy(entry, group);
        }
        let tail = Tail {
            session: departure.to.session,
            shipments,
        };
        self.send(departure.to.core, Body::Tail(Box::new(tail)));
    }

    /// At the new core: what waited at the old one goes in front of what came since.
    pub(crate) fn tail_arrived<E: Encoder>(&mut self, tail: Tail, now: &Now, enc: &mut E) {
        let id = tail.session;
        let Some((session, ledger)) = self.sessions.at(id.index).filter(|(session, _)| session.id == id)
        else {
            return;
        };
        let late = session.queue.export(ledger);
        for shipment in tail.shipments.into_iter().chain(late) {
            self.import::<E>(id, shipment);
        }
        self.go_public(id, now, enc);
    }

    fn import<E: Encoder>(&mut self, id: SessionId, shipment: Shipment) {
        let Some((session, ledger)) = self.sessions.at(id.index) else {
            return;
        };
        let Some(&lane) = session.subscriptions.get(&shipment.subscription) else {
            return;
        };
        match shipment.cargo {
            Cargo::Gap(gap) => session.queue.push_gap(lane, gap),
            Cargo::Run {
                topic,
                bytes,
                messages,
            } => {
                let run = Run {
                    dialect: RUN_DIALECT,
                    topic: &topic,
                    bytes: &bytes,
                    messages,
                };
                match session.queue.push_run::<E>(lane, run, ledger) {
                    Pushed::Queued(_) => {}
                    // Nobody can be held back any more.
                    Pushed::Full => session.queue.drop_arriving(lane, run, ledger),
                    Pushed::Disconnect => self.doomed.push((id, shipment.subscription)),
                }
            }
        }
    }

    /// How many subscribers of a pattern or group are on their way but still counted here.
    pub(crate) fn count_departing(&self, pattern: &str, group: &str) -> u32 {
        let mut count = 0;
        for departure in self
            .departing
            .iter()
            .filter_map(|&id| self.sessions.get(id)?.departure.as_ref())
        {
            if departure.moved {
                count += departure
                    .lanes
                    .iter()
                    .filter(|l| *l.pattern == *pattern && *l.group == *group)
                    .count() as u32;
            }
        }
        count
    }

    /// A run from a core that does not route to the new places of sessions that left.
    pub(crate) fn deliver_to_departing<E: Encoder>(&mut self, from: CoreId, run: Run<'_>) {
        for index in 0..self.departing.len() {
            let id = self.departing[index];
            let Some(departure) = self
                .sessions
                .get(id)
                .and_then(|session| session.departure.as_ref())
            else {
                continue;
            };
            if !departure.moved || self.sessions.get(id).is_some_and(|session| session.ignores(from)) {
                continue;
            }
            let matching = departure
                .lanes
                .iter()
                .find(|lane| lane.group.is_empty() && ringgate_policy::matches(&lane.pattern, run.topic));
            if let Some(lane) = matching.map(|lane| lane.lane) {
                self.push_departing::<E>(id, lane, run);
            }
        }
    }

    /// A group's message for a member that left.
    pub(crate) fn deliver_to_departing_member<E: Encoder>(
        &mut self,
        pattern: &str,
        group: &str,
        parcel: &Parcel,
    ) {
        for index in 0..self.departing.len() {
            let id = self.departing[index];
            let Some(departure) = self
                .sessions
                .get(id)
                .and_then(|session| session.departure.as_ref())
            else {
                continue;
            };
            let member = departure
                .lanes
                .iter()
                .find(|l| *l.pattern == *pattern && *l.group == *group);
            if let Some(lane) = member.filter(|_| departure.moved).map(|lane| lane.lane) {
                let run = Run {
                    dialect: RUN_DIALECT,
                    topic: &parcel.topic,
                    bytes: &parcel.bytes,
                    messages: 1,
                };
                return self.push_departing::<E>(id, lane, run);
            }
        }
    }

    fn push_departing<E: Encoder>(&mut self, id: SessionId, lane: u32, run: Run<'_>) {
        let Some((session, ledger)) = self.sessions.at(id.index) else {
            return;
        };
        match session.queue.push_run::<E>(lane, run, ledger) {
            Pushed::Queued(_) => {}
            Pushed::Full | Pushed::Disconnect => session.queue.drop_arriving(lane, run, ledger),
        }
    }

    /// The places of a session's subscriptions.
    pub(crate) fn lanes_of(&self, id: SessionId) -> Vec<u32> {
        let Some(session) = self.sessions.get(id) else {
            return Vec::new();
        };
        session
            .queue
            .lanes
            .iter()
            .filter(|(_, lane)| !lane.closed)
            .map(|(key, _)| key as u32)
            .collect()
    }
}
