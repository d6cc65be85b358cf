//! What one send carries.

use bytes::Bytes;

/// Parts of a send beyond which it must be flushed: the kernel's bound on one `sendmsg` (`UIO_MAXIOV`) is 1024.
pub(crate) const PARTS_MAX: usize = 1000;
/// Staging memory kept for the next use of a buffer. A larger one goes back to the allocator, so that one burst does not stay.
const STAGING_KEPT_BYTES: usize = 64 * 1024;

/// Gathers the bytes of one send: small pieces are copied, large ones are held by reference.
#[derive(Debug, Default)]
pub struct SendBuffer {
    /// All there is, where that is one shared piece: many sends of one turn are, and then touch nothing else of the buffer.
    whole: Option<Bytes>,
    staging: Vec<u8>,
    parts: Vec<Part>,
    len: usize,
    /// Bytes the kernel has taken already, after a short send.
    sent: usize,
    copy_bytes_max: usize,
    iovecs: Vec<libc::iovec>,
    message: Option<Box<libc::msghdr>>,
}

#[derive(Debug)]
enum Part {
    /// A range of `staging`. Parts of it that lie side by side are one.
    Staged {
        start: usize,
        end: usize,
    },
    Shared(Bytes),
}

/// How a [`SendBuffer`] is handed to the kernel.
pub(crate) enum Prepared {
    Plain { pointer: *const u8, len: u32 },
    Vectored { message: *const libc::msghdr },
}

impl SendBuffer {
    pub(crate) fn new(copy_bytes_max: usize) -> SendBuffer {
        SendBuffer {
            copy_bytes_max,
            ..SendBuffer::default()
        }
    }

    /// Appends a copy of `bytes`.
    pub fn copy(&mut self, bytes: &[u8]) {
        self.split_whole();
        let start = self.staging.len();
        self.staging.extend_from_slice(bytes);
        let end = self.staging.len();
        self.len += bytes.len();
        match self.parts.last_mut() {
            Some(Part::Staged { end: last, .. }) if *last == start => *last = end,
            _ => self.parts.push(Part::Staged { start, end }),
        }
    }

    /// Appends `bytes`, by reference where they are larger than the ring's `copy_bytes_max`.
    pub fn share(&mut self, bytes: Bytes) {
        if bytes.len() <= self.copy_bytes_max {
            self.copy(&bytes);
        } else {
            self.split_whole();
            self.len += bytes.len();
            self.parts.push(Part::Shared(bytes));
        }
    }

    /// Appends `bytes` that other sends carry too: by reference, whatever their size, where they are the first piece. If they stay the
    /// only one, the kernel reads all sends from the same cache lines.
    pub fn share_hot(&mut self, bytes: Bytes) {
        if self.is_empty() {
            self.len = bytes.len();
            self.whole = Some(bytes);
        } else {
            self.share(bytes);
        }
    }

    /// More is to follow what was alone so far.
    fn split_whole(&mut self) {
        if let Some(bytes) = self.whole.take() {
            self.parts.push(Part::Shared(bytes));
        }
    }

    /// Bytes gathered.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was gathered.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the bound on parts of one send is reached and the buffer should go out before more is added.
    pub fn is_full(&self) -> bool {
        self.parts.len() >= PARTS_MAX
    }

    /// Takes out what was gathered, where it is one shared piece.
    pub(crate) fn take_whole(&mut self) -> Option<Bytes> {
        let whole = self.whole.take()?;
        self.len = 0;
        Some(whole)
    }

    /// Forgets everything gathered.
    pub fn clear(&mut self) {
        self.len = 0;
        self.sent = 0;
        if self.whole.take().is_some() {
            return;
        }
        self.parts.clear();
        self.iovecs.clear();
        self.staging.clear();
        if self.staging.capacity() > STAGING_KEPT_BYTES {
            self.staging = Vec::new();
        }
    }

    /// Notes that the kernel took `bytes` more. True when that was all.
    pub(crate) fn advance(&mut self, bytes: usize) -> bool {
        self.sent += bytes;
        self.sent >= self.len
    }

    /// Describes what is left to send. The pointers stay valid while the buffer is neither changed nor moved out of its box. (One shared
    /// piece is sent without its buffer.)
    pub(crate) fn prepare(&mut self) -> Prepared {
        self.split_whole();
        let mut skip = self.sent;
        if let [Part::Staged { start, end }] = self.parts[..] {
            let rest = &self.staging[start + skip..end];
            return Prepared::Plain {
                pointer: rest.as_ptr(),
                len: rest.len() as u32,
            };
        }
        self.iovecs.clear();
        for part in &self.parts {
            let bytes: &[u8] = match part {
                Part::Staged { start, end } => &self.staging[*start..*end],
                Part::Shared(bytes) => bytes,
            };
            if skip >= bytes.len() {
                skip -= bytes.len();
                continue;
            }
            let rest = &bytes[skip..];
            skip = 0;
            self.iovecs.push(libc::iovec {
                iov_base: rest.as_ptr().cast_mut().cast(),
                iov_len: rest.len(),
            });
        }
        let message = self.message.get_or_insert_with(|| {
            // SAFETY: msghdr is a plain C structure for which all zeroes (null pointers, zero lengths) is a valid value.
            Box::new(unsafe { std::mem::zeroed::<libc::msghdr>() })
        });
        message.msg_iov = self.iovecs.as_mut_ptr();
        message.msg_iovlen = self.iovecs.len() as _;
        Prepared::Vectored {
            message: &raw const **message,
        }
    }

    #[cfg(test)]
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let parts = self.parts.iter().flat_map(|part| match part {
            Part::Staged { start, end } => self.staging[*start..*end].to_vec(),
            Part::Shared(bytes) => bytes.to_vec(),
        });
        self.whole.iter().flatten().copied().chain(parts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_become_one_part() {
        let mut buffer = SendBuffer::new(8);
        buffer.copy(b"head");
        buffer.share(Bytes::from_static(b"small"));
        assert_eq!(buffer.parts.len(), 1);
        assert!(matches!(buffer.prepare(), Prepared::Plain { len: 9, .. }));
        assert_eq!(buffer.to_vec(), b"headsmall");
    }

    #[test]
    fn large_pieces_go_by_reference_and_keep_their_place() {
        let mut buffer = SendBuffer::new(4);
        buffer.copy(b"a");
        buffer.share(Bytes::from_static(b"larger"));
        buffer.copy(b"b");
        assert_eq!(buffer.parts.len(), 3);
        assert!(matches!(buffer.prepare(), Prepared::Vectored { .. }));
        assert_eq!(buffer.iovecs.len(), 3);
        assert_eq!(buffer.to_vec(), b"alargerb");
    }

    #[test]
    fn a_short_send_goes_on_inside_the_right_part() {
        let mut buffer = SendBuffer::new(4);
        buffer.copy(b"ab");
        buffer.share(Bytes::from_static(b"larger"));
        assert!(!buffer.advance(4));
        buffer.prepare();
        assert_eq!(buffer.iovecs.len(), 1);
        assert_eq!(buffer.iovecs[0].iov_len, 4);
        assert!(buffer.advance(4));
    }

    #[test]
    fn a_hot_piece_goes_by_reference_alone_and_keeps_its_place_otherwise() {
        let hot = Bytes::from_static(b"hot");
        let mut buffer = SendBuffer::new(8);
        buffer.share_hot(hot.clone());
        let whole = buffer.take_whole().expect("one piece");
        assert!(std::ptr::eq(whole.as_ptr(), hot.as_ptr()));
        assert!(buffer.is_empty());
        buffer.share_hot(hot.clone());
        buffer.copy(b"+");
        buffer.share_hot(hot);
        assert_eq!(buffer.take_whole(), None);
        assert_eq!((buffer.len(), &buffer.to_vec()[..]), (7, &b"hot+hot"[..]));
        assert!(matches!(buffer.prepare(), Prepared::Vectored { .. }));
    }

    #[test]
    fn clear_gives_large_staging_back() {
        let mut buffer = SendBuffer::new(4);
        buffer.copy(&vec![0; STAGING_KEPT_BYTES + 1]);
        buffer.clear();
        assert_eq!(buffer.staging.capacity(), 0);
        assert!(buffer.is_empty());
    }
}
