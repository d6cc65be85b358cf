//! A verifier of clients whose refusals are told to the operator.

use std::fmt;
use std::sync::Arc;

use ringgate_gateway::{EventKind, SecurityEvent};
use ringgate_identity::tls::reason;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::observe::{Reporter, unix_nanos};

/// See the module.
pub(super) struct Watched {
    verifier: Arc<dyn ClientCertVerifier>,
    reporter: Reporter,
}

impl Watched {
    pub(super) fn new(verifier: Arc<dyn ClientCertVerifier>, reporter: Reporter) -> Watched {
        Watched { verifier, reporter }
    }

    fn tell(&self, error: &Error) {
        let detail = match reason(error) {
            Some(reason) => format!("TLS handshake: {}: {reason}", reason.code()),
            None => format!("TLS handshake: {error}"),
        };
        let event = SecurityEvent {
            kind: EventKind::Unauthenticated,
            identity: String::new(),
            address: String::new(),
            detail,
        };
        self.reporter.security(event, unix_nanos());
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(&self.verifier).finish()
    }
}

impl ClientCertVerifier for Watched {
    fn offer_client_auth(&self) -> bool {
        self.verifier.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verifier.verify_client_cert(leaf, intermediates, now);
        verified.inspect_err(|error| self.tell(error))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = self
            .verifier
            .verify_tls13_signature(message, certificate, signature);
        verified.inspect_err(|error| self.tell(error))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
