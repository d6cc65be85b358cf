//! SLIMHeader: what routing and authentication need of it.

use bytes::BytesMut;
use ringgate_switch::{ANY, Name};

use super::mac::TAG_BYTES;
use super::schema::{
    self, ENCODED_NAME, FORWARD_TO, HEADER, HEADER_MAC, NAME, NAME_ID, RECV_FROM, STRING_NAME, TTL,
};
use crate::agp::fields::Fields;
use crate::agp::{DecodeError, Rule};

/// A header as it was read.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Header<'m> {
    pub(super) source: Option<SentName<'m>>,
    pub(super) destination: Option<SentName<'m>>,
    pub(super) identity: &'m str,
    pub(super) fanout: u32,
    pub(super) ttl: u32,
    /// Of the in-process leg: none of a client's business.
    pub(super) recv_from: Option<u64>,
    /// See `recv_from`.
    pub(super) forward_to: Option<u64>,
    pub(super) error: Option<bool>,
    pub(super) mac: Option<&'m [u8]>,
    /// Where the fields are that change, in the header.
    pub(super) places: Places,
}

/// Where a header's fields are that change when it is passed on.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Places {
    /// The time to live, where it is there once and a byte long.
    pub(super) ttl: Option<usize>,
    pub(super) mac: MacPlace,
}

/// Where a header's authentication code is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum MacPlace {
    #[default]
    None,
    /// It is there once and has the length of a code.
    At(usize),
    /// It must be taken out or written anew.
    Odd,
}

/// A name as it was read.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct SentName<'m> {
    pub(super) encoded: Option<EncodedName>,
    pub(super) strings: Option<[&'m str; 3]>,
}

/// The part of a name that is routed.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct EncodedName {
    pub(super) components: [u64; 3],
    /// High and low half.
    pub(super) id: Option<[u64; 2]>,
}

impl EncodedName {
    pub(super) fn name(&self) -> Name {
        Name {
            components: self.components,
            instance: self
                .id
                .map_or(ANY, |[high, low]| u128::from(high) << 64 | u128::from(low)),
        }
    }
}

impl<'m> Header<'m> {
    pub(super) fn read(header: &'m [u8]) -> Result<Self, DecodeError> {
        let mut read = Header::default();
        let mut ttls = 0;
        let mut macs = 0;
        let mut fields = Fields::new(&HEADER, header);
        while let Some(field) = fields.next()? {
            // Where the field's value ends, in the header.
            let end = header.len() - fields.rest().len();
            match field.number {
                1 if read.source.is_some() => return Err(fields.fault(1, Rule::Repeated)),
                1 => read.source = Some(SentName::read(field.bytes)?),
                2 if read.destination.is_some() => return Err(fields.fault(2, Rule::Repeated)),
                2 => read.destination = Some(SentName::read(field.bytes)?),
                3 => read.identity = field.text,
                4 => read.fanout = field.varint as u32,
                TTL => {
                    read.ttl = field.varint as u32;
                    ttls += 1;
                    // A value of one byte behind a tag of one byte; not the end of a longer one.
                    let is_short = end >= 2 && header[end - 2] == (TTL << 3) as u8 && field.varint < 0x80;
                    read.places.ttl = (is_short && ttls == 1).then_some(end - 1);
                }
                RECV_FROM => read.recv_from = Some(field.varint),
                FORWARD_TO => read.forward_to = Some(field.varint),
                10 => read.error = Some(field.varint != 0),
                HEADER_MAC => {
                    read.mac = Some(field.bytes);
                    macs += 1;
                    read.places.mac = match field.bytes.len() == TAG_BYTES && macs == 1 {
                        true => MacPlace::At(end - TAG_BYTES),
                        false => MacPlace::Odd,
                    };
                }
                _ => {}
            }
        }
        Ok(read)
    }

    /// Whether it has fields that must not be passed on.
    pub(super) fn is_tainted(&self) -> bool {
        self.recv_from.is_some() || self.forward_to.is_some()
    }

    /// The same, as it goes to the next hop.
    pub(super) fn passed_on(&self) -> Self {
        Self {
            ttl: self.ttl.saturating_sub(1),
            recv_from: None,
            forward_to: None,
            ..*self
        }
    }

    /// Appends the end of its preimage. See [`mac`](super::mac).
    pub(super) fn put_tail(&self, out: &mut BytesMut) {
        put_name(self.source.as_ref(), out);
        put_name(self.destination.as_ref(), out);
        put_text(self.identity, out);
        out.extend_from_slice(&self.fanout.to_le_bytes());
        for number in [self.recv_from, self.forward_to] {
            put_if(number.is_some(), out);
            if let Some(number) = number {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        put_if(self.error.is_some(), out);
        if let Some(error) = self.error {
            put_if(error, out);
        }
        out.extend_from_slice(&self.ttl.to_le_bytes());
    }

    /// Puts another time to live into a tail.
    pub(super) fn set_ttl_of_tail(tail: &mut [u8], ttl: u32) {
        let ttl = ttl.to_le_bytes();
        let at = tail.len() - ttl.len();
        tail[at..].copy_from_slice(&ttl);
    }
}

/// Whether a header's field with this number goes on as it came.
pub(super) fn is_passed_on(number: u32) -> bool {
    !matches!(number, TTL | RECV_FROM | FORWARD_TO | schema::HEADER_MAC)
}

impl<'m> SentName<'m> {
    fn read(bytes: &'m [u8]) -> Result<Self, DecodeError> {
        let mut read = SentName::default();
        let mut fields = Fields::new(&NAME.schema, bytes);
        while let Some(field) = fields.next()? {
            match field.number {
                1 if read.encoded.is_some() => return Err(fields.fault(1, Rule::Repeated)),
                1 => read.encoded = Some(EncodedName::read(field.bytes)?),
                2 if read.strings.is_some() => return Err(fields.fault(2, Rule::Repeated)),
                2 => read.strings = Some(strings(field.bytes)?),
                _ => {}
            }
        }
        Ok(read)
    }
}

impl EncodedName {
    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut read = EncodedName::default();
        let mut fields = Fields::new(&ENCODED_NAME.schema, bytes);
        while let Some(field) = fields.next()? {
            match field.number {
                number @ 1..=3 => read.components[number as usize - 1] = field.varint,
                4 if read.id.is_some() => return Err(fields.fault(4, Rule::Repeated)),
                4 => read.id = Some(id(field.bytes)?),
                _ => {}
            }
        }
        Ok(read)
    }
}

fn id(bytes: &[u8]) -> Result<[u64; 2], DecodeError> {
    let mut id = [0; 2];
    let mut fields = Fields::new(&NAME_ID.schema, bytes);
    while let Some(field) = fields.next()? {
        if let number @ 1..=2 = field.number {
            id[number as usize - 1] = field.varint;
        }
    }
    Ok(id)
}

fn strings(bytes: &[u8]) -> Result<[&str; 3], DecodeError> {
    let mut strings = [""; 3];
    let mut fields = Fields::new(&STRING_NAME.schema, bytes);
    while let Some(field) = fields.next()? {
        if let number @ 1..=3 = field.number {
            strings[number as usize - 1] = field.text;
        }
    }
    Ok(strings)
}

fn put_name(name: Option<&SentName<'_>>, out: &mut BytesMut) {
    put_if(name.is_some(), out);
    let Some(name) = name else { return };
    put_if(name.encoded.is_some(), out);
    if let Some(EncodedName { components, id }) = name.encoded {
        for component in components {
            out.extend_from_slice(&component.to_le_bytes());
        }
        put_if(id.is_some(), out);
        for half in id.iter().flatten() {
            out.extend_from_slice(&half.to_le_bytes());
        }
    }
    put_if(name.strings.is_some(), out);
    for text in name.strings.iter().flatten() {
        put_text(text, out);
    }
}

fn put_if(yes: bool, out: &mut BytesMut) {
    out.extend_from_slice(&[u8::from(yes)]);
}

fn put_text(text: &str, out: &mut BytesMut) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}
