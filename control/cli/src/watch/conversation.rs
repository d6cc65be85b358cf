//! `ringgate conversation`: who said what to whom, when, and where it waited.

use std::collections::HashMap;
use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Value, json};

use super::client::{Endpoint, escaped};
use super::figures::{clock, nanos, number, text};
use super::tap::detail;
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The conversation: what the header conversation-id says, or the trace id of traceparent.
    id: String,
    #[command(flatten)]
    endpoint: Endpoint,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Conversations {
    /// So many, the latest first.
    #[arg(long, default_value_t = 20)]
    limit: u32,
    #[command(flatten)]
    endpoint: Endpoint,
}

/// Lists the latest conversations.
pub(crate) async fn list(out: Output, arguments: Conversations) -> Result<()> {
    let path = format!("/conversations?limit={}", arguments.limit);
    let listed = arguments.endpoint.get(&path).await?;
    let rows = listed["conversations"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|conversation| {
            let length = number(conversation, "last_unix_nanos") - number(conversation, "first_unix_nanos");
            vec![
                conversation["conversation"].clone(),
                conversation["agents"].clone(),
                conversation["messages"].clone(),
                conversation["troubles"].clone(),
                json!(clock(number(conversation, "first_unix_nanos"))),
                json!(nanos(length)),
            ]
        });
    out.list(
        &["conversation", "agents", "messages", "troubles", "began", "lasts"],
        rows.collect(),
    );
    Ok(())
}

/// Shows one conversation.
pub(crate) async fn show(out: Output, arguments: Arguments) -> Result<()> {
    let path = format!("/conversation?id={}", escaped(&arguments.id));
    let conversation = arguments.endpoint.get(&path).await?;
    if out.json {
        println!("{conversation:#}");
    } else {
        print!("{}", timeline(&conversation));
    }
    Ok(())
}

/// A conversation as people read it: each message once, in the order of arrival, with what became of it below.
fn timeline(conversation: &Value) -> String {
    let empty = Vec::new();
    let events = conversation["events"].as_array().unwrap_or(&empty);
    let mut order: Vec<&str> = Vec::new();
    let mut by_message: HashMap<&str, Vec<&Value>> = HashMap::new();
    for event in events {
        let message = text(event, "message");
        by_message
            .entry(message)
            .or_insert_with(|| {
                order.push(message);
                Vec::new()
            })
            .push(event);
    }
    let first = number(conversation, "first_unix_nanos");
    let mut out = String::new();
    let _ = writeln!(
        out,
        "conversation {}, {} messages, since {} UTC",
        text(conversation, "conversation"),
        order.len(),
        clock(first)
    );
    if number(conversation, "left_out") > 0 {
        let _ = writeln!(
            out,
            "the first {} events are no longer remembered",
            number(conversation, "left_out")
        );
    }
    for message in order {
        let events = &by_message[message];
        let at = number(events[0], "time_unix_nanos");
        let after = at.saturating_sub(first);
        let follows = match text(events[0], "follows") {
            "" => String::new(),
            id => match by_message.get(id) {
                Some(before) => {
                    let waited = at.saturating_sub(number(before[0], "time_unix_nanos"));
                    format!(" (goes on with {id}, {} after it)", nanos(waited))
                }
                None => format!(" (goes on with {id})"),
            },
        };
        let _ = writeln!(
            out,
            "\n+{:<9} {:<12} {message}{follows}",
            nanos(after),
            text(events[0], "kind")
        );
        for event in events {
            let _ = writeln!(out, "            {:<9} {}", text(event, "stage"), detail(event));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_stand_once_with_what_became_of_them() {
        let event = |message: &str, kind: &str, stage: &str, at: u64| {
            json!({"message": message, "kind": kind, "stage": stage, "time_unix_nanos": at, "nanos": 5, "source": "a", "receiver": "b",
                   "about": "b", "bytes": 3})
        };
        let mut answer = event("1-1", "response", "received", 3000);
        answer["follows"] = json!("0-1");
        let text = timeline(&json!({
            "conversation": "c", "first_unix_nanos": 1000, "left_out": 0,
            "events": [event("0-1", "request", "received", 1000), event("0-1", "request", "queued", 2000), answer,
                       event("0-1", "request", "written", 4000)],
        }));
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with('+')).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(
            lines[0].contains("request") && lines[1].contains("goes on with 0-1"),
            "{text}"
        );
        assert!(text.contains("waited 5 ns"), "{text}");
    }
}
