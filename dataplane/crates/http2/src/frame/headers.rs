//! HEADERS and CONTINUATION (RFC 9113 sections 6.2 and 6.10).

use bytes::{BufMut, BytesMut};

use crate::error::Violation;
use crate::event::StreamId;
use crate::frame::{FrameHead, HEAD_BYTES, Kind, flags, padding, priority};

/// The content of a HEADERS frame.
#[derive(Debug, PartialEq, Eq)]
pub struct HeadersFrame<'a> {
    /// The header block, or its beginning.
    pub fragment: &'a [u8],
    /// Whether the obsolete priority names the stream itself, which RFC 7540 section 5.3.1 forbids.
    pub depends_on_itself: bool,
}

/// Cuts padding and priority off a HEADERS payload.
///
/// # Errors
/// If the payload is too short for what its flags announce.
pub fn parse<'a>(head: &FrameHead, payload: &'a [u8]) -> Result<HeadersFrame<'a>, Violation> {
    let mut fragment = if head.has(flags::PADDED) {
        padding::strip(payload)?
    } else {
        payload
    };
    let mut depends_on_itself = false;
    if head.has(flags::PRIORITY) {
        let (fields, rest) = fragment
            .split_first_chunk::<{ priority::BYTES }>()
            .ok_or(Violation::FrameLength)?;
        depends_on_itself = priority::dependency(fields) == head.stream;
        fragment = rest;
    }
    Ok(HeadersFrame {
        fragment,
        depends_on_itself,
    })
}

/// Writes HEADERS, and CONTINUATION where the block exceeds `frame_bytes_max`. `encode` appends the block.
pub fn write(
    out: &mut BytesMut,
    stream: StreamId,
    end_stream: bool,
    frame_bytes_max: usize,
    encode: impl FnOnce(&mut BytesMut),
) {
    let start = out.len();
    out.put_bytes(0, HEAD_BYTES);
    encode(out);
    let block_len = out.len() - start - HEAD_BYTES;
    let end_stream = if end_stream { flags::END_STREAM } else { 0 };
    if block_len <= frame_bytes_max {
        let flags = flags::END_HEADERS | end_stream;
        let head = FrameHead {
            len: block_len as u32,
            kind: Kind::HEADERS,
            flags,
            stream,
        };
        out[start..start + HEAD_BYTES].copy_from_slice(&head.to_bytes());
        return;
    }
    let block = out.split_off(start + HEAD_BYTES);
    out.truncate(start);
    let last = block.chunks(frame_bytes_max).count() - 1;
    for (index, fragment) in block.chunks(frame_bytes_max).enumerate() {
        let kind = if index == 0 {
            Kind::HEADERS
        } else {
            Kind::CONTINUATION
        };
        let first_flags = if index == 0 { end_stream } else { 0 };
        let last_flags = if index == last { flags::END_HEADERS } else { 0 };
        let head = FrameHead {
            len: fragment.len() as u32,
            kind,
            flags: first_flags | last_flags,
            stream,
        };
        out.put_slice(&head.to_bytes());
        out.put_slice(fragment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(flags: u8) -> FrameHead {
        FrameHead {
            len: 0,
            kind: Kind::HEADERS,
            flags,
            stream: StreamId::new(3),
        }
    }

    #[test]
    fn padding_and_priority_surround_the_fragment() {
        let payload = [1, 0x80, 0, 0, 3, 16, b'h', b'b', 0];
        let frame = parse(&head(flags::PADDED | flags::PRIORITY), &payload).unwrap();
        assert_eq!(
            frame,
            HeadersFrame {
                fragment: b"hb",
                depends_on_itself: true
            }
        );
        let frame = parse(&head(flags::PRIORITY), &[0, 0, 0, 5, 16]).unwrap();
        assert_eq!(
            frame,
            HeadersFrame {
                fragment: b"",
                depends_on_itself: false
            }
        );
    }

    #[test]
    fn a_short_frame_is_an_error() {
        assert_eq!(
            parse(&head(flags::PRIORITY), &[0, 0, 0, 5]),
            Err(Violation::FrameLength)
        );
        assert_eq!(parse(&head(flags::PADDED), &[9, 0]), Err(Violation::Padding));
    }

    #[test]
    fn a_long_block_continues() {
        let mut out = BytesMut::from(&b"before"[..]);
        write(&mut out, StreamId::new(1), true, 4, |out| {
            out.put_slice(b"0123456789")
        });
        let frames = &out[6..];
        assert_eq!(&frames[..13], b"\0\0\x04\x01\x01\0\0\0\x010123");
        assert_eq!(&frames[13..26], b"\0\0\x04\x09\x00\0\0\0\x014567");
        assert_eq!(&frames[26..], b"\0\0\x02\x09\x04\0\0\0\x0189");
    }
}
