//! A message in a run whose connections have keys: what is the same for all, laid out so that each copy needs its code alone.
//!
//! ```text
//!   u32 tail_len │ u32 frame_len │ u32 head_len │ u32 tag_at │ tail of the preimage │ frame: gRPC prefix and message
//!                                                                                    head with the header │ rest
//! ```
//!
//! The numbers are in the machine's order: a record stays in the process.

use bytes::{Bytes, BytesMut};

use super::mac::{HeaderKey, TAG_BYTES};

const HEAD_BYTES: usize = 16;

/// From this length on, what is behind the header is shared instead of copied: a send of two parts costs less than the copy.
const SHARED_BYTES_MIN: usize = 4 << 10;

/// Bytes of a record around the frame.
pub(super) fn overhead(tail: &[u8]) -> usize {
    HEAD_BYTES + tail.len()
}

/// Appends all of a record but the frame, which must follow.
pub(super) fn put_head(tail: &[u8], frame_len: usize, head_len: usize, tag_at: usize, out: &mut BytesMut) {
    for number in [tail.len(), frame_len, head_len, tag_at] {
        out.extend_from_slice(&(number as u32).to_ne_bytes());
    }
    out.extend_from_slice(tail);
}

/// A record, read.
pub(super) struct Record<'r> {
    tail: &'r [u8],
    pub(super) frame: &'r [u8],
    /// Length of the frame up to the header's end.
    head_len: usize,
    /// Where the code goes in the frame.
    tag_at: usize,
}

impl<'r> Record<'r> {
    /// The first record of a run.
    #[inline]
    pub(super) fn first(run: &'r [u8]) -> Self {
        let (head, rest) = run.split_at(HEAD_BYTES);
        let (numbers, _) = head.as_chunks::<4>();
        let number = |at: usize| u32::from_ne_bytes(numbers[at]) as usize;
        let (tail, rest) = rest.split_at(number(0));
        Self {
            tail,
            frame: &rest[..number(1)],
            head_len: number(2),
            tag_at: number(3),
        }
    }

    /// Length of the record.
    #[inline]
    pub(super) fn len(&self) -> usize {
        HEAD_BYTES + self.tail.len() + self.frame.len()
    }

    /// Appends the frame with the code of a link. Where its end is to be shared, that is left out; returns the length of what was left out.
    #[inline]
    pub(super) fn put(&self, key: &HeaderKey, out: &mut BytesMut) -> usize {
        let shared = self.frame.len() - self.head_len;
        let shared = if shared < SHARED_BYTES_MIN { 0 } else { shared };
        let tag = key.tag(self.tail);
        let at = out.len() + self.tag_at;
        out.extend_from_slice(&self.frame[..self.frame.len() - shared]);
        out[at..at + TAG_BYTES].copy_from_slice(&tag);
        shared
    }
}

/// The last `len` bytes of the first `used` bytes of a run.
pub(super) fn end_of(run: &Bytes, used: usize, len: usize) -> Bytes {
    match len {
        0 => Bytes::new(),
        _ => run.slice(used - len..used),
    }
}
