//! Sizes of a ring.

/// Sizes of a [`Ring`](crate::Ring). All memory is taken when the ring is made.
#[derive(Debug, Clone)]
pub struct RingConfig {
    /// Submission queue entries, a power of two. Default 1024: more submissions in one turn are handed over in pieces of this size,
    /// and a piece this large already makes the cost of the system call disappear. Cap 32 768 (the kernel's).
    pub submission_entries: u32,
    /// Completion queue entries, a power of two. Default 16 384: a turn can complete a send and a receive for each of several
    /// thousand sockets without the kernel's slow overflow list. Cap 65 536 (the kernel's).
    pub completion_entries: u32,
    /// Receive buffers, a power of two. Default 128. Every buffer is given back within the loop turn that reads it, so this bounds
    /// what one turn can receive, not what connections may hold. Cap 32 768 (the kernel's).
    pub receive_buffers: u16,
    /// Bytes of one receive buffer. Default 32 768: a batch of small messages arrives in one piece, a message of 16 KiB mostly too.
    pub receive_buffer_bytes: u32,
    /// Whether to let the kernel fill a buffer piece by piece (Linux 6.12). Default false: every buffer is given back within the turn
    /// anyway, and what comes in larger pieces is cheaper to take in (`perf/005-receive-buffers.md`). Ignored where the kernel cannot.
    pub incremental: bool,
    /// Sockets the ring can hold. Default 65 536; lowered to the limit of open files where that is smaller. Each costs 8 bytes in
    /// the kernel and about 64 here, once used.
    pub sockets_max: u32,
    /// Pieces up to this many bytes are copied into a send's staging memory, larger ones go out by reference. Default 1024, see
    /// `perf/` for the measurement.
    pub copy_bytes_max: usize,
}

impl Default for RingConfig {
    fn default() -> Self {
        RingConfig {
            submission_entries: 1024,
            completion_entries: 16_384,
            receive_buffers: 128,
            receive_buffer_bytes: 32_768,
            incremental: false,
            sockets_max: 65_536,
            copy_bytes_max: 1024,
        }
    }
}
