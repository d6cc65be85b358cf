//! Security events for those who watch: the last ones, and those to come.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::observation::Seen;

/// Events that are kept for who asks later.
const KEPT_MAX: usize = 1024;
/// Events that a watcher may be behind; one further behind is told how many it lost.
const BEHIND_MAX: usize = 1024;

/// See the module. On the service thread; data cores never touch it.
#[derive(Debug)]
pub struct EventLog {
    kept: Mutex<VecDeque<Value>>,
    live: broadcast::Sender<Value>,
}

impl Default for EventLog {
    fn default() -> EventLog {
        EventLog {
            kept: Mutex::default(),
            live: broadcast::channel(BEHIND_MAX).0,
        }
    }
}

impl EventLog {
    /// Keeps an event, and tells it to those who watch.
    pub fn note(&self, seen: &Seen) {
        let event = to_json(seen);
        let mut kept = self.kept();
        if kept.len() == KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(event.clone());
        // While it is locked, so that who subscribes sees each event once. Nobody may watch.
        let _ = self.live.send(event);
    }

    /// The last `most` events, and those to come.
    pub fn watch(&self, most: usize) -> (Vec<Value>, broadcast::Receiver<Value>) {
        let kept = self.kept();
        let last = kept
            .iter()
            .skip(kept.len().saturating_sub(most))
            .cloned()
            .collect();
        (last, self.live.subscribe())
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Value>> {
        // No change is left half-made by a panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn to_json(seen: &Seen) -> Value {
    json!({
        "time_unix_nanos": seen.unix_nanos,
        "kind": seen.event.kind.code(),
        "identity": seen.event.identity,
        "address": seen.event.address,
        "core": seen.core,
        "detail": seen.event.detail,
    })
}
