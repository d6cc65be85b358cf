//! Streams of events to clients: lines of JSON, or server-sent events for browsers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc};
use tokio::time::{MissedTickBehavior, interval};

use super::flow::FlowCounts;
use super::flows::TapHandle;
use super::observer::Observer;

/// Lines that may wait for the connection.
const LINES_MAX: usize = 64;
/// How often the client hears that the stream is alive, and of messages that were left out.
const ALIVE_EVERY: Duration = Duration::from_secs(1);

/// How lines are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One JSON value on each line.
    Lines,
    /// Server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
    Events,
}

impl Form {
    pub(super) fn of(accept: &str) -> Form {
        match accept.contains("text/event-stream") {
            true => Form::Events,
            false => Form::Lines,
        }
    }

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Form::Lines => "application/x-ndjson",
            Form::Events => "text/event-stream",
        }
    }

    fn line(self, value: &Value) -> Bytes {
        match self {
            Form::Lines => format!("{value}\n").into(),
            Form::Events => format!("data: {value}\n\n").into(),
        }
    }

    /// What says nothing but that the stream is alive.
    fn alive(self) -> Bytes {
        Bytes::from_static(match self {
            Form::Lines => b"\n",
            Form::Events => b":\n\n",
        })
    }
}

/// Lines of a tap, until the client goes.
pub(super) fn tap(
    observer: &Arc<Observer>,
    tap: TapHandle,
    form: Form,
    permit: OwnedSemaphorePermit,
) -> mpsc::Receiver<Bytes> {
    let (lines, receiver) = mpsc::channel(LINES_MAX);
    let observer = observer.clone();
    tokio::spawn(async move {
        tell_tap(&observer, tap, form, &lines).await;
        drop(permit);
    });
    receiver
}

/// Ends with `None` when the client has gone.
async fn tell_tap(
    observer: &Observer,
    mut tap: TapHandle,
    form: Form,
    lines: &mpsc::Sender<Bytes>,
) -> Option<()> {
    let mut alive = interval(ALIVE_EVERY);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let counts = observer.flows().counts();
    let mut told = left_out(counts);
    lines
        .send(form.line(&json!({"stage": "open", "node": observer.node()})))
        .await
        .ok()?;
    loop {
        tokio::select! {
            event = tap.events.recv() => lines.send(form.line(&event?.to_json())).await.ok()?,
            () = lines.closed() => return None,
            _ = alive.tick() => {
                let now = left_out(counts);
                let line = match now == told {
                    true => form.alive(),
                    false => form.line(&json!({
                        "stage": "left_out",
                        "messages": now.0 - told.0,
                        "events": now.1 - told.1,
                    })),
                };
                told = now;
                lines.send(line).await.ok()?;
            }
        }
    }
}

fn left_out(counts: &FlowCounts) -> (u64, u64) {
    (
        counts.skipped.load(Ordering::Relaxed),
        counts.lost.load(Ordering::Relaxed),
    )
}

/// Security events: the last `before`, then those to come, until the client goes.
pub(super) fn events(
    observer: &Arc<Observer>,
    before: usize,
    form: Form,
    permit: OwnedSemaphorePermit,
) -> mpsc::Receiver<Bytes> {
    let (lines, receiver) = mpsc::channel(LINES_MAX);
    let (past, live) = observer.events().watch(before);
    tokio::spawn(async move {
        tell_events(past, live, form, &lines).await;
        drop(permit);
    });
    receiver
}

async fn tell_events(
    past: Vec<Value>,
    mut live: broadcast::Receiver<Value>,
    form: Form,
    lines: &mpsc::Sender<Bytes>,
) -> Option<()> {
    for event in past {
        lines.send(form.line(&event)).await.ok()?;
    }
    let mut alive = interval(ALIVE_EVERY);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let line = tokio::select! {
            event = live.recv() => match event {
                Ok(event) => form.line(&event),
                Err(broadcast::error::RecvError::Lagged(events)) => form.line(&json!({"kind": "LOST", "events": events})),
                Err(broadcast::error::RecvError::Closed) => return Some(()),
            },
            () = lines.closed() => return None,
            _ = alive.tick() => form.alive(),
        };
        lines.send(line).await.ok()?;
    }
}
