//! One change of one key, and what is wanted to be one.

use std::sync::Arc;

use bytes::Bytes;

use crate::Fault;

/// Longest key in bytes: as long as a topic may be.
pub const KEY_BYTES_MAX: usize = 1024;
/// What a change costs besides its key and value: itself, its places in map and history, the source's name.
const OVERHEAD_BYTES: u64 = 192;

/// What became of a key. The newest change of a key that was put is also its entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which key.
    pub key: Arc<str>,
    /// Its value from now on; none: it was deleted.
    pub value: Option<Bytes>,
    /// Counts the changes of the space.
    pub revision: u64,
    /// Verified name of the agent that made it; empty for a key whose time was over.
    pub source: Arc<str>,
    /// When, in nanoseconds since 1970.
    pub time_unix_nanos: u64,
    /// When the key is deleted by itself, in milliseconds since 1970; 0: never.
    pub expires_unix_ms: u64,
}

impl Change {
    /// Memory that it holds.
    pub fn cost(&self) -> u64 {
        let value = self.value.as_ref().map_or(0, Bytes::len);
        (self.key.len() + value) as u64 + OVERHEAD_BYTES
    }
}

/// When something happens: nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// In milliseconds.
    pub fn millis(self) -> u64 {
        self.0 / 1_000_000
    }
}

/// A change that is wanted.
#[derive(Debug, Clone)]
pub struct Write<'a> {
    /// Of which key.
    pub key: &'a str,
    /// The value; none: delete it.
    pub value: Option<Bytes>,
    /// The key's revision as the writer knows it, 0 where it is not there; none: whatever it is.
    pub expect: Option<u64>,
    /// How long the value is kept, in milliseconds; 0: for good.
    pub ttl_ms: u64,
    /// Who wants it.
    pub source: &'a Arc<str>,
}

/// Checks a key.
///
/// # Errors
/// [`Fault::Key`] with the rule it breaks.
pub fn key(text: &str) -> Result<(), Fault> {
    if text.is_empty() {
        return Err(Fault::Key("it is empty"));
    }
    if text.len() > KEY_BYTES_MAX {
        return Err(Fault::Key("it has more than 1024 bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err(Fault::Key("it holds a control character"));
    }
    Ok(())
}
