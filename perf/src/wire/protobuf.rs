//! As much of the protobuf encoding as a load generator needs, so that it shares no code with the server it measures.

use super::WireError;

/// Appends field `number` of type `uint64`, `uint32`, `bool` or `enum`.
pub(super) fn put_number(number: u32, value: u64, out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3, out);
    put_varint(value, out);
}

/// Appends field `number` of type `string`, `bytes` or a message.
pub(super) fn put_bytes(number: u32, value: &[u8], out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3 | 2, out);
    put_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// One field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A varint.
    Number(u64),
    /// A `fixed32` or `fixed64`.
    Fixed(u64),
    /// Bytes. They may be fewer than the length says where only the head of a message is at hand.
    Bytes(&'a [u8]),
}

/// Reads the fields of a message, or of the head of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// The next field's number and value; `None` at the end.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, WireError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Fixed(u64::from_le_bytes(self.array()?)),
            2 => {
                let len = (self.varint()? as usize).min(self.0.len());
                let (bytes, rest) = self.0.split_at(len);
                self.0 = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed(u64::from(u32::from_le_bytes(self.array()?))),
            _ => return Err(WireError::Malformed("a protobuf wire type that does not exist")),
        };
        Ok(Some(((key >> 3) as u32, value)))
    }

    /// The value of the next field with this number, where it is bytes; `None` where there is none.
    #[inline]
    pub(super) fn find(mut self, wanted: u32) -> Result<Option<&'a [u8]>, WireError> {
        while let Some((number, value)) = self.next()? {
            if number == wanted
                && let Value::Bytes(bytes) = value
            {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for (index, byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.0 = &self.0[index + 1..];
                return Ok(value);
            }
        }
        Err(WireError::Malformed("a protobuf number without an end"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (bytes, rest) = self
            .0
            .split_first_chunk()
            .ok_or(WireError::Malformed("a protobuf field without its value"))?;
        self.0 = rest;
        Ok(*bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        put_number(1, 300, &mut out);
        put_bytes(16, b"text", &mut out);
        assert_eq!(out, b"\x08\xac\x02\x82\x01\x04text");
        let mut fields = Fields(&out);
        assert_eq!(fields.next(), Ok(Some((1, Value::Number(300)))));
        assert_eq!(fields.next(), Ok(Some((16, Value::Bytes(b"text")))));
        assert_eq!(fields.next(), Ok(None));
    }

    #[test]
    fn a_cut_off_head_gives_what_is_there() {
        let mut out = Vec::new();
        put_bytes(2, b"payload", &mut out);
        assert_eq!(Fields(&out[..5]).next(), Ok(Some((2, Value::Bytes(b"pay")))));
        assert!(Fields(&[0x80]).next().is_err());
    }

    #[test]
    fn a_field_is_found_behind_others() {
        let mut out = Vec::new();
        put_number(2, 7, &mut out);
        put_bytes(1, b"one", &mut out);
        put_bytes(2, b"two", &mut out);
        assert_eq!(Fields(&out).find(2), Ok(Some(&b"two"[..])));
        assert_eq!(Fields(&out).find(3), Ok(None));
    }
}
