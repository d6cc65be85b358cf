//! TLS of the API: 1.3 only, client certificates optional.

use std::sync::Arc;

use ringgate_identity::CertificateDer;
use ringgate_identity::tls::SharedCredential;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::UnixTime;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};

/// What the API listens with.
///
/// # Errors
/// That the provider lacks TLS 1.3, which would be an error of the build.
pub fn server_config(own: Arc<SharedCredential>) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let possession = Arc::new(Possession::of(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(possession)
        .with_cert_resolver(own);
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Takes any client certificate whose key the client proves to hold, or none. Whom it names and whether it is good is not asked
/// here but for each call, by [`crate::gate`]: there a refusal can say its reason, which a TLS alert cannot, and a credential that
/// is revoked in the middle of a connection is refused at the next call. Nothing is lost by it, for a client without any
/// certificate gets as far.
#[derive(Debug)]
struct Possession {
    algorithms: WebPkiSupportedAlgorithms,
}

impl Possession {
    fn of(provider: &CryptoProvider) -> Possession {
        Possession {
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ClientCertVerifier for Possession {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
