//! The cipher suites that groups may have.

use openmls::prelude::Ciphersuite;

use crate::MlsError;

/// The suite of groups that say nothing else: the mandatory one (RFC 9420 §17.1).
pub const DEFAULT: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

/// All that are allowed, the preferred first. Their signatures are Ed25519, as those of certificates are.
pub const ALLOWED: [Ciphersuite; 2] = [
    DEFAULT,
    Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519,
];

/// The same for people.
pub(crate) const LIST: &str =
    "0x0001 (X25519, AES-128-GCM, Ed25519) or 0x0003 (X25519, ChaCha20-Poly1305, Ed25519)";

/// The number of a suite (RFC 9420 §17.1).
#[must_use]
pub fn number(suite: Ciphersuite) -> u16 {
    suite.into()
}

/// The suite of a number, if it is allowed.
///
/// # Errors
/// [`MlsError::Ciphersuite`].
pub fn allowed(number: u16) -> Result<Ciphersuite, MlsError> {
    let known = ALLOWED.into_iter().find(|suite| self::number(*suite) == number);
    known.ok_or(MlsError::Ciphersuite(number))
}
