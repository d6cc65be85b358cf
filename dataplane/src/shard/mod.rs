//! One core: its ring, its connections, and the loop that drives them.
//!
//! ```text
//!   each turn:  completions ─► connections ─► calls ─► service
//!               other cores ──────────────────────────►│
//!               timers ───────────────────────────────►│
//!               service ─► other cores
//!               service ─► ready calls ─► connections ─► one send each ─► one io_uring_enter
//! ```
//!
//! # Invariants worth naming
//!
//! * A connection is flushed at most once per turn and has at most one send in flight.
//! * Nothing here waits for a client. What cannot be sent stays in the service's queue, which is bounded.
//! * Within a turn everything that arrived is taken in before anything is sent, so that what belongs together goes out together.

mod builtin;
mod call;
mod clock;
mod congestion;
mod connection;
mod deadlines;
mod frames;
mod seats;
mod service;
mod spin;
#[cfg(test)]
mod testing;

use std::sync::Arc;
use std::sync::mpsc::TrySendError;
use std::time::{Duration, Instant};

use ringgate_grpc::reflection::ReflectionError;
use ringgate_uring::{Completion, ListenerId, Ring, SocketId};
use rustls::ServerConfig;

pub use service::{Answer, CallId, Closing, Flow, Handler, Now, Peer, Service, StreamTag};

use crate::mesh::Port;
use crate::observe::{Command, Connected, CoreReport, Inbox, Order, ShardCounters};
use crate::tls;
use builtin::Builtin;
use call::Wait;
use clock::Clock;
use congestion::Congestion;
use connection::{Connection, Context, Examined, Then};
use deadlines::Deadlines;
use frames::Frames;
use seats::Seats;
use spin::Spin;

/// Connections are looked at for timeouts a few at a time, so that twenty thousand of them hold up no turn for more than some
/// microseconds; each is seen about once in `SWEEP_ALL`, which is the precision of its timeouts.
const SWEEP_CONNECTIONS: usize = 128;
const SWEEP_ALL: Duration = Duration::from_millis(500);
const SWEEP_SOONEST: Duration = Duration::from_millis(2);
const SWEEP_LATEST: Duration = Duration::from_millis(100);
/// Clients whose certificate is looked at in one sweep: where the anchors have changed each takes about 100 µs.
const EXAMINED_AT_ONCE: usize = 32;
/// Turns after which the executor, which has no other task, may look after itself.
const TURNS_BEFORE_YIELD: u32 = 64;
/// How long a core with nothing to wait for sleeps at most.
const PARK_MAX: Duration = Duration::from_secs(1);
/// How often at most a failed accept is told of.
const ACCEPT_WARN_EVERY: Duration = Duration::from_secs(1);
/// How long accepting rests after the process ran out of descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Settings of a shard.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// HTTP/2 settings and limits.
    pub http2: Arc<ringgate_http2::Config>,
    /// The same for connections on which this node is the client.
    pub http2_client: Arc<ringgate_http2::Config>,
    /// Largest gRPC message taken, in bytes.
    pub message_bytes_max: u32,
    /// Bytes gathered in one send to one connection. More would delay the others and pin more for a reader that stalls.
    pub send_bytes_max: usize,
    /// Memory that the unfinished input of one connection's calls may hold.
    pub input_bytes_max: usize,
    /// How long a client may take to read one send before its connection is ended.
    pub send_timeout: Duration,
    /// How long to look for work before parking.
    pub spin: Duration,
    /// Never park.
    pub busy_poll: bool,
    /// TLS, where the listener has it.
    pub tls: Option<Arc<ServerConfig>>,
    /// gRPC services that reflection lists and health speaks for, besides its own.
    pub services: Vec<&'static str>,
}

/// What a connection may use of its shard. A macro, as it borrows fields apart from the connection's and the ring's.
macro_rules! context {
    ($shard:ident) => {
        Context {
            service: &mut $shard.service,
            builtin: &$shard.builtin,
            now: &$shard.now,
            congested: $shard.congestion.is_raised(),
            message_bytes_max: $shard.config.message_bytes_max,
            send_bytes_max: $shard.config.send_bytes_max,
            input_bytes_max: $shard.config.input_bytes_max,
            frames: &mut $shard.frames,
            deadlines: &mut $shard.new_deadlines,
            credit_stalls: &mut $shard.counters.credit_stalls,
        }
    };
}

/// One core of the gateway. See the module's documentation.
pub struct Shard<S: Service> {
    config: ShardConfig,
    ring: Ring,
    service: S,
    builtin: Builtin,
    connections: Seats,
    /// DATA frames that several of them send.
    frames: Frames,
    /// Connections whose input of this turn is to be acknowledged at once.
    quickacks: Vec<SocketId>,
    /// How often the kernel was asked to, and how often it should have been but cannot.
    quickacks_asked: u64,
    quickacks_missing: u64,
    deadlines: Deadlines,
    new_deadlines: Vec<(Instant, CallId)>,
    port: Port<S::Message>,
    inbox: Inbox,
    clock: Clock,
    now: Now,
    spin: Spin,
    next_sweep: Instant,
    /// Connections before this entry have been looked at in this round.
    swept: usize,
    /// Counts the rules that came.
    rules: u64,
    accept_warned: Option<Instant>,
    accept_rest: Option<(Instant, ListenerId)>,
    /// Calls wait because another core is too far behind.
    congestion: Congestion,
    counters: ShardCounters,
    started: Instant,
    draining: Option<Instant>,
}

impl<S: Service> Shard<S> {
    /// Puts a shard together on the thread that will run it.
    ///
    /// # Errors
    /// `config.services` names one that the descriptor set does not have.
    pub fn new(
        config: ShardConfig,
        ring: Ring,
        service: S,
        port: Port<S::Message>,
        inbox: Inbox,
    ) -> Result<Shard<S>, ReflectionError> {
        port.set_waker(ring.waker());
        let mut clock = Clock::new();
        let now = clock.now();
        Ok(Shard {
            spin: Spin::new(config.spin, config.busy_poll),
            builtin: Builtin::new(&config.services)?,
            config,
            ring,
            service,
            connections: Seats::default(),
            frames: Frames::default(),
            quickacks: Vec::new(),
            quickacks_asked: 0,
            quickacks_missing: 0,
            deadlines: Deadlines::default(),
            new_deadlines: Vec::new(),
            port,
            inbox,
            clock,
            next_sweep: now.mono,
            now,
            swept: 0,
            rules: 0,
            accept_warned: None,
            accept_rest: None,
            congestion: Congestion::default(),
            counters: ShardCounters::default(),
            started: now.mono,
            draining: None,
        })
    }

    /// Serves `listener` until told to stop.
    ///
    /// # Errors
    /// The ring failed for good.
    pub async fn run(mut self, listener: std::net::TcpListener) -> Result<(), ringgate_uring::Error> {
        self.listen(listener);
        let mut idle_since: Option<Instant> = None;
        for turn in 1u32.. {
            let worked = self.turn()?;
            if self.is_finished() {
                break;
            }
            if turn.is_multiple_of(TURNS_BEFORE_YIELD) {
                glommio::yield_if_needed().await;
            }
            if worked {
                if let Some(since) = idle_since.take() {
                    self.spin.found_work();
                    self.count_spin(since);
                }
                continue;
            }
            let since = *idle_since.get_or_insert(self.now.mono);
            if self.spin.never_parks() || self.port.has_waiting() {
                std::hint::spin_loop();
                continue;
            }
            if self.now.mono.duration_since(since) >= self.spin.budget() {
                idle_since = None;
                self.spin.found_nothing();
                self.count_spin(since);
                self.park()?;
            } else {
                std::hint::spin_loop();
            }
        }
        Ok(())
    }

    /// Accepts connections on `listener` from the next turn on.
    pub fn listen(&mut self, listener: std::net::TcpListener) {
        self.ring.listen(listener);
    }

    /// One turn of the loop, which [`run`](Shard::run) goes on with for ever; for measurements. Whether there was anything to do.
    ///
    /// # Errors
    /// The ring failed for good.
    pub fn turn(&mut self) -> Result<bool, ringgate_uring::Error> {
        self.now = self.clock.now();
        let mut worked = self.completions();
        worked |= self.hear_other_cores();
        worked |= self.timers();
        worked |= self.commands();
        worked |= self.connections.any_listed() || self.port.has_waiting() || self.service.has_pending();
        worked |= self.congestion.is_raised();
        if !worked {
            // Reaps what has become ready meanwhile; without a system call where nothing has.
            self.ring.submit()?;
            return Ok(false);
        }
        self.relieve();
        self.resume_calls();
        self.service.turn_end(&self.now);
        self.tell_other_cores();
        self.flush_connections();
        self.acknowledge();
        self.counters.turns += 1;
        self.ring.submit()?;
        Ok(true)
    }

    fn completions(&mut self) -> bool {
        let mut worked = false;
        while let Some(completion) = self.ring.next_completion() {
            worked = true;
            match completion {
                Completion::Received(received) => {
                    self.counters.receives += 1;
                    let bytes = self.ring.bytes(&received);
                    self.counters.received_bytes += bytes.len() as u64;
                    let index = received.socket.index();
                    if let Some(connection) = self.connections.get_mut(index) {
                        let mut cx = context!(self);
                        connection.received(bytes, &mut cx);
                        if connection.list_for_quickack() {
                            self.quickacks.push(received.socket);
                        }
                        self.connections.list_if_wanted(index);
                    }
                    self.ring.consumed(received);
                }
                Completion::Sent { socket, result } => self.sent(socket, result),
                Completion::Accepted { socket, peer, .. } => self.accepted(socket, peer),
                Completion::AcceptFailed {
                    listener,
                    error,
                    stopped,
                } => {
                    self.accept_failed(&error);
                    if stopped && self.draining.is_none() {
                        self.accept_rest = Some((self.now.mono + ACCEPT_REST, listener));
                    }
                }
                Completion::Ended { socket, .. } => {
                    self.with(socket.index(), |connection, cx| connection.peer_ended(cx));
                }
                Completion::Closed { socket } => {
                    self.connections.leave(socket.index());
                    self.counters.connections_closed += 1;
                }
                // What for is seen below.
                Completion::Woken => {}
            }
        }
        if !self.new_deadlines.is_empty() {
            let connections = &self.connections;
            self.deadlines.extend(self.new_deadlines.drain(..), |call, at| {
                let connection = connections.get(call.connection as usize);
                connection.is_some_and(|connection| connection.deadline_of(call.stream) == Some(at))
            });
        }
        worked
    }

    fn accepted(&mut self, socket: SocketId, address: std::net::SocketAddr) {
        if self.draining.is_some() {
            return self.ring.close(socket);
        }
        self.counters.connections_accepted += 1;
        let tls = match &self.config.tls {
            None => None,
            Some(config) => match tls::Session::new(config.clone()) {
                Ok(session) => Some(Box::new(session)),
                Err(error) => {
                    tracing::warn!(%error, "cannot start TLS");
                    return self.ring.close(socket);
                }
            },
        };
        let peer = Peer {
            address,
            encrypted: tls.is_some(),
            certificate: None,
            identity: std::cell::OnceCell::new(),
        };
        let http2 = ringgate_http2::Connection::server(self.config.http2.clone(), self.now.mono);
        let index = socket.index();
        let examined = Examined::at(self.rules, self.now.mono);
        let connection = Box::new(Connection::new(socket, peer, http2, tls, examined));
        self.connections.take(index, connection);
        self.ring.receive(socket);
        self.connections.list(index);
    }

    /// Takes over a connection on which this end is the client.
    fn connected(&mut self, connected: Connected) {
        if self.draining.is_some() {
            return;
        }
        let socket = match self.ring.adopt(connected.stream.into()) {
            Ok(socket) => socket,
            Err(error) => return tracing::warn!(%error, "cannot take over a connection to a neighbour"),
        };
        let name = rustls::pki_types::ServerName::from(connected.address.ip());
        let tls = connected
            .tls
            .map(|config| tls::Session::client(config, name))
            .transpose();
        let tls = match tls {
            Ok(tls) => tls.map(Box::new),
            Err(error) => {
                tracing::warn!(%error, "cannot start TLS with a neighbour");
                return self.ring.close(socket);
            }
        };
        let peer = Peer {
            address: connected.address,
            encrypted: tls.is_some(),
            certificate: None,
            identity: std::cell::OnceCell::new(),
        };
        let http2 = ringgate_http2::Connection::client(self.config.http2_client.clone(), self.now.mono);
        let examined = Examined::at(self.rules, self.now.mono);
        let index = socket.index();
        let connection = Box::new(Connection::new(socket, peer, http2, tls, examined));
        self.connections.take(index, connection);
        self.ring.receive(socket);
        self.with(index, |connection, cx| {
            connection.call_when_known(connected.ticket, connected.path, cx);
        });
        self.connections.list(index);
    }

    fn sent(&mut self, socket: SocketId, result: std::io::Result<usize>) {
        self.counters.sends += 1;
        self.connections.sent(socket.index());
        match result {
            Ok(bytes) => self.counters.sent_bytes += bytes as u64,
            // The connection is broken. What arrived before is taken in still, then receiving ends too.
            Err(_) => self.with(socket.index(), |connection, cx| connection.peer_ended(cx)),
        }
    }

    /// Lets a connection work, and flushes it at the end of the turn.
    fn with(&mut self, index: usize, work: impl FnOnce(&mut Connection, &mut Context<'_, S>)) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let mut cx = context!(self);
        work(connection, &mut cx);
        self.connections.list_if_wanted(index);
    }

    fn hear_other_cores(&mut self) -> bool {
        let (service, now) = (&mut self.service, &self.now);
        self.port
            .receive(|from, message| service.receive(from, message, now))
    }

    fn tell_other_cores(&mut self) {
        while let Some((core, message)) = self.service.next_outbound() {
            self.counters.core_messages += 1;
            self.port.send(core, message);
        }
        self.port.flush();
        let congested = self.port.is_congested();
        self.counters.congestions += u64::from(congested && !self.congestion.is_raised());
        self.congestion.note(congested);
    }

    /// Moves on what waits for other cores, and goes on with the calls that waited for that.
    fn relieve(&mut self) {
        self.port.flush();
        if !self.congestion.clears(self.port.is_congested()) {
            return;
        }
        for index in 0..self.connections.len() {
            let Some(connection) = self.connections.get(index) else {
                continue;
            };
            let waiting: Vec<u32> = connection.congested_calls().collect();
            for stream in waiting {
                self.with(index, |connection, cx| {
                    connection.call_resumed(stream, Wait::Congestion, cx)
                });
            }
        }
    }

    fn resume_calls(&mut self) {
        while let Some(call) = self.service.next_resumed() {
            self.with(call.connection as usize, |connection, cx| {
                connection.call_resumed(call.stream, Wait::Service, cx)
            });
        }
    }

    fn flush_connections(&mut self) {
        while let Some(call) = self.service.next_expelled() {
            self.with(call.connection as usize, |connection, cx| connection.expel(cx));
        }
        while let Some(call) = self.service.next_ready() {
            let index = call.connection as usize;
            let Some(connection) = self.connections.get_mut(index) else {
                continue;
            };
            connection.call_ready(call.stream);
            if connection.has_other_calls() {
                // They may have something to say too, which goes out in the same send.
                self.connections.list(index);
            } else {
                // At once, while what was just touched is in the cache.
                self.connections.unlist(index);
                self.flush(index);
            }
        }
        let dirty = self.connections.start_flush();
        for &index in &dirty {
            if self.connections.unlist(index as usize) {
                self.flush(index as usize);
            }
        }
        // What listed itself while others were flushed waits for the next turn.
        self.connections.end_flush(dirty);
        self.frames.clear();
    }

    /// Acknowledges what arrived from clients that wait for it. After the sends, which carry the acknowledgement where there are any.
    fn acknowledge(&mut self) {
        for socket in self.quickacks.drain(..) {
            if let Some(connection) = self.connections.get_mut(socket.index()) {
                connection.quickack_done();
            }
            if self.ring.can_quickack() {
                self.ring.quickack(socket);
                self.quickacks_asked += 1;
            } else {
                self.quickacks_missing += 1;
            }
        }
    }

    fn flush(&mut self, index: usize) {
        if self.connections.waits_for_send(index) {
            return;
        }
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let mut buffer = self.ring.send_buffer();
        let mut cx = context!(self);
        let then = connection.flush(&mut buffer, &mut cx);
        let socket = connection.socket;
        if buffer.is_empty() {
            self.ring.recycle(buffer);
            if connection.has_ready() {
                // A call got more to say while it was asked; nothing else would list the connection again.
                self.connections.list(index);
            }
        } else {
            let again = connection.wants_flush();
            self.connections.sending(index, self.now.mono, again);
            self.ring.send(socket, buffer);
        }
        match then {
            Then::Keep => {}
            Then::EndOutput => self.ring.end_output(socket),
            Then::Close => self.ring.close(socket),
        }
    }

    fn timers(&mut self) -> bool {
        let now = self.now.mono;
        let mut worked = false;
        if self
            .service
            .next_deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            self.service.tick(&self.now);
            worked = true;
        }
        while let Some(call) = self.deadlines.pop_due(now) {
            self.with(call.connection as usize, |connection, cx| {
                connection.call_expired(call.stream, cx)
            });
            worked = true;
        }
        if now >= self.next_sweep {
            worked |= self.sweep();
        }
        if let Some((at, listener)) = self.accept_rest
            && at <= now
        {
            self.accept_rest = None;
            self.ring.resume_accept(listener);
            worked = true;
        }
        worked
    }

    /// Looks at the next few connections.
    fn sweep(&mut self) -> bool {
        let mut worked = false;
        let now = self.now.mono;
        let over = self.draining.is_some_and(|deadline| deadline <= now);
        let stuck_before = now.checked_sub(self.config.send_timeout);
        let mut end = (self.swept + SWEEP_CONNECTIONS).min(self.connections.len());
        let mut examined = 0;
        for index in self.swept..end {
            if examined == EXAMINED_AT_ONCE {
                end = index;
                break;
            }
            let Some(connection) = self.connections.get(index) else {
                continue;
            };
            if connection.is_overdue(now) {
                let socket = connection.socket;
                self.ring.close(socket);
                worked = true;
                continue;
            }
            let stuck = self.connections.is_stuck(index, stuck_before);
            let rules = self.rules;
            self.with(index, |connection, cx| {
                connection.tick(cx);
                examined += usize::from(connection.examine(rules, cx));
                connection.poll_calls();
                if stuck {
                    connection.end_stuck(cx);
                }
                if over || connection.must_leave(now) {
                    connection.drain_over(cx);
                }
            });
        }
        worked |= self.connections.any_listed();
        self.swept = if end == self.connections.len() { 0 } else { end };
        let sweeps = self.connections.len().div_ceil(SWEEP_CONNECTIONS).max(1) as u32;
        self.next_sweep = match examined {
            EXAMINED_AT_ONCE => now + SWEEP_SOONEST,
            _ => now + (SWEEP_ALL / sweeps).clamp(SWEEP_SOONEST, SWEEP_LATEST),
        };
        worked
    }

    /// Counts an accept that failed, and tells of it once a second at most: a full table meets floods.
    fn accept_failed(&mut self, error: &ringgate_uring::Error) {
        self.counters.accept_failures += 1;
        let quiet = self
            .accept_warned
            .is_some_and(|at| self.now.mono < at + ACCEPT_WARN_EVERY);
        if self.draining.is_none() && !quiet {
            self.accept_warned = Some(self.now.mono);
            let failures = self.counters.accept_failures;
            tracing::warn!(%error, failures, "a connection was not accepted");
        }
    }

    fn commands(&mut self) -> bool {
        let mut worked = false;
        while let Some(command) = self.inbox.take() {
            worked = true;
            match command {
                Command::Report { sessions, reply } => {
                    let report = self.report(sessions);
                    // The one who asked may have given up.
                    if let Err(TrySendError::Full(report) | TrySendError::Disconnected(report)) =
                        reply.try_send(report)
                    {
                        self.service.return_hops(report.hops);
                    }
                }
                Command::Inspect(inspection, reply) => {
                    let _ = reply.try_send(self.service.inspect(&inspection));
                }
                Command::Drain(patience) => self.drain(patience),
                Command::Connected(connected) => self.connected(connected),
                Command::Order(order) => {
                    if matches!(order, Order::Rules(..)) {
                        self.rules += 1;
                        self.next_sweep = self.now.mono;
                    }
                    self.service.obey(order, &self.now);
                }
            }
        }
        worked
    }

    fn report(&mut self, sessions: bool) -> CoreReport {
        let mut counts = self.counters.counts();
        let idle = self.counters.spin_nanos + self.counters.park_nanos;
        let busy = (self.started.elapsed().as_nanos() as u64).saturating_sub(idle);
        counts.push(("busy_nanos", busy));
        counts.push(("connections", u64::from(self.ring.sockets_open())));
        counts.push(("quickacks", self.quickacks_asked));
        counts.push(("quickacks_missing", self.quickacks_missing));
        counts.extend(self.service.counts());
        CoreReport {
            core: self.port.core(),
            counts,
            hops: self.service.take_hops(),
            details: if sessions {
                self.service.details()
            } else {
                Vec::new()
            },
        }
    }

    fn drain(&mut self, patience: Duration) {
        if self.draining.is_some() {
            return;
        }
        self.draining = Some(self.now.mono + patience);
        self.ring.stop_listening();
        self.builtin.stop_serving();
        self.service.drain(patience, &self.now);
        for index in 0..self.connections.len() {
            self.with(index, |connection, _| connection.drain());
        }
    }

    /// Counts the time since `since` as spent looking for work. By the turns' clock, which is read anyway.
    fn count_spin(&mut self, since: Instant) {
        self.counters.spin_nanos += self.now.mono.saturating_duration_since(since).as_nanos() as u64;
    }

    fn is_finished(&self) -> bool {
        self.draining.is_some() && self.ring.sockets_open() == 0
    }

    /// When there is something to do even if nothing happens.
    fn next_deadline(&self) -> Option<Instant> {
        let sweep = (self.ring.sockets_open() > 0).then_some(self.next_sweep);
        let accept = self.accept_rest.map(|(at, _)| at);
        [self.service.next_deadline(), self.deadlines.next(), sweep, accept]
            .into_iter()
            .flatten()
            .min()
    }

    /// Sleeps until there is something to do, in the system call that hands over submissions and brings completions. The executor sleeps
    /// with it: it has no other task.
    fn park(&mut self) -> Result<(), ringgate_uring::Error> {
        self.port.falling_asleep();
        let rest = match self.next_deadline() {
            _ if self.port.has_incoming() || self.inbox.has_command() => Duration::ZERO,
            None => PARK_MAX,
            Some(deadline) => deadline.saturating_duration_since(self.now.mono).min(PARK_MAX),
        };
        if !rest.is_zero() {
            self.counters.parks += 1;
            let asleep_since = Instant::now();
            self.ring.submit_and_wait(rest)?;
            self.counters.park_nanos += asleep_since.elapsed().as_nanos() as u64;
        }
        self.port.awake();
        Ok(())
    }
}
