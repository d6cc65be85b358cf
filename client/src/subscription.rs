//! Messages of a topic pattern.

use std::collections::VecDeque;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ringgate_proto::agp::v1 as proto;
use tokio::sync::oneshot;
use tokio_stream::Stream;

use crate::agent::Shared;
use crate::connection::{Command, Control};
use crate::inbox::register;
use crate::{Agent, Error, Headers};

/// What happens when a subscription's queue is full: the one at the gateway, and the one in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeliveryPolicy {
    /// The oldest waiting message gives way.
    #[default]
    DropOldest,
    /// The arriving message is not queued.
    DropNewest,
    /// The gateway keeps the newest message of each topic. In this process as [`DropOldest`](Self::DropOldest).
    Latest,
    /// The gateway ends the session; in this process the subscription ends with [`Error::Overflow`].
    Disconnect,
    /// Publishers are held back, up to this long (0: the gateway's default). In this process the whole agent reads no further, so
    /// read the subscription in a task of its own.
    Block(Duration),
}

/// A published message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notification {
    /// Where it was published.
    pub topic: String,
    /// What was published.
    pub payload: Bytes,
    /// What stands beside it.
    pub headers: Headers,
    /// Who published it: the publisher's verified name.
    pub source: String,
    /// Counts the publisher's publishes from 1, over all topics.
    pub sequence: u64,
    /// When the gateway received it.
    pub time: SystemTime,
}

impl Notification {
    pub(crate) fn new(notify: proto::Notify) -> Notification {
        Notification {
            topic: notify.topic,
            payload: notify.payload,
            headers: notify.headers,
            source: notify.source,
            sequence: notify.sequence,
            time: UNIX_EPOCH + Duration::from_nanos(notify.time_unix_nanos),
        }
    }

    /// What it costs of the queue's bound.
    fn bytes(&self) -> usize {
        self.payload.len()
    }
}

/// Messages that were lost, just here in the order, by the gateway's queue or this process's.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// How many.
    pub dropped: u64,
    /// How many bytes of them.
    pub dropped_bytes: u64,
    /// Their topic, where all were of one; else empty.
    pub topic: String,
}

impl Gap {
    pub(crate) fn new(gap: proto::Gap) -> Gap {
        Gap {
            dropped: gap.dropped,
            dropped_bytes: gap.dropped_bytes,
            topic: gap.topic,
        }
    }

    fn of(lost: Notification) -> Gap {
        Gap {
            dropped: 1,
            dropped_bytes: lost.bytes() as u64,
            topic: lost.topic,
        }
    }

    fn merge(&mut self, other: Gap) {
        self.dropped += other.dropped;
        self.dropped_bytes += other.dropped_bytes;
        if self.topic != other.topic {
            self.topic.clear();
        }
    }
}

/// What comes out of a [`Subscription`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A message.
    Notification(Notification),
    /// Messages were lost here.
    Gap(Gap),
    /// The connection was lost and the gateway no longer had the session: an unknown number of messages may be missing here.
    Interrupted,
}

/// What the application and the driver share of a subscription.
#[derive(Debug)]
pub(crate) struct SubscriptionState {
    pub(crate) subscribe: proto::Subscribe,
    policy: DeliveryPolicy,
    messages_max: usize,
    bytes_max: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Gaps lie beside messages and merge, so that there are never more of them than messages.
    queue: VecDeque<Event>,
    messages: usize,
    bytes: usize,
    ended: Option<Result<(), Error>>,
    readers: Vec<Waker>,
    /// The driver, waiting for room.
    driver: Option<Waker>,
}

impl SubscriptionState {
    /// Queues a notification. Gives it back if the policy is to wait and there is no room.
    pub(crate) fn push(&self, notification: Notification) -> Option<Notification> {
        let mut waiting = self.lock();
        if waiting.ended.is_some() {
            return None;
        }
        while self.is_full(&waiting, notification.bytes()) {
            match self.policy {
                DeliveryPolicy::DropOldest | DeliveryPolicy::Latest => waiting.drop_oldest(),
                DeliveryPolicy::DropNewest => {
                    waiting.push_gap(Gap::of(notification));
                    return None;
                }
                DeliveryPolicy::Disconnect => {
                    drop(waiting);
                    self.end(Err(Error::Overflow));
                    return None;
                }
                DeliveryPolicy::Block(_) => return Some(notification),
            }
        }
        waiting.messages += 1;
        waiting.bytes += notification.bytes();
        waiting.queue.push_back(Event::Notification(notification));
        waiting.wake_readers();
        None
    }

    /// The gateway has lost messages here.
    pub(crate) fn gap(&self, gap: Gap) {
        let mut waiting = self.lock();
        waiting.push_gap(gap);
        waiting.wake_readers();
    }

    /// The session is another.
    pub(crate) fn interrupted(&self) {
        let mut waiting = self.lock();
        if waiting.queue.back() != Some(&Event::Interrupted) {
            waiting.queue.push_back(Event::Interrupted);
        }
        waiting.wake_readers();
    }

    /// No more will come. The first reason counts.
    pub(crate) fn end(&self, how: Result<(), Error>) {
        let mut waiting = self.lock();
        waiting.ended.get_or_insert(how);
        waiting.wake_readers();
        if let Some(driver) = waiting.driver.take() {
            driver.wake();
        }
    }

    /// Ready when there is room, or nobody cares any more.
    pub(crate) fn poll_room(&self, context: &Context<'_>) -> Poll<()> {
        let mut waiting = self.lock();
        if waiting.ended.is_some() || !self.is_full(&waiting, 0) {
            return Poll::Ready(());
        }
        waiting.driver = Some(context.waker().clone());
        Poll::Pending
    }

    fn poll_event(&self, context: &Context<'_>) -> Poll<Option<Event>> {
        let mut waiting = self.lock();
        let Some(event) = waiting.queue.pop_front() else {
            if waiting.ended.is_some() {
                return Poll::Ready(None);
            }
            register(&mut waiting.readers, context);
            return Poll::Pending;
        };
        if let Event::Notification(notification) = &event {
            waiting.messages -= 1;
            waiting.bytes -= notification.bytes();
            if let Some(driver) = waiting.driver.take() {
                driver.wake();
            }
        }
        Poll::Ready(Some(event))
    }

    /// A message larger than the bound is held if it is alone.
    fn is_full(&self, waiting: &Waiting, additional: usize) -> bool {
        waiting.messages >= self.messages_max
            || (waiting.messages > 0 && waiting.bytes + additional > self.bytes_max)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Puts a gap into the place of the oldest message. In front of it there are at most a gap and an interruption.
    fn drop_oldest(&mut self) {
        let Some(at) = self
            .queue
            .iter()
            .position(|event| matches!(event, Event::Notification(_)))
        else {
            return;
        };
        let Some(Event::Notification(lost)) = self.queue.remove(at) else {
            return;
        };
        self.messages -= 1;
        self.bytes -= lost.bytes();
        match at.checked_sub(1).and_then(|before| self.queue.get_mut(before)) {
            Some(Event::Gap(gap)) => gap.merge(Gap::of(lost)),
            _ => self.queue.insert(at, Event::Gap(Gap::of(lost))),
        }
    }

    fn push_gap(&mut self, gap: Gap) {
        match self.queue.back_mut() {
            Some(Event::Gap(last)) => last.merge(gap),
            _ => self.queue.push_back(Event::Gap(gap)),
        }
    }

    fn wake_readers(&mut self) {
        self.readers.drain(..).for_each(Waker::wake);
    }
}

/// A subscription to be made, from [`Agent::subscribe`]. Made by `.await`.
#[derive(Debug)]
#[must_use = "a subscription is made by .await"]
pub struct Subscribe<'a> {
    agent: &'a Agent,
    pattern: String,
    group: String,
    policy: DeliveryPolicy,
    queue_bytes: u64,
}

impl<'a> Subscribe<'a> {
    pub(crate) fn new(agent: &'a Agent, pattern: String) -> Subscribe<'a> {
        let policy = DeliveryPolicy::default();
        Subscribe {
            agent,
            pattern,
            group: String::new(),
            policy,
            queue_bytes: 0,
        }
    }

    /// Joins a queue group: of its members, over all agents, one gets each message. An agent that joins several groups on patterns
    /// that overlap cannot tell for which of them a message came; use an agent for each.
    pub fn group(mut self, group: impl Into<String>) -> Subscribe<'a> {
        self.group = group.into();
        self
    }

    /// What happens when the queue is full. Default: [`DeliveryPolicy::DropOldest`].
    pub fn policy(mut self, policy: DeliveryPolicy) -> Subscribe<'a> {
        self.policy = policy;
        self
    }

    /// Bound of the gateway's queue, in bytes. Default: the gateway's own.
    pub fn queue_bytes(mut self, bytes: u64) -> Subscribe<'a> {
        self.queue_bytes = bytes;
        self
    }

    /// Subscribes. When this returns, the gateway routes every matching message here.
    ///
    /// # Errors
    ///
    /// [`Error::Gateway`] (malformed pattern, not allowed, too many) or [`Error::Closed`].
    pub async fn send(self) -> Result<Subscription, Error> {
        let shared = &self.agent.shared;
        let state = Arc::new(self.state(shared));
        let (done, answer) = oneshot::channel();
        // From here on a drop unsubscribes.
        let subscription = Subscription {
            shared: Arc::clone(shared),
            state: Arc::clone(&state),
        };
        shared.command(Command::Subscribe { state, done }).await?;
        answer.await.unwrap_or(Err(Error::Closed))?;
        Ok(subscription)
    }

    fn state(&self, shared: &Shared) -> SubscriptionState {
        let limits = &shared.config.limits;
        SubscriptionState {
            subscribe: proto::Subscribe {
                id: shared.next_id(),
                pattern: self.pattern.clone(),
                group: self.group.clone(),
                delivery: Some(self.delivery()),
            },
            policy: self.policy,
            messages_max: limits.subscription_messages_max.max(1),
            bytes_max: limits.subscription_bytes_max,
            waiting: Mutex::default(),
        }
    }

    fn delivery(&self) -> proto::Delivery {
        let mut block_ms = 0;
        let policy = match self.policy {
            DeliveryPolicy::DropOldest => proto::DeliveryPolicy::DropOldest,
            DeliveryPolicy::DropNewest => proto::DeliveryPolicy::DropNewest,
            DeliveryPolicy::Latest => proto::DeliveryPolicy::Latest,
            DeliveryPolicy::Disconnect => proto::DeliveryPolicy::Disconnect,
            DeliveryPolicy::Block(up_to) => {
                block_ms = u32::try_from(up_to.as_millis()).unwrap_or(u32::MAX);
                proto::DeliveryPolicy::Block
            }
        };
        proto::Delivery {
            policy: policy.into(),
            queue_bytes: self.queue_bytes,
            block_ms,
        }
    }
}

impl<'a> IntoFuture for Subscribe<'a> {
    type Output = Result<Subscription, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// Messages of a topic pattern, in order: also a [`Stream`]. Dropped, it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    shared: Arc<Shared>,
    state: Arc<SubscriptionState>,
}

impl Subscription {
    /// The next event; `None` when the subscription has ended.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| self.state.poll_event(context)).await
    }

    /// Why it ended; `None` while it goes on and where it was ended by the application.
    pub fn error(&self) -> Option<Error> {
        match &self.state.lock().ended {
            Some(Err(error)) => Some(error.clone()),
            _ => None,
        }
    }

    /// The pattern.
    pub fn pattern(&self) -> &str {
        &self.state.subscribe.pattern
    }

    /// Unsubscribes and waits for the gateway. What came before can still be read.
    ///
    /// # Errors
    ///
    /// [`Error::Gateway`], [`Error::ConnectionLost`] or [`Error::Closed`].
    pub async fn unsubscribe(&mut self) -> Result<(), Error> {
        let (done, answer) = oneshot::channel();
        let id = self.state.subscribe.id;
        self.shared.command(Command::Unsubscribe { id, done }).await?;
        answer.await.unwrap_or(Err(Error::Closed))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.state.end(Ok(()));
        self.shared.control(Control::Unsubscribe(self.state.subscribe.id));
    }
}

impl Stream for Subscription {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.state.poll_event(context)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn state(
        pattern: &str,
        group: &str,
        policy: DeliveryPolicy,
        messages_max: usize,
    ) -> SubscriptionState {
        SubscriptionState {
            subscribe: proto::Subscribe {
                id: 1,
                pattern: pattern.into(),
                group: group.into(),
                delivery: None,
            },
            policy,
            messages_max,
            bytes_max: 1000,
            waiting: Mutex::default(),
        }
    }

    pub(crate) fn notification(topic: &str, sequence: u64, bytes: usize) -> Notification {
        Notification::new(proto::Notify {
            topic: topic.into(),
            payload: vec![0; bytes].into(),
            source: "a/b/c/d".into(),
            sequence,
            ..Default::default()
        })
    }

    /// What is waiting, in one line: sequences, and gaps with their counts.
    pub(crate) fn read(state: &SubscriptionState) -> String {
        let mut line = Vec::new();
        let context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(event)) = state.poll_event(&context) {
            line.push(match event {
                Event::Notification(notification) => notification.sequence.to_string(),
                Event::Gap(gap) => format!("gap({}, {}, {})", gap.dropped, gap.dropped_bytes, gap.topic),
                Event::Interrupted => "interrupted".into(),
            });
        }
        line.join(" ")
    }

    #[test]
    fn the_oldest_give_way_to_a_gap_in_their_place() {
        let state = state("t", "", DeliveryPolicy::DropOldest, 3);
        for sequence in 1..=5 {
            assert_eq!(state.push(notification("t", sequence, 10)), None);
        }
        assert_eq!(read(&state), "gap(2, 20, t) 3 4 5");
    }

    #[test]
    fn the_newest_are_replaced_by_a_gap_in_their_place() {
        let state = state("t", "", DeliveryPolicy::DropNewest, 2);
        for sequence in 1..=4 {
            assert_eq!(
                state.push(notification(if sequence == 4 { "u" } else { "t" }, sequence, 10)),
                None
            );
        }
        assert_eq!(read(&state), "1 2 gap(2, 20, )");
        assert_eq!(state.push(notification("t", 5, 10)), None);
        assert_eq!(read(&state), "5");
    }

    #[test]
    fn bytes_are_bounded_too() {
        let state = state("t", "", DeliveryPolicy::DropOldest, 100);
        for sequence in 1..=3 {
            assert_eq!(state.push(notification("t", sequence, 500)), None);
        }
        // Larger than the bound: held alone.
        assert_eq!(read(&state), "gap(1, 500, t) 2 3");
        assert_eq!(state.push(notification("t", 4, 5000)), None);
        assert_eq!(read(&state), "4");
    }

    #[test]
    fn block_gives_the_message_back_until_there_is_room() {
        let state = state("t", "", DeliveryPolicy::Block(Duration::ZERO), 1);
        assert_eq!(state.push(notification("t", 1, 1)), None);
        let context = Context::from_waker(Waker::noop());
        let blocked = state.push(notification("t", 2, 1)).unwrap();
        assert!(state.poll_room(&context).is_pending());
        assert_eq!(read(&state), "1");
        assert!(state.poll_room(&context).is_ready());
        assert_eq!(state.push(blocked), None);
        assert_eq!(read(&state), "2");
    }

    #[test]
    fn disconnect_ends_the_subscription_after_what_came() {
        let state = state("t", "", DeliveryPolicy::Disconnect, 1);
        assert_eq!(state.push(notification("t", 1, 1)), None);
        assert_eq!(state.push(notification("t", 2, 1)), None);
        assert_eq!(state.push(notification("t", 3, 1)), None);
        assert_eq!(read(&state), "1");
        assert!(matches!(state.lock().ended, Some(Err(Error::Overflow))));
    }

    #[test]
    fn gaps_of_the_gateway_keep_their_place() {
        let state = state("t", "", DeliveryPolicy::DropOldest, 2);
        assert_eq!(state.push(notification("t", 1, 1)), None);
        state.gap(Gap {
            dropped: 7,
            dropped_bytes: 70,
            topic: "t".into(),
        });
        assert_eq!(state.push(notification("t", 9, 1)), None);
        state.interrupted();
        state.interrupted();
        assert_eq!(state.push(notification("t", 1, 1)), None);
        assert_eq!(read(&state), "gap(1, 1, t) gap(7, 70, t) 9 interrupted 1");
    }
}
