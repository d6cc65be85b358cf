//! Encoding header blocks (RFC 7541 section 6), without a dynamic table.

use bytes::{BufMut, BytesMut};

use crate::headers::Header;
use crate::hpack::static_table::Match;
use crate::hpack::{huffman, integer, static_table};

/// Fields that no intermediary may put in a table (RFC 7541 section 7.1.3): guessing them pays.
const SENSITIVE: [&[u8]; 4] = [b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"];

/// Encoder of header blocks.
#[derive(Debug)]
pub struct Encoder {
    huffman: bool,
    /// The peer lowered its table below the size an encoder begins with: the next block must say so. It is told 0,
    /// once and for all, since no table is used.
    must_announce: bool,
    announced: bool,
}

impl Encoder {
    /// An encoder that codes strings with Huffman where that is shorter, if `huffman`.
    pub const fn new(huffman: bool) -> Self {
        Self {
            huffman,
            must_announce: false,
            announced: false,
        }
    }

    /// The peer's decoder keeps a table of `bytes` (SETTINGS_HEADER_TABLE_SIZE).
    pub fn set_table_bound(&mut self, bytes: u32) {
        if bytes < crate::frame::settings::HEADER_TABLE_DEFAULT && !self.announced {
            self.must_announce = true;
        }
    }

    /// Appends the block of `headers`.
    pub fn encode(&mut self, headers: &[Header<'_>], out: &mut BytesMut) {
        if self.must_announce {
            self.must_announce = false;
            self.announced = true;
            integer::encode(out, 0x20, 5, 0);
        }
        for header in headers {
            self.field(header, out);
        }
    }

    fn field(&self, header: &Header<'_>, out: &mut BytesMut) {
        debug_assert!(!header.name.is_empty(), "a header has a name");
        debug_assert!(
            !header.name.iter().any(u8::is_ascii_uppercase),
            "header names are lower case: {header:?}"
        );
        let literal = if SENSITIVE.contains(&header.name) {
            0x10
        } else {
            0x00
        };
        match static_table::find(header.name, header.value) {
            Match::Field(index) => return integer::encode(out, 0x80, 7, index),
            Match::Name(index) => integer::encode(out, literal, 4, index),
            Match::None => {
                out.put_u8(literal);
                self.string(header.name, out);
            }
        }
        self.string(header.value, out);
    }

    fn string(&self, string: &[u8], out: &mut BytesMut) {
        if self.huffman {
            let len = huffman::encoded_len(string);
            if len < string.len() {
                integer::encode(out, 0x80, 7, len);
                return huffman::encode(string, out);
            }
        }
        integer::encode(out, 0x00, 7, string.len());
        out.put_slice(string);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_static_table_take_a_byte() {
        let mut out = BytesMut::new();
        let headers = [Header::new(b":status", b"200"), Header::new(b":method", b"POST")];
        Encoder::new(true).encode(&headers, &mut out);
        assert_eq!(&out[..], b"\x88\x83");
    }

    #[test]
    fn other_fields_are_literals_without_indexing() {
        let mut out = BytesMut::new();
        Encoder::new(false).encode(
            &[Header::new(b"content-type", b"a/b"), Header::new(b"x", b"")],
            &mut out,
        );
        assert_eq!(&out[..], b"\x0f\x10\x03a/b\x00\x01x\x00");
    }

    #[test]
    fn credentials_are_never_indexed() {
        let mut out = BytesMut::new();
        Encoder::new(false).encode(&[Header::new(b"authorization", b"k")], &mut out);
        assert_eq!(&out[..], b"\x1f\x08\x01k");
    }

    #[test]
    fn a_lowered_table_is_announced_once() {
        let mut encoder = Encoder::new(true);
        encoder.set_table_bound(8192);
        let get = [Header::new(b":method", b"GET")];
        let mut out = BytesMut::new();
        encoder.encode(&get, &mut out);
        encoder.set_table_bound(0);
        encoder.encode(&get, &mut out);
        encoder.set_table_bound(100);
        encoder.encode(&get, &mut out);
        assert_eq!(&out[..], b"\x82\x20\x82\x82");
    }
}
