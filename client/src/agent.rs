//! The agent: a handle to a session.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use ringgate_proto::agp::v1 as proto;
use ringgate_proto::agp::v1::agent_message::Body;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::Config;
use crate::connection::{Command, Control, Driver};
use crate::inbox::Inbox;
use crate::introduce::Introduced;
use crate::serve::Forwarded;
use crate::stream::Opened;
use crate::{
    Builder, ConversationContext, Error, IncomingStreams, Introduce, Introductions, OpenStream, Publication,
    Request, Space, Subscribe, Target,
};

/// Whether the session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Connected and registered.
    Connected,
    /// Connected to a gateway that is about to close; finish what is under way.
    Draining,
    /// Connecting again.
    Reconnecting,
    /// Ended, by the application or because the gateway refuses the agent.
    Closed,
}

/// A session with the gateway. Clones are handles to the same session.
#[derive(Debug, Clone)]
pub struct Agent {
    pub(crate) shared: Arc<Shared>,
}

/// What all handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    pub(crate) inboxes: Arc<Inboxes>,
    commands: mpsc::Sender<Command>,
    /// Unbounded, since a drop cannot wait; what goes here is at most two messages for each request, stream, subscription or
    /// introduction that the application holds.
    controls: mpsc::UnboundedSender<Control>,
    state: watch::Receiver<ConnectionState>,
    /// Why the session is over for good, if not by the application.
    ended: Arc<OnceLock<Error>>,
    name: String,
    limits: proto::Limits,
    ids: AtomicU64,
    streams: AtomicU64,
}

/// What waits for the application to take it.
#[derive(Debug)]
pub(crate) struct Inboxes {
    pub(crate) requests: Inbox<Forwarded>,
    pub(crate) streams: Inbox<Opened>,
    pub(crate) introductions: Inbox<Introduced>,
}

/// Ids of messages start here, and stream numbers at [`FIRST_STREAM`], so that an `Error` on one of them is not mistaken for one on
/// a number that the gateway has given (which count from 1).
const FIRST_ID: u64 = 1 << 32;

/// The id of a message that is sent for its answer alone: below the others, and above what a gateway counts to.
pub(crate) const FENCE_ID: u64 = FIRST_ID - 1;

/// Odd, as an opener's numbers are.
const FIRST_STREAM: u64 = FIRST_ID * 2 + 1;

impl Agent {
    /// Settings of an agent for the gateway at `url`: `http://host:port`, or `https://` for TLS.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url.into())
    }

    pub(crate) async fn connect(config: Config) -> Result<Agent, Error> {
        let config = Arc::new(config);
        let limits = &config.limits;
        let inboxes = Arc::new(Inboxes {
            requests: Inbox::new(limits.incoming_requests_max),
            streams: Inbox::new(limits.incoming_streams_max),
            introductions: Inbox::new(limits.introductions_max),
        });
        let (commands, commanded) = mpsc::channel(limits.outgoing_messages_max.max(1));
        let (controls, controlled) = mpsc::unbounded_channel();
        let (announce, state) = watch::channel(ConnectionState::Connected);
        let ended = Arc::new(OnceLock::new());
        let (driver, registered) = Driver::connect(
            Arc::clone(&config),
            Arc::clone(&inboxes),
            (commanded, controlled),
            announce,
            Arc::clone(&ended),
        )
        .await?;
        tokio::spawn(driver.drive());
        let shared = Shared {
            config,
            inboxes,
            commands,
            controls,
            state,
            ended,
            name: registered.name,
            limits: registered.limits.unwrap_or_default(),
            ids: AtomicU64::new(FIRST_ID),
            streams: AtomicU64::new(FIRST_STREAM),
        };
        Ok(Agent {
            shared: Arc::new(shared),
        })
    }

    /// The agent's name, as the gateway verified it.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Largest message the gateway accepts, in bytes; 0 if it did not say.
    pub fn message_bytes_max(&self) -> u64 {
        self.shared.limits.message_bytes_max
    }

    /// Whether the session stands, to look at or to wait for.
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.shared.state.clone()
    }

    /// Publishes without waiting for the gateway; waits only while the way out is full.
    ///
    /// # Errors
    ///
    /// As [`Publication::send`].
    pub async fn publish(&self, topic: impl Into<String>, payload: impl Into<Bytes>) -> Result<(), Error> {
        self.publication(topic, payload).send().await
    }

    /// Publishes and waits for the gateway. Returns for how many subscribers the message was queued.
    ///
    /// # Errors
    ///
    /// As [`Publication::send_acked`].
    pub async fn publish_acked(
        &self,
        topic: impl Into<String>,
        payload: impl Into<Bytes>,
    ) -> Result<u32, Error> {
        self.publication(topic, payload).send_acked().await
    }

    /// A message to be published, with headers.
    pub fn publication(&self, topic: impl Into<String>, payload: impl Into<Bytes>) -> Publication<'_> {
        Publication::new(self, topic.into(), payload.into())
    }

    /// Subscribes to a pattern: segments between `/`, of which `*` is any one and a final `**` any tail.
    pub fn subscribe(&self, pattern: impl Into<String>) -> Subscribe<'_> {
        Subscribe::new(self, pattern.into())
    }

    /// Asks another agent.
    pub fn request(&self, target: Target, payload: impl Into<Bytes>) -> Request<'_> {
        Request::new(self, target, payload.into())
    }

    /// Opens a stream to another agent.
    pub fn open_stream(&self, target: Target) -> OpenStream<'_> {
        OpenStream::new(self, target)
    }

    /// The streams that other agents open. Several of these share the streams among them.
    pub fn incoming_streams(&self) -> IncomingStreams {
        IncomingStreams {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Asks another agent for a channel.
    pub fn introduce(&self, target: Target, payload: impl Into<Bytes>) -> Introduce<'_> {
        Introduce::new(self, target, payload.into())
    }

    /// The introductions of other agents. Several of these share them among them.
    pub fn introductions(&self) -> Introductions {
        Introductions {
            shared: Arc::clone(&self.shared),
        }
    }

    /// A state space: memory that agents share, by name.
    pub fn space(&self, name: impl Into<String>) -> Space {
        Space {
            agent: self.clone(),
            name: name.into(),
        }
    }

    /// Joins a conversation that agents share, kept in the state space `space`. Returns when all that was said is known.
    ///
    /// # Errors
    ///
    /// [`Error::Gateway`] (not allowed to read or write the space), [`Error::ConnectionLost`] or [`Error::Closed`].
    pub async fn join_context(&self, space: impl Into<String>) -> Result<ConversationContext, Error> {
        ConversationContext::join(self, space.into()).await
    }

    /// Reports the agent's load: requests it works on, and its relative share of new work (0: none). `draining` says that it is
    /// about to leave.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`].
    pub async fn status(&self, outstanding: u32, weight: u32, draining: bool) -> Result<(), Error> {
        let status = proto::Status {
            outstanding,
            weight,
            draining,
        };
        self.command(Command::Say(Body::Status(status))).await
    }

    /// Ends the session in order: what was handed in before is sent. Returns when the connection is closed.
    pub async fn close(self) {
        let (done, closed) = oneshot::channel();
        self.shared.control(Control::Close(done));
        // An error says that the driver was gone already.
        let _ = closed.await;
    }

    pub(crate) async fn command(&self, command: Command) -> Result<(), Error> {
        self.shared.command(command).await
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.shared.next_id()
    }
}

impl Shared {
    /// Hands a command to the driver; waits while there are too many.
    pub(crate) async fn command(&self, command: Command) -> Result<(), Error> {
        let sent = self.commands.send(command).await;
        sent.map_err(|_| self.ended.get().cloned().unwrap_or(Error::Closed))
    }

    /// Hands in what a drop has to say.
    pub(crate) fn control(&self, control: Control) {
        // An error says that the session is over, and with it what was to be ended.
        let _ = self.controls.send(control);
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn next_stream(&self) -> u64 {
        self.streams.fetch_add(2, Ordering::Relaxed)
    }
}
