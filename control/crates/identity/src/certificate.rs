//! What a certificate says, read strictly.

use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ED25519};
use x509_parser::time::ASN1Time;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::subject::{Subject, TrustDomain};
use crate::{Reason, SERVER_KEY_BYTES, Serial};

/// Largest certificate in bytes. One with the longest name is below 5 KiB.
pub(crate) const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

/// What a leaf says of itself. Nothing here is verified but its form.
pub(crate) struct Leaf {
    pub(crate) key: [u8; 32],
    pub(crate) uri: String,
    pub(crate) domain: TrustDomain,
    pub(crate) subject: Subject,
    pub(crate) serial: Serial,
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    pub(crate) client_auth: bool,
    pub(crate) server_auth: bool,
    pub(crate) digital_signature: bool,
}

/// The key of a leaf, checked first: one cannot be trusted with any signature of another type.
pub(crate) fn leaf_key(certificate: &X509Certificate<'_>) -> Result<[u8; 32], Reason> {
    ed25519_key(certificate.public_key()).ok_or(Reason::KeyTypeNotAllowed)
}

impl Leaf {
    pub(crate) fn read(certificate: &X509Certificate<'_>) -> Result<Self, Reason> {
        let key = leaf_key(certificate)?;
        let (uri, hosts) = names(certificate)?;
        let (domain, subject) = Subject::parse(uri).map_err(|_| Reason::SubjectMalformed)?;
        if hosts > 0 && !matches!(subject, Subject::Node(_)) {
            return Err(Reason::SeveralSubjects);
        }
        let malformed = |_| Reason::Malformed;
        let usage = certificate.key_usage().map_err(malformed)?;
        let extended = certificate.extended_key_usage().map_err(malformed)?;
        Ok(Self {
            key,
            uri: uri.to_owned(),
            domain,
            subject,
            serial: Serial::from_bytes(certificate.raw_serial()).map_err(|_| Reason::Malformed)?,
            not_before: time(certificate.validity().not_before)?,
            not_after: time(certificate.validity().not_after)?,
            client_auth: extended.as_ref().is_some_and(|usage| usage.value.client_auth),
            server_auth: extended.as_ref().is_some_and(|usage| usage.value.server_auth),
            digital_signature: usage.is_some_and(|usage| usage.value.digital_signature()),
        })
    }
}

/// Parses one certificate, with nothing behind it.
pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Reason> {
    if der.len() > CERTIFICATE_BYTES_MAX {
        return Err(Reason::ChainTooLarge);
    }
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(Reason::Malformed),
    }
}

/// Whether this is a certificate of an authority.
pub(crate) fn is_authority(der: &CertificateDer<'_>) -> bool {
    parse(der).is_ok_and(|certificate| certificate.is_ca())
}

/// The raw key of an Ed25519 public key (RFC 8410 §4), or `None` for another.
pub(crate) fn ed25519_key(spki: &SubjectPublicKeyInfo<'_>) -> Option<[u8; 32]> {
    let key = &spki.subject_public_key;
    let plain = spki.algorithm.algorithm == OID_SIG_ED25519
        && spki.algorithm.parameters.is_none()
        && key.unused_bits == 0;
    if plain {
        key.data.as_ref().try_into().ok()
    } else {
        None
    }
}

/// The uncompressed point of a P-256 public key (RFC 5480 §2.1.1, §2.2), or `None` for another.
#[cfg(feature = "issue")]
pub(crate) fn p256_key(spki: &SubjectPublicKeyInfo<'_>) -> Option<[u8; SERVER_KEY_BYTES]> {
    let curve = spki.algorithm.parameters.as_ref()?.as_oid().ok()?;
    let key = &spki.subject_public_key;
    let plain = spki.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
        && curve == OID_EC_P256
        && key.unused_bits == 0;
    if plain {
        key.data.as_ref().try_into().ok()
    } else {
        None
    }
}

/// The one URI, and how many host names stand beside it.
fn names<'a>(certificate: &'a X509Certificate<'_>) -> Result<(&'a str, usize), Reason> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| Reason::Malformed)?
        .map(|extension| &extension.value.general_names);
    let mut uri = None;
    let mut hosts = 0;
    for name in names.into_iter().flatten() {
        match name {
            GeneralName::URI(text) if uri.is_none() => uri = Some(*text),
            GeneralName::DNSName(_) | GeneralName::IPAddress(_) => hosts += 1,
            GeneralName::Invalid(..) => return Err(Reason::Malformed),
            _ => return Err(Reason::SeveralSubjects),
        }
    }
    Ok((uri.ok_or(Reason::NoSubject)?, hosts))
}

fn time(time: ASN1Time) -> Result<UnixTime, Reason> {
    let seconds = u64::try_from(time.timestamp()).map_err(|_| Reason::Malformed)?;
    Ok(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}
