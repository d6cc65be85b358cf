//! `ringgate audit`.

use anyhow::Result;
use ringgate_proto::control::v1::audit_client::AuditClient;
use ringgate_proto::control::v1::{AuditEntry, ListAuditRequest, WatchSecurityEventsRequest};
use serde_json::{Value, json};

use crate::output::{Output, moment};
use crate::session::{Where, told};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only entries by or about this: an identity URI, as in agp://ringgate.local/acme/sales/bot/1.
    #[arg(default_value = "")]
    subject: String,
    /// Only entries after this number.
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    after: u64,
    /// Stay, and print the security events of data planes as they happen.
    #[arg(long)]
    follow: bool,
}

pub(crate) async fn run(at: &Where, out: Output, arguments: Arguments) -> Result<()> {
    let mut client = AuditClient::new(at.connect().await?);
    if arguments.follow {
        return follow(&mut client, out).await;
    }
    let mut rows: Vec<Vec<Value>> = Vec::new();
    let mut request = ListAuditRequest {
        after_number: arguments.after,
        subject: arguments.subject,
        ..ListAuditRequest::default()
    };
    loop {
        let page = client
            .list_audit(request.clone())
            .await
            .map_err(told)?
            .into_inner();
        request.after_number = page
            .entries
            .last()
            .map_or(request.after_number, |entry| entry.number);
        rows.extend(page.entries.into_iter().map(row));
        if !page.more {
            break;
        }
    }
    out.list(
        &[
            "number", "time", "actor", "action", "subject", "outcome", "detail",
        ],
        rows,
    );
    Ok(())
}

fn row(entry: AuditEntry) -> Vec<Value> {
    vec![
        json!(entry.number),
        moment(entry.time_unix_nanos / 1_000_000_000),
        json!(entry.actor),
        json!(entry.action),
        json!(entry.subject),
        json!(entry.outcome),
        json!(entry.detail),
    ]
}

async fn follow(client: &mut AuditClient<tonic::transport::Channel>, out: Output) -> Result<()> {
    let mut events = client
        .watch_security_events(WatchSecurityEventsRequest::default())
        .await
        .map_err(told)?
        .into_inner();
    while let Some(told_event) = events.message().await.map_err(told)? {
        let event = told_event.event.unwrap_or_default();
        let fields = json!({
            "time": moment(event.time_unix_nanos / 1_000_000_000),
            "node": told_event.node,
            "core": event.core,
            "kind": event.kind,
            "identity": event.identity,
            "address": event.address,
            "detail": event.detail,
        });
        match out.json {
            // One object in each line: it is a stream.
            true => println!("{fields}"),
            false => println!(
                "{} {} {} {} from {}: {}",
                fields["time"].as_str().unwrap_or("-"),
                told_event.node,
                event.kind,
                event.identity,
                event.address,
                event.detail
            ),
        }
    }
    Ok(())
}
