//! Subscribe and Unsubscribe, and what the other cores are told of it.

use std::sync::Arc;

use ringgate_policy::{Pattern, Permission};

use crate::action::Subscribe;
use crate::code::Code;
use crate::core_message::{Body, GroupInterest};
use crate::gateway::Gateway;
use crate::ids::{CoreId, Now, SessionId};
use crate::ops::barrier::Then;
use crate::outgoing::Encoder;
use crate::queue::{Lane, LaneSpec, NO_GROUP};
use crate::refusal::Refusal;
use crate::table::{Announced, GroupRemote, Local, Remote};

impl Gateway {
    pub(crate) fn subscribe<E: Encoder>(
        &mut self,
        id: SessionId,
        subscribe: &Subscribe<'_>,
        now: &Now,
        enc: &mut E,
    ) {
        if let Err(refusal) = self.check_subscribe(id, subscribe) {
            return self.refuse(id, subscribe.id, &refusal, enc);
        }
        let spec = self.lane_spec(id, subscribe);
        let Some(lane) = self.add_lane(id, spec, subscribe.group) else {
            return;
        };
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let (entry, group) = places(&session.queue.lanes[lane as usize]);
        let announced = match group {
            Some(group) => self.table.group(group).announced,
            None => self.table.entry(entry).announced,
        };
        let late = self.wants_kept(subscribe.pattern, group);
        if announced == Announced::Everywhere {
            self.announce(entry, group, None);
            if late {
                let number = self.begin_late(id, lane, now);
                return self.check_late(number, enc);
            }
            return self.acknowledge(id, subscribe.id, 0, enc);
        }
        let barrier = self.barriers.begin();
        match group {
            Some(group) => self.table.group_mut(group).announced = Announced::Pending(barrier),
            None => self.table.entry_mut(entry).announced = Announced::Pending(barrier),
        }
        self.announce(entry, group, Some(barrier));
        let late = late.then(|| self.begin_late(id, lane, now));
        if let Some(session) = self.sessions.get_mut(id) {
            session.subscribing += 1;
        }
        self.await_barrier(
            barrier,
            Then::Subscribed {
                session: id,
                id: subscribe.id,
                lane,
            },
            now,
            enc,
        );
        if let Some(number) = late {
            self.check_late(number, enc);
        }
    }

    fn check_subscribe(&mut self, id: SessionId, subscribe: &Subscribe<'_>) -> Result<(), Refusal> {
        let limits = &self.limits;
        Pattern::new(subscribe.pattern)
            .map_err(|error| Refusal::invalid(format!("pattern {:?}: {error}", subscribe.pattern)))?;
        let group = subscribe.group;
        if group.len() as u64 > limits.group_bytes_max {
            let max = limits.group_bytes_max;
            return Err(Refusal::invalid(format!(
                "group: it has {} bytes; at most {max} are allowed (limits.group_bytes_max)",
                group.len()
            )));
        }
        if group.chars().any(char::is_control) {
            return Err(Refusal::invalid("group: control characters are not allowed"));
        }
        let Some(session) = self.sessions.get(id) else {
            return Ok(());
        };
        if session.subscriptions.contains_key(&subscribe.id) {
            return Err(Refusal::new(
                Code::AlreadyExists,
                format!(
                    "subscription {} exists; unsubscribe it first or choose another id",
                    subscribe.id
                ),
            ));
        }
        if session.subscriptions.len() as u64 >= limits.subscriptions_max {
            return Err(Refusal::new(
                Code::ResourceExhausted,
                format!(
                    "this agent has {} subscriptions, as many as limits.subscriptions_max allows; unsubscribe some",
                    session.subscriptions.len()
                ),
            ));
        }
        self.permit(id, Permission::Subscribe(subscribe.pattern))
    }

    fn lane_spec(&mut self, id: SessionId, subscribe: &Subscribe<'_>) -> LaneSpec {
        let limits = &self.limits;
        let bound = match subscribe.delivery.queue_bytes {
            0 => limits.queue_bytes_default,
            asked => asked,
        };
        let block_ms = match subscribe.delivery.block_ms {
            0 => limits.block_ms_default,
            asked => u64::from(asked),
        };
        // A pattern that is known already is shared with all who subscribe to it.
        let pattern = match self.table.find(subscribe.pattern) {
            Some(entry) => Arc::clone(&self.table.entry(entry).pattern),
            None => subscribe.pattern.into(),
        };
        let born = self.sessions.get_mut(id).map_or(0, |session| {
            session.born += 1;
            session.born
        });
        LaneSpec {
            id: subscribe.id,
            exact: crate::table::is_exact(&pattern),
            pattern,
            born,
            // Both are capped far below 4 Gi (see Limits).
            bound: bound.min(limits.queue_bytes_max) as u32,
            block_ms: block_ms.min(limits.block_ms_max) as u32,
            policy: subscribe.delivery.policy,
        }
    }

    /// Puts a subscription into the session and the table; the other cores are not told yet.
    pub(crate) fn add_lane(&mut self, id: SessionId, spec: LaneSpec, group: &str) -> Option<u32> {
        let pattern = Arc::clone(&spec.pattern);
        let session = self.sessions.get_mut(id)?;
        let (born, policy, subscription) = (spec.born, spec.policy, spec.id);
        let lane = session.queue.lanes.insert(Lane::new(spec)) as u32;
        session.subscriptions.insert(subscription, lane);
        let local = Local {
            session: id.index,
            lane,
            born,
            policy,
            late: false,
        };
        let entry = self.table.ensure(&pattern);
        let group = match group {
            "" => None,
            name => Some(
                self.table
                    .find_group(entry, name)
                    .unwrap_or_else(|| self.table.ensure_group(entry, &name.into())),
            ),
        };
        let position = self.table.list(entry, group, local);
        if let Some(group) = group {
            self.tell_group_room(group, false);
        }
        let lane_mut = &mut self.sessions.get_mut(id)?.queue.lanes[lane as usize];
        lane_mut.entry = entry;
        lane_mut.group = group.unwrap_or(NO_GROUP);
        lane_mut.position = position as u32;
        Some(lane)
    }

    /// Takes a subscription out of the table; the other cores are not told yet.
    pub(crate) fn unlist_lane(&mut self, id: SessionId, lane: u32) {
        self.forget_late(id, lane);
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let lane = &session.queue.lanes[lane as usize];
        let ((entry, group), position) = (places(lane), lane.position as usize);
        let moved = self.table.unlist(entry, group, position);
        if let Some(moved) = moved
            && let Some((session, _)) = self.sessions.at(moved.session)
        {
            session.queue.lanes[moved.lane as usize].position = position as u32;
        }
    }

    /// Every core routes to a subscription.
    pub(crate) fn subscribed<E: Encoder>(
        &mut self,
        barrier: u64,
        session: SessionId,
        id: u64,
        lane: u32,
        enc: &mut E,
    ) {
        let Some(open) = self.sessions.get_mut(session) else {
            return;
        };
        open.subscribing = open.subscribing.saturating_sub(1);
        if open.subscriptions.get(&id) != Some(&lane) {
            return;
        }
        let (entry, group) = places(&open.queue.lanes[lane as usize]);
        let announced = match group {
            Some(group) => &mut self.table.group_mut(group).announced,
            None => &mut self.table.entry_mut(entry).announced,
        };
        if *announced == Announced::Pending(barrier) {
            *announced = Announced::Everywhere;
        }
        // A late one is acknowledged when every core has told what it keeps.
        if !self.is_late(session, lane) {
            self.acknowledge(session, id, 0, enc);
        }
    }

    pub(crate) fn unsubscribe<E: Encoder>(&mut self, id: SessionId, subscription: u64, enc: &mut E) {
        let lane = self
            .sessions
            .get_mut(id)
            .and_then(|session| session.subscriptions.remove(&subscription));
        let Some(lane) = lane else {
            let message = format!("there is no subscription {subscription}; it may be gone already");
            return self.refuse(id, subscription, &Refusal::new(Code::NotFound, message), enc);
        };
        self.drop_lane(id, lane, enc);
        self.acknowledge(id, subscription, 0, enc);
    }

    /// Ends a subscription that the session no longer knows by its id.
    pub(crate) fn drop_lane<E: Encoder>(&mut self, id: SessionId, lane: u32, enc: &mut E) {
        self.drop_waiting(id, lane, enc);
        self.unlist_lane(id, lane);
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let (entry, group) = places(&session.queue.lanes[lane as usize]);
        session.queue.close_lane(lane);
        self.announce(entry, group, None);
        if let Some(group) = group
            && !self.table.group(group).locals.is_empty()
        {
            // Who is left may have room.
            self.tell_group_room(group, false);
        }
        self.table.tidy(entry, group);
    }

    /// Tells the other cores how many subscribers a pattern or group has here.
    pub(crate) fn announce(&mut self, entry: u32, group: Option<u32>, barrier: Option<u64>) {
        for core in self.others() {
            let body = self.interest(entry, group, barrier);
            self.send(core, body);
        }
        if self.network && group.is_none() {
            self.tell_network(entry);
        }
    }

    /// How many subscribers a pattern or group has here.
    pub(crate) fn interest(&self, entry: u32, group: Option<u32>, barrier: Option<u64>) -> Body {
        let known = self.table.entry(entry);
        let pattern = Arc::clone(&known.pattern);
        let Some(group) = group else {
            let subscribers = known.locals.len() as u32
                + self.count_departing(&pattern, "")
                + self.table.remote(entry, CoreId::NETWORK);
            let blocking = known.blocking > 0;
            return Body::Interest {
                pattern,
                subscribers,
                blocking,
                barrier,
            };
        };
        let known = self.table.group(group);
        let members = known.locals.len() as u32 + self.count_departing(&pattern, &known.name);
        let (group, blocking) = (Arc::clone(&known.name), known.blocking > 0);
        Body::GroupInterest(Box::new(GroupInterest {
            pattern,
            group,
            members,
            blocking,
            barrier,
        }))
    }

    /// Another core tells how many subscribers a pattern has there.
    pub(crate) fn interest_told(&mut self, pattern: &Arc<str>, remote: Remote) {
        let entry = self.table.ensure(pattern);
        self.table.set_remote(entry, remote);
        if self.network {
            self.tell_network(entry);
        }
        self.table.tidy(entry, None);
    }

    /// Another core tells how many members a group has there.
    pub(crate) fn group_interest_told(&mut self, from: CoreId, interest: &GroupInterest) {
        let entry = self.table.ensure(&interest.pattern);
        let group = self.table.ensure_group(entry, &interest.group);
        let remotes = &mut self.table.group_mut(group).remotes;
        let full = remotes.iter().any(|remote| remote.core == from && remote.full);
        remotes.retain(|remote| remote.core != from);
        if interest.members > 0 {
            let GroupInterest {
                members, blocking, ..
            } = *interest;
            remotes.push(GroupRemote {
                core: from,
                members,
                blocking,
                full,
            });
        }
        self.table.changed(entry);
        self.table.tidy(entry, Some(group));
    }
}

/// Where a subscription stands in the table.
pub(crate) fn places(lane: &Lane) -> (u32, Option<u32>) {
    (lane.entry, (lane.group != NO_GROUP).then_some(lane.group))
}
