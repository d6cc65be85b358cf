//! Decides which messages are followed, and tells what becomes of them.
//!
//! A message is *timed* when its turn in the sample comes, and *told* when it belongs to a conversation or a tap may want it. Both are the
//! exception: what every message pays is one count, one step of the sampler, and a look at the keys of its headers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringgate_config::ObserveConfig;
use ringgate_gateway::action::{Action, Target, To};
use ringgate_gateway::{Follow, Gateway, Role, SessionId, Step};
use ringgate_policy::AgentName;
use ringgate_wire::agp::{self, Context};

use super::links::Links;
use crate::observe::{
    FlowEvent, FlowSender, FlowSource, Hop, HopKey, Hops, Kind, Sampler, Stage, Subject, Watch,
};
use crate::shard::Now;

/// The dialect that this service speaks.
pub(super) const DIALECT: &str = "agp.v1";
/// Messages of a core that wait in queues and are looked for when they leave. When there are more, the oldest are no longer looked for: their
/// receivers do not read.
const PROBES_MAX: usize = 256;
/// How often what a core may follow is given out anew: so that a burst does not take the share of a whole second.
const BUDGET_EVERY: Duration = Duration::from_millis(100);

/// A message of another core that is followed, as it travels with it.
#[derive(Debug)]
pub(super) struct Travel {
    subject: Arc<Subject>,
    sent: Instant,
}

/// Looks for a message that waits in a queue.
#[derive(Debug)]
struct Probe {
    session: SessionId,
    /// Bytes that leave before it has.
    left: u64,
    since: Instant,
    /// What the receiver had lost until then.
    dropped: u64,
    subject: Arc<Subject>,
}

/// The message that the gateway deals with now.
#[derive(Debug)]
struct Current {
    subject: Arc<Subject>,
    /// When it was decided where it goes, or when it came from another core.
    since: Instant,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tracer {
    enabled: bool,
    core: u16,
    received: [u64; Kind::ALL.len()],
    received_bytes: u64,
    sampler: Sampler,
    pub(super) hops: Hops,
    watch: Option<Arc<Watch>>,
    links: Links,
    probes: VecDeque<Probe>,
    current: Option<Current>,
    events: FlowSender,
    last: u64,
    budget: u32,
    budget_max: u32,
    budget_until: Instant,
    now: Now,
}

/// What is said of a message besides its kind.
struct Said<'a> {
    about: &'a str,
    number: u64,
    role: Option<Role>,
}

impl Tracer {
    pub(super) fn new(config: &ObserveConfig, flows: &FlowSource, core: usize, seed: u64) -> Tracer {
        let now = Instant::now();
        let budget_max = config.followed_per_second_max
            / (Duration::from_secs(1).as_millis() / BUDGET_EVERY.as_millis()) as u32;
        Tracer {
            enabled: config.enabled,
            core: core as u16,
            received: [0; Kind::ALL.len()],
            received_bytes: 0,
            sampler: Sampler::new(config.sample_one_in, seed.wrapping_add(core as u64)),
            hops: Hops::default(),
            watch: None,
            links: Links::default(),
            probes: VecDeque::new(),
            current: None,
            events: flows.open(),
            last: 0,
            budget: budget_max,
            budget_max,
            budget_until: now,
            now: Now {
                mono: now,
                unix_nanos: 0,
            },
        }
    }

    /// Counts a message.
    #[inline]
    pub(super) fn count(&mut self, kind: Kind, bytes: usize) {
        self.received[kind as usize] += 1;
        self.received_bytes += bytes as u64;
    }

    /// Messages by kind, and the bytes of all.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RECEIVED
            .into_iter()
            .zip(self.received)
            .chain([("message_bytes_received", self.received_bytes)])
    }

    /// Taps have come or gone.
    pub(super) fn set_watch(&mut self, watch: &Arc<Watch>) {
        self.watch = (!watch.filters.is_empty()).then(|| watch.clone());
    }

    /// Whether a message is followed. `session` is its sender, whose name `source` finds.
    #[inline]
    pub(super) fn look(
        &mut self,
        session: SessionId,
        kind: Kind,
        action: &Action<'_>,
        message: &[u8],
        now: &Now,
        source: impl FnOnce() -> Option<AgentName>,
    ) -> Option<Arc<Subject>> {
        if !self.enabled {
            return None;
        }
        let timed = self.sampler.is_due();
        let context = agp::context(message);
        if !timed && context.is_empty() && self.watch.is_none() && self.links.is_empty() {
            return None;
        }
        self.decide(session, kind, action, message.len(), context, timed, now, source)
    }

    #[cold]
    #[allow(
        clippy::too_many_arguments,
        reason = "what is known of a message, from one caller"
    )]
    fn decide(
        &mut self,
        session: SessionId,
        kind: Kind,
        action: &Action<'_>,
        bytes: usize,
        context: Context<'_>,
        timed: bool,
        now: &Now,
        source: impl FnOnce() -> Option<AgentName>,
    ) -> Option<Arc<Subject>> {
        let said = said(action);
        let before = said.role.and_then(|role| match kind {
            // A new one by this number is another than the one before.
            Kind::Request | Kind::Introduce | Kind::StreamOpen => {
                self.links.remove(session, role, said.number);
                None
            }
            _ => self.links.get(session, role, said.number).cloned(),
        });
        let mut conversation = (!context.conversation.is_empty()).then(|| Arc::from(context.conversation));
        let mut trace = (!context.traceparent.is_empty()).then(|| Arc::from(context.traceparent));
        if let Some(before) = &before {
            conversation = conversation.or_else(|| before.conversation.clone());
            trace = trace.or_else(|| before.trace.clone());
        }
        let next = self.last + 1;
        let about = match (said.about, &before) {
            // An answer is for who asked.
            ("", Some(before)) => before.source.as_ref().map_or("", |source| source.as_str()),
            (about, _) => about,
        };
        let thread = conversation
            .as_deref()
            .or_else(|| trace.as_deref().and_then(|trace: &str| trace.get(3..35)));
        let wanted = thread.is_some()
            || self
                .watch
                .as_ref()
                .is_some_and(|watch| watch.may_want(about, thread, next));
        let told = wanted && self.may_follow(now);
        self.last = next;
        if !timed && !told {
            return None;
        }
        Some(Arc::new(Subject {
            id: u64::from(self.core) << 48 | next,
            kind,
            dialect: DIALECT,
            source: source(),
            about: about.into(),
            number: said.number,
            bytes: bytes as u32,
            conversation,
            trace,
            follows: before.map(|before| before.id),
            told,
            timed,
        }))
    }

    /// Takes from the budget, or counts what it had no room for.
    fn may_follow(&mut self, now: &Now) -> bool {
        if self.budget_until <= now.mono {
            self.budget_until = now.mono + BUDGET_EVERY;
            self.budget = self.budget_max;
        }
        if self.budget == 0 {
            self.events.skip();
            return false;
        }
        self.budget -= 1;
        true
    }

    /// A message of an agent is given to the gateway.
    pub(super) fn begin(&mut self, subject: Arc<Subject>, now: &Now) {
        self.now = *now;
        let since = Instant::now();
        let nanos = nanos_since(now.mono, since);
        self.record(Hop::ReceiveRoute, &subject, nanos);
        self.tell(&subject, Stage::Received, since, nanos, None);
        self.current = Some(Current { subject, since });
    }

    /// A message of another core is given to the gateway.
    pub(super) fn arrive(&mut self, travel: Travel, now: &Now) {
        self.now = *now;
        let since = Instant::now();
        let nanos = nanos_since(travel.sent, since);
        self.record(Hop::CrossCore, &travel.subject, nanos);
        self.tell(&travel.subject, Stage::Crossed, since, nanos, None);
        self.current = Some(Current {
            subject: travel.subject,
            since,
        });
    }

    /// The gateway has dealt with it; its steps come now.
    pub(super) fn routed(&mut self) {
        let Some(Current { subject, since }) = &self.current else {
            return;
        };
        let (subject, nanos) = (subject.clone(), nanos_since(*since, Instant::now()));
        self.record(Hop::RouteQueue, &subject, nanos);
    }

    /// All its steps were told. What the gateway is to tell meanwhile.
    pub(super) fn end(&mut self) -> Follow {
        self.current = None;
        match self.links.is_empty() {
            true => Follow::Off,
            false => Follow::Errors,
        }
    }

    /// What goes with a message to another core.
    pub(super) fn travel(&self) -> Option<Travel> {
        let current = self.current.as_ref()?;
        Some(Travel {
            subject: current.subject.clone(),
            sent: Instant::now(),
        })
    }

    /// A step of the message that the gateway deals with, or an error out of the blue.
    pub(super) fn step(&mut self, step: Step, name: impl Fn(SessionId) -> Option<AgentName>) {
        let Some(current) = &self.current else {
            return self.late(step, name);
        };
        let (subject, since) = (current.subject.clone(), current.since);
        let (session, stage) = match step {
            Step::Queued {
                session,
                subscription,
                waiting,
                dropped,
            } => {
                self.probe(session, waiting, dropped, &subject);
                (Some(session), Stage::Queued { subscription })
            }
            Step::Dropped {
                session,
                subscription,
                policy,
                messages,
                this,
            } => {
                let stage = Stage::Dropped {
                    subscription,
                    policy,
                    messages,
                    this,
                };
                (Some(session), stage)
            }
            Step::Held {
                session,
                subscription,
            } => (Some(session), Stage::Held { subscription }),
            Step::More { receivers } => (None, Stage::More { receivers }),
            Step::Refused { session, code, .. } => (Some(session), Stage::Refused { code }),
            Step::Numbered {
                session,
                number,
                role,
            } => {
                if subject.told {
                    self.links.put(session, role, number, subject);
                }
                return;
            }
        };
        let at = Instant::now();
        self.tell(
            &subject,
            stage,
            at,
            nanos_since(since, at),
            session.and_then(name),
        );
    }

    /// An error that is not about a message just received: nobody answered, or the peer left.
    fn late(&mut self, step: Step, name: impl Fn(SessionId) -> Option<AgentName>) {
        let Step::Refused { session, id, code } = step else {
            return;
        };
        let asked = self.links.remove(session, Role::Asked, id);
        if let Some(subject) = asked.or_else(|| self.links.remove(session, Role::Stream, id)) {
            self.tell(
                &subject,
                Stage::Refused { code },
                Instant::now(),
                0,
                name(session),
            );
        }
    }

    fn probe(&mut self, session: SessionId, left: u64, dropped: u64, subject: &Arc<Subject>) {
        if self.probes.len() == PROBES_MAX {
            self.probes.pop_front();
        }
        self.probes.push_back(Probe {
            session,
            left,
            since: Instant::now(),
            dropped,
            subject: subject.clone(),
        });
    }

    /// Bytes of a session's queue were handed to a send.
    #[inline]
    pub(super) fn pulled(&mut self, session: SessionId, bytes: usize, gateway: &Gateway) {
        if !self.probes.is_empty() {
            self.look_for(session, bytes as u64, gateway);
        }
    }

    #[cold]
    fn look_for(&mut self, session: SessionId, bytes: u64, gateway: &Gateway) {
        let mut at = 0;
        while at < self.probes.len() {
            let probe = &mut self.probes[at];
            if probe.session != session {
                at += 1;
            } else if probe.left > bytes {
                probe.left -= bytes;
                at += 1;
            } else if let Some(probe) = self.probes.remove(at) {
                let now = Instant::now();
                let nanos = nanos_since(probe.since, now);
                let dropped_meanwhile = gateway.dropped(session) - probe.dropped;
                if dropped_meanwhile == 0 {
                    self.record(Hop::QueueWire, &probe.subject, nanos);
                }
                let stage = Stage::Written { dropped_meanwhile };
                self.tell(&probe.subject, stage, now, nanos, gateway.name_of(session));
            }
        }
    }

    /// A session's stream is gone.
    pub(super) fn forget(&mut self, session: SessionId) {
        self.probes.retain(|probe| probe.session != session);
        self.links.forget(session);
    }

    /// The turn's time, by which events are dated.
    #[inline]
    pub(super) fn set_now(&mut self, now: &Now) {
        self.now = *now;
    }

    fn record(&mut self, hop: Hop, subject: &Subject, nanos: u64) {
        if subject.timed {
            let key = HopKey {
                hop,
                dialect: DIALECT,
                kind: subject.kind.name(),
            };
            self.hops.record(key, nanos);
        }
    }

    fn tell(
        &mut self,
        subject: &Arc<Subject>,
        stage: Stage,
        at: Instant,
        nanos: u64,
        receiver: Option<AgentName>,
    ) {
        if subject.told {
            let event = FlowEvent {
                subject: subject.clone(),
                stage,
                core: self.core,
                unix_nanos: self.now.unix_nanos + nanos_since(self.now.mono, at),
                nanos,
                receiver,
            };
            self.events.tell(event);
        }
    }
}

fn nanos_since(from: Instant, to: Instant) -> u64 {
    to.saturating_duration_since(from).as_nanos() as u64
}

fn said<'a>(action: &Action<'a>) -> Said<'a> {
    let (about, number, role) = match action {
        Action::Register(register) => (register.name, 0, None),
        Action::Subscribe(subscribe) => (subscribe.pattern, subscribe.id, None),
        Action::Unsubscribe { id } => ("", *id, None),
        Action::Publish(publish) => (publish.topic, publish.id, None),
        Action::Request(request) => (target(&request.target), request.id, Some(Role::Asked)),
        Action::Response(response) => ("", response.request, Some(Role::Answers)),
        Action::StreamOpen(open) => (target(&open.target), open.stream, Some(Role::Stream)),
        Action::Chunk(chunk) => ("", chunk.stream, Some(Role::Stream)),
        Action::StreamClose(close) => ("", close.stream, Some(Role::Stream)),
        Action::StreamCredit { stream, .. } => ("", *stream, Some(Role::Stream)),
        Action::Introduce(introduce) => (target(&introduce.target), introduce.id, Some(Role::Asked)),
        Action::Accept(accept) => ("", accept.introduction, Some(Role::Answers)),
        Action::Reject(reject) => ("", reject.introduction, Some(Role::Answers)),
        Action::CancelRequest { id } | Action::CancelIntroduction { id } => ("", *id, Some(Role::Asked)),
        _ => ("", 0, None),
    };
    Said { about, number, role }
}

fn target<'a>(target: &Target<'a>) -> &'a str {
    match target.to {
        To::Agent(name) | To::Service(name) | To::Capability(name) | To::Channel(name) => name,
    }
}

/// How the counts of [`Kind::ALL`] are called.
const RECEIVED: [&str; Kind::ALL.len()] = [
    "received_register",
    "received_subscribe",
    "received_unsubscribe",
    "received_publish",
    "received_request",
    "received_response",
    "received_stream_open",
    "received_chunk",
    "received_stream_close",
    "received_stream_credit",
    "received_introduce",
    "received_accept",
    "received_reject",
    "received_status",
    "received_cancel",
    "received_state",
    "received_invalid",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_called_as_their_kinds_are() {
        for (kind, name) in Kind::ALL.into_iter().zip(RECEIVED) {
            assert_eq!(format!("received_{}", kind.name()), name);
            assert_eq!(Kind::ALL[kind as usize], kind);
        }
    }
}
