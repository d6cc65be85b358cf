//! A verifier of clients whose refusals are told to the operator.

use std::fmt;
use std::sync::Arc;

use ringgate_gateway::{EventKind, SecurityEvent};
use ringgate_identity::claim;
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

    fn tell(&self, leaf: &CertificateDer<'_>, error: &Error) {
        let detail = match reason(error) {
            Some(reason) => format!("TLS handshake: {}: {reason}", reason.code()),
            None => format!("TLS handshake: {error}"),
        };
        let event = SecurityEvent {
            kind: EventKind::Unauthenticated,
            identity: claim::certificate(leaf).unwrap_or_default(),
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
        verified.inspect_err(|error| self.tell(leaf, error))
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
        verified.inspect_err(|error| self.tell(certificate, error))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use ringgate_identity::issue::{Authority, Issued, Issuer};
    use ringgate_identity::tls::{Expected, SharedCredential, client_verifier, server_verifier};
    use ringgate_identity::{AgentKey, Revocations, SharedVerifier, Subject, TrustDomain, Verifier};
    use rustls::client::ResolvesClientCert;
    use rustls::sign::CertifiedKey;
    use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

    use super::*;
    use crate::observe::{Observation, observations};

    const HOUR: u32 = 3600;

    fn certify(issuer: &Issuer, path: &str) -> (AgentKey, Issued) {
        let key = AgentKey::generate().expect("a key");
        let subject = Subject::from_path(path).expect("a name");
        let csr = key.csr(None, &[]).expect("a request");
        let issued = issuer.issue(&csr, &subject, HOUR, &[], UnixTime::now());
        (key, issued.expect("issued"))
    }

    /// Shows whatever it was given, fitting or not.
    #[derive(Debug)]
    struct Liar(Arc<CertifiedKey>);

    impl ResolvesClientCert for Liar {
        fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            Some(self.0.clone())
        }

        fn has_certs(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_certificate_without_its_key_is_refused_and_told() {
        let domain = TrustDomain::new("test.example").expect("a name");
        let (files, _) = Authority::create(&domain, UnixTime::now()).expect("made");
        let issuer = Issuer::load(domain, &files).expect("its own files");
        let verifier = Verifier::new(issuer.bundle(1, HOUR), Revocations::default()).expect("a bundle");
        let verifier = Arc::new(SharedVerifier::new(verifier));
        let (reporter, mut told) = observations();
        let (key, issued) = certify(&issuer, "node/n1");
        let watched = Watched::new(client_verifier(verifier.clone(), true), reporter);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_client_cert_verifier(Arc::new(watched))
            .with_cert_resolver(Arc::new(SharedCredential::new(issued.chain, &key).expect("fits")));
        let (_, alice) = certify(&issuer, "acme/demo/alice/1");
        let thief = AgentKey::generate()
            .and_then(|key| key.to_rustls())
            .expect("a key");
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&thief).expect("Ed25519");
        let liar = Liar(Arc::new(CertifiedKey::new(alice.chain, signing)));
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(server_verifier(verifier, Expected::AnyNode))
            .with_client_cert_resolver(Arc::new(liar));
        let name = "localhost".try_into().expect("a name");
        let mut client = ClientConnection::new(Arc::new(client), name).expect("client");
        let mut server = ServerConnection::new(Arc::new(server)).expect("server");
        let mut refused = None;
        while refused.is_none() {
            let (mut there, mut back) = (Vec::new(), Vec::new());
            while client.wants_write() {
                client.write_tls(&mut there).expect("memory");
            }
            assert!(!there.is_empty(), "the handshake stands still");
            let mut there = &there[..];
            while !there.is_empty() && refused.is_none() {
                server.read_tls(&mut there).expect("memory");
                refused = server.process_new_packets().err();
            }
            while server.wants_write() {
                server.write_tls(&mut back).expect("memory");
            }
            let mut back = &back[..];
            while !back.is_empty() && refused.is_none() {
                client.read_tls(&mut back).expect("memory");
                client.process_new_packets().expect("a good server");
            }
        }
        assert_eq!(
            refused.as_ref().and_then(reason),
            Some(ringgate_identity::Reason::KeyMismatch)
        );
        let Ok(Observation::Security(seen)) = told.try_recv() else {
            panic!("the operator is told");
        };
        assert!(
            seen.event.detail.contains("KEY_MISMATCH"),
            "{}",
            seen.event.detail
        );
        assert_eq!(seen.event.identity, "agp://test.example/acme/demo/alice/1");
    }
}
