//! What was lost at one place of a subscription's order.

use std::sync::Arc;

/// Counts of dropped messages, to be told by one `Gap`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) dropped: u64,
    pub(crate) dropped_bytes: u64,
    topic: Option<Arc<str>>,
    mixed: bool,
}

impl Gap {
    pub(crate) fn is_empty(&self) -> bool {
        self.dropped == 0
    }

    pub(crate) fn add(&mut self, dropped: u64, dropped_bytes: u64, topic: &Arc<str>) {
        self.dropped += dropped;
        self.dropped_bytes += dropped_bytes;
        self.note(topic);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.dropped += other.dropped;
        self.dropped_bytes += other.dropped_bytes;
        self.mixed |= other.mixed;
        if let Some(topic) = &other.topic {
            self.note(topic);
        }
    }

    /// The topic where all dropped ones were of one, else empty.
    pub(crate) fn topic(&self) -> &str {
        match &self.topic {
            Some(topic) if !self.mixed => topic,
            _ => "",
        }
    }

    fn note(&mut self, topic: &Arc<str>) {
        match &self.topic {
            None => self.topic = Some(Arc::clone(topic)),
            Some(known) if known == topic => {}
            Some(_) => self.mixed = true,
        }
    }
}
