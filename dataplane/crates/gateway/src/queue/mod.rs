//! The delivery queue of one session: one order over everything it is sent.
//!
//! Invariants worth naming:
//! * A segment is a run of whole messages of one subscription and topic, one control message, or the mark of a [`Gap`].
//! * What waits for a subscription never exceeds its bound; the oldest gives way by cutting whole messages off its oldest run.
//! * A message whose first byte was pulled is never dropped: its rest stands in `torn`, in front of the queue.
//! * Segments are numbered; dropping in the middle leaves a dead segment, and the queue is compacted when half of it is dead,
//!   so that dropping costs O(1) amortised however subscriptions interleave.
//! * Counts of lost messages stand where the messages were lost: in a mark, or in the lane just before its oldest segment.
//!   (`LATEST` tells its losses before everything that still waits: early, but never late.)

mod gap;
mod lane;
mod pull;
mod push;
mod ship;
mod stall;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use slab::Slab;

pub(crate) use gap::Gap;
pub(crate) use lane::{FedBy, Lane, LaneSpec, NO_GROUP, NONE};
pub(crate) use push::{Pushed, Run};
pub(crate) use ship::{Cargo, Shipment};

use crate::ledger::Ledger;

/// Not of a subscription.
const CONTROL: u32 = u32::MAX;
/// Fewer dead segments are not worth compacting.
const DEAD_MIN: usize = 32;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    segments: VecDeque<Segment>,
    /// Number of the front segment.
    base: u64,
    dead: usize,
    torn: Option<Torn>,
    /// The session's subscriptions.
    pub(crate) lanes: Slab<Lane>,
    control_bytes: u64,
    bytes: u64,
    /// Segments below this number were copied out of shared memory.
    settled: u64,
    /// The number behind the last segment at the last look for stalled ones.
    seen: u64,
    dropped: u64,
}

#[derive(Debug)]
struct Segment {
    body: Body,
    /// Of a run for a subscription with wildcards, or of policy `LATEST`.
    topic: Option<Arc<str>>,
    /// Number of the lane's next segment.
    next: u64,
    lane: u32,
}

#[derive(Debug)]
enum Body {
    Control(Bytes),
    Run { bytes: Bytes, messages: u32 },
    Gap(Box<Gap>),
    Dead,
}

/// The rest of a message whose start was pulled.
#[derive(Debug)]
struct Torn {
    bytes: Bytes,
    lane: u32,
    topic: Option<Arc<str>>,
    /// Length of the whole message; 0 for a control message of which nothing was pulled.
    whole: u64,
    /// Copied out of shared memory.
    settled: bool,
    /// The loss it tells, and of which subscription.
    gap: Option<Box<(u64, Gap)>>,
}

impl Torn {
    fn control(bytes: Bytes) -> Self {
        Self {
            bytes,
            lane: CONTROL,
            topic: None,
            whole: 0,
            settled: false,
            gap: None,
        }
    }
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.torn.is_none() && self.segments.len() == self.dead
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of them that are not of a subscription.
    pub(crate) fn control_bytes(&self) -> u64 {
        self.control_bytes
    }

    /// Messages dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(crate) fn push_control(&mut self, bytes: Bytes, ledger: &mut Ledger) {
        let len = bytes.len() as u64;
        self.control_bytes += len;
        self.bytes += len;
        ledger.queued_bytes += len;
        self.segments.push_back(Segment {
            body: Body::Control(bytes),
            topic: None,
            next: NONE,
            lane: CONTROL,
        });
    }

    /// Queues a message before everything that waits; nothing must have been pulled in part.
    pub(crate) fn push_control_first(&mut self, bytes: Bytes, ledger: &mut Ledger) {
        debug_assert!(self.torn.is_none());
        let len = bytes.len() as u64;
        self.control_bytes += len;
        self.bytes += len;
        ledger.queued_bytes += len;
        self.torn = Some(Torn::control(bytes));
    }

    /// Ends a subscription; what waits for it is still delivered.
    pub(crate) fn close_lane(&mut self, key: u32) {
        let lane = &mut self.lanes[key as usize];
        lane.closed = true;
        if lane.is_drained() {
            self.lanes.remove(key as usize);
        }
    }

    /// Ends a subscription and throws away what waits for it, except the rest of a message whose start was pulled.
    pub(crate) fn discard_lane(&mut self, key: u32, ledger: &mut Ledger) {
        if let Some(torn) = self.torn.as_mut().filter(|torn| torn.lane == key) {
            let len = torn.bytes.len() as u64;
            torn.lane = CONTROL;
            self.control_bytes += len;
            self.lanes[key as usize].waiting -= len;
        }
        let mut released = 0;
        for segment in self.segments.iter_mut().filter(|segment| segment.lane == key) {
            if let Body::Run { bytes, .. } = &segment.body {
                released += bytes.len() as u64;
            }
            segment.body = Body::Dead;
        }
        self.release(key, released, ledger);
        self.lanes[key as usize].closed = true;
        self.rebuild();
    }

    /// Bytes that a watch's lane takes now, and whether it is empty: then it takes one message of any size.
    pub(crate) fn room(&self, key: u32, ledger: &Ledger) -> (u64, bool) {
        let lane = &self.lanes[key as usize];
        let room = ledger
            .allowance(u64::from(lane.bound))
            .saturating_sub(lane.waiting);
        (room, lane.waiting == 0)
    }

    /// Whether a lane has been read so far that it is worth feeding it again.
    pub(crate) fn is_hungry(&self, key: u32) -> bool {
        let lane = &self.lanes[key as usize];
        lane.waiting * 2 <= u64::from(lane.bound)
    }

    /// Throws everything away, subscriptions included.
    pub(crate) fn clear(&mut self, ledger: &mut Ledger) {
        ledger.queued_bytes -= self.bytes;
        *self = Self {
            dropped: self.dropped,
            ..Self::default()
        };
    }

    /// Throws away what waits, except the rest of a message whose start was pulled; subscriptions must be gone.
    pub(crate) fn clear_waiting(&mut self, ledger: &mut Ledger) {
        let torn = self
            .torn
            .take()
            .filter(|torn| (torn.bytes.len() as u64) < torn.whole);
        self.clear(ledger);
        if let Some(mut torn) = torn {
            let len = torn.bytes.len() as u64;
            torn.lane = CONTROL;
            self.control_bytes = len;
            self.bytes = len;
            ledger.queued_bytes += len;
            self.torn = Some(torn);
        }
    }

    fn tail(&self) -> u64 {
        self.base + self.segments.len() as u64
    }

    fn at(&mut self, number: u64) -> &mut Segment {
        &mut self.segments[(number - self.base) as usize]
    }

    /// Puts a segment of a lane behind all others.
    fn link(&mut self, key: u32, body: Body, topic: Option<Arc<str>>) -> u64 {
        let number = self.tail();
        let lane = &mut self.lanes[key as usize];
        if lane.oldest == NONE {
            lane.oldest = number;
        } else {
            self.segments[(lane.newest - self.base) as usize].next = number;
        }
        lane.newest = number;
        self.segments.push_back(Segment {
            body,
            topic,
            next: NONE,
            lane: key,
        });
        number
    }

    /// Takes bytes of a lane, or of control, off the books.
    fn release(&mut self, key: u32, len: u64, ledger: &mut Ledger) {
        self.bytes -= len;
        ledger.queued_bytes -= len;
        match key {
            CONTROL => self.control_bytes -= len,
            key => self.lanes[key as usize].waiting -= len,
        }
    }

    /// Takes the front segment off, whose body was dealt with.
    fn pop_front(&mut self) -> Option<Segment> {
        let number = self.base;
        let segment = self.segments.pop_front()?;
        self.base += 1;
        if matches!(segment.body, Body::Dead) {
            self.dead -= 1;
        }
        if segment.lane != CONTROL
            && let Some(lane) = self.lanes.get_mut(segment.lane as usize)
        {
            if lane.oldest == number {
                step(lane, segment.next);
            }
            if let Some(topic) = &segment.topic {
                lane.forget_latest(topic, number);
            }
        }
        Some(segment)
    }

    fn kill(&mut self, number: u64) -> Body {
        self.dead += 1;
        std::mem::replace(&mut self.at(number).body, Body::Dead)
    }

    /// Frees a closed lane that has nothing left.
    fn reap(&mut self, key: u32) {
        if key != CONTROL
            && let Some(lane) = self.lanes.get(key as usize)
            && lane.closed
            && lane.is_drained()
        {
            self.lanes.remove(key as usize);
        }
    }

    /// Removes dead segments when there are many, and always those in front.
    fn compact(&mut self) {
        while matches!(self.segments.front(), Some(Segment { body: Body::Dead, .. })) {
            if let Some(segment) = self.pop_front() {
                self.reap(segment.lane);
            }
        }
        if self.dead > DEAD_MIN && self.dead * 2 > self.segments.len() {
            self.rebuild();
        }
    }

    /// Removes all dead segments and numbers the others anew.
    fn rebuild(&mut self) {
        let live_below = |mark: u64| {
            let count = mark.saturating_sub(self.base) as usize;
            self.base
                + self
                    .segments
                    .iter()
                    .take(count)
                    .filter(|s| !matches!(s.body, Body::Dead))
                    .count() as u64
        };
        (self.settled, self.seen) = (live_below(self.settled), live_below(self.seen));
        self.segments
            .retain(|segment| !matches!(segment.body, Body::Dead));
        self.dead = 0;
        for (_, lane) in &mut self.lanes {
            lane.forget_list();
        }
        for index in 0..self.segments.len() {
            let number = self.base + index as u64;
            self.segments[index].next = NONE;
            let key = self.segments[index].lane;
            if key == CONTROL {
                continue;
            }
            let lane = &mut self.lanes[key as usize];
            let newest = std::mem::replace(&mut lane.newest, number);
            if newest == NONE {
                lane.oldest = number;
            } else {
                self.segments[(newest - self.base) as usize].next = number;
            }
            if lane.policy == crate::action::DeliveryPolicy::Latest
                && let Segment {
                    body: Body::Run { .. },
                    topic: Some(topic),
                    ..
                } = &self.segments[index]
            {
                lane.note_latest(topic, number);
            }
        }
        self.lanes.retain(|_, lane| !(lane.closed && lane.is_drained()));
    }
}

/// Moves a lane's list to its next segment.
fn step(lane: &mut Lane, next: u64) {
    lane.oldest = next;
    if next == NONE {
        lane.newest = NONE;
    }
}

#[cfg(test)]
mod tests;
