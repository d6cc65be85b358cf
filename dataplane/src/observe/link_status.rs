//! How the link to the control process stands.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

/// Written by the link, read by the operator.
#[derive(Debug, Default)]
pub struct LinkStatus {
    attached: AtomicBool,
    version: AtomicU64,
    rejected: AtomicU64,
}

impl LinkStatus {
    /// The link is there, or is gone.
    pub fn set_attached(&self, attached: bool) {
        self.attached.store(attached, Ordering::Relaxed);
    }

    /// A version of the control process's state is in force.
    pub fn set_version(&self, version: u64) {
        self.version.store(version, Ordering::Relaxed);
    }

    /// A version could not be used.
    pub fn count_rejected(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the control process is there.
    pub fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Relaxed)
    }

    /// The version in force.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// As `/stats` tells it.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "attached": self.is_attached(),
            "version": self.version(),
            "rejected": self.rejected.load(Ordering::Relaxed),
        })
    }
}
