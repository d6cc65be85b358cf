//! `ringgate status`.

use anyhow::Result;
use ringgate_proto::control::v1::identity_client::IdentityClient;
use ringgate_proto::control::v1::registry_client::RegistryClient;
use ringgate_proto::control::v1::{GetTrustBundleRequest, ListNodesRequest};
use serde_json::json;

use crate::agents::list_nodes;
use crate::output::Output;
use crate::session::{Where, told};

pub(crate) async fn run(at: &Where, out: Output) -> Result<()> {
    let channel = at.connect().await?;
    let bundle = IdentityClient::new(channel.clone())
        .get_trust_bundle(GetTrustBundleRequest::default())
        .await
        .map_err(told)?
        .into_inner();
    let nodes = RegistryClient::new(channel)
        .list_nodes(ListNodesRequest {})
        .await
        .map_err(told)?;
    let nodes = nodes.into_inner().nodes;
    if out.json {
        let attached = nodes.iter().filter(|node| node.attached).count();
        out.one(vec![
            ("control", json!(at.url()?)),
            ("trust domain", json!(bundle.trust_domain)),
            ("trust version", json!(bundle.version)),
            ("nodes attached", json!(attached)),
            ("nodes", json!(nodes.len())),
            ("agents", json!(nodes.iter().map(|node| node.agents).sum::<u64>())),
        ]);
        return Ok(());
    }
    println!("control process  {}", at.url()?);
    println!(
        "trust domain     {} (bundle {})",
        bundle.trust_domain, bundle.version
    );
    println!();
    list_nodes(out, nodes);
    Ok(())
}
