//! `ringgate links` and `ringgate routes`: a data plane's neighbours, and the nodes beyond them.

use anyhow::Result;
use serde_json::Value;

use super::client::Endpoint;
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// So many.
    #[arg(long, default_value_t = 200)]
    limit: u32,
    #[command(flatten)]
    endpoint: Endpoint,
}

/// Lists the links of a data plane, and those that it wants and has not.
pub(crate) async fn links(out: Output, arguments: Arguments) -> Result<()> {
    let told = arguments
        .endpoint
        .get(&format!("/linkz?limit={}", arguments.limit))
        .await?;
    let rows = told["links"].as_array().into_iter().flatten();
    let columns = ["node", "address", "status", "reason", "cost", "age_ms"];
    out.list(&columns, rows.map(|link| cells(link, &columns)).collect());
    Ok(())
}

/// Lists the nodes that a data plane knows, and how it reaches them.
pub(crate) async fn routes(out: Output, arguments: Arguments) -> Result<()> {
    let told = arguments
        .endpoint
        .get(&format!("/nodez?limit={}", arguments.limit))
        .await?;
    let rows = told["nodes"].as_array().into_iter().flatten().map(|node| {
        let mut cells = cells(node, &["node", "cost", "through", "wants"]);
        let links = node["links"].as_array().into_iter().flatten();
        let names: Vec<&str> = links.filter_map(|link| link["node"].as_str()).collect();
        cells.push(names.join(" ").into());
        cells
    });
    out.list(&["node", "cost", "through", "wants", "links"], rows.collect());
    Ok(())
}

fn cells(row: &Value, columns: &[&str]) -> Vec<Value> {
    columns.iter().map(|column| row[*column].clone()).collect()
}
