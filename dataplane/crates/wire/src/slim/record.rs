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
use crate::Arena;

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
#[derive(Default)]
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

    /// Length of the frame's end that is shared instead of copied.
    #[inline]
    pub(super) fn shared_len(&self) -> usize {
        match self.frame.len() - self.head_len {
            short if short < SHARED_BYTES_MIN => 0,
            long => long,
        }
    }

    /// Appends the frame with this code, but for the end that is shared.
    #[inline]
    fn put(&self, tag: &[u8; TAG_BYTES], out: &mut BytesMut) {
        let at = out.len() + self.tag_at;
        out.extend_from_slice(&self.frame[..self.frame.len() - self.shared_len()]);
        out[at..at + TAG_BYTES].copy_from_slice(tag);
    }
}

/// Records that go to one connection one behind the other. Codes of several are made together in less time than one by one.
#[derive(Default)]
pub(super) struct Batch<'r> {
    records: [Record<'r>; BATCH_MAX],
    count: usize,
}

/// More would take no less time: SHA-256 of four is limited by what the processor can do, not by what it waits for.
const BATCH_MAX: usize = 4;

impl<'r> Batch<'r> {
    #[inline]
    pub(super) fn push(&mut self, record: Record<'r>) {
        self.records[self.count] = record;
        self.count += 1;
    }

    pub(super) fn is_full(&self) -> bool {
        self.count == BATCH_MAX
    }

    /// Appends the frames with the codes of a link, but for an end that is shared.
    #[inline]
    pub(super) fn put(self, key: &HeaderKey, out: &mut Arena) {
        match &self.records[..self.count] {
            [one] => put_all([one], key, out),
            [one, two] => put_all([one, two], key, out),
            [one, two, three] => put_all([one, two, three], key, out),
            [one, two, three, four] => put_all([one, two, three, four], key, out),
            _ => {}
        }
    }
}

#[inline]
fn put_all<const N: usize>(records: [&Record<'_>; N], key: &HeaderKey, out: &mut Arena) {
    let tags = key.tags(records.map(|record| record.tail));
    for (record, tag) in records.into_iter().zip(&tags) {
        record.put(tag, out.reserve(record.frame.len()));
    }
}

/// The last `len` bytes of the first `used` bytes of a run.
pub(super) fn end_of(run: &Bytes, used: usize, len: usize) -> Bytes {
    match len {
        0 => Bytes::new(),
        _ => run.slice(used - len..used),
    }
}
