//! What a node looks at beside counting.

use std::time::Duration;

/// Settings of observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObserveConfig {
    /// Whether single messages are looked at: latencies, conversations, taps.
    pub enabled: bool,
    /// One message in so many is timed.
    pub sample_one_in: u32,
    /// Messages that one core follows in a second, at most.
    pub followed_per_second_max: u32,
    /// Conversations that are remembered.
    pub conversations_max: usize,
    /// Events that are remembered of one conversation.
    pub conversation_events_max: usize,
    /// Where metrics and traces go (OTLP/HTTP); empty: nowhere.
    pub otlp_endpoint: String,
    /// How often.
    pub otlp_interval: Duration,
}

impl Default for ObserveConfig {
    fn default() -> ObserveConfig {
        ObserveConfig {
            enabled: true,
            sample_one_in: 256,
            followed_per_second_max: 10_000,
            conversations_max: 1024,
            conversation_events_max: 512,
            otlp_endpoint: String::new(),
            otlp_interval: Duration::from_secs(10),
        }
    }
}
