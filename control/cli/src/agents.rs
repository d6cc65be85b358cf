//! `ringgate agents`, `ringgate nodes`.

use anyhow::Result;
use ringgate_proto::control::v1::registry_client::RegistryClient;
use ringgate_proto::control::v1::{ListAgentsRequest, ListNodesRequest, Node};
use serde_json::{Value, json};

use crate::output::{Output, moment};
use crate::session::{Where, told};

#[derive(Debug, clap::Args)]
pub(crate) struct Agents {
    /// Only names that match: `acme/sales/**`.
    #[arg(default_value = "")]
    pattern: String,
    /// Only those that declare this capability.
    #[arg(long, default_value = "")]
    capability: String,
}

pub(crate) async fn list(at: &Where, out: Output, arguments: Agents) -> Result<()> {
    let mut client = RegistryClient::new(at.connect().await?);
    let mut request = ListAgentsRequest {
        pattern: arguments.pattern,
        capability: arguments.capability,
        ..ListAgentsRequest::default()
    };
    let mut rows: Vec<Vec<Value>> = Vec::new();
    loop {
        let page = client
            .list_agents(request.clone())
            .await
            .map_err(told)?
            .into_inner();
        rows.extend(page.agents.into_iter().map(|agent| {
            vec![
                json!(agent.name),
                json!(agent.node),
                json!(agent.core),
                json!(agent.capabilities),
                json!(agent.labels),
                json!(agent.outstanding),
                json!(agent.draining),
                moment(agent.since_unix),
            ]
        }));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    let columns = [
        "name",
        "node",
        "core",
        "capabilities",
        "labels",
        "outstanding",
        "draining",
        "since",
    ];
    out.list(&columns, rows);
    Ok(())
}

pub(crate) async fn nodes(at: &Where, out: Output) -> Result<()> {
    let mut client = RegistryClient::new(at.connect().await?);
    let nodes = client
        .list_nodes(ListNodesRequest {})
        .await
        .map_err(told)?
        .into_inner()
        .nodes;
    list_nodes(out, nodes);
    Ok(())
}

/// Prints data planes.
pub(crate) fn list_nodes(out: Output, nodes: Vec<Node>) {
    let row = |node: Node| {
        let rejected = match node.rejected_reason.is_empty() {
            true => Value::Null,
            false => json!(node.rejected_reason),
        };
        vec![
            json!(node.id),
            json!(if node.attached { "attached" } else { "away" }),
            json!(node.agents_address),
            json!(node.cores),
            json!(node.agents),
            json!(node.connections),
            json!(node.applied_version),
            rejected,
            json!(node.software),
            moment(node.since_unix),
        ]
    };
    let columns = [
        "id",
        "state",
        "address",
        "cores",
        "agents",
        "connections",
        "version",
        "rejected",
        "software",
        "since",
    ];
    out.list(&columns, nodes.into_iter().map(row).collect());
}
