//! The nine bytes before each frame (RFC 9113 section 4.1).

use crate::event::StreamId;
use crate::frame::HEAD_BYTES;

/// A frame's type. Unknown types are kept; they are skipped (RFC 9113 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind(pub u8);

impl Kind {
    /// Body bytes.
    pub const DATA: Self = Self(0x0);
    /// Opens a stream, or ends it with trailers.
    pub const HEADERS: Self = Self(0x1);
    /// Obsolete priority signal.
    pub const PRIORITY: Self = Self(0x2);
    /// Ends a stream at once.
    pub const RST_STREAM: Self = Self(0x3);
    /// Settings, or their acknowledgement.
    pub const SETTINGS: Self = Self(0x4);
    /// Announces a pushed response.
    pub const PUSH_PROMISE: Self = Self(0x5);
    /// Asks for, or is, a sign of life.
    pub const PING: Self = Self(0x6);
    /// Ends the connection.
    pub const GOAWAY: Self = Self(0x7);
    /// Gives credit.
    pub const WINDOW_UPDATE: Self = Self(0x8);
    /// Continues a header block.
    pub const CONTINUATION: Self = Self(0x9);
}

/// Flags of frames.
pub mod flags {
    /// DATA, HEADERS: the message ends with this frame.
    pub const END_STREAM: u8 = 0x1;
    /// SETTINGS, PING: an acknowledgement.
    pub const ACK: u8 = 0x1;
    /// HEADERS, CONTINUATION: the header block ends with this frame.
    pub const END_HEADERS: u8 = 0x4;
    /// DATA, HEADERS: a pad length and padding surround the content.
    pub const PADDED: u8 = 0x8;
    /// HEADERS: five bytes of priority come before the header block.
    pub const PRIORITY: u8 = 0x20;
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    /// Payload bytes, below 2^24.
    pub len: u32,
    /// Type.
    pub kind: Kind,
    /// Flags; those a type does not define are ignored.
    pub flags: u8,
    /// Stream, or 0 for the connection.
    pub stream: StreamId,
}

impl FrameHead {
    /// Reads the nine bytes.
    #[inline]
    pub fn parse(bytes: &[u8; HEAD_BYTES]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *bytes;
        Self {
            len: u32::from_be_bytes([0, l0, l1, l2]),
            kind: Kind(kind),
            flags,
            stream: StreamId::new(u32::from_be_bytes([s0, s1, s2, s3])),
        }
    }

    /// Writes the nine bytes.
    #[inline]
    pub fn to_bytes(self) -> [u8; HEAD_BYTES] {
        debug_assert!(self.len < 1 << 24, "a frame's length has 24 bits");
        let [_, l0, l1, l2] = self.len.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.get().to_be_bytes();
        [l0, l1, l2, self.kind.0, self.flags, s0, s1, s2, s3]
    }

    /// Whether `flag` is set.
    #[inline]
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_nine_bytes_and_its_reserved_bit_is_ignored() {
        let head = FrameHead {
            len: 0x01_02_03,
            kind: Kind::HEADERS,
            flags: flags::END_HEADERS,
            stream: StreamId::new(0x7fff_fffe),
        };
        let mut bytes = head.to_bytes();
        assert_eq!(bytes, [1, 2, 3, 1, 4, 0x7f, 0xff, 0xff, 0xfe]);
        bytes[5] |= 0x80;
        assert_eq!(FrameHead::parse(&bytes), head);
    }
}
