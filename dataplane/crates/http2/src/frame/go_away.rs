//! GOAWAY (RFC 9113 section 6.8).

use bytes::{BufMut, BytesMut};

use crate::error::ErrorCode;
use crate::event::StreamId;
use crate::frame::{FrameHead, Kind};

/// Payload bytes of GOAWAY before its debug data.
pub const BYTES: usize = 8;

/// Longest debug data written, so that a GOAWAY fits in any peer's frame size with room.
pub const DEBUG_BYTES_MAX: usize = 1024;

/// Reads the last stream and the error code.
pub fn parse(payload: [u8; BYTES]) -> (StreamId, ErrorCode) {
    let [s0, s1, s2, s3, c0, c1, c2, c3] = payload;
    (
        StreamId::new(u32::from_be_bytes([s0, s1, s2, s3])),
        ErrorCode::new(u32::from_be_bytes([c0, c1, c2, c3])),
    )
}

/// Writes a GOAWAY; `debug` is cut at [`DEBUG_BYTES_MAX`].
pub fn write(out: &mut BytesMut, last_stream: StreamId, code: ErrorCode, debug: &[u8]) {
    let debug = &debug[..debug.len().min(DEBUG_BYTES_MAX)];
    let len = (BYTES + debug.len()) as u32;
    let head = FrameHead {
        len,
        kind: Kind::GOAWAY,
        flags: 0,
        stream: StreamId::CONNECTION,
    };
    out.put_slice(&head.to_bytes());
    out.put_u32(last_stream.get());
    out.put_u32(code.get());
    out.put_slice(debug);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goaway_names_the_last_stream_and_why() {
        let mut out = BytesMut::new();
        write(&mut out, StreamId::new(7), ErrorCode::ENHANCE_YOUR_CALM, b"calm");
        assert_eq!(&out[..], b"\0\0\x0c\x07\0\0\0\0\0\0\0\0\x07\0\0\0\x0bcalm");
        assert_eq!(
            parse([0, 0, 0, 7, 0, 0, 0, 11]),
            (StreamId::new(7), ErrorCode::ENHANCE_YOUR_CALM)
        );
    }

    #[test]
    fn debug_data_is_bounded() {
        let mut out = BytesMut::new();
        write(&mut out, StreamId::new(0), ErrorCode::NO_ERROR, &[b'x'; 5000]);
        assert_eq!(out.len(), 9 + BYTES + DEBUG_BYTES_MAX);
    }
}
