//! Rules against real credentials.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use ringgate_access::{Access, Grants, PolicySet};
use ringgate_identity::issue::{Authority as Files, Issued, Issuer};
use ringgate_identity::{
    AgentKey, ReplayCache, Revocation, Revocations, Revoked, Subject, TrustDomain, Verifier, token,
};
use ringgate_policy::{AgentName, Authority, Identity, Limits, Permission};

use super::*;

const NOW: i64 = 1_800_000_000;
const HOUR: u32 = 3600;
const URI: &str = "https://gw.example:46357/agp.v1.AgentGateway/Open";

/// A trust domain with one agent.
struct World {
    issuer: Issuer,
    key: AgentKey,
    agent: Subject,
}

impl World {
    fn new() -> World {
        let domain = TrustDomain::new("test.example").expect("a name");
        let (files, _) = Files::create(&domain, time(NOW)).expect("made");
        World {
            issuer: Issuer::load(domain, &files).expect("its own files"),
            key: AgentKey::generate().expect("a key"),
            agent: Subject::from_path("acme/demo/alice/1").expect("a name"),
        }
    }

    fn rules(&self, revocations: Revocations) -> Rules {
        let bundle = self.issuer.bundle(1, HOUR);
        let verifier = Verifier::new(bundle, revocations).expect("its own bundle");
        let hosts = vec!["gw.example".to_owned()].into();
        Rules::strict("n1", hosts, Arc::new(verifier), None, Limits::default())
    }

    fn revoking(&self, revoked: Revoked) -> Rules {
        let entry = Revocation {
            number: 1,
            revoked,
            at: time(NOW),
        };
        self.rules(Revocations::from_snapshot(1, [entry]).expect("one"))
    }

    fn certificate(&self, subject: &Subject) -> Issued {
        let csr = self.key.csr(None, &[]).expect("a request");
        self.issuer
            .issue(&csr, subject, HOUR, &[], time(NOW))
            .expect("issued")
    }

    fn token(&self) -> String {
        let thumbprint = self.key.thumbprint();
        let issued = self
            .issuer
            .issue_token(&self.agent, &thumbprint, None, HOUR, time(NOW));
        issued.expect("issued").token
    }

    fn proof(&self, token: &str, uri: &str, id: u8) -> String {
        token::proof(&self.key, METHOD, uri, token, time(NOW), [id; 16]).expect("a proof")
    }

    fn identity(&self) -> Identity {
        let chain = self.certificate(&self.agent).chain;
        self.rules(Revocations::default())
            .certified(&chain, NOW)
            .expect("good")
    }
}

fn enforcer(rules: Rules) -> Enforcer {
    Enforcer::new(Arc::new(rules), Rc::new(RefCell::new(ReplayCache::default())))
}

fn name(text: &str) -> AgentName {
    AgentName::new(text).expect("valid")
}

fn code<T: std::fmt::Debug>(result: Result<T, Rejection>) -> &'static str {
    result.expect_err("refused").code
}

#[test]
fn the_host_of_an_authority_is_found() {
    for (authority, host) in [
        ("gw.example:46357", "gw.example"),
        ("gw.example", "gw.example"),
        ("[::1]:46357", "::1"),
        ("[::1]", "::1"),
        ("127.0.0.1:1", "127.0.0.1"),
    ] {
        assert_eq!(host_of(authority), host);
    }
}

#[test]
fn a_certificate_bears_its_name_and_no_other() {
    let world = World::new();
    let identity = world.identity();
    let enforcer = enforcer(world.rules(Revocations::default()));
    let register = |text: &str| enforcer.decide(&identity, &name(text), Permission::Register);
    assert!(register("acme/demo/alice/1").is_ok());
    assert!(register("acme/demo/alice/2").is_err());
    assert_eq!(identity.expires_unix(), Some(NOW + i64::from(HOUR) + 1));
}

#[test]
fn a_pseudonym_bears_a_name_that_says_nothing() {
    let world = World::new();
    let pseudonym = Subject::from_path(&format!(
        "pseudonym/{}",
        ringgate_identity::Pseudonym::from_random([7; 16])
    ));
    let chain = world.certificate(&pseudonym.expect("a pseudonym")).chain;
    let rules = world.rules(Revocations::default());
    let identity = rules.certified(&chain, NOW).expect("good");
    let borne = identity.proved().and_then(|credential| credential.agent.clone());
    assert!(borne.is_some_and(|name| name.service() == PSEUDONYMS));
}

#[test]
fn who_is_no_agent_is_refused() {
    let world = World::new();
    let chain = world
        .certificate(&Subject::from_path("operator/admin").expect("a name"))
        .chain;
    let rules = world.rules(Revocations::default());
    assert_eq!(code(rules.certified(&chain, NOW)), "NOT_AN_AGENT");
}

#[test]
fn a_session_is_over_with_its_certificate() {
    let world = World::new();
    let identity = world.identity();
    let enforcer = enforcer(world.rules(Revocations::default()));
    assert!(enforcer.examine(&identity, NOW + i64::from(HOUR)).is_ok());
    assert_eq!(
        code(enforcer.examine(&identity, NOW + i64::from(HOUR) + 1)),
        "EXPIRED"
    );
}

#[test]
fn what_is_revoked_is_revoked_for_open_sessions_too() {
    let world = World::new();
    let issued = world.certificate(&world.agent);
    let identity = world
        .rules(Revocations::default())
        .certified(&issued.chain, NOW)
        .expect("good");
    let revocations = [
        Revoked::Serial(issued.serial),
        Revoked::Identity(issued.uri.clone()),
        Revoked::IdentityUntil(issued.uri.clone(), time(NOW)),
    ];
    for revoked in revocations {
        let rules = world.revoking(revoked);
        assert_eq!(code(rules.certified(&issued.chain, NOW)), "REVOKED");
        assert_eq!(code(enforcer(rules).examine(&identity, NOW)), "REVOKED");
    }
    let allowed_again = world.revoking(Revoked::IdentityUntil(issued.uri, time(NOW - 1)));
    assert!(enforcer(allowed_again).examine(&identity, NOW).is_ok());
}

#[test]
fn other_anchors_end_those_whom_they_do_not_verify() {
    let identity = World::new().identity();
    let other = World::new();
    let enforcer = enforcer(other.rules(Revocations::default()));
    assert_eq!(code(enforcer.examine(&identity, NOW)), "UNKNOWN_ISSUER");
}

#[test]
fn nobody_is_believed_without_proof() {
    let rules = World::new().rules(Revocations::default());
    assert_eq!(
        code(enforcer(rules).examine(&Identity::Declared, NOW)),
        "NO_CERTIFICATE"
    );
    let believing = Rules::development("n1", None, Limits::default());
    assert!(enforcer(believing).examine(&Identity::Declared, NOW).is_ok());
}

#[test]
fn a_token_needs_a_fresh_proof_of_this_call() {
    let world = World::new();
    let (rules, token) = (world.rules(Revocations::default()), world.token());
    assert_eq!(
        rules
            .proof_uri("gw.example:46357", "/agp.v1.AgentGateway/Open")
            .as_deref(),
        Some(URI)
    );
    assert_eq!(
        rules.proof_uri("elsewhere.example", "/agp.v1.AgentGateway/Open"),
        None
    );
    let proof = world.proof(&token, URI, 1);
    let identity = rules.token(&token, &proof, URI, NOW).expect("good");
    assert!(identity.bears(&name("acme/demo/alice/1")) && !identity.bears(&name("acme/demo/bob/1")));

    assert_eq!(code(rules.token(&token, "", URI, NOW)), "PROOF_MISSING");
    assert_eq!(
        code(rules.token(&token, &proof, "https://gw.example/x", NOW)),
        "PROOF_MISMATCH"
    );
    assert_eq!(code(rules.token(&token, &proof, URI, NOW + 200)), "PROOF_STALE");
    let stranger = World::new();
    assert_eq!(
        code(rules.token(&stranger.token(), &proof, URI, NOW)),
        "TOKEN_SIGNATURE"
    );
    let thief = World {
        key: AgentKey::generate().expect("a key"),
        ..world
    };
    let proof = thief.proof(&token, URI, 2);
    assert_eq!(code(rules.token(&token, &proof, URI, NOW)), "KEY_MISMATCH");
}

#[test]
fn a_proof_is_used_up_however_its_signature_is_written() {
    let world = World::new();
    let enforcer = enforcer(world.rules(Revocations::default()));
    let token = world.token();
    let used = |id| {
        let proof = world.proof(&token, URI, id);
        let identity = enforcer.authenticate(&token, proof.as_bytes(), URI, NOW);
        identity.expect("good").proof().expect("by token")
    };
    assert_eq!(used(1), used(1), "what is signed names the proof");
    assert!(enforcer.use_up(&used(1), NOW).is_ok());
    assert_eq!(code(enforcer.use_up(&used(1), NOW)), "PROOF_REPLAYED");
    assert!(enforcer.use_up(&used(2), NOW).is_ok());
}

#[test]
fn policy_decides_and_says_what_and_why() {
    let text = r#"@id("hers") permit(principal == Agent::"acme/demo/alice/1", action == Action::"publish", resource in Topic::"news");"#;
    let access = Access::new(
        Arc::new(PolicySet::parse(text).expect("valid")),
        Grants::default(),
    );
    let enforcer = enforcer(Rules::development("n1", Some(access), Limits::default()));
    let alice = name("acme/demo/alice/1");
    let decide = |what| enforcer.decide(&Identity::Declared, &alice, what);
    assert!(decide(Permission::Publish("news/today")).is_ok());
    let denial = decide(Permission::Publish("sport")).expect_err("not hers").reason;
    assert!(denial.contains("publish") && denial.contains("sport"), "{denial}");
}
