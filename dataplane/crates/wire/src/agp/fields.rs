//! Walks over the fields of one protobuf message in place.
//!
//! Stricter than protobuf asks for where parsers differ, so that what passes here passes everywhere: no groups, tags and lengths
//! of at most five bytes, varints of at most ten bytes and 64 bits.

use super::error::{DecodeError, Rule};
use super::schema::{ENTRY, I32, I64, Kind, LEN, Schema, VARINT};

/// Longest tag or length: 32 bits.
const SHORT_BYTES: usize = 5;

/// Longest number: 64 bits.
const LONG_BYTES: usize = 10;

/// One field. Of the values, the one that the field's kind names is set; the others are empty.
#[derive(Debug, Default)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    pub(crate) varint: u64,
    pub(crate) text: &'a str,
    /// Of `bytes`, of an embedded message, and of a map entry.
    pub(crate) bytes: &'a [u8],
}

/// The fields of a message that are still to be read.
#[derive(Clone)]
pub(crate) struct Fields<'a> {
    schema: &'static Schema,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    #[inline(always)]
    pub(crate) fn new(schema: &'static Schema, message: &'a [u8]) -> Fields<'a> {
        Fields {
            schema,
            rest: message,
        }
    }

    /// The next field, checked by its kind; `None` at the end.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<Option<Field<'a>>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let Some(tag) = self.short_varint() else {
            return Err(self.broken_varint::<SHORT_BYTES>(0));
        };
        let (number, wire_type) = (tag >> 3, (tag & 7) as u8);
        let mut field = Field {
            number,
            ..Field::default()
        };
        match (self.schema.kind(number), wire_type) {
            (Kind::Text, LEN) => {
                let bytes = self.sized(number)?;
                let Ok(text) = std::str::from_utf8(bytes) else {
                    return Err(self.fault(number, Rule::Utf8));
                };
                field.text = text;
            }
            (Kind::Bytes | Kind::Message, LEN) => field.bytes = self.sized(number)?,
            (Kind::Varint, VARINT) => field.varint = self.varint(number)?,
            (Kind::Fixed64, I64) => _ = self.take(8, number)?,
            (Kind::Map, LEN) => {
                let entry = self.sized(number)?;
                map_entry(entry)?;
            }
            (Kind::Unknown, _) => self.skip(number, wire_type)?,
            (kind, found) => {
                return Err(self.fault(
                    number,
                    Rule::WireType {
                        found,
                        expected: kind.wire_type(),
                    },
                ));
            }
        }
        Ok(Some(field))
    }

    /// What is still to be read, to see where a field began or ended.
    #[inline(always)]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// An error on the field `number` of this message; its id is to be found by who knows the message.
    #[cold]
    pub(crate) fn fault(&self, number: u32, rule: Rule) -> DecodeError {
        DecodeError {
            id: 0,
            message: self.schema.name,
            field: self.schema.name_of(number),
            rule,
        }
    }

    /// Out of line: an unknown field is none of the fields that this version's agents send.
    #[inline(never)]
    fn skip(&mut self, number: u32, wire_type: u8) -> Result<(), DecodeError> {
        if number == 0 {
            return Err(self.fault(0, Rule::FieldZero));
        }
        match wire_type {
            VARINT => self.varint(number).map(drop),
            I64 => self.take(8, number).map(drop),
            LEN => self.sized(number).map(drop),
            I32 => self.take(4, number).map(drop),
            found => Err(self.fault(0, Rule::Unsupported { found })),
        }
    }

    #[inline(always)]
    fn sized(&mut self, number: u32) -> Result<&'a [u8], DecodeError> {
        match self.short_varint() {
            Some(length) => self.take(length as usize, number),
            None => Err(self.broken_varint::<SHORT_BYTES>(number)),
        }
    }

    #[inline(always)]
    fn take(&mut self, length: usize, number: u32) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.fault(number, Rule::Truncated));
        };
        self.rest = rest;
        Ok(taken)
    }

    /// A tag or a length: at most five bytes and 32 bits.
    #[inline(always)]
    fn short_varint(&mut self) -> Option<u32> {
        match *self.rest {
            [low, ref rest @ ..] if low < 0x80 => {
                self.rest = rest;
                Some(u32::from(low))
            }
            [low, high, ref rest @ ..] if high < 0x80 => {
                self.rest = rest;
                Some(u32::from(low & 0x7f) | u32::from(high) << 7)
            }
            _ => self.long_varint::<SHORT_BYTES>(0x0f).map(|value| value as u32),
        }
    }

    #[inline(always)]
    fn varint(&mut self, number: u32) -> Result<u64, DecodeError> {
        if let [low, ref rest @ ..] = *self.rest
            && low < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(low));
        }
        match self.long_varint::<LONG_BYTES>(0x01) {
            Some(value) => Ok(value),
            None => Err(self.broken_varint::<LONG_BYTES>(number)),
        }
    }

    /// `None` where the varint does not end within the message or within `MAX` bytes, or where its last possible byte is above
    /// `last_max`, which would be more bits than fit.
    fn long_varint<const MAX: usize>(&mut self, last_max: u8) -> Option<u64> {
        let mut value = 0u64;
        for (at, &byte) in self.rest.iter().take(MAX).enumerate() {
            if at == MAX - 1 && byte > last_max {
                return None;
            }
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Some(value);
            }
        }
        None
    }

    /// Why there was no varint of at most `MAX` bytes.
    #[cold]
    fn broken_varint<const MAX: usize>(&self, number: u32) -> DecodeError {
        let rule = if self.rest.len() < MAX {
            Rule::Truncated
        } else {
            Rule::Varint
        };
        self.fault(number, rule)
    }
}

/// Key and value of an entry of a `map<string, string>`.
#[inline(never)]
pub(crate) fn map_entry(entry: &[u8]) -> Result<(&str, &str), DecodeError> {
    let (mut key, mut value) = ("", "");
    let mut fields = Fields::new(&ENTRY, entry);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => key = field.text,
            2 => value = field.text,
            _ => {}
        }
    }
    Ok((key, value))
}
