//! Credentials: certificates, bearer tokens, revocation; issued and verified by one implementation.
//!
//! The control process, the data plane and the SDK verify with this crate and nothing else, so that they cannot differ. A
//! credential is an X.509 chain whose leaf names one [`Subject`] and holds its Ed25519 key, or a bearer token that is bound to
//! such a key ([`token`]). Beside it, nodes have a certificate for an ECDSA key ([`ServerKey`]) that proves nothing here: clients
//! that take no other from a server verify it by the rules of the web.
//!
//! Invariants worth naming:
//!
//! * There is no [`Verified`] and no [`VerifiedToken`] but from a [`Verifier`], and no verifier without trust anchors.
//! * A [`Verifier`] never changes: a revocation or a new anchor makes another, which [`SharedVerifier`] hands to who asks next.
//! * Time comes in as an argument. Random numbers are drawn where keys, serial numbers and salts are made, and nowhere else.
//! * Every refusal is a [`Reason`], and every reason has a test with a real certificate.
#![forbid(unsafe_code)]

mod bundle;
mod certificate;
pub mod claim;
mod key;
mod reason;
mod replay;
mod revocation;
mod serial;
mod server_key;
mod subject;
mod verifier;
mod viewer_token;

#[cfg(feature = "issue")]
pub mod issue;
pub mod keystore;
pub mod tls;
pub mod token;

pub use bundle::{
    BUNDLE_ENTRIES_MAX, BundleError, Fingerprint, FingerprintError, LEAF_TTL_SECONDS_MAX, TokenKey,
    TrustBundle,
};
#[cfg(feature = "issue")]
pub use issue::Issuer;
pub use key::{AgentKey, KeyError, thumbprint};
pub use reason::Reason;
pub use replay::{PROOFS_DEFAULT, ProofId, ReplayCache};
pub use revocation::{REVOCATIONS_MAX, Revocation, RevocationError, Revocations, Revoked};
pub use rustls::pki_types::{CertificateDer, UnixTime};
pub use serial::{SERIAL_BYTES_MAX, Serial, SerialError};
pub use server_key::{SERVER_KEY_BYTES, ServerKey};
pub use subject::{
    ID_BYTES_MAX, NodeId, OperatorName, Pseudonym, Subject, SubjectError, TRUST_DOMAIN_BYTES_MAX,
    TrustDomain, URI_BYTES_MAX,
};
pub use token::{ProofTarget, VerifiedToken};
pub use verifier::{CHAIN_CERTIFICATES_MAX, SharedVerifier, Verified, Verifier};
pub use viewer_token::{VIEWER_CHALLENGE, VIEWER_TOKEN_BYTES_MIN, ViewerToken, ViewerTokenError};

/// How far the clocks of two machines may be apart, in seconds. Certificates are dated back by it, and a proof may come from
/// the future by it. Machines that keep time at all are within a second; half a minute forgives a late correction.
pub const CLOCK_SKEW_SECONDS: u64 = 30;

/// SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}
