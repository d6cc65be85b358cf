//! Messages on their way out: a flag, a length, and the bytes (the gRPC protocol, "Length-Prefixed-Message").

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::encoding;

/// Bytes before each message: the compressed flag, then the length as a big-endian `u32`.
pub const PREFIX_BYTES: usize = 5;

/// The prefix of a message of `len` bytes that is not compressed.
#[inline]
pub const fn prefix(len: u32) -> [u8; PREFIX_BYTES] {
    prefix_with_flag(0, len)
}

/// Appends a message that is not compressed.
///
/// # Panics
/// If the message is longer than 4 GiB; limits end far below.
#[inline]
pub fn append(out: &mut BytesMut, message: &[u8]) {
    append_with_flag(out, 0, message);
}

/// A message that is not compressed, with its prefix. For services off the hot path, which hand out one at a time.
///
/// # Panics
/// As [`append`].
pub fn framed(message: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    append(&mut out, message);
    out.freeze()
}

/// Appends a message in gzip. For calls whose response headers announced `grpc-encoding: gzip`.
///
/// # Panics
/// As [`append`].
pub fn append_gzip(out: &mut BytesMut, message: &[u8]) {
    append_with_flag(out, 1, &encoding::compress(message));
}

/// Appends a message of a generated type.
///
/// # Panics
/// As [`append`].
pub fn append_proto(out: &mut BytesMut, message: &impl prost::Message) {
    let len = message.encoded_len();
    out.reserve(PREFIX_BYTES + len);
    out.put_slice(&prefix(checked_len(len)));
    message.encode_raw(out);
}

#[inline]
fn append_with_flag(out: &mut BytesMut, flag: u8, message: &[u8]) {
    out.reserve(PREFIX_BYTES + message.len());
    out.put_slice(&prefix_with_flag(flag, checked_len(message.len())));
    out.put_slice(message);
}

#[inline]
const fn prefix_with_flag(flag: u8, len: u32) -> [u8; PREFIX_BYTES] {
    let [a, b, c, d] = len.to_be_bytes();
    [flag, a, b, c, d]
}

#[inline]
fn checked_len(len: usize) -> u32 {
    u32::try_from(len).expect("a message is shorter than 4 GiB")
}

#[cfg(test)]
mod tests {
    use ringgate_proto::agp::v1::Ack;

    use super::*;

    #[test]
    fn lengths_are_big_endian() {
        assert_eq!(prefix(0x0102_0304), [0, 1, 2, 3, 4]);
        let mut out = BytesMut::new();
        append(&mut out, b"ab");
        append(&mut out, b"");
        assert_eq!(framed(b"ab"), out[..7]);
        append_proto(
            &mut out,
            &Ack {
                id: 1,
                revision: 0,
                receivers: 0,
            },
        );
        assert_eq!(&out[..], b"\0\0\0\0\x02ab\0\0\0\0\0\0\0\0\0\x02\x08\x01");
    }

    #[test]
    fn gzip_is_flagged() {
        let mut out = BytesMut::new();
        append_gzip(&mut out, b"ab");
        assert_eq!(out[0], 1);
        assert_eq!(encoding::decompress(&out[PREFIX_BYTES..], 2).unwrap(), b"ab");
    }
}
