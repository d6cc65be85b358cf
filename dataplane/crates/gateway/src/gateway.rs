//! The gateway of one core: what the caller sees, and who does the work.
//!
//! Invariants worth naming:
//! * The run being built goes to the queues before anything else touches a queue or another core, so that the order of a
//!   publisher's messages is the order of their effects.
//! * What a core tells itself goes through `loopback` and is dealt with before the call returns; so one core is not a special
//!   case of several.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::hash::Seed;
use bytes::Bytes;
use hashbrown::HashMap;
use ringgate_policy::{Authority, Limits};
use ringgate_state::Archive;

use crate::action::Action;
use crate::code::Code;
use crate::config::{GatewayConfig, PeerInfo, TOKEN_BYTES};
use crate::core_message::{Body, CoreMessage};
use crate::directory::Directory;
use crate::effect::{Closing, Effect, Flow};
use crate::event::EventKind;
use crate::follow::Following;
use crate::ids::{CoreId, Now, SessionId};
use crate::ledger::Ledger;
use crate::ops::barrier::Barriers;
use crate::ops::hold::Holds;
use crate::ops::introduction::Introductions;
use crate::ops::late::Latecomers;
use crate::ops::name::Names;
use crate::ops::publish::RunBuilt;
use crate::ops::recent::Recent;
use crate::ops::request::Requests;
use crate::ops::review::Review;
use crate::ops::state::State;
use crate::outgoing::{Dialect, Encoder, Outgoing};
use crate::refusal::Refusal;
use crate::session::{Sessions, Stage, after};
use crate::stats::Said;
use crate::table::Table;
use crate::timers::{Timer, Timers};

/// When agents are to leave and come back, told in `Drain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainNotice {
    /// Time left.
    pub deadline_ms: u32,
    /// When to come back.
    pub reconnect_after_ms: u32,
    /// Random time to add to it.
    pub jitter_ms: u32,
}

/// Why a payload is not passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadFault {
    /// As the operator is told.
    pub kind: EventKind,
    /// As the agent is told: what was wrong and what to do. Never with payload.
    pub message: String,
    /// Whether the same content can be sent again, made anew.
    pub retryable: bool,
}

/// The dialect in which runs are encoded: the only one so far.
pub(crate) const RUN_DIALECT: Dialect = Dialect::Agp;

/// The gateway of one core. See the crate.
pub struct Gateway {
    pub(crate) node: String,
    pub(crate) core: CoreId,
    pub(crate) cores: u16,
    pub(crate) limits: Limits,
    pub(crate) authority: Box<dyn Authority>,
    /// Counts authorities from 1: decisions of an earlier one are void.
    pub(crate) generation: u64,
    pub(crate) review: Review,
    pub(crate) token: Box<dyn FnMut() -> [u8; TOKEN_BYTES]>,
    pub(crate) sessions: Sessions,
    pub(crate) table: Table,
    pub(crate) directory: Directory,
    pub(crate) names: Names,
    pub(crate) run: RunBuilt,
    pub(crate) holds: Holds,
    pub(crate) barriers: Barriers,
    pub(crate) requests: Requests,
    pub(crate) introductions: Introductions,
    pub(crate) recent: Recent,
    pub(crate) state: State,
    /// What topics keep of what this core's agents published.
    pub(crate) archive: Archive,
    pub(crate) latecomers: Latecomers,
    pub(crate) timers: Timers,
    /// Sessions that are being handed over to another core.
    pub(crate) departing: Vec<SessionId>,
    pub(crate) loopback: VecDeque<Body>,
    /// Sessions that a `DISCONNECT` subscription ends, and that subscription's id.
    pub(crate) doomed: Vec<(SessionId, u64)>,
    pub(crate) following: Following,
    /// This core stands for the other nodes of a network.
    pub(crate) network: bool,
    effects: VecDeque<Effect>,
    numbers: u64,
    next_stall: Option<Instant>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("node", &self.node)
            .field("core", &self.core)
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// A gateway without sessions.
    ///
    /// # Panics
    /// When `config.core` is not one of `config.cores`, of which there must be 1 to [`CORES_MAX`](crate::CORES_MAX).
    pub fn new(config: GatewayConfig) -> Self {
        assert!(
            (1..=crate::CORES_MAX).contains(&config.cores),
            "a node has 1 to {} cores",
            crate::CORES_MAX
        );
        assert!(
            config.core.0 < config.cores,
            "core {} of {}",
            config.core,
            config.cores
        );
        let seed = config.seed;
        let limits = config.limits;
        Self {
            node: config.node,
            core: config.core,
            cores: config.cores,
            limits,
            authority: config.authority,
            generation: 1,
            review: Review::default(),
            token: config.token,
            sessions: Sessions::new(seed, Ledger::new(limits.queue_memory_bytes_max)),
            table: Table::new(seed, limits.match_cache_bytes_max, config.topics.clone()),
            directory: Directory::new(seed),
            names: Names::new(seed),
            run: RunBuilt::default(),
            holds: Holds::new(seed),
            barriers: Barriers::new(seed),
            requests: Requests::new(seed),
            introductions: Introductions::new(seed),
            recent: Recent::new(seed),
            state: State::new(seed, config.durable, config.topics.any_durable()),
            archive: Archive::new(seed, config.core.0, config.topics),
            latecomers: Latecomers::new(seed),
            timers: Timers::default(),
            departing: Vec::new(),
            loopback: VecDeque::new(),
            doomed: Vec::new(),
            following: Following::default(),
            network: false,
            effects: VecDeque::new(),
            numbers: 0,
            next_stall: None,
        }
    }

    /// A stream was opened. It has [`Limits::register_timeout_ms`] to say Register.
    pub fn open(&mut self, peer: PeerInfo, now: &Now) -> SessionId {
        let id = self.sessions.insert(peer);
        self.timers
            .set(after(now, self.limits.register_timeout_ms), Timer::Register(id));
        id
    }

    /// Carries out one message of an agent. Every error is told to the agent in-band.
    pub fn apply<E: Encoder>(
        &mut self,
        session: SessionId,
        action: Action<'_>,
        now: &Now,
        enc: &mut E,
    ) -> Flow {
        let Some(stage) = self.sessions.get(session).map(|session| session.stage) else {
            return Flow::Continue;
        };
        match (stage, action) {
            (Stage::Active, Action::Publish(publish)) => self.publish(session, publish, now, enc),
            (Stage::Active, action) => {
                self.flush_run(enc);
                self.dispatch(session, action, now, enc);
            }
            (Stage::Opened, Action::Register(register)) => {
                self.flush_run(enc);
                self.register(session, &register, now, enc);
            }
            (Stage::Opened, _) => {
                self.flush_run(enc);
                let refusal = Refusal::new(
                    Code::Unauthenticated,
                    "the first message of a stream must be Register",
                );
                self.end(session, refusal, enc);
            }
            // A paused session's input is held by the caller; an ended one's is ignored.
            (Stage::Claiming | Stage::Detached | Stage::Departing | Stage::Ending, _) => {}
        }
        self.finish(now, enc);
        self.flow(session)
    }

    fn dispatch<E: Encoder>(&mut self, session: SessionId, action: Action<'_>, now: &Now, enc: &mut E) {
        match action {
            Action::Register(_) => self.refuse(
                session,
                0,
                &Refusal::invalid("this stream is registered already; open another stream for another agent"),
                enc,
            ),
            Action::Subscribe(subscribe) => self.subscribe(session, &subscribe, now, enc),
            Action::Unsubscribe { id } => self.unsubscribe(session, id, enc),
            Action::Publish(publish) => self.publish(session, publish, now, enc),
            Action::Request(request) => self.request(session, &request, now, enc),
            Action::Response(response) => self.respond(session, &response, enc),
            Action::StreamOpen(open) => self.stream_open(session, &open, enc),
            Action::Chunk(chunk) => self.chunk(session, &chunk, enc),
            Action::StreamClose(close) => self.stream_close(session, &close, enc),
            Action::StreamCredit { stream, bytes } => self.stream_credit(session, stream, bytes, enc),
            Action::Introduce(introduce) => self.introduce(session, &introduce, now, enc),
            Action::Accept(accept) => self.accept(session, &accept, enc),
            Action::Reject(reject) => self.reject(session, &reject, enc),
            Action::StateGet(get) => self.state_get(session, get, now, enc),
            Action::StateWrite(write) => self.state_write(session, write, now, enc),
            Action::StateWatch(watch) => self.state_watch(session, watch, now, enc),
            Action::StateUnwatch { id } => self.state_unwatch(session, id, enc),
            Action::Status(status) => self.status(session, status, now),
            Action::CancelRequest { id } => self.cancel_request(session, id, enc),
            Action::CancelIntroduction { id } => self.cancel_introduction(session, id, enc),
        }
    }

    /// The dialect could not decode a message: `id` is what it named, or 0. `fatal` ends the stream, as does any such message
    /// before Register.
    #[allow(
        clippy::too_many_arguments,
        reason = "the fields of an Error, and what every call gets"
    )]
    pub fn invalid<E: Encoder>(
        &mut self,
        session: SessionId,
        id: u64,
        code: Code,
        message: &str,
        fatal: bool,
        now: &Now,
        enc: &mut E,
    ) -> Flow {
        self.flush_run(enc);
        let refusal = Refusal::new(code, message.to_owned());
        match self.sessions.get(session).map(|session| session.stage) {
            Some(Stage::Active) if !fatal => self.refuse(session, id, &refusal, enc),
            Some(Stage::Opened | Stage::Active) => self.end(session, refusal, enc),
            _ => {}
        }
        self.finish(now, enc);
        self.flow(session)
    }

    /// An agent's message carries something that must not be passed on: it is refused, and the operator is told. `id` is what it named.
    pub fn refuse_payload<E: Encoder>(
        &mut self,
        session: SessionId,
        id: u64,
        fault: &PayloadFault,
        now: &Now,
        enc: &mut E,
    ) -> Flow {
        self.flush_run(enc);
        match self.sessions.get(session).map(|session| session.stage) {
            Some(Stage::Active) => {
                self.tell_event(session, fault.kind, fault.message.clone());
                let refusal = Refusal {
                    retryable: fault.retryable,
                    ..Refusal::new(Code::MlsRequired, fault.message.clone())
                };
                self.refuse(session, id, &refusal, enc);
            }
            Some(Stage::Opened) => {
                let refusal = Refusal::new(
                    Code::Unauthenticated,
                    "the first message of a stream must be Register",
                );
                self.end(session, refusal, enc);
            }
            _ => {}
        }
        self.finish(now, enc);
        self.flow(session)
    }

    /// The stream ended. To be called exactly once for each session that was opened.
    pub fn close<E: Encoder>(&mut self, session: SessionId, how: Closing, now: &Now, enc: &mut E) {
        self.flush_run(enc);
        self.close_stream(session, how, now, enc);
        self.finish(now, enc);
    }

    /// A message of another core.
    pub fn receive<E: Encoder>(&mut self, from: CoreId, message: CoreMessage, now: &Now, enc: &mut E) {
        self.flush_run(enc);
        self.take_message(from, message.0, now, enc);
        self.finish(now, enc);
    }

    /// The loop turn ends: what is being collected goes to the queues.
    pub fn turn_end<E: Encoder>(&mut self, now: &Now, enc: &mut E) {
        self.flush_run(enc);
        self.flush_changes(enc);
        self.write_snapshot();
        self.finish(now, enc);
    }

    /// Does what is due. Call it at [`next_deadline`](Self::next_deadline); calling it at other times does no harm.
    pub fn tick<E: Encoder>(&mut self, now: &Now, enc: &mut E) {
        self.flush_run(enc);
        while let Some(timer) = self.timers.pop_due(now.mono) {
            self.fire(timer, now, enc);
        }
        if self.timers.wants_compaction() {
            let (requests, introductions, sessions) = (&self.requests, &self.introductions, &self.sessions);
            self.timers.compact(|timer| match timer {
                Timer::Request(number) => requests.contains(number),
                Timer::Introduction(number) => introductions.contains(number),
                Timer::Credential(session) => sessions.get(session).is_some(),
                _ => true,
            });
        }
        self.state_tick(now, enc);
        self.review_some(now, enc);
        if self.next_stall.is_none_or(|at| at <= now.mono) {
            self.sessions.settle_stalled();
            let any = self.sessions.any_watched();
            self.next_stall = any.then(|| now.mono + Duration::from_millis(self.limits.stall_ms));
        }
        self.finish(now, enc);
    }

    fn fire<E: Encoder>(&mut self, timer: Timer, now: &Now, enc: &mut E) {
        match timer {
            Timer::Register(session) => {
                if self
                    .sessions
                    .get(session)
                    .is_some_and(|session| session.stage == Stage::Opened)
                {
                    let limit = self.limits.register_timeout_ms;
                    let message = format!(
                        "no Register came within {limit} ms (limits.register_timeout_ms); send it first"
                    );
                    self.end(session, Refusal::new(Code::Unauthenticated, message), enc);
                }
            }
            Timer::Grace(session) => self.grace_over(session, enc),
            Timer::Request(number) => self.request_expired(number, enc),
            Timer::Introduction(number) => self.introduction_expired(number, enc),
            Timer::Hold { hold, session, lane } => self.hold_expired(hold, session, lane, enc),
            Timer::Credential(session) => self.credential_due(session, now, enc),
            Timer::Status(session) => self.spread_status(session, now),
        }
    }

    /// When [`tick`](Self::tick) is wanted next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let due = [
            self.timers.next(),
            self.next_stall,
            self.review_due(),
            self.state.due,
        ];
        due.into_iter().flatten().min()
    }

    /// Tells every agent that the node is about to leave.
    pub fn drain<E: Encoder>(&mut self, notice: DrainNotice, now: &Now, enc: &mut E) {
        self.flush_run(enc);
        let active: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|session| session.stage == Stage::Active)
            .map(|session| session.id)
            .collect();
        for session in active {
            let DrainNotice {
                deadline_ms,
                reconnect_after_ms,
                jitter_ms,
            } = notice;
            self.say(
                session,
                &Outgoing::Drain {
                    deadline_ms,
                    reconnect_after_ms,
                    jitter_ms,
                },
                enc,
            );
        }
        self.finish(now, enc);
    }

    /// The next thing to do for the caller. Take all of them after each call: no more than a few wait for each message applied.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The next session that got something to send since it was named here last; each once. The caller remembers the sessions it
    /// could not write everything for.
    pub fn next_ready(&mut self) -> Option<SessionId> {
        self.sessions.next_ready()
    }

    /// The next bytes to write to a session's stream, at most `bytes_max`; what is pulled counts as sent. `None` when nothing
    /// waits.
    pub fn pull<E: Encoder>(
        &mut self,
        session: SessionId,
        bytes_max: usize,
        now: &Now,
        enc: &mut E,
    ) -> Option<Bytes> {
        self.flush_run(enc);
        let (open, ledger) = self.sessions.at(session.index)?;
        if open.id != session || open.gated || open.stage == Stage::Departing {
            return None;
        }
        let pulled = open.queue.pull(bytes_max, open.peer.dialect, enc, ledger)?;
        if open.pauses.unread && open.queue.control_bytes() < self.limits.control_queue_bytes_max / 8 {
            open.pauses.unread = false;
            self.let_go(session);
        }
        if let Some(lane) = pulled.unblocked {
            self.serve_waiting(session, lane, enc);
        }
        if let Some(lane) = pulled.grouped {
            self.group_has_room(session, lane);
        }
        if let Some(lane) = pulled.hungry {
            match self.latecomers.at(session.index, lane) {
                Some(number) => self.feed_late(number, enc),
                None => self.watch_is_hungry(session, lane, enc),
            }
        }
        if !self.is_finished() {
            self.finish(now, enc);
        }
        Some(pulled.bytes)
    }

    /// Whether nothing waits for a session.
    pub fn is_empty(&self, session: SessionId) -> bool {
        self.sessions
            .get(session)
            .is_none_or(|session| session.gated || session.queue.is_empty())
    }

    /// Bytes that wait for a session.
    pub fn queued_bytes(&self, session: SessionId) -> u64 {
        self.sessions
            .get(session)
            .map_or(0, |session| session.queue.bytes())
    }

    /// Deals with what the call caused on this core itself.
    pub(crate) fn finish<E: Encoder>(&mut self, now: &Now, enc: &mut E) {
        loop {
            if !self.is_finished() {
                // What follows speaks to agents: it must not end up in the run being built.
                self.flush_run(enc);
            }
            if let Some(body) = self.loopback.pop_front() {
                self.take_message(self.core, body, now, enc);
            } else if let Some((session, subscription)) = self.doomed.pop() {
                self.end_overflowed(session, subscription, enc);
            } else {
                break;
            }
        }
        if self.next_stall.is_none() && self.sessions.any_watched() {
            self.next_stall = Some(now.mono + Duration::from_millis(self.limits.stall_ms));
        }
    }

    fn is_finished(&self) -> bool {
        self.loopback.is_empty() && self.doomed.is_empty()
    }

    /// What the caller is told of a session's input.
    fn flow(&mut self, session: SessionId) -> Flow {
        match self.sessions.get_mut(session) {
            Some(session) if session.pauses.any() => {
                session.pauses.told = true;
                Flow::Pause
            }
            _ => Flow::Continue,
        }
    }

    /// A reason to pause went away.
    pub(crate) fn let_go(&mut self, session: SessionId) {
        if let Some(session) = self.sessions.get_mut(session)
            && session.pauses.told
            && !session.pauses.any()
        {
            session.pauses.told = false;
            if session.has_stream() {
                let id = session.id;
                self.effects.push_back(Effect::Resume(id));
            }
        }
    }

    /// Says something to an agent.
    pub(crate) fn say<E: Encoder>(&mut self, session: SessionId, message: &Outgoing<'_>, enc: &mut E) {
        let Some(dialect) = self.sessions.get(session).map(|session| session.peer.dialect) else {
            return;
        };
        let frame = encode(dialect, message, enc);
        self.sessions.ledger.stats.count_said(Said::of(message));
        self.queue_frame(session, frame);
    }

    /// Queues an encoded message; a session that does not read its answers is not read from.
    pub(crate) fn queue_frame(&mut self, session: SessionId, frame: Bytes) {
        self.sessions.push_control(session, frame);
        let unread_max = self.limits.control_queue_bytes_max / 4;
        if let Some(session) = self.sessions.get_mut(session)
            && session.queue.control_bytes() > unread_max
        {
            session.pauses.unread = true;
        }
        if self.following.is_on() {
            self.followed_frame(session);
        }
    }

    /// Whether a session takes messages from others.
    pub(crate) fn check_backlog(&self, id: SessionId) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get(id) else {
            return Ok(());
        };
        let (waiting, max) = (session.queue.control_bytes(), self.limits.control_queue_bytes_max);
        if waiting <= max {
            return Ok(());
        }
        Err(Refusal::retryable(
            Code::ResourceExhausted,
            format!(
                "{} does not read: {waiting} bytes wait for it, more than {max} (limits.control_queue_bytes_max); try again later",
                session.name()
            ),
        ))
    }

    /// Answers a message with an error.
    pub(crate) fn refuse<E: Encoder>(&mut self, session: SessionId, id: u64, refusal: &Refusal, enc: &mut E) {
        self.sessions.ledger.stats.errors += 1;
        self.sessions.ledger.stats.denied += u64::from(refusal.code == Code::PermissionDenied);
        self.note_refused(session, id, refusal.code);
        self.say(
            session,
            &Outgoing::Error {
                id,
                code: refusal.code,
                message: &refusal.message,
                retryable: refusal.retryable,
                retry_after_ms: refusal.retry_after_ms,
            },
            enc,
        );
    }

    pub(crate) fn acknowledge<E: Encoder>(
        &mut self,
        session: SessionId,
        id: u64,
        receivers: u32,
        enc: &mut E,
    ) {
        self.say(
            session,
            &Outgoing::Ack {
                id,
                revision: 0,
                receivers,
            },
            enc,
        );
    }

    pub(crate) fn push_effect(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    /// Tells one core, be it this one.
    pub(crate) fn send(&mut self, core: CoreId, body: Body) {
        if core == self.core {
            self.loopback.push_back(body);
        } else if core == CoreId::NETWORK {
            self.send_network(body);
        } else {
            self.effects.push_back(Effect::ToCore {
                core,
                message: CoreMessage(body),
            });
        }
    }

    /// All cores but this.
    pub(crate) fn others(&self) -> impl Iterator<Item = CoreId> + use<> {
        let this = self.core;
        (0..self.cores).map(CoreId).filter(move |&core| core != this)
    }

    /// Tells all other cores.
    pub(crate) fn broadcast(&mut self, mut body: impl FnMut() -> Body) {
        for core in self.others() {
            self.send(core, body());
        }
    }

    /// A number unique in the node, never 0.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers * u64::from(self.cores) + u64::from(self.core.0)
    }

    /// Name and address of a registered session, shared.
    pub(crate) fn card_of(&self, session: SessionId) -> Option<Arc<crate::directory::Card>> {
        self.sessions.get(session)?.card.clone()
    }
}

/// Encodes one message by itself.
pub(crate) fn encode<E: Encoder>(dialect: Dialect, message: &Outgoing<'_>, enc: &mut E) -> Bytes {
    debug_assert_eq!(enc.pending(), 0, "the run being built was not flushed");
    enc.append(dialect, message);
    enc.take()
}

/// A table by numbers.
pub(crate) type Numbered<V> = HashMap<u64, V, Seed>;
