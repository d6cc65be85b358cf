//! Watching a state space.

use std::collections::VecDeque;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, UNIX_EPOCH};

use ringgate_proto::agp::v1 as proto;
use tokio::sync::oneshot;

use crate::Error;
use crate::agent::Shared;
use crate::connection::{Command, Control};
use crate::inbox::register;
use crate::state::{Entry, Space};

/// What becomes of a space.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A key holds this now, or, before [`Live`](Change::Live), holds it already.
    Put(Entry),
    /// A key is gone.
    Deleted {
        /// Which.
        key: String,
        /// Of the change.
        revision: u64,
        /// Who deleted it; empty where its time was over.
        source: String,
    },
    /// All that the space held at this revision has been told; what follows are changes as they happen.
    Live {
        /// Of the space.
        revision: u64,
    },
    /// Changes were missed that the gateway no longer has: forget what you know. All that the space holds follows, then
    /// [`Live`](Change::Live).
    Restarted,
}

/// A watch to be begun, from [`Space::watch`]. Begun by `.await`.
#[derive(Debug)]
#[must_use = "a watch is begun by .await"]
pub struct WatchSpace<'a> {
    space: &'a Space,
    prefix: String,
    from: Option<u64>,
}

impl<'a> WatchSpace<'a> {
    pub(crate) fn new(space: &'a Space, prefix: String) -> WatchSpace<'a> {
        WatchSpace {
            space,
            prefix,
            from: None,
        }
    }

    /// Begins with the change of this revision, and not with what the space holds.
    pub fn from(mut self, revision: u64) -> WatchSpace<'a> {
        self.from = Some(revision);
        self
    }

    /// Begins.
    ///
    /// # Errors
    ///
    /// [`Error::Gateway`] (not allowed, too many; [`Code::Compacted`](crate::Code::Compacted) where the revision to begin with is gone),
    /// [`Error::ConnectionLost`] or [`Error::Closed`].
    pub async fn send(self) -> Result<Watch, Error> {
        let shared = Arc::clone(&self.space.agent.shared);
        let state = Arc::new(WatchState {
            id: shared.next_id(),
            space: self.space.name.clone(),
            prefix: self.prefix,
            changes_max: shared.config.limits.subscription_messages_max.max(1),
            inner: Mutex::new(Inner {
                position: self.from.map(|from| from.saturating_sub(1)),
                ..Inner::default()
            }),
        });
        let (done, answer) = oneshot::channel();
        // From here on a drop ends it.
        let watch = Watch {
            shared: Arc::clone(&shared),
            state: Arc::clone(&state),
        };
        let done = Some(done);
        shared.command(Command::Watch { state, done }).await?;
        answer.await.unwrap_or(Err(Error::Closed))?;
        Ok(watch)
    }
}

impl<'a> IntoFuture for WatchSpace<'a> {
    type Output = Result<Watch, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// The changes of a space, in order. It goes on over losses of the connection, without a gap as long as the gateway keeps the changes.
/// Dropped, it ends.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    state: Arc<WatchState>,
}

impl Watch {
    /// The next change; `None` when the watch has ended.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            match std::future::poll_fn(|context| self.state.poll(context)).await {
                Next::Change(change) => return Some(change),
                Next::End => return None,
                Next::Again => {
                    let state = Arc::clone(&self.state);
                    // If the session is over, the next look says so.
                    let _ = self.shared.command(Command::Watch { state, done: None }).await;
                }
            }
        }
    }

    /// Why it ended; `None` while it goes on and where it was ended by the application.
    pub fn error(&self) -> Option<Error> {
        match &self.state.lock().ended {
            Some(Err(error)) => Some(error.clone()),
            _ => None,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.state.end(Ok(()));
        self.shared.control(Control::Unwatch(self.state.id));
    }
}

/// What the application and the driver share of a watch.
#[derive(Debug)]
pub(crate) struct WatchState {
    pub(crate) id: u64,
    space: String,
    prefix: String,
    changes_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<Change>,
    /// All changes up to this revision are, or were, in the queue; none: the snapshot is not whole.
    position: Option<u64>,
    /// The queue was full: the gateway was told to stop, and is asked again once the application has read it.
    stopped: bool,
    /// What it sent before it heard of that may still be on its way.
    stopping: bool,
    ended: Option<Result<(), Error>>,
    readers: Vec<Waker>,
}

enum Next {
    Change(Change),
    Again,
    End,
}

impl WatchState {
    /// The message that begins it, or goes on with it.
    pub(crate) fn watch(&self) -> proto::StateWatch {
        proto::StateWatch {
            id: self.id,
            space: self.space.clone(),
            prefix: self.prefix.clone(),
            from_revision: self.lock().position.map(|position| position + 1),
        }
    }

    /// Takes an event. False if there is no room: the gateway is to be told to stop.
    pub(crate) fn push(&self, event: proto::StateEvent) -> bool {
        let mut inner = self.lock();
        if inner.ended.is_some() || inner.stopped {
            return true;
        }
        // A snapshot is not cut: it could not be gone on with.
        if inner.position.is_some() && inner.queue.len() >= self.changes_max {
            inner.stopped = true;
            inner.stopping = true;
            return false;
        }
        let revision = event.revision;
        let change = match event.change() {
            proto::StateChange::SnapshotEnd => Change::Live { revision },
            proto::StateChange::Delete => Change::Deleted {
                key: event.key,
                revision,
                source: event.source,
            },
            _ => Change::Put(Entry {
                key: event.key,
                value: event.value,
                revision,
                source: event.source,
                time: UNIX_EPOCH + Duration::from_nanos(event.time_unix_nanos),
            }),
        };
        if inner.position.is_some() || matches!(change, Change::Live { .. }) {
            inner.position = Some(revision);
        }
        inner.queue.push_back(change);
        inner.wake();
        true
    }

    /// The gateway has acknowledged something: that it stopped, if it was told to.
    pub(crate) fn acknowledged(&self) {
        let mut inner = self.lock();
        if std::mem::take(&mut inner.stopping) {
            inner.wake();
        }
    }

    /// What it would have gone on with is gone: it begins anew.
    pub(crate) fn restart(&self) {
        let mut inner = self.lock();
        inner.position = None;
        // What it did not tell yet is of no use any more.
        inner.queue.clear();
        inner.queue.push_back(Change::Restarted);
        inner.wake();
    }

    /// The connection is another. Whether it is to be watched again there.
    pub(crate) fn moves(&self) -> bool {
        let half = {
            let mut inner = self.lock();
            inner.stopping = false;
            inner.wake();
            if inner.ended.is_some() || inner.stopped {
                return false;
            }
            inner.position.is_none()
        };
        if half {
            self.restart();
        }
        true
    }

    pub(crate) fn end(&self, how: Result<(), Error>) {
        let mut inner = self.lock();
        inner.ended.get_or_insert(how);
        inner.wake();
    }

    fn poll(&self, context: &Context<'_>) -> Poll<Next> {
        let mut inner = self.lock();
        if let Some(change) = inner.queue.pop_front() {
            return Poll::Ready(Next::Change(change));
        }
        if inner.ended.is_some() {
            return Poll::Ready(Next::End);
        }
        if inner.stopped && !inner.stopping {
            inner.stopped = false;
            return Poll::Ready(Next::Again);
        }
        register(&mut inner.readers, context);
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn wake(&mut self) {
        self.readers.drain(..).for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(from: Option<u64>) -> WatchState {
        WatchState {
            id: 1,
            space: "s".into(),
            prefix: String::new(),
            changes_max: 2,
            inner: Mutex::new(Inner {
                position: from.map(|from| from - 1),
                ..Inner::default()
            }),
        }
    }

    fn event(revision: u64, change: proto::StateChange) -> proto::StateEvent {
        proto::StateEvent {
            id: 1,
            key: "k".into(),
            revision,
            change: change.into(),
            ..Default::default()
        }
    }

    fn put(revision: u64) -> proto::StateEvent {
        event(revision, proto::StateChange::Put)
    }

    fn next(state: &WatchState) -> Option<Next> {
        match state.poll(&Context::from_waker(Waker::noop())) {
            Poll::Ready(next) => Some(next),
            Poll::Pending => None,
        }
    }

    fn revision(state: &WatchState) -> u64 {
        match next(state) {
            Some(Next::Change(Change::Put(entry))) => entry.revision,
            Some(Next::Change(Change::Live { revision })) => revision,
            _ => 0,
        }
    }

    #[test]
    fn a_full_queue_stops_and_goes_on_behind_what_it_held() {
        let state = state(Some(5));
        assert!(state.push(put(5)) && state.push(put(6)));
        assert!(!state.push(put(7)), "the gateway is to be told to stop");
        // What was on its way is not taken, also once there is room again.
        assert!(state.push(put(8)));
        assert_eq!((revision(&state), revision(&state)), (5, 6));
        assert!(state.push(put(9)) && next(&state).is_none());
        state.acknowledged();
        assert!(matches!(next(&state), Some(Next::Again)));
        assert_eq!(state.watch().from_revision, Some(7));
        assert!(state.push(put(7)));
        assert_eq!(revision(&state), 7);
    }

    #[test]
    fn a_snapshot_is_whole_or_begins_anew() {
        let state = state(None);
        (1..=4).for_each(|revision| assert!(state.push(put(revision))));
        assert_eq!((revision(&state), state.watch().from_revision), (1, None));
        assert!(state.moves(), "it is watched on the next connection");
        assert!(matches!(next(&state), Some(Next::Change(Change::Restarted))));
        assert!(state.push(put(3)) && state.push(event(9, proto::StateChange::SnapshotEnd)));
        assert_eq!((revision(&state), revision(&state)), (3, 9));
        assert_eq!(state.watch().from_revision, Some(10));
        assert!(state.moves() && next(&state).is_none());
    }
}
