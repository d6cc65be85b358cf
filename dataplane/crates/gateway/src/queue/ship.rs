//! A queue's contents on their way to another core.

use std::sync::Arc;

use bytes::Bytes;

use super::{Body, CONTROL, Gap, NONE, Queue, Segment};
use crate::ledger::Ledger;

/// One segment, by its subscription's id.
#[derive(Debug)]
pub(crate) struct Shipment {
    pub(crate) subscription: u64,
    pub(crate) cargo: Cargo,
}

/// See [`Shipment`].
#[derive(Debug)]
pub(crate) enum Cargo {
    Run {
        topic: Arc<str>,
        bytes: Bytes,
        messages: u32,
    },
    Gap(Box<Gap>),
}

impl Queue {
    /// Takes everything out that waits for subscriptions, in order; the subscriptions stay.
    pub(crate) fn export(&mut self, ledger: &mut Ledger) -> Vec<Shipment> {
        let mut shipments = Vec::with_capacity(self.segments.len());
        while let Some(segment) = self.segments.front() {
            let key = segment.lane;
            if let Body::Run { .. } = segment.body
                && self.lanes[key as usize].has_gap()
            {
                let lane = &mut self.lanes[key as usize];
                let gap = Box::new(lane.take_gap());
                shipments.push(Shipment {
                    subscription: lane.id,
                    cargo: Cargo::Gap(gap),
                });
            }
            let Some(Segment { body, topic, .. }) = self.pop_front() else {
                break;
            };
            let cargo = match body {
                Body::Run { bytes, messages } => {
                    self.release(key, bytes.len() as u64, ledger);
                    let topic = topic.unwrap_or_else(|| Arc::clone(&self.lanes[key as usize].pattern));
                    Cargo::Run {
                        topic,
                        bytes,
                        messages,
                    }
                }
                Body::Gap(gap) => Cargo::Gap(gap),
                Body::Control(bytes) => {
                    self.release(CONTROL, bytes.len() as u64, ledger);
                    continue;
                }
                Body::Dead => continue,
            };
            let lane = &self.lanes[key as usize];
            if !lane.closed {
                shipments.push(Shipment {
                    subscription: lane.id,
                    cargo,
                });
            }
            self.reap(key);
        }
        shipments
    }

    /// Tells a loss behind everything that waits for a subscription.
    pub(crate) fn push_gap(&mut self, key: u32, gap: Box<Gap>) {
        let newest = self.lanes[key as usize].newest;
        if newest != NONE
            && let Segment {
                body: Body::Gap(known),
                ..
            } = self.at(newest)
        {
            known.merge(&gap);
        } else {
            self.link(key, Body::Gap(gap), None);
        }
    }
}
