//! Integers with a prefix (RFC 7541 section 5.1).

use bytes::{BufMut, BytesMut};

use crate::hpack::DecodeError;

/// Largest integer taken. Everything that HPACK counts here (indices, lengths, table sizes) is far below.
const INTEGER_MAX: u64 = u32::MAX as u64;

/// Bytes that may follow the prefix; five carry 35 bits. More could only be leading zeros.
const CONTINUATION_BYTES_MAX: usize = 5;

/// Reads an integer whose prefix is the low `prefix_bits` (4 to 7) of the first byte, and advances `input`.
pub(super) fn decode(input: &mut &[u8], prefix_bits: u32) -> Result<u32, DecodeError> {
    let mask = (1u8 << prefix_bits) - 1;
    let (&first, mut rest) = input.split_first().ok_or(DecodeError::Truncated)?;
    let prefix = first & mask;
    if prefix < mask {
        *input = rest;
        return Ok(u32::from(prefix));
    }
    let mut value = u64::from(mask);
    for index in 0..CONTINUATION_BYTES_MAX {
        let (&byte, tail) = rest.split_first().ok_or(DecodeError::Truncated)?;
        rest = tail;
        value += u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *input = rest;
            return u32::try_from(value).map_err(|_| DecodeError::IntegerOverflow);
        }
        if value > INTEGER_MAX {
            break;
        }
    }
    Err(DecodeError::IntegerOverflow)
}

/// Writes an integer; `pattern` are the bits of the first byte above the prefix.
pub(super) fn encode(out: &mut BytesMut, pattern: u8, prefix_bits: u32, value: usize) {
    let mask = (1usize << prefix_bits) - 1;
    if value < mask {
        out.put_u8(pattern | value as u8);
        return;
    }
    out.put_u8(pattern | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.put_u8(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_rfc_7541_appendix_c_1() {
        for (bytes, bits, value) in [
            (&[0x0a][..], 5, 10),
            (&[0x1f, 0x9a, 0x0a], 5, 1337),
            (&[0x2a], 7, 42),
        ] {
            assert_eq!(decode(&mut &bytes[..], bits), Ok(value));
            let mut out = BytesMut::new();
            encode(&mut out, 0, bits, value as usize);
            assert_eq!(&out[..], bytes);
        }
    }

    #[test]
    fn overflow_and_truncation_are_errors() {
        assert_eq!(
            decode(&mut &[0x1f, 0xff, 0xff, 0xff, 0xff, 0x0f][..], 5),
            Err(DecodeError::IntegerOverflow)
        );
        assert_eq!(
            decode(&mut &[0x1f, 0x80, 0x80, 0x80, 0x80, 0x80, 0][..], 5),
            Err(DecodeError::IntegerOverflow)
        );
        assert_eq!(
            decode(&mut &[0x1f, 0xe0, 0xff, 0xff, 0xff, 0x0f][..], 5),
            Ok(u32::MAX)
        );
        assert_eq!(decode(&mut &[0x1f, 0x80][..], 5), Err(DecodeError::Truncated));
        assert_eq!(decode(&mut &[][..], 5), Err(DecodeError::Truncated));
    }
}
