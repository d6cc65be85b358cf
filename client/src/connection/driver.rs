//! The task that owns the connection.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use ringgate_proto::agp::v1 as proto;
use ringgate_proto::agp::v1::agent_message::Body as Said;
use ringgate_proto::agp::v1::gateway_message::Body as Heard;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::dial::{Connection, dial};
use super::succession::Succession;
use super::tables::{Accepting, Tables, Watching, answer};
use super::{Command, Control, Epoch, Handed};
use crate::agent::Inboxes;
use crate::backoff::Backoff;
use crate::config::Config;
use crate::credential::Shown;
use crate::introduce::Introduced;
use crate::serve::Forwarded;
use crate::stream::{Opened, StreamState};
use crate::subscription::{Gap, Notification, SubscriptionState};
use crate::{Code, ConnectionState, Error};

/// Commands taken at once: enough to fill a frame, few enough that inbound messages need not wait long.
const COMMANDS_AT_ONCE: usize = 64;

/// How long [`Agent::close`](crate::Agent::close) waits for the gateway to end its side.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

type Commands = (mpsc::Receiver<Command>, mpsc::UnboundedReceiver<Control>);

/// See the module `connection`.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(super) config: Arc<Config>,
    inboxes: Arc<Inboxes>,
    commands: mpsc::Receiver<Command>,
    controls: mpsc::UnboundedReceiver<Control>,
    state: watch::Sender<ConnectionState>,
    ended: Arc<OnceLock<Error>>,
    connection: Option<Connection>,
    epoch: Epoch,
    pub(super) resume_token: Bytes,
    pub(super) tables: Tables,
    /// Messages that did not fit into the outbound channel; while there are any, no command is taken.
    pub(super) pending: VecDeque<proto::AgentMessage>,
    /// Notifications for subscriptions that block; while there are any, nothing is received.
    pub(super) blocked: VecDeque<(Arc<SubscriptionState>, Notification)>,
    pub(super) backoff: Backoff,
    pub(super) succession: Succession,
    /// What was shown on the connection of the moment, or the last one.
    shown: Option<Shown>,
    connected_at: Instant,
    /// The wait that the gateway asked for, after its connection has ended.
    drain_wait: Option<Duration>,
    closers: Vec<oneshot::Sender<()>>,
}

/// Why a connection ended.
enum End {
    /// By the application.
    Closed,
    /// By the gateway or the network.
    Lost(Error),
    /// It stands, but there is a better credential.
    Outdated(Box<Connection>),
}

impl Driver {
    /// Makes the first connection.
    pub(crate) async fn connect(
        config: Arc<Config>,
        inboxes: Arc<Inboxes>,
        (commands, controls): Commands,
        state: watch::Sender<ConnectionState>,
        ended: Arc<OnceLock<Error>>,
    ) -> Result<(Driver, proto::Registered), Error> {
        let (connection, registered) = dial(&config, Bytes::new()).await?;
        let driver = Driver {
            backoff: Backoff::new(config.backoff.0, config.backoff.1),
            succession: Succession::new(&config, connection.shown),
            shown: connection.shown,
            connected_at: Instant::now(),
            config,
            inboxes,
            commands,
            controls,
            state,
            ended,
            connection: Some(connection),
            epoch: Epoch(1),
            resume_token: registered.resume_token.clone(),
            tables: Tables::default(),
            pending: VecDeque::new(),
            blocked: VecDeque::new(),
            drain_wait: None,
            closers: Vec::new(),
        };
        Ok((driver, registered))
    }

    /// Runs until the agent is closed.
    pub(crate) async fn drive(mut self) {
        while let Some(connection) = self.connection.take() {
            match self.run(connection).await {
                End::Outdated(connection) => self.connection = self.change_over(*connection).await,
                End::Lost(reason) => {
                    self.lost();
                    self.connection = self.reconnect(reason).await;
                }
                End::Closed => self.lost(),
            }
        }
        self.finish();
    }

    /// Carries messages in both directions until the connection ends.
    async fn run(&mut self, mut connection: Connection) -> End {
        loop {
            if self.flush(&connection.outbound).is_err() {
                return End::Lost(Error::ConnectionLost);
            }
            if self
                .succession
                .is_now(|| self.pending.is_empty() && self.blocked.is_empty() && self.tables.is_quiet())
            {
                return End::Outdated(Box::new(connection));
            }
            match self.step(&mut connection).await {
                Some(End::Closed) => {
                    self.close(connection).await;
                    return End::Closed;
                }
                Some(end) => return end,
                None => {}
            }
        }
    }

    /// Waits for the next thing to do, and does it.
    async fn step(&mut self, connection: &mut Connection) -> Option<End> {
        tokio::select! {
            message = connection.inbound.message(), if self.blocked.is_empty() => match message {
                Ok(Some(message)) => self.hear(message),
                Ok(None) => return Some(End::Lost(Error::ConnectionLost)),
                Err(status) => return Some(End::Lost(Error::status(&self.config.url, &status))),
            },
            () = room(&self.blocked), if !self.blocked.is_empty() => self.unblock(),
            permit = connection.outbound.reserve(), if !self.pending.is_empty() => {
                if let (Ok(permit), Some(message)) = (permit, self.pending.pop_front()) {
                    permit.send(message);
                }
            }
            Some(control) = self.controls.recv() => {
                self.control(control);
                if !self.closers.is_empty() {
                    return Some(End::Closed);
                }
            }
            command = self.commands.recv(), if self.pending.is_empty() => match command {
                Some(command) => self.take(command),
                None => return Some(End::Closed),
            },
            () = self.succession.step() => {}
        }
        None
    }

    /// Sends what waits, as far as there is room. An error says that the connection is gone.
    fn flush(&mut self, outbound: &mpsc::Sender<proto::AgentMessage>) -> Result<(), ()> {
        while let Some(message) = self.pending.pop_front() {
            match outbound.try_send(message) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(message)) => {
                    self.pending.push_front(message);
                    break;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => return Err(()),
            }
        }
        Ok(())
    }

    /// Takes a command and those right behind it.
    fn take(&mut self, first: Command) {
        self.command(first);
        while self.pending.len() < COMMANDS_AT_ONCE
            && let Ok(command) = self.commands.try_recv()
        {
            self.command(command);
        }
    }

    /// Sends what was handed in before, then ends the stream and waits for the gateway to do so.
    async fn close(&mut self, connection: Connection) {
        let Connection {
            outbound,
            mut inbound,
            ..
        } = connection;
        self.commands.close();
        while let Ok(control) = self.controls.try_recv() {
            self.control(control);
        }
        while let Ok(command) = self.commands.try_recv() {
            self.command(command);
        }
        let goodbye = async {
            while let Some(message) = self.pending.pop_front() {
                if outbound.send(message).await.is_err() {
                    return;
                }
            }
            drop(outbound);
            while let Ok(Some(_)) = inbound.message().await {}
        };
        // A gateway that does not answer is left behind.
        let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
    }

    /// Connects again, and sees to the subscriptions. `None` if that is not wanted or not possible.
    pub(super) async fn reconnect(&mut self, reason: Error) -> Option<Connection> {
        let mut reason = reason;
        // One that was lost soon after counts as a failure: else an agent could connect in a loop.
        if self.connected_at.elapsed() > self.config.backoff.1 {
            self.backoff.reset();
        }
        let mut wait = self.drain_wait.take();
        self.state.send_replace(ConnectionState::Reconnecting);
        loop {
            if !self.config.reconnect || (is_final(&reason) && !self.has_better()) {
                let _ = self.ended.set(reason);
                return None;
            }
            let wait = wait.take().unwrap_or_else(|| self.backoff.next(fastrand::f64()));
            tracing::info!(%reason, attempts = self.backoff.attempts(), ?wait, "connecting again");
            if !self.pause(Instant::now() + wait).await {
                return None;
            }
            match dial(&self.config, self.resume_token.clone()).await {
                Ok((connection, registered)) => {
                    self.resumed(&connection, &registered);
                    return Some(connection);
                }
                Err(error) => reason = error,
            }
        }
    }

    /// Whether another credential can be shown than the one that was refused.
    fn has_better(&self) -> bool {
        match (&self.config.presenter, &self.shown) {
            (Some(presenter), Some(shown)) => presenter.is_outdated(shown),
            _ => false,
        }
    }

    /// Waits, while nothing is connected. False if the application wants no more.
    async fn pause(&mut self, until: Instant) -> bool {
        loop {
            tokio::select! {
                () = sleep_until(until) => return !self.commands.is_closed(),
                control = self.controls.recv() => match control {
                    Some(control) => self.control(control),
                    None => return false,
                },
            }
            if !self.closers.is_empty() {
                return false;
            }
        }
    }

    /// A new connection stands: subscribes again where the gateway has forgotten, and where it has not answered.
    pub(super) fn resumed(&mut self, connection: &Connection, registered: &proto::Registered) {
        self.shown = connection.shown;
        self.drain_wait = None;
        self.succession = Succession::new(&self.config, connection.shown);
        self.epoch = Epoch(self.epoch.0 + 1);
        self.connected_at = Instant::now();
        self.resume_token = registered.resume_token.clone();
        self.pending.clear();
        for route in self.tables.routes.iter() {
            if !registered.resumed && route.done.is_none() {
                route.state.interrupted();
            }
            if !registered.resumed || route.done.is_some() {
                self.pending
                    .push_back(message(Said::Subscribe(route.state.subscribe.clone())));
            }
        }
        for watching in self.tables.watches.values() {
            // Watches end with their stream.
            if watching.state.moves() {
                self.pending
                    .push_back(message(Said::StateWatch(watching.state.watch())));
            }
        }
        self.state.send_replace(ConnectionState::Connected);
        tracing::info!(
            resumed = registered.resumed,
            node = registered.node,
            "connected again"
        );
    }

    /// Tells everybody that it is over.
    fn finish(mut self) {
        self.state.send_replace(ConnectionState::Closed);
        let reason = self.ended.get().cloned();
        for route in self.tables.routes.drain() {
            let error = reason.clone().unwrap_or(Error::Closed);
            route.state.end(reason.clone().map_or(Ok(()), Err));
            if let Some(done) = route.done {
                answer(done, Err(error));
            }
        }
        for (_, watching) in self.tables.watches.drain() {
            let error = reason.clone().unwrap_or(Error::Closed);
            watching.state.end(reason.clone().map_or(Ok(()), Err));
            if let Some(done) = watching.done {
                answer(done, Err(error));
            }
        }
        self.inboxes.requests.close();
        self.inboxes.streams.close();
        self.inboxes.introductions.close();
        for closer in self.closers.drain(..) {
            let _ = closer.send(());
        }
    }

    fn say(&mut self, body: Said) {
        self.pending.push_back(message(body));
    }

    /// Says something that means nothing on another connection.
    fn say_in_session(&mut self, handed: Handed) {
        if handed.epoch != self.epoch {
            return;
        }
        match &handed.body {
            Said::Response(response) => _ = self.tables.incoming.remove(&response.request),
            Said::StreamClose(close) => _ = self.tables.streams.remove(&close.stream),
            _ => {}
        }
        self.say(handed.body);
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Say(body) => self.say(body),
            Command::SayInSession(handed) => self.say_in_session(handed),
            // Whoever waited may have given up while the command did.
            Command::PublishAcked { publish, done } => {
                self.tables.publishes.insert(publish.id, done);
                self.say(Said::Publish(publish));
            }
            Command::Subscribe { state, done } => {
                if !done.is_closed() {
                    self.say(Said::Subscribe(state.subscribe.clone()));
                    self.tables.routes.insert(state, done);
                }
            }
            Command::Unsubscribe { id, done } => self.unsubscribe(id, Some(done)),
            Command::Request { request, done } => {
                if !done.is_closed() {
                    self.tables.requests.insert(request.id, done);
                    self.say(Said::Request(request));
                }
            }
            Command::AskState { id, body, done } => {
                self.tables.asks.insert(id, done);
                self.say(body);
            }
            Command::Watch { state, done } => {
                self.say(Said::StateWatch(state.watch()));
                self.tables.watches.insert(state.id, Watching { state, done });
            }
            Command::OpenStream { open, done } => {
                let stream = Arc::new(StreamState::new(open.stream, self.epoch, 0));
                if done.send(Arc::clone(&stream)).is_ok() {
                    self.tables.streams.insert(open.stream, stream);
                    self.say(Said::StreamOpen(open));
                }
            }
            Command::Introduce { introduce, done } => {
                if !done.is_closed() {
                    self.tables.introductions.insert(introduce.id, done);
                    self.say(Said::Introduce(introduce));
                }
            }
            Command::Accept {
                accept,
                epoch,
                source,
                done,
            } => {
                if epoch != self.epoch {
                    return answer(done, Err(Error::ConnectionLost));
                }
                self.tables.accepts.retain(|accept| !accept.done.is_closed());
                self.tables.accepts.push(Accepting {
                    introduction: accept.introduction,
                    source,
                    done,
                });
                self.say(Said::Accept(accept));
            }
        }
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::SayInSession(handed) => self.say_in_session(handed),
            Control::Unsubscribe(id) => self.unsubscribe(id, None),
            Control::Unwatch(id) => {
                if self.tables.watches.remove(&id).is_some() {
                    self.say(Said::StateUnwatch(proto::StateUnwatch { id }));
                }
            }
            Control::CancelRequest(id) => {
                if self.tables.requests.remove(&id).is_some() {
                    self.say_cancel(proto::cancel::What::Request(id));
                }
            }
            Control::CancelIntroduction(id) => {
                if self.tables.introductions.remove(&id).is_some() {
                    self.say_cancel(proto::cancel::What::Introduction(id));
                }
            }
            Control::Close(done) => self.closers.push(done),
        }
    }

    fn say_cancel(&mut self, what: proto::cancel::What) {
        self.say(Said::Cancel(proto::Cancel { what: Some(what) }));
    }

    fn unsubscribe(&mut self, id: u64, done: Option<super::Done<()>>) {
        match self.tables.routes.remove(id) {
            Some(route) => {
                route.state.end(Ok(()));
                self.say(Said::Unsubscribe(proto::Unsubscribe { id }));
                if let Some(done) = done {
                    self.tables.unsubscribes.insert(id, done);
                }
            }
            // Ended before.
            None => done.into_iter().for_each(|done| answer(done, Ok(()))),
        }
    }

    pub(super) fn hear(&mut self, message: proto::GatewayMessage) {
        let Some(body) = message.body else { return };
        match body {
            Heard::Ack(ack) => self.tables.on_ack(ack),
            Heard::Error(error) if self.restarts(&error) => {}
            Heard::Error(error) => {
                if let Some(error) = self.tables.on_error(error) {
                    tracing::warn!(%error, "the gateway reports an error");
                }
            }
            Heard::Notify(notify) => {
                self.tables
                    .routes
                    .deliver(Notification::new(notify), &mut self.blocked);
            }
            Heard::Forward(forward) => self.on_forward(forward),
            Heard::Deliver(deliver) => self.tables.on_deliver(deliver),
            Heard::StreamOpen(open) => self.on_stream_open(open),
            Heard::Chunk(chunk) => self.on_chunk(chunk),
            Heard::StreamClose(close) => self.tables.on_stream_close(close),
            Heard::StreamCredit(credit) => {
                if let Some(stream) = self.tables.streams.get(&credit.stream) {
                    stream.grant(credit.bytes);
                    stream.opened();
                }
            }
            Heard::Introduce(introduce) => self.on_introduce(introduce),
            Heard::Connected(connected) => self.tables.on_connected(connected),
            Heard::Rejected(reject) => self.tables.on_rejected(reject),
            Heard::Gap(gap) => {
                if let Some(watching) = self.tables.watches.get(&gap.subscription) {
                    watching.state.restart();
                } else if let Some(route) = self.tables.routes.get_mut(gap.subscription) {
                    route.state.gap(Gap::new(gap));
                }
            }
            Heard::Drain(drain) => self.on_drain(&drain),
            Heard::Cancel(cancel) => self.tables.on_cancel(cancel),
            Heard::StateValue(value) => self.tables.on_value(value),
            Heard::StateEvent(event) => self.on_event(event),
            // A second one says nothing new.
            Heard::Registered(_) => {}
        }
    }

    /// Where a watch was to go on, the changes are gone: it begins anew.
    fn restarts(&mut self, error: &proto::Error) -> bool {
        let Some(watching) = self.tables.watches.get(&error.id) else {
            return false;
        };
        // Who began it with a revision is told that it is gone.
        if error.code() != Code::Compacted || watching.done.is_some() {
            return false;
        }
        watching.state.restart();
        let watch = watching.state.watch();
        self.say(Said::StateWatch(watch));
        true
    }

    fn on_event(&mut self, event: proto::StateEvent) {
        let id = event.id;
        if let Some(watching) = self.tables.watches.get(&id)
            && !watching.state.push(event)
        {
            self.say(Said::StateUnwatch(proto::StateUnwatch { id }));
        }
    }

    fn on_forward(&mut self, forward: proto::Forward) {
        let number = forward.request;
        let (cancel, cancelled) = watch::channel(false);
        let forwarded = Forwarded {
            forward,
            epoch: self.epoch,
            cancelled,
        };
        if self.inboxes.requests.push(forwarded).is_ok() {
            self.tables.incoming.insert(number, cancel);
            return;
        }
        self.say(Said::Response(proto::Response {
            request: number,
            code: Code::ResourceExhausted.into(),
            message: "the agent has too many requests waiting: try again later".into(),
            ..Default::default()
        }));
    }

    fn on_stream_open(&mut self, open: proto::StreamOpen) {
        let number = open.stream;
        let state = Arc::new(StreamState::new(number, self.epoch, open.credit_bytes));
        if self
            .inboxes
            .streams
            .push(Opened {
                open,
                state: Arc::clone(&state),
            })
            .is_ok()
        {
            self.tables.streams.insert(number, state);
            return;
        }
        self.end_stream(number, "the agent has too many streams waiting: try again later");
    }

    fn on_chunk(&mut self, chunk: proto::Chunk) {
        let Some(stream) = self.tables.streams.get(&chunk.stream) else {
            return;
        };
        if stream.push(chunk.payload) {
            return;
        }
        let message = "too many chunks are waiting: send fewer and larger ones";
        stream.end(Err(Error::Overflow));
        self.tables.streams.remove(&chunk.stream);
        self.end_stream(chunk.stream, message);
    }

    fn end_stream(&mut self, stream: u64, message: &str) {
        let code = Code::ResourceExhausted.into();
        self.say(Said::StreamClose(proto::StreamClose {
            stream,
            code,
            message: message.into(),
        }));
    }

    fn on_introduce(&mut self, introduce: proto::Introduce) {
        let introduction = introduce.introduction;
        if self
            .inboxes
            .introductions
            .push(Introduced {
                introduce,
                epoch: self.epoch,
            })
            .is_err()
        {
            self.say(Said::Reject(proto::Reject {
                introduction,
                code: Code::ResourceExhausted.into(),
                message: "the agent has too many introductions waiting: try again later".into(),
                ..Default::default()
            }));
        }
    }

    /// The gateway will close soon. What is under way goes on until it does; then this agent comes back when it was asked to.
    fn on_drain(&mut self, drain: &proto::Drain) {
        let jitter = f64::from(drain.jitter_ms) * fastrand::f64();
        let wait =
            Duration::from_millis(drain.reconnect_after_ms.into()) + Duration::from_millis(jitter as u64);
        self.drain_wait = Some(wait);
        self.state.send_replace(ConnectionState::Draining);
    }

    /// Hands over what blocked; what blocks again stays.
    pub(super) fn unblock(&mut self) {
        while let Some((state, notification)) = self.blocked.pop_front() {
            if let Some(notification) = state.push(notification) {
                return self.blocked.push_front((state, notification));
            }
        }
    }
}

pub(super) fn message(body: Said) -> proto::AgentMessage {
    proto::AgentMessage { body: Some(body) }
}

/// Completes when the first of the blocked has room. Never polled without one.
pub(super) async fn room(blocked: &VecDeque<(Arc<SubscriptionState>, Notification)>) {
    if let Some((state, _)) = blocked.front() {
        std::future::poll_fn(|context| state.poll_room(context)).await;
    }
}

/// Whether trying again is of no use, with the same credential. A name in use is: the gateway may not have noticed yet that the old connection is gone.
fn is_final(error: &Error) -> bool {
    match error {
        Error::Configuration { .. } => true,
        Error::Credential(error) => !error.retryable(),
        Error::Refused { code, .. } => matches!(
            code,
            Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument | Code::Unsupported
        ),
        _ => false,
    }
}
