//! The other end of a link: what an application says and understands. Tests and load generators are such; no node needs it.

use bytes::{Bytes, BytesMut};
use ml_kem::kem::{Decapsulate, KeyExport};
use ml_kem::ml_kem_768::DecapsulationKey;
use x25519_dalek::{PublicKey, StaticSecret};
use xxhash_rust::xxh64::xxh64;

use super::header::{EncodedName, Header, SentName};
use super::link::{LinkError, LinkKind, Negotiation, SLIM_VERSION, put_bytes, put_number, put_text};
use super::mac::HeaderKey;
use super::schema::{self, KINDS, MESSAGE};
use crate::agp::DecodeError;
use crate::agp::fields::Fields;
use crate::agp::schema::Schema;
use crate::envelope::{Envelope, put_sized};

/// An application's or a channel's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppName {
    strings: [String; 3],
    components: [u64; 3],
    instance: Option<u128>,
}

impl AppName {
    /// Organization, namespace and type, and the instance; `None`: any.
    pub fn new(strings: [&str; 3], instance: Option<u128>) -> Self {
        Self {
            strings: strings.map(str::to_owned),
            components: strings.map(component),
            instance,
        }
    }

    /// The same name with another instance.
    pub fn with_instance(&self, instance: Option<u128>) -> Self {
        Self {
            instance,
            ..self.clone()
        }
    }

    /// As it is routed.
    pub fn routed(&self) -> ringgate_switch::Name {
        self.sent().encoded.unwrap_or_default().name()
    }

    fn sent(&self) -> SentName<'_> {
        let instance = self.instance.unwrap_or(ringgate_switch::ANY);
        SentName {
            encoded: Some(EncodedName {
                components: self.components,
                id: Some([(instance >> 64) as u64, instance as u64]),
            }),
            strings: Some(self.strings.each_ref().map(String::as_str)),
        }
    }
}

/// The hash of a name's component (`../shared/wire/slim-wire.md`, section 4).
pub fn component(text: &str) -> u64 {
    xxh64(&[text.as_bytes(), &[0xff]].concat(), 0)
}

/// A link that is to be negotiated.
#[derive(Debug, Clone)]
pub struct Greeting {
    /// Names the link; the same when the client comes back.
    pub link_id: String,
    /// Names the process.
    pub node_id: String,
    /// What the link is for.
    pub kind: LinkKind,
    /// Random bytes for the key; `None`: headers are not to be authenticated.
    pub secret: Option<[u8; 32]>,
    /// Random bytes for a post-quantum hybrid key, which takes `secret` too.
    pub kem_seed: Option<[u8; 64]>,
}

impl Greeting {
    /// The first message.
    pub fn message(&self) -> Bytes {
        let public = self.own_key().map(|own| PublicKey::from(&own).to_bytes());
        let kem = self
            .kem_key()
            .map(|key| key.encapsulation_key().to_bytes().to_vec());
        let mut message = BytesMut::new();
        Negotiation {
            link_id: &self.link_id,
            slim_version: SLIM_VERSION,
            is_reply: false,
            public_key: public.as_ref().map_or(&[], |key| key),
            kind: self.kind.number(),
            node_id: &self.node_id,
            kem_payload: kem.as_deref(),
        }
        .put(&mut message);
        message.freeze()
    }

    /// The link as the node's answer makes it.
    ///
    /// # Errors
    /// What a client does not accept.
    pub fn finish(&self, reply: &[u8]) -> Result<Client, LinkError> {
        let reply = Negotiation::read(reply)?;
        if !reply.is_reply {
            return Err(LinkError::Direction);
        }
        if reply.link_id != self.link_id {
            return Err(LinkError::Id);
        }
        let Some(own) = self.own_key() else {
            return Ok(Client::new(None));
        };
        let peer = reply.peer_key()?.ok_or(LinkError::PublicKey)?;
        let kem_secret = match (self.kem_key(), reply.kem_payload) {
            (Some(key), Some(payload)) => {
                let ciphertext = payload.try_into().map_err(|_| LinkError::KemPayload)?;
                Some(key.decapsulate(ciphertext).into())
            }
            (None, None) => None,
            _ => return Err(LinkError::KemPayload),
        };
        let key =
            HeaderKey::agree(&self.link_id, &own, &peer, kem_secret.as_ref()).ok_or(LinkError::PublicKey)?;
        Ok(Client::new(Some(key).filter(|_| self.kind != LinkKind::Peer)))
    }

    fn own_key(&self) -> Option<StaticSecret> {
        self.secret.map(StaticSecret::from)
    }

    fn kem_key(&self) -> Option<DecapsulationKey> {
        self.kem_seed.map(|seed| DecapsulationKey::from_seed(seed.into()))
    }
}

/// A link that is negotiated. Makes and reads messages without their gRPC prefix.
#[derive(Debug)]
pub struct Client {
    key: Option<HeaderKey>,
    tail: BytesMut,
}

/// A message to publish.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    /// The sender.
    pub from: &'a AppName,
    /// The receiver.
    pub to: &'a AppName,
    /// The sender's token, which only receivers look at.
    pub identity: &'a str,
    /// 1: to one connection; else to all.
    pub fanout: u32,
    /// Hops it may take.
    pub ttl: u32,
    /// Number of the session.
    pub session: u32,
    /// Number of the message in it.
    pub message: u32,
    /// Type of the payload.
    pub payload_type: &'a str,
    /// The payload.
    pub payload: &'a [u8],
}

/// The time to live that applications set.
pub const TTL: u32 = 8;

/// What a node sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received<'m> {
    /// The answer to a Subscribe or Unsubscribe.
    Ack {
        /// The number it was sent with.
        subscription: u64,
        /// Whether it holds now.
        success: bool,
        /// Why not.
        error: &'m str,
    },
    /// A message that someone published.
    Publish {
        /// Hops it may take yet.
        ttl: u32,
        /// Number of the message in its session.
        message: u32,
        /// The payload.
        payload: &'m [u8],
    },
}

/// Why a client drops a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It cannot be parsed.
    #[error("the message cannot be parsed: {0}")]
    Malformed(#[from] DecodeError),
    /// Its code is missing or wrong.
    #[error("the header's authentication code is missing or wrong")]
    Unauthenticated,
    /// No message that a node sends after the negotiation.
    #[error("a message of kind {0} is not expected from a node")]
    Unexpected(u32),
}

impl Client {
    fn new(key: Option<HeaderKey>) -> Self {
        Self {
            key,
            tail: BytesMut::new(),
        }
    }

    /// A Subscribe under the number `subscription`; 0: no answer is wanted.
    pub fn subscribe(&mut self, name: &AppName, identity: &str, subscription: u64) -> Bytes {
        self.subscription(schema::SUBSCRIBE_KIND, name, identity, subscription)
    }

    /// The reverse.
    pub fn unsubscribe(&mut self, name: &AppName, identity: &str, subscription: u64) -> Bytes {
        self.subscription(schema::UNSUBSCRIBE_KIND, name, identity, subscription)
    }

    fn subscription(&mut self, kind: u32, name: &AppName, identity: &str, subscription: u64) -> Bytes {
        let header = self.header(&Header {
            source: Some(name.sent()),
            destination: Some(name.sent()),
            identity,
            fanout: 1,
            ttl: TTL,
            ..Header::default()
        });
        let mut body = BytesMut::new();
        put_bytes(1, &header, &mut body);
        put_number(schema::SUBSCRIPTION_ID, subscription, &mut body);
        framed(kind, &body)
    }

    /// A Publish.
    pub fn publish(&mut self, publish: &Publish<'_>) -> Bytes {
        let header = self.header(&Header {
            source: Some(publish.from.sent()),
            destination: Some(publish.to.sent()),
            identity: publish.identity,
            fanout: publish.fanout,
            ttl: publish.ttl,
            ..Header::default()
        });
        let mut session = BytesMut::new();
        put_number(1, 2, &mut session);
        put_number(2, 1, &mut session);
        put_number(3, publish.session.into(), &mut session);
        put_number(4, publish.message.into(), &mut session);
        let mut payload = BytesMut::new();
        put_text(1, publish.payload_type, &mut payload);
        put_bytes(schema::BLOB, publish.payload, &mut payload);
        let content = framed(schema::APP_PAYLOAD, &payload);
        let mut body = BytesMut::with_capacity(header.len() + content.len() + 64);
        put_bytes(1, &header, &mut body);
        put_bytes(schema::SESSION, &session, &mut body);
        put_bytes(schema::MSG, &content, &mut body);
        framed(schema::PUBLISH_KIND, &body)
    }

    /// Reads what a node sent.
    ///
    /// # Errors
    /// Why a client drops it.
    pub fn read<'m>(&mut self, message: &'m [u8]) -> Result<Received<'m>, ReadError> {
        let mut envelope = Envelope::open(&MESSAGE, KINDS, message)?;
        match envelope.kind {
            schema::ACK_KIND => Ok(read_ack(envelope.body)?),
            schema::PUBLISH_KIND => {
                envelope.open_body(&schema::PUBLISH)?;
                let header = Header::read(envelope.header.unwrap_or_default())?;
                if !self.is_authentic(&header) {
                    return Err(ReadError::Unauthenticated);
                }
                Ok(read_publish(header.ttl, envelope.body)?)
            }
            kind => Err(ReadError::Unexpected(kind)),
        }
    }

    fn is_authentic(&mut self, header: &Header<'_>) -> bool {
        match (&self.key, header.mac) {
            (None, None) => true,
            (Some(key), Some(mac)) => {
                self.tail.clear();
                header.put_tail(&mut self.tail);
                key.verify(&self.tail, mac)
            }
            _ => false,
        }
    }

    /// A header as it is sent, with its code where the link has a key.
    fn header(&mut self, header: &Header<'_>) -> BytesMut {
        let mut out = BytesMut::new();
        for (number, name) in [(1, &header.source), (2, &header.destination)] {
            if let Some(name) = name {
                put_bytes(number, &encoded(name), &mut out);
            }
        }
        put_text(3, header.identity, &mut out);
        put_number(4, header.fanout.into(), &mut out);
        put_text(5, SLIM_VERSION, &mut out);
        put_number(schema::TTL, header.ttl.into(), &mut out);
        // The number that the client's own process gives the connection.
        put_number(9, 1, &mut out);
        if let Some(key) = &self.key {
            self.tail.clear();
            header.put_tail(&mut self.tail);
            put_bytes(schema::HEADER_MAC, &key.tag(&self.tail), &mut out);
        }
        out
    }
}

fn read_ack(ack: &[u8]) -> Result<Received<'_>, DecodeError> {
    let (mut subscription, mut success, mut error) = (0, false, "");
    let mut fields = Fields::new(&schema::ACK, ack);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => subscription = field.varint,
            2 => success = field.varint != 0,
            3 => error = field.text,
            _ => {}
        }
    }
    Ok(Received::Ack {
        subscription,
        success,
        error,
    })
}

fn read_publish(ttl: u32, publish: &[u8]) -> Result<Received<'_>, DecodeError> {
    let session = inner(publish, &schema::PUBLISH.schema, schema::SESSION)?.unwrap_or_default();
    let mut message = 0;
    let mut fields = Fields::new(&schema::SESSION_HEADER.schema, session);
    while let Some(field) = fields.next()? {
        if field.number == 4 {
            message = field.varint as u32;
        }
    }
    let content = inner(publish, &schema::PUBLISH.schema, schema::MSG)?.unwrap_or_default();
    let payload = inner(content, &schema::CONTENT.schema, schema::APP_PAYLOAD)?.unwrap_or_default();
    Ok(Received::Publish {
        ttl,
        message,
        payload: inner(payload, &schema::APPLICATION.schema, schema::BLOB)?.unwrap_or_default(),
    })
}

/// The field `number` of a message; the last, where there are several.
fn inner<'m>(
    message: &'m [u8],
    schema: &'static Schema,
    number: u32,
) -> Result<Option<&'m [u8]>, DecodeError> {
    let mut found = None;
    let mut fields = Fields::new(schema, message);
    while let Some(field) = fields.next()? {
        if field.number == number {
            found = Some(field.bytes);
        }
    }
    Ok(found)
}

fn framed(number: u32, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len() + 8);
    put_sized(number, body.len(), &mut out);
    out.extend_from_slice(body);
    out.freeze()
}

fn encoded(name: &SentName<'_>) -> BytesMut {
    let mut out = BytesMut::new();
    if let Some(EncodedName { components, id }) = name.encoded {
        let mut part = BytesMut::new();
        for (number, component) in (1..).zip(components) {
            put_number(number, component, &mut part);
        }
        if let Some([high, low]) = id {
            let mut halves = BytesMut::new();
            put_number(1, high, &mut halves);
            put_number(2, low, &mut halves);
            put_sized(4, halves.len(), &mut part);
            part.extend_from_slice(&halves);
        }
        put_sized(1, part.len(), &mut out);
        out.extend_from_slice(&part);
    }
    if let Some(strings) = name.strings {
        let mut part = BytesMut::new();
        for (number, text) in (1..).zip(strings) {
            put_text(number, text, &mut part);
        }
        put_sized(2, part.len(), &mut out);
        out.extend_from_slice(&part);
    }
    out
}
