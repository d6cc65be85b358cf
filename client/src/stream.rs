//! Continuous data between two agents, with credit: neither end sends more than the other is ready to hold.

use std::collections::VecDeque;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use ringgate_proto::agp::v1 as proto;
use ringgate_proto::agp::v1::agent_message::Body;
use tokio::sync::Semaphore;
use tokio_stream::Stream;

use crate::agent::Shared;
use crate::connection::{Command, Control, Epoch, Handed};
use crate::inbox::register;
use crate::{Agent, Code, Error, Headers, Limits, Target};

/// What both halves of a stream and the driver know of it.
#[derive(Debug)]
pub(crate) struct StreamState {
    pub(crate) number: u64,
    pub(crate) epoch: Epoch,
    /// Payload bytes that the peer is ready to receive.
    credit: Semaphore,
    incoming: Mutex<Incoming>,
}

#[derive(Debug, Default)]
struct Incoming {
    chunks: VecDeque<Bytes>,
    /// The peer has said anything: it has accepted the stream.
    is_open: bool,
    /// How it ended: in order, or with an error.
    ended: Option<Result<(), Error>>,
    wakers: Vec<Waker>,
}

impl StreamState {
    pub(crate) fn new(number: u64, epoch: Epoch, credit_bytes: u64) -> StreamState {
        let state = StreamState {
            number,
            epoch,
            credit: Semaphore::new(0),
            incoming: Mutex::default(),
        };
        state.grant(credit_bytes);
        state
    }

    /// The peer is ready for so many bytes more.
    pub(crate) fn grant(&self, bytes: u64) {
        // What goes beyond the semaphore's capacity (exabytes) is as good as unlimited.
        let room = Semaphore::MAX_PERMITS - self.credit.available_permits();
        self.credit
            .add_permits(usize::try_from(bytes).unwrap_or(usize::MAX).min(room));
    }

    /// A sign of the peer, after which it counts as open.
    pub(crate) fn opened(&self) {
        self.change(|incoming| incoming.is_open = true);
    }

    /// Queues a chunk; false if there are too many.
    pub(crate) fn push(&self, payload: Bytes) -> bool {
        let mut has_room = true;
        self.change(|incoming| {
            incoming.is_open = true;
            has_room = incoming.chunks.len() < Limits::STREAM_CHUNKS_MAX;
            if has_room {
                incoming.chunks.push_back(payload);
            }
        });
        has_room
    }

    /// The stream is over. Chunks that have arrived can still be read. The first reason counts.
    pub(crate) fn end(&self, how: Result<(), Error>) {
        self.change(|incoming| _ = incoming.ended.get_or_insert(how));
        self.credit.close();
    }

    fn change(&self, change: impl FnOnce(&mut Incoming)) {
        let mut incoming = self.lock();
        change(&mut incoming);
        let wakers = std::mem::take(&mut incoming.wakers);
        drop(incoming);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn poll_chunk(&self, context: &Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        let mut incoming = self.lock();
        if let Some(chunk) = incoming.chunks.pop_front() {
            return Poll::Ready(Ok(Some(chunk)));
        }
        match &incoming.ended {
            Some(Ok(())) => Poll::Ready(Ok(None)),
            Some(Err(error)) => Poll::Ready(Err(error.clone())),
            None => {
                register(&mut incoming.wakers, context);
                Poll::Pending
            }
        }
    }

    fn poll_open(&self, context: &Context<'_>) -> Poll<Result<(), Error>> {
        let mut incoming = self.lock();
        match &incoming.ended {
            _ if incoming.is_open => Poll::Ready(Ok(())),
            Some(how) => Poll::Ready(how.clone()),
            None => {
                register(&mut incoming.wakers, context);
                Poll::Pending
            }
        }
    }

    /// Why nothing can be sent any more.
    fn send_error(&self) -> Error {
        match &self.lock().ended {
            Some(Err(error)) => error.clone(),
            _ => Error::Closed,
        }
    }

    fn is_ended(&self) -> bool {
        self.lock().ended.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Incoming> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the stream when both halves are gone.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    state: Arc<StreamState>,
    peer: String,
}

impl Handle {
    fn close_message(&self, code: Code, message: String) -> Handed {
        let close = proto::StreamClose {
            stream: self.state.number,
            code: code.into(),
            message,
        };
        Handed {
            epoch: self.state.epoch,
            body: Body::StreamClose(close),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.state.is_ended() {
            let message = "the stream was dropped".to_owned();
            self.shared.control(Control::SayInSession(
                self.close_message(Code::Cancelled, message),
            ));
        }
    }
}

/// A stream to another agent. Dropped, it ends with `CANCELLED`.
#[derive(Debug)]
pub struct AgentStream {
    sender: StreamSender,
    receiver: StreamReceiver,
}

/// The sending half of an [`AgentStream`].
#[derive(Debug)]
pub struct StreamSender {
    handle: Arc<Handle>,
    sequence: u64,
}

/// The receiving half of an [`AgentStream`]: also a [`Stream`] of payloads.
#[derive(Debug)]
pub struct StreamReceiver {
    handle: Arc<Handle>,
    /// Bytes read since credit was last given.
    unpaid_bytes: u64,
}

impl AgentStream {
    fn new(shared: Arc<Shared>, state: Arc<StreamState>, peer: String) -> AgentStream {
        let handle = Arc::new(Handle { shared, state, peer });
        let receiver = StreamReceiver {
            handle: Arc::clone(&handle),
            unpaid_bytes: 0,
        };
        AgentStream {
            sender: StreamSender { handle, sequence: 0 },
            receiver,
        }
    }

    /// The opener's verified name, on the accepting side; empty on the opening one.
    pub fn source(&self) -> &str {
        &self.sender.handle.peer
    }

    /// As [`StreamSender::send`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn send(&mut self, payload: impl Into<Bytes>) -> Result<(), Error> {
        self.sender.send(payload).await
    }

    /// As [`StreamReceiver::recv`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, Error> {
        self.receiver.recv().await
    }

    /// As [`StreamSender::finish`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn finish(self) -> Result<(), Error> {
        self.sender.finish().await
    }

    /// Both halves, for two tasks.
    pub fn into_split(self) -> (StreamSender, StreamReceiver) {
        (self.sender, self.receiver)
    }
}

impl StreamSender {
    /// Sends one chunk; waits until the peer is ready for it.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] above [`Limits::CHUNK_BYTES_MAX`], [`Error::Peer`] or [`Error::Gateway`] if the stream was ended,
    /// [`Error::ConnectionLost`], [`Error::Closed`].
    pub async fn send(&mut self, payload: impl Into<Bytes>) -> Result<(), Error> {
        let payload = payload.into();
        let state = &self.handle.state;
        let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        if payload.len() > Limits::CHUNK_BYTES_MAX {
            return Err(Error::TooLarge {
                bytes: payload.len(),
                bytes_max: Limits::CHUNK_BYTES_MAX,
            });
        }
        let credit = state
            .credit
            .acquire_many(bytes)
            .await
            .map_err(|_| state.send_error())?;
        let sequence = self.sequence + 1;
        let chunk = proto::Chunk {
            stream: state.number,
            sequence,
            payload,
        };
        let handed = Handed {
            epoch: state.epoch,
            body: Body::Chunk(chunk),
        };
        self.handle.shared.command(Command::SayInSession(handed)).await?;
        credit.forget();
        self.sequence = sequence;
        Ok(())
    }

    /// Ends the stream in order: the peer reads what was sent, then its end.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`].
    pub async fn finish(self) -> Result<(), Error> {
        self.close(Code::Unspecified, String::new()).await
    }

    /// Ends the stream with an error that the peer gets to see.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`].
    pub async fn fail(self, code: Code, message: impl Into<String>) -> Result<(), Error> {
        self.close(code, message.into()).await
    }

    async fn close(self, code: Code, message: String) -> Result<(), Error> {
        let handle = &self.handle;
        if handle.state.is_ended() {
            return Ok(());
        }
        handle
            .shared
            .command(Command::SayInSession(handle.close_message(code, message)))
            .await?;
        handle.state.end(Ok(()));
        Ok(())
    }
}

impl StreamReceiver {
    /// The next chunk; `None` when the peer has ended the stream in order.
    ///
    /// # Errors
    ///
    /// [`Error::Peer`] or [`Error::Gateway`] if the stream was ended with an error, [`Error::ConnectionLost`].
    pub async fn recv(&mut self) -> Result<Option<Bytes>, Error> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        let polled = self.handle.state.poll_chunk(context);
        if let Poll::Ready(Ok(Some(chunk))) = &polled {
            self.pay(chunk.len() as u64);
        }
        polled
    }

    /// Gives credit for what was read, in large steps: half a window costs one message.
    fn pay(&mut self, bytes: u64) {
        let Handle { shared, state, .. } = &*self.handle;
        self.unpaid_bytes += bytes;
        if self.unpaid_bytes * 2 >= shared.config.limits.stream_window_bytes {
            let bytes = std::mem::take(&mut self.unpaid_bytes);
            let credit = proto::StreamCredit {
                stream: state.number,
                bytes,
            };
            let handed = Handed {
                epoch: state.epoch,
                body: Body::StreamCredit(credit),
            };
            shared.control(Control::SayInSession(handed));
        }
    }
}

impl Stream for StreamReceiver {
    type Item = Result<Bytes, Error>;

    /// Ends after the first error.
    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll(context).map(Result::transpose)
    }
}

/// A stream to be opened, from [`Agent::open_stream`]. Opened by `.await`.
#[derive(Debug)]
#[must_use = "a stream is opened by .await"]
pub struct OpenStream<'a> {
    agent: &'a Agent,
    target: Target,
    headers: Headers,
    timeout: Option<Duration>,
}

impl<'a> OpenStream<'a> {
    pub(crate) fn new(agent: &'a Agent, target: Target) -> OpenStream<'a> {
        OpenStream {
            agent,
            target,
            headers: Headers::new(),
            timeout: None,
        }
    }

    /// Sets a header.
    pub fn header(mut self, key: impl Into<String>, value: impl Into<String>) -> OpenStream<'a> {
        self.headers.insert(key.into(), value.into());
        self
    }

    /// How long to wait for the peer to accept. Default: the agent's `request_timeout`.
    pub fn timeout(mut self, timeout: Duration) -> OpenStream<'a> {
        self.timeout = Some(timeout);
        self
    }

    /// Opens the stream and waits until the peer has accepted it.
    ///
    /// # Errors
    ///
    /// [`Error::Gateway`] (nobody there, not allowed, …), [`Error::Peer`] (declined), [`Error::Timeout`],
    /// [`Error::ConnectionLost`] or [`Error::Closed`].
    pub async fn send(self) -> Result<AgentStream, Error> {
        let shared = &self.agent.shared;
        let timeout = self.timeout.unwrap_or(shared.config.request_timeout);
        let open = proto::StreamOpen {
            stream: shared.next_stream(),
            target: Some(self.target.into()),
            headers: self.headers,
            credit_bytes: shared.config.limits.stream_window_bytes,
            source: String::new(),
        };
        let work = async {
            let (done, answer) = tokio::sync::oneshot::channel();
            shared.command(Command::OpenStream { open, done }).await?;
            let state: Arc<StreamState> = answer.await.map_err(|_| Error::Closed)?;
            // From here on a drop closes the stream.
            let stream = AgentStream::new(Arc::clone(shared), Arc::clone(&state), String::new());
            std::future::poll_fn(|context| state.poll_open(context)).await?;
            Ok(stream)
        };
        match tokio::time::timeout(timeout, work).await {
            Ok(opened) => opened,
            Err(_) => Err(Error::Timeout { waited: timeout }),
        }
    }
}

impl<'a> IntoFuture for OpenStream<'a> {
    type Output = Result<AgentStream, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// A stream as the driver hands it over.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) open: proto::StreamOpen,
    pub(crate) state: Arc<StreamState>,
}

/// A stream that another agent wants to open. Dropped, it is declined.
#[derive(Debug)]
pub struct IncomingStream {
    stream: Option<AgentStream>,
    /// What stands beside it.
    pub headers: Headers,
    /// Who opens it: the opener's verified name.
    pub source: String,
}

impl IncomingStream {
    fn new(shared: Arc<Shared>, opened: Opened) -> IncomingStream {
        let proto::StreamOpen { headers, source, .. } = opened.open;
        let stream = Some(AgentStream::new(shared, opened.state, source.clone()));
        IncomingStream {
            stream,
            headers,
            source,
        }
    }

    /// Accepts the stream: from now on the peer may send.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], and what [`AgentStream::recv`] says of a stream that has ended meanwhile.
    pub async fn accept(mut self) -> Result<AgentStream, Error> {
        let stream = self.stream.take().ok_or(Error::Closed)?;
        let Handle { shared, state, .. } = &*stream.sender.handle;
        let bytes = shared.config.limits.stream_window_bytes;
        let credit = proto::StreamCredit {
            stream: state.number,
            bytes,
        };
        let handed = Handed {
            epoch: state.epoch,
            body: Body::StreamCredit(credit),
        };
        shared.command(Command::SayInSession(handed)).await?;
        Ok(stream)
    }

    /// Declines the stream.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`].
    pub async fn reject(mut self, code: Code, message: impl Into<String>) -> Result<(), Error> {
        let stream = self.stream.take().ok_or(Error::Closed)?;
        stream.sender.fail(code, message).await
    }
}

/// The streams that other agents open, in order of arrival, from [`Agent::incoming_streams`].
#[derive(Debug)]
pub struct IncomingStreams {
    pub(crate) shared: Arc<Shared>,
}

impl IncomingStreams {
    /// The next stream; `None` when the agent is closed.
    pub async fn next(&mut self) -> Option<IncomingStream> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<IncomingStream>> {
        let popped = self.shared.inboxes.streams.poll_pop(context);
        popped.map(|opened| opened.map(|opened| IncomingStream::new(Arc::clone(&self.shared), opened)))
    }
}

impl Stream for IncomingStreams {
    type Item = IncomingStream;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<IncomingStream>> {
        self.poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll<T>(poll: impl FnOnce(&Context<'_>) -> Poll<T>) -> Poll<T> {
        poll(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn chunks_are_read_before_the_end() {
        let state = StreamState::new(1, Epoch::default(), 0);
        assert!(state.push(Bytes::from_static(b"one")));
        state.end(Ok(()));
        assert!(matches!(
            poll(|context| state.poll_chunk(context)),
            Poll::Ready(Ok(Some(_)))
        ));
        assert!(matches!(
            poll(|context| state.poll_chunk(context)),
            Poll::Ready(Ok(None))
        ));
    }

    #[test]
    fn the_first_reason_to_end_counts() {
        let state = StreamState::new(1, Epoch::default(), 0);
        state.end(Err(Error::ConnectionLost));
        state.end(Ok(()));
        assert!(matches!(
            poll(|context| state.poll_chunk(context)),
            Poll::Ready(Err(Error::ConnectionLost))
        ));
        assert!(matches!(state.send_error(), Error::ConnectionLost));
    }

    #[test]
    fn endless_credit_does_not_overflow() {
        let state = StreamState::new(1, Epoch::default(), u64::MAX);
        state.grant(u64::MAX);
        assert_eq!(state.credit.available_permits(), Semaphore::MAX_PERMITS);
    }

    #[test]
    fn empty_chunks_are_bounded() {
        let state = StreamState::new(1, Epoch::default(), 0);
        assert!((0..Limits::STREAM_CHUNKS_MAX).all(|_| state.push(Bytes::new())));
        assert!(!state.push(Bytes::new()));
    }
}
