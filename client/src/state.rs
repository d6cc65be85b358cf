//! State spaces: shared memory of agents with one order for each space.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ringgate_proto::agp::v1 as proto;
use ringgate_proto::agp::v1::agent_message::Body;
use tokio::sync::oneshot;

use crate::connection::Command;
use crate::{Agent, Error, WatchSpace};

/// A state space, from [`Agent::space`].
#[derive(Debug, Clone)]
pub struct Space {
    pub(crate) agent: Agent,
    pub(crate) name: String,
}

/// What a key of a space holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Bytes,
    /// Of the change that put it: its place in the order of the space.
    pub revision: u64,
    /// Who put it: the agent's verified name.
    pub source: String,
    /// When; the start of 1970 where that was not asked for (by [`Space::get`]).
    pub time: SystemTime,
}

/// What the gateway answers.
#[derive(Debug)]
pub(crate) enum Answered {
    Done { revision: u64 },
    Value(proto::StateValue),
}

impl Space {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a key holds; `None` where it is not there.
    ///
    /// # Errors
    ///
    /// [`Error::Gateway`], [`Error::ConnectionLost`] or [`Error::Closed`].
    pub async fn get(&self, key: impl Into<String>) -> Result<Option<Entry>, Error> {
        let id = self.agent.next_id();
        let get = proto::StateGet {
            id,
            space: self.name.clone(),
            key: key.into(),
        };
        match self.ask(id, Body::StateGet(get)).await? {
            Answered::Value(value) if value.exists => Ok(Some(Entry {
                key: value.key,
                value: value.value,
                revision: value.revision,
                source: value.source,
                time: UNIX_EPOCH,
            })),
            Answered::Value(_) | Answered::Done { .. } => Ok(None),
        }
    }

    /// Puts a value. Done by `.await`, which returns the change's revision.
    pub fn put(&self, key: impl Into<String>, value: impl Into<Bytes>) -> Put<'_> {
        Put {
            space: self,
            put: proto::StatePut {
                id: 0,
                space: self.name.clone(),
                key: key.into(),
                value: value.into(),
                expect_revision: None,
                ttl_ms: 0,
            },
        }
    }

    /// Deletes a key; if `expected` is given, only where that is its revision. Returns the change's revision.
    ///
    /// # Errors
    ///
    /// [`Error::Gateway`] (with [`Code::NotFound`](crate::Code::NotFound) or [`Code::Conflict`](crate::Code::Conflict), for two),
    /// [`Error::ConnectionLost`] or [`Error::Closed`].
    pub async fn delete(&self, key: impl Into<String>, expected: Option<u64>) -> Result<u64, Error> {
        let id = self.agent.next_id();
        let delete = proto::StateDelete {
            id,
            space: self.name.clone(),
            key: key.into(),
            expect_revision: expected,
        };
        self.change(id, Body::StateDelete(delete)).await
    }

    /// What the keys that start with `prefix` hold, and what becomes of them.
    pub fn watch(&self, prefix: impl Into<String>) -> WatchSpace<'_> {
        WatchSpace::new(self, prefix.into())
    }

    async fn change(&self, id: u64, body: Body) -> Result<u64, Error> {
        match self.ask(id, body).await? {
            Answered::Done { revision } => Ok(revision),
            Answered::Value(value) => Ok(value.revision),
        }
    }

    async fn ask(&self, id: u64, body: Body) -> Result<Answered, Error> {
        let (done, answer) = oneshot::channel();
        self.agent.command(Command::AskState { id, body, done }).await?;
        answer.await.unwrap_or(Err(Error::Closed))
    }
}

/// A value to be put, from [`Space::put`].
#[derive(Debug)]
#[must_use = "a value is put by .await"]
pub struct Put<'a> {
    space: &'a Space,
    put: proto::StatePut,
}

impl<'a> Put<'a> {
    /// Puts it only where the key has this revision; 0: only where it is not there.
    pub fn expect(mut self, revision: u64) -> Put<'a> {
        self.put.expect_revision = Some(revision);
        self
    }

    /// Deletes it by itself after so long.
    pub fn ttl(mut self, ttl: Duration) -> Put<'a> {
        self.put.ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        self
    }

    /// Puts it. Returns the change's revision.
    ///
    /// # Errors
    ///
    /// [`Error::Gateway`] (with [`Code::Conflict`](crate::Code::Conflict) where the revision is another), [`Error::ConnectionLost`] or
    /// [`Error::Closed`].
    pub async fn send(mut self) -> Result<u64, Error> {
        self.put.id = self.space.agent.next_id();
        self.space.change(self.put.id, Body::StatePut(self.put)).await
    }
}

impl<'a> IntoFuture for Put<'a> {
    type Output = Result<u64, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
