//! What the dialects with routing headers have in common: a message holds one body, the body holds a header, and all around the header
//! stays as the sender wrote it.
//!
//! ```text
//!   message   before_body │ body                                        │ after_body
//!                         │ before_header │ header      │ after_header  │
//! ```

use bytes::{BufMut, BytesMut};

use crate::agp::DecodeError;
use crate::agp::Rule;
use crate::agp::fields::Fields;
use crate::agp::schema::{LEN, Schema};

/// Largest message that a gRPC client takes unless told otherwise, without its prefix: 4 MiB. One that gets a larger one breaks its stream.
pub(crate) const GRPC_MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Bytes of a gRPC message's prefix: a flag and the length.
pub(crate) const PREFIX_BYTES: usize = 5;

/// A message's schema with those of the messages in it.
pub(crate) struct Shape {
    pub(crate) schema: Schema,
    /// By field number.
    pub(crate) inner: &'static [(u32, &'static Shape)],
}

impl Shape {
    pub(crate) fn inner(&self, number: u32) -> Option<&'static Shape> {
        let found = self.inner.iter().find(|(known, _)| *known == number)?;
        Some(found.1)
    }

    /// Checks that every parser of this message can read `message`, down to the innermost field: one that could not would break the
    /// receiver's stream.
    pub(crate) fn check(&'static self, message: &[u8]) -> Result<(), DecodeError> {
        let mut fields = Fields::new(&self.schema, message);
        while let Some(field) = fields.next()? {
            if let Some(inner) = self.inner(field.number) {
                inner.check(field.bytes)?;
            }
        }
        Ok(())
    }
}

/// A message taken apart.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Envelope<'m> {
    pub(crate) before_body: &'m [u8],
    /// Number of the body's field.
    pub(crate) kind: u32,
    pub(crate) body: &'m [u8],
    pub(crate) after_body: &'m [u8],
    pub(crate) before_header: &'m [u8],
    /// `None` where the body has none.
    pub(crate) header: Option<&'m [u8]>,
    pub(crate) after_header: &'m [u8],
}

/// Number of the header's field in every body.
const HEADER: u32 = 1;

impl<'m> Envelope<'m> {
    /// Finds the body of a message: its only field of a kind that `kinds` has. Several are refused: parsers differ in what they make of them.
    pub(crate) fn open(schema: &'static Schema, kinds: u32, message: &'m [u8]) -> Result<Self, DecodeError> {
        let mut envelope = Envelope::default();
        let mut fields = Fields::new(schema, message);
        loop {
            let before = fields.rest().len();
            let Some(field) = fields.next()? else { break };
            if kinds & 1u32.checked_shl(field.number).unwrap_or(0) == 0 {
                continue;
            }
            if envelope.kind != 0 {
                return Err(fields.fault(0, Rule::SeveralBodies));
            }
            envelope.kind = field.number;
            envelope.before_body = &message[..message.len() - before];
            envelope.body = field.bytes;
            envelope.after_body = fields.rest();
        }
        match envelope.kind {
            0 => Err(fields.fault(0, Rule::NoBody)),
            _ => Ok(envelope),
        }
    }

    /// Finds the header in the body, and checks the rest of the body. Returns the numbers of the known fields, as bits.
    pub(crate) fn open_body(&mut self, shape: &'static Shape) -> Result<u32, DecodeError> {
        let mut seen = 0;
        let mut fields = Fields::new(&shape.schema, self.body);
        loop {
            let before = fields.rest().len();
            let Some(field) = fields.next()? else {
                return Ok(seen);
            };
            seen |= 1u32.checked_shl(field.number).unwrap_or(0);
            if field.number == HEADER {
                if self.header.is_some() {
                    return Err(fields.fault(HEADER, Rule::Repeated));
                }
                self.before_header = &self.body[..self.body.len() - before];
                self.header = Some(field.bytes);
                self.after_header = fields.rest();
            } else if let Some(inner) = shape.inner(field.number) {
                inner.check(field.bytes)?;
            }
        }
    }

    /// Length of the message with a header of another length.
    pub(crate) fn len_with(&self, header_len: usize) -> usize {
        let body = self.body_len_with(header_len);
        self.before_body.len() + 1 + varint_len(body as u64) + body + self.after_body.len()
    }

    fn body_len_with(&self, header_len: usize) -> usize {
        self.before_header.len() + 1 + varint_len(header_len as u64) + header_len + self.after_header.len()
    }

    /// Length of everything behind the header.
    pub(crate) fn tail_len(&self) -> usize {
        self.after_header.len() + self.after_body.len()
    }

    /// Appends everything before the header's contents, for a header of the length `header_len`.
    pub(crate) fn put_head(&self, header_len: usize, out: &mut BytesMut) {
        out.extend_from_slice(self.before_body);
        put_sized(self.kind, self.body_len_with(header_len), out);
        out.extend_from_slice(self.before_header);
        put_sized(HEADER, header_len, out);
    }

    /// Appends everything behind the header.
    pub(crate) fn put_tail(&self, out: &mut BytesMut) {
        out.extend_from_slice(self.after_header);
        out.extend_from_slice(self.after_body);
    }
}

/// The fields of a message that has been checked, each with its number and its bytes, tag included.
pub(crate) fn raw_fields<'m>(
    schema: &'static Schema,
    message: &'m [u8],
) -> impl Iterator<Item = (u32, &'m [u8])> + Clone {
    let mut fields = Fields::new(schema, message);
    std::iter::from_fn(move || {
        let before = fields.rest();
        let field = fields.next().ok()??;
        Some((field.number, &before[..before.len() - fields.rest().len()]))
    })
}

/// Appends a gRPC message's prefix.
pub(crate) fn put_prefix(message_len: usize, out: &mut BytesMut) {
    out.put_u8(0);
    out.put_u32(message_len as u32);
}

/// Length of the gRPC message that `frames` begins with, prefix included.
pub(crate) fn frame_len(frames: &[u8]) -> usize {
    match *frames {
        [_, a, b, c, d, ..] => PREFIX_BYTES + u32::from_be_bytes([a, b, c, d]) as usize,
        _ => frames.len(),
    }
}

/// Appends tag and length of a field with a number below 16.
pub(crate) fn put_sized(number: u32, len: usize, out: &mut BytesMut) {
    debug_assert!(number < 16, "its tag takes two bytes");
    out.put_u8((number << 3) as u8 | LEN);
    put_varint(len as u64, out);
}

/// Appends a varint.
pub(crate) fn put_varint(mut value: u64, out: &mut BytesMut) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Length of a varint.
pub(crate) fn varint_len(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}
