//! Bearer tokens that are bound to a key, and the proofs that go with them (RFC 9449, DPoP).
//!
//! For clients that cannot present a certificate. The token is a JWT of type `at+jwt` (RFC 9068) that names the holder and, in
//! `cnf.jkt`, the thumbprint of its key. Each call carries a proof besides: a JWT of type `dpop+jwt`, made for that call and
//! signed with that key. Both are signed with Ed25519 (`EdDSA`, RFC 8037), and nothing else is accepted.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Uri;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rustls::pki_types::UnixTime;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::key::{KeyError, thumbprint};
use crate::replay::{ProofId, ReplayCache};
use crate::subject::Subject;
use crate::{AgentKey, CLOCK_SKEW_SECONDS, Reason, Serial, Verifier, sha256};

/// How old a proof may be, in seconds. A proof is made for the call it goes with; a minute covers a slow connection.
pub const PROOF_AGE_SECONDS_MAX: u64 = 60;
/// Longest token or proof in bytes. A token with the longest name is below 6 KiB.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// `typ` of a token (RFC 9068 §2.1).
pub(crate) const TOKEN_TYPE: &str = "at+jwt";
/// `typ` of a proof (RFC 9449 §4.2).
const PROOF_TYPE: &str = "dpop+jwt";
/// Bytes of a proof's id, at most. RFC 9449 §4.2 asks for 96 random bits; this leaves room for any UUID.
const PROOF_ID_BYTES_MAX: usize = 128;

/// The call that a proof must be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProofTarget<'a> {
    /// The HTTP method: `POST` for gRPC.
    pub method: &'a str,
    /// The URI of the call as the client sees it: `https://host:port/agp.v1.AgentGateway/Open`. Query and fragment do not count.
    pub uri: &'a str,
}

/// Somebody whose token and proof were verified.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedToken {
    /// Who it is.
    pub subject: Subject,
    /// The subject as URI, with its trust domain.
    pub uri: String,
    /// The certificate by which the holder got the token; revoking that revokes this.
    pub serial: Option<Serial>,
    /// The Ed25519 key that the token is bound to and that signed the proof.
    pub key: [u8; 32],
    /// When it was issued.
    pub issued_at: UnixTime,
    /// Its last second: a call must not outlive it.
    pub not_after: UnixTime,
}

/// The claims of a token.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TokenClaims {
    pub(crate) iss: String,
    pub(crate) aud: String,
    pub(crate) sub: String,
    pub(crate) client_id: String,
    pub(crate) iat: u64,
    pub(crate) exp: u64,
    pub(crate) jti: String,
    pub(crate) cnf: Confirmation,
    /// The number of the certificate that the holder showed for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) serial: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Confirmation {
    pub(crate) jkt: String,
}

/// The claims of a proof.
#[derive(Debug, Serialize, Deserialize)]
struct ProofClaims {
    jti: String,
    htm: String,
    htu: String,
    iat: u64,
    ath: Option<String>,
}

/// What is read of a header; `crit` and members of a private key only to refuse them.
#[derive(Deserialize)]
struct ReadHeader {
    typ: Option<String>,
    alg: String,
    kid: Option<String>,
    jwk: Option<ReadKey>,
    crit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct ReadKey {
    kty: String,
    crv: Option<String>,
    x: Option<String>,
    d: Option<IgnoredAny>,
}

/// Makes the proof for one call: the value of its `dpop` header. `id` must never be used again; make it of 16 random bytes.
///
/// # Errors
/// [`KeyError::Library`].
pub fn proof(
    key: &AgentKey,
    method: &str,
    uri: &str,
    token: &str,
    now: UnixTime,
    id: [u8; 16],
) -> Result<String, KeyError> {
    let mut header = header(PROOF_TYPE);
    header.jwk = Some(public_jwk(key));
    let claims = ProofClaims {
        jti: URL_SAFE_NO_PAD.encode(id),
        htm: method.to_owned(),
        htu: uri.to_owned(),
        iat: now.as_secs(),
        ath: Some(token_hash(token)),
    };
    sign(&header, &claims, key)
}

/// A random id for one proof.
///
/// # Errors
/// [`KeyError::Library`].
pub fn random_id() -> Result<[u8; 16], KeyError> {
    let mut id = [0; 16];
    aws_lc_rs::rand::fill(&mut id).map_err(|_| KeyError::Library)?;
    Ok(id)
}

/// A header of this type for Ed25519.
pub(crate) fn header(kind: &str) -> Header {
    let mut header = Header::new(Algorithm::EdDSA);
    header.typ = Some(kind.to_owned());
    header
}

/// A signed JWT.
pub(crate) fn sign<C: Serialize>(header: &Header, claims: &C, key: &AgentKey) -> Result<String, KeyError> {
    let signing = EncodingKey::from_ed_der(&key.to_pkcs8()?);
    jsonwebtoken::encode(header, claims, &signing).map_err(|_| KeyError::Library)
}

fn public_jwk(key: &AgentKey) -> jsonwebtoken::jwk::Jwk {
    use jsonwebtoken::jwk::{
        AlgorithmParameters, CommonParameters, EllipticCurve, Jwk, OctetKeyPairParameters, OctetKeyPairType,
    };
    Jwk {
        common: CommonParameters::default(),
        algorithm: AlgorithmParameters::OctetKeyPair(OctetKeyPairParameters {
            key_type: OctetKeyPairType::OctetKeyPair,
            curve: EllipticCurve::Ed25519,
            x: URL_SAFE_NO_PAD.encode(key.public()),
        }),
    }
}

fn token_hash(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(sha256(token.as_bytes()))
}

impl Verifier {
    /// Verifies a token and the proof of one call, and enters the proof in `replays`.
    ///
    /// # Errors
    /// The [`Reason`] to refuse the call.
    pub fn verify_token(
        &self,
        token: &str,
        proof: &str,
        expected: &ProofTarget<'_>,
        at: UnixTime,
        replays: &mut ReplayCache,
    ) -> Result<VerifiedToken, Reason> {
        let (verified, proof) = self.verify_token_unentered(token, proof, expected, at)?;
        replays.enter(proof, at)?;
        Ok(verified)
    }

    /// Verifies a token and the proof of one call, but for whether the proof is new. The caller enters it in the
    /// [`ReplayCache`] that sees all proofs for this URI, before it lets anybody in: for those whose cache is elsewhere.
    ///
    /// # Errors
    /// The [`Reason`] to refuse the call.
    pub fn verify_token_unentered(
        &self,
        token: &str,
        proof: &str,
        expected: &ProofTarget<'_>,
        at: UnixTime,
    ) -> Result<(VerifiedToken, ProofId), Reason> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Reason::TokenMalformed);
        }
        if proof.is_empty() {
            return Err(Reason::ProofMissing);
        }
        if proof.len() > TOKEN_BYTES_MAX {
            return Err(Reason::ProofMalformed);
        }
        let claims = self.token_claims(token)?;
        let (subject, serial) = self.check_token(&claims, at)?;
        let (key, proved) = proof_claims(proof)?;
        if thumbprint(&key) != claims.cnf.jkt {
            return Err(Reason::KeyMismatch);
        }
        check_proof(&proved, token, expected, at)?;
        let verified = VerifiedToken {
            subject,
            serial,
            key,
            issued_at: seconds(claims.iat),
            not_after: seconds(claims.exp),
            uri: claims.sub,
        };
        Ok((verified, ProofId::of(&claims.cnf.jkt, &proved.jti)))
    }

    /// Whether somebody who was verified by token before is still good.
    ///
    /// # Errors
    /// [`Reason::Revoked`] or [`Reason::Expired`].
    pub fn recheck_token(&self, verified: &VerifiedToken, at: UnixTime) -> Result<(), Reason> {
        if at > verified.not_after {
            return Err(Reason::Expired);
        }
        let revoked =
            self.revocations()
                .is_revoked(verified.serial.as_ref(), &verified.uri, verified.issued_at);
        if revoked { Err(Reason::Revoked) } else { Ok(()) }
    }

    fn token_claims(&self, token: &str) -> Result<TokenClaims, Reason> {
        let header = read_header(token, TOKEN_TYPE)
            .filter(ReadHeader::is_ed25519)
            .ok_or(Reason::TokenMalformed)?;
        let id = header.kid.ok_or(Reason::TokenMalformed)?;
        let keys = &self.bundle().token_keys;
        let key = keys
            .iter()
            .find(|key| key.id == id)
            .ok_or(Reason::TokenSignature)?;
        read_claims(token, &key.public, Reason::TokenMalformed, Reason::TokenSignature)
    }

    fn check_token(&self, claims: &TokenClaims, at: UnixTime) -> Result<(Subject, Option<Serial>), Reason> {
        let domain = self.domain().uri();
        if claims.iss != domain || claims.aud != domain {
            return Err(Reason::WrongTrustDomain);
        }
        let (domain, subject) = Subject::parse(&claims.sub).map_err(|_| Reason::SubjectMalformed)?;
        if domain != *self.domain() {
            return Err(Reason::WrongTrustDomain);
        }
        if at.as_secs() > claims.exp {
            return Err(Reason::Expired);
        }
        if claims.iat > at.as_secs().saturating_add(CLOCK_SKEW_SECONDS) {
            return Err(Reason::NotYetValid);
        }
        if claims.exp.saturating_sub(claims.iat) > u64::from(self.bundle().leaf_ttl_seconds_max) {
            return Err(Reason::LifetimeTooLong);
        }
        let serial: Option<Serial> = match &claims.serial {
            Some(text) => Some(text.parse().map_err(|_| Reason::TokenMalformed)?),
            None => None,
        };
        let revoked = self
            .revocations()
            .is_revoked(serial.as_ref(), &claims.sub, seconds(claims.iat));
        if revoked {
            Err(Reason::Revoked)
        } else {
            Ok((subject, serial))
        }
    }
}

/// Reads a proof and verifies that it is signed with the key in its header: that key, and what it says.
fn proof_claims(proof: &str) -> Result<([u8; 32], ProofClaims), Reason> {
    let header = read_header(proof, PROOF_TYPE).ok_or(Reason::ProofMalformed)?;
    let jwk = header.jwk.as_ref().ok_or(Reason::ProofMalformed)?;
    if jwk.kty != "OKP" || jwk.crv.as_deref() != Some("Ed25519") {
        return Err(Reason::KeyTypeNotAllowed);
    }
    if !header.is_ed25519() || jwk.d.is_some() {
        return Err(Reason::ProofMalformed); // RFC 9449 §4.3, 7: never with the private key
    }
    let key: [u8; 32] = jwk
        .x
        .as_ref()
        .and_then(|x| URL_SAFE_NO_PAD.decode(x).ok())
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(Reason::ProofMalformed)?;
    let claims = read_claims(proof, &key, Reason::ProofMalformed, Reason::ProofSignature)?;
    Ok((key, claims))
}

/// RFC 9449 §4.3, 8 to 12.
fn check_proof(
    claims: &ProofClaims,
    token: &str,
    expected: &ProofTarget<'_>,
    at: UnixTime,
) -> Result<(), Reason> {
    if claims.jti.is_empty() || claims.jti.len() > PROOF_ID_BYTES_MAX {
        return Err(Reason::ProofMalformed);
    }
    let ath = claims.ath.as_deref().ok_or(Reason::ProofMalformed)?;
    if claims.htm != expected.method || !same_uri(&claims.htu, expected.uri) || ath != token_hash(token) {
        return Err(Reason::ProofMismatch);
    }
    let oldest = at.as_secs().saturating_sub(PROOF_AGE_SECONDS_MAX);
    let newest = at.as_secs().saturating_add(CLOCK_SKEW_SECONDS);
    if (oldest..=newest).contains(&claims.iat) {
        Ok(())
    } else {
        Err(Reason::ProofStale)
    }
}

/// Whether two URIs are the same but for query, fragment, letter case of scheme and host, and a default port (RFC 3986 §6.2).
fn same_uri(left: &str, right: &str) -> bool {
    fn parts(uri: &str) -> Option<(String, String, u16, String)> {
        let uri: Uri = uri.split('#').next()?.parse().ok()?;
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let port = match (uri.port_u16(), scheme.as_str()) {
            (Some(port), _) => port,
            (None, "https") => 443,
            (None, "http") => 80,
            _ => return None,
        };
        Some((
            scheme,
            uri.host()?.to_ascii_lowercase(),
            port,
            uri.path().to_owned(),
        ))
    }
    match (parts(left), parts(right)) {
        (Some(left), Some(right)) => left == right,
        _ => false,
    }
}

impl ReadHeader {
    /// Whether the JWT says that it is signed with Ed25519.
    fn is_ed25519(&self) -> bool {
        self.alg == "EdDSA"
    }
}

/// The header of a JWT of this type that asks for nothing that is not known here.
fn read_header(jwt: &str, kind: &str) -> Option<ReadHeader> {
    let (first, _) = jwt.split_once('.')?;
    let header: ReadHeader = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(first).ok()?).ok()?;
    let good = header
        .typ
        .as_deref()
        .is_some_and(|typ| typ.eq_ignore_ascii_case(kind))
        && header.crit.is_none();
    good.then_some(header)
}

/// The claims of a JWT that this key signed. Times are checked by the caller, who has the time.
fn read_claims<C: DeserializeOwned>(
    jwt: &str,
    key: &[u8; 32],
    malformed: Reason,
    signature: Reason,
) -> Result<C, Reason> {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    jsonwebtoken::decode(jwt, &DecodingKey::from_ed_der(key), &validation)
        .map(|data| data.claims)
        .map_err(|error| match error.kind() {
            jsonwebtoken::errors::ErrorKind::InvalidSignature => signature,
            _ => malformed,
        })
}

fn seconds(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_compared_without_what_does_not_count() {
        let open = "https://gw.example:443/agp.v1.AgentGateway/Open";
        for same in [
            "https://gw.example/agp.v1.AgentGateway/Open",
            "HTTPS://GW.example/agp.v1.AgentGateway/Open?x=1",
            "https://gw.example/agp.v1.AgentGateway/Open#x",
        ] {
            assert!(same_uri(open, same), "{same}");
        }
        for other in [
            "",
            "/agp.v1.AgentGateway/Open",
            "http://gw.example/agp.v1.AgentGateway/Open",
            "https://gw.example:444/agp.v1.AgentGateway/Open",
            "https://gw2.example/agp.v1.AgentGateway/Open",
            "https://gw.example/agp.v1.AgentGateway/open",
            "https://gw.example/",
        ] {
            assert!(!same_uri(open, other), "{other}");
        }
        assert!(!same_uri("x", "x"));
    }
}
