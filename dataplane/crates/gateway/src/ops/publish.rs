//! Publish: one to all subscribers of a topic.
//!
//! The hot path is a publisher that repeats its topic: one comparison with the last topic, one check that nothing changed, one
//! append to the run being built. The run goes to the subscribers when another set's message comes, before anything else
//! happens, when the next message would make it too long, or at the end of the turn.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use ringgate_policy::{Permission, Topic};
use ringgate_state::Keep;

use crate::action::{DeliveryPolicy, Publish};
use crate::core_message::Body;
use crate::gateway::{Gateway, RUN_DIALECT};
use crate::ids::{CoreId, Now, SessionId};
use crate::ops::hold::{Held, HoldOrigin};
use crate::outgoing::{Encoder, Outgoing};
use crate::queue::{Pushed, Run};
use crate::refusal::Refusal;
use crate::table::{Local, MatchSet};

/// More than what a dialect puts around a publisher's message and name.
const AROUND_BYTES: usize = 64;

/// The run being built in the encoder.
#[derive(Debug, Default)]
pub(crate) struct RunBuilt {
    set: Option<Rc<MatchSet>>,
    messages: u32,
    /// When its first message came, in nanoseconds since 1970.
    unix_nanos: u64,
}

/// A run from another core.
pub(crate) struct SentRun {
    pub(crate) topic: Arc<str>,
    pub(crate) bytes: Bytes,
    pub(crate) messages: u32,
    /// By which the sender holds its publisher until this core has queued or dropped it.
    pub(crate) hold: Option<u64>,
}

/// One message on its way to those who take messages one by one.
pub(crate) struct Parcel {
    pub(crate) topic: Arc<str>,
    pub(crate) bytes: Bytes,
    /// How many it was queued for.
    pub(crate) receivers: u32,
    /// It is held for these, if any.
    pub(crate) held: Held,
}

impl Gateway {
    pub(crate) fn publish<E: Encoder>(
        &mut self,
        id: SessionId,
        publish: Publish<'_>,
        now: &Now,
        enc: &mut E,
    ) {
        let generation = self.generation;
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let known = session.last.as_ref().is_some_and(|set| {
            session.allowed == generation && *set.topic == *publish.topic && self.table.is_current(set)
        });
        if !known && let Err(refusal) = self.look_up(id, publish.topic, generation) {
            self.flush_run(enc);
            return self.refuse(id, publish.id, &refusal, enc);
        }
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        session.sequence += 1;
        let sequence = session.sequence;
        let Some(set) = &session.last else { return };
        set.count_published();
        let message = Outgoing::Notify {
            body: publish.body,
            source: session.card.as_ref().map_or("", |card| card.name.as_str()),
            sequence,
            time_unix_nanos: now.unix_nanos,
        };
        if publish.id == 0 && set.runnable {
            if set.is_empty() {
                self.sessions.ledger.stats.published += 1;
                return;
            }
            let source_bytes = session.card.as_ref().map_or(0, |card| card.name.as_str().len());
            let run_bytes = enc.pending() + publish.body.len() + source_bytes + AROUND_BYTES;
            let building = self.run.set.as_ref();
            let goes_on = building.is_some_and(|building| Rc::ptr_eq(building, set))
                && run_bytes as u64 <= self.limits.run_bytes_max;
            if !goes_on {
                let set = Rc::clone(set);
                self.start_run(set, id, publish.body, sequence, now, enc);
            } else {
                enc.append(RUN_DIALECT, &message);
                self.run.messages += 1;
            }
            self.sessions.ledger.stats.published += 1;
            return;
        }
        let set = Rc::clone(set);
        self.publish_alone(id, publish, sequence, &set, now, enc);
    }

    fn start_run<E: Encoder>(
        &mut self,
        set: Rc<MatchSet>,
        id: SessionId,
        body: &[u8],
        sequence: u64,
        now: &Now,
        enc: &mut E,
    ) {
        self.flush_run(enc);
        let source = self.sessions.get(id).map_or("", |session| session.name());
        enc.append(
            RUN_DIALECT,
            &Outgoing::Notify {
                body,
                source,
                sequence,
                time_unix_nanos: now.unix_nanos,
            },
        );
        self.run = RunBuilt {
            set: Some(set),
            messages: 1,
            unix_nanos: now.unix_nanos,
        };
    }

    /// Finds who gets the topic, and whether the agent may publish to it.
    fn look_up(&mut self, id: SessionId, topic: &str, generation: u64) -> Result<(), Refusal> {
        // What was matched before is a topic.
        let known = self.table.known(topic);
        if known.is_none() {
            Topic::new(topic).map_err(|error| Refusal::invalid(format!("topic {topic:?}: {error}")))?;
        }
        self.permit(id, Permission::Publish(topic))?;
        let (set, matched) = known.map_or_else(|| self.table.set_for(topic), |set| (set, false));
        self.sessions.ledger.stats.matches += u64::from(matched);
        if let Some(session) = self.sessions.get_mut(id) {
            session.last = Some(set);
            session.allowed = generation;
        }
        Ok(())
    }

    /// Hands the run being built to its subscribers.
    pub(crate) fn flush_run<E: Encoder>(&mut self, enc: &mut E) {
        let Some(set) = self.run.set.take() else { return };
        let messages = std::mem::take(&mut self.run.messages);
        let bytes = enc.take();
        let run = Run {
            dialect: RUN_DIALECT,
            topic: &set.topic,
            bytes: &bytes,
            messages,
        };
        if let Some(keep) = set.keep {
            self.keep_run::<E>(keep, run);
        }
        if self.following.is_on() {
            for local in &set.locals {
                self.deliver_followed::<E>(*local, run);
            }
        } else {
            for local in &set.locals {
                self.deliver::<E>(*local, run);
            }
        }
        for remote in &set.remotes {
            let body = Body::Run {
                topic: Arc::clone(&set.topic),
                bytes: bytes.clone(),
                messages,
                hold: None,
            };
            self.send(remote.core, body);
        }
    }

    /// Keeps each message of a run for later subscribers.
    fn keep_run<E: Encoder>(&mut self, keep: Keep, run: Run<'_>) {
        let mut at = 0;
        for left in (1..=run.messages).rev() {
            let len = match left {
                1 => run.bytes.len() - at,
                _ => E::first_len(run.dialect, &run.bytes[at..]),
            };
            self.keep(run.topic, keep, &run.bytes[at..at + len], self.run.unix_nanos);
            at += len;
        }
    }

    /// Queues a run for one subscription.
    pub(crate) fn deliver<E: Encoder>(&mut self, local: Local, run: Run<'_>) -> Pushed {
        let Some((id, pushed)) = self.sessions.deliver::<E>(local, run) else {
            return Pushed::Queued(0);
        };
        if pushed == Pushed::Disconnect {
            self.doom(id, local, run.messages);
        }
        pushed
    }

    /// A `DISCONNECT` subscription has no room.
    #[cold]
    pub(crate) fn doom(&mut self, id: SessionId, local: Local, messages: u32) {
        let Some((session, ledger)) = self.sessions.at(local.session) else {
            return;
        };
        let subscription = session.queue.lanes[local.lane as usize].id;
        ledger
            .stats
            .count_dropped(DeliveryPolicy::Disconnect, u64::from(messages));
        self.doomed.push((id, subscription));
    }

    /// Publishes a message that must be looked at for each receiver.
    fn publish_alone<E: Encoder>(
        &mut self,
        id: SessionId,
        publish: Publish<'_>,
        sequence: u64,
        set: &MatchSet,
        now: &Now,
        enc: &mut E,
    ) {
        self.flush_run(enc);
        if set.keep.is_some_and(|keep| keep.durable)
            && let Err(refusal) = self.check_unsynced()
        {
            if let Some(session) = self.sessions.get_mut(id) {
                session.sequence -= 1;
            }
            return self.refuse(id, publish.id, &refusal, enc);
        }
        self.sessions.ledger.stats.published += 1;
        let source = self.sessions.get(id).map_or("", |session| session.name());
        enc.append(
            RUN_DIALECT,
            &Outgoing::Notify {
                body: publish.body,
                source,
                sequence,
                time_unix_nanos: now.unix_nanos,
            },
        );
        let mut parcel = Parcel {
            topic: Arc::clone(&set.topic),
            bytes: enc.take(),
            receivers: 0,
            held: Held::new(HoldOrigin::Session(id), publish.id),
        };
        if let Some(keep) = set.keep {
            parcel.held.position = self.keep(&set.topic, keep, &parcel.bytes, now.unix_nanos);
        }
        for local in &set.locals {
            self.deliver_parcel::<E>(*local, &mut parcel, now);
        }
        for local in &set.late {
            let run = Run {
                dialect: RUN_DIALECT,
                topic: &parcel.topic,
                bytes: &parcel.bytes,
                messages: 1,
            };
            parcel.receivers += self.deliver_late(*local, self.core, run);
        }
        for group in &set.groups {
            self.deliver_to_group::<E>(*group, &mut parcel, now);
        }
        for remote in &set.remotes {
            let hold = remote.blocking.then(|| self.hold_number(&mut parcel.held));
            parcel.held.waits += u32::from(remote.blocking);
            parcel.receivers += remote.subscribers;
            let body = Body::Run {
                topic: Arc::clone(&parcel.topic),
                bytes: parcel.bytes.clone(),
                messages: 1,
                hold,
            };
            self.send(remote.core, body);
        }
        self.settle_parcel(parcel, enc);
    }

    /// Queues one message for one subscription, or holds it.
    pub(crate) fn deliver_parcel<E: Encoder>(&mut self, local: Local, parcel: &mut Parcel, now: &Now) {
        let run = Run {
            dialect: RUN_DIALECT,
            topic: &parcel.topic,
            bytes: &parcel.bytes,
            messages: 1,
        };
        let pushed = match self.following.is_on() {
            false => self.deliver::<E>(local, run),
            true => self.deliver_followed::<E>(local, run),
        };
        match pushed {
            Pushed::Queued(messages) => parcel.receivers += messages,
            Pushed::Disconnect => {}
            Pushed::Full if parcel.held.is_wanted() => self.hold_for(local, &mut parcel.held, now),
            Pushed::Full => self.drop_parcel(local, parcel),
        }
    }

    /// A run from another core.
    pub(crate) fn receive_run<E: Encoder>(&mut self, from: CoreId, sent: SentRun, now: &Now, enc: &mut E) {
        let (set, matched) = self.table.set_for(&sent.topic);
        self.sessions.ledger.stats.matches += u64::from(matched);
        let run = Run {
            dialect: RUN_DIALECT,
            topic: &set.topic,
            bytes: &sent.bytes,
            messages: sent.messages,
        };
        let mut blocking = false;
        for local in &set.locals {
            if local.policy == DeliveryPolicy::Block {
                blocking = true;
            } else if self.ignores(*local, from) {
            } else if self.following.is_on() {
                self.deliver_followed::<E>(*local, run);
            } else {
                self.deliver::<E>(*local, run);
            }
        }
        for local in &set.late {
            if !self.ignores(*local, from) {
                self.deliver_late(*local, from, run);
            }
        }
        if !self.departing.is_empty() {
            self.deliver_to_departing::<E>(from, run);
        }
        if self.network {
            self.pass_to_network(&set, run);
        }
        if blocking {
            self.receive_blocking(from, &set, sent, now, enc);
        } else if let Some(hold) = sent.hold {
            self.send(from, Body::Released { hold });
        }
    }

    /// Those of a run's messages for `BLOCK` subscriptions, one by one.
    pub(crate) fn receive_blocking<E: Encoder>(
        &mut self,
        from: CoreId,
        set: &MatchSet,
        mut sent: SentRun,
        now: &Now,
        enc: &mut E,
    ) {
        for left in (1..=sent.messages).rev() {
            let len = match left {
                1 => sent.bytes.len(),
                _ => E::first_len(RUN_DIALECT, &sent.bytes),
            };
            // The last one's hold is the sender's. Earlier ones were sent before the sender knew of a BLOCK subscription: their
            // publisher goes on, and would overtake them.
            let origin = match (left, sent.hold) {
                (1, Some(hold)) => HoldOrigin::Core(from, hold),
                _ => HoldOrigin::Nobody,
            };
            let mut parcel = Parcel {
                topic: Arc::clone(&set.topic),
                bytes: sent.bytes.split_to(len),
                receivers: 0,
                held: Held::new(origin, 0),
            };
            for local in set
                .locals
                .iter()
                .filter(|local| local.policy == DeliveryPolicy::Block)
            {
                if from == self.core || !self.ignores(*local, from) {
                    self.deliver_parcel::<E>(*local, &mut parcel, now);
                }
            }
            self.settle_parcel(parcel, enc);
        }
    }

    /// Whether a subscription gets what `from` sends at another place.
    fn ignores(&mut self, local: Local, from: CoreId) -> bool {
        self.sessions
            .at(local.session)
            .is_some_and(|(session, _)| session.ignores(from))
    }
}
