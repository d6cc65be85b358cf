//! TLS handshakes in memory: who gets through, and why the others do not.

use std::sync::Arc;

use crate::world::{ALICE, World, date, later, uri};
use rcgen::{ExtendedKeyUsagePurpose, PKCS_RSA_SHA256, SerialNumber};
use ringgate_identity::tls::{
    Expected, SharedCredential, anchored_verifier, client_config, client_verifier, pinned_verifier, reason,
    server_config, server_verifier,
};
use ringgate_identity::{
    AgentKey, CertificateDer, Fingerprint, NodeId, Reason, Revocation, Revoked, SharedVerifier, UnixTime,
};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{PrivateKeyDer, ServerName, SignatureVerificationAlgorithm};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, SignatureScheme,
};

/// A node and what it trusts, and an agent and what it trusts. rustls asks the system's clock, so that they live now.
struct Network {
    world: World,
    at_node: Arc<SharedVerifier>,
    at_agent: Arc<SharedVerifier>,
    node: Arc<SharedCredential>,
    agent: Arc<SharedCredential>,
}

impl Network {
    fn new() -> Self {
        let world = World::at("acme.example", UnixTime::now());
        let credential = |path| {
            let (key, issued) = world.enroll(path);
            Arc::new(SharedCredential::new(issued.chain, &key).expect("credential"))
        };
        Self {
            node: credential("node/edge-1"),
            agent: credential(ALICE),
            at_node: Arc::new(SharedVerifier::new(world.verifier())),
            at_agent: Arc::new(SharedVerifier::new(world.verifier())),
            world,
        }
    }

    fn server(&self) -> ServerConfig {
        server_config(self.at_node.clone(), true, self.node.clone()).expect("TLS 1.3")
    }

    fn client(&self, expected: Expected) -> ClientConfig {
        client_config(
            server_verifier(self.at_agent.clone(), expected),
            Some(self.agent.clone()),
        )
        .expect("TLS 1.3")
    }
}

/// What went wrong at the client and at the server.
type Outcome = (Option<rustls::Error>, Option<rustls::Error>);

fn handshake(client: ClientConfig, server: ServerConfig, host: &str) -> Outcome {
    let name = ServerName::try_from(host.to_owned()).expect("a host");
    let mut client = ClientConnection::new(Arc::new(client), name).expect("client");
    let mut server = ServerConnection::new(Arc::new(server)).expect("server");
    let (mut at_client, mut at_server) = (None, None);
    // Six flights are more than any handshake has, alerts included.
    for _ in 0..6 {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).expect("memory");
        }
        feed(&flight, &mut at_server, |bytes| {
            server.read_tls(bytes).expect("memory");
            server.process_new_packets().map(|_| ())
        });
        let mut flight = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut flight).expect("memory");
        }
        feed(&flight, &mut at_client, |bytes| {
            client.read_tls(bytes).expect("memory");
            client.process_new_packets().map(|_| ())
        });
    }
    if at_client.is_none() && at_server.is_none() {
        assert!(!client.is_handshaking() && !server.is_handshaking());
        assert_eq!(client.alpn_protocol(), Some(&b"h2"[..]));
    }
    (at_client, at_server)
}

fn feed(
    mut flight: &[u8],
    error: &mut Option<rustls::Error>,
    mut process: impl FnMut(&mut &[u8]) -> Result<(), rustls::Error>,
) {
    while !flight.is_empty() && error.is_none() {
        *error = process(&mut flight).err();
    }
}

fn at_server(outcome: &Outcome) -> Option<Reason> {
    outcome.1.as_ref().and_then(reason)
}

fn at_client(outcome: &Outcome) -> Option<Reason> {
    outcome.0.as_ref().and_then(reason)
}

#[test]
fn both_ends_verify_each_other() {
    let network = Network::new();
    for (expected, host) in [
        (Expected::Host, "localhost"),
        (Expected::Host, "127.0.0.1"),
        (Expected::AnyNode, "10.1.2.3"),
        (Expected::Node(NodeId::new("edge-1").expect("valid")), "10.1.2.3"),
    ] {
        let outcome = handshake(network.client(expected), network.server(), host);
        assert_eq!(outcome, (None, None), "{host}");
    }
}

/// A client as those over BoringSSL: by the rules of the web, and no Ed25519 signature in a handshake.
fn web_client(network: &Network, schemes: WebSchemes) -> ClientConfig {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.signature_verification_algorithms = WebPkiSupportedAlgorithms {
        all: CHAINS,
        mapping: schemes,
    };
    let mut roots = RootCertStore::empty();
    for anchor in &network.world.verifier().bundle().anchors {
        roots.add(anchor.clone()).expect("an anchor");
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_client_cert_resolver(network.agent.clone());
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

type WebSchemes = &'static [(
    SignatureScheme,
    &'static [&'static dyn SignatureVerificationAlgorithm],
)];
static CHAINS: &[&dyn SignatureVerificationAlgorithm] =
    &[webpki::aws_lc_rs::ED25519, webpki::aws_lc_rs::ECDSA_P256_SHA256];
static ECDSA_ALONE: WebSchemes = &[(
    SignatureScheme::ECDSA_NISTP256_SHA256,
    &[webpki::aws_lc_rs::ECDSA_P256_SHA256],
)];
static BOTH: WebSchemes = &[
    (
        SignatureScheme::ECDSA_NISTP256_SHA256,
        &[webpki::aws_lc_rs::ECDSA_P256_SHA256],
    ),
    (SignatureScheme::ED25519, &[webpki::aws_lc_rs::ED25519]),
];

#[test]
fn a_node_serves_clients_that_take_no_ed25519_certificate() {
    let network = Network::new();
    let outcome = handshake(web_client(&network, ECDSA_ALONE), network.server(), "localhost");
    assert!(outcome.0.is_some(), "it has no other certificate yet");
    let (key, issued) = network.world.enroll("node/edge-1");
    let serving = network.world.serving("node/edge-1");
    let ecdsa = serving.chain[0].clone();
    network
        .node
        .swap(issued.chain.clone(), &key, Some(serving))
        .expect("credential");
    for schemes in [ECDSA_ALONE, BOTH] {
        for host in ["localhost", "127.0.0.1"] {
            let outcome = handshake(web_client(&network, schemes), network.server(), host);
            assert_eq!(outcome, (None, None), "{host}");
        }
    }
    let outcome = handshake(network.client(Expected::Host), network.server(), "localhost");
    assert_eq!(outcome, (None, None), "our own still see the Ed25519 one");
    // It serves, and is nobody's identity.
    let chain = [ecdsa, issued.chain[1].clone()];
    assert_eq!(
        network.world.verifier().verify(&chain, UnixTime::now()),
        Err(Reason::KeyTypeNotAllowed)
    );
}

#[test]
fn a_server_must_be_who_was_expected() {
    let network = Network::new();
    let outcome = handshake(
        network.client(Expected::Host),
        network.server(),
        "elsewhere.example",
    );
    assert_eq!(at_client(&outcome), Some(Reason::HostMismatch));
    let other = Expected::Node(NodeId::new("edge-2").expect("valid"));
    let outcome = handshake(network.client(other), network.server(), "localhost");
    assert_eq!(at_client(&outcome), Some(Reason::PeerMismatch));
    // An agent that plays the gateway.
    let server = server_config(network.at_node.clone(), true, network.agent.clone()).expect("TLS 1.3");
    let outcome = handshake(network.client(Expected::AnyNode), server, "localhost");
    assert_eq!(at_client(&outcome), Some(Reason::PeerMismatch));
    // A gateway of somebody else.
    let server = Network::new().server();
    let outcome = handshake(network.client(Expected::AnyNode), server, "localhost");
    assert_eq!(at_client(&outcome), Some(Reason::UnknownIssuer));
}

/// Shows what it was given, whether key and certificate fit together or not, and whether the peer wants such a key or not.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl Shown {
    fn new(chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'_>) -> Arc<Self> {
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(key).expect("a key");
        Arc::new(Self(Arc::new(CertifiedKey::new(chain, key))))
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Number of the certificate that is revoked.
const REVOKED: [u8; 16] = [0x43; 16];

/// Certificates of an agent or a node that must be refused whoever looks at them: what is wrong, and the reason to be told.
fn wrong(world: &World, path: &str) -> Vec<(&'static str, Arc<Shown>, Reason)> {
    let (ours, key) = (world.uri(path), AgentKey::generate().expect("random source"));
    let forge = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        let chain = world.forge(&key, |leaf| {
            leaf.subject_alt_names = vec![uri(&ours)];
            leaf.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
            change(leaf);
        });
        Shown::new(chain, &key.to_rustls().expect("a key"))
    };
    let stranger = World::at("acme.example", world.now);
    let (strange_key, strange) = stranger.enroll(path);
    let rsa = rcgen::KeyPair::generate_for(&PKCS_RSA_SHA256).expect("key");
    let rsa_chain = world.forge(&rsa, |leaf| leaf.subject_alt_names = vec![uri(&ours)]);
    let rsa_key = PrivateKeyDer::try_from(rsa.serialize_der()).expect("PKCS#8");
    let (_, held) = world.enroll(path);
    vec![
        (
            "expired",
            forge(&|leaf| leaf.not_after = date(later(world.now, -5))),
            Reason::Expired,
        ),
        (
            "not yet valid",
            forge(&|leaf| leaf.not_before = date(later(world.now, 300))),
            Reason::NotYetValid,
        ),
        (
            "wrong CA",
            Shown::new(strange.chain, &strange_key.to_rustls().expect("a key")),
            Reason::UnknownIssuer,
        ),
        (
            "wrong SAN",
            forge(&|leaf| leaf.subject_alt_names = vec![uri(&format!("agp://other.example/{path}"))]),
            Reason::WrongTrustDomain,
        ),
        (
            "two SANs",
            forge(&|leaf| {
                leaf.subject_alt_names
                    .push(uri(&world.uri("acme/demo/mallory/1")))
            }),
            Reason::SeveralSubjects,
        ),
        (
            "RSA key",
            Shown::new(rsa_chain, &rsa_key),
            Reason::KeyTypeNotAllowed,
        ),
        (
            "revoked",
            forge(&|leaf| leaf.serial_number = Some(SerialNumber::from_slice(&REVOKED))),
            Reason::Revoked,
        ),
        (
            "key mismatch",
            Shown::new(held.chain, &key.to_rustls().expect("a key")),
            Reason::KeyMismatch,
        ),
    ]
}

/// What the data plane and the SDK do in their handshakes; that each says so where its operator looks is seen in
/// tests/external/python/test_credentials.py.
#[test]
fn each_wrong_certificate_is_refused_for_its_own_reason_at_both_ends() {
    let network = Network::new();
    let revoked = Revoked::Serial("43".repeat(16).parse().expect("serial"));
    let verifier = Arc::new(SharedVerifier::new(network.world.revoking(revoked)));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = |shown: Arc<Shown>| {
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_client_cert_verifier(client_verifier(verifier.clone(), true))
            .with_cert_resolver(shown);
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    };
    let client = |shown: Arc<Shown>| {
        let mut config = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(server_verifier(verifier.clone(), Expected::AnyNode))
            .with_client_cert_resolver(shown);
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    };
    let good = |path| {
        let (key, issued) = network.world.enroll(path);
        Shown::new(issued.chain, &key.to_rustls().expect("a key"))
    };
    let (node, agent) = (good("node/edge-1"), good(ALICE));
    let outcome = handshake(client(agent.clone()), server(node.clone()), "localhost");
    assert_eq!(outcome, (None, None), "both are good");
    for (what, shown, reason) in wrong(&network.world, "node/edge-1") {
        let outcome = handshake(client(agent.clone()), server(shown), "localhost");
        assert_eq!(at_client(&outcome), Some(reason), "a server: {what}");
    }
    // Somebody else, however good its certificate is.
    let outcome = handshake(client(agent.clone()), server(agent), "localhost");
    assert_eq!(
        at_client(&outcome),
        Some(Reason::PeerMismatch),
        "a server: foreign identity"
    );
    for (what, shown, reason) in wrong(&network.world, ALICE) {
        let outcome = handshake(client(shown), server(node.clone()), "localhost");
        assert_eq!(at_server(&outcome), Some(reason), "a client: {what}");
    }
}

#[test]
fn a_client_without_a_certificate_is_refused_where_one_is_required() {
    let network = Network::new();
    let anonymous = || {
        client_config(server_verifier(network.at_agent.clone(), Expected::AnyNode), None).expect("TLS 1.3")
    };
    let outcome = handshake(anonymous(), network.server(), "localhost");
    assert_eq!(at_server(&outcome), Some(Reason::NoCertificate));
    let lenient = server_config(network.at_node.clone(), false, network.node.clone()).expect("TLS 1.3");
    assert_eq!(handshake(anonymous(), lenient, "localhost"), (None, None));
}

#[test]
fn a_revocation_is_felt_by_the_next_handshake_of_the_same_configuration() {
    let network = Network::new();
    let (server, client) = (network.server(), network.client(Expected::AnyNode));
    assert_eq!(
        handshake(client.clone(), server.clone(), "localhost"),
        (None, None)
    );
    let mut revocations = network.at_node.load().revocations().clone();
    revocations
        .insert(Revocation {
            number: 1,
            revoked: Revoked::Identity(network.world.uri(ALICE)),
            at: UnixTime::now(),
        })
        .expect("the first");
    network
        .at_node
        .swap(network.at_node.load().with_revocations(revocations));
    let outcome = handshake(client, server, "localhost");
    assert_eq!(
        at_server(&outcome),
        Some(Reason::Revoked),
        "no session was resumed"
    );
}

#[test]
fn a_credential_is_replaced_without_a_new_configuration() {
    let network = Network::new();
    let client = network.client(Expected::AnyNode);
    let stranger = World::at("acme.example", UnixTime::now());
    let (key, issued) = stranger.enroll(ALICE);
    network.agent.swap(issued.chain, &key, None).expect("credential");
    let outcome = handshake(client.clone(), network.server(), "localhost");
    assert_eq!(at_server(&outcome), Some(Reason::UnknownIssuer));
    let (key, issued) = network.world.enroll(ALICE);
    network.agent.swap(issued.chain, &key, None).expect("credential");
    assert_eq!(handshake(client, network.server(), "localhost"), (None, None));
}

#[test]
fn a_key_that_is_not_the_certificates_is_refused() {
    let network = Network::new();
    let (_, issued) = network.world.enroll(ALICE);
    let (other_key, _) = network.world.enroll(ALICE);
    network
        .agent
        .swap(issued.chain, &other_key, None)
        .expect("credential");
    let outcome = handshake(network.client(Expected::AnyNode), network.server(), "localhost");
    assert_eq!(at_server(&outcome), Some(Reason::KeyMismatch));
}

#[test]
fn t11_an_older_tls_is_refused() {
    let network = Network::new();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let old_client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("TLS 1.2")
        .dangerous()
        .with_custom_certificate_verifier(server_verifier(network.at_agent.clone(), Expected::AnyNode))
        .with_no_client_auth();
    let outcome = handshake(old_client, network.server(), "localhost");
    assert!(
        matches!(outcome.1, Some(rustls::Error::PeerIncompatible(_))),
        "{outcome:?}"
    );
    let old_server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("TLS 1.2")
        .with_client_cert_verifier(client_verifier(network.at_node.clone(), true))
        .with_cert_resolver(network.node.clone());
    let outcome = handshake(network.client(Expected::AnyNode), old_server, "localhost");
    assert!(outcome.0.is_some() || outcome.1.is_some(), "{outcome:?}");
}

#[test]
fn a_newcomer_recognises_the_authority_by_its_fingerprint() {
    let network = Network::new();
    let lenient = || server_config(network.at_node.clone(), false, network.node.clone()).expect("TLS 1.3");
    let newcomer = |verifier: Arc<dyn ServerCertVerifier>| client_config(verifier, None).expect("TLS 1.3");
    let pinned = |fingerprint| newcomer(pinned_verifier(fingerprint));
    let good = network.world.issuer.fingerprint();
    assert_eq!(handshake(pinned(good), lenient(), "localhost"), (None, None));
    let outcome = handshake(pinned(good), lenient(), "elsewhere.example");
    assert_eq!(at_client(&outcome), Some(Reason::HostMismatch));
    let outcome = handshake(pinned(World::new().issuer.fingerprint()), lenient(), "localhost");
    assert_eq!(at_client(&outcome), Some(Reason::UnknownIssuer));

    let anchored = |world: &World| newcomer(anchored_verifier(world.issuer.bundle(1, 60).anchors));
    assert_eq!(
        handshake(anchored(&network.world), lenient(), "localhost"),
        (None, None)
    );
    let outcome = handshake(anchored(&World::new()), lenient(), "localhost");
    assert_eq!(at_client(&outcome), Some(Reason::UnknownIssuer));
    let outcome = handshake(newcomer(anchored_verifier(Vec::new())), lenient(), "localhost");
    assert_eq!(at_client(&outcome), Some(Reason::UnknownIssuer));

    // Somebody sends the authority's certificate along, but has a leaf of their own making.
    let stranger = World::at("acme.example", UnixTime::now());
    let (key, issued) = stranger.enroll("node/edge-1");
    let mut chain = issued.chain;
    chain.extend(network.world.issuer.bundle(1, 60).intermediates);
    let forged = Arc::new(SharedCredential::new(chain, &key).expect("credential"));
    let server = server_config(network.at_node.clone(), false, forged).expect("TLS 1.3");
    let outcome = handshake(pinned(good), server, "localhost");
    assert_eq!(at_client(&outcome), Some(Reason::UnknownIssuer));

    // The fingerprint of a leaf makes it no authority.
    let (key, issued) = network.world.enroll("node/edge-1");
    let leaf = Fingerprint::of(&issued.chain[0]);
    let twice = vec![issued.chain[0].clone(), issued.chain[0].clone()];
    let server = server_config(
        network.at_node.clone(),
        false,
        Arc::new(SharedCredential::new(twice, &key).expect("credential")),
    )
    .expect("TLS 1.3");
    let outcome = handshake(pinned(leaf), server, "localhost");
    assert_eq!(at_client(&outcome), Some(Reason::UnknownIssuer));
}
