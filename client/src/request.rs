//! Asking another agent.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use ringgate_proto::agp::v1 as proto;
use tokio::sync::oneshot;

use crate::agent::Shared;
use crate::connection::{Command, Control};
use crate::{Agent, Error, Headers, Target};

/// How much longer than the gateway this side waits: the gateway's own answer, that the time ran out, is on its way then.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reply {
    /// What was answered.
    pub payload: Bytes,
    /// What stands beside it.
    pub headers: Headers,
    /// Who answered: the responder's verified name.
    pub source: String,
}

/// A request to be made, from [`Agent::request`]. Made by `.await`; given up when that future is dropped.
#[derive(Debug)]
#[must_use = "a request is made by .await"]
pub struct Request<'a> {
    agent: &'a Agent,
    target: Target,
    payload: Bytes,
    headers: Headers,
    timeout: Option<Duration>,
}

impl<'a> Request<'a> {
    pub(crate) fn new(agent: &'a Agent, target: Target, payload: Bytes) -> Request<'a> {
        Request {
            agent,
            target,
            payload,
            headers: Headers::new(),
            timeout: None,
        }
    }

    /// How long to wait for the answer. Default: the agent's `request_timeout`. The responder learns of it.
    pub fn timeout(mut self, timeout: Duration) -> Request<'a> {
        self.timeout = Some(timeout);
        self
    }

    /// Sets a header.
    pub fn header(mut self, key: impl Into<String>, value: impl Into<String>) -> Request<'a> {
        self.headers.insert(key.into(), value.into());
        self
    }

    /// Makes the request.
    ///
    /// # Errors
    ///
    /// [`Error::Gateway`] (nobody to answer, not allowed, …), [`Error::Peer`] (the responder answered with an error),
    /// [`Error::Timeout`], [`Error::ConnectionLost`] or [`Error::Closed`].
    pub async fn send(self) -> Result<Reply, Error> {
        let shared = &self.agent.shared;
        let timeout = self.timeout.unwrap_or(shared.config.request_timeout);
        let id = shared.next_id();
        let request = proto::Request {
            id,
            target: Some(self.target.into()),
            payload: self.payload,
            headers: self.headers,
            timeout_ms: milliseconds(timeout),
        };
        let (done, answer) = oneshot::channel();
        let work = async {
            self.agent.command(Command::Request { request, done }).await?;
            let mut pending = Pending {
                shared,
                give_up: Some(Control::CancelRequest(id)),
            };
            let answer = answer.await.unwrap_or(Err(Error::Closed));
            pending.give_up = None;
            answer
        };
        match tokio::time::timeout(timeout.saturating_add(GRACE), work).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Timeout { waited: timeout }),
        }
    }
}

impl<'a> IntoFuture for Request<'a> {
    type Output = Result<Reply, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// Something the gateway works on; told to be given up if nobody waits any more.
pub(crate) struct Pending<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) give_up: Option<Control>,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(control) = self.give_up.take() {
            self.shared.control(control);
        }
    }
}

/// A timeout as the protocol carries it: at least 1 ms, since 0 is the gateway's default.
pub(crate) fn milliseconds(timeout: Duration) -> u32 {
    u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).max(1)
}
