//! Decoding header blocks (RFC 7541 sections 3 and 6).

use std::borrow::Cow;

use crate::headers::Header;
use crate::hpack::table::Table;
use crate::hpack::{huffman, integer, static_table};

/// Why a header block cannot be decoded. The compression state is lost: the connection must end with COMPRESSION_ERROR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The block ends within a field.
    #[error("header block ends within a field")]
    Truncated,
    /// An integer is too large (RFC 7541 section 5.1).
    #[error("integer too large")]
    IntegerOverflow,
    /// An index is 0 or beyond both tables (RFC 7541 section 2.3.3).
    #[error("index in neither table")]
    Index,
    /// A Huffman string holds EOS or is padded wrongly (RFC 7541 section 5.2).
    #[error("invalid Huffman string")]
    Huffman,
    /// A size update above the bound or after a field (RFC 7541 sections 4.2 and 6.3).
    #[error("table size update above the bound or in the wrong place")]
    SizeUpdate,
    /// No size update after the bound was lowered (RFC 7541 section 4.2).
    #[error("no table size update after the bound was lowered")]
    SizeUpdateMissing,
}

/// Decoder with its dynamic table.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// The bound that the peer's encoder must keep.
    size_bound: usize,
    /// The bound was lowered below the table's size: the next block must begin with a size update.
    must_shrink: bool,
}

impl Decoder {
    /// A decoder whose table may grow to `size_bound` bytes; it begins with no more than the 4096 that RFC 7541 implies.
    pub fn new(size_bound: usize) -> Self {
        Self {
            table: Table::new(size_bound.min(4096)),
            size_bound,
            must_shrink: false,
        }
    }

    /// Changes the bound, when the peer has acknowledged it.
    pub fn set_size_bound(&mut self, size_bound: usize) {
        self.size_bound = size_bound;
        self.must_shrink = self.table.size_max() > size_bound;
    }

    /// Decodes a complete block and gives each field to `field`.
    ///
    /// # Errors
    /// If the block breaks RFC 7541. Fields given until then must be thrown away.
    pub fn decode(&mut self, mut block: &[u8], mut field: impl FnMut(Header<'_>)) -> Result<(), DecodeError> {
        let mut size_update_allowed = true;
        while let Some(&first) = block.first() {
            if first & 0xe0 == 0x20 {
                if !size_update_allowed {
                    return Err(DecodeError::SizeUpdate);
                }
                self.update_size(&mut block)?;
                continue;
            }
            if self.must_shrink {
                return Err(DecodeError::SizeUpdateMissing);
            }
            size_update_allowed = false;
            match first {
                0x80.. => field(self.indexed(&mut block)?),
                0x40.. => self.literal_indexed(&mut block, &mut field)?,
                _ => {
                    let (name, value) = self.literal(&mut block, 4)?;
                    field(Header {
                        name: &name,
                        value: &value,
                    });
                }
            }
        }
        Ok(())
    }

    fn update_size(&mut self, block: &mut &[u8]) -> Result<(), DecodeError> {
        let size = integer::decode(block, 5)? as usize;
        if size > self.size_bound {
            return Err(DecodeError::SizeUpdate);
        }
        self.table.resize(size);
        self.must_shrink = false;
        Ok(())
    }

    fn indexed(&self, block: &mut &[u8]) -> Result<Header<'_>, DecodeError> {
        let index = integer::decode(block, 7)?;
        self.entry(index as usize)
    }

    fn literal_indexed(
        &mut self,
        block: &mut &[u8],
        field: &mut impl FnMut(Header<'_>),
    ) -> Result<(), DecodeError> {
        let (name, value) = self.literal(block, 6)?;
        field(Header {
            name: &name,
            value: &value,
        });
        self.table.insert(&name, &value);
        Ok(())
    }

    fn literal<'a>(&self, block: &mut &'a [u8], prefix_bits: u32) -> Result<Literal<'a>, DecodeError> {
        let name = match integer::decode(block, prefix_bits)? {
            0 => string(block)?,
            index => self.name(index as usize)?,
        };
        Ok((name, string(block)?))
    }

    fn entry(&self, index: usize) -> Result<Header<'_>, DecodeError> {
        let place = index.checked_sub(1).ok_or(DecodeError::Index)?;
        match static_table::ENTRIES.get(place) {
            Some(&(name, value)) => Ok(Header { name, value }),
            None => self
                .table
                .get(place - static_table::ENTRIES.len())
                .ok_or(DecodeError::Index),
        }
    }

    /// The name of an entry; copied from the dynamic table, because inserting the field may evict it.
    fn name(&self, index: usize) -> Result<Cow<'static, [u8]>, DecodeError> {
        match static_table::ENTRIES.get(index.wrapping_sub(1)) {
            Some(&(name, _)) => Ok(Cow::Borrowed(name)),
            None => self.entry(index).map(|header| Cow::Owned(header.name.to_vec())),
        }
    }
}

/// Name and value of a literal field.
type Literal<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// Reads a string literal (RFC 7541 section 5.2).
fn string<'a>(block: &mut &'a [u8]) -> Result<Cow<'a, [u8]>, DecodeError> {
    let is_huffman = block.first().ok_or(DecodeError::Truncated)? & 0x80 != 0;
    let len = integer::decode(block, 7)? as usize;
    let (bytes, rest) = block.split_at_checked(len).ok_or(DecodeError::Truncated)?;
    *block = rest;
    if !is_huffman {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut decoded = Vec::new();
    huffman::decode(bytes, &mut decoded)?;
    Ok(Cow::Owned(decoded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::HeaderList;

    fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<HeaderList, DecodeError> {
        let mut list = HeaderList::new();
        decoder.decode(block, |header| list.push(header.name, header.value))?;
        Ok(list)
    }

    fn list(fields: &[(&str, &str)]) -> HeaderList {
        fields
            .iter()
            .map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes()))
            .collect()
    }

    #[test]
    fn requests_of_rfc_7541_appendix_c_3_and_c_4() {
        let plain: [&[u8]; 3] = [
            b"\x82\x86\x84\x41\x0fwww.example.com",
            b"\x82\x86\x84\xbe\x58\x08no-cache",
            b"\x82\x87\x85\xbf\x40\x0acustom-key\x0ccustom-value",
        ];
        let huffman: [&[u8]; 3] = [
            b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
            b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf",
            b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
        ];
        let get = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "www.example.com"),
        ];
        let second = [&get[..], &[("cache-control", "no-cache")]].concat();
        let third = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            (":authority", "www.example.com"),
            ("custom-key", "custom-value"),
        ];
        for blocks in [plain, huffman] {
            let mut decoder = Decoder::new(4096);
            assert_eq!(decode(&mut decoder, blocks[0]), Ok(list(&get)));
            assert_eq!(decode(&mut decoder, blocks[1]), Ok(list(&second)));
            assert_eq!(decode(&mut decoder, blocks[2]), Ok(list(&third)));
        }
    }

    #[test]
    fn an_index_in_neither_table_is_an_error() {
        let mut decoder = Decoder::new(4096);
        assert_eq!(decode(&mut decoder, b"\x80"), Err(DecodeError::Index));
        assert_eq!(decode(&mut decoder, b"\xbe"), Err(DecodeError::Index));
        assert_eq!(decode(&mut decoder, b"\x7e\x01v"), Err(DecodeError::Index));
        assert_eq!(
            decode(&mut decoder, b"\xff\xff\xff\xff\xff\x0f"),
            Err(DecodeError::IntegerOverflow)
        );
    }

    #[test]
    fn a_block_cut_anywhere_is_an_error() {
        let block = b"\x40\x0acustom-key\x0ccustom-value";
        for end in 1..block.len() {
            assert_eq!(
                decode(&mut Decoder::new(4096), &block[..end]),
                Err(DecodeError::Truncated),
                "cut at {end}"
            );
        }
    }

    #[test]
    fn size_updates_come_first_and_stay_below_the_bound() {
        let mut decoder = Decoder::new(4096);
        assert_eq!(
            decode(&mut decoder, b"\x20\x3f\xe1\x1f\x82"),
            Ok(list(&[(":method", "GET")]))
        );
        assert_eq!(decode(&mut decoder, b"\x82\x20"), Err(DecodeError::SizeUpdate));
        assert_eq!(
            decode(&mut decoder, b"\x3f\xe2\x1f"),
            Err(DecodeError::SizeUpdate)
        );
    }

    #[test]
    fn a_lowered_bound_must_be_taken_up_by_the_next_block() {
        let mut decoder = Decoder::new(4096);
        decoder.set_size_bound(100);
        assert_eq!(decode(&mut decoder, b"\x82"), Err(DecodeError::SizeUpdateMissing));
        let mut decoder = Decoder::new(4096);
        decoder.set_size_bound(100);
        assert_eq!(decode(&mut decoder, b"\x20\x82"), Ok(list(&[(":method", "GET")])));
        assert_eq!(decode(&mut decoder, b"\x82"), Ok(list(&[(":method", "GET")])));
    }

    #[test]
    fn a_name_survives_the_eviction_of_its_entry() {
        let mut decoder = Decoder::new(4096);
        // A table of 40 bytes holds one entry of 8 bytes and 32: the second insertion evicts the first, whose name it uses.
        decode(&mut decoder, b"\x3f\x09\x40\x04name\x04val1").unwrap();
        assert_eq!(
            decode(&mut decoder, b"\x7e\x04val2\xbe"),
            Ok(list(&[("name", "val2"), ("name", "val2")]))
        );
    }
}
