//! The Huffman code of header strings (RFC 7541 section 5.2 and appendix B).
//!
//! The code is canonical: among codes of one length the values follow the symbols, and a longer code continues where the
//! shorter ones ended. So the lengths are all there is to write down; codes and tables are derived at compile time.
//!
//! Decoding looks the next ten bits up in a table, which settles every letter, digit and usual sign. What is longer is
//! found by its length: the first length at which the bits are below the end of that length's codes.

use bytes::BytesMut;

use crate::hpack::DecodeError;

/// Code length of each byte, and of EOS at the end.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const EOS: usize = 256;
const CODE_BITS_MAX: usize = 30;
const LOOKUP_BITS: u32 = 10;

/// Code of each byte, right-aligned.
static CODES: [u32; 257] = codes();
/// What ten bits begin with: the symbol, and its code length above it. 0 where the code is longer.
static LOOKUP: [u16; 1 << LOOKUP_BITS] = lookup();
/// Symbols in order of their codes.
static SYMBOLS: [u16; 257] = symbols();
/// For each length, its first code, left-aligned to 32 bits, and the place in `SYMBOLS` where it begins.
static BY_LENGTH: [(u32, u16); CODE_BITS_MAX + 2] = by_length();

const fn codes() -> [u32; 257] {
    let mut codes = [0; 257];
    let mut code = 0;
    let mut len = 1;
    while len <= CODE_BITS_MAX {
        code <<= 1;
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == len {
                codes[symbol] = code;
                code += 1;
            }
            symbol += 1;
        }
        len += 1;
    }
    assert!(code == 1 << CODE_BITS_MAX, "the lengths make a complete code");
    codes
}

const fn lookup() -> [u16; 1 << LOOKUP_BITS] {
    let codes = codes();
    let mut table = [0; 1 << LOOKUP_BITS];
    let mut symbol = 0;
    while symbol < 256 {
        let len = LENGTHS[symbol] as u32;
        if len <= LOOKUP_BITS {
            let spare = LOOKUP_BITS - len;
            let first = codes[symbol] << spare;
            let mut offset = 0;
            while offset < 1 << spare {
                table[(first + offset) as usize] = (len as u16) << 8 | symbol as u16;
                offset += 1;
            }
        }
        symbol += 1;
    }
    table
}

const fn symbols() -> [u16; 257] {
    let mut symbols = [0; 257];
    let mut count = 0;
    let mut len = 1;
    while len <= CODE_BITS_MAX {
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == len {
                symbols[count] = symbol as u16;
                count += 1;
            }
            symbol += 1;
        }
        len += 1;
    }
    symbols
}

const fn by_length() -> [(u32, u16); CODE_BITS_MAX + 2] {
    let mut table = [(0, 0); CODE_BITS_MAX + 2];
    let mut code: u64 = 0;
    let mut count = 0;
    let mut len = 1;
    while len <= CODE_BITS_MAX {
        code <<= 1;
        table[len] = ((code << (32 - len)) as u32, count);
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == len {
                code += 1;
                count += 1;
            }
            symbol += 1;
        }
        len += 1;
    }
    // Past the last length: all codes are below.
    table[CODE_BITS_MAX + 1] = (u32::MAX, count);
    table
}

/// The symbol that the left-aligned `bits` begin with, and its length.
#[inline]
fn symbol(bits: u32) -> (usize, u32) {
    let entry = LOOKUP[(bits >> (32 - LOOKUP_BITS)) as usize];
    if entry != 0 {
        return (usize::from(entry & 0xff), u32::from(entry >> 8));
    }
    let mut len = LOOKUP_BITS as usize + 1;
    while len < CODE_BITS_MAX && bits >= BY_LENGTH[len + 1].0 {
        len += 1;
    }
    let (first, place) = BY_LENGTH[len];
    let offset = (bits - first) >> (32 - len);
    (
        usize::from(SYMBOLS[usize::from(place) + offset as usize]),
        len as u32,
    )
}

/// Appends the decoded string to `out`.
///
/// # Errors
/// If the string holds EOS, or ends in anything but up to seven one bits.
pub(super) fn decode(mut input: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    out.reserve(input.len() + input.len() / 2);
    // `held` real bits, left-aligned in `bits`; zeros below.
    let mut bits: u64 = 0;
    let mut held: u32 = 0;
    loop {
        while held <= 56
            && let Some((&byte, rest)) = input.split_first()
        {
            bits |= u64::from(byte) << (56 - held);
            held += 8;
            input = rest;
        }
        if held < 8 && is_padding(bits, held) {
            return Ok(());
        }
        let (symbol, len) = symbol((bits >> 32) as u32);
        if len > held || symbol == EOS {
            return Err(DecodeError::Huffman);
        }
        out.push(symbol as u8);
        bits <<= len;
        held -= len;
    }
}

/// Whether the `held` bits that are left, fewer than eight, are the beginning of EOS: all ones.
fn is_padding(bits: u64, held: u32) -> bool {
    held == 0 || bits >> (64 - held) == (1 << held) - 1
}

/// Bytes of the encoded string.
pub(super) fn encoded_len(input: &[u8]) -> usize {
    let bits: usize = input
        .iter()
        .map(|&byte| usize::from(LENGTHS[usize::from(byte)]))
        .sum();
    bits.div_ceil(8)
}

/// Appends the encoded string to `out`.
pub(super) fn encode(input: &[u8], out: &mut BytesMut) {
    let mut bits: u64 = 0;
    let mut held: u32 = 0;
    for &byte in input {
        let len = u32::from(LENGTHS[usize::from(byte)]);
        bits = bits << len | u64::from(CODES[usize::from(byte)]);
        held += len;
        while held >= 8 {
            held -= 8;
            out.extend_from_slice(&[(bits >> held) as u8]);
        }
    }
    if held > 0 {
        let padded = bits << (8 - held) | (0xff >> held);
        out.extend_from_slice(&[padded as u8]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(input: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let mut out = Vec::new();
        decode(input, &mut out).map(|()| out)
    }

    #[test]
    fn codes_are_those_of_the_rfc() {
        assert_eq!(CODES[usize::from(b'0')], 0x0);
        assert_eq!(CODES[usize::from(b'a')], 0x3);
        assert_eq!(CODES[usize::from(b'~')], 0x1ffd);
        assert_eq!(CODES[10], 0x3fff_fffc);
        assert_eq!(CODES[EOS], 0x3fff_ffff);
    }

    #[test]
    fn example_of_rfc_7541_appendix_c_4() {
        let wire = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        assert_eq!(decoded(&wire), Ok(b"www.example.com".to_vec()));
        let mut out = BytesMut::new();
        encode(b"www.example.com", &mut out);
        assert_eq!(&out[..], wire);
    }

    #[test]
    fn every_byte_survives() {
        for byte in 0..=255u8 {
            for len in 1..9 {
                let text = vec![byte; len];
                let mut out = BytesMut::new();
                encode(&text, &mut out);
                assert_eq!(out.len(), encoded_len(&text));
                assert_eq!(decoded(&out), Ok(text));
            }
        }
    }

    #[test]
    fn padding_must_be_the_beginning_of_eos_and_shorter_than_a_byte() {
        assert_eq!(decoded(&[0b0001_1111]), Ok(b"a".to_vec()));
        assert_eq!(decoded(&[0b0001_1000]), Err(DecodeError::Huffman), "zeros");
        assert_eq!(
            decoded(&[0b0001_1111, 0xff]),
            Err(DecodeError::Huffman),
            "a byte too long"
        );
        assert_eq!(decoded(&[0xff]), Err(DecodeError::Huffman), "eight bits");
        assert_eq!(
            decoded(&[0xff, 0xff, 0xff, 0xff]),
            Err(DecodeError::Huffman),
            "EOS"
        );
        assert_eq!(decoded(&[]), Ok(Vec::new()));
    }
}
