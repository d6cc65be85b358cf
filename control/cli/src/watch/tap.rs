//! `ringgate tap`: what passes through a data plane, as it passes.

use anyhow::Result;
use serde_json::Value;

use super::client::{Endpoint, escaped};
use super::figures::{clock, nanos, number, text};
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only messages from or to agents whose name matches: `acme/sales/**`.
    #[arg(long, value_name = "PATTERN", default_value = "")]
    agent: String,
    /// Only messages to topics, or for targets, that match.
    #[arg(long, value_name = "PATTERN", default_value = "")]
    topic: String,
    /// Only messages of this conversation (header conversation-id), or trace.
    #[arg(long, value_name = "ID", default_value = "")]
    conversation: String,
    /// One message in so many.
    #[arg(long, value_name = "N", default_value_t = 1)]
    one_in: u32,
    /// End after so many events.
    #[arg(long, value_name = "EVENTS")]
    events: Option<u64>,
    #[command(flatten)]
    endpoint: Endpoint,
}

pub(crate) async fn run(out: Output, arguments: Arguments) -> Result<()> {
    let path = format!(
        "/tap?agent={}&topic={}&conversation={}&one_in={}",
        escaped(&arguments.agent),
        escaped(&arguments.topic),
        escaped(&arguments.conversation),
        arguments.one_in
    );
    let mut seen = 0;
    let each = |event: Value| {
        if out.json {
            println!("{event}");
        } else if let Some(line) = line(&event) {
            println!("{line}");
        }
        seen += u64::from(event.get("message").is_some());
        Ok(arguments.events.is_none_or(|most| seen < most))
    };
    arguments.endpoint.lines(&path, each).await
}

/// An event as people read it.
fn line(event: &Value) -> Option<String> {
    let stage = text(event, "stage");
    match stage {
        "open" => {
            return Some(format!(
                "tap open on node {}; Ctrl-C ends it",
                text(event, "node")
            ));
        }
        "lost" => {
            return Some(format!(
                "… {} events were lost: they came faster than they were read",
                number(event, "events")
            ));
        }
        "left_out" => {
            return Some(format!(
                "… {} messages were not followed and {} events lost: more came than observe.followed_per_second_max allows",
                number(event, "messages"),
                number(event, "events")
            ));
        }
        _ => {}
    }
    let when = clock(number(event, "time_unix_nanos"));
    let (kind, message) = (text(event, "kind"), text(event, "message"));
    let head = format!("{when}  {message:<9} {kind:<12} {stage:<9}");
    let detail = detail(event);
    Some(format!("{head} {detail}"))
}

/// What is said of a stage.
pub(super) fn detail(event: &Value) -> String {
    let took = nanos(number(event, "nanos"));
    let receiver = text(event, "receiver");
    match text(event, "stage") {
        "received" => {
            let conversation = match text(event, "conversation") {
                "" => String::new(),
                id => format!("  conversation {id}"),
            };
            format!(
                "{} → {}  {} B, routed after {took}{conversation}",
                text(event, "source"),
                text(event, "about"),
                number(event, "bytes")
            )
        }
        "crossed" => format!("to core {} in {took}", number(event, "core")),
        "queued" => format!("for {receiver} after {took}"),
        "written" => match number(event, "dropped_meanwhile") {
            0 => format!("to {receiver}, waited {took}"),
            lost => format!(
                "to {receiver} after {took}, unless it gave way: {lost} messages were dropped meanwhile"
            ),
        },
        "held" => format!("for {receiver}: its queue is full and its policy is to wait"),
        "dropped" => {
            let which = match event["this"].as_bool() {
                Some(true) => "this message",
                _ => "older messages",
            };
            let (messages, reason) = (number(event, "messages"), text(event, "reason"));
            format!("for {receiver}: {which} ({messages}), {reason}: it reads too slowly")
        }
        "refused" => format!("{receiver} was told {}", text(event, "code")),
        "more" => format!("{} further receivers", number(event, "receivers")),
        _ => String::new(),
    }
}
