//! Keys of observation.

use super::{Duration, Key, MS_MAX, Value};

pub(super) fn keys() -> impl Iterator<Item = &'static Key> {
    KEYS.iter()
}

const KEYS: &[Key] = &[
    flag!(
        "observe.enabled",
        "Whether single messages are looked at: to time them, to follow conversations, and for `ringgate tap`. Counters are kept in any \
         case. Off saves about one percent of a core.",
        observe.enabled
    ),
    number!(
        "observe.sample_one_in",
        "One message in so many is timed on its way. Timing one costs about as much as forwarding it.",
        1,
        1 << 20,
        observe.sample_one_in as u32
    ),
    number!(
        "observe.followed_per_second_max",
        "Messages that one core follows for conversations and taps in a second; others are counted and left out. 10000 take about one \
         percent of a core.",
        0,
        1_000_000,
        observe.followed_per_second_max as u32
    ),
    number!(
        "observe.conversations_max",
        "Conversations (header conversation-id) that are remembered; the one that was silent longest gives way.",
        0,
        1 << 20,
        observe.conversations_max as usize
    ),
    number!(
        "observe.conversation_events_max",
        "Events that are remembered of one conversation, the latest; about 200 bytes each.",
        1,
        1 << 20,
        observe.conversation_events_max as usize
    ),
    Key {
        name: "observe.otlp_endpoint",
        doc: "OpenTelemetry collector that gets metrics and traces (OTLP/HTTP, JSON), as in \"http://127.0.0.1:4318\". Empty: none.",
        reload: false,
        get: |config| Value::Text(config.observe.otlp_endpoint.clone()),
        set: |config, value| {
            config.observe.otlp_endpoint = value.text()?.trim_end_matches('/').to_owned();
            Ok(())
        },
    },
    millis!(
        "observe.otlp_interval_ms",
        "How often it gets them.",
        observe.otlp_interval
    ),
];
