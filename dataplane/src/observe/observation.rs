//! What cores tell the service thread without being asked: security events, and who comes and goes.
//!
//! The way there is bounded. When it is full, security events are counted and lost; presence is not lost for good: the core notes
//! that the picture is no longer whole, and tells all of it when asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use ringgate_gateway::{AgentInfo, EventKind, SecurityEvent};
use tokio::sync::mpsc;

/// Observations that may wait for the service thread, of all cores together. A thousand agents that come back at once, with room.
pub const OBSERVATIONS_MAX: usize = 8192;

/// One thing seen by a core.
#[derive(Debug)]
pub enum Observation {
    /// For the audit log.
    Security(Seen),
    /// An agent came, or is another than it was.
    Present(Box<AgentInfo>),
    /// The agent of this name left.
    Absent(String),
    /// All agents of one core.
    All(Vec<AgentInfo>),
}

/// A security event, with when and where.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What happened.
    pub event: SecurityEvent,
    /// When, in nanoseconds since 1970.
    pub unix_nanos: u64,
    /// Which core saw it; `None`: a TLS handshake, whose core is not known.
    pub core: Option<usize>,
}

/// What is counted where it happens.
#[derive(Debug, Default)]
pub struct SecurityCounts {
    kinds: [AtomicU64; EventKind::ALL.len()],
    lost: AtomicU64,
    presence_lost: AtomicBool,
}

impl SecurityCounts {
    /// How many there were of each kind.
    pub fn kinds(&self) -> impl Iterator<Item = (EventKind, u64)> + '_ {
        let counts = self.kinds.iter().map(|count| count.load(Ordering::Relaxed));
        EventKind::ALL.into_iter().zip(counts)
    }

    /// How many of them reached no log.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Whether presence was lost since this was asked last.
    pub fn take_presence_lost(&self) -> bool {
        self.presence_lost.swap(false, Ordering::Relaxed)
    }

    /// Counts an event that was lost further on.
    pub fn count_lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// The picture of who is there is no longer whole.
    pub fn lose_presence(&self) {
        self.presence_lost.store(true, Ordering::Relaxed);
    }

    fn count(&self, kind: EventKind) {
        if let Some(at) = EventKind::ALL.iter().position(|known| *known == kind) {
            self.kinds[at].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The way to the service thread. Telling never waits.
#[derive(Debug, Clone)]
pub struct Reporter {
    core: Option<usize>,
    sender: mpsc::Sender<Observation>,
    counts: Arc<SecurityCounts>,
}

/// The two ends of that way.
pub fn observations() -> (Reporter, mpsc::Receiver<Observation>) {
    let (sender, receiver) = mpsc::channel(OBSERVATIONS_MAX);
    let reporter = Reporter {
        core: None,
        sender,
        counts: Arc::default(),
    };
    (reporter, receiver)
}

impl Reporter {
    /// The same for one core.
    #[must_use]
    pub fn of_core(&self, core: usize) -> Reporter {
        Reporter {
            core: Some(core),
            ..self.clone()
        }
    }

    /// What is counted.
    pub fn counts(&self) -> &Arc<SecurityCounts> {
        &self.counts
    }

    /// Tells of a security event.
    pub fn security(&self, event: SecurityEvent, unix_nanos: u64) {
        self.counts.count(event.kind);
        let seen = Seen {
            event,
            unix_nanos,
            core: self.core,
        };
        if self.sender.try_send(Observation::Security(seen)).is_err() {
            self.counts.count_lost();
        }
    }

    /// Tells of an agent, or of all.
    pub fn presence(&self, observation: Observation) {
        if self.sender.try_send(observation).is_err() {
            self.counts.lose_presence();
        }
    }
}

/// The time as events have it.
pub fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Until the year 2554.
    since.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_counted_and_asked_for_again() {
        let (reporter, mut receiver) = observations();
        let event = SecurityEvent {
            kind: EventKind::PermissionDenied,
            identity: String::new(),
            address: String::new(),
            detail: String::new(),
        };
        for _ in 0..OBSERVATIONS_MAX + 3 {
            reporter.of_core(1).security(event.clone(), 0);
        }
        reporter.presence(Observation::Absent("a/b/c/d".into()));
        let counts = reporter.counts();
        assert_eq!(counts.lost(), 3);
        assert!(
            counts
                .kinds()
                .any(|(kind, count)| (kind, count)
                    == (EventKind::PermissionDenied, OBSERVATIONS_MAX as u64 + 3))
        );
        assert!(counts.take_presence_lost() && !counts.take_presence_lost());
        assert!(matches!(receiver.try_recv(), Ok(Observation::Security(_))));
    }
}
