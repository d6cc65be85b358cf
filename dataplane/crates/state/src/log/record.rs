//! Records: what batches consist of.

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use crate::{Change, Kept, Place};

/// Kinds of records.
mod kind {
    pub(super) const OPENED: u8 = 1;
    pub(super) const PUT: u8 = 2;
    pub(super) const DELETE: u8 = 3;
    pub(super) const REVISION: u8 = 4;
    pub(super) const KEPT: u8 = 5;
}

/// The first record of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Whose segment it is.
    pub core: u64,
    /// The core's segment before it; 0: none in this run of the node.
    pub previous: u64,
    /// How many batches of that count.
    pub batches: u64,
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<'a> {
    /// A segment begins.
    Opened(Opened),
    /// A key has, or no longer has, a value.
    Change {
        /// Of which space.
        space: &'a str,
        /// What.
        change: Change,
    },
    /// A space has come to this revision.
    Revision {
        /// Which.
        space: &'a str,
        /// How far.
        revision: u64,
    },
    /// A topic keeps a message.
    Kept {
        /// The message's place.
        place: Place,
        /// Which topic.
        topic: &'a str,
        /// The message as subscribers get it.
        bytes: &'a [u8],
    },
}

/// A record breaks the format, though its batch is good: another version wrote it, or there is a fault in the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a record at byte {at} of a batch cannot be read; was it written by a later version?")]
pub struct Malformed {
    /// Where in the batch's records.
    pub at: usize,
}

/// Appends the first record of a segment.
pub fn put_opened(out: &mut Vec<u8>, opened: Opened) {
    out.push(kind::OPENED);
    for word in [opened.core, opened.previous, opened.batches] {
        out.extend_from_slice(&word.to_le_bytes());
    }
}

/// Appends a change, or what a snapshot says of a key.
pub fn put_change(out: &mut Vec<u8>, space: &str, change: &Change) {
    out.push(match change.value {
        Some(_) => kind::PUT,
        None => kind::DELETE,
    });
    for word in [change.revision, change.time_unix_nanos, change.expires_unix_ms] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    for piece in [space.as_bytes(), change.key.as_bytes(), change.source.as_bytes()] {
        put_bytes(out, piece);
    }
    if let Some(value) = &change.value {
        put_bytes(out, value);
    }
}

/// Appends how far a space has come.
pub fn put_revision(out: &mut Vec<u8>, space: &str, revision: u64) {
    out.push(kind::REVISION);
    out.extend_from_slice(&revision.to_le_bytes());
    put_bytes(out, space.as_bytes());
}

/// Appends a message that a topic keeps.
pub fn put_kept(out: &mut Vec<u8>, kept: &Kept) {
    out.push(kind::KEPT);
    for word in [kept.place.at, u64::from(kept.place.core)] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    put_bytes(out, kept.topic.as_bytes());
    put_bytes(out, &kept.bytes);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// The records of a batch.
pub fn records(batch: &[u8]) -> impl Iterator<Item = Result<Record<'_>, Malformed>> {
    let mut rest = batch;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let at = batch.len() - rest.len();
        let record = take(&mut rest).ok_or(Malformed { at });
        if record.is_err() {
            rest = &[];
        }
        Some(record)
    })
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<Record<'a>> {
    let (&kind, behind) = rest.split_first()?;
    *rest = behind;
    Some(match kind {
        kind::OPENED => Record::Opened(Opened {
            core: word(rest)?,
            previous: word(rest)?,
            batches: word(rest)?,
        }),
        kind::PUT | kind::DELETE => {
            let (revision, time_unix_nanos, expires_unix_ms) = (word(rest)?, word(rest)?, word(rest)?);
            let space = text(rest)?;
            let key = text(rest)?.into();
            let source: Arc<str> = text(rest)?.into();
            let value = match kind {
                kind::PUT => Some(Bytes::copy_from_slice(bytes(rest)?)),
                _ => None,
            };
            let change = Change {
                key,
                value,
                revision,
                source,
                time_unix_nanos,
                expires_unix_ms,
            };
            Record::Change { space, change }
        }
        kind::REVISION => {
            let revision = word(rest)?;
            Record::Revision {
                space: text(rest)?,
                revision,
            }
        }
        kind::KEPT => {
            let (at, core) = (word(rest)?, u16::try_from(word(rest)?).ok()?);
            Record::Kept {
                place: Place { at, core },
                topic: text(rest)?,
                bytes: bytes(rest)?,
            }
        }
        _ => return None,
    })
}

fn word(rest: &mut &[u8]) -> Option<u64> {
    let (head, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(u64::from_le_bytes(*head))
}

fn bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (head, behind) = rest.split_first_chunk()?;
    let (bytes, behind) = behind.split_at_checked(u32::from_le_bytes(*head) as usize)?;
    *rest = behind;
    Some(bytes)
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(bytes(rest)?).ok()
}
