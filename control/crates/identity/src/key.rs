//! Ed25519 keys.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::TrustDomain;
use crate::sha256;
use crate::subject::Subject;

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Another format or another type of key.
    #[error(
        "not an Ed25519 private key; it must be PKCS#8, as `openssl genpkey -algorithm ed25519` writes it"
    )]
    Malformed,
    /// A server's key that is another one.
    #[error("not an ECDSA P-256 private key in PKCS#8; delete it, and its holder gets another")]
    NotP256,
    /// A certificate for another key.
    #[error("the certificate is not for this key; use the two that were issued together")]
    Mismatch,
    /// The cryptographic library failed.
    #[error("the key could not be generated or written; the system's random source may be unavailable")]
    Library,
    /// A name that a certificate request cannot hold.
    #[error("{0:?} cannot be a host name of a certificate; write a DNS name or an IP address")]
    Host(String),
}

/// An Ed25519 key (RFC 8032): of an agent, a node, an operator or an authority. It is wiped from memory when its last clone
/// goes.
#[derive(Clone)]
pub struct AgentKey {
    pair: Arc<Ed25519KeyPair>,
    public: [u8; 32],
}

impl AgentKey {
    /// A new random key.
    ///
    /// # Errors
    /// [`KeyError::Library`].
    pub fn generate() -> Result<Self, KeyError> {
        Self::from_pair(Ed25519KeyPair::generate().map_err(|_| KeyError::Library)?)
    }

    /// Reads PKCS#8 DER (RFC 5958), version 1 or 2.
    ///
    /// # Errors
    /// [`KeyError::Malformed`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        Self::from_pair(Ed25519KeyPair::from_pkcs8(der).map_err(|_| KeyError::Malformed)?)
    }

    /// Reads PKCS#8 PEM, `BEGIN PRIVATE KEY`.
    ///
    /// # Errors
    /// [`KeyError::Malformed`].
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::Malformed)?;
        Self::from_pkcs8(der.secret_pkcs8_der())
    }

    fn from_pair(pair: Ed25519KeyPair) -> Result<Self, KeyError> {
        let public = pair
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| KeyError::Malformed)?;
        Ok(Self {
            pair: Arc::new(pair),
            public,
        })
    }

    /// PKCS#8 DER, version 1 (RFC 8410 §7).
    ///
    /// # Errors
    /// [`KeyError::Library`].
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let document = self.pair.to_pkcs8v1().map_err(|_| KeyError::Library)?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// PKCS#8 PEM.
    ///
    /// # Errors
    /// [`KeyError::Library`].
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        Ok(private_pem(&self.to_pkcs8()?))
    }

    /// The key as rustls takes it.
    ///
    /// # Errors
    /// [`KeyError::Library`].
    pub fn to_rustls(&self) -> Result<PrivateKeyDer<'static>, KeyError> {
        Ok(PrivatePkcs8KeyDer::from(self.to_pkcs8()?.to_vec()).into())
    }

    /// The 32-byte seed: what an MLS library makes its signature key of.
    ///
    /// # Errors
    /// [`KeyError::Library`].
    pub fn seed(&self) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        use aws_lc_rs::encoding::{AsBigEndian, Curve25519SeedBin};
        let seed = self.pair.seed().map_err(|_| KeyError::Library)?;
        let bytes: Curve25519SeedBin<'_> = seed.as_be_bytes().map_err(|_| KeyError::Library)?;
        let bytes: [u8; 32] = bytes.as_ref().try_into().map_err(|_| KeyError::Library)?;
        Ok(Zeroizing::new(bytes))
    }

    /// The public key.
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The public key's thumbprint, as `cnf.jkt` of a token has it (RFC 7638, RFC 9449 §6.1).
    pub fn thumbprint(&self) -> String {
        thumbprint(&self.public)
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut out = [0; 64];
        // An Ed25519 signature has 64 bytes (RFC 8032 §5.1.6).
        out.copy_from_slice(self.pair.sign(message).as_ref());
        out
    }

    /// A certificate request (PKCS#10, RFC 2986) for this key: DER. Its signature proves possession of the key. `subject` is
    /// who asks, or `None` for a pseudonym that the authority chooses; `hosts` are for nodes.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn csr(
        &self,
        subject: Option<(&TrustDomain, &Subject)>,
        hosts: &[String],
    ) -> Result<Vec<u8>, KeyError> {
        request(self, subject, hosts)
    }
}

/// A certificate request of whoever holds `key`.
pub(crate) fn request(
    key: &impl rcgen::SigningKey,
    subject: Option<(&TrustDomain, &Subject)>,
    hosts: &[String],
) -> Result<Vec<u8>, KeyError> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some((domain, subject)) = subject {
        params.subject_alt_names.push(uri_name(&subject.uri(domain))?);
    }
    params.subject_alt_names.extend(host_names(hosts)?);
    let request = params.serialize_request(key).map_err(|_| KeyError::Library)?;
    Ok(request.der().to_vec())
}

/// PKCS#8 as PEM, in lines of 64 characters (RFC 7468 §2).
pub(crate) fn private_pem(der: &[u8]) -> Zeroizing<String> {
    let text = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(der));
    let mut pem = Zeroizing::new(String::from("-----BEGIN PRIVATE KEY-----\n"));
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    pem
}

/// The RFC 7638 thumbprint of an Ed25519 key (RFC 8037 appendix A.3).
pub fn thumbprint(public: &[u8; 32]) -> String {
    let x = URL_SAFE_NO_PAD.encode(public);
    URL_SAFE_NO_PAD.encode(sha256(
        format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#).as_bytes(),
    ))
}

pub(crate) fn uri_name(uri: &str) -> Result<rcgen::SanType, KeyError> {
    let text = uri.try_into().map_err(|_| KeyError::Host(uri.to_owned()))?;
    Ok(rcgen::SanType::URI(text))
}

pub(crate) fn host_names(hosts: &[String]) -> Result<Vec<rcgen::SanType>, KeyError> {
    hosts
        .iter()
        .map(|host| {
            use rustls::pki_types::ServerName;
            let error = || KeyError::Host(host.clone());
            match ServerName::try_from(host.as_str()).map_err(|_| error())? {
                ServerName::IpAddress(ip) => Ok(rcgen::SanType::IpAddress(std::net::IpAddr::from(ip))),
                _ => Ok(rcgen::SanType::DnsName(
                    host.as_str().try_into().map_err(|_| error())?,
                )),
            }
        })
        .collect()
}

impl rcgen::PublicKeyData for AgentKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl rcgen::SigningKey for AgentKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Self::sign(self, message).to_vec())
    }
}

impl fmt::Debug for AgentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgentKey({})", self.thumbprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_writing_and_reading() {
        let key = AgentKey::generate().expect("random source");
        for again in [
            AgentKey::from_pkcs8(&key.to_pkcs8().expect("written")).expect("read"),
            AgentKey::from_pem(&key.to_pem().expect("written")).expect("read"),
        ] {
            assert_eq!(again.public(), key.public());
            assert_eq!(again.sign(b"x"), key.sign(b"x"));
        }
        assert_eq!(key.seed().expect("seed").len(), 32);
        assert_eq!(AgentKey::from_pkcs8(b"no").unwrap_err(), KeyError::Malformed);
        assert!(!format!("{key:?}").contains("seed"));
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_8037() {
        // RFC 8037 appendix A.3.
        let public: [u8; 32] = URL_SAFE_NO_PAD
            .decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
            .expect("base64")
            .try_into()
            .expect("32 bytes");
        assert_eq!(thumbprint(&public), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }
}
