//! Which subscriptions a notification is for.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::connection::Done;
use crate::pattern;
use crate::subscription::{Notification, SubscriptionState};

/// Copies of how many messages are remembered to tell the members of queue groups apart. Copies come close behind each other.
const RECENT_MAX: usize = 256;

/// The subscriptions, found by topic.
///
/// A Notify names its topic only. The gateway sends one copy for all plain subscriptions together, and one more for each queue
/// group in which this agent's turn has come; the copies are alike. So the first copy is for the plain subscriptions and each
/// further one for a group.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    by_id: HashMap<u64, Route>,
    exact: HashMap<String, Vec<Arc<SubscriptionState>>>,
    wild: Vec<Arc<SubscriptionState>>,
    /// Publisher, sequence, copies so far.
    recent: VecDeque<(String, u64, usize)>,
}

/// A subscription as the driver knows it.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) state: Arc<SubscriptionState>,
    /// Who waits for the gateway's word; `None` once it is there.
    pub(crate) done: Option<Done<()>>,
}

impl Routes {
    pub(crate) fn insert(&mut self, state: Arc<SubscriptionState>, done: Done<()>) {
        let pattern = &state.subscribe.pattern;
        if pattern::is_wild(pattern) {
            self.wild.push(Arc::clone(&state));
        } else {
            self.exact
                .entry(pattern.clone())
                .or_default()
                .push(Arc::clone(&state));
        }
        self.by_id.insert(
            state.subscribe.id,
            Route {
                state,
                done: Some(done),
            },
        );
    }

    pub(crate) fn remove(&mut self, id: u64) -> Option<Route> {
        let route = self.by_id.remove(&id)?;
        let pattern = &route.state.subscribe.pattern;
        self.wild.retain(|state| state.subscribe.id != id);
        if let Some(states) = self.exact.get_mut(pattern) {
            states.retain(|state| state.subscribe.id != id);
            if states.is_empty() {
                self.exact.remove(pattern);
            }
        }
        Some(route)
    }

    pub(crate) fn get_mut(&mut self, id: u64) -> Option<&mut Route> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Route> {
        self.by_id.values()
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Route> {
        self.exact.clear();
        self.wild.clear();
        self.by_id.drain().map(|(_, route)| route)
    }

    /// Numbers of publishers start anew with another session.
    pub(crate) fn forget_copies(&mut self) {
        self.recent.clear();
    }

    /// Hands a notification to the subscriptions it is for. Those that want the driver to wait are put into `blocked`.
    pub(crate) fn deliver(
        &mut self,
        notification: Notification,
        blocked: &mut VecDeque<(Arc<SubscriptionState>, Notification)>,
    ) {
        let mut plain = Vec::new();
        let mut groups = Vec::new();
        let topic = &notification.topic;
        let exact = self.exact.get(topic).into_iter().flatten();
        let wild = self
            .wild
            .iter()
            .filter(|state| pattern::matches(&state.subscribe.pattern, topic));
        for state in exact.chain(wild) {
            if state.subscribe.group.is_empty() {
                plain.push(state)
            } else {
                groups.push(state)
            }
        }
        let is_ambiguous = plain.len().min(1) + groups.len() > 1;
        let copy = if is_ambiguous {
            count_copy(&mut self.recent, &notification)
        } else {
            0
        };
        let chosen = match copy.checked_sub(plain.len().min(1)) {
            None => plain,
            Some(turn) => groups
                .get(turn % groups.len().max(1))
                .copied()
                .into_iter()
                .collect(),
        };
        let Some((last, others)) = chosen.split_last() else {
            return;
        };
        for state in others {
            push(state, notification.clone(), blocked);
        }
        push(last, notification, blocked);
    }
}

fn push(
    state: &Arc<SubscriptionState>,
    notification: Notification,
    blocked: &mut VecDeque<(Arc<SubscriptionState>, Notification)>,
) {
    if let Some(notification) = state.push(notification) {
        blocked.push_back((Arc::clone(state), notification));
    }
}

/// How many copies of this message have come before.
fn count_copy(recent: &mut VecDeque<(String, u64, usize)>, notification: &Notification) -> usize {
    let known = recent
        .iter_mut()
        .rev()
        .find(|(source, sequence, _)| *sequence == notification.sequence && *source == notification.source);
    if let Some((_, _, copies)) = known {
        *copies += 1;
        return *copies;
    }
    if recent.len() == RECENT_MAX {
        recent.pop_front();
    }
    recent.push_back((notification.source.clone(), notification.sequence, 0));
    0
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::DeliveryPolicy;
    use crate::subscription::tests::{notification, read, state};

    fn subscribed(routes: &mut Routes, id: u64, pattern: &str, group: &str) -> Arc<SubscriptionState> {
        let mut state = state(pattern, group, DeliveryPolicy::default(), 10);
        state.subscribe.id = id;
        let state = Arc::new(state);
        routes.insert(Arc::clone(&state), oneshot::channel().0);
        state
    }

    fn deliver(routes: &mut Routes, topic: &str, sequence: u64) {
        routes.deliver(notification(topic, sequence, 1), &mut VecDeque::new());
    }

    #[test]
    fn one_copy_serves_all_plain_subscriptions() {
        let mut routes = Routes::default();
        let exact = subscribed(&mut routes, 1, "a/b", "");
        let wild = subscribed(&mut routes, 2, "a/*", "");
        let other = subscribed(&mut routes, 3, "b/*", "");
        deliver(&mut routes, "a/b", 1);
        assert_eq!(
            (read(&exact), read(&wild), read(&other)),
            ("1".into(), "1".into(), String::new())
        );
    }

    #[test]
    fn a_second_copy_is_for_the_queue_group() {
        let mut routes = Routes::default();
        let plain = subscribed(&mut routes, 1, "a/**", "");
        let group = subscribed(&mut routes, 2, "a/b", "workers");
        deliver(&mut routes, "a/b", 1);
        deliver(&mut routes, "a/b", 1);
        deliver(&mut routes, "a/b", 2);
        assert_eq!((read(&plain), read(&group)), ("1 2".into(), "1".into()));
    }

    #[test]
    fn a_removed_subscription_gets_no_more() {
        let mut routes = Routes::default();
        let exact = subscribed(&mut routes, 1, "a/b", "");
        let wild = subscribed(&mut routes, 2, "**", "");
        assert!(routes.remove(1).is_some() && routes.remove(2).is_some() && routes.remove(2).is_none());
        deliver(&mut routes, "a/b", 1);
        assert_eq!((read(&exact), read(&wild)), (String::new(), String::new()));
        assert!(routes.exact.is_empty() && routes.wild.is_empty());
    }
}
