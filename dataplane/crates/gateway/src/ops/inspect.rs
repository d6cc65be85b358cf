//! A look at the gateway from outside: counters, gauges, sessions, subscriptions, agents.

use std::cmp::Reverse;

use ringgate_policy::AgentName;

use crate::action::Status;
use crate::directory::{Agent, Card};
use crate::gateway::Gateway;
use crate::ids::SessionId;
use crate::queue::{FedBy, Lane, NO_GROUP};
use crate::session::{Session, Stage};
use crate::stats::{AgentInfo, SessionInfo, Stats, SubscriptionInfo, TopicInfo};

impl Gateway {
    /// Whether a session whose agent has said all it wants to say is owed an answer still: something waits for it, or will come
    /// without a word of its own.
    pub fn is_owed(&self, session: SessionId) -> bool {
        self.sessions.get(session).is_some_and(|session| {
            session.stage == Stage::Claiming
                || session.subscribing > 0
                || session.pauses.holds > 0
                || !session.calls.requests.is_empty()
                || !session.calls.introductions.is_empty()
                || session.calls.asks > 0
                || !session.queue.is_empty()
        })
    }

    /// Whether there may be something for [`next_ready`](Self::next_ready).
    pub fn has_ready(&self) -> bool {
        self.sessions.has_ready()
    }

    /// Counters and gauges. Counting the gauges takes a walk over the sessions.
    pub fn stats(&self) -> Stats {
        let mut stats = self.sessions.ledger.stats;
        stats.queued_bytes = self.sessions.ledger.queued_bytes;
        stats.agents = self.directory.len() as u64;
        stats.patterns = self.table.len() as u64;
        stats.names = self.names.len() as u64;
        stats.requests = self.requests.len() as u64;
        stats.introductions = self.introductions.len() as u64;
        stats.publishes_held = self.holds.len() as u64;
        stats.state_spaces = self.state.spaces.len() as u64;
        stats.state_keys = self.state.spaces.keys();
        stats.state_bytes = self.state.spaces.bytes();
        stats.state_unsynced_bytes = self.state.journal.unsynced_bytes();
        stats.kept = self.archive.len() as u64;
        stats.kept_bytes = self.archive.bytes();
        stats.kept_evicted = self.archive.evicted();
        (stats.replaying, stats.replaying_bytes) = self.latecomers.load();
        for session in self.sessions.iter() {
            stats.queue_bytes_longest = stats.queue_bytes_longest.max(session.queue.bytes());
            stats.streams_open += u64::from(session.has_stream());
            stats.sessions += u64::from(session.stage == Stage::Active);
            stats.sessions_detached += u64::from(session.stage == Stage::Detached);
            stats.subscriptions += session.subscriptions.len() as u64;
            stats.requests_inbound += session.calls.inbound.len() as u64;
            stats.agent_streams += session.calls.streams.len() as u64;
            stats.introductions_inbound += session.calls.invitations.len() as u64;
            stats.channels += session.calls.channels.len() as u64;
            stats.watches += session.calls.watches.len() as u64;
        }
        stats
    }

    /// A look at each session.
    pub fn sessions(&self) -> impl Iterator<Item = SessionInfo> + '_ {
        self.sessions.iter().map(session_info)
    }

    /// A look at the sessions that read most slowly, by what waits for them and what they lost; `most` at most.
    pub fn slowest_sessions(&self, most: usize) -> Vec<SessionInfo> {
        let rank = |session: &&Session| {
            (
                Reverse(session.queue.bytes()),
                Reverse(session.queue.dropped()),
                session.id,
            )
        };
        let sessions = first_by(self.sessions.iter().collect(), most, rank);
        sessions.into_iter().map(session_info).collect()
    }

    /// A look at the subscriptions that are read most slowly, each with its agent's name; `most` at most.
    pub fn slowest_subscriptions(&self, most: usize) -> Vec<(String, SubscriptionInfo)> {
        let lanes = self.sessions.iter().flat_map(|session| {
            let lanes = session.queue.lanes.iter().filter(|(_, lane)| !lane.closed);
            lanes.map(move |(_, lane)| (session, lane))
        });
        let rank = |(session, lane): &(&Session, &Lane)| {
            (
                Reverse(lane.waiting()),
                Reverse(lane.dropped()),
                session.id,
                lane.id,
            )
        };
        let lanes = first_by(lanes.collect(), most, rank);
        let told = lanes
            .into_iter()
            .map(|(session, lane)| (session.name().to_owned(), self.subscription_info(lane)));
        told.collect()
    }

    fn subscription_info(&self, lane: &Lane) -> SubscriptionInfo {
        SubscriptionInfo {
            id: lane.id,
            pattern: lane.pattern.to_string(),
            group: match lane.group {
                NO_GROUP => String::new(),
                group => self.table.group(group).name.to_string(),
            },
            policy: lane.policy,
            queue_bytes_max: u64::from(lane.bound),
            queued_bytes: lane.waiting(),
            dropped: lane.dropped(),
        }
    }

    /// Agents of the node in the order of their names, from the first behind `after`; `most` at most.
    pub fn agents_after(&self, after: &str, most: usize) -> Vec<AgentInfo> {
        let agents = self
            .directory
            .iter()
            .filter(|agent| agent.card.name.as_str() > after);
        let agents = first_by(agents.collect(), most, |agent: &&Agent| agent.card.name.clone());
        agents
            .into_iter()
            .map(|agent| agent_info(&agent.card, agent.status()))
            .collect()
    }

    /// A look at each subscription of a session.
    pub fn subscriptions(&self, session: SessionId) -> impl Iterator<Item = SubscriptionInfo> + '_ {
        self.sessions.get(session).into_iter().flat_map(|session| {
            session
                .queue
                .lanes
                .iter()
                .filter(|(_, lane)| !lane.closed && matches!(lane.fed, FedBy::Publishes | FedBy::Kept))
                .map(|(_, lane)| self.subscription_info(lane))
        })
    }

    /// Topics that this core's sessions publish to: those published to most, `most` at most.
    pub fn topics(&self, most: usize) -> Vec<TopicInfo> {
        let mut topics: Vec<_> = self
            .table
            .topics()
            .filter(|(_, published)| *published > 0)
            .collect();
        topics.sort_unstable_by_key(|(_, published)| std::cmp::Reverse(*published));
        topics.truncate(most);
        let told = topics.into_iter().map(|(set, published)| TopicInfo {
            topic: set.topic.to_string(),
            published,
            subscribers: (set.locals.len() + set.late.len()) as u64
                + set.groups.len() as u64
                + set
                    .remotes
                    .iter()
                    .map(|remote| u64::from(remote.subscribers))
                    .sum::<u64>(),
        });
        told.collect()
    }

    /// Whether a session's stream is by a credential that was good when it was examined last.
    pub fn vouches(&self, session: SessionId) -> bool {
        self.sessions.get(session).is_some_and(|session| {
            let serves = matches!(session.stage, Stage::Opened | Stage::Claiming | Stage::Active);
            serves && session.peer.identity.proved().is_some()
        })
    }

    /// The name of a session's agent, shared; `None` before Register.
    pub fn name_of(&self, session: SessionId) -> Option<AgentName> {
        Some(self.sessions.get(session)?.card.as_ref()?.name.clone())
    }

    /// Every agent of the node, as this core knows it.
    pub fn agents(&self) -> impl Iterator<Item = AgentInfo> + '_ {
        self.directory
            .iter()
            .map(|agent| agent_info(&agent.card, agent.status()))
    }

    /// The agents whose sessions are here.
    pub fn own_agents(&self) -> impl Iterator<Item = AgentInfo> + '_ {
        self.directory
            .iter()
            .filter(|agent| agent.card.address.core == self.core)
            .map(|agent| agent_info(&agent.card, agent.status()))
    }
}

/// The first `most` by a key, in order; the rest is not sorted.
fn first_by<T, K: Ord>(mut all: Vec<T>, most: usize, key: impl Fn(&T) -> K) -> Vec<T> {
    if most < all.len() {
        all.select_nth_unstable_by_key(most, &key);
        all.truncate(most);
    }
    all.sort_unstable_by_key(key);
    all
}

fn session_info(session: &Session) -> SessionInfo {
    SessionInfo {
        session: session.id,
        name: session.name().to_owned(),
        address: session.peer.address.clone(),
        connection: session.peer.connection,
        detached: session.stage == Stage::Detached,
        paused: session.pauses.any(),
        queued_bytes: session.queue.bytes(),
        published: session.sequence,
        dropped: session.queue.dropped(),
        subscriptions: session.subscriptions.len() as u32,
        requests: session.calls.requests.len() as u32,
    }
}

/// What is told of an agent.
pub(crate) fn agent_info(card: &Card, status: Status) -> AgentInfo {
    AgentInfo {
        name: card.name.to_string(),
        core: card.address.core,
        session: card.address.session,
        capabilities: card.capabilities.iter().map(ToString::to_string).collect(),
        labels: card
            .labels
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect(),
        status,
        since_unix: card.since_unix,
        serial: card
            .identity
            .proved()
            .map_or(String::new(), |credential| credential.serial.clone()),
    }
}
