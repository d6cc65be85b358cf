//! The negotiation that a link begins with (`../shared/wire/slim-wire.md`, section 2): who is there, and the key that headers are
//! authenticated with.

use bytes::{Bytes, BytesMut};
use ml_kem::ml_kem_768::EncapsulationKey;
use ringgate_switch::{Client, End};
use x25519_dalek::{PublicKey, StaticSecret};

use super::mac::HeaderKey;
use super::schema::{KINDS, LINK, LINK_KIND, LINK_NEGOTIATION, MESSAGE, NEGOTIATION};
use super::{HeaderMac, SlimConfig};
use crate::agp::fields::Fields;
use crate::agp::{DecodeError, Rule};
use crate::envelope::{Envelope, PREFIX_BYTES, put_prefix, put_sized, put_varint, varint_len};

/// The version of SLIM whose protocol the node speaks. Clients check that it is one, not which.
pub(super) const SLIM_VERSION: &str = "3.4.6";

/// Longest id of a link or node, in bytes: clients send UUIDs with a short prefix.
const ID_BYTES_MAX: usize = 256;

/// How far a link is negotiated.
#[derive(Debug, Default)]
pub(super) enum State {
    /// Nothing has been said.
    #[default]
    Silent,
    /// Its messages carry no code.
    Plain,
    /// All messages of both sides carry a code.
    Keyed(Box<Keyed>),
}

/// What is agreed with a client.
#[derive(Debug)]
pub(super) struct Keyed {
    pub(super) key: HeaderKey,
    /// Its Subscribes must carry a code too.
    pub(super) is_strict: bool,
}

/// What a link is for, as the client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkKind {
    /// Between nodes of two domains.
    Remote,
    /// Between nodes of one deployment.
    Peer,
    /// From an application to its node.
    #[default]
    Edge,
}

impl LinkKind {
    pub(super) fn number(self) -> u64 {
        match self {
            LinkKind::Remote => 0,
            LinkKind::Peer => 1,
            LinkKind::Edge => 2,
        }
    }

    fn from_number(number: u64) -> Option<Self> {
        [Self::Remote, Self::Peer, Self::Edge]
            .into_iter()
            .find(|kind| kind.number() == number)
    }
}

/// Why a link cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The greeting cannot be parsed.
    #[error("the greeting cannot be parsed: {0}")]
    Malformed(#[from] DecodeError),
    /// The first message is not a greeting.
    #[error("the first message must be a link negotiation")]
    NoGreeting,
    /// It answers where it should ask, or the reverse.
    #[error("is_reply must be false in a request and true in a reply")]
    Direction,
    /// An id that is empty or too long, or not the one that was sent.
    #[error(
        "link_id must have 1 to {ID_BYTES_MAX} bytes, node_id at most as many, and a reply must repeat the link_id"
    )]
    Id,
    /// Not a semantic version.
    #[error("slim_version must be a semantic version, such as {SLIM_VERSION}")]
    Version,
    /// Not a kind of link.
    #[error("connection_type must be 0 (remote), 1 (peer) or 2 (edge)")]
    Kind,
    /// A public key that has another length, or that everyone could compute the shared secret of.
    #[error("link_ecdh_public_key must be an X25519 public key: 32 bytes, and not of low order")]
    PublicKey,
    /// A post-quantum payload that is none.
    #[error(
        "link_kem_payload must be an ML-KEM-768 encapsulation key in a request and a ciphertext in a reply"
    )]
    KemPayload,
    /// The node takes no link without a key.
    #[error("this node requires header authentication: set require_header_mac in the client")]
    KeyRequired,
    /// The node takes no link without a post-quantum key.
    #[error("this node requires post-quantum link keys: set enforce_pqc in the client")]
    KemRequired,
    /// A client claims to be a node.
    #[error("this node takes no links from other nodes: connect as an edge (connection_type 2)")]
    Privileged,
    /// The node is connected to itself.
    #[error("this is the node itself")]
    Itself,
}

impl LinkError {
    /// How the stream ends. Clients come back after any end but [`End::Denied`], which says that it would be in vain.
    pub(super) fn end(self) -> End {
        match self {
            // As SLIM's own node does.
            LinkError::NoGreeting => End::Orderly,
            LinkError::KeyRequired | LinkError::KemRequired | LinkError::Privileged | LinkError::Itself => {
                End::Denied(self.to_string().into())
            }
            _ => End::Invalid(self.to_string().into()),
        }
    }
}

/// LinkNegotiationPayload, without what nobody looks at.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Negotiation<'m> {
    pub(super) link_id: &'m str,
    pub(super) slim_version: &'m str,
    pub(super) is_reply: bool,
    pub(super) public_key: &'m [u8],
    pub(super) kind: u64,
    pub(super) node_id: &'m str,
    pub(super) kem_payload: Option<&'m [u8]>,
}

impl<'m> Negotiation<'m> {
    /// Reads the first message of a link, and checks what both sides must keep to.
    pub(super) fn read(message: &'m [u8]) -> Result<Self, LinkError> {
        let envelope = Envelope::open(&MESSAGE, KINDS, message)?;
        if envelope.kind != LINK_KIND {
            return Err(LinkError::NoGreeting);
        }
        let mut payload = None;
        let mut fields = Fields::new(&LINK, envelope.body);
        while let Some(field) = fields.next()? {
            if field.number == LINK_NEGOTIATION && payload.replace(field.bytes).is_some() {
                return Err(fields.fault(LINK_NEGOTIATION, Rule::Repeated).into());
            }
        }
        let negotiation = Self::read_payload(payload.ok_or(LinkError::NoGreeting)?)?;
        if negotiation.link_id.is_empty()
            || negotiation.link_id.len() > ID_BYTES_MAX
            || negotiation.node_id.len() > ID_BYTES_MAX
        {
            return Err(LinkError::Id);
        }
        if semver::Version::parse(negotiation.slim_version).is_err() {
            return Err(LinkError::Version);
        }
        Ok(negotiation)
    }

    fn read_payload(payload: &'m [u8]) -> Result<Self, DecodeError> {
        let mut read = Negotiation::default();
        let mut fields = Fields::new(&NEGOTIATION, payload);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => read.link_id = field.text,
                2 => read.slim_version = field.text,
                3 => read.is_reply = field.varint != 0,
                4 => read.public_key = field.bytes,
                5 => read.kind = field.varint,
                6 => read.node_id = field.text,
                8 => read.kem_payload = Some(field.bytes),
                _ => {}
            }
        }
        Ok(read)
    }

    /// Appends the whole message.
    pub(super) fn put(&self, out: &mut BytesMut) {
        let mut payload = BytesMut::new();
        put_text(1, self.link_id, &mut payload);
        put_text(2, self.slim_version, &mut payload);
        put_number(3, u64::from(self.is_reply), &mut payload);
        put_bytes(4, self.public_key, &mut payload);
        put_number(5, self.kind, &mut payload);
        put_text(6, self.node_id, &mut payload);
        if let Some(kem_payload) = self.kem_payload {
            put_sized(8, kem_payload.len(), &mut payload);
            payload.extend_from_slice(kem_payload);
        }
        let link_len = 1 + varint_len(payload.len() as u64) + payload.len();
        put_sized(LINK_KIND, link_len, out);
        put_sized(LINK_NEGOTIATION, payload.len(), out);
        out.extend_from_slice(&payload);
    }

    /// The peer's public key; `None` where it sent none.
    pub(super) fn peer_key(&self) -> Result<Option<PublicKey>, LinkError> {
        if self.public_key.is_empty() {
            return Ok(None);
        }
        let key = <[u8; 32]>::try_from(self.public_key).map_err(|_| LinkError::PublicKey)?;
        Ok(Some(PublicKey::from(key)))
    }
}

/// A link as it is agreed, and the framed answer that says so.
pub(super) struct Agreed {
    pub(super) state: State,
    pub(super) reply: Bytes,
    pub(super) client: Client,
}

/// Answers a client's greeting. `secret` gives random bytes that nobody else knows.
pub(super) fn negotiate(
    config: &SlimConfig,
    secret: &mut dyn FnMut() -> [u8; 32],
    message: &[u8],
) -> Result<Agreed, LinkError> {
    let request = Negotiation::read(message)?;
    if request.is_reply {
        return Err(LinkError::Direction);
    }
    let kind = LinkKind::from_number(request.kind).ok_or(LinkError::Kind)?;
    if kind != LinkKind::Edge && !config.privileged_links {
        return Err(LinkError::Privileged);
    }
    if !config.node_id.is_empty() && request.node_id == config.node_id {
        return Err(LinkError::Itself);
    }
    let keys = match config.header_mac {
        HeaderMac::Off => None,
        HeaderMac::Offered | HeaderMac::Required => agree(config, secret, &request)?,
    };
    let mut reply = BytesMut::new();
    let mut message = BytesMut::new();
    Negotiation {
        link_id: request.link_id,
        slim_version: SLIM_VERSION,
        is_reply: true,
        public_key: keys.as_ref().map_or(&[], |keys| keys.public.as_bytes()),
        kind: request.kind,
        node_id: &config.node_id,
        kem_payload: keys.as_ref().and_then(|keys| keys.kem_payload.as_deref()),
    }
    .put(&mut message);
    reply.reserve(PREFIX_BYTES + message.len());
    put_prefix(message.len(), &mut reply);
    reply.extend_from_slice(&message);
    let state = match keys {
        // Peers exchange keys but use none.
        Some(keys) if kind != LinkKind::Peer => State::Keyed(Box::new(Keyed {
            key: keys.key,
            is_strict: config.header_mac == HeaderMac::Required,
        })),
        _ => State::Plain,
    };
    Ok(Agreed {
        state,
        reply: reply.freeze(),
        client: Client {
            link: Some(request.link_id)
                .filter(|link| is_generated(link))
                .unwrap_or_default()
                .into(),
            node: request.node_id.into(),
            node_is_unique: is_generated(request.node_id),
        },
    })
}

/// Length of a UUID as text (RFC 9562, section 4).
const UUID_CHARS: usize = 36;

/// Whether an id ends with a UUID, as those do that SLIM's clients make for themselves. Others come from configurations, which are copied:
/// several processes may have the same, and must not be taken for one.
fn is_generated(id: &str) -> bool {
    let start = id.len().checked_sub(UUID_CHARS);
    let uuid = start.and_then(|start| id.as_bytes().get(start..));
    uuid.is_some_and(|uuid| {
        uuid.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    })
}

/// What the node says of its keys, and what follows from both sides'.
struct Keys {
    key: HeaderKey,
    public: PublicKey,
    kem_payload: Option<Vec<u8>>,
}

/// The keys of a link; `None` where the client wants none and may.
fn agree(
    config: &SlimConfig,
    secret: &mut dyn FnMut() -> [u8; 32],
    request: &Negotiation<'_>,
) -> Result<Option<Keys>, LinkError> {
    let Some(peer) = request.peer_key()? else {
        let is_needed = config.header_mac == HeaderMac::Required || config.enforce_pqc;
        return match is_needed {
            true => Err(LinkError::KeyRequired),
            false => Ok(None),
        };
    };
    if config.enforce_pqc && request.kem_payload.is_none() {
        return Err(LinkError::KemRequired);
    }
    let own = StaticSecret::from(secret());
    let kem = request
        .kem_payload
        .map(|payload| encapsulate(payload, secret()))
        .transpose()?;
    let (kem_payload, kem_secret) = kem.unzip();
    let key =
        HeaderKey::agree(request.link_id, &own, &peer, kem_secret.as_ref()).ok_or(LinkError::PublicKey)?;
    Ok(Some(Keys {
        key,
        public: PublicKey::from(&own),
        kem_payload,
    }))
}

/// A ciphertext for an ML-KEM-768 encapsulation key (FIPS 203), and the secret in it.
fn encapsulate(key: &[u8], random: [u8; 32]) -> Result<(Vec<u8>, [u8; 32]), LinkError> {
    let key = key.try_into().map_err(|_| LinkError::KemPayload)?;
    let key = EncapsulationKey::new(key).map_err(|_| LinkError::KemPayload)?;
    let (ciphertext, secret) = key.encapsulate_deterministic(&random.into());
    Ok((ciphertext.to_vec(), secret.into()))
}

/// Appends a text, unless it is empty: proto3's default.
pub(super) fn put_text(number: u32, text: &str, out: &mut BytesMut) {
    put_bytes(number, text.as_bytes(), out);
}

/// Appends bytes, unless there are none.
pub(super) fn put_bytes(number: u32, bytes: &[u8], out: &mut BytesMut) {
    if !bytes.is_empty() {
        put_sized(number, bytes.len(), out);
        out.extend_from_slice(bytes);
    }
}

/// Appends a number, unless it is 0.
pub(super) fn put_number(number: u32, value: u64, out: &mut BytesMut) {
    if value != 0 {
        put_varint(u64::from(number) << 3, out);
        put_varint(value, out);
    }
}
