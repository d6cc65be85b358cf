//! Runs lie in memory that many queues share. One that waits for long is copied out, so that a reader that stalls pins no more
//! than its bound; neighbours are joined, so that many small runs do not cost more than their bytes.

use bytes::{Bytes, BytesMut};

use super::{Body, Queue, Segment};

/// Neighbours are joined up to this size: large enough to make the cost of a segment small, small enough for the allocator.
const JOINED_BYTES_MAX: usize = 16 * 1024;
/// An empty queue keeps room for so many segments.
const IDLE_SEGMENTS: usize = 16;

impl Queue {
    /// Copies out every segment that was there at the last call; returns how many.
    pub(crate) fn settle(&mut self) -> u64 {
        let from = self.settled.max(self.base);
        let to = self.seen.max(from).min(self.tail());
        let mut copied = 0;
        let mut index = (from - self.base) as usize;
        let end = (to - self.base) as usize;
        while index < end {
            let joined = self.joinable(index, end);
            self.copy_out(index, joined);
            copied += joined as u64;
            index += joined;
        }
        if let Some(torn) = &mut self.torn
            && !torn.settled
        {
            torn.bytes = Bytes::copy_from_slice(&torn.bytes);
            torn.settled = true;
        }
        self.settled = to;
        self.seen = self.tail();
        self.compact();
        copied
    }

    /// Gives memory back that an empty queue does not need.
    pub(crate) fn shrink(&mut self) {
        if self.segments.is_empty() && self.segments.capacity() > IDLE_SEGMENTS {
            self.segments.shrink_to(IDLE_SEGMENTS);
        }
    }

    /// How many segments from `index` on can become one.
    fn joinable(&self, index: usize, end: usize) -> usize {
        let first = &self.segments[index];
        let Body::Run { bytes, .. } = &first.body else {
            return 1;
        };
        let mut len = bytes.len();
        let mut count = 1;
        for segment in self.segments.range(index + 1..end) {
            let Body::Run { bytes, .. } = &segment.body else {
                break;
            };
            len += bytes.len();
            if len > JOINED_BYTES_MAX || segment.lane != first.lane || segment.topic != first.topic {
                break;
            }
            count += 1;
        }
        count
    }

    fn copy_out(&mut self, index: usize, joined: usize) {
        if joined == 1 {
            if let Body::Run { bytes, .. } | Body::Control(bytes) = &mut self.segments[index].body {
                *bytes = Bytes::copy_from_slice(bytes);
            }
            return;
        }
        let len = self.segments.range(index..index + joined).map(run_len).sum();
        let mut copy = BytesMut::with_capacity(len);
        let mut count = 0;
        for segment in self.segments.range_mut(index..index + joined) {
            if let Body::Run { bytes, messages } = std::mem::replace(&mut segment.body, Body::Dead) {
                copy.extend_from_slice(&bytes);
                count += messages;
            }
        }
        self.dead += joined - 1;
        self.segments[index].body = Body::Run {
            bytes: copy.freeze(),
            messages: count,
        };
    }
}

fn run_len(segment: &Segment) -> usize {
    match &segment.body {
        Body::Run { bytes, .. } => bytes.len(),
        _ => 0,
    }
}
