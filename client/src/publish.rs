//! One message to all subscribers of a topic.

use bytes::Bytes;
use ringgate_proto::agp::v1 as proto;
use ringgate_proto::agp::v1::agent_message::Body;

use crate::connection::Command;
use crate::{Agent, Error, Headers};

/// A message to be published, from [`Agent::publication`].
#[derive(Debug)]
#[must_use = "it is published by send() or send_acked()"]
pub struct Publication<'a> {
    agent: &'a Agent,
    topic: String,
    payload: Bytes,
    headers: Headers,
}

impl<'a> Publication<'a> {
    pub(crate) fn new(agent: &'a Agent, topic: String, payload: Bytes) -> Publication<'a> {
        Publication {
            agent,
            topic,
            payload,
            headers: Headers::new(),
        }
    }

    /// Sets a header.
    pub fn header(mut self, key: impl Into<String>, value: impl Into<String>) -> Publication<'a> {
        self.headers.insert(key.into(), value.into());
        self
    }

    /// Publishes without waiting for the gateway; waits only while the way out is full. May be lost with the connection.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`]. What the gateway refuses (a malformed topic) is not told; [`send_acked`](Self::send_acked) does.
    pub async fn send(self) -> Result<(), Error> {
        let agent = self.agent;
        agent
            .command(Command::Say(Body::Publish(self.into_publish(0))))
            .await
    }

    /// Publishes and waits for the gateway. Returns for how many subscribers the message was queued.
    ///
    /// # Errors
    ///
    /// [`Error::Gateway`], [`Error::ConnectionLost`] or [`Error::Closed`].
    pub async fn send_acked(self) -> Result<u32, Error> {
        let agent = self.agent;
        let (done, answer) = tokio::sync::oneshot::channel();
        let publish = self.into_publish(agent.next_id());
        agent.command(Command::PublishAcked { publish, done }).await?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    fn into_publish(self, id: u64) -> proto::Publish {
        proto::Publish {
            topic: self.topic,
            payload: self.payload,
            headers: self.headers,
            id,
        }
    }
}
