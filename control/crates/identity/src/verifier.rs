//! The verifier: the only way from a certificate to somebody.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};

use crate::certificate::{self, Leaf};
use crate::revocation::Revocations;
use crate::subject::{Subject, TrustDomain};
use crate::{BundleError, CLOCK_SKEW_SECONDS, Reason, Serial, TrustBundle};

/// Most certificates of a presented chain. Root, issuing authority and leaf are three; an operator's own hierarchy may have
/// more. It bounds the work of building a path.
pub const CHAIN_CERTIFICATES_MAX: usize = 8;

/// Signatures that an operator's own authorities may have. A leaf's key is Ed25519 whatever they use.
static CHAIN_SIGNATURES: &[&dyn SignatureVerificationAlgorithm] = &[
    webpki::aws_lc_rs::ED25519,
    webpki::aws_lc_rs::ECDSA_P256_SHA256,
    webpki::aws_lc_rs::ECDSA_P384_SHA384,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA384,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA512,
];

/// Verifies credentials of one trust domain. It never changes and is cheap to share; a change makes a new one.
pub struct Verifier {
    bundle: Arc<TrustBundle>,
    anchors: Arc<[TrustAnchor<'static>]>,
    revocations: Revocations,
}

/// Somebody whose certificate was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// Who it is.
    pub subject: Subject,
    /// The subject as URI, with its trust domain.
    pub uri: String,
    /// The number of the certificate.
    pub serial: Serial,
    /// The Ed25519 key that the certificate is for.
    pub key: [u8; 32],
    /// Its first second.
    pub not_before: UnixTime,
    /// Its last second: a connection must not outlive it.
    pub not_after: UnixTime,
    /// The certificate, as peers are shown it.
    pub leaf_der: Arc<[u8]>,
}

impl Verified {
    /// When the certificate was issued: authorities date it back by [`CLOCK_SKEW_SECONDS`].
    pub fn issued_at(&self) -> UnixTime {
        issued_at(self.not_before)
    }
}

impl Verifier {
    /// A verifier that trusts `bundle`, less `revocations`.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn new(bundle: TrustBundle, revocations: Revocations) -> Result<Self, BundleError> {
        bundle.check()?;
        let anchors = bundle
            .anchors
            .iter()
            .enumerate()
            .map(|(index, der)| {
                webpki::anchor_from_trusted_cert(der)
                    .map(|anchor| anchor.to_owned())
                    .map_err(|_| BundleError::Certificate { index })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            bundle: Arc::new(bundle),
            anchors,
            revocations,
        })
    }

    /// The same with other revocations.
    #[must_use]
    pub fn with_revocations(&self, revocations: Revocations) -> Self {
        Self {
            bundle: Arc::clone(&self.bundle),
            anchors: Arc::clone(&self.anchors),
            revocations,
        }
    }

    /// What it trusts.
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// What it does not trust any more.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// Its trust domain.
    pub fn domain(&self) -> &TrustDomain {
        &self.bundle.domain
    }

    /// Verifies a chain, leaf first, at a moment. The caller has proof that the peer holds the leaf's key (a TLS handshake, or a
    /// signature that it checks with [`Verified::key`]).
    ///
    /// # Errors
    /// The [`Reason`] to refuse it.
    pub fn verify(&self, chain: &[CertificateDer<'_>], at: UnixTime) -> Result<Verified, Reason> {
        let (leaf_der, presented) = chain.split_first().ok_or(Reason::NoCertificate)?;
        if chain.len() > CHAIN_CERTIFICATES_MAX {
            return Err(Reason::ChainTooLarge);
        }
        let parsed = certificate::parse(leaf_der)?;
        certificate::leaf_key(&parsed)?;
        self.path(leaf_der, presented, at)?;
        let leaf = Leaf::read(&parsed)?;
        self.check(&leaf)?;
        Ok(Verified {
            subject: leaf.subject,
            uri: leaf.uri,
            serial: leaf.serial,
            key: leaf.key,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            leaf_der: leaf_der.as_ref().into(),
        })
    }

    /// Verifies a chain and that its leaf is for `key`: for whoever has the peer's key from elsewhere (an MLS leaf, a signed
    /// statement).
    ///
    /// # Errors
    /// The [`Reason`] to refuse it; [`Reason::KeyMismatch`] for another key.
    pub fn verify_for_key(
        &self,
        chain: &[CertificateDer<'_>],
        key: &[u8; 32],
        at: UnixTime,
    ) -> Result<Verified, Reason> {
        let verified = self.verify(chain, at)?;
        if verified.key == *key {
            Ok(verified)
        } else {
            Err(Reason::KeyMismatch)
        }
    }

    /// Whether somebody who was verified before is still good: for connections that live on after a change.
    ///
    /// # Errors
    /// [`Reason::Revoked`] or [`Reason::Expired`].
    pub fn recheck(&self, verified: &Verified, at: UnixTime) -> Result<(), Reason> {
        if at > verified.not_after {
            return Err(Reason::Expired);
        }
        let revoked =
            self.revocations
                .is_revoked(Some(&verified.serial), &verified.uri, verified.issued_at());
        if revoked { Err(Reason::Revoked) } else { Ok(()) }
    }

    /// A path of signatures to an anchor, every certificate in time, none revoked.
    fn path(
        &self,
        leaf: &CertificateDer<'_>,
        presented: &[CertificateDer<'_>],
        at: UnixTime,
    ) -> Result<(), Reason> {
        let end_entity = EndEntityCert::try_from(leaf).map_err(|error| refusal(&error))?;
        let intermediates: Vec<CertificateDer<'_>> = presented
            .iter()
            .chain(&self.bundle.intermediates)
            .map(|der| CertificateDer::from(der.as_ref()))
            .collect();
        let path = end_entity
            .verify_for_usage(
                CHAIN_SIGNATURES,
                &self.anchors,
                &intermediates,
                at,
                AnyUsage,
                None,
                None,
            )
            .map_err(|error| refusal(&error))?;
        let revoked = path.intermediate_certificates().any(|authority| {
            Serial::from_bytes(authority.serial())
                .is_ok_and(|serial| self.revocations.is_serial_revoked(&serial))
        });
        if revoked { Err(Reason::Revoked) } else { Ok(()) }
    }

    fn check(&self, leaf: &Leaf) -> Result<(), Reason> {
        if leaf.domain != self.bundle.domain {
            return Err(Reason::WrongTrustDomain);
        }
        let serves = leaf.server_auth || !matches!(leaf.subject, Subject::Node(_));
        if !(leaf.client_auth && leaf.digital_signature && serves) {
            return Err(Reason::UsageNotAllowed);
        }
        let life = leaf.not_after.as_secs().saturating_sub(leaf.not_before.as_secs());
        if life > u64::from(self.bundle.leaf_ttl_seconds_max) + CLOCK_SKEW_SECONDS {
            return Err(Reason::LifetimeTooLong);
        }
        let revoked = self
            .revocations
            .is_revoked(Some(&leaf.serial), &leaf.uri, issued_at(leaf.not_before));
        if revoked { Err(Reason::Revoked) } else { Ok(()) }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("domain", &self.bundle.domain)
            .field("version", &self.bundle.version)
            .field("revocations", &self.revocations.number())
            .finish()
    }
}

/// Whether a verified leaf is also for a host.
pub(crate) fn is_for_host(leaf: &CertificateDer<'_>, host: &ServerName<'_>) -> bool {
    EndEntityCert::try_from(leaf).is_ok_and(|leaf| leaf.verify_is_valid_for_subject_name(host).is_ok())
}

/// Verifies a server's chain to authorities that are known by nothing but their certificates: for who has no bundle yet.
pub(crate) fn verify_pinned(
    authorities: &[&CertificateDer<'_>],
    chain: &[CertificateDer<'_>],
    at: UnixTime,
) -> Result<(), Reason> {
    let (leaf, presented) = chain.split_first().ok_or(Reason::NoCertificate)?;
    if chain.len() > CHAIN_CERTIFICATES_MAX {
        return Err(Reason::ChainTooLarge);
    }
    let parsed = certificate::parse(leaf)?;
    let anchors: Vec<TrustAnchor<'_>> = authorities
        .iter()
        .filter(|authority| certificate::is_authority(authority))
        .filter_map(|authority| webpki::anchor_from_trusted_cert(authority).ok())
        .collect();
    let end_entity = EndEntityCert::try_from(leaf).map_err(|error| refusal(&error))?;
    end_entity
        .verify_for_usage(CHAIN_SIGNATURES, &anchors, presented, at, AnyUsage, None, None)
        .map_err(|error| refusal(&error))?;
    if Leaf::read(&parsed)?.server_auth {
        Ok(())
    } else {
        Err(Reason::UsageNotAllowed)
    }
}

/// The usage of the leaf is checked with its subject; authorities need none.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

fn issued_at(not_before: UnixTime) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(
        not_before.as_secs() + CLOCK_SKEW_SECONDS,
    ))
}

fn refusal(error: &webpki::Error) -> Reason {
    use webpki::Error as E;
    match error {
        E::CertExpired { .. } => Reason::Expired,
        E::CertNotValidYet { .. } => Reason::NotYetValid,
        E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
        | E::SignatureAlgorithmMismatch => Reason::KeyTypeNotAllowed,
        E::UnknownIssuer
        | E::InvalidSignatureForPublicKey
        | E::EndEntityUsedAsCa
        | E::PathLenConstraintViolated
        | E::NameConstraintViolation
        | E::CertDistrusted => Reason::UnknownIssuer,
        E::CaUsedAsEndEntity => Reason::UsageNotAllowed,
        E::MaximumPathBuildCallsExceeded
        | E::MaximumPathDepthExceeded
        | E::MaximumSignatureChecksExceeded
        | E::MaximumNameConstraintComparisonsExceeded => Reason::ChainTooLarge,
        _ => Reason::Malformed,
    }
}

/// The verifier of the moment, for those who live longer than it.
#[derive(Debug)]
pub struct SharedVerifier(ArcSwap<Verifier>);

impl SharedVerifier {
    /// Starts with one.
    pub fn new(verifier: Verifier) -> Self {
        Self(ArcSwap::from_pointee(verifier))
    }

    /// The verifier of the moment. Ask again for each credential.
    pub fn load(&self) -> Arc<Verifier> {
        self.0.load_full()
    }

    /// Replaces it. Those who still use the old one finish with it.
    pub fn swap(&self, verifier: Verifier) {
        self.0.store(Arc::new(verifier));
    }
}
