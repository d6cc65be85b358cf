//! The authority: what signs certificates, bearer tokens and revocation lists.
//!
//! It decides nothing: who may have which identity is the control process's to say before it asks for a signature. What it
//! signs, a [`Verifier`](crate::Verifier) with its bundle accepts.

mod authority;
mod csr;

use std::time::Duration;

use rcgen::{
    CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose, KeyIdMethod,
    KeyUsagePurpose, PublicKeyData, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use thiserror::Error;
use time::OffsetDateTime;

pub use self::authority::{Authority, ISSUING_TTL_SECONDS, ROOT_TTL_SECONDS};
pub use self::csr::{CSR_BYTES_MAX, CsrError, CsrFacts, check_csr, check_server_csr};

use crate::certificate;
use crate::key::{host_names, uri_name};
use crate::token::{Confirmation, TOKEN_TYPE, TokenClaims, header, sign};
use crate::{
    AgentKey, CLOCK_SKEW_SECONDS, Fingerprint, KeyError, NodeId, Pseudonym, Serial, Subject, TokenKey,
    TrustBundle, TrustDomain, Verifier,
};

/// Why something was not signed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The certificate request.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// The request names somebody else.
    #[error(
        "the request is for {requested}, but {granted} was granted; ask for the identity that is granted, or for none"
    )]
    IdentityMismatch {
        /// The URI in the request.
        requested: String,
        /// The URI that was to be certified.
        granted: String,
    },
    /// Host names for somebody who serves nobody.
    #[error("host names are for nodes; ask for none")]
    HostsNotAllowed,
    /// A key, or a host name that no certificate can hold.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The operator's own authority cannot be used.
    #[error("the authority cannot be used: {0}")]
    Authority(&'static str),
    /// The issuing certificate ends before what it would sign.
    #[error("the issuing certificate has expired; replace it")]
    AuthorityExpired,
}

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Issued {
    /// Leaf first, without the anchor.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's number.
    pub serial: Serial,
    /// The subject, as URI.
    pub uri: String,
    /// The key that was certified: raw Ed25519, or a server's uncompressed P-256 point.
    pub key: Box<[u8]>,
    /// The first second of its validity: a skew before it was issued.
    pub not_before: UnixTime,
    /// The last second of its validity.
    pub not_after: UnixTime,
}

/// A token that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IssuedToken {
    /// The JWT.
    pub token: String,
    /// Its last second.
    pub not_after: UnixTime,
}

/// The holder of an issuing certificate and its key, and of the key that signs tokens.
pub struct Issuer {
    domain: TrustDomain,
    anchor: CertificateDer<'static>,
    /// Issuing certificate first, then those between it and the anchor.
    authorities: Vec<CertificateDer<'static>>,
    signer: rcgen::Issuer<'static, AgentKey>,
    token_key: AgentKey,
    not_after: UnixTime,
}

impl Issuer {
    /// Takes the authority's files: made by [`Authority::create`], or the operator's own.
    ///
    /// # Errors
    /// [`IssueError::Authority`] says what does not fit.
    pub fn load(domain: TrustDomain, authority: &Authority) -> Result<Self, IssueError> {
        let anchor = one_certificate(&authority.root_pem)?;
        let mut authorities: Vec<_> = CertificateDer::pem_slice_iter(authority.issuing_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| IssueError::Authority("the issuing certificate is not PEM"))?;
        authorities.retain(|der| *der != anchor);
        let key = AgentKey::from_pem(&authority.issuing_key_pem)?;
        let token_key = AgentKey::from_pem(&authority.token_key_pem)?;
        let issuing = authorities.first().ok_or(IssueError::Authority(
            "there is no issuing certificate; the root must not sign leaves itself",
        ))?;
        let not_after = check_issuing(issuing, &key)?;
        let signer = rcgen::Issuer::from_ca_cert_der(issuing, key)
            .map_err(|_| IssueError::Authority("the issuing certificate cannot be read"))?;
        let issuer = Self {
            domain,
            anchor,
            authorities,
            signer,
            token_key,
            not_after,
        };
        issuer.check_path()?;
        Ok(issuer)
    }

    /// Signs a leaf for nobody and verifies it, so that an authority whose certificates nobody would accept is found
    /// at the start and not by the first agent.
    fn check_path(&self) -> Result<(), IssueError> {
        let key = AgentKey::generate()?;
        let subject = Subject::Pseudonym(Pseudonym::from_random([0; 16]));
        let csr = key.csr(None, &[])?;
        // Just before the issuing certificate ends: a moment at which it is valid, and no clock is asked.
        let before_end = self.not_after.as_secs().saturating_sub(60);
        let issued = self.issue(&csr, &subject, 30, &[], seconds(before_end))?;
        let bundle = self.bundle(1, crate::bundle::LEAF_TTL_SECONDS_MAX);
        let verifier = Verifier::new(bundle, crate::Revocations::default())
            .map_err(|_| IssueError::Authority("the root or issuing certificate is not an authority's"))?;
        verifier
            .verify(&issued.chain, seconds(before_end))
            .map(|_| ())
            .map_err(|_| IssueError::Authority("the issuing certificate has no valid path to the root"))
    }

    /// Its trust domain.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// What its credentials are verified with.
    pub fn bundle(&self, version: u64, leaf_ttl_seconds_max: u32) -> TrustBundle {
        TrustBundle {
            domain: self.domain.clone(),
            anchors: vec![self.anchor.clone()],
            intermediates: self.authorities.clone(),
            token_keys: vec![TokenKey::of(&self.token_key)],
            leaf_ttl_seconds_max,
            version,
        }
    }

    /// What an agent is told to recognise the control process by: the fingerprint of the issuing certificate, which every
    /// chain that this authority issues contains.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.authorities[0])
    }

    /// The last second of the issuing certificate.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// Certifies the key of a request for a subject, for `ttl_seconds` from `now`, or until the issuing certificate ends.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn issue(
        &self,
        csr_der: &[u8],
        subject: &Subject,
        ttl_seconds: u32,
        hosts: &[String],
        now: UnixTime,
    ) -> Result<Issued, IssueError> {
        let facts = check_csr(csr_der)?;
        let node = matches!(subject, Subject::Node(_));
        if !node && !hosts.is_empty() {
            return Err(IssueError::HostsNotAllowed);
        }
        let mut usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if node {
            usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        let leaf = Leaf {
            key: &RawKey(&facts.key, &rcgen::PKCS_ED25519),
            requested: &facts.uris,
            uri: subject.uri(&self.domain),
            hosts,
            usages,
        };
        self.sign_leaf(leaf, ttl_seconds, now)
    }

    /// Certifies the ECDSA key of a request for a node to serve with, as [`issue`](Self::issue): its second certificate, for
    /// clients that take no Ed25519 certificate from a server. It proves no identity to anybody who verifies with this crate.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn issue_server(
        &self,
        csr_der: &[u8],
        node: &NodeId,
        ttl_seconds: u32,
        hosts: &[String],
        now: UnixTime,
    ) -> Result<Issued, IssueError> {
        let facts = check_server_csr(csr_der)?;
        let leaf = Leaf {
            key: &RawKey(&facts.key, &rcgen::PKCS_ECDSA_P256_SHA256),
            requested: &facts.uris,
            uri: Subject::Node(node.clone()).uri(&self.domain),
            hosts,
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth],
        };
        self.sign_leaf(leaf, ttl_seconds, now)
    }

    fn sign_leaf(&self, leaf: Leaf<'_>, ttl_seconds: u32, now: UnixTime) -> Result<Issued, IssueError> {
        let uri = leaf.uri;
        if let Some(requested) = leaf.requested.iter().find(|requested| **requested != uri) {
            return Err(IssueError::IdentityMismatch {
                requested: requested.clone(),
                granted: uri,
            });
        }
        if now >= self.not_after {
            return Err(IssueError::AuthorityExpired);
        }
        let not_before = seconds(now.as_secs().saturating_sub(CLOCK_SKEW_SECONDS));
        let not_after = seconds(now.as_secs() + u64::from(ttl_seconds)).min(self.not_after);
        let serial = random_serial()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
        params.not_before = date(not_before)?;
        params.not_after = date(not_after)?;
        params.subject_alt_names = vec![uri_name(&uri)?];
        params.subject_alt_names.extend(host_names(leaf.hosts)?);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = leaf.usages;
        params.use_authority_key_identifier_extension = true;
        let signed = params
            .signed_by(leaf.key, &self.signer)
            .map_err(|_| KeyError::Library)?;
        let mut chain = vec![signed.der().clone()];
        chain.extend(self.authorities.iter().cloned());
        Ok(Issued {
            chain,
            serial,
            uri,
            key: leaf.key.0.into(),
            not_before,
            not_after,
        })
    }

    /// A bearer token for a subject, bound to the key with this thumbprint, for `ttl_seconds` from `now`. `serial` is that of
    /// the certificate by which the subject is known: revoking that revokes the token.
    ///
    /// # Errors
    /// [`KeyError::Library`].
    pub fn issue_token(
        &self,
        subject: &Subject,
        thumbprint: &str,
        serial: Option<&Serial>,
        ttl_seconds: u32,
        now: UnixTime,
    ) -> Result<IssuedToken, KeyError> {
        let domain = self.domain.uri();
        let uri = subject.uri(&self.domain);
        let not_after = seconds(now.as_secs() + u64::from(ttl_seconds));
        let claims = TokenClaims {
            iss: domain.clone(),
            aud: domain,
            client_id: uri.clone(),
            sub: uri,
            iat: now.as_secs(),
            exp: not_after.as_secs(),
            jti: random_serial()?.to_string(),
            cnf: Confirmation {
                jkt: thumbprint.to_owned(),
            },
            serial: serial.map(Serial::to_string),
        };
        let mut head = header(TOKEN_TYPE);
        head.kid = Some(self.token_key.thumbprint());
        Ok(IssuedToken {
            token: sign(&head, &claims, &self.token_key)?,
            not_after,
        })
    }

    /// The signed list of revoked serial numbers (RFC 5280 §5): DER. `revoked` says when each was revoked; `number` counts the
    /// lists.
    ///
    /// # Errors
    /// [`KeyError::Library`].
    pub fn crl(
        &self,
        revoked: impl IntoIterator<Item = (Serial, UnixTime)>,
        number: u64,
        now: UnixTime,
        next_update: UnixTime,
    ) -> Result<Vec<u8>, KeyError> {
        let revoked_certs = revoked
            .into_iter()
            .map(|(serial, at)| {
                Ok(RevokedCertParams {
                    serial_number: SerialNumber::from_slice(serial.as_bytes()),
                    revocation_time: date(at)?,
                    reason_code: None,
                    invalidity_date: None,
                })
            })
            .collect::<Result<_, KeyError>>()?;
        let list = CertificateRevocationListParams {
            this_update: date(now)?,
            next_update: date(next_update)?,
            crl_number: SerialNumber::from_slice(&number.to_be_bytes()),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let signed = list.signed_by(&self.signer).map_err(|_| KeyError::Library)?;
        Ok(signed.der().to_vec())
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer")
            .field("domain", &self.domain)
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

/// What distinguishes one leaf from another.
struct Leaf<'a> {
    key: &'a RawKey<'a>,
    /// The URIs that its request names.
    requested: &'a [String],
    uri: String,
    hosts: &'a [String],
    usages: Vec<ExtendedKeyUsagePurpose>,
}

/// The public key of a request and what it signs with, as rcgen takes it.
struct RawKey<'a>(&'a [u8], &'static rcgen::SignatureAlgorithm);

impl PublicKeyData for RawKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.1
    }
}

fn one_certificate(pem: &str) -> Result<CertificateDer<'static>, IssueError> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| IssueError::Authority("the root certificate is not PEM"))
}

/// Checks that a certificate can issue with this key, and says when it ends.
fn check_issuing(issuing: &CertificateDer<'_>, key: &AgentKey) -> Result<UnixTime, IssueError> {
    let unreadable = IssueError::Authority("the issuing certificate cannot be read");
    let parsed = certificate::parse(issuing).map_err(|_| unreadable.clone())?;
    if !parsed.is_ca() {
        return Err(IssueError::Authority(
            "the issuing certificate is not of an authority (basicConstraints CA)",
        ));
    }
    let usage = parsed.key_usage().map_err(|_| unreadable.clone())?;
    if !usage.is_some_and(|usage| usage.value.key_cert_sign() && usage.value.crl_sign()) {
        return Err(IssueError::Authority(
            "the issuing certificate lacks key usage keyCertSign or cRLSign",
        ));
    }
    if certificate::leaf_key(&parsed) != Ok(*key.public()) {
        return Err(IssueError::Authority(
            "the issuing key is not that of the issuing certificate",
        ));
    }
    let end = u64::try_from(parsed.validity().not_after.timestamp()).map_err(|_| unreadable)?;
    Ok(seconds(end))
}

/// 127 random bits: more than RFC 5280 and the CA/Browser Forum ask for, positive, and never a guess.
fn random_serial() -> Result<Serial, KeyError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| KeyError::Library)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Serial::from_bytes(&bytes).map_err(|_| KeyError::Library)
}

fn seconds(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn date(time: UnixTime) -> Result<OffsetDateTime, KeyError> {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or(KeyError::Library)
}
