//! Out of the queue.

use bytes::Bytes;

use super::push::first_len;
use super::{Body, CONTROL, FedBy, Gap, NO_GROUP, NONE, Queue, Torn};
use crate::ledger::Ledger;
use crate::outgoing::{Dialect, Encoder, Outgoing};

/// The next bytes of a stream.
#[derive(Debug)]
pub(crate) struct Pulled {
    pub(crate) bytes: Bytes,
    /// The `BLOCK` subscription that got room by it and has publishes waiting.
    pub(crate) unblocked: Option<u32>,
    /// The member of a queue group that got room by it.
    pub(crate) grouped: Option<u32>,
    /// The watch, or the late subscription, that wants more.
    pub(crate) hungry: Option<u32>,
}

impl Queue {
    /// The next bytes, at most `bytes_max`, whole messages where possible.
    pub(crate) fn pull<E: Encoder>(
        &mut self,
        bytes_max: usize,
        dialect: Dialect,
        enc: &mut E,
        ledger: &mut Ledger,
    ) -> Option<Pulled> {
        if bytes_max == 0 {
            return None;
        }
        loop {
            if self.torn.is_some() {
                return self.pull_torn(bytes_max, ledger);
            }
            let segment = self.segments.front_mut()?;
            let key = segment.lane;
            match &mut segment.body {
                Body::Dead => {
                    self.pop_front();
                    self.reap(key);
                }
                Body::Control(bytes) => {
                    self.torn = Some(Torn::control(std::mem::take(bytes)));
                    self.pop_front();
                }
                Body::Gap(gap) => {
                    let gap = std::mem::take(gap);
                    self.tell(*gap, key, dialect, enc, ledger);
                    self.pop_front();
                    self.reap(key);
                }
                Body::Run { .. } if self.lanes[key as usize].has_gap() => {
                    let gap = self.lanes[key as usize].take_gap();
                    self.tell(gap, key, dialect, enc, ledger);
                }
                Body::Run { bytes, messages } => {
                    if bytes.len() <= bytes_max {
                        let bytes = std::mem::take(bytes);
                        self.pop_front();
                        return Some(self.pulled(key, bytes, ledger));
                    }
                    let (taken, whole) = whole_messages::<E>(dialect, bytes, *messages, bytes_max);
                    if whole > 0 {
                        *messages -= whole;
                        let bytes = bytes.split_to(taken);
                        return Some(self.pulled(key, bytes, ledger));
                    }
                    self.tear::<E>(dialect);
                }
            }
        }
    }

    /// Moves the first message of the front run to `torn`.
    fn tear<E: Encoder>(&mut self, dialect: Dialect) {
        let Some(segment) = self.segments.front_mut() else {
            return;
        };
        let Body::Run { bytes, messages } = &mut segment.body else {
            return;
        };
        let first = bytes.split_to(first_len::<E>(dialect, bytes, *messages));
        *messages -= 1;
        let emptied = *messages == 0;
        self.torn = Some(Torn {
            whole: first.len() as u64,
            bytes: first,
            lane: segment.lane,
            topic: segment.topic.clone(),
            settled: false,
            gap: None,
        });
        if emptied {
            self.pop_front();
        }
    }

    fn pull_torn(&mut self, bytes_max: usize, ledger: &mut Ledger) -> Option<Pulled> {
        let torn = self.torn.as_mut()?;
        let (bytes, key) = match torn.bytes.len() <= bytes_max {
            true => {
                let pulled = (std::mem::take(&mut torn.bytes), torn.lane);
                self.torn = None;
                pulled
            }
            false => {
                torn.whole = torn.whole.max(torn.bytes.len() as u64);
                (torn.bytes.split_to(bytes_max), torn.lane)
            }
        };
        Some(self.pulled(key, bytes, ledger))
    }

    fn pulled(&mut self, key: u32, bytes: Bytes, ledger: &mut Ledger) -> Pulled {
        self.release(key, bytes.len() as u64, ledger);
        let (mut unblocked, mut grouped, mut hungry) = (None, None, None);
        if key != CONTROL {
            let lane = &self.lanes[key as usize];
            unblocked = lane.waiters().is_some().then_some(key);
            grouped = (lane.group != NO_GROUP).then_some(key);
            let is_fed = matches!(lane.fed, FedBy::Pieces | FedBy::Kept);
            hungry = (is_fed && !lane.closed && self.is_hungry(key)).then_some(key);
            self.reap(key);
        }
        Pulled {
            bytes,
            unblocked,
            grouped,
            hungry,
        }
    }

    /// Puts a `Gap` in front of the queue.
    fn tell<E: Encoder>(&mut self, gap: Gap, key: u32, dialect: Dialect, enc: &mut E, ledger: &mut Ledger) {
        debug_assert_eq!(enc.pending(), 0, "the run being built was not flushed");
        enc.append(
            dialect,
            &Outgoing::Gap {
                subscription: self.lanes[key as usize].id,
                dropped: gap.dropped,
                dropped_bytes: gap.dropped_bytes,
                topic: gap.topic(),
            },
        );
        let bytes = enc.take();
        let len = bytes.len() as u64;
        self.bytes += len;
        self.control_bytes += len;
        ledger.queued_bytes += len;
        ledger.stats.gaps += 1;
        let subscription = self.lanes[key as usize].id;
        self.torn = Some(Torn {
            gap: Some(Box::new((subscription, gap))),
            ..Torn::control(bytes)
        });
    }

    /// The stream was lost. Control messages were for that stream alone; a message that was pulled in part is lost. (What was
    /// pulled whole counts as sent.)
    pub(crate) fn detach(&mut self, ledger: &mut Ledger) {
        if let Some(torn) = self.torn.take() {
            self.release(torn.lane, torn.bytes.len() as u64, ledger);
            if let Some(told) = torn.gap {
                self.tell_again(told.0, &told.1);
            }
            if torn.lane != CONTROL {
                let topic = torn
                    .topic
                    .unwrap_or_else(|| self.lanes[torn.lane as usize].pattern.clone());
                self.count_dropped(torn.lane, 1, ledger);
                self.lanes[torn.lane as usize].gap().add(1, torn.whole, &topic);
                self.mark_gap(torn.lane);
            }
        }
        let mut released = 0;
        for segment in &mut self.segments {
            if let Body::Control(bytes) = &segment.body {
                released += bytes.len() as u64;
                segment.body = Body::Dead;
            }
        }
        self.release(CONTROL, released, ledger);
        self.rebuild();
        debug_assert!(
            self.lanes
                .iter()
                .all(|(_, lane)| lane.oldest != NONE || lane.waiting == 0)
        );
    }
}

impl Queue {
    /// A `Gap` was pulled in part only: what it counts is told anew.
    fn tell_again(&mut self, subscription: u64, gap: &Gap) {
        let lane = self
            .lanes
            .iter()
            .find(|(_, lane)| lane.id == subscription && !lane.closed);
        if let Some(key) = lane.map(|(key, _)| key as u32) {
            self.lanes[key as usize].gap().merge(gap);
            self.mark_gap(key);
        }
    }
}

/// How many whole messages of a run fit into `bytes_max`, and their length.
fn whole_messages<E: Encoder>(dialect: Dialect, run: &[u8], messages: u32, bytes_max: usize) -> (usize, u32) {
    let (mut taken, mut count) = (0, 0);
    while count < messages {
        let len = first_len::<E>(dialect, &run[taken..], messages - count);
        if taken + len > bytes_max {
            break;
        }
        taken += len;
        count += 1;
    }
    (taken, count)
}
