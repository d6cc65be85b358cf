//! The verifier in TLS handshakes, and TLS configurations that have no other.
//!
//! TLS 1.3 only, and Ed25519 only where this crate verifies; clients that verify by themselves may be shown an ECDSA certificate
//! ([`Serving`]). Sessions are never resumed: a resumed session would skip the verification, and so outlive a
//! revocation.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SignatureVerificationAlgorithm, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerIncompatible, ServerConfig, SignatureScheme,
};

use crate::verifier::{is_for_host, verify_pinned};
use crate::{AgentKey, Fingerprint, KeyError, NodeId, Reason, ServerKey, SharedVerifier, Subject};

/// What both ends speak: HTTP/2 (RFC 9113 §3.3).
const ALPN_H2: &[u8] = b"h2";

/// Who the server must be, besides one whom the verifier trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
    /// Whoever the host name or address that was dialled belongs to.
    Host,
    /// A node or control process of the trust domain, whatever its address.
    AnyNode,
    /// This node or control process, whatever its address.
    Node(NodeId),
}

/// A certificate chain and its key, replaced without a restart. Both a server's and a client's.
#[derive(Debug)]
pub struct SharedCredential(ArcSwap<Shown>);

/// What a node serves with where its client takes no Ed25519 certificate from a server: chain, leaf first, and key.
#[derive(Debug, Clone)]
pub struct Serving {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: ServerKey,
}

#[derive(Debug)]
struct Shown {
    own: Arc<CertifiedKey>,
    serving: Option<Arc<CertifiedKey>>,
}

impl SharedCredential {
    /// Starts with one: the chain, leaf first, and its key.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn new(chain: Vec<CertificateDer<'static>>, key: &AgentKey) -> Result<Self, KeyError> {
        Ok(Self(ArcSwap::from_pointee(Shown::new(chain, key, None)?)))
    }

    /// Starts with one, and with what other clients than ours are served with.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn serving(
        chain: Vec<CertificateDer<'static>>,
        key: &AgentKey,
        serving: Option<Serving>,
    ) -> Result<Self, KeyError> {
        Ok(Self(ArcSwap::from_pointee(Shown::new(chain, key, serving)?)))
    }

    /// Replaces all of it for the handshakes to come.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn swap(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: &AgentKey,
        serving: Option<Serving>,
    ) -> Result<(), KeyError> {
        self.0.store(Arc::new(Shown::new(chain, key, serving)?));
        Ok(())
    }
}

impl Shown {
    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: &AgentKey,
        serving: Option<Serving>,
    ) -> Result<Self, KeyError> {
        let own = aws_lc_rs::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(key.to_pkcs8()?.as_slice()));
        let serving = serving.map(|serving| {
            let key = aws_lc_rs::sign::any_ecdsa_type(&serving.key.to_rustls()?);
            let key = key.map_err(|_| KeyError::NotP256)?;
            let certified = CertifiedKey::new(serving.chain, key);
            certified.keys_match().map_err(|_| KeyError::Mismatch)?;
            Ok::<_, KeyError>(Arc::new(certified))
        });
        Ok(Self {
            own: Arc::new(CertifiedKey::new(chain, own.map_err(|_| KeyError::Malformed)?)),
            serving: serving.transpose()?,
        })
    }
}

impl ResolvesServerCert for SharedCredential {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shown = self.0.load();
        let takes_own = hello.signature_schemes().contains(&SignatureScheme::ED25519);
        Some(match &shown.serving {
            Some(serving) if !takes_own => serving.clone(),
            _ => shown.own.clone(),
        })
    }
}

impl ResolvesClientCert for SharedCredential {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        schemes
            .contains(&SignatureScheme::ED25519)
            .then(|| self.0.load().own.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A server's configuration: it presents `credential` and verifies its clients; with `required` it refuses those without a
/// certificate.
///
/// # Errors
/// [`Error`] if the cryptographic library lacks TLS 1.3.
pub fn server_config(
    verifier: Arc<SharedVerifier>,
    required: bool,
    credential: Arc<SharedCredential>,
) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(client_verifier(verifier, required))
        .with_cert_resolver(credential);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    Ok(config)
}

/// A client's configuration: it verifies its server, and presents `credential` if there is one.
///
/// # Errors
/// [`Error`] if the cryptographic library lacks TLS 1.3.
pub fn client_config(
    verifier: Arc<dyn ServerCertVerifier>,
    credential: Option<Arc<SharedCredential>>,
) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        // rustls calls every verifier but its own dangerous; all of ours end in `Verifier` or in a pinned authority.
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match credential {
        Some(credential) => builder.with_client_cert_resolver(credential),
        None => builder.with_no_client_auth(),
    };
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Verifies clients. With `required`, those without a certificate are refused in the handshake.
///
/// After the handshake the server calls [`Verifier::verify`](crate::Verifier::verify) with the chain again, to learn who it is.
pub fn client_verifier(verifier: Arc<SharedVerifier>, required: bool) -> Arc<dyn ClientCertVerifier> {
    Arc::new(Clients {
        verifier,
        required,
        // A client that has another type of key shows it, and is told that this is what is wrong.
        algorithms: provider().signature_verification_algorithms,
    })
}

/// Verifies servers: their credential, and that they are who was expected.
pub fn server_verifier(verifier: Arc<SharedVerifier>, expected: Expected) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Servers {
        verifier,
        expected,
        // As with clients: a server that has another type of key is found to have one.
        algorithms: provider().signature_verification_algorithms,
    })
}

/// Verifies a server before there is a trust bundle: its chain must contain a certificate of an authority with this fingerprint
/// and lead to it, and its leaf must be for the host.
pub fn pinned_verifier(fingerprint: Fingerprint) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Pinned {
        pin: Pin::Fingerprint(fingerprint),
        algorithms: algorithms(),
    })
}

/// The same for who has the certificates of the authority: the server's chain must lead to one of them.
pub fn anchored_verifier(anchors: Vec<CertificateDer<'static>>) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Pinned {
        pin: Pin::Anchors(anchors),
        algorithms: algorithms(),
    })
}

/// The reason behind a failed handshake, if it was the verifier's.
pub fn reason(error: &Error) -> Option<Reason> {
    match error {
        Error::NoCertificatesPresented => Some(Reason::NoCertificate),
        Error::InvalidCertificate(CertificateError::Expired) => Some(Reason::Expired),
        Error::InvalidCertificate(CertificateError::NotValidYet) => Some(Reason::NotYetValid),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => Some(Reason::UnknownIssuer),
        Error::InvalidCertificate(CertificateError::Revoked) => Some(Reason::Revoked),
        Error::InvalidCertificate(CertificateError::BadEncoding) => Some(Reason::Malformed),
        Error::InvalidCertificate(CertificateError::BadSignature) => Some(Reason::KeyMismatch),
        Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
            inner.downcast_ref::<Reason>().copied()
        }
        _ => None,
    }
}

/// Where TLS has an alert for a reason, the peer is told by it (RFC 8446 §6.2).
fn refuse(reason: Reason) -> Error {
    Error::InvalidCertificate(match reason {
        Reason::Expired => CertificateError::Expired,
        Reason::NotYetValid => CertificateError::NotValidYet,
        Reason::UnknownIssuer => CertificateError::UnknownIssuer,
        Reason::Revoked => CertificateError::Revoked,
        Reason::Malformed => CertificateError::BadEncoding,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    })
}

/// Servers sign handshakes with Ed25519, as their leaves have no other keys.
static ED25519: &[&dyn SignatureVerificationAlgorithm] = &[webpki::aws_lc_rs::ED25519];
static SCHEMES: &[(SignatureScheme, &[&dyn SignatureVerificationAlgorithm])] =
    &[(SignatureScheme::ED25519, ED25519)];

fn algorithms() -> WebPkiSupportedAlgorithms {
    WebPkiSupportedAlgorithms {
        all: ED25519,
        mapping: SCHEMES,
    }
}

fn chain_of<'a>(leaf: &CertificateDer<'a>, intermediates: &[CertificateDer<'a>]) -> Vec<CertificateDer<'a>> {
    std::iter::once(leaf).chain(intermediates).cloned().collect()
}

/// What the two handshake signature methods have in common: TLS 1.3.
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(PeerIncompatible::Tls12NotOffered.into())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, certificate, signature, &self.algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.algorithms.supported_schemes()
        }
    };
}

struct Clients {
    verifier: Arc<SharedVerifier>,
    required: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    // Hints are optional (RFC 8446 §4.2.4), and would be those of one moment.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verifier
            .load()
            .verify(&chain_of(leaf, intermediates), now)
            .map(|_| ClientCertVerified::assertion())
            .map_err(refuse)
    }

    signatures!();
}

struct Servers {
    verifier: Arc<SharedVerifier>,
    expected: Expected,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self
            .verifier
            .load()
            .verify(&chain_of(leaf, intermediates), now)
            .map_err(refuse)?;
        // Only a node may serve: an agent's certificate lacks serverAuth, and its name is no server's.
        let Subject::Node(id) = &verified.subject else {
            return Err(refuse(Reason::PeerMismatch));
        };
        match &self.expected {
            Expected::Host if !is_for_host(leaf, server_name) => Err(refuse(Reason::HostMismatch)),
            Expected::Node(expected) if id != expected => Err(refuse(Reason::PeerMismatch)),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    signatures!();
}

struct Pinned {
    pin: Pin,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum Pin {
    Fingerprint(Fingerprint),
    Anchors(Vec<CertificateDer<'static>>),
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authorities: Vec<&CertificateDer<'_>> = match &self.pin {
            Pin::Fingerprint(fingerprint) => intermediates
                .iter()
                .filter(|der| Fingerprint::of(der) == *fingerprint)
                .collect(),
            Pin::Anchors(anchors) => anchors.iter().collect(),
        };
        verify_pinned(&authorities, &chain_of(leaf, intermediates), now).map_err(refuse)?;
        if is_for_host(leaf, server_name) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(refuse(Reason::HostMismatch))
        }
    }

    signatures!();
}

macro_rules! debug {
    ($($type:ident: $field:ident),+) => {
        $(impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type)).field(stringify!($field), &self.$field).finish_non_exhaustive()
            }
        })+
    };
}

debug!(Clients: verifier, Servers: expected, Pinned: pin);
