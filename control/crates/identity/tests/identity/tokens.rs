//! Bearer tokens and their proofs (RFC 9449): good ones, and every way to be refused.

use crate::world::{ALICE, TTL, World, later, subject};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ringgate_identity::issue::Issued;
use ringgate_identity::{
    AgentKey, ProofTarget, Reason, ReplayCache, Revoked, UnixTime, VerifiedToken, Verifier, token,
};

const OPEN: ProofTarget<'static> = ProofTarget {
    method: "POST",
    uri: "https://127.0.0.1:46357/agp.v1.AgentGateway/Open",
};

/// Alice with a token for her key.
struct Call {
    world: World,
    key: AgentKey,
    issued: Issued,
    token: String,
    now: UnixTime,
}

impl Call {
    fn new() -> Self {
        let world = World::new();
        let (key, issued) = world.enroll(ALICE);
        let token = world
            .issuer
            .issue_token(
                &subject(ALICE),
                &key.thumbprint(),
                Some(&issued.serial),
                600,
                world.now,
            )
            .expect("issued")
            .token;
        let now = world.now;
        Self {
            world,
            key,
            issued,
            token,
            now,
        }
    }

    fn proof(&self) -> String {
        token::proof(&self.key, OPEN.method, OPEN.uri, &self.token, self.now, [7; 16]).expect("proof")
    }

    fn verify(&self, proof: &str) -> Result<VerifiedToken, Reason> {
        self.verify_with(&self.world.verifier(), proof, self.now)
    }

    fn verify_with(&self, verifier: &Verifier, proof: &str, at: UnixTime) -> Result<VerifiedToken, Reason> {
        verifier.verify_token(&self.token, proof, &OPEN, at, &mut ReplayCache::default())
    }
}

/// A JWT of these parts, signed by `key`.
fn jwt(header: &str, claims: &str, key: &AgentKey) -> String {
    let input = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let signature = URL_SAFE_NO_PAD.encode(key.sign(input.as_bytes()));
    format!("{input}.{signature}")
}

fn part(jwt: &str, index: usize) -> String {
    let text = jwt.split('.').nth(index).expect("three parts");
    String::from_utf8(URL_SAFE_NO_PAD.decode(text).expect("base64")).expect("text")
}

#[test]
fn a_token_with_its_proof_names_its_holder() {
    let call = Call::new();
    let verified = call.verify(&call.proof()).expect("good");
    assert_eq!(verified.subject, subject(ALICE));
    assert_eq!(verified.uri, call.world.uri(ALICE));
    assert_eq!(verified.serial, Some(call.issued.serial));
    assert_eq!(verified.key, *call.key.public());
    assert_eq!(verified.not_after, later(call.now, 600));
}

#[test]
fn a_token_alone_is_worth_nothing() {
    let call = Call::new();
    assert_eq!(call.verify(""), Err(Reason::ProofMissing));
    assert_eq!(call.verify("x"), Err(Reason::ProofMalformed));
    assert_eq!(
        call.verify(&call.token),
        Err(Reason::ProofMalformed),
        "a token is no proof"
    );
    assert_eq!(call.verify(&"x".repeat(9000)), Err(Reason::ProofMalformed));
}

#[test]
fn a_proof_is_for_one_call_and_one_token() {
    let call = Call::new();
    let other = |method, uri, token: &str| {
        call.verify(&token::proof(&call.key, method, uri, token, call.now, [7; 16]).expect("proof"))
    };
    assert_eq!(other("GET", OPEN.uri, &call.token), Err(Reason::ProofMismatch));
    assert_eq!(
        other(
            "POST",
            "https://127.0.0.1:46357/agp.v1.AgentGateway/Close",
            &call.token
        ),
        Err(Reason::ProofMismatch)
    );
    assert_eq!(
        other(
            "POST",
            "https://other:46357/agp.v1.AgentGateway/Open",
            &call.token
        ),
        Err(Reason::ProofMismatch)
    );
    assert_eq!(
        other("POST", OPEN.uri, "another token"),
        Err(Reason::ProofMismatch)
    );
    assert!(
        other(
            "POST",
            "https://127.0.0.1:46357/agp.v1.AgentGateway/Open?x#y",
            &call.token
        )
        .is_ok()
    );
}

#[test]
fn a_proof_is_fresh() {
    let mut call = Call::new();
    call.now = later(call.now, 100);
    let proof = call.proof();
    let verifier = call.world.verifier();
    for (later_by, expected) in [
        (-31, Some(Reason::ProofStale)),
        (-30, None),
        (60, None),
        (61, Some(Reason::ProofStale)),
    ] {
        let at = later(call.now, later_by);
        assert_eq!(
            call.verify_with(&verifier, &proof, at).err(),
            expected,
            "{later_by}"
        );
    }
}

#[test]
fn a_proof_is_accepted_once() {
    let call = Call::new();
    let verifier = call.world.verifier();
    let mut seen = ReplayCache::default();
    let proof = call.proof();
    let mut verify = |at| verifier.verify_token(&call.token, &proof, &OPEN, at, &mut seen);
    assert!(verify(call.now).is_ok());
    for later_by in [0, 1, 59, 60] {
        assert_eq!(verify(later(call.now, later_by)), Err(Reason::ProofReplayed));
    }
    assert_eq!(
        verify(later(call.now, 61)),
        Err(Reason::ProofStale),
        "and then it is too old"
    );

    let mut full = ReplayCache::new(0);
    assert_eq!(
        verifier.verify_token(&call.token, &proof, &OPEN, call.now, &mut full),
        Err(Reason::ProofsExhausted)
    );
}

#[test]
fn a_stolen_token_does_not_fit_another_key() {
    let call = Call::new();
    let thief = AgentKey::generate().expect("random source");
    let proof = token::proof(&thief, OPEN.method, OPEN.uri, &call.token, call.now, [7; 16]).expect("proof");
    assert_eq!(call.verify(&proof), Err(Reason::KeyMismatch));
    // With the victim's public key in the header, the signature does not fit.
    let good = call.proof();
    let forged = jwt(&part(&good, 0), &part(&good, 1), &thief);
    assert_eq!(call.verify(&forged), Err(Reason::ProofSignature));
}

#[test]
fn a_proof_has_the_form_of_rfc_9449() {
    let call = Call::new();
    let good = call.proof();
    let (header, claims) = (part(&good, 0), part(&good, 1));
    assert!(
        call.verify(&jwt(&header, &claims, &call.key)).is_ok(),
        "rebuilt, it is good"
    );
    let with_header = |from: &str, to: &str| {
        assert!(header.contains(from), "{header}");
        call.verify(&jwt(&header.replace(from, to), &claims, &call.key))
    };
    assert_eq!(with_header("dpop+jwt", "JWT"), Err(Reason::ProofMalformed));
    assert_eq!(with_header("\"EdDSA\"", "\"none\""), Err(Reason::ProofMalformed));
    assert_eq!(with_header("\"EdDSA\"", "\"HS256\""), Err(Reason::ProofMalformed));
    assert_eq!(with_header("\"jwk\"", "\"no\""), Err(Reason::ProofMalformed));
    assert_eq!(
        with_header("\"kty\"", "\"d\":\"AAAA\",\"kty\""),
        Err(Reason::ProofMalformed),
        "private key"
    );
    assert_eq!(
        with_header("{", "{\"crit\":[\"x\"],"),
        Err(Reason::ProofMalformed)
    );
    assert_eq!(with_header("\"OKP\"", "\"EC\""), Err(Reason::KeyTypeNotAllowed));
    let rsa = header
        .replace("\"EdDSA\"", "\"RS256\"")
        .replace("\"OKP\"", "\"RSA\"");
    assert_eq!(
        call.verify(&jwt(&rsa, &claims, &call.key)),
        Err(Reason::KeyTypeNotAllowed),
        "the key is what is wrong, not the form"
    );
    assert_eq!(
        with_header("\"Ed25519\"", "\"Ed448\""),
        Err(Reason::KeyTypeNotAllowed)
    );
    let with_claims = |from: &str, to: &str| {
        assert!(claims.contains(from), "{claims}");
        call.verify(&jwt(&header, &claims.replace(from, to), &call.key))
    };
    for claim in ["jti", "htm", "htu", "iat", "ath"] {
        assert_eq!(
            with_claims(&format!("\"{claim}\""), "\"no\""),
            Err(Reason::ProofMalformed),
            "{claim}"
        );
    }
}

#[test]
fn a_token_is_of_its_trust_domain_and_time() {
    let call = Call::new();
    let verifier = call.world.verifier();
    let at = |later_by| {
        let now = later(call.now, later_by);
        let proof = token::proof(&call.key, OPEN.method, OPEN.uri, &call.token, now, [7; 16]).expect("proof");
        call.verify_with(&verifier, &proof, now).err()
    };
    assert_eq!(at(600), None);
    assert_eq!(at(601), Some(Reason::Expired));
    assert_eq!(at(-30), None);
    assert_eq!(at(-31), Some(Reason::NotYetValid));

    let stranger = World::new();
    let other = call.verify_with(&stranger.verifier(), &call.proof(), call.now);
    assert_eq!(other, Err(Reason::TokenSignature));

    // The same keys in another trust domain.
    let authority = World::at("other.example", call.now).authority;
    let mut mixed = call.world.authority.clone();
    mixed.token_key_pem = authority.token_key_pem.clone();
    let mut bundle = World::at("other.example", call.now).issuer.bundle(1, TTL);
    bundle.token_keys = call.world.issuer.bundle(1, TTL).token_keys;
    let elsewhere = Verifier::new(bundle, ringgate_identity::Revocations::default()).expect("a good bundle");
    assert_eq!(
        call.verify_with(&elsewhere, &call.proof(), call.now),
        Err(Reason::WrongTrustDomain)
    );
}

#[test]
fn a_token_is_its_issuers() {
    let mut call = Call::new();
    let token_key = AgentKey::from_pem(&call.world.authority.token_key_pem).expect("key");
    let (header, claims) = (part(&call.token, 0), part(&call.token, 1));
    let mut with = |header: &str, claims: &str, key: &AgentKey| {
        call.token = jwt(header, claims, key);
        let proof = call.proof();
        call.verify(&proof).err()
    };
    assert_eq!(with(&header, &claims, &token_key), None, "rebuilt, it is good");
    let forger = AgentKey::generate().expect("random source");
    assert_eq!(with(&header, &claims, &forger), Some(Reason::TokenSignature));
    assert_eq!(
        with(&header.replace("at+jwt", "JWT"), &claims, &token_key),
        Some(Reason::TokenMalformed)
    );
    assert_eq!(
        with(&header.replace("EdDSA", "none"), &claims, &token_key),
        Some(Reason::TokenMalformed)
    );
    assert_eq!(
        with(&header.replace("\"kid\"", "\"x\""), &claims, &token_key),
        Some(Reason::TokenMalformed)
    );
    assert_eq!(
        with(
            &header,
            &claims.replace("/acme/demo/alice/1", "/alice"),
            &token_key
        ),
        Some(Reason::SubjectMalformed)
    );
    let exp = format!("\"exp\":{}", later(call_now(), 600).as_secs());
    let long = format!("\"exp\":{}", later(call_now(), i64::from(TTL) + 1).as_secs());
    assert!(claims.contains(&exp));
    assert_eq!(
        with(&header, &claims.replace(&exp, &long), &token_key),
        Some(Reason::LifetimeTooLong)
    );
    for claim in ["iss", "aud", "sub", "iat", "exp", "cnf"] {
        let without = claims.replace(&format!("\"{claim}\""), "\"no\"");
        assert_eq!(
            with(&header, &without, &token_key),
            Some(Reason::TokenMalformed),
            "{claim}"
        );
    }
    for text in ["", "x", "..", "a.b.c", &"x".repeat(9000)] {
        call.token = text.to_owned();
        let proof = call.proof();
        assert_eq!(call.verify(&proof), Err(Reason::TokenMalformed), "{text}");
    }
}

fn call_now() -> UnixTime {
    World::new().now
}

#[test]
fn revoking_the_certificate_or_the_holder_revokes_the_token() {
    let call = Call::new();
    let good = call.verify(&call.proof()).expect("good");
    for revoked in [
        Revoked::Serial(call.issued.serial),
        Revoked::Identity(call.world.uri(ALICE)),
        Revoked::IdentityUntil(call.world.uri(ALICE), call.now),
    ] {
        let verifier = call.world.revoking(revoked);
        assert_eq!(
            call.verify_with(&verifier, &call.proof(), call.now),
            Err(Reason::Revoked)
        );
        assert_eq!(verifier.recheck_token(&good, call.now), Err(Reason::Revoked));
    }
    let verifier = call.world.verifier();
    assert_eq!(verifier.recheck_token(&good, call.now), Ok(()));
    assert_eq!(
        verifier.recheck_token(&good, later(call.now, 601)),
        Err(Reason::Expired)
    );
}

#[test]
fn any_text_is_verified_or_refused() {
    let call = Call::new();
    let verifier = call.world.verifier();
    let good = call.proof();
    let (head, body) = (part(&good, 0), part(&good, 1));
    bolero::check!()
        .with_type::<(String, String)>()
        .for_each(|(token, proof)| {
            let mut seen = ReplayCache::default();
            let mut refused = |token: &str, proof: &str| {
                verifier
                    .verify_token(token, proof, &OPEN, call.now, &mut seen)
                    .is_err()
            };
            assert!(refused(token, proof));
            assert!(refused(&call.token, proof));
            // Well signed, whatever is in it.
            assert!(refused(&call.token, &jwt(token, &body, &call.key)));
            assert!(refused(&call.token, &jwt(&head, proof, &call.key)));
        });
}
