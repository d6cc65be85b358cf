//! Memory for encoded messages, recycled.
//!
//! ```text
//!   chunk   [ run | run | run being built |        free        ]
//!              ▲     ▲
//!           Bytes  Bytes        in the queues of subscribers
//! ```
//!
//! Runs are cut off one behind the other and share the chunk's reference count. A chunk is used again once all its runs are
//! dropped: in place while a new run starts, else by rotation. Chunks that a slow reader pins are forgotten; their memory is
//! freed with their last run.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Sizes of an [`Arena`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArenaConfig {
    /// Size of a chunk in bytes. Default 128 KiB: a few runs, and small enough that the chunks in rotation stay in the L2 cache.
    pub chunk_bytes: usize,
    /// Chunks kept for reuse while their runs are in flight. Default 16 (2 MiB): what sends in flight and queues that are being
    /// read hold in a busy turn; more would keep memory for readers that do not read.
    pub chunks_max: usize,
    /// Chunks kept for messages that do not fit into `chunk_bytes`; each holds the next power of two. Default 4: such messages
    /// are rare and their chunks large (message limit 4 MiB: 16 MiB at most).
    pub large_chunks_max: usize,
    /// Room that must be left in a chunk for a run to start there, in bytes. Default 32 KiB, the length of an average run of a
    /// busy turn: to leave the rest unused costs less than to move a run that outgrows it.
    pub run_room: usize,
}

impl Default for ArenaConfig {
    fn default() -> Self {
        ArenaConfig {
            chunk_bytes: 128 << 10,
            chunks_max: 16,
            large_chunks_max: 4,
            run_room: 32 << 10,
        }
    }
}

/// How many chunks are asked whether they are free before a new one is allocated. They retire in order and are mostly released in
/// order, so that the oldest are the likeliest; each question costs a cache line.
const PROBES: usize = 4;

/// Appends messages to a run and cuts runs off, without allocating in steady state. See the module.
#[derive(Debug)]
pub struct Arena {
    config: ArenaConfig,
    /// The run being built, and the free room behind it.
    current: BytesMut,
    /// Size of the chunk that `current` lies in.
    current_bytes: usize,
    chunks: Pool,
    large: Pool,
}

impl Arena {
    /// An arena that allocates its first chunk with the first message.
    pub fn new(config: ArenaConfig) -> Arena {
        Arena {
            config,
            current: BytesMut::new(),
            current_bytes: 0,
            chunks: Pool::new(config.chunks_max),
            large: Pool::new(config.large_chunks_max),
        }
    }

    /// The run being built, with room for `additional` bytes more behind it.
    #[inline(always)]
    pub fn reserve(&mut self, additional: usize) -> &mut BytesMut {
        let room = self.current.capacity() - self.current.len();
        let wanted = if self.current.is_empty() {
            self.config.run_room.max(additional)
        } else {
            additional
        };
        if room < wanted {
            self.grow(additional);
        }
        &mut self.current
    }

    /// Bytes of the run being built.
    #[inline]
    pub fn pending(&self) -> usize {
        self.current.len()
    }

    /// Cuts off the run being built. Does not allocate, but for the first run of a new chunk, whose reference count it creates.
    #[inline]
    pub fn take(&mut self) -> Bytes {
        if self.current.is_empty() {
            return Bytes::new();
        }
        let run = self.current.split().freeze();
        if self.current_bytes > self.config.chunk_bytes {
            // Small runs would pin a chunk of megabytes.
            self.replace_current(BytesMut::new(), 0);
        }
        run
    }

    /// Makes room for `additional` bytes: at the start of the same chunk if it is free, else in another chunk, to where the run
    /// being built moves.
    #[cold]
    fn grow(&mut self, additional: usize) {
        let needed = self.current.len() + additional;
        let is_large = needed > self.config.chunk_bytes;
        let size = if is_large {
            needed.next_power_of_two()
        } else {
            self.config.chunk_bytes
        };
        if self.current.is_empty() && self.current_bytes == size && self.current.try_reclaim(size) {
            return;
        }
        let pool = if is_large {
            &mut self.large
        } else {
            &mut self.chunks
        };
        let mut chunk = pool.obtain(size);
        chunk.extend_from_slice(&self.current);
        self.replace_current(chunk, size);
    }

    #[cold]
    fn replace_current(&mut self, chunk: BytesMut, bytes: usize) {
        let retired = std::mem::replace(&mut self.current, chunk);
        match std::mem::replace(&mut self.current_bytes, bytes) {
            0 => {}
            large if large > self.config.chunk_bytes => self.large.retire(retired),
            _ => self.chunks.retire(retired),
        }
    }
}

impl Default for Arena {
    fn default() -> Self {
        Arena::new(ArenaConfig::default())
    }
}

/// Chunks that wait for their runs to be dropped, oldest first.
#[derive(Debug)]
struct Pool {
    chunks: VecDeque<BytesMut>,
    chunks_max: usize,
}

impl Pool {
    fn new(chunks_max: usize) -> Pool {
        Pool {
            chunks: VecDeque::with_capacity(chunks_max),
            chunks_max,
        }
    }

    /// An empty chunk with room for `bytes`.
    fn obtain(&mut self, bytes: usize) -> BytesMut {
        for _ in 0..self.chunks.len().min(PROBES) {
            let Some(mut chunk) = self.chunks.pop_front() else {
                break;
            };
            if chunk.try_reclaim(bytes) {
                return chunk;
            }
            self.chunks.push_back(chunk);
        }
        BytesMut::with_capacity(bytes)
    }

    /// Keeps a chunk for later; forgets the oldest if there are too many.
    fn retire(&mut self, mut chunk: BytesMut) {
        if self.chunks.len() == self.chunks_max {
            self.chunks.pop_front();
        }
        // The run that was being built has moved.
        chunk.clear();
        if self.chunks_max > 0 {
            self.chunks.push_back(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: ArenaConfig = ArenaConfig {
        chunk_bytes: 1024,
        chunks_max: 4,
        large_chunks_max: 2,
        run_room: 64,
    };

    fn run_of(arena: &mut Arena, byte: u8, length: usize) -> Bytes {
        arena.reserve(length).extend_from_slice(&vec![byte; length]);
        arena.take()
    }

    #[test]
    fn a_chunk_is_used_again_when_its_runs_are_gone() {
        let mut arena = Arena::new(CONFIG);
        let first = run_of(&mut arena, 1, 1000);
        let start = first.as_ptr();
        drop(first);
        assert_eq!(run_of(&mut arena, 2, 1000).as_ptr(), start);
    }

    #[test]
    fn runs_keep_their_bytes_while_later_runs_are_written() {
        let mut arena = Arena::new(CONFIG);
        let runs: Vec<Bytes> = (0..=255).map(|byte| run_of(&mut arena, byte, 100)).collect();
        for (byte, run) in runs.iter().enumerate() {
            assert_eq!(run.as_ref(), &[byte as u8; 100]);
        }
        assert!(arena.chunks.chunks.len() <= CONFIG.chunks_max);
    }

    #[test]
    fn a_run_moves_when_it_outgrows_its_chunk() {
        let mut arena = Arena::new(CONFIG);
        let _first = run_of(&mut arena, 1, 900);
        arena.reserve(100).extend_from_slice(&[2; 100]);
        arena.reserve(500).extend_from_slice(&[3; 500]);
        arena.reserve(5000).extend_from_slice(&[4; 5000]);
        assert_eq!(arena.pending(), 5600);
        let run = arena.take();
        assert_eq!((run[0], run[100], run[600], run[5599]), (2, 3, 4, 4));
        // The large chunk is not kept for small runs.
        let _small = run_of(&mut arena, 5, 10);
        assert_eq!(arena.current_bytes, CONFIG.chunk_bytes);
    }

    #[test]
    fn a_pinned_chunk_is_forgotten_and_the_others_rotate() {
        let mut arena = Arena::new(CONFIG);
        let pinned = run_of(&mut arena, 7, 1000);
        for _ in 0..100 {
            drop(run_of(&mut arena, 8, 1000));
        }
        assert_eq!(pinned.as_ref(), &[7; 1000]);
        assert!(arena.chunks.chunks.len() <= CONFIG.chunks_max);
    }

    #[test]
    fn an_empty_run_is_empty() {
        assert!(Arena::default().take().is_empty());
    }
}
