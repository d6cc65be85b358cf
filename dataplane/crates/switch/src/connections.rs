//! All connections of a core, and delivery into their queues.

use std::collections::VecDeque;

use bytes::Bytes;
use slab::Slab;

use crate::config::{Limits, SlowReader};
use crate::connection::{Connection, State};
use crate::dialect::{Dialect, Form};
use crate::ids::{ConnectionId, End, Peer};
use crate::queue::Ledger;
use crate::stats::Stats;

/// Consecutive messages for delivery.
pub(crate) struct Run {
    bytes: Bytes,
    messages: u32,
    /// The same in the form [`Form::Shared`], made when the first connection asks for it.
    shared: Option<Bytes>,
}

impl Run {
    pub(crate) fn new(bytes: Bytes, messages: u32) -> Self {
        Self {
            bytes,
            messages,
            shared: None,
        }
    }

    fn in_form<D: Dialect>(&mut self, form: Form, dialect: &mut D) -> &Bytes {
        match form {
            Form::Own => &self.bytes,
            Form::Shared => self.shared.get_or_insert_with(|| dialect.shared(&self.bytes)),
        }
    }
}

/// See the module.
pub(crate) struct Connections<L> {
    slab: Slab<Connection<L>>,
    generation: u32,
    seed: u64,
    slow_reader: SlowReader,
    limits: Limits,
    pub(crate) ledger: Ledger,
    pub(crate) stats: Stats,
    /// Those with something to send, or an end to tell.
    ready: VecDeque<ConnectionId>,
    /// Those whose queues had something in them since the last look.
    watched: Vec<ConnectionId>,
    /// Those whose queues overflowed and that are to be ended.
    pub(crate) overflowed: Vec<ConnectionId>,
}

impl<L> Connections<L> {
    pub(crate) fn new(seed: u64, slow_reader: SlowReader, limits: Limits) -> Self {
        Self {
            slab: Slab::new(),
            generation: 0,
            seed,
            slow_reader,
            limits,
            ledger: Ledger {
                queued_bytes: 0,
                memory_bytes_max: limits.memory_bytes_max,
            },
            stats: Stats::default(),
            ready: VecDeque::new(),
            watched: Vec::new(),
            overflowed: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn open(&mut self, peer: Peer, link: L, state: State, form: Form) -> ConnectionId {
        self.generation = self.generation.wrapping_add(1) & ConnectionId::GENERATION_MASK;
        let id = ConnectionId {
            index: self.slab.vacant_key() as u32,
            generation: self.generation,
        };
        self.slab
            .insert(Connection::new(id, peer, link, state, form, self.seed));
        self.stats.connections += 1;
        id
    }

    pub(crate) fn remove(&mut self, index: u32) {
        let mut connection = self.slab.remove(index as usize);
        connection.queue.discard(&mut self.ledger);
        self.stats.connections -= 1;
    }

    #[inline]
    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection<L>> {
        self.slab.get(id.index()).filter(|connection| connection.id == id)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection<L>> {
        self.slab
            .get_mut(id.index())
            .filter(|connection| connection.id == id)
    }

    pub(crate) fn at(&self, index: u32) -> &Connection<L> {
        &self.slab[index as usize]
    }

    pub(crate) fn at_mut(&mut self, index: u32) -> &mut Connection<L> {
        &mut self.slab[index as usize]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Connection<L>> {
        self.slab.iter().map(|(_, connection)| connection)
    }

    /// Queues a run for a connection.
    #[inline]
    pub(crate) fn deliver<D: Dialect<Link = L>>(&mut self, index: u32, run: &mut Run, dialect: &mut D) {
        let connection = &mut self.slab[index as usize];
        let (form, messages) = (connection.form, run.messages);
        let pushed = connection.queue.push::<D>(
            run.in_form(form, dialect),
            messages,
            form,
            self.slow_reader,
            self.limits.queue_bytes_max,
            &mut self.ledger,
        );
        connection.delivered += u64::from(pushed.queued);
        self.stats.delivered += u64::from(pushed.queued);
        if pushed.dropped > 0 {
            connection.dropped += u64::from(pushed.dropped);
            let policy = match self.slow_reader {
                SlowReader::DropOldest => 0,
                SlowReader::DropNewest => 1,
                SlowReader::Disconnect => 2,
            };
            self.stats.dropped[policy] += u64::from(pushed.dropped);
        }
        if pushed.overflow {
            self.overflowed.push(connection.id);
        }
        if !connection.is_watched {
            connection.is_watched = true;
            self.watched.push(connection.id);
        }
        if !connection.is_listed {
            connection.is_listed = true;
            self.ready.push_back(connection.id);
        }
    }

    /// Queues a gRPC message of the node itself.
    pub(crate) fn answer(&mut self, index: u32, write: impl FnOnce(&mut bytes::BytesMut)) {
        let connection = &mut self.slab[index as usize];
        write(connection.queue.acks());
        if connection.queue.acks().len() > self.limits.acks_bytes_max {
            self.overflowed.push(connection.id);
        }
        self.list(index);
    }

    /// Notes that a connection has something to send, or its end.
    pub(crate) fn list(&mut self, index: u32) {
        let connection = &mut self.slab[index as usize];
        if !connection.is_listed {
            connection.is_listed = true;
            self.ready.push_back(connection.id);
        }
    }

    pub(crate) fn next_ready(&mut self) -> Option<ConnectionId> {
        while let Some(id) = self.ready.pop_front() {
            if let Some(connection) = self.get_mut(id) {
                connection.is_listed = false;
                return Some(id);
            }
        }
        None
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(crate) fn pull<D: Dialect<Link = L>>(
        &mut self,
        id: ConnectionId,
        bytes_max: usize,
        dialect: &mut D,
    ) -> Option<Bytes> {
        let connection = self
            .slab
            .get_mut(id.index())
            .filter(|connection| connection.id == id)?;
        connection
            .queue
            .pull(dialect, &mut connection.link, bytes_max, &mut self.ledger)
    }

    /// Sets how a connection ends. What waits for it is dropped where `drops_queue` says so.
    pub(crate) fn end(&mut self, index: u32, end: End, drops_queue: bool) {
        let connection = &mut self.slab[index as usize];
        if connection.is_ending() {
            return;
        }
        if drops_queue {
            connection.queue.clear(&mut self.ledger);
        }
        self.stats.ended += u64::from(end.is_error());
        connection.state = State::Ending(end);
        self.list(index);
    }

    /// Whether queues are to be looked after.
    pub(crate) fn has_watched(&self) -> bool {
        !self.watched.is_empty()
    }

    /// Copies out what has waited since the last call.
    pub(crate) fn settle(&mut self) {
        let Self {
            watched, slab, stats, ..
        } = self;
        watched.retain(|id| {
            let Some(connection) = slab.get_mut(id.index()).filter(|connection| connection.id == *id) else {
                return false;
            };
            stats.copied_out += connection.queue.settle();
            connection.is_watched = connection.is_watched && !connection.queue.is_empty();
            connection.is_watched
        });
    }
}
