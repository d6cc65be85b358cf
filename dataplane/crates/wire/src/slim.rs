//! The dialect of SLIM v3, `dataplane.proto.v1` (slim-bindings 3; `../shared/wire/slim-wire.md`).
//!
//! A link begins with a negotiation; Subscribes are acknowledged; each header carries a time to live and, where the link has a key, a code
//! that authenticates it to the next hop. All but these two fields, and two of the in-process leg that are taken out, goes on as it came.

pub mod client;
mod header;
mod link;
mod mac;
mod record;
mod schema;

use std::fmt;

use bytes::{Bytes, BytesMut};
use ringgate_switch::{Dialect, Fanout, Form, Ignored, Publish, Rendered, Said};

use self::header::{EncodedName, Header, MacPlace};
use self::link::State;
use self::mac::TAG_BYTES;
use self::record::{Batch, Record};
use crate::agp::fields::Fields;
use crate::agp::{DecodeError, Rule};
use crate::envelope::{
    Envelope, GRPC_MESSAGE_BYTES_MAX, PREFIX_BYTES, frame_len, put_prefix, put_sized, put_varint, raw_fields,
    varint_len,
};
use crate::{Arena, ArenaConfig, mls};

pub use self::link::{LinkError, LinkKind};

/// Full name of the gRPC service.
pub const SERVICE: &str = "dataplane.proto.v1.DataPlaneService";
/// Its only method.
pub const METHOD: &str = "OpenChannel";

/// How the node takes part. All cores of a node get the same.
#[derive(Debug, Clone, Default)]
pub struct SlimConfig {
    /// Whether headers are authenticated.
    pub header_mac: HeaderMac,
    /// Whether a link's key must be post-quantum hybrid (X25519 and ML-KEM-768). A client that offers it gets it in any case.
    pub enforce_pqc: bool,
    /// Whether a payload of an application that is not an MLS PrivateMessage is dropped.
    pub mls_only: bool,
    /// Whether links of other nodes (connection types REMOTE and PEER) are taken. They are treated as clients are: no tables are exchanged.
    pub privileged_links: bool,
    /// The node's name to its peers; empty: none.
    pub node_id: String,
    /// Sizes of the memory that messages are written to.
    pub arena: ArenaConfig,
}

/// Whether headers are authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeaderMac {
    /// A link without a key is refused, and so is any message without a code.
    Required,
    /// A client that offers a key gets one; then its publishes must carry a code, and its Subscribes may.
    #[default]
    Offered,
    /// No link has a key. Clients with default settings refuse that.
    Off,
}

/// What is remembered of a connection.
#[derive(Debug, Default)]
pub struct Link(State);

/// The dialect. See the module.
pub struct Slim {
    config: SlimConfig,
    secret: Box<dyn FnMut() -> [u8; 32]>,
    runs: Arena,
    /// What single connections get.
    copies: Arena,
    /// End of the preimage of the header that was read last; of a Publish, as it goes on.
    tail: BytesMut,
}

impl fmt::Debug for Slim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slim")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Slim {
    /// `secret` gives random bytes that nobody else knows, from a cryptographic source: they are the node's ephemeral keys.
    pub fn new(config: SlimConfig, secret: Box<dyn FnMut() -> [u8; 32]>) -> Self {
        Self {
            runs: Arena::new(config.arena),
            copies: Arena::new(config.arena),
            tail: BytesMut::new(),
            secret,
            config,
        }
    }

    /// Whether any link may have a key, so that runs are made of records.
    fn has_keys(&self) -> bool {
        self.config.header_mac != HeaderMac::Off
    }
}

/// A message to pass on.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'m> {
    /// As it came.
    message: &'m [u8],
    envelope: Envelope<'m>,
    /// As it goes on.
    ttl: u32,
    /// Offset of the time to live in the message, where nothing else must be written anew but the code.
    ttl_at: Option<usize>,
    /// Offset of the code in the message.
    mac: MacPlace,
}

impl Dialect for Slim {
    type Link = Link;
    type Letter<'m> = Letter<'m>;
    const GREETS: bool = true;

    fn open(&mut self) -> Link {
        Link::default()
    }

    #[inline]
    fn read<'m>(&mut self, link: &mut Link, message: &'m [u8]) -> Said<Letter<'m>> {
        if let State::Silent = link.0 {
            return match link::negotiate(&self.config, &mut *self.secret, message) {
                Ok(agreed) => {
                    link.0 = agreed.state;
                    Said::Greeted {
                        reply: agreed.reply,
                        client: agreed.client,
                    }
                }
                Err(error) => Said::End(error.end()),
            };
        }
        if message.len() > GRPC_MESSAGE_BYTES_MAX {
            return Said::Ignored(Ignored::Oversize);
        }
        self.said(link, message)
            .unwrap_or(Said::Ignored(Ignored::Malformed))
    }

    fn form(link: &Link) -> Form {
        match link.0 {
            State::Silent | State::Plain => Form::Shared,
            State::Keyed(_) => Form::Own,
        }
    }

    fn acknowledge(&mut self, subscription: u64, result: Result<(), &'static str>, out: &mut BytesMut) {
        let number_len = 1 + varint_len(subscription);
        let error_len = |error: &str| 1 + varint_len(error.len() as u64) + error.len();
        let ack_len = number_len + result.map_or_else(error_len, |()| 2);
        put_prefix(1 + varint_len(ack_len as u64) + ack_len, out);
        put_sized(schema::ACK_KIND, ack_len, out);
        put_varint(1 << 3, out);
        put_varint(subscription, out);
        match result {
            Ok(()) => {
                put_varint(2 << 3, out);
                put_varint(1, out);
            }
            Err(error) => {
                put_sized(3, error.len(), out);
                out.extend_from_slice(error.as_bytes());
            }
        }
    }

    #[inline]
    fn append(&mut self, letter: &Letter<'_>) {
        if !self.has_keys() {
            letter.put_plain(&mut self.runs);
            return;
        }
        letter.put_record(&self.tail, &mut self.runs);
    }

    fn pending(&self) -> usize {
        self.runs.pending()
    }

    fn take(&mut self) -> Bytes {
        self.runs.take()
    }

    fn shared(&mut self, run: &Bytes) -> Bytes {
        if !self.has_keys() {
            return run.clone();
        }
        let mut at = 0;
        while at < run.len() {
            let record = Record::first(&run[at..]);
            at += record.len();
            put_without_mac(&record.frame[PREFIX_BYTES..], &mut self.copies);
        }
        self.copies.take()
    }

    #[inline]
    fn first_len(form: Form, run: &[u8]) -> usize {
        match form {
            Form::Shared => frame_len(run),
            Form::Own => Record::first(run).len(),
        }
    }

    fn render(&mut self, link: &mut Link, run: &Bytes, messages: u32, bytes_max: usize) -> Rendered {
        let State::Keyed(keyed) = &link.0 else {
            debug_assert!(false, "a link without a key shares its runs");
            return Rendered {
                bytes: self.shared(run),
                rest: Bytes::new(),
                used: run.len(),
                messages,
            };
        };
        let (mut used, mut taken, mut frame_bytes, mut left_out) = (0, 0, 0, 0);
        let mut batch = Batch::default();
        while taken < messages && left_out == 0 {
            let record = Record::first(&run[used..]);
            if taken > 0 && frame_bytes + record.frame.len() > bytes_max {
                break;
            }
            frame_bytes += record.frame.len();
            left_out = record.shared_len();
            used += record.len();
            taken += 1;
            batch.push(record);
            if batch.is_full() {
                std::mem::take(&mut batch).put(&keyed.key, &mut self.copies);
            }
        }
        batch.put(&keyed.key, &mut self.copies);
        Rendered {
            bytes: self.copies.take(),
            rest: record::end_of(run, used, left_out),
            used,
            messages: taken,
        }
    }
}

impl Slim {
    /// Reads a message of a link that is negotiated.
    fn said<'m>(&mut self, link: &Link, message: &'m [u8]) -> Result<Said<Letter<'m>>, DecodeError> {
        let envelope = Envelope::open(&schema::MESSAGE, schema::KINDS, message)?;
        match envelope.kind {
            schema::PUBLISH_KIND => self.publish(link, message, envelope),
            schema::SUBSCRIBE_KIND | schema::UNSUBSCRIBE_KIND => self.subscription(link, &envelope),
            _ => Ok(Said::Ignored(Ignored::Unused)),
        }
    }

    fn publish<'m>(
        &mut self,
        link: &Link,
        message: &'m [u8],
        mut envelope: Envelope<'m>,
    ) -> Result<Said<Letter<'m>>, DecodeError> {
        let missing = |number| Fields::new(&schema::PUBLISH.schema, &[]).fault(number, Rule::Missing);
        let seen = envelope.open_body(&schema::PUBLISH)?;
        let bytes = envelope.header.ok_or_else(|| missing(1))?;
        let header = Header::read(bytes)?;
        let destination = names(&header).ok_or_else(|| missing(1))?;
        if seen & 1 << schema::SESSION == 0 {
            return Err(missing(schema::SESSION));
        }
        if !self.is_authentic(link, &header, true) {
            return Ok(Said::Ignored(Ignored::Unauthenticated));
        }
        if header.ttl <= 1 {
            return Ok(Said::Ignored(Ignored::Expired));
        }
        if self.config.mls_only && !has_mls_payload(envelope.body)? {
            return Ok(Said::Ignored(Ignored::NotMls));
        }
        let letter = Letter::new(message, envelope, &header);
        if self.has_keys() {
            self.prepare_tail(link, &header);
        }
        if message.len() > GRPC_MESSAGE_BYTES_MAX - GROWTH_BYTES_MAX && letter.patch().is_none() {
            return Ok(Said::Ignored(Ignored::Oversize));
        }
        Ok(Said::Publish(Publish {
            to: destination.name(),
            fanout: match header.fanout {
                1 => Fanout::One,
                _ => Fanout::All,
            },
            letter,
        }))
    }

    fn subscription<'m>(
        &mut self,
        link: &Link,
        envelope: &Envelope<'m>,
    ) -> Result<Said<Letter<'m>>, DecodeError> {
        let (mut sent, mut subscription) = (None, 0);
        let mut fields = Fields::new(&schema::SUBSCRIBE, envelope.body);
        while let Some(field) = fields.next()? {
            match field.number {
                1 if sent.is_some() => return Err(fields.fault(1, Rule::Repeated)),
                1 => sent = Some(field.bytes),
                schema::SUBSCRIPTION_ID => subscription = field.varint,
                _ => {}
            }
        }
        let header = Header::read(sent.unwrap_or_default())?;
        if !self.is_authentic(link, &header, false) {
            return Ok(Said::Ignored(Ignored::Unauthenticated));
        }
        let Some(destination) = names(&header) else {
            return Ok(Said::Refused {
                subscription,
                reason: "the header must have the names of source and destination",
            });
        };
        let name = destination.name();
        Ok(match envelope.kind {
            schema::SUBSCRIBE_KIND => Said::Subscribe { name, subscription },
            _ => Said::Unsubscribe { name, subscription },
        })
    }

    /// Whether a header may come from this link. Leaves its tail behind where the link has a key.
    fn is_authentic(&mut self, link: &Link, header: &Header<'_>, is_publish: bool) -> bool {
        let State::Keyed(keyed) = &link.0 else {
            return true;
        };
        let Some(mac) = header.mac else {
            return !is_publish && !keyed.is_strict;
        };
        self.tail.clear();
        header.put_tail(&mut self.tail);
        keyed.key.verify(&self.tail, mac)
    }

    /// Makes the tail of a header as it goes on.
    fn prepare_tail(&mut self, link: &Link, header: &Header<'_>) {
        let passed_on = header.passed_on();
        if matches!(link.0, State::Keyed(_)) && !header.is_tainted() {
            // It is there from the check.
            Header::set_ttl_of_tail(&mut self.tail, passed_on.ttl);
        } else {
            self.tail.clear();
            passed_on.put_tail(&mut self.tail);
        }
    }
}

/// Bytes that a message can gain when its header is written anew: a code with tag and length, and longer lengths around it.
const GROWTH_BYTES_MAX: usize = 2 + TAG_BYTES + 8;

/// The destination, where both names are there.
fn names(header: &Header<'_>) -> Option<EncodedName> {
    header.source?.encoded?;
    header.destination?.encoded
}

/// Whether what an application sends in this publish, if anything, is MLS.
fn has_mls_payload(publish: &[u8]) -> Result<bool, DecodeError> {
    let mut contents = Fields::new(&schema::PUBLISH.schema, publish);
    while let Some(content) = contents.next()? {
        if content.number != schema::MSG {
            continue;
        }
        let mut payloads = Fields::new(&schema::CONTENT.schema, content.bytes);
        while let Some(payload) = payloads.next()? {
            if payload.number != schema::APP_PAYLOAD {
                continue;
            }
            let mut fields = Fields::new(&schema::APPLICATION.schema, payload.bytes);
            while let Some(field) = fields.next()? {
                let is_blob = field.number == schema::BLOB && !field.bytes.is_empty();
                if is_blob && !mls::is_private_application(field.bytes) {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

impl<'m> Letter<'m> {
    fn new(message: &'m [u8], envelope: Envelope<'m>, header: &Header<'m>) -> Self {
        let header_len = envelope.header.map_or(0, <[u8]>::len);
        let header_at = message.len() - envelope.tail_len() - header_len;
        let ttl_at = header.places.ttl.filter(|_| !header.is_tainted());
        Self {
            message,
            envelope,
            ttl: header.passed_on().ttl,
            ttl_at: ttl_at.map(|at| header_at + at),
            mac: match header.places.mac {
                MacPlace::At(at) => MacPlace::At(header_at + at),
                other => other,
            },
        }
    }

    /// Offsets of the time to live and of the code, where only they change.
    fn patch(&self) -> Option<(usize, usize)> {
        match (self.ttl_at, self.mac) {
            (Some(ttl_at), MacPlace::At(mac_at)) => Some((ttl_at, mac_at)),
            _ => None,
        }
    }

    /// Appends it as a record.
    #[inline]
    fn put_record(&self, tail: &[u8], runs: &mut Arena) {
        let Some((ttl_at, mac_at)) = self.patch() else {
            return self.put_rewritten(Some(tail), runs);
        };
        let frame_len = PREFIX_BYTES + self.message.len();
        let out = runs.reserve(record::overhead(tail) + frame_len);
        let head_len = PREFIX_BYTES + self.message.len() - self.envelope.tail_len();
        record::put_head(tail, frame_len, head_len, PREFIX_BYTES + mac_at, out);
        self.put_patched(ttl_at, out);
    }

    /// Appends it as a gRPC message without a code.
    fn put_plain(&self, runs: &mut Arena) {
        match (self.ttl_at, self.mac) {
            (Some(ttl_at), MacPlace::None) => {
                let out = runs.reserve(PREFIX_BYTES + self.message.len());
                self.put_patched(ttl_at, out);
            }
            _ => self.put_rewritten(None, runs),
        }
    }

    fn put_patched(&self, ttl_at: usize, out: &mut BytesMut) {
        put_prefix(self.message.len(), out);
        let start = out.len();
        out.extend_from_slice(self.message);
        out[start + ttl_at] = self.ttl as u8;
    }

    /// Appends it with a header that is written anew: as a record where there is the tail of a preimage, else without a code.
    #[cold]
    fn put_rewritten(&self, tail: Option<&[u8]>, runs: &mut Arena) {
        let header = self.envelope.header.unwrap_or_default();
        let kept = raw_fields(&schema::HEADER, header).filter(|(number, _)| header::is_passed_on(*number));
        let kept_len: usize = kept.clone().map(|(_, field)| field.len()).sum();
        let ttl_len = 1 + varint_len(u64::from(self.ttl));
        let mac_len = tail.map_or(0, |_| 2 + TAG_BYTES);
        let header_len = kept_len + ttl_len + mac_len;
        let message_len = self.envelope.len_with(header_len);
        let frame_len = PREFIX_BYTES + message_len;
        let head_len = frame_len - self.envelope.tail_len();
        let out = runs.reserve(tail.map_or(0, record::overhead) + frame_len);
        if let Some(tail) = tail {
            record::put_head(tail, frame_len, head_len, head_len - TAG_BYTES, out);
        }
        put_prefix(message_len, out);
        self.envelope.put_head(header_len, out);
        kept.for_each(|(_, field)| out.extend_from_slice(field));
        put_varint(u64::from(schema::TTL) << 3, out);
        put_varint(u64::from(self.ttl), out);
        if tail.is_some() {
            put_sized(schema::HEADER_MAC, TAG_BYTES, out);
            out.extend_from_slice(&[0; TAG_BYTES]);
        }
        self.envelope.put_tail(out);
    }
}

/// Appends a message that was passed on, without its code.
fn put_without_mac(message: &[u8], copies: &mut Arena) {
    let opened = Envelope::open(&schema::MESSAGE, schema::KINDS, message).and_then(|mut envelope| {
        envelope.open_body(&schema::CHECKED_PUBLISH)?;
        Ok(envelope)
    });
    let Ok(envelope) = opened else {
        debug_assert!(false, "a message is checked before it is passed on");
        return;
    };
    let kept = raw_fields(&schema::HEADER, envelope.header.unwrap_or_default())
        .filter(|(number, _)| *number != schema::HEADER_MAC);
    let header_len = kept.clone().map(|(_, field)| field.len()).sum();
    let message_len = envelope.len_with(header_len);
    let out = copies.reserve(PREFIX_BYTES + message_len);
    put_prefix(message_len, out);
    envelope.put_head(header_len, out);
    kept.for_each(|(_, field)| out.extend_from_slice(field));
    envelope.put_tail(out);
}
