//! The files of an authority, and a new one of its own.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyUsagePurpose, SerialNumber};
use rustls::pki_types::UnixTime;
use zeroize::Zeroizing;

use super::{IssueError, date, random_serial, seconds};
use crate::{AgentKey, CLOCK_SKEW_SECONDS, KeyError, TrustDomain};

/// Life of a new root in seconds: ten years. It is replaced by hand, with both in the bundle for a while.
pub const ROOT_TTL_SECONDS: u64 = 10 * 365 * 24 * 3600;
/// Life of a new issuing certificate in seconds: two years. The root can stay offline in between.
pub const ISSUING_TTL_SECONDS: u64 = 2 * 365 * 24 * 3600;

/// What an authority consists of, as PEM. The operator may bring their own: the issuing key must be Ed25519, whatever the root's.
#[derive(Clone)]
pub struct Authority {
    /// The root certificate: the trust anchor.
    pub root_pem: String,
    /// The issuing certificate, and those between it and the root, in this order.
    pub issuing_pem: String,
    /// The issuing certificate's key, PKCS#8.
    pub issuing_key_pem: Zeroizing<String>,
    /// The key that signs bearer tokens, PKCS#8. Any Ed25519 key; no certificate is for it.
    pub token_key_pem: Zeroizing<String>,
}

impl Authority {
    /// Makes a new root, an issuing certificate below it and a token key. The root's key, which comes apart as PKCS#8 PEM, is
    /// not needed again until the issuing certificate is replaced; keep it offline.
    ///
    /// # Errors
    /// [`IssueError::Key`].
    pub fn create(domain: &TrustDomain, now: UnixTime) -> Result<(Self, Zeroizing<String>), IssueError> {
        let root_key = AgentKey::generate()?;
        let root = params(
            domain,
            "root",
            BasicConstraints::Unconstrained,
            now,
            ROOT_TTL_SECONDS,
        )?;
        let root_certificate = root.self_signed(&root_key).map_err(|_| KeyError::Library)?;
        let root_key_pem = root_key.to_pem()?;
        let signer = rcgen::Issuer::new(root, root_key);
        let mut authority = Self {
            root_pem: root_certificate.pem(),
            issuing_pem: String::new(),
            issuing_key_pem: Zeroizing::default(),
            token_key_pem: AgentKey::generate()?.to_pem()?,
        };
        authority.renew_issuing(&signer, domain, now)?;
        Ok((authority, root_key_pem))
    }

    /// Replaces the issuing certificate and its key, signed by the root with this key.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn renew(
        &mut self,
        root_key_pem: &str,
        domain: &TrustDomain,
        now: UnixTime,
    ) -> Result<(), IssueError> {
        let root_key = AgentKey::from_pem(root_key_pem)?;
        let signer = rcgen::Issuer::from_ca_cert_pem(&self.root_pem, root_key)
            .map_err(|_| IssueError::Authority("the root certificate cannot be read"))?;
        self.renew_issuing(&signer, domain, now)
    }

    fn renew_issuing(
        &mut self,
        root: &rcgen::Issuer<'_, AgentKey>,
        domain: &TrustDomain,
        now: UnixTime,
    ) -> Result<(), IssueError> {
        let key = AgentKey::generate()?;
        let issuing = params(
            domain,
            "issuing",
            BasicConstraints::Constrained(0),
            now,
            ISSUING_TTL_SECONDS,
        )?
        .signed_by(&key, root)
        .map_err(|_| KeyError::Library)?;
        self.issuing_pem = issuing.pem();
        self.issuing_key_pem = key.to_pem()?;
        Ok(())
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("root_pem", &self.root_pem)
            .field("issuing_pem", &self.issuing_pem)
            .finish_non_exhaustive()
    }
}

fn params(
    domain: &TrustDomain,
    role: &str,
    constraints: BasicConstraints,
    now: UnixTime,
    ttl_seconds: u64,
) -> Result<CertificateParams, IssueError> {
    let serial = random_serial()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    // The number makes the names of successive authorities different, so that paths are found by name.
    params
        .distinguished_name
        .push(DnType::CommonName, format!("{domain} {role} {serial}"));
    params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
    params.not_before = date(seconds(now.as_secs().saturating_sub(CLOCK_SKEW_SECONDS)))?;
    params.not_after = date(seconds(now.as_secs() + ttl_seconds))?;
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}
