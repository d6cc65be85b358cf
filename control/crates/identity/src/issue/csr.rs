//! Certificate requests (PKCS#10, RFC 2986).

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};
use thiserror::Error;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ED25519};
use x509_parser::prelude::FromDer;

use crate::SERVER_KEY_BYTES;
use crate::certificate::{ed25519_key, p256_key};

/// Largest request in bytes. One for the longest name is below 4 KiB.
pub const CSR_BYTES_MAX: usize = 16 * 1024;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CsrError {
    /// No request, or too large a one.
    #[error(
        "the certificate request cannot be read; it must be PKCS#10 in DER of at most {CSR_BYTES_MAX} bytes"
    )]
    Malformed,
    /// Its signature is not of the key it is for.
    #[error("the certificate request is not signed by the key that it is for; sign it with that key")]
    BadSignature,
    /// Another key than Ed25519, or for a server's certificate than ECDSA P-256.
    #[error(
        "the key type is not allowed; use an Ed25519 key, and ECDSA P-256 for a server's second certificate"
    )]
    KeyTypeNotAllowed,
    /// More than one URI.
    #[error(
        "the certificate request names more than one subject; ask for one, or leave the name to the authority"
    )]
    SeveralSubjects,
}

impl CsrError {
    /// The stable name, as in `google.rpc.ErrorInfo.reason`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "CSR_MALFORMED",
            Self::BadSignature => "CSR_BAD_SIGNATURE",
            Self::KeyTypeNotAllowed => "KEY_TYPE_NOT_ALLOWED",
            Self::SeveralSubjects => "SEVERAL_SUBJECTS",
        }
    }
}

/// What a request says. Its sender holds the key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CsrFacts<K = [u8; 32]> {
    /// The key to certify.
    pub key: K,
    /// The URI it asks for, if it does; whether that is granted is for others to say.
    pub uris: Vec<String>,
}

/// Reads a request and verifies that its sender holds the key (proof of possession).
///
/// # Errors
/// [`CsrError`].
pub fn check_csr(der: &[u8]) -> Result<CsrFacts, CsrError> {
    let request = read(der)?;
    let info = &request.certification_request_info;
    let signature = &request.signature_value.data;
    let key = ed25519_key(&info.subject_pki).ok_or(CsrError::KeyTypeNotAllowed)?;
    if request.signature_algorithm.algorithm != OID_SIG_ED25519 {
        return Err(CsrError::KeyTypeNotAllowed);
    }
    UnparsedPublicKey::new(&ED25519, key)
        .verify(info.raw, signature)
        .map_err(|_| CsrError::BadSignature)?;
    // The parser forgives what the signature does not cover; one request must have one encoding.
    if der != envelope(info.raw, signature) {
        return Err(CsrError::Malformed);
    }
    Ok(CsrFacts {
        key,
        uris: uris(&request)?,
    })
}

/// The same for a server's second certificate, whose key is ECDSA P-256.
///
/// # Errors
/// [`CsrError`].
pub fn check_server_csr(der: &[u8]) -> Result<CsrFacts<[u8; SERVER_KEY_BYTES]>, CsrError> {
    let request = read(der)?;
    let info = &request.certification_request_info;
    let key = p256_key(&info.subject_pki).ok_or(CsrError::KeyTypeNotAllowed)?;
    if request.signature_algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256 {
        return Err(CsrError::KeyTypeNotAllowed);
    }
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
        .verify(info.raw, &request.signature_value.data)
        .map_err(|_| CsrError::BadSignature)?;
    Ok(CsrFacts {
        key,
        uris: uris(&request)?,
    })
}

fn read(der: &[u8]) -> Result<X509CertificationRequest<'_>, CsrError> {
    if der.len() > CSR_BYTES_MAX {
        return Err(CsrError::Malformed);
    }
    match X509CertificationRequest::from_der(der) {
        Ok(([], request)) => Ok(request),
        _ => Err(CsrError::Malformed),
    }
}

fn uris(request: &X509CertificationRequest<'_>) -> Result<Vec<String>, CsrError> {
    let mut uris = Vec::new();
    for extension in request.requested_extensions().into_iter().flatten() {
        if let ParsedExtension::SubjectAlternativeName(names) = extension {
            uris.extend(names.general_names.iter().filter_map(|name| match name {
                GeneralName::URI(uri) => Some((*uri).to_owned()),
                _ => None,
            }));
        }
    }
    match uris.len() {
        0 | 1 => Ok(uris),
        _ => Err(CsrError::SeveralSubjects),
    }
}

/// The DER of a request around what is signed: SEQUENCE { info, AlgorithmIdentifier { id-Ed25519 }, BIT STRING }.
fn envelope(info: &[u8], signature: &[u8]) -> Vec<u8> {
    const ALGORITHM: [u8; 7] = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70]; // RFC 8410 §3
    const SIGNATURE: [u8; 3] = [0x03, 0x41, 0x00]; // 64 bytes, no unused bits
    let body = [info, &ALGORITHM, &SIGNATURE, signature].concat();
    let length = body.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|&&byte| byte == 0).count()..];
    let mut der = vec![0x30];
    if body.len() >= 0x80 {
        der.push(0x80 | significant.len() as u8);
    }
    der.extend(significant);
    der.extend(body);
    der
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AgentKey, Subject, TrustDomain};

    fn request() -> (AgentKey, Vec<u8>) {
        let key = AgentKey::generate().expect("random source");
        let domain = TrustDomain::new("acme.example").expect("valid");
        let subject = Subject::from_path("acme/demo/weather/1").expect("valid");
        let csr = key.csr(Some((&domain, &subject)), &[]).expect("request");
        (key, csr)
    }

    #[test]
    fn a_request_proves_possession_of_its_key() {
        let (key, csr) = request();
        let facts = check_csr(&csr).expect("good");
        assert_eq!(facts.key, *key.public());
        assert_eq!(facts.uris, ["agp://acme.example/acme/demo/weather/1"]);
    }

    #[test]
    fn t19_a_request_with_any_bit_flipped_is_refused() {
        let (_, csr) = request();
        for byte in 0..csr.len() {
            for bit in 0..8 {
                let mut tampered = csr.clone();
                tampered[byte] ^= 1 << bit;
                assert!(check_csr(&tampered).is_err(), "byte {byte} bit {bit}");
            }
        }
        let mut tampered = csr.clone();
        *tampered.last_mut().expect("not empty") ^= 1;
        assert_eq!(check_csr(&tampered), Err(CsrError::BadSignature));
        assert_eq!(check_csr(&csr[..csr.len() - 1]), Err(CsrError::Malformed));
        assert_eq!(check_csr(&[&csr[..], &[0]].concat()), Err(CsrError::Malformed));
        assert_eq!(
            check_csr(&vec![0x30; CSR_BYTES_MAX + 1]),
            Err(CsrError::Malformed)
        );
    }

    #[test]
    fn other_keys_are_refused() {
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_RSA_SHA256] {
            let key = rcgen::KeyPair::generate_for(algorithm).expect("key");
            let csr = rcgen::CertificateParams::default()
                .serialize_request(&key)
                .expect("request");
            assert_eq!(check_csr(csr.der()), Err(CsrError::KeyTypeNotAllowed));
        }
    }

    #[test]
    fn a_request_is_for_one_subject() {
        let (key, _) = request();
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = ["agp://acme.example/a/b/c/1", "agp://acme.example/a/b/c/2"]
            .map(|uri| rcgen::SanType::URI(uri.try_into().expect("ASCII")))
            .to_vec();
        let csr = params.serialize_request(&key).expect("request");
        assert_eq!(check_csr(csr.der()), Err(CsrError::SeveralSubjects));
    }

    #[test]
    fn a_servers_request_proves_possession_of_its_key() {
        let key = crate::ServerKey::generate().expect("random source");
        let domain = TrustDomain::new("acme.example").expect("valid");
        let subject = Subject::from_path("node/edge-1").expect("valid");
        let csr = key
            .csr(Some((&domain, &subject)), &["gateway.example".to_owned()])
            .expect("request");
        let facts = check_server_csr(&csr).expect("good");
        assert_eq!(facts.key, *key.public());
        assert_eq!(facts.uris, ["agp://acme.example/node/edge-1"]);
        let other = crate::ServerKey::generate().expect("random source");
        let at = csr
            .windows(facts.key.len())
            .position(|window| *window == facts.key)
            .expect("the key is in it");
        let mut swapped = csr.clone();
        swapped[at..at + facts.key.len()].copy_from_slice(other.public());
        assert_eq!(check_server_csr(&swapped), Err(CsrError::BadSignature));
        assert_eq!(check_server_csr(&csr[..csr.len() - 1]), Err(CsrError::Malformed));
        assert_eq!(check_csr(&csr), Err(CsrError::KeyTypeNotAllowed));
        assert_eq!(check_server_csr(&request().1), Err(CsrError::KeyTypeNotAllowed));
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        let (_, csr) = request();
        bolero::check!()
            .with_type::<(Vec<u8>, u16)>()
            .for_each(|(bytes, at)| {
                let _ = check_csr(bytes);
                let _ = check_server_csr(bytes);
                // Most random bytes fail at the first tag; so they are also put into a request.
                let mut spliced = csr.clone();
                let start = usize::from(*at) % spliced.len();
                for (place, byte) in spliced[start..].iter_mut().zip(bytes) {
                    *place = *byte;
                }
                let _ = check_csr(&spliced);
            });
    }
}
