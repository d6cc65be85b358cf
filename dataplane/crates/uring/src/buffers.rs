//! Receive buffers that the kernel picks from (`IORING_REGISTER_PBUF_RING`).

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// `IOU_PBUF_RING_INC`: the kernel fills a buffer piece by piece (Linux 6.12).
const PBUF_RING_INC: u16 = 2;
/// The group of the only buffer ring.
pub(crate) const GROUP: u16 = 0;

/// The shared ring of buffer descriptors, and the memory they point to.
#[derive(Debug)]
pub(crate) struct Buffers {
    ring: Mapping,
    memory: Mapping,
    count: u16,
    buffer_bytes: usize,
    tail: u16,
    incremental: bool,
    /// How far each buffer was filled, in incremental mode.
    filled: Vec<u32>,
}

/// A piece of a receive buffer that holds data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) buffer: u16,
    pub(crate) start: u32,
    pub(crate) len: u32,
    /// Whether the kernel is done with the buffer, so that it must be given back.
    pub(crate) last: bool,
}

impl Buffers {
    pub(crate) fn register(
        ring: &IoUring,
        count: u16,
        buffer_bytes: u32,
        incremental: bool,
    ) -> io::Result<Buffers> {
        assert!(count.is_power_of_two(), "receive_buffers must be a power of two");
        let descriptors = Mapping::new(count as usize * size_of::<BufRingEntry>())?;
        let memory = Mapping::new(count as usize * buffer_bytes as usize)?;
        let address = descriptors.pointer.as_ptr() as u64;
        let register = |flags| {
            // SAFETY: the mapping is page aligned, large enough for `count` descriptors and lives as long as the ring: `Ring` drops its
            // buffers after the io_uring, or leaks them where operations could not be drained.
            unsafe {
                ring.submitter()
                    .register_buf_ring_with_flags(address, count, GROUP, flags)
            }
        };
        let incremental = incremental && register(PBUF_RING_INC).is_ok();
        if !incremental {
            register(0)?;
        }
        let mut buffers = Buffers {
            ring: descriptors,
            memory,
            count,
            buffer_bytes: buffer_bytes as usize,
            tail: 0,
            incremental,
            filled: vec![0; count as usize],
        };
        (0..count).for_each(|buffer| buffers.give_back(buffer));
        Ok(buffers)
    }

    pub(crate) fn is_incremental(&self) -> bool {
        self.incremental
    }

    /// Notes a completed receive of `len` bytes into `buffer`.
    pub(crate) fn completed(&mut self, buffer: u16, len: u32, more: bool) -> Piece {
        let start = self.filled[buffer as usize];
        let last = !(self.incremental && more);
        self.filled[buffer as usize] = if last { 0 } else { start + len };
        Piece {
            buffer,
            start,
            len,
            last,
        }
    }

    pub(crate) fn bytes(&self, piece: Piece) -> &[u8] {
        let start = piece.buffer as usize * self.buffer_bytes + piece.start as usize;
        assert!(piece.start as usize + piece.len as usize <= self.buffer_bytes);
        // SAFETY: the range lies in the mapping (asserted for the buffer; `buffer` < `count` as it indexed `filled`). The kernel has
        // completed its write to this range and will not write to it before the buffer is given back, which needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.memory.pointer.as_ptr().add(start), piece.len as usize) }
    }

    /// Hands a buffer to the kernel.
    pub(crate) fn give_back(&mut self, buffer: u16) {
        let slot = self.tail & (self.count - 1);
        let base = self.ring.pointer.as_ptr().cast::<BufRingEntry>();
        // SAFETY: `slot` < `count`, so the entry lies in the mapping; the kernel does not read it before the tail moves past it.
        let entry = unsafe { &mut *base.add(slot as usize) };
        entry.set_addr(self.memory.pointer.as_ptr() as u64 + buffer as u64 * self.buffer_bytes as u64);
        entry.set_len(self.buffer_bytes as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `base` is the start of a registered buffer ring, whose tail lies in its first entry; it is aligned for u16 and is
        // only ever accessed atomically by this side after registration.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(base).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

/// Anonymous memory, page aligned and zeroed.
#[derive(Debug)]
struct Mapping {
    pointer: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(len: usize) -> io::Result<Mapping> {
        // SAFETY: an anonymous private mapping without a fixed address touches no existing memory.
        let pointer = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        match NonNull::new(pointer.cast::<u8>()) {
            Some(start) if pointer != libc::MAP_FAILED => Ok(Mapping { pointer: start, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: pointer and length are those of our own mapping, and no slice of it outlives its owner.
        unsafe { libc::munmap(self.pointer.as_ptr().cast(), self.len) };
    }
}
