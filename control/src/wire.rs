//! What is said on the wire and kept in the store, as the identity crate takes it.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use ringgate_identity::{CertificateDer, Revocation, Revoked, TokenKey, TrustBundle, TrustDomain, UnixTime};
use ringgate_proto::control::v1 as proto;
use sha2::{Digest as _, Sha256};

use crate::ledger::hex;

/// A moment in seconds since 1970; what is before is 1970.
#[must_use]
pub fn time(unix: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(unix).unwrap_or(0)))
}

/// Seconds since 1970.
#[must_use]
pub fn unix(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// A trust bundle with its tag.
#[must_use]
pub fn bundle_to_proto(bundle: &TrustBundle) -> proto::TrustBundle {
    let ders = |ders: &[CertificateDer<'_>]| ders.iter().map(|der| Bytes::copy_from_slice(der)).collect();
    let token_key = |key: &TokenKey| proto::TokenKey {
        id: key.id.clone(),
        public_key: Bytes::copy_from_slice(&key.public),
    };
    let mut out = proto::TrustBundle {
        trust_domain: bundle.domain.to_string(),
        anchors_der: ders(&bundle.anchors),
        intermediates_der: ders(&bundle.intermediates),
        token_keys: bundle.token_keys.iter().map(token_key).collect(),
        version: bundle.version,
        etag: String::new(),
        leaf_ttl_seconds_max: bundle.leaf_ttl_seconds_max,
    };
    out.etag = hex(&Sha256::digest(out.encode_to_vec())[..16]);
    out
}

/// A trust bundle; `None` if it is none.
#[must_use]
pub fn bundle_from_proto(bundle: &proto::TrustBundle) -> Option<TrustBundle> {
    let ders = |ders: &[Bytes]| {
        ders.iter()
            .map(|der| CertificateDer::from(der.to_vec()))
            .collect()
    };
    let token_key = |key: &proto::TokenKey| {
        let public = key.public_key[..].try_into().ok()?;
        Some(TokenKey {
            id: key.id.clone(),
            public,
        })
    };
    Some(TrustBundle {
        domain: TrustDomain::new(&bundle.trust_domain).ok()?,
        anchors: ders(&bundle.anchors_der),
        intermediates: ders(&bundle.intermediates_der),
        token_keys: bundle.token_keys.iter().map(token_key).collect::<Option<_>>()?,
        leaf_ttl_seconds_max: bundle.leaf_ttl_seconds_max,
        version: bundle.version,
    })
}

/// A revocation; `None` if it is none.
#[must_use]
pub fn revocation_from_proto(revocation: &proto::Revocation) -> Option<Revocation> {
    let revoked = match (revocation.serial.as_str(), revocation.issued_until_unix) {
        ("", 0) => Revoked::Identity(revocation.identity.clone()),
        ("", until) => Revoked::IdentityUntil(revocation.identity.clone(), time(until)),
        (serial, _) => Revoked::Serial(serial.parse().ok()?),
    };
    Some(Revocation {
        number: revocation.number,
        revoked,
        at: time(revocation.time_unix),
    })
}
