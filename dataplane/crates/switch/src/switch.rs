//! The switch of one core: what the caller sees.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use crate::clients::Clients;
use crate::config::SwitchConfig;
use crate::connection::State;
use crate::connections::Connections;
use crate::core_message::{Body, CoreMessage};
use crate::dialect::{Dialect, Ignored, Said};
use crate::ids::{ConnectionId, End, Peer};
use crate::interest::Interest;
use crate::notice::{Notice, Notices, Offence};
use crate::publish::RunBuilt;
use crate::stats::{ConnectionInfo, Stats};
use crate::table::Table;

/// Routes the messages of one core's connections. All methods are cheap and none blocks; time is an argument.
///
/// In each turn of its loop the caller tells what arrived ([`message`](Switch::message), [`receive`](Switch::receive), …), then
/// [`turn_end`](Switch::turn_end), then carries out what there is to do: [`next_outbound`](Switch::next_outbound), and for each
/// [`next_ready`](Switch::next_ready) connection [`pull`](Switch::pull) until it is empty, then [`end`](Switch::end).
pub struct Switch<D: Dialect> {
    pub(crate) config: SwitchConfig,
    pub(crate) dialect: D,
    pub(crate) connections: Connections<D::Link>,
    pub(crate) clients: Clients,
    pub(crate) table: Table,
    pub(crate) interest: Interest,
    pub(crate) run: RunBuilt,
    pub(crate) outbound: VecDeque<(u16, CoreMessage)>,
    notices: Notices,
    /// Connections whose greeting is awaited, in the order of their deadlines.
    greetings: VecDeque<(Instant, ConnectionId)>,
    /// When queues are looked after next.
    settle_at: Option<Instant>,
    pub(crate) now: Instant,
}

impl<D: Dialect> Switch<D> {
    /// The switch of the core that `config` names, at the moment `now`.
    pub fn new(config: SwitchConfig, dialect: D, now: Instant) -> Self {
        Self {
            connections: Connections::new(config.seed, config.slow_reader, config.limits),
            clients: Clients::new(config.seed),
            table: Table::new(config.seed),
            interest: Interest::new(config.cores),
            run: RunBuilt::default(),
            outbound: VecDeque::new(),
            notices: VecDeque::new(),
            greetings: VecDeque::new(),
            settle_at: None,
            now,
            config,
            dialect,
        }
    }

    /// A connection begins.
    ///
    /// # Errors
    /// The end to answer it with, where there are too many.
    pub fn open(&mut self, peer: Peer, now: Instant) -> Result<ConnectionId, End> {
        self.now = now;
        if self.connections.len() >= self.config.limits.connections_max {
            return Err(End::Exhausted("this node has too many connections".into()));
        }
        let link = self.dialect.open();
        let form = D::form(&link);
        if !D::GREETS {
            return Ok(self.connections.open(peer, link, State::Ready, form));
        }
        let id = self.connections.open(peer, link, State::Silent, form);
        self.greetings.push_back((now + self.config.greeting_timeout, id));
        Ok(id)
    }

    /// A message arrived on a connection, without its gRPC prefix. More may always follow: input is never paused.
    #[inline]
    pub fn message(&mut self, id: ConnectionId, message: &[u8], now: Instant) {
        self.now = now;
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if connection.is_ending() {
            return;
        }
        match self.dialect.read(&mut connection.link, message) {
            Said::Publish(publish) => self.publish(id.index, &publish),
            Said::Ignored(ignored) => self.ignore(id.index, ignored),
            Said::Subscribe { name, subscription } => self.subscribe(id, &name, subscription),
            Said::Unsubscribe { name, subscription } => self.unsubscribe(id.index, &name, subscription),
            Said::Refused { subscription, reason } => self.refuse(id.index, subscription, reason),
            Said::Greeted { reply, client } => {
                connection.form = D::form(&connection.link);
                connection.state = State::Ready;
                self.connections
                    .answer(id.index, |out| out.extend_from_slice(&reply));
                self.identify(id.index, client);
            }
            Said::End(end) => {
                if let End::Denied(reason) = &end {
                    self.notice(id.index, Offence::Denied(reason.clone()));
                }
                self.end_connection(id.index, end, true);
            }
        }
    }

    /// The client will send no more: an orderly goodbye. It gets nothing more, and the connection ends with OK.
    pub fn half_closed(&mut self, id: ConnectionId, now: Instant) {
        self.now = now;
        if self.connections.get(id).is_some() {
            self.end_connection(id.index, End::Orderly, false);
        }
    }

    /// Ends a connection for a reason of the caller's. What waits for it is dropped.
    pub fn expel(&mut self, id: ConnectionId, end: End, now: Instant) {
        self.now = now;
        if self.connections.get(id).is_some() {
            self.end_connection(id.index, end, true);
        }
    }

    /// A connection is gone; its id is void.
    pub fn closed(&mut self, id: ConnectionId, now: Instant) {
        self.now = now;
        if self.connections.get(id).is_some() {
            self.leave(id.index);
            self.connections.remove(id.index);
        }
    }

    /// Everything that arrived in this turn has been told.
    #[inline]
    pub fn turn_end(&mut self, now: Instant) {
        self.now = now;
        self.flush_run();
        self.end_overflowed();
        self.announce();
        if self.settle_at.is_none() && self.connections.has_watched() {
            self.settle_at = Some(now + self.config.limits.stall);
        }
    }

    /// A connection that has something to send, or its end, since last asked.
    pub fn next_ready(&mut self) -> Option<ConnectionId> {
        self.connections.next_ready()
    }

    /// Whether there is something for [`next_ready`](Self::next_ready), [`next_outbound`](Self::next_outbound) or
    /// [`turn_end`](Self::turn_end).
    pub fn has_pending(&self) -> bool {
        self.connections.has_ready() || !self.outbound.is_empty() || self.interest.has_changes()
    }

    /// The next bytes to send on a connection, gRPC prefixes included: at most `bytes_max`, which must not be 0. `None`: there are none now.
    #[inline]
    pub fn pull(&mut self, id: ConnectionId, bytes_max: usize) -> Option<Bytes> {
        self.connections.pull(id, bytes_max, &mut self.dialect)
    }

    /// Who is at the other end of a connection.
    pub fn peer(&self, id: ConnectionId) -> Option<&Peer> {
        self.connections.get(id).map(|connection| &connection.peer)
    }

    /// Whether [`pull`](Self::pull) has nothing now.
    pub fn is_empty(&self, id: ConnectionId) -> bool {
        self.connections
            .get(id)
            .is_none_or(|connection| connection.queue.is_empty())
    }

    /// How a connection ends, told once, when [`pull`](Self::pull) has nothing more; `None` while it goes on.
    pub fn end(&mut self, id: ConnectionId) -> Option<End> {
        let connection = self.connections.get_mut(id)?;
        match std::mem::replace(&mut connection.state, State::Ended) {
            State::Ending(end) => Some(end),
            state => {
                connection.state = state;
                None
            }
        }
    }

    /// Whether a connection is to end with an error: its end does not wait for a client that reads nothing.
    pub fn must_end(&self, id: ConnectionId) -> bool {
        self.connections
            .get(id)
            .is_some_and(|connection| matches!(&connection.state, State::Ending(end) if end.is_error()))
    }

    /// Something that the operator shall know, since last asked.
    pub fn next_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// A message to another core, by its number.
    pub fn next_outbound(&mut self) -> Option<(usize, CoreMessage)> {
        let (core, message) = self.outbound.pop_front()?;
        Some((usize::from(core), message))
    }

    /// A message from another core.
    pub fn receive(&mut self, from: usize, message: CoreMessage, now: Instant) {
        self.now = now;
        self.flush_run();
        match message.0 {
            Body::Run(run) => self.receive_run(run),
            Body::Interest { changes, barrier } => self.receive_interest(from as u16, &changes, barrier),
            Body::Answer { barrier } => self.answered(from as u16, barrier),
            Body::Identified { link, since } => self.identified_elsewhere(from as u16, link, since),
        }
    }

    /// When [`tick`](Self::tick) is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let greeting = self.greetings.front().map(|(at, _)| *at);
        match (greeting, self.settle_at) {
            (Some(greeting), Some(settle)) => Some(greeting.min(settle)),
            (greeting, settle) => greeting.or(settle),
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        self.now = now;
        while let Some(&(at, id)) = self.greetings.front()
            && at <= now
        {
            self.greetings.pop_front();
            let connection = self.connections.get(id);
            if connection.is_some_and(|connection| connection.state == State::Silent) {
                self.end_connection(id.index, End::Orderly, true);
            }
        }
        if self.settle_at.is_some_and(|at| at <= now) {
            self.connections.settle();
            self.settle_at = self
                .connections
                .has_watched()
                .then(|| now + self.config.limits.stall);
        }
    }

    /// The node is about to stop: ends every connection with OK, behind what waits for it, so that clients come back.
    pub fn drain(&mut self, now: Instant) {
        self.now = now;
        self.flush_run();
        let open: Vec<u32> = self
            .connections
            .iter()
            .map(|connection| connection.id.index)
            .collect();
        for index in open {
            self.end_connection(index, End::Orderly, false);
        }
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        Stats {
            names: self.table.len() as u64,
            subscribes_waiting: self.interest.waiting() as u64,
            queued_bytes: self.connections.ledger.queued_bytes,
            ..self.connections.stats
        }
    }

    /// A look at each connection. Called rarely.
    pub fn details(&self) -> impl Iterator<Item = ConnectionInfo> {
        self.connections.iter().map(|connection| ConnectionInfo {
            id: connection.id,
            peer: connection.peer.clone(),
            link: connection.client.link.clone(),
            node: connection.client.node.clone(),
            ready: connection.state == State::Ready,
            subscriptions: connection.subscription_count,
            published: connection.published,
            delivered: connection.delivered,
            dropped: connection.dropped,
            queued_bytes: connection.queue.bytes(),
        })
    }

    /// Drops a message without an answer.
    fn ignore(&mut self, index: u32, ignored: Ignored) {
        self.connections.stats.count_ignored(ignored);
        if let Some(offence) = Offence::of(ignored) {
            self.notice(index, offence);
        }
    }

    fn notice(&mut self, index: u32, offence: Offence) {
        let connection = self.connections.at_mut(index);
        if connection.offences.is_first(&offence) {
            self.notices.push_back(Notice {
                peer: connection.peer.clone(),
                client: connection.client.clone(),
                offence,
            });
        }
    }

    /// Ends a connection: from now on it neither sends nor gets messages.
    pub(crate) fn end_connection(&mut self, index: u32, end: End, drops_queue: bool) {
        if self.connections.at(index).is_ending() {
            return;
        }
        self.leave(index);
        self.connections.end(index, end, drops_queue);
    }

    /// Takes a connection out of routing.
    fn leave(&mut self, index: u32) {
        self.flush_run();
        self.unlist_all(index);
        self.forget_client(index);
    }

    /// Ends connections that do not read.
    fn end_overflowed(&mut self) {
        while let Some(id) = self.connections.overflowed.pop() {
            if self.connections.get(id).is_some() {
                let reason = "the client reads too slowly; its queue is full";
                self.end_connection(id.index, End::Exhausted(reason.into()), true);
            }
        }
    }
}
