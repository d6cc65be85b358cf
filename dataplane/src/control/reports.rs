//! What this node tells the control process: who is there, how busy it is, and security events.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringgate_gateway::AgentInfo;
use ringgate_proto::control::v1::{self as proto, node_message::Body};
use tokio::sync::mpsc;

use crate::observe::{LinkStatus, Observation, SecurityCounts, Seen};

/// Reports that may wait for the link. Security events wait here while the control process is away.
const REPORTS_MAX: usize = 16_384;
/// Reports that go into one message.
const BATCH_MAX: usize = 256;
/// Agents in one message about all of them.
const AGENTS_AT_ONCE: usize = 1000;

/// One thing to tell.
#[derive(Debug)]
pub(super) enum Report {
    Security(Seen),
    Present(Box<AgentInfo>),
    Absent(String),
    All(Vec<AgentInfo>),
    Load(proto::Load),
}

/// The way to the link. Telling never waits.
#[derive(Debug, Clone)]
pub struct LinkSender {
    reports: mpsc::Sender<Report>,
    status: Arc<LinkStatus>,
}

/// The two ends of that way.
pub(super) fn reports(status: Arc<LinkStatus>) -> (LinkSender, mpsc::Receiver<Report>) {
    let (reports, receiver) = mpsc::channel(REPORTS_MAX);
    (LinkSender { reports, status }, receiver)
}

impl LinkSender {
    /// How the link stands.
    pub fn status(&self) -> &Arc<LinkStatus> {
        &self.status
    }

    /// Whether the control process is there.
    pub fn is_attached(&self) -> bool {
        self.status.is_attached()
    }

    /// Tells what a core saw. What finds no room is counted; presence is then asked for again.
    pub fn observed(&self, observation: Observation, counts: &SecurityCounts) {
        let report = match observation {
            Observation::Security(seen) => Report::Security(seen),
            // All of it is told when the control process is back.
            _ if !self.is_attached() => return,
            Observation::Present(agent) => Report::Present(agent),
            Observation::Absent(name) => Report::Absent(name),
            Observation::All(agents) => Report::All(agents),
        };
        match self.reports.try_send(report) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(Report::Security(_))) => counts.count_lost(),
            Err(_) => counts.lose_presence(),
        }
    }

    /// Tells how busy the node is, by its counts.
    pub fn load(&self, totals: &BTreeMap<&'static str, u64>) {
        let of = |name: &str| totals.get(name).copied().unwrap_or(0);
        let dropped = totals
            .iter()
            .filter(|(name, _)| name.starts_with("dropped_"))
            .map(|(_, count)| count);
        let load = proto::Load {
            connections: of("connections"),
            agents: of("sessions"),
            published: of("published"),
            delivered: of("delivered"),
            dropped: dropped.sum(),
            queued_bytes: of("queued_bytes"),
        };
        // The next one comes in some seconds.
        let _ = self.reports.try_send(Report::Load(load));
    }
}

/// Puts reports into few messages, in their order.
pub(super) struct Batch<'a> {
    node: &'a str,
    messages: Vec<Body>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(node: &'a str) -> Batch<'a> {
        Batch {
            node,
            messages: Vec::new(),
        }
    }

    /// Takes a report and those that wait behind it.
    pub(super) fn gather(mut self, first: Report, more: &mut mpsc::Receiver<Report>) -> Vec<Body> {
        self.add(first);
        for _ in 1..BATCH_MAX {
            match more.try_recv() {
                Ok(report) => self.add(report),
                Err(_) => break,
            }
        }
        self.messages
    }

    fn add(&mut self, report: Report) {
        match report {
            Report::Load(load) => self.messages.push(Body::Load(load)),
            Report::Security(seen) => self.security().events.push(event(seen)),
            Report::Present(agent) => {
                let agent = told(*agent, self.node);
                self.presence().up.push(agent);
            }
            Report::Absent(name) => {
                let presence = self.presence();
                // What was told of it before in this message is over.
                presence.up.retain(|agent| agent.name != name);
                presence.down.push(name);
            }
            Report::All(agents) => {
                let mut agents = agents.into_iter().map(|agent| told(agent, self.node)).peekable();
                while agents.peek().is_some() {
                    let up = agents.by_ref().take(AGENTS_AT_ONCE).collect();
                    self.messages.push(Body::Presence(proto::Presence {
                        up,
                        ..proto::Presence::default()
                    }));
                }
            }
        }
    }

    fn security(&mut self) -> &mut proto::SecurityEvents {
        if !matches!(self.messages.last(), Some(Body::SecurityEvents(_))) {
            let empty = proto::SecurityEvents::default();
            self.messages.push(Body::SecurityEvents(empty));
        }
        match self.messages.last_mut() {
            Some(Body::SecurityEvents(events)) => events,
            _ => unreachable!("it was just pushed"),
        }
    }

    /// One that nobody went in yet who came back since: `down` is carried out behind `up`.
    fn presence(&mut self) -> &mut proto::Presence {
        let open = matches!(self.messages.last(), Some(Body::Presence(presence)) if presence.down.is_empty());
        if !open {
            self.messages.push(Body::Presence(proto::Presence::default()));
        }
        match self.messages.last_mut() {
            Some(Body::Presence(presence)) => presence,
            _ => unreachable!("it was just pushed"),
        }
    }
}

fn told(agent: AgentInfo, node: &str) -> proto::Agent {
    proto::Agent {
        name: agent.name,
        node: node.to_owned(),
        core: u32::from(agent.core.0),
        capabilities: agent.capabilities,
        labels: agent.labels.into_iter().collect(),
        outstanding: agent.status.outstanding,
        weight: agent.status.weight,
        draining: agent.status.draining,
        since_unix: agent.since_unix,
        serial: agent.serial,
    }
}

fn event(seen: Seen) -> proto::SecurityEvent {
    let event = seen.event;
    proto::SecurityEvent {
        time_unix_nanos: i64::try_from(seen.unix_nanos).unwrap_or(i64::MAX),
        kind: event.kind.code().to_owned(),
        identity: event.identity,
        address: event.address,
        core: seen.core.map_or(u32::MAX, |core| core as u32),
        detail: event.detail,
    }
}

#[cfg(test)]
mod tests {
    use ringgate_gateway::action::Status;
    use ringgate_gateway::{CoreId, SessionId};

    use super::*;

    fn agent(name: &str) -> AgentInfo {
        AgentInfo {
            name: name.to_owned(),
            core: CoreId(0),
            session: SessionId::from_bits(0),
            capabilities: Vec::new(),
            labels: Vec::new(),
            status: Status {
                outstanding: 0,
                weight: 1,
                draining: false,
            },
            since_unix: 0,
            serial: String::new(),
        }
    }

    /// What a reader knows who carries out each message: first `up`, then `down`.
    fn carried_out(messages: Vec<Body>) -> Vec<String> {
        let mut known = std::collections::BTreeSet::new();
        for message in messages {
            let Body::Presence(presence) = message else {
                continue;
            };
            known.extend(presence.up.into_iter().map(|agent| agent.name));
            presence.down.iter().for_each(|name| {
                known.remove(name);
            });
        }
        known.into_iter().collect()
    }

    #[test]
    fn batching_keeps_the_order_of_coming_and_going() {
        let (sender, mut receiver) = mpsc::channel(16);
        let present = |name| Report::Present(Box::new(agent(name)));
        for report in [
            Report::Absent("a".into()),
            present("a"),
            present("b"),
            Report::Absent("b".into()),
            present("c"),
            Report::Absent("c".into()),
            present("c"),
        ] {
            sender.try_send(report).expect("room");
        }
        let messages = Batch::new("n").gather(present("a"), &mut receiver);
        assert_eq!(carried_out(messages), ["a", "c"]);
    }

    #[test]
    fn many_agents_go_in_several_messages() {
        let (_sender, mut receiver) = mpsc::channel(1);
        let all = (0..AGENTS_AT_ONCE + 1).map(|n| agent(&n.to_string())).collect();
        let messages = Batch::new("n").gather(Report::All(all), &mut receiver);
        assert_eq!(messages.len(), 2);
        assert_eq!(carried_out(messages).len(), AGENTS_AT_ONCE + 1);
    }
}
