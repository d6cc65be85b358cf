//! `ringgate topics`: what is published, how often, and who listens.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::client::Endpoint;
use super::figures::number;
use crate::output::Output;

/// Time over which rates are taken.
const RATE_TIME: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// So many, the busiest first.
    #[arg(long, default_value_t = 50)]
    limit: u32,
    #[command(flatten)]
    endpoint: Endpoint,
}

/// Lists topics, with their rates over a second.
pub(crate) async fn list(out: Output, arguments: Arguments) -> Result<()> {
    let path = format!("/topicz?limit={}", arguments.limit);
    let before = arguments.endpoint.get(&path).await?;
    tokio::time::sleep(RATE_TIME).await;
    let after = arguments.endpoint.get(&path).await?;
    let rows = rates(&before, &after).into_iter().map(|(topic, rate)| {
        vec![
            topic["topic"].clone(),
            topic["published"].clone(),
            json!(rate.round()),
            topic["subscribers"].clone(),
        ]
    });
    out.list(
        &["topic", "published", "per second", "subscribers"],
        rows.collect(),
    );
    Ok(())
}

/// Topics of `after`, with how often in a second each was published to since `before`.
pub(super) fn rates(before: &Value, after: &Value) -> Vec<(Value, f64)> {
    let list = |of: &Value| of["topics"].as_array().cloned().unwrap_or_default();
    let earlier: HashMap<String, u64> = list(before)
        .iter()
        .map(|topic| (topic["topic"].to_string(), number(topic, "published")))
        .collect();
    let nanos = number(after, "time_unix_nanos").saturating_sub(number(before, "time_unix_nanos"));
    let rate = |topic: &Value| {
        // A topic that was not listed before is new, or was among the quiet ones: its rate is not known yet.
        let published = number(topic, "published");
        let since = earlier
            .get(&topic["topic"].to_string())
            .copied()
            .unwrap_or(published);
        published.saturating_sub(since) as f64 / (nanos.max(1) as f64 / 1e9)
    };
    list(after)
        .into_iter()
        .map(|topic| (topic.clone(), rate(&topic)))
        .collect()
}
