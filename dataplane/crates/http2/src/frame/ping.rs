//! PING (RFC 9113 section 6.7).

use bytes::{BufMut, BytesMut};

use crate::event::StreamId;
use crate::frame::{FrameHead, Kind, flags};

/// Payload bytes of PING.
pub const BYTES: usize = 8;

/// Writes a PING, or its acknowledgement.
pub fn write(out: &mut BytesMut, payload: [u8; BYTES], ack: bool) {
    let flags = if ack { flags::ACK } else { 0 };
    let head = FrameHead {
        len: BYTES as u32,
        kind: Kind::PING,
        flags,
        stream: StreamId::CONNECTION,
    };
    out.put_slice(&head.to_bytes());
    out.put_slice(&payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_carries_the_payload_back() {
        let mut out = BytesMut::new();
        write(&mut out, *b"payload!", true);
        assert_eq!(&out[..], b"\0\0\x08\x06\x01\0\0\0\0payload!");
    }
}
