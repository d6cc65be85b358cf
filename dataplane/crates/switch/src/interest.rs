//! Which core wants which name, known on all cores, and knowing that every core knows.
//!
//! What changed in a turn goes to every other core in one message with a number, the barrier. Each answers when it has dealt with it (and,
//! by the order of messages, with all before it); a Subscribe is acknowledged behind its barrier.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::core_message::{Body, Change, CoreMessage};
use crate::dialect::Dialect;
use crate::ids::ConnectionId;
use crate::switch::Switch;
use crate::table::Target;

/// See the module.
#[derive(Debug)]
pub(crate) struct Interest {
    /// Instances that the other cores are to be told of.
    changed: Vec<u32>,
    /// The barrier of the last message.
    barrier: u64,
    /// The last barrier that each core has answered; this core's own entry is the last one sent.
    answered: Vec<u64>,
    /// The last barrier that every core has answered.
    settled: u64,
    /// Acknowledgements and the barriers they wait for, in order.
    acks: VecDeque<(u64, ConnectionId, u64)>,
}

impl Interest {
    pub(crate) fn new(cores: u16) -> Self {
        Self {
            changed: Vec::new(),
            barrier: 0,
            answered: vec![0; usize::from(cores)],
            settled: 0,
            acks: VecDeque::new(),
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.acks.len()
    }

    pub(crate) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }
}

impl<D: Dialect> Switch<D> {
    /// Members of an instance have come or gone.
    pub(crate) fn note_changed(&mut self, instance: u32) {
        let next = self.interest.barrier + 1;
        let entry = self.table.instance_mut(instance);
        if entry.audience.members.len() == 1 {
            // Perhaps there was none: the other cores may not know of it.
            entry.announced = next;
        }
        if !entry.is_changed {
            entry.is_changed = true;
            self.interest.changed.push(instance);
        }
    }

    /// Acknowledges a Subscribe now, or when every core routes to it.
    pub(crate) fn acknowledge_when_announced(&mut self, id: ConnectionId, instance: u32, subscription: u64) {
        if subscription == 0 {
            return;
        }
        let announced = self.table.instance(instance).announced;
        if announced <= self.interest.settled {
            return self.acknowledge(id.index, subscription, Ok(()));
        }
        // In order, so that a look at the first is enough.
        let barrier = self
            .interest
            .acks
            .back()
            .map_or(announced, |(last, ..)| announced.max(*last));
        self.interest.acks.push_back((barrier, id, subscription));
    }

    /// Tells the other cores what changed in this turn.
    pub(crate) fn announce(&mut self) {
        if self.interest.changed.is_empty() {
            return;
        }
        self.interest.barrier += 1;
        let barrier = self.interest.barrier;
        let changed = std::mem::take(&mut self.interest.changed);
        if self.config.cores > 1 {
            let table = &self.table;
            let changes: Arc<[Change]> = changed
                .iter()
                .map(|&instance| {
                    let entry = table.instance(instance).entry;
                    Change {
                        name: table.name_of(Target::Instance(instance)),
                        members: table.instance(instance).audience.members.len() as u32,
                        any: table.audience(Target::Any(entry)).members.len() as u32,
                    }
                })
                .collect();
            self.broadcast(|| Body::Interest {
                changes: Arc::clone(&changes),
                barrier,
            });
        }
        for &instance in &changed {
            self.table.instance_mut(instance).is_changed = false;
            self.table.tidy(instance);
        }
        self.interest.changed = changed;
        self.interest.changed.clear();
        self.answered(self.config.core, barrier);
    }

    /// A core has dealt with everything up to a barrier.
    pub(crate) fn answered(&mut self, core: u16, barrier: u64) {
        let interest = &mut self.interest;
        interest.answered[usize::from(core)] = barrier;
        interest.settled = interest.answered.iter().copied().min().unwrap_or(barrier);
        while let Some(&(barrier, id, subscription)) = self.interest.acks.front()
            && barrier <= self.interest.settled
        {
            self.interest.acks.pop_front();
            if self.connections.get(id).is_some() {
                self.acknowledge(id.index, subscription, Ok(()));
            }
        }
    }

    /// Another core's connections want other names.
    pub(crate) fn receive_interest(&mut self, from: u16, changes: &[Change], barrier: u64) {
        for change in changes {
            self.table
                .set_remote(from, &change.name, change.members, change.any);
        }
        self.send(from, Body::Answer { barrier });
    }

    /// Tells one other core.
    pub(crate) fn send(&mut self, core: u16, body: Body) {
        self.outbound.push_back((core, CoreMessage(body)));
    }

    /// Tells all other cores.
    pub(crate) fn broadcast(&mut self, mut body: impl FnMut() -> Body) {
        let this = self.config.core;
        for core in (0..self.config.cores).filter(|core| *core != this) {
            self.send(core, body());
        }
    }
}
