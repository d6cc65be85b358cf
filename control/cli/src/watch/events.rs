//! `ringgate events`: security events of a data plane, as they happen.

use anyhow::Result;
use serde_json::Value;

use super::client::Endpoint;
use super::figures::{clock, number, text};
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Show so many past ones first.
    #[arg(long, value_name = "EVENTS", default_value_t = 20)]
    before: u32,
    /// End after so many events.
    #[arg(long, value_name = "EVENTS")]
    events: Option<u64>,
    #[command(flatten)]
    endpoint: Endpoint,
}

pub(crate) async fn run(out: Output, arguments: Arguments) -> Result<()> {
    let mut seen = 0;
    let each = |event: Value| {
        if out.json {
            println!("{event}");
        } else {
            let when = clock(number(&event, "time_unix_nanos"));
            let who = [text(&event, "identity"), text(&event, "address")].join(" ");
            println!(
                "{when}  {:<20} {}  {}",
                text(&event, "kind"),
                who.trim(),
                text(&event, "detail")
            );
        }
        seen += 1;
        Ok(arguments.events.is_none_or(|most| seen < most))
    };
    arguments
        .endpoint
        .lines(&format!("/events?before={}", arguments.before), each)
        .await
}
