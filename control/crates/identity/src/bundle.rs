//! What a trust domain is verified with.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::subject::TrustDomain;
use crate::{AgentKey, sha256};

/// Most anchors, intermediates and token keys of a bundle, each. A rotation has two of each for a while; sixteen leave room
/// for several authorities and bound what a verification can be made to search.
pub const BUNDLE_ENTRIES_MAX: usize = 16;
/// Longest life of a leaf in seconds where the bundle does not say less: seven days (MLS.md §1.2).
pub const LEAF_TTL_SECONDS_MAX: u32 = 7 * 24 * 3600;

/// Why nothing can be verified with a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BundleError {
    /// Without an anchor nobody can be trusted.
    #[error("the trust bundle has no anchor; get it from the control process again")]
    NoAnchor,
    /// More than any trust domain has.
    #[error(
        "the trust bundle has more than {BUNDLE_ENTRIES_MAX} anchors, intermediates or token keys; remove those that are out of use"
    )]
    TooLarge,
    /// An anchor or intermediate that is no certificate.
    #[error(
        "anchor or intermediate {index} of the trust bundle is not a certificate authority's; it must be DER"
    )]
    Certificate {
        /// Which, counted from 0, anchors first.
        index: usize,
    },
    /// Leaves could live for ever.
    #[error("the longest life of a leaf must be 1 to {LEAF_TTL_SECONDS_MAX} seconds")]
    LeafTtl,
}

/// An Ed25519 key that signs bearer tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// Its name in a token's header (`kid`).
    pub id: String,
    /// The raw public key (RFC 8032).
    pub public: [u8; 32],
}

/// Who is trusted in a trust domain, and for how long. Checked when a [`Verifier`](crate::Verifier) is made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    /// The trust domain that all leaves must be of.
    pub domain: TrustDomain,
    /// Root certificates. A leaf is good if it has a path to one of them.
    pub anchors: Vec<CertificateDer<'static>>,
    /// Issuing certificates, for chains that lack them. They give no trust themselves.
    pub intermediates: Vec<CertificateDer<'static>>,
    /// Keys whose bearer tokens are good.
    pub token_keys: Vec<TokenKey>,
    /// Longest life of a leaf or token, in seconds.
    pub leaf_ttl_seconds_max: u32,
    /// Counts changes; never goes back. Who holds version `n` ignores all below.
    pub version: u64,
}

impl TrustBundle {
    /// Checks what can be checked without a credential.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn check(&self) -> Result<(), BundleError> {
        if self.anchors.is_empty() {
            return Err(BundleError::NoAnchor);
        }
        let longest = self
            .anchors
            .len()
            .max(self.intermediates.len())
            .max(self.token_keys.len());
        if longest > BUNDLE_ENTRIES_MAX {
            return Err(BundleError::TooLarge);
        }
        if !(1..=LEAF_TTL_SECONDS_MAX).contains(&self.leaf_ttl_seconds_max) {
            return Err(BundleError::LeafTtl);
        }
        let bad = self
            .anchors
            .iter()
            .chain(&self.intermediates)
            .position(|der| !crate::certificate::is_authority(der));
        match bad {
            Some(index) => Err(BundleError::Certificate { index }),
            None => Ok(()),
        }
    }
}

/// SHA-256 of a certificate: what an agent is told to recognise a control process by before it has a trust bundle.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// Why something is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "not a fingerprint; write the 64 hexadecimal digits that the control process printed, with or without ':'"
)]
#[non_exhaustive]
pub struct FingerprintError;

impl Fingerprint {
    /// That of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(sha256(certificate))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let digits: Vec<u8> = text
            .chars()
            .filter(|&c| c != ':')
            .map(|c| c.to_digit(16).map(|digit| digit as u8).ok_or(FingerprintError))
            .collect::<Result<_, _>>()?;
        if digits.len() != 64 {
            return Err(FingerprintError);
        }
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Self(out))
    }
}

/// A bundle as it lies in a keystore.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredBundle {
    domain: String,
    anchors: Vec<String>,
    intermediates: Vec<String>,
    token_keys: Vec<(String, String)>,
    leaf_ttl_seconds_max: u32,
    version: u64,
}

impl From<&TrustBundle> for StoredBundle {
    fn from(bundle: &TrustBundle) -> Self {
        let texts = |ders: &[CertificateDer<'_>]| ders.iter().map(|der| STANDARD.encode(der)).collect();
        Self {
            domain: bundle.domain.to_string(),
            anchors: texts(&bundle.anchors),
            intermediates: texts(&bundle.intermediates),
            token_keys: bundle
                .token_keys
                .iter()
                .map(|key| (key.id.clone(), STANDARD.encode(key.public)))
                .collect(),
            leaf_ttl_seconds_max: bundle.leaf_ttl_seconds_max,
            version: bundle.version,
        }
    }
}

impl StoredBundle {
    /// The bundle, or `None` if this is no stored bundle.
    pub(crate) fn open(&self) -> Option<TrustBundle> {
        Some(TrustBundle {
            domain: TrustDomain::new(&self.domain).ok()?,
            anchors: certificates(&self.anchors)?,
            intermediates: certificates(&self.intermediates)?,
            token_keys: self
                .token_keys
                .iter()
                .map(|(id, public)| {
                    Some(TokenKey {
                        id: id.clone(),
                        public: STANDARD.decode(public).ok()?.try_into().ok()?,
                    })
                })
                .collect::<Option<_>>()?,
            leaf_ttl_seconds_max: self.leaf_ttl_seconds_max,
            version: self.version,
        })
    }
}

/// Certificates from their base64 texts.
pub(crate) fn certificates(texts: &[String]) -> Option<Vec<CertificateDer<'static>>> {
    texts
        .iter()
        .map(|text| STANDARD.decode(text).ok().map(CertificateDer::from))
        .collect()
}

impl TokenKey {
    /// The public half of a signing key; its name is the key's RFC 7638 thumbprint, so that two keys never share one.
    pub fn of(key: &AgentKey) -> Self {
        Self {
            id: key.thumbprint(),
            public: *key.public(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_reads_what_it_writes() {
        let fingerprint = Fingerprint::of(&CertificateDer::from(&b"certificate"[..]));
        let text = fingerprint.to_string();
        assert_eq!(text.parse(), Ok(fingerprint));
        let colons: Vec<String> = text
            .as_bytes()
            .chunks(2)
            .map(|pair| String::from_utf8_lossy(pair).to_uppercase())
            .collect();
        assert_eq!(colons.join(":").parse(), Ok(fingerprint));
        for text in ["", "00", &"0".repeat(63), &"0".repeat(66), &"g".repeat(64)] {
            assert_eq!(text.parse::<Fingerprint>(), Err(FingerprintError), "{text}");
        }
    }
}
