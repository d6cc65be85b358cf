//! What the operator asks of the agents of a core, beyond counts.

use ringgate_gateway::{AgentInfo, Gateway, SessionInfo, SubscriptionInfo, TopicInfo};
use serde_json::json;

use super::tracer::DIALECT;
use crate::observe::{Inspection, Row, reason};

pub(super) fn inspect(gateway: &Gateway, inspection: &Inspection) -> Vec<Row> {
    match inspection {
        Inspection::Connections { most } => gateway
            .slowest_sessions(*most)
            .into_iter()
            .map(connection)
            .collect(),
        Inspection::Subscriptions { most } => {
            let subscriptions = gateway.slowest_subscriptions(*most).into_iter();
            subscriptions
                .map(|(agent, info)| subscription(agent, info))
                .collect()
        }
        Inspection::Agents { after, most } => gateway
            .agents_after(after, *most)
            .into_iter()
            .map(agent)
            .collect(),
        Inspection::Topics { most } => gateway.topics(*most).into_iter().map(topic).collect(),
        Inspection::Links { .. } | Inspection::Nodes { .. } => Vec::new(),
    }
}

fn connection(info: SessionInfo) -> Row {
    Row {
        rank: [info.queued_bytes, info.dropped],
        key: info.name.clone(),
        json: json!({
            "session": info.session.to_string(),
            "dialect": DIALECT,
            "name": info.name,
            "address": info.address,
            "connection": info.connection,
            "detached": info.detached,
            "paused": info.paused,
            "queued_bytes": info.queued_bytes,
            "published": info.published,
            "dropped": info.dropped,
            "subscriptions": info.subscriptions,
            "requests": info.requests,
        }),
    }
}

fn subscription(agent: String, info: SubscriptionInfo) -> Row {
    Row {
        rank: [info.queued_bytes, info.dropped],
        key: format!("{agent} {}", info.id),
        json: json!({
            "agent": agent,
            "id": info.id,
            "pattern": info.pattern,
            "group": info.group,
            "policy": reason(info.policy),
            "queue_bytes_max": info.queue_bytes_max,
            "queued_bytes": info.queued_bytes,
            "dropped": info.dropped,
        }),
    }
}

fn agent(info: AgentInfo) -> Row {
    Row {
        rank: [0, 0],
        key: info.name.clone(),
        json: json!({
            "name": info.name,
            "core": info.core.0,
            "capabilities": info.capabilities,
            "labels": info.labels.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
            "outstanding": info.status.outstanding,
            "weight": info.status.weight,
            "draining": info.status.draining,
            "since_unix": info.since_unix,
            "serial": info.serial,
        }),
    }
}

fn topic(info: TopicInfo) -> Row {
    Row {
        rank: [info.published, 0],
        key: info.topic.clone(),
        json: json!({
            "topic": info.topic,
            "published": info.published,
            "subscribers": info.subscribers,
        }),
    }
}
