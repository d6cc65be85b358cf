//! Spans: one for each message of a sampled trace, from its arrival to its last copy on the wire.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{attribute, integer};
use crate::observe::flow::{FlowEvent, Stage, Subject, reason};

/// Messages whose span is not over. Further ones get none; they are many seconds' worth.
const OPEN_MAX: usize = 4096;
/// Events of one span; a message to more receivers than that has its first ones told.
const EVENTS_MAX: usize = 128;
/// How long nothing must have happened to a message for its span to be over.
const QUIET: Duration = Duration::from_secs(1);
/// A span of something passed on (`SPAN_KIND_PRODUCER`).
const PRODUCER: u32 = 4;
/// `STATUS_CODE_ERROR`.
const ERROR: u32 = 2;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Spans {
    open: HashMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    subject: Arc<Subject>,
    start: u64,
    end: u64,
    events: Vec<Value>,
    trouble: Option<String>,
    touched: Instant,
}

impl Spans {
    /// Takes an event of a message that belongs to a trace; those of traces that are not sampled are left out.
    pub(super) fn note(&mut self, event: &FlowEvent) {
        let subject = &event.subject;
        if !subject.trace.as_deref().is_some_and(is_sampled) {
            return;
        }
        if !self.open.contains_key(&subject.id) && self.open.len() >= OPEN_MAX {
            return;
        }
        let open = self.open.entry(subject.id).or_insert_with(|| Open {
            subject: subject.clone(),
            start: event.unix_nanos,
            end: event.unix_nanos,
            events: Vec::new(),
            trouble: None,
            touched: Instant::now(),
        });
        open.note(event);
    }

    /// Spans to which nothing happens any more.
    pub(super) fn take_finished(&mut self) -> Vec<Value> {
        let finished: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, open)| open.touched.elapsed() >= QUIET)
            .map(|(id, _)| *id)
            .collect();
        let spans = finished
            .into_iter()
            .filter_map(|id| self.open.remove(&id)?.to_json());
        spans.collect()
    }
}

impl Open {
    fn note(&mut self, event: &FlowEvent) {
        self.touched = Instant::now();
        // What took so long had begun before.
        let began = match event.stage {
            Stage::Received => event.unix_nanos.saturating_sub(event.nanos),
            _ => event.unix_nanos,
        };
        self.start = self.start.min(began);
        self.end = self.end.max(event.unix_nanos);
        let mut attributes = vec![attribute("ringgate.core", &event.core.to_string())];
        if let Some(receiver) = &event.receiver {
            attributes.push(attribute("ringgate.receiver", receiver.as_str()));
        }
        match &event.stage {
            Stage::Refused { code } => self.trouble = Some(format!("{code:?}")),
            Stage::Dropped { policy, .. } => attributes.push(attribute("ringgate.reason", reason(*policy))),
            _ => {}
        }
        if self.events.len() < EVENTS_MAX {
            self.events.push(json!({
                "timeUnixNano": integer(event.unix_nanos),
                "name": event.stage.name(),
                "attributes": attributes,
            }));
        }
    }

    fn to_json(&self) -> Option<Value> {
        let subject = &self.subject;
        let trace = subject.trace.as_deref()?;
        let about = if subject.about.is_empty() { "" } else { " " };
        let mut attributes = vec![
            attribute("messaging.system", "ringgate"),
            attribute("messaging.operation.name", subject.kind.name()),
            attribute("messaging.destination.name", &subject.about),
            attribute("messaging.message.body.size", &subject.bytes.to_string()),
        ];
        if let Some(source) = &subject.source {
            attributes.push(attribute("messaging.client.id", source.as_str()));
        }
        if let Some(conversation) = &subject.conversation {
            attributes.push(attribute("messaging.message.conversation_id", conversation));
        }
        let mut span = json!({
            "traceId": trace.get(3..35)?,
            "parentSpanId": trace.get(36..52)?,
            "spanId": span_id(subject.id, trace),
            "name": format!("{}{about}{}", subject.kind.name(), subject.about),
            "kind": PRODUCER,
            "startTimeUnixNano": integer(self.start),
            "endTimeUnixNano": integer(self.end),
            "attributes": attributes,
            "events": self.events,
        });
        if let Some(trouble) = &self.trouble {
            span["status"] = json!({"code": ERROR, "message": trouble});
        }
        Some(span)
    }
}

/// Whether the sender of a trace wants it recorded (<https://www.w3.org/TR/trace-context/#sampled-flag>).
fn is_sampled(traceparent: &str) -> bool {
    let flags = traceparent
        .get(53..55)
        .and_then(|flags| u8::from_str_radix(flags, 16).ok());
    flags.is_some_and(|flags| flags & 1 == 1)
}

/// Differs for each message of a trace, also from those of other nodes: of the message's number and its parent's id, mixed (splitmix64).
fn span_id(message: u64, traceparent: &str) -> String {
    let parent = traceparent
        .get(36..52)
        .and_then(|parent| u64::from_str_radix(parent, 16).ok());
    let mut id = parent.unwrap_or(0) ^ message.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    id = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    id = (id ^ (id >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    id ^= id >> 31;
    format!("{:016x}", id.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sampled_traces_are_recorded_and_ids_differ() {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_sampled(trace) && !is_sampled(&trace.replace("-01", "-00")));
        assert_ne!(span_id(1, trace), span_id(2, trace));
        assert_eq!(span_id(1, trace).len(), 16);
    }
}
