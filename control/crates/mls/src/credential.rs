//! Certificates as MLS credentials (RFC 9420 §5.3): `Certificate certificates<V>`, leaf first.

use openmls::prelude::{Credential, CredentialType, CredentialWithKey};
use ringgate_identity::{AgentKey, CertificateDer, Subject, UnixTime, Verified, Verifier};

use crate::MlsError;

/// Bytes of a credential; a chain of two certificates with the longest name has some ten thousand.
pub const CREDENTIAL_BYTES_MAX: usize = 32 * 1024;

/// The credential of a chain, leaf first.
#[must_use]
pub fn of_chain(chain: &[CertificateDer<'_>]) -> Credential {
    let mut content = Vec::new();
    for certificate in chain {
        content.extend(length(certificate.len()));
        content.extend_from_slice(certificate);
    }
    Credential::new(CredentialType::X509, content)
}

/// The credential of a chain with the key of its leaf.
#[must_use]
pub fn with_key(chain: &[CertificateDer<'_>], key: &AgentKey) -> CredentialWithKey {
    CredentialWithKey {
        credential: of_chain(chain),
        signature_key: key.public().to_vec().into(),
    }
}

/// The chain of a credential, which nobody has verified.
///
/// # Errors
/// [`MlsError::CredentialType`].
pub fn chain(credential: &Credential) -> Result<Vec<CertificateDer<'static>>, MlsError> {
    let mut rest = credential.serialized_content();
    if credential.credential_type() != CredentialType::X509 || rest.len() > CREDENTIAL_BYTES_MAX {
        return Err(MlsError::CredentialType);
    }
    let mut chain = Vec::new();
    while !rest.is_empty() {
        let (certificate, behind) = opaque(rest).ok_or(MlsError::CredentialType)?;
        chain.push(CertificateDer::from(certificate.to_vec()));
        rest = behind;
    }
    Ok(chain)
}

/// Who a leaf is: the agent whom its certificate names, whose key is the leaf's.
///
/// # Errors
/// [`MlsError::CredentialType`], [`MlsError::Credential`], [`MlsError::NotAnAgent`].
pub fn verify(
    verifier: &Verifier,
    credential: &Credential,
    signature_key: &[u8],
    at: UnixTime,
) -> Result<Verified, MlsError> {
    let chain = chain(credential)?;
    let key = signature_key
        .try_into()
        .map_err(|_| MlsError::Credential(ringgate_identity::Reason::KeyMismatch))?;
    let verified = verifier
        .verify_for_key(&chain, key, at)
        .map_err(MlsError::Credential)?;
    match verified.subject {
        Subject::Agent(_) | Subject::Pseudonym(_) => Ok(verified),
        _ => Err(MlsError::NotAnAgent(verified.uri)),
    }
}

/// A length as RFC 9420 §2.1.2 writes it.
fn length(length: usize) -> Vec<u8> {
    match length {
        0..0x40 => vec![length as u8],
        0x40..0x4000 => (length as u16 | 0x4000).to_be_bytes().to_vec(),
        _ => (length as u32 | 0x8000_0000).to_be_bytes().to_vec(),
    }
}

/// Bytes with their length before them, and what is behind them.
fn opaque(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let first = *bytes.first()?;
    let width = 1_usize << (first >> 6);
    let (written, rest) = bytes.split_at_checked(width).filter(|_| width < 8)?;
    let length = written
        .iter()
        .skip(1)
        .fold(usize::from(first & 0x3f), |length, byte| {
            length << 8 | usize::from(*byte)
        });
    if self::length(length) != written {
        return None;
    }
    rest.split_at_checked(length)
}
