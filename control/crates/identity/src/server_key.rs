//! ECDSA keys of servers.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::key::{private_pem, request};
use crate::subject::Subject;
use crate::{KeyError, TrustDomain};

/// Bytes of a public P-256 key: an uncompressed point (SEC 1 §2.3.3).
pub const SERVER_KEY_BYTES: usize = 65;

/// An ECDSA P-256 key (FIPS 186-5 §6): of the second certificate that a node serves with, for clients that take no Ed25519
/// certificate from a server, as those over BoringSSL. It is nobody's identity: [`Verifier`](crate::Verifier) refuses its
/// certificate.
#[derive(Clone)]
pub struct ServerKey {
    pair: Arc<EcdsaKeyPair>,
    public: [u8; SERVER_KEY_BYTES],
}

impl ServerKey {
    /// A new random key.
    ///
    /// # Errors
    /// [`KeyError::Library`].
    pub fn generate() -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING);
        Self::from_pair(pair.map_err(|_| KeyError::Library)?)
    }

    /// Reads PKCS#8 PEM, `BEGIN PRIVATE KEY`.
    ///
    /// # Errors
    /// [`KeyError::NotP256`].
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::NotP256)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der.secret_pkcs8_der());
        Self::from_pair(pair.map_err(|_| KeyError::NotP256)?)
    }

    fn from_pair(pair: EcdsaKeyPair) -> Result<Self, KeyError> {
        let public = pair.public_key().as_ref().try_into();
        Ok(Self {
            public: public.map_err(|_| KeyError::NotP256)?,
            pair: Arc::new(pair),
        })
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

    fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let document = self.pair.to_pkcs8v1().map_err(|_| KeyError::Library)?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// The public key, an uncompressed point.
    pub fn public(&self) -> &[u8; SERVER_KEY_BYTES] {
        &self.public
    }

    /// A certificate request, as [`AgentKey::csr`](crate::AgentKey::csr).
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

impl rcgen::PublicKeyData for ServerKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for ServerKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        Ok(signature
            .map_err(|_| rcgen::Error::RingUnspecified)?
            .as_ref()
            .to_vec())
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AgentKey;

    #[test]
    fn a_key_survives_writing_and_reading() {
        let key = ServerKey::generate().expect("random source");
        let pem = key.to_pem().expect("written");
        assert!(pem.lines().all(|line| line.len() <= 64));
        let again = ServerKey::from_pem(&pem).expect("read");
        assert_eq!(again.public(), key.public());
    }

    #[test]
    fn an_agents_key_is_not_a_servers() {
        let pem = AgentKey::generate().and_then(|key| key.to_pem()).expect("made");
        assert_eq!(ServerKey::from_pem(&pem).unwrap_err(), KeyError::NotP256);
        assert_eq!(ServerKey::from_pem("no").unwrap_err(), KeyError::NotP256);
    }
}
