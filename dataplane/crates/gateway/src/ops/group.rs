//! Queue groups: one member gets each message, whichever core it is on.
//!
//! Every core knows how many members the others have, and whether any of them has room; the publisher's core picks. What it knows
//! of the others' room is as old as the last message from them: a message sent to a core whose members have just filled up is
//! treated there by the policy of the member whose turn it is. A message for a group whose last member on that core has just
//! gone, goes with it.

use std::sync::Arc;

use crate::core_message::{Body, GroupRun};
use crate::gateway::Gateway;
use crate::ids::{CoreId, Now, SessionId};
use crate::ops::hold::{Held, HoldOrigin};
use crate::ops::publish::Parcel;
use crate::outgoing::Encoder;
use crate::table::Local;

/// Who gets a message of a group.
enum Member {
    Local(Local),
    Remote { core: CoreId, blocking: bool },
}

impl Gateway {
    pub(crate) fn deliver_to_group<E: Encoder>(&mut self, group: u32, parcel: &mut Parcel, now: &Now) {
        match self.pick_member(group, parcel.bytes.len()) {
            None => {}
            Some(Member::Local(local)) => self.deliver_parcel::<E>(local, parcel, now),
            Some(Member::Remote { core, blocking }) => {
                let hold = blocking.then(|| self.hold_number(&mut parcel.held));
                parcel.held.waits += u32::from(blocking);
                parcel.receivers += 1;
                let known = self.table.group(group);
                let body = Body::GroupRun(Box::new(GroupRun {
                    pattern: Arc::clone(&self.table.entry(known.entry).pattern),
                    group: Arc::clone(&known.name),
                    topic: Arc::clone(&parcel.topic),
                    bytes: parcel.bytes.clone(),
                    hold,
                }));
                self.send(core, body);
            }
        }
    }

    /// The next in turn that has room; if none has, the next in turn.
    fn pick_member(&mut self, group: u32, len: usize) -> Option<Member> {
        let known = self.table.group_mut(group);
        let locals = known.locals.len();
        let total = locals
            + known
                .remotes
                .iter()
                .map(|remote| remote.members as usize)
                .sum::<usize>();
        if total == 0 {
            return None;
        }
        let start = (known.turn % total as u64) as usize;
        known.turn += 1;
        let known = self.table.group(group);
        let (mut place, mut tried, mut fallback) = (start, 0, None);
        while tried < total {
            let (member, room, skip) = if place < locals {
                let local = known.locals[place];
                let room = match self.sessions.at(local.session) {
                    Some((session, ledger)) => session.queue.has_room(local.lane, len, ledger),
                    None => false,
                };
                (Member::Local(local), room, 1)
            } else {
                let mut offset = place - locals;
                let remote = known.remotes.iter().find(|remote| {
                    let here = offset < remote.members as usize;
                    if !here {
                        offset -= remote.members as usize;
                    }
                    here
                })?;
                let member = Member::Remote {
                    core: remote.core,
                    blocking: remote.blocking,
                };
                (member, !remote.full, remote.members as usize - offset)
            };
            if room {
                return Some(member);
            }
            fallback.get_or_insert(member);
            tried += skip;
            place = (place + skip) % total;
        }
        fallback
    }

    /// A message of a group from another core, for one of this core's members.
    pub(crate) fn receive_group_run<E: Encoder>(
        &mut self,
        from: CoreId,
        run: GroupRun,
        now: &Now,
        enc: &mut E,
    ) {
        let origin = run
            .hold
            .map_or(HoldOrigin::Nobody, |hold| HoldOrigin::Core(from, hold));
        let mut parcel = Parcel {
            topic: run.topic,
            bytes: run.bytes,
            receivers: 0,
            held: Held::new(origin, 0),
        };
        let group = self
            .table
            .find(&run.pattern)
            .and_then(|entry| self.table.find_group(entry, &run.group));
        match group.filter(|&group| !self.table.group(group).locals.is_empty()) {
            Some(group) => self.deliver_to_local_member::<E>(group, &mut parcel, now),
            None => self.deliver_to_departing_member::<E>(&run.pattern, &run.group, &parcel),
        }
        self.settle_parcel(parcel, enc);
    }

    fn deliver_to_local_member<E: Encoder>(&mut self, group: u32, parcel: &mut Parcel, now: &Now) {
        let known = self.table.group_mut(group);
        let count = known.locals.len();
        let start = (known.turn % count as u64) as usize;
        known.turn += 1;
        let mut picked = None;
        for offset in 0..count {
            let local = self.table.group(group).locals[(start + offset) % count];
            if let Some((session, ledger)) = self.sessions.at(local.session)
                && session.queue.has_room(local.lane, parcel.bytes.len(), ledger)
            {
                picked = Some(local);
                break;
            }
        }
        if picked.is_none() {
            self.tell_group_room(group, true);
        }
        let local = picked.unwrap_or_else(|| self.table.group(group).locals[start]);
        self.deliver_parcel::<E>(local, parcel, now);
    }

    /// Tells the other cores whether this core's members have room, if that is news.
    pub(crate) fn tell_group_room(&mut self, group: u32, full: bool) {
        let known = self.table.group_mut(group);
        if known.told_full == full {
            return;
        }
        known.told_full = full;
        let (name, entry) = (Arc::clone(&known.name), known.entry);
        let pattern = Arc::clone(&self.table.entry(entry).pattern);
        self.broadcast(|| Body::GroupFull {
            pattern: Arc::clone(&pattern),
            group: Arc::clone(&name),
            full,
        });
    }

    /// A member got room.
    pub(crate) fn group_has_room(&mut self, id: SessionId, lane: u32) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        if let Some(lane) = session.queue.lanes.get(lane as usize)
            && lane.group != crate::queue::NO_GROUP
            && !lane.closed
        {
            let group = lane.group;
            // Half the bound: news of room is not to chase each message.
            if lane.waiting() <= u64::from(lane.bound) / 2 {
                self.tell_group_room(group, false);
            }
        }
    }

    pub(crate) fn group_room_told(&mut self, from: CoreId, pattern: &str, group: &str, full: bool) {
        let found = self
            .table
            .find(pattern)
            .and_then(|entry| self.table.find_group(entry, group));
        if let Some(group) = found
            && let Some(remote) = self
                .table
                .group_mut(group)
                .remotes
                .iter_mut()
                .find(|remote| remote.core == from)
        {
            remote.full = full;
        }
    }
}
