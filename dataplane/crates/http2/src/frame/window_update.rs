//! WINDOW_UPDATE (RFC 9113 section 6.9).

use bytes::{BufMut, BytesMut};

use crate::event::StreamId;
use crate::frame::{FrameHead, Kind};

/// Payload bytes of WINDOW_UPDATE.
pub const BYTES: usize = 4;

/// Reads the increment in bytes; its reserved highest bit is ignored.
pub fn parse(payload: [u8; BYTES]) -> u32 {
    u32::from_be_bytes(payload) & !(1 << 31)
}

/// Writes a WINDOW_UPDATE by `increment` bytes, 1 to 2^31-1.
pub fn write(out: &mut BytesMut, stream: StreamId, increment: u32) {
    debug_assert!(
        (1..1 << 31).contains(&increment),
        "an increment of {increment} is not allowed"
    );
    let head = FrameHead {
        len: BYTES as u32,
        kind: Kind::WINDOW_UPDATE,
        flags: 0,
        stream,
    };
    out.put_slice(&head.to_bytes());
    out.put_u32(increment);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_increment_comes_back_without_the_reserved_bit() {
        let mut out = BytesMut::new();
        write(&mut out, StreamId::CONNECTION, 0x102);
        assert_eq!(&out[..], b"\0\0\x04\x08\0\0\0\0\0\0\0\x01\x02");
        assert_eq!(parse([0x80, 0, 1, 2]), 0x102);
    }
}
