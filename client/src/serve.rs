//! Answering other agents.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ringgate_proto::agp::v1 as proto;
use ringgate_proto::agp::v1::agent_message::Body;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::Stream;

use crate::agent::Shared;
use crate::connection::{Command, Control, Epoch, Handed};
use crate::{Agent, Code, Error, Headers};

/// What [`IncomingRequest::respond`] sends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    payload: Bytes,
    headers: Headers,
}

impl Response {
    /// A payload without headers.
    pub fn new(payload: impl Into<Bytes>) -> Response {
        Response {
            payload: payload.into(),
            headers: Headers::new(),
        }
    }

    /// Sets a header.
    #[must_use]
    pub fn header(mut self, key: impl Into<String>, value: impl Into<String>) -> Response {
        self.headers.insert(key.into(), value.into());
        self
    }
}

impl<P: Into<Bytes>> From<P> for Response {
    fn from(payload: P) -> Self {
        Response::new(payload)
    }
}

/// A request as the driver hands it over.
#[derive(Debug)]
pub(crate) struct Forwarded {
    pub(crate) forward: proto::Forward,
    pub(crate) epoch: Epoch,
    /// Turns true when nobody waits for the answer any more.
    pub(crate) cancelled: watch::Receiver<bool>,
}

/// A request of another agent. One that is dropped unanswered is answered with an error.
#[derive(Debug)]
pub struct IncomingRequest {
    shared: Arc<Shared>,
    epoch: Epoch,
    number: u64,
    cancelled: watch::Receiver<bool>,
    deadline: SystemTime,
    is_answered: bool,
    /// Whom it was for, as its requester wrote it.
    pub(crate) route: String,
    /// What is asked.
    pub payload: Bytes,
    /// What stands beside it.
    pub headers: Headers,
    /// Who asks: the requester's verified name.
    pub source: String,
}

impl IncomingRequest {
    fn new(shared: Arc<Shared>, forwarded: Forwarded) -> IncomingRequest {
        let Forwarded {
            forward,
            epoch,
            cancelled,
        } = forwarded;
        IncomingRequest {
            shared,
            epoch,
            number: forward.request,
            cancelled,
            deadline: UNIX_EPOCH + Duration::from_nanos(forward.deadline_unix_nanos),
            is_answered: false,
            route: forward
                .target
                .and_then(|target| target.to)
                .map_or(String::new(), |to| crate::target::route(&to)),
            payload: forward.payload,
            headers: forward.headers,
            source: forward.source,
        }
    }

    /// When the requester stops waiting, by the gateway's clock.
    pub fn deadline(&self) -> SystemTime {
        self.deadline
    }

    /// Whether the requester has given up, or the connection was lost: an answer would reach nobody.
    pub fn is_cancelled(&self) -> bool {
        *self.cancelled.borrow() || self.cancelled.has_changed().is_err()
    }

    /// Completes when [`is_cancelled`](Self::is_cancelled) turns true.
    pub async fn cancelled(&self) {
        // An error says that the driver has forgotten the request, which is the same.
        let _ = self.cancelled.clone().wait_for(|cancelled| *cancelled).await;
    }

    /// Answers.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`]. That the requester no longer waits is no error.
    pub async fn respond(self, response: impl Into<Response>) -> Result<(), Error> {
        let Response { payload, headers } = response.into();
        let code = Code::Unspecified.into();
        self.answer(proto::Response {
            code,
            payload,
            headers,
            ..Default::default()
        })
        .await
    }

    /// Answers with an error.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`].
    pub async fn fail(self, code: Code, message: impl Into<String>) -> Result<(), Error> {
        let message = message.into();
        self.answer(proto::Response {
            code: code.into(),
            message,
            ..Default::default()
        })
        .await
    }

    async fn answer(mut self, response: proto::Response) -> Result<(), Error> {
        let response = proto::Response {
            request: self.number,
            ..response
        };
        let handed = Handed {
            epoch: self.epoch,
            body: Body::Response(response),
        };
        self.shared.command(Command::SayInSession(handed)).await?;
        self.is_answered = true;
        Ok(())
    }
}

impl Drop for IncomingRequest {
    fn drop(&mut self) {
        if !self.is_answered {
            let response = proto::Response {
                request: self.number,
                code: Code::Internal.into(),
                message: "the responder dropped the request without an answer".into(),
                ..Default::default()
            };
            let handed = Handed {
                epoch: self.epoch,
                body: Body::Response(response),
            };
            self.shared.control(Control::SayInSession(handed));
        }
    }
}

/// The requests of other agents, in order of arrival, from [`Agent::requests`].
#[derive(Debug)]
pub struct Requests {
    pub(crate) shared: Arc<Shared>,
}

impl Requests {
    /// The next request; `None` when the agent is closed.
    pub async fn next(&mut self) -> Option<IncomingRequest> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<IncomingRequest>> {
        loop {
            let next = self.shared.inboxes.requests.poll_pop(context);
            let Poll::Ready(Some(forwarded)) = next else {
                return next.map(|_| None);
            };
            let mut request = IncomingRequest::new(Arc::clone(&self.shared), forwarded);
            if !request.is_cancelled() {
                return Poll::Ready(Some(request));
            }
            // Nobody waits for an answer.
            request.is_answered = true;
        }
    }
}

impl Stream for Requests {
    type Item = IncomingRequest;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<IncomingRequest>> {
        self.poll(context)
    }
}

impl Agent {
    /// The requests of other agents. Several of these share the requests among them.
    pub fn requests(&self) -> Requests {
        Requests {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Answers requests by `handler`, at most `concurrency_max` at the same time, until the agent is closed. A request whose
    /// requester gives up is dropped at the handler's next `.await`.
    ///
    /// ```no_run
    /// # async fn demo(agent: ringgate_client::Agent) {
    /// use ringgate_client::{Code, IncomingRequest};
    /// agent
    ///     .serve(64, |request: &IncomingRequest| {
    ///         let city = request.payload.clone();
    ///         async move {
    ///             if city.is_empty() {
    ///                 return Err((Code::InvalidArgument, "name a city".to_owned()));
    ///             }
    ///             Ok("sunny")
    ///         }
    ///     })
    ///     .await;
    /// # }
    /// ```
    pub async fn serve<H, F, R>(&self, concurrency_max: usize, handler: H)
    where
        H: Fn(&IncomingRequest) -> F,
        F: Future<Output = Result<R, (Code, String)>> + Send + 'static,
        R: Into<Response> + Send + 'static,
    {
        let mut requests = self.requests();
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = running.join_next(), if !running.is_empty() => {}
                request = requests.next(), if running.len() < concurrency_max.max(1) => {
                    let Some(request) = request else { break };
                    running.spawn(answer(handler(&request), request));
                }
            }
        }
        while running.join_next().await.is_some() {}
    }
}

async fn answer<F, R>(work: F, request: IncomingRequest)
where
    F: Future<Output = Result<R, (Code, String)>>,
    R: Into<Response>,
{
    let result = tokio::select! {
        result = work => result,
        () = request.cancelled() => Err((Code::Cancelled, "the requester gave up".to_owned())),
    };
    // An error says that the agent is closed, which ends `serve` as well.
    let _ = match result {
        Ok(response) => request.respond(response).await,
        Err((code, message)) => request.fail(code, message).await,
    };
}
