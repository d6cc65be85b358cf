//! Protected messages over the gateway: the same patterns as those of [`Agent`](crate::Agent), encrypted.

use bytes::Bytes;
use std::time::SystemTime;

use ringgate_mls::Member;

use super::content::Content;
use super::{Group, GroupError, Groups, Peer, Route};
use crate::{
    AgentStream, Code, Event, Gap, Headers, IncomingRequest, IncomingStreams, Requests, StreamReceiver,
    StreamSender, Subscribe, Subscription, Target,
};

/// By what the first message of a protected stream says its tag.
const STREAM: &str = "stream";

/// A message that was decrypted, of a sender who is verified.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Opened {
    /// What was said.
    pub payload: Bytes,
    /// What stands beside it, encrypted too.
    pub headers: Headers,
    /// Who said it: the member who encrypted it, whom the gateway names too.
    pub sender: Peer,
    /// In which group.
    pub group: Group,
    end: bool,
    cover: bool,
}

impl Opened {
    pub(super) fn new(group: Group, content: Content, sender: Member) -> Result<Opened, GroupError> {
        Ok(Opened {
            payload: content.payload,
            headers: content.headers,
            sender: Peer {
                name: sender.name,
                identity: sender.identity,
            },
            group,
            end: content.end,
            cover: content.cover,
        })
    }
}

impl Group {
    /// Publishes to the members who subscribe to the topic, without waiting for the gateway.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn publish(&self, topic: &str, payload: impl Into<Bytes>) -> Result<(), GroupError> {
        let sealed = self
            .seal_message(Route::Topic(topic), payload, Headers::new())
            .await?;
        Ok(self.groups().agent().publish(topic, sealed).await?)
    }

    /// The same with headers, which are encrypted, and waits for the gateway. Returns for how many subscribers it was queued.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn publish_acked(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
        headers: Headers,
    ) -> Result<u32, GroupError> {
        let sealed = self.seal_message(Route::Topic(topic), payload, headers).await?;
        Ok(self.groups().agent().publish_acked(topic, sealed).await?)
    }

    /// Publishes a message that says nothing: who looks on sees that somebody says something, and its receivers leave it out. It is as
    /// long as any that fits into one step of the group's padding. When to send them is the application's to choose: at random times,
    /// or in place of what it has not to say.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn publish_cover(&self, topic: &str) -> Result<(), GroupError> {
        let inner = &self.groups().inner;
        let sealed = inner
            .seal(self.id(), Route::Topic(topic), &Content::cover())
            .await?;
        Ok(self.groups().agent().publish(topic, sealed).await?)
    }

    /// Asks another member. The target must be one, or whoever is met cannot read it.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn request(
        &self,
        target: Target,
        payload: impl Into<Bytes>,
    ) -> Result<ProtectedReply, GroupError> {
        let sealed = self
            .seal_message(Route::Request(&target.route()), payload, Headers::new())
            .await?;
        let reply = self.groups().agent().request(target, sealed.clone()).await?;
        let route = Route::Response(&sealed);
        let opened = self
            .groups()
            .open_message(route, &reply.payload, &reply.source)
            .await?;
        Ok(ProtectedReply { opened })
    }

    /// Opens a stream to another member.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn open_stream(&self, target: Target) -> Result<ProtectedStream, GroupError> {
        let mut stream = self.groups().agent().open_stream(target).await?;
        let tag = self.groups().random()?;
        let first = self
            .seal_message(Route::Other(STREAM, b""), tag.clone(), Headers::new())
            .await?;
        stream.send(first).await?;
        Ok(ProtectedStream::new(stream, self.clone(), tag, true, None))
    }
}

impl Groups {
    /// Meets an agent, by name, service or capability: an introduction through the gateway, and a session with whoever accepts it.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn meet(&self, target: Target) -> Result<Group, GroupError> {
        let channel = self.agent().introduce(target, Bytes::new()).await?;
        self.session(&channel.peer).await
    }

    /// Subscribes to a pattern, and decrypts what comes.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn subscribe(&self, pattern: &str) -> Result<ProtectedSubscription, GroupError> {
        self.subscribe_as(self.agent().subscribe(pattern)).await
    }

    /// The same for a subscription with settings of its own.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn subscribe_as(&self, subscribe: Subscribe<'_>) -> Result<ProtectedSubscription, GroupError> {
        Ok(ProtectedSubscription {
            subscription: subscribe.await?,
            groups: self.clone(),
        })
    }

    /// The requests of other agents, decrypted. Several of these share the requests among them.
    #[must_use]
    pub fn requests(&self) -> ProtectedRequests {
        ProtectedRequests {
            requests: self.agent().requests(),
            groups: self.clone(),
        }
    }

    /// The streams that other agents open.
    #[must_use]
    pub fn incoming_streams(&self) -> ProtectedStreams {
        ProtectedStreams {
            streams: self.agent().incoming_streams(),
            groups: self.clone(),
        }
    }
}

/// What comes out of a [`ProtectedSubscription`].
#[derive(Debug)]
#[non_exhaustive]
pub enum ProtectedEvent {
    /// A message.
    Message {
        /// What it says.
        opened: Opened,
        /// Where it was published.
        topic: String,
        /// Counts the publisher's publishes from 1, over all topics.
        sequence: u64,
        /// When the gateway received it.
        time: SystemTime,
    },
    /// A message that this agent cannot read: of another group, sent before it joined or after it left, or forged.
    Unreadable {
        /// Who sent it, as the gateway says.
        source: String,
        /// Where.
        topic: String,
        /// Why.
        error: GroupError,
    },
    /// Messages were lost here.
    Gap(Gap),
    /// The connection was lost: an unknown number of messages may be missing here.
    Interrupted,
}

/// A subscription whose messages are decrypted. An agent's own messages, which reach its own subscriptions too, are left out: nobody
/// can decrypt what they have encrypted themselves.
#[derive(Debug)]
pub struct ProtectedSubscription {
    subscription: Subscription,
    groups: Groups,
}

impl ProtectedSubscription {
    /// The next event; `None` when the subscription has ended.
    pub async fn next(&mut self) -> Option<ProtectedEvent> {
        loop {
            let notification = match self.subscription.next().await? {
                Event::Notification(notification) => notification,
                Event::Gap(gap) => return Some(ProtectedEvent::Gap(gap)),
                Event::Interrupted => return Some(ProtectedEvent::Interrupted),
            };
            let route = Route::Topic(&notification.topic);
            let opened = self
                .groups
                .open_message(route, &notification.payload, &notification.source)
                .await;
            return Some(match opened {
                Ok(opened) if opened.cover => continue,
                Ok(opened) => ProtectedEvent::Message {
                    opened,
                    topic: notification.topic,
                    sequence: notification.sequence,
                    time: notification.time,
                },
                Err(GroupError::Own) => continue,
                Err(error) => ProtectedEvent::Unreadable {
                    source: notification.source,
                    topic: notification.topic,
                    error,
                },
            });
        }
    }

    /// The subscription itself.
    #[must_use]
    pub fn subscription(&self) -> &Subscription {
        &self.subscription
    }
}

/// The answer to a protected request.
#[derive(Debug)]
#[non_exhaustive]
pub struct ProtectedReply {
    /// What it says, and who.
    pub opened: Opened,
}

/// The protected requests of other agents.
#[derive(Debug)]
pub struct ProtectedRequests {
    requests: Requests,
    groups: Groups,
}

impl ProtectedRequests {
    /// The next request that can be read; `None` when the agent is closed. Others are answered with `MLS_REQUIRED`.
    pub async fn next(&mut self) -> Option<ProtectedRequest> {
        loop {
            let request = self.requests.next().await?;
            let route = Route::Request(&request.route);
            match self
                .groups
                .open_message(route, &request.payload, &request.source)
                .await
            {
                Ok(opened) => return Some(ProtectedRequest { opened, request }),
                Err(error) => {
                    tracing::warn!(%error, source = request.source, "a request cannot be read");
                    let text = "the responder cannot read it: encrypt it for a group that it is in";
                    // That the agent is closed ends the loop.
                    let _ = request.fail(Code::MlsRequired, text).await;
                }
            }
        }
    }
}

/// A protected request. One that is dropped unanswered is answered with an error.
#[derive(Debug)]
#[non_exhaustive]
pub struct ProtectedRequest {
    /// What it says, and who.
    pub opened: Opened,
    /// The request itself.
    pub request: IncomingRequest,
}

impl ProtectedRequest {
    /// Answers, encrypted for the group that the request came in.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn respond(self, payload: impl Into<Bytes>) -> Result<(), GroupError> {
        let route = Route::Response(&self.request.payload);
        let sealed = self
            .opened
            .group
            .seal_message(route, payload, Headers::new())
            .await?;
        Ok(self.request.respond(sealed).await?)
    }
}

/// The protected streams that other agents open.
#[derive(Debug)]
pub struct ProtectedStreams {
    streams: IncomingStreams,
    groups: Groups,
}

impl ProtectedStreams {
    /// Accepts the next stream that can be read; `None` when the agent is closed. Gives also who opened it.
    pub async fn next(&mut self) -> Option<(Peer, ProtectedStream)> {
        loop {
            let incoming = self.streams.next().await?;
            let source = incoming.source.clone();
            match self.accept(incoming).await {
                Ok(accepted) => return Some(accepted),
                Err(error) => tracing::warn!(%error, source, "a stream cannot be read"),
            }
        }
    }

    async fn accept(&self, incoming: crate::IncomingStream) -> Result<(Peer, ProtectedStream), GroupError> {
        let source = incoming.source.clone();
        let mut stream = incoming.accept().await?;
        let first = stream
            .recv()
            .await?
            .ok_or(GroupError::TooLate("the tag of the stream"))?;
        let opened = self
            .groups
            .open_message(Route::Other(STREAM, b""), &first, &source)
            .await?;
        let peer = opened.sender;
        let stream = ProtectedStream::new(
            stream,
            opened.group,
            opened.payload,
            false,
            Some(peer.name.clone()),
        );
        Ok((peer, stream))
    }
}

/// A protected stream to another agent.
#[derive(Debug)]
pub struct ProtectedStream {
    sender: ProtectedSender,
    receiver: ProtectedReceiver,
}

/// The sending half of a [`ProtectedStream`].
#[derive(Debug)]
pub struct ProtectedSender {
    stream: StreamSender,
    way: Way,
}

/// The receiving half of a [`ProtectedStream`].
#[derive(Debug)]
pub struct ProtectedReceiver {
    stream: StreamReceiver,
    way: Way,
    /// Who is at the other end, once it has said anything.
    peer: Option<String>,
    ended: bool,
}

/// One way of a stream.
#[derive(Debug, Clone)]
struct Way {
    group: Group,
    tag: Bytes,
    from_opener: bool,
    sequence: u64,
}

impl Way {
    fn next(&mut self) -> Route<'_> {
        self.sequence += 1;
        Route::Chunk {
            tag: &self.tag,
            from_opener: self.from_opener,
            sequence: self.sequence,
        }
    }
}

impl ProtectedStream {
    fn new(
        stream: AgentStream,
        group: Group,
        tag: Bytes,
        opener: bool,
        peer: Option<String>,
    ) -> ProtectedStream {
        let (sender, receiver) = stream.into_split();
        let way = |from_opener| Way {
            group: group.clone(),
            tag: tag.clone(),
            from_opener,
            sequence: 0,
        };
        ProtectedStream {
            sender: ProtectedSender {
                stream: sender,
                way: way(opener),
            },
            receiver: ProtectedReceiver {
                stream: receiver,
                way: way(!opener),
                peer,
                ended: false,
            },
        }
    }

    /// As [`ProtectedSender::send`].
    ///
    /// # Errors
    /// As there.
    pub async fn send(&mut self, payload: impl Into<Bytes>) -> Result<(), GroupError> {
        self.sender.send(payload).await
    }

    /// As [`ProtectedReceiver::recv`].
    ///
    /// # Errors
    /// As there.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, GroupError> {
        self.receiver.recv().await
    }

    /// As [`ProtectedSender::finish`].
    ///
    /// # Errors
    /// As there.
    pub async fn finish(self) -> Result<(), GroupError> {
        self.sender.finish().await
    }

    /// Both halves, for two tasks.
    #[must_use]
    pub fn into_split(self) -> (ProtectedSender, ProtectedReceiver) {
        (self.sender, self.receiver)
    }
}

impl ProtectedSender {
    /// Encrypts and sends one chunk; waits until the peer is ready for it.
    ///
    /// # Errors
    /// [`GroupError`]: with padding and signature a chunk must stay below [`crate::Limits::CHUNK_BYTES_MAX`].
    pub async fn send(&mut self, payload: impl Into<Bytes>) -> Result<(), GroupError> {
        self.say(&Content::encode(payload.into(), Headers::new())).await
    }

    /// Ends the stream in order: the peer reads what was sent, then its end, which is encrypted too.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn finish(mut self) -> Result<(), GroupError> {
        self.say(&Content::end()).await?;
        Ok(self.stream.finish().await?)
    }

    async fn say(&mut self, content: &[u8]) -> Result<(), GroupError> {
        let (group, id) = (self.way.group.clone(), self.way.group.id().clone());
        let sealed = group.groups().inner.seal(&id, self.way.next(), content).await?;
        Ok(self.stream.send(sealed).await?)
    }
}

impl ProtectedReceiver {
    /// The next chunk; `None` when the peer has ended the stream in order.
    ///
    /// # Errors
    /// [`GroupError`]; [`GroupError::Lost`] when the stream was cut off.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, GroupError> {
        if self.ended {
            return Ok(None);
        }
        let Some(chunk) = self.stream.recv().await? else {
            return Err(GroupError::Lost(
                "the stream was cut off before its sender ended it".to_owned(),
            ));
        };
        let group = self.way.group.clone();
        let source = self.peer.clone().unwrap_or_default();
        let opened = group
            .groups()
            .open_message(self.way.next(), &chunk, &source)
            .await?;
        if opened.group.id() != group.id() {
            return Err(GroupError::Rerouted);
        }
        self.peer.get_or_insert(opened.sender.name);
        self.ended = opened.end;
        Ok((!opened.end).then_some(opened.payload))
    }
}
