//! Dialects that route by hashed name, as a service of a shard: the glue of a [`Dialect`] and the [`Switch`].
//!
//! Each stream is a connection of the switch.
//!
//! Invariants worth naming:
//!
//! * Input is never paused: a client that does not read loses messages, or its stream, as the switch is configured.
//! * A client comes back after a stream that ended with OK and gives up for good after PERMISSION_DENIED, so the latter is said only to
//!   those who shall not come back.
//! * In the profile `strict` nobody has a stream without a credential that is good now; other rules are applied to open streams too.

mod audit;
mod gate;
mod labels;
mod watched;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringgate_grpc::{Code, Oversize, Request, Status};
use ringgate_policy::{Identity, Rejection};
use ringgate_switch::{ConnectionId, CoreMessage, Dialect, End, Peer as SwitchPeer, Switch, SwitchConfig};
use serde_json::{Value, json};

pub use gate::{Gate, GateError};
pub use labels::Labels;
pub use watched::Watched;

use self::audit::Audit;
use crate::observe::{Hop, Hops, Inspection, Reporter, Row, in_order};
use crate::rules::Rules;
use crate::shard::{Answer, CallId, Closing, Flow, Now, Peer, Service, StreamTag};

/// How often credentials of open streams are looked at for their end.
const EXPIRY_LOOK: Duration = Duration::from_secs(1);
/// Streams whose credentials are examined in one turn after the rules have changed: verifying a chain takes about 100 µs.
const EXAMINED_PER_TURN: usize = 32;

/// The clients of one dialect on one core.
pub struct Names<D: Dialect> {
    switch: Switch<D>,
    served: Served,
    rules: Arc<Rules>,
    audit: Audit,
    /// By the index of the connection.
    streams: Vec<Option<Stream>>,
    /// When credentials are looked at for their end; `None` while none has one.
    expiry_look: Option<Instant>,
    /// The next stream to examine because the rules have changed; `None` when all have been.
    examine_from: Option<usize>,
    unix_seconds: i64,
    /// Streams refused for want of a credential.
    turned_away: u64,
    /// Messages that were too large to be looked at.
    oversize: u64,
    watched: Watched,
}

/// What of a dialect is not its message format.
#[derive(Debug, Clone)]
pub struct Served {
    /// Full name of the gRPC service.
    pub service: &'static str,
    /// Its only method.
    pub method: &'static str,
    /// How its counts are called.
    pub labels: &'static Labels,
    /// What a client must show to open a stream; `None`: no more than the profile asks for.
    pub gate: Option<Arc<Gate>>,
}

struct Stream {
    connection: ConnectionId,
    call: CallId,
    identity: Identity,
}

impl<D: Dialect> Names<D> {
    /// The clients of the core that `config` names, of whose offences `reporter` is told. Made on that core, at the moment `now`.
    pub fn new(
        served: Served,
        dialect: D,
        config: SwitchConfig,
        rules: Arc<Rules>,
        reporter: &Reporter,
        watched: Watched,
        now: Instant,
    ) -> Names<D> {
        Names {
            audit: Audit::new(served.labels.dialect, reporter.of_core(usize::from(config.core))),
            switch: Switch::new(config, dialect, now),
            served,
            rules,
            streams: Vec::new(),
            expiry_look: None,
            examine_from: None,
            unix_seconds: 0,
            turned_away: 0,
            oversize: 0,
            watched,
        }
    }

    /// Decides by these rules from now on, also about the streams there are.
    pub(crate) fn set_rules(&mut self, rules: Arc<Rules>) {
        self.rules = rules;
        self.examine_from = Some(0);
    }

    /// Who a client is, and what it proved.
    fn identify(&self, request: &Request, peer: &Peer) -> Result<(String, Identity), Status> {
        let refused = |rejection: Rejection| {
            let text = format!("{}: {}", rejection.code, rejection.reason);
            Status::new(Code::Unauthenticated, text)
        };
        let identity = match &peer.certificate {
            Some(chain) => {
                let known = self.rules.connected(chain, &peer.identity, self.unix_seconds);
                known.map_err(refused)?
            }
            None => Identity::Declared,
        };
        let owner = match (&self.served.gate, identity.proved()) {
            (Some(gate), _) => gate.check(request)?,
            (None, Some(credential)) => format!("certificate:{}", credential.uri),
            (None, None) if self.rules.is_strict() => {
                return Err(Status::new(
                    Code::Unauthenticated,
                    "show a client certificate, or ask the operator for a password or token (keys basic_users, jwt_key)",
                ));
            }
            (None, None) => String::new(),
        };
        Ok((owner, identity))
    }

    /// As the plain handling of a message, with a look at the clock.
    #[cold]
    fn timed(&mut self, connection: ConnectionId, message: &[u8], turn: Instant) {
        let dialect = self.served.labels.dialect;
        let began = Instant::now();
        self.watched
            .record(Hop::ReceiveRoute, dialect, began.saturating_duration_since(turn));
        self.switch.message(connection, message, turn);
        self.switch.turn_end(turn);
        self.watched.record(Hop::RouteQueue, dialect, began.elapsed());
        self.watched.look_for_next();
    }

    fn stream(&self, connection: ConnectionId) -> Option<&Stream> {
        let stream = self.streams.get(connection.index())?.as_ref()?;
        (stream.connection == connection).then_some(stream)
    }

    /// Ends streams of credentials that are over or no longer good, of at most `most` streams from `from`. Where to go on.
    fn examine(&mut self, from: usize, most: usize, now: &Now) -> Option<usize> {
        let end = (from + most).min(self.streams.len());
        for index in from..end {
            let Some(stream) = &self.streams[index] else {
                continue;
            };
            if stream.identity.proved().is_none() {
                continue;
            }
            let Err(rejection) = self.rules.examine(&stream.identity, self.unix_seconds) else {
                continue;
            };
            let connection = stream.connection;
            if let Some(peer) = self.switch.peer(connection) {
                self.audit.expelled(peer, &rejection, now);
            }
            self.switch.expel(connection, expelled(&rejection), now.mono);
        }
        (end < self.streams.len()).then_some(end)
    }

    fn look_for_expired(&mut self, now: &Now) {
        let expires = |stream: &Stream| stream.identity.expires_unix();
        let mut waiting = false;
        for index in 0..self.streams.len() {
            let Some(at) = self.streams[index].as_ref().and_then(expires) else {
                continue;
            };
            if at <= self.unix_seconds {
                self.examine(index, 1, now);
            } else {
                waiting = true;
            }
        }
        self.expiry_look = waiting.then_some(now.mono + EXPIRY_LOOK);
    }
}

/// How a stream ends whose credential is not good. Who is revoked shall not come back; everybody else may, with a better one.
fn expelled(rejection: &Rejection) -> End {
    if rejection.code == ringgate_identity::Reason::Revoked.code() {
        End::Denied(rejection.reason.clone().into())
    } else {
        End::Orderly
    }
}

/// How a gRPC client sees the end of a connection.
fn status(end: End) -> Status {
    match end {
        End::Orderly => Status::OK,
        End::Denied(reason) => Status::new(Code::PermissionDenied, reason),
        End::Invalid(reason) => Status::new(Code::InvalidArgument, reason),
        End::Exhausted(reason) => Status::new(Code::ResourceExhausted, reason),
    }
}

fn connection(stream: StreamTag) -> ConnectionId {
    ConnectionId::from_bits(stream.0)
}

impl<D: Dialect + 'static> Service for Names<D> {
    type Message = CoreMessage;

    fn call(&mut self, call: CallId, request: &Request, peer: &Peer, now: &Now) -> Answer {
        if request.method() != self.served.method {
            return Answer::Refuse(request.unimplemented());
        }
        self.unix_seconds = (now.unix_nanos / 1_000_000_000) as i64;
        let (owner, identity) = match self.identify(request, peer) {
            Ok(known) => known,
            Err(status) => {
                self.turned_away += 1;
                self.audit.turned_away(peer, &status, now);
                return Answer::Refuse(status);
            }
        };
        let who = SwitchPeer {
            address: peer.address.to_string(),
            owner,
            connection: u64::from(call.connection),
        };
        let connection = match self.switch.open(who, now.mono) {
            Ok(connection) => connection,
            Err(end) => return Answer::Refuse(status(end)),
        };
        if identity.expires_unix().is_some() {
            self.expiry_look.get_or_insert(now.mono + EXPIRY_LOOK);
        }
        let index = connection.index();
        if self.streams.len() <= index {
            self.streams.resize_with(index + 1, || None);
        }
        self.streams[index] = Some(Stream {
            connection,
            call,
            identity,
        });
        Answer::Stream(StreamTag(connection.to_bits()))
    }

    fn wants_quickack(&self, _: StreamTag) -> bool {
        // All clients of these dialects leave Nagle's algorithm on.
        true
    }

    fn oversize(&self, _: StreamTag) -> Oversize {
        // A sender that is thrown out for it comes back and sends it again.
        Oversize::Skip
    }

    fn skipped(&mut self, stream: StreamTag, messages: u32) {
        self.oversize += u64::from(messages);
        let dialect = self.served.labels.dialect;
        tracing::debug!(dialect, connection = %connection(stream), messages, "messages over limits.message_bytes_max were dropped");
    }

    #[inline]
    fn message(&mut self, stream: StreamTag, message: &[u8], now: &Now) -> Flow {
        match self.watched.next() {
            false => self.switch.message(connection(stream), message, now.mono),
            true => self.timed(connection(stream), message, now.mono),
        }
        Flow::Continue
    }

    fn broken(&mut self, stream: StreamTag, status: &Status, _: &Now) {
        let dialect = self.served.labels.dialect;
        tracing::debug!(dialect, connection = %connection(stream), %status, "a stream broke");
    }

    fn half_closed(&mut self, stream: StreamTag, now: &Now) {
        self.switch.half_closed(connection(stream), now.mono);
    }

    fn closed(&mut self, stream: StreamTag, _: Closing, now: &Now) {
        let connection = connection(stream);
        if self.stream(connection).is_some() {
            self.streams[connection.index()] = None;
        }
        self.watched.forget(connection);
        self.switch.closed(connection, now.mono);
    }

    fn turn_end(&mut self, now: &Now) {
        if let Some(from) = self.examine_from {
            self.unix_seconds = (now.unix_nanos / 1_000_000_000) as i64;
            self.examine_from = self.examine(from, EXAMINED_PER_TURN, now);
        }
        self.switch.turn_end(now.mono);
        while let Some(notice) = self.switch.next_notice() {
            self.audit.noticed(notice, now);
        }
    }

    fn next_ready(&mut self) -> Option<CallId> {
        while let Some(connection) = self.switch.next_ready() {
            if let Some(call) = self.stream(connection).map(|stream| stream.call) {
                self.watched.ready(connection);
                return Some(call);
            }
        }
        None
    }

    #[inline]
    fn pull(&mut self, stream: StreamTag, bytes_max: usize) -> Option<Bytes> {
        let bytes = self.switch.pull(connection(stream), bytes_max);
        if bytes.is_some() {
            self.watched
                .pulled(connection(stream), self.served.labels.dialect);
        }
        bytes
    }

    fn is_empty(&self, stream: StreamTag) -> bool {
        self.switch.is_empty(connection(stream))
    }

    fn end(&mut self, stream: StreamTag) -> Option<Status> {
        self.switch.end(connection(stream)).map(status)
    }

    fn must_end(&self, stream: StreamTag) -> bool {
        self.switch.must_end(connection(stream))
    }

    fn has_pending(&self) -> bool {
        self.switch.has_pending() || self.examine_from.is_some()
    }

    fn next_outbound(&mut self) -> Option<(usize, CoreMessage)> {
        self.switch.next_outbound()
    }

    fn receive(&mut self, from: usize, message: CoreMessage, now: &Now) {
        self.switch.receive(from, message, now.mono);
    }

    fn next_deadline(&self) -> Option<Instant> {
        match (self.switch.next_deadline(), self.expiry_look) {
            (Some(switch), Some(look)) => Some(switch.min(look)),
            (switch, look) => switch.or(look),
        }
    }

    fn tick(&mut self, now: &Now) {
        self.switch.tick(now.mono);
        if self.expiry_look.is_some_and(|at| at <= now.mono) {
            self.unix_seconds = (now.unix_nanos / 1_000_000_000) as i64;
            self.look_for_expired(now);
        }
    }

    fn drain(&mut self, _: Duration, now: &Now) {
        self.switch.drain(now.mono);
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        let mut stats = self.switch.stats();
        stats.oversize += self.oversize;
        self.served.labels.counts(&stats, self.turned_away)
    }

    fn take_hops(&mut self) -> Hops {
        self.watched.hops.take()
    }

    fn inspect(&self, inspection: &Inspection) -> Vec<Row> {
        let Inspection::Connections { most } = inspection else {
            return Vec::new();
        };
        let dialect = self.served.labels.dialect;
        let rows = self.switch.details().map(|info| Row {
            rank: [info.queued_bytes, info.dropped],
            key: info.id.to_string(),
            json: json!({
                "session": info.id.to_string(),
                "dialect": dialect,
                "name": info.peer.owner,
                "address": info.peer.address,
                "connection": info.peer.connection,
                "queued_bytes": info.queued_bytes,
                "published": info.published,
                "dropped": info.dropped,
                "subscriptions": info.subscriptions,
            }),
        });
        let mut rows = in_order(rows.collect());
        rows.truncate(*most);
        rows
    }

    fn details(&self) -> Vec<Value> {
        let connections = self.switch.details().map(|info| {
            json!({
                "dialect": self.served.labels.dialect,
                "session": info.id.to_string(),
                "address": info.peer.address,
                "owner": info.peer.owner,
                "connection": info.peer.connection,
                "link": info.link,
                "node": info.node,
                "ready": info.ready,
                "subscriptions": info.subscriptions,
                "published": info.published,
                "delivered": info.delivered,
                "dropped": info.dropped,
                "queued_bytes": info.queued_bytes,
            })
        });
        connections.collect()
    }
}
