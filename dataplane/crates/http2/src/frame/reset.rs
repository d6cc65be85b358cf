//! RST_STREAM (RFC 9113 section 6.4).

use bytes::{BufMut, BytesMut};

use crate::error::ErrorCode;
use crate::event::StreamId;
use crate::frame::{FrameHead, Kind};

/// Payload bytes of RST_STREAM.
pub const BYTES: usize = 4;

/// Reads the error code.
pub fn parse(payload: [u8; BYTES]) -> ErrorCode {
    ErrorCode::new(u32::from_be_bytes(payload))
}

/// Writes a RST_STREAM.
pub fn write(out: &mut BytesMut, stream: StreamId, code: ErrorCode) {
    let head = FrameHead {
        len: BYTES as u32,
        kind: Kind::RST_STREAM,
        flags: 0,
        stream,
    };
    out.put_slice(&head.to_bytes());
    out.put_u32(code.get());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_carries_its_code() {
        let mut out = BytesMut::new();
        write(&mut out, StreamId::new(5), ErrorCode::CANCEL);
        assert_eq!(&out[..], b"\0\0\x04\x03\0\0\0\0\x05\0\0\0\x08");
        assert_eq!(parse([0, 0, 0, 8]), ErrorCode::CANCEL);
    }
}
