//! DATA frames that several connections send in one turn.
//!
//! A fan-out gives every subscriber the same bytes, and most clients hear them on the same stream, their first: then the frames are
//! equal from head to end. Such frames are put together once and sent from there by all, as one piece; the kernel reads it from a warm
//! cache, and nothing is copied per subscriber.

use bytes::Bytes;
use ringgate_http2::frame::HEAD_BYTES;
use ringgate_wire::{Arena, ArenaConfig};
use smallvec::SmallVec;

/// Bodies remembered: what a connection sends at once is rarely more runs.
const REMEMBERED: usize = 4;

/// Memory of frames: a run with its heads, several times, and still in the L2 cache.
const MEMORY: ArenaConfig = ArenaConfig {
    chunk_bytes: 256 << 10,
    chunks_max: 8,
    large_chunks_max: 2,
    run_room: 0,
};

/// The head of a DATA frame.
pub(crate) type Head = [u8; HEAD_BYTES];
/// The heads of the frames that a body is sent in: without an allocation for `cores.send_bytes_max` in frames of the size that clients
/// allow unasked.
pub(crate) type Heads = SmallVec<[Head; 9]>;

/// The frames sent last in this turn.
#[derive(Debug)]
pub(crate) struct Frames {
    entries: [Option<Entry>; REMEMBERED],
    next: usize,
    /// Where frames are put together; it is used again when their sends are over.
    memory: Arena,
}

#[derive(Debug)]
struct Entry {
    heads: Heads,
    /// Held, so that its address stands for its content.
    body: Bytes,
    /// Made when they are asked for a second time.
    frames: Option<Bytes>,
}

impl Default for Frames {
    fn default() -> Frames {
        Frames {
            entries: Default::default(),
            next: 0,
            memory: Arena::new(MEMORY),
        }
    }
}

impl Frames {
    /// `body` in frames with these heads, all but the last of `frame_bytes`, as one piece: if it was asked for before in this turn.
    pub(crate) fn shared(&mut self, heads: &Heads, frame_bytes: usize, body: &Bytes) -> Option<Bytes> {
        let known = self.entries.iter_mut().flatten().find(|entry| {
            entry.heads == *heads
                && std::ptr::eq(entry.body.as_ptr(), body.as_ptr())
                && entry.body.len() == body.len()
        });
        if let Some(entry) = known {
            let memory = &mut self.memory;
            let frames = entry
                .frames
                .get_or_insert_with(|| join(memory, heads, frame_bytes, body));
            return Some(frames.clone());
        }
        self.entries[self.next] = Some(Entry {
            heads: heads.clone(),
            body: body.clone(),
            frames: None,
        });
        self.next = (self.next + 1) % REMEMBERED;
        None
    }

    /// The turn is over: lets go of everything.
    pub(crate) fn clear(&mut self) {
        self.entries = Default::default();
    }
}

fn join(memory: &mut Arena, heads: &Heads, frame_bytes: usize, body: &[u8]) -> Bytes {
    let frames = memory.reserve(heads.len() * HEAD_BYTES + body.len());
    for (head, payload) in heads.iter().zip(body.chunks(frame_bytes)) {
        frames.extend_from_slice(head);
        frames.extend_from_slice(payload);
    }
    memory.take()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(bytes: &[u8]) -> Heads {
        bytes.iter().map(|byte| [*byte; HEAD_BYTES]).collect()
    }

    #[test]
    fn the_second_and_later_asks_get_one_and_the_same_piece() {
        let mut frames = Frames::default();
        let run = Bytes::from(vec![1; 100]);
        let heads = heads(&[7, 8]);
        assert_eq!(frames.shared(&heads, 60, &run), None);
        let second = frames.shared(&heads, 60, &run.clone()).expect("known");
        let third = frames.shared(&heads, 60, &run).expect("known");
        let expected = [&[7; HEAD_BYTES][..], &[1; 60], &[8; HEAD_BYTES], &[1; 40]].concat();
        assert_eq!(second, expected);
        assert!(std::ptr::eq(second.as_ptr(), third.as_ptr()));
    }

    #[test]
    fn other_heads_length_or_address_are_other_frames() {
        let mut frames = Frames::default();
        let run = Bytes::from(vec![1; 100]);
        let seven = heads(&[7]);
        assert_eq!(frames.shared(&seven, 100, &run), None);
        assert_eq!(frames.shared(&heads(&[8]), 100, &run), None);
        assert_eq!(frames.shared(&seven, 100, &run.slice(..99)), None);
        assert_eq!(frames.shared(&seven, 100, &Bytes::from(vec![1; 100])), None);
        assert!(frames.shared(&seven, 100, &run).is_some());
        frames.clear();
        assert_eq!(frames.shared(&seven, 100, &run), None);
    }
}
