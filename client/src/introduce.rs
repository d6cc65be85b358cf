//! Getting to know another agent: a channel, with the peer's verified credential at both ends.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use ringgate_proto::agp::v1 as proto;
use ringgate_proto::agp::v1::agent_message::Body;
use tokio::sync::oneshot;
use tokio_stream::Stream;

use crate::agent::Shared;
use crate::connection::{Command, Control, Epoch, Handed};
use crate::request::{GRACE, Pending, milliseconds};
use crate::{Agent, Code, Error, Headers, OpenStream, Request, Target};

/// How long the accepting side waits for the gateway to open the channel: one round trip, with much room for a busy gateway.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(10);

/// A way to one certain agent, open until either session ends.
#[derive(Debug, Clone)]
pub struct Channel {
    agent: Agent,
    /// Its name, which is a target.
    pub name: String,
    /// The peer's verified name.
    pub peer: String,
    /// The peer's verified credential, as the gateway got it; empty where it was not asked for one.
    pub credential: Bytes,
    /// What the accepting side answered; empty on that side itself.
    pub payload: Bytes,
    /// What stands beside it.
    pub headers: Headers,
}

impl Channel {
    pub(crate) fn new(agent: Agent, connected: proto::Connected) -> Channel {
        Channel {
            agent,
            name: connected.channel,
            peer: connected.source,
            credential: connected.credential,
            payload: connected.payload,
            headers: connected.headers,
        }
    }

    /// The peer, as a target.
    pub fn target(&self) -> Target {
        Target::channel(&self.name)
    }

    /// A request to the peer.
    pub fn request(&self, payload: impl Into<Bytes>) -> Request<'_> {
        self.agent.request(self.target(), payload)
    }

    /// A stream to the peer.
    pub fn open_stream(&self) -> OpenStream<'_> {
        self.agent.open_stream(self.target())
    }
}

/// An introduction to be made, from [`Agent::introduce`]. Made by `.await`; given up when that future is dropped.
#[derive(Debug)]
#[must_use = "an introduction is made by .await"]
pub struct Introduce<'a> {
    agent: &'a Agent,
    target: Target,
    payload: Bytes,
    headers: Headers,
    timeout: Option<Duration>,
}

impl<'a> Introduce<'a> {
    pub(crate) fn new(agent: &'a Agent, target: Target, payload: Bytes) -> Introduce<'a> {
        Introduce {
            agent,
            target,
            payload,
            headers: Headers::new(),
            timeout: None,
        }
    }

    /// How long to wait for the answer. Default: the agent's `request_timeout`.
    pub fn timeout(mut self, timeout: Duration) -> Introduce<'a> {
        self.timeout = Some(timeout);
        self
    }

    /// Sets a header.
    pub fn header(mut self, key: impl Into<String>, value: impl Into<String>) -> Introduce<'a> {
        self.headers.insert(key.into(), value.into());
        self
    }

    /// Makes the introduction.
    ///
    /// # Errors
    ///
    /// [`Error::Gateway`] (nobody there, not allowed, …), [`Error::Peer`] (declined), [`Error::Timeout`],
    /// [`Error::ConnectionLost`] or [`Error::Closed`].
    pub async fn send(self) -> Result<Channel, Error> {
        let shared = &self.agent.shared;
        let timeout = self.timeout.unwrap_or(shared.config.request_timeout);
        let id = shared.next_id();
        let introduce = proto::Introduce {
            id,
            target: Some(self.target.into()),
            payload: self.payload,
            headers: self.headers,
            timeout_ms: milliseconds(timeout),
            ..Default::default()
        };
        let (done, answer) = oneshot::channel();
        let work = async {
            self.agent.command(Command::Introduce { introduce, done }).await?;
            let mut pending = Pending {
                shared,
                give_up: Some(Control::CancelIntroduction(id)),
            };
            let answer = answer.await.unwrap_or(Err(Error::Closed));
            pending.give_up = None;
            Ok(Channel::new(self.agent.clone(), answer?))
        };
        match tokio::time::timeout(timeout.saturating_add(GRACE), work).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Timeout { waited: timeout }),
        }
    }
}

impl<'a> IntoFuture for Introduce<'a> {
    type Output = Result<Channel, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// An introduction as the driver hands it over.
#[derive(Debug)]
pub(crate) struct Introduced {
    pub(crate) introduce: proto::Introduce,
    pub(crate) epoch: Epoch,
}

/// Another agent that asks for a channel. Dropped, it is declined.
#[derive(Debug)]
pub struct Introduction {
    shared: Arc<Shared>,
    epoch: Epoch,
    number: u64,
    is_answered: bool,
    /// What it says of itself.
    pub payload: Bytes,
    /// What stands beside it.
    pub headers: Headers,
    /// Its verified name.
    pub source: String,
    /// Its verified credential, as the gateway got it; empty where it was not asked for one.
    pub credential: Bytes,
}

impl Introduction {
    fn new(shared: Arc<Shared>, introduced: Introduced) -> Introduction {
        let Introduced { introduce, epoch } = introduced;
        Introduction {
            shared,
            epoch,
            number: introduce.introduction,
            is_answered: false,
            payload: introduce.payload,
            headers: introduce.headers,
            source: introduce.source,
            credential: introduce.credential,
        }
    }

    /// Agrees, with an answer for the introducer, and waits until the channel is open.
    ///
    /// # Errors
    ///
    /// [`Error::Gateway`] (the introducer no longer waits, …), [`Error::Timeout`], [`Error::ConnectionLost`] or [`Error::Closed`].
    pub async fn accept(mut self, payload: impl Into<Bytes>) -> Result<Channel, Error> {
        let accept = proto::Accept {
            introduction: self.number,
            payload: payload.into(),
            headers: Headers::new(),
        };
        let (done, answer) = oneshot::channel();
        let command = Command::Accept {
            accept,
            epoch: self.epoch,
            source: self.source.clone(),
            done,
        };
        self.shared.command(command).await?;
        self.is_answered = true;
        let answer = tokio::time::timeout(ACCEPT_TIMEOUT, answer).await;
        let answer = answer.map_err(|_| Error::Timeout {
            waited: ACCEPT_TIMEOUT,
        })?;
        let connected = answer.unwrap_or(Err(Error::Closed))?;
        Ok(Channel::new(
            Agent {
                shared: Arc::clone(&self.shared),
            },
            connected,
        ))
    }

    /// Declines.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`].
    pub async fn reject(mut self, message: impl Into<String>) -> Result<(), Error> {
        let handed = self.reject_message(message.into());
        self.shared.command(Command::SayInSession(handed)).await?;
        self.is_answered = true;
        Ok(())
    }

    fn reject_message(&self, message: String) -> Handed {
        let code = Code::Rejected.into();
        let reject = proto::Reject {
            introduction: self.number,
            code,
            message,
            ..Default::default()
        };
        Handed {
            epoch: self.epoch,
            body: Body::Reject(reject),
        }
    }
}

impl Drop for Introduction {
    fn drop(&mut self) {
        if !self.is_answered {
            let handed = self.reject_message("the agent did not take the introduction up".into());
            self.shared.control(Control::SayInSession(handed));
        }
    }
}

/// The introductions of other agents, in order of arrival, from [`Agent::introductions`].
#[derive(Debug)]
pub struct Introductions {
    pub(crate) shared: Arc<Shared>,
}

impl Introductions {
    /// The next introduction; `None` when the agent is closed.
    pub async fn next(&mut self) -> Option<Introduction> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Introduction>> {
        let popped = self.shared.inboxes.introductions.poll_pop(context);
        popped.map(|introduced| {
            introduced.map(|introduced| Introduction::new(Arc::clone(&self.shared), introduced))
        })
    }
}

impl Stream for Introductions {
    type Item = Introduction;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Introduction>> {
        self.poll(context)
    }
}
