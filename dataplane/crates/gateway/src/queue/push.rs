//! Into the queue, and what happens at the bound.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::{Body, CONTROL, Lane, NONE, Queue, Segment, step};
use crate::action::DeliveryPolicy;
use crate::ledger::Ledger;
use crate::outgoing::{Dialect, Encoder};

/// Consecutive messages of one topic, encoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) dialect: Dialect,
    pub(crate) topic: &'a Arc<str>,
    pub(crate) bytes: &'a Bytes,
    pub(crate) messages: u32,
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// So many messages wait now; what does not was dropped and counted.
    Queued(u32),
    /// No room: a `BLOCK` subscription holds the publisher; nothing was queued.
    Full,
    /// No room: a `DISCONNECT` subscription ends the session; nothing was queued.
    Disconnect,
}

impl Queue {
    /// Whether a subscription would take so many bytes without loss.
    pub(crate) fn has_room(&self, key: u32, len: usize, ledger: &Ledger) -> bool {
        let lane = &self.lanes[key as usize];
        lane.waiters().is_none() && fits(lane, len, 1, ledger)
    }

    /// Queues a run for a subscription by its policy.
    #[inline]
    pub(crate) fn push_run<E: Encoder>(&mut self, key: u32, run: Run<'_>, ledger: &mut Ledger) -> Pushed {
        let lane = &self.lanes[key as usize];
        let fits = fits(lane, run.bytes.len(), run.messages, ledger);
        let pushed = match lane.policy {
            DeliveryPolicy::Latest => self.push_latest::<E>(key, run, ledger),
            DeliveryPolicy::Block if lane.waiters().is_some() => Pushed::Full,
            _ if fits => {
                self.append(key, run.bytes.clone(), run.messages, run.topic, ledger);
                Pushed::Queued(run.messages)
            }
            DeliveryPolicy::DropOldest => self.push_dropping_oldest::<E>(key, run, ledger),
            DeliveryPolicy::DropNewest => self.push_dropping_newest::<E>(key, run, ledger),
            DeliveryPolicy::Disconnect => Pushed::Disconnect,
            DeliveryPolicy::Block => Pushed::Full,
        };
        if let Pushed::Queued(messages) = pushed {
            ledger.stats.delivered += u64::from(messages);
        }
        pushed
    }

    /// Queues a message that was held for a `BLOCK` subscription, if there is room now.
    pub(crate) fn push_waiting(&mut self, key: u32, run: Run<'_>, ledger: &mut Ledger) -> bool {
        let lane = &self.lanes[key as usize];
        let fits = fits(lane, run.bytes.len(), run.messages, ledger);
        if fits {
            self.append(key, run.bytes.clone(), run.messages, run.topic, ledger);
            ledger.stats.delivered += u64::from(run.messages);
        }
        fits
    }

    /// Queues a run for which [`room`](Self::room) was found.
    pub(crate) fn push_surely(&mut self, key: u32, run: Run<'_>, ledger: &mut Ledger) {
        self.append(key, run.bytes.clone(), run.messages, run.topic, ledger);
        ledger.stats.delivered += u64::from(run.messages);
    }

    /// Queues as many messages of a run, from its first, as there is room for; returns how many, and their length.
    pub(crate) fn push_some<E: Encoder>(
        &mut self,
        key: u32,
        run: Run<'_>,
        ledger: &mut Ledger,
    ) -> (u32, usize) {
        let (room, alone) = self.room(key, ledger);
        let (mut messages, mut taken) = (0, 0);
        while messages < run.messages {
            let len = first_len::<E>(run.dialect, &run.bytes[taken..], run.messages - messages);
            let fits = (taken + len) as u64 <= room || alone && messages == 0;
            if !fits {
                break;
            }
            taken += len;
            messages += 1;
        }
        if messages > 0 {
            self.append(key, run.bytes.slice(..taken), messages, run.topic, ledger);
            ledger.stats.delivered += u64::from(messages);
        }
        (messages, taken)
    }

    /// Drops an arriving run, and tells it behind what waits.
    pub(crate) fn drop_arriving(&mut self, key: u32, run: Run<'_>, ledger: &mut Ledger) {
        self.count_dropped(key, u64::from(run.messages), ledger);
        self.tell_loss(key, (u64::from(run.messages), run.bytes.len() as u64), run.topic);
    }

    /// Messages were lost before they came here: tells it behind what waits.
    pub(crate) fn lose(&mut self, key: u32, messages: u64, topic: &Arc<str>) {
        self.tell_loss(key, (messages, 0), topic);
    }

    fn tell_loss(&mut self, key: u32, (messages, len): (u64, u64), topic: &Arc<str>) {
        let newest = self.lanes[key as usize].newest;
        if newest != NONE
            && let Segment {
                body: Body::Gap(gap), ..
            } = self.at(newest)
        {
            gap.add(messages, len, topic);
            return;
        }
        // Nothing waits before it but, perhaps, a loss that was not told: one place, one Gap.
        let mut gap = match self.first_live(key) {
            NONE => self.lanes[key as usize].take_gap(),
            _ => super::Gap::default(),
        };
        gap.add(messages, len, topic);
        self.link(key, Body::Gap(Box::new(gap)), None);
    }

    fn append(
        &mut self,
        key: u32,
        bytes: Bytes,
        messages: u32,
        topic: &Arc<str>,
        ledger: &mut Ledger,
    ) -> u64 {
        let len = bytes.len() as u64;
        let lane = &mut self.lanes[key as usize];
        lane.waiting += len;
        let tagged = !lane.exact || lane.policy == DeliveryPolicy::Latest;
        let topic = tagged.then(|| Arc::clone(topic));
        self.bytes += len;
        ledger.queued_bytes += len;
        ledger.stats.delivered_bytes += len;
        self.link(key, Body::Run { bytes, messages }, topic)
    }

    fn push_dropping_oldest<E: Encoder>(&mut self, key: u32, run: Run<'_>, ledger: &mut Ledger) -> Pushed {
        let mut rest = run.bytes.clone();
        let mut messages = run.messages;
        while messages > 0 {
            let lane = &self.lanes[key as usize];
            if fits(lane, rest.len(), messages, ledger) {
                self.append(key, rest, messages, run.topic, ledger);
                self.compact();
                return Pushed::Queued(messages);
            }
            if !self.drop_oldest::<E>(key, run.dialect, ledger) {
                let len = first_len::<E>(run.dialect, &rest, messages);
                rest.advance(len);
                messages -= 1;
                self.count_dropped(key, 1, ledger);
                self.lanes[key as usize].gap().add(1, len as u64, run.topic);
            }
        }
        self.mark_gap(key);
        self.compact();
        Pushed::Queued(0)
    }

    fn push_dropping_newest<E: Encoder>(&mut self, key: u32, run: Run<'_>, ledger: &mut Ledger) -> Pushed {
        let mut rest = run.bytes.clone();
        let mut queued = 0;
        let mut left = run.messages;
        while left > 0 {
            let lane = &self.lanes[key as usize];
            let mut room = ledger
                .allowance(u64::from(lane.bound))
                .saturating_sub(lane.waiting);
            let (mut whole, mut taken) = (0, 0);
            while left > 0 {
                let len = first_len::<E>(run.dialect, &rest[taken..], left);
                let alone = whole == 0 && fits(lane, len, 1, ledger);
                if len as u64 > room && !alone {
                    break;
                }
                room = room.saturating_sub(len as u64);
                taken += len;
                left -= 1;
                whole += 1;
            }
            if whole > 0 {
                self.append(key, rest.split_to(taken), whole, run.topic, ledger);
                queued += whole;
            }
            if left > 0 {
                let lost = rest.split_to(first_len::<E>(run.dialect, &rest, left));
                left -= 1;
                self.drop_arriving(
                    key,
                    Run {
                        bytes: &lost,
                        messages: 1,
                        ..run
                    },
                    ledger,
                );
            }
        }
        Pushed::Queued(queued)
    }

    fn push_latest<E: Encoder>(&mut self, key: u32, run: Run<'_>, ledger: &mut Ledger) -> Pushed {
        let mut newest = run.bytes.clone();
        for left in (2..=run.messages).rev() {
            let len = first_len::<E>(run.dialect, &newest, left);
            newest.advance(len);
            self.count_dropped(key, 1, ledger);
            self.lanes[key as usize].gap().add(1, len as u64, run.topic);
        }
        if let Some(number) = self.lanes[key as usize].latest_of(run.topic)
            && let Body::Run { bytes, .. } = self.kill(number)
        {
            let len = bytes.len() as u64;
            self.release(key, len, ledger);
            self.count_dropped(key, 1, ledger);
            let lane = &mut self.lanes[key as usize];
            lane.forget_latest(run.topic, number);
            lane.gap().add(1, len, run.topic);
        }
        loop {
            let lane = &self.lanes[key as usize];
            if fits(lane, newest.len(), 1, ledger) {
                let number = self.append(key, newest, 1, run.topic, ledger);
                self.lanes[key as usize].note_latest(run.topic, number);
                self.compact();
                return Pushed::Queued(1);
            }
            if !self.drop_oldest::<E>(key, run.dialect, ledger) {
                break;
            }
        }
        self.count_dropped(key, 1, ledger);
        self.lanes[key as usize]
            .gap()
            .add(1, newest.len() as u64, run.topic);
        self.mark_gap(key);
        self.compact();
        Pushed::Queued(0)
    }

    /// Drops the oldest waiting message of a lane; false when none waits.
    fn drop_oldest<E: Encoder>(&mut self, key: u32, dialect: Dialect, ledger: &mut Ledger) -> bool {
        loop {
            let number = self.lanes[key as usize].oldest;
            if number == NONE {
                return false;
            }
            let base = self.base;
            let segment = &mut self.segments[(number - base) as usize];
            let next = segment.next;
            let lane = &mut self.lanes[key as usize];
            match &mut segment.body {
                Body::Run { bytes, messages } => {
                    let len = first_len::<E>(dialect, bytes, *messages);
                    bytes.advance(len);
                    *messages -= 1;
                    let emptied = *messages == 0;
                    let topic = segment.topic.as_ref().unwrap_or(&lane.pattern).clone();
                    lane.gap().add(1, len as u64, &topic);
                    if emptied {
                        lane.forget_latest(&topic, number);
                        step(lane, next);
                        self.kill(number);
                    }
                    self.release(key, len as u64, ledger);
                    self.count_dropped(key, 1, ledger);
                    return true;
                }
                Body::Gap(gap) => {
                    lane.gap().merge(gap);
                    step(lane, next);
                    self.kill(number);
                }
                Body::Dead => step(lane, next),
                Body::Control(_) => unreachable!("a lane's list holds no control message"),
            }
        }
    }

    /// Where nothing follows a loss, a mark must tell it.
    pub(super) fn mark_gap(&mut self, key: u32) {
        if self.first_live(key) == NONE && self.lanes[key as usize].has_gap() {
            let gap = self.lanes[key as usize].take_gap();
            self.link(key, Body::Gap(Box::new(gap)), None);
        }
    }

    /// The lane's oldest segment that is not dead; the dead before it leave the list.
    pub(super) fn first_live(&mut self, key: u32) -> u64 {
        debug_assert_ne!(key, CONTROL);
        loop {
            let number = self.lanes[key as usize].oldest;
            if number == NONE {
                return NONE;
            }
            let segment = self.at(number);
            if !matches!(segment.body, Body::Dead) {
                return number;
            }
            let next = segment.next;
            step(&mut self.lanes[key as usize], next);
        }
    }

    pub(crate) fn count_dropped(&mut self, key: u32, messages: u64, ledger: &mut Ledger) {
        self.dropped += messages;
        let lane = &mut self.lanes[key as usize];
        lane.count_dropped(messages);
        ledger.stats.count_dropped(lane.policy, messages);
    }
}

/// Whether a lane has room for `messages` messages of `len` bytes together. An empty lane takes one message of any size that the
/// core has memory for: one above the bound could never be delivered otherwise, however fast its reader is.
fn fits(lane: &Lane, len: usize, messages: u32, ledger: &Ledger) -> bool {
    let (len, bound) = (len as u64, u64::from(lane.bound));
    let bound = if lane.waiting == 0 && messages == 1 {
        bound.max(len)
    } else {
        bound
    };
    lane.waiting + len <= ledger.allowance(bound)
}

/// Length of the first of `messages` messages.
pub(super) fn first_len<E: Encoder>(dialect: Dialect, run: &[u8], messages: u32) -> usize {
    match messages {
        1 => run.len(),
        _ => E::first_len(dialect, run),
    }
}
