//! Every credential that must be refused is refused with its own reason; every good one is let in.

mod harness;

use harness::{DOMAIN, Home, Presented, forge, san, uri};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use ringgate_identity::issue::Authority;
use ringgate_identity::{AgentKey, Issuer, Subject, TrustDomain, UnixTime};
use ringgate_proto::control::v1::revoke_request::Subject as Target;
use ringgate_proto::control::v1::{
    IssueTokenRequest, ListAuditRequest, RevokeRequest, VerifyCredentialRequest, WatchSecurityEventsRequest,
};
use time::{Duration, OffsetDateTime};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

fn key() -> AgentKey {
    AgentKey::generate().expect("a key")
}

#[tokio::test]
async fn who_has_no_credential_gets_the_trust_bundle_and_nothing_else() {
    let control = Home::new().start();
    let bundle = control.trust_bundle().await;
    assert_eq!(bundle.trust_domain, DOMAIN);
    assert_eq!(control.refusal(None).await, "CREDENTIAL_MISSING");
    assert_eq!(
        control.refusal(Some(control.admin_credential())).await,
        "it was let in"
    );
}

#[tokio::test]
async fn certificates_are_refused_each_for_its_own_reason() {
    let home = Home::new();
    let control = home.start();
    let key = key();
    let forged =
        |change: &dyn Fn(&mut rcgen::CertificateParams)| Some(Presented::new(home.forge(&key, change), &key));
    assert_eq!(
        control.refusal(forged(&|_| {})).await,
        "it was let in",
        "the forger's own work is good"
    );
    let now = OffsetDateTime::now_utc();
    assert_eq!(
        control
            .refusal(forged(&|leaf| leaf.not_after = now - Duration::seconds(5)))
            .await,
        "EXPIRED"
    );
    assert_eq!(
        control
            .refusal(forged(&|leaf| leaf.not_before = now + Duration::minutes(5)))
            .await,
        "NOT_YET_VALID"
    );
    assert_eq!(
        control
            .refusal(forged(
                &|leaf| leaf.subject_alt_names = vec![san("agp://other.test/operator/a")]
            ))
            .await,
        "WRONG_TRUST_DOMAIN"
    );
    assert_eq!(
        control
            .refusal(forged(&|leaf| leaf.subject_alt_names.clear()))
            .await,
        "NO_SUBJECT"
    );
    assert_eq!(
        control
            .refusal(forged(&|leaf| leaf
                .subject_alt_names
                .push(san(&uri("operator/b")))))
            .await,
        "SEVERAL_SUBJECTS"
    );
    assert_eq!(
        control
            .refusal(forged(
                &|leaf| leaf.subject_alt_names = vec![san(&uri("operator/a/b"))]
            ))
            .await,
        "SUBJECT_MALFORMED"
    );
    assert_eq!(
        control
            .refusal(forged(&|leaf| leaf.extended_key_usages.clear()))
            .await,
        "USAGE_NOT_ALLOWED"
    );
    assert_eq!(
        control
            .refusal(forged(&|leaf| leaf.not_after = now + Duration::days(30)))
            .await,
        "LIFETIME_TOO_LONG"
    );
    assert_eq!(
        control
            .refusal(forged(
                &|leaf| leaf.subject_alt_names = vec![san(&uri("acme/demo/bot/1"))]
            ))
            .await,
        "NOT_AN_OPERATOR",
        "an agent is nobody's operator"
    );
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_RSA_SHA256] {
        let pair = KeyPair::generate_for(algorithm).expect("a key");
        let presented = Presented::with_pair(home.forge(&pair, |_| {}), &pair);
        assert_eq!(control.refusal(Some(presented)).await, "KEY_TYPE_NOT_ALLOWED");
    }
    let domain = TrustDomain::new(DOMAIN).expect("a name");
    let (stranger, _) = Authority::create(&domain, UnixTime::now()).expect("made");
    let presented = Presented::new(forge(&stranger, &key, |_| {}), &key);
    assert_eq!(control.refusal(Some(presented)).await, "UNKNOWN_ISSUER");
}

#[tokio::test]
async fn a_certificate_without_its_key_does_not_get_past_the_handshake() {
    let home = Home::new();
    let control = home.start();
    let chain = home.forge(&key(), |_| {});
    let presented = Presented::new(chain, &key());
    // rustls refuses to present a chain with another key; so the handshake is made to lie.
    let config = rustls::sign::CertifiedKey::new(
        presented.chain.clone(),
        rustls::crypto::aws_lc_rs::sign::any_supported_type(&presented.key).expect("a key"),
    );
    assert!(config.keys_match().is_err(), "they do not match");
    let connected = harness::connect_lying(&control, config).await;
    assert!(
        connected.is_err(),
        "the server took a certificate whose key the client does not have"
    );
    // The handshake ends before its refusal is written.
    let refusal = async || {
        let listed = control
            .audit()
            .await
            .list_audit(ListAuditRequest::default())
            .await;
        let entries = listed.expect("listed").into_inner().entries;
        entries.into_iter().find(|entry| entry.action == "TLS handshake")
    };
    let entry = loop {
        match refusal().await {
            Some(entry) => break entry,
            None => tokio::task::yield_now().await,
        }
    };
    assert_eq!(
        (entry.outcome.as_str(), entry.actor.as_str()),
        ("KEY_MISMATCH", "address 127.0.0.1")
    );
}

#[tokio::test]
async fn what_is_revoked_is_refused_at_the_next_call_and_ends_streams() {
    let control = Home::new().start();
    let operator = control.enrol("operator/anna").await;
    let mut anna = control.identity(Some(operator.presented())).await;
    anna.list_join_tokens(Request::new(Default::default()))
        .await
        .expect("an operator");
    let channel = control.channel(Some(operator.presented())).await;
    let mut audit = ringgate_proto::control::v1::audit_client::AuditClient::new(channel);
    let mut events = audit
        .watch_security_events(WatchSecurityEventsRequest::default())
        .await
        .expect("watching")
        .into_inner();

    let revoke = |target: Target| RevokeRequest {
        subject: Some(target),
        reason: "lost laptop".into(),
        allow_again: false,
    };
    let mut admin = control.admin().await;
    let revoked = admin
        .revoke(revoke(Target::Serial(operator.enrolled.serial.clone())))
        .await
        .expect("revoked")
        .into_inner();
    assert_eq!(
        (revoked.number, revoked.serials),
        (1, vec![operator.enrolled.serial.clone()])
    );

    let status = events.message().await.expect_err("the stream ends");
    assert_eq!(harness::reason(&status), "REVOKED");
    let status = anna
        .list_join_tokens(Request::new(Default::default()))
        .await
        .expect_err("on the same connection");
    assert_eq!(
        (status.code(), harness::reason(&status)),
        (Code::Unauthenticated, "REVOKED".into())
    );
    assert_eq!(control.refusal(Some(operator.presented())).await, "REVOKED");

    // An identity: what it has now, and what it might ask for later, until it is allowed again.
    let second = control.enrol("operator/anna").await;
    let again = admin.revoke(revoke(Target::Identity(uri("operator/anna")))).await;
    assert_eq!(again.expect("revoked").into_inner().number, 2);
    assert_eq!(control.refusal(Some(second.presented())).await, "REVOKED");
    let token = control.join_token("operator/anna", 1).await;
    let request = || harness::enrolment(&key(), "operator/anna", &token);
    let status = control
        .identity(None)
        .await
        .enroll(request())
        .await
        .expect_err("banned");
    assert_eq!(harness::reason(&status), "REVOKED");
    let allow = RevokeRequest {
        allow_again: true,
        ..revoke(Target::Identity(uri("operator/anna")))
    };
    assert_eq!(admin.revoke(allow).await.expect("allowed").into_inner().number, 3);
    assert_eq!(
        control.refusal(Some(second.presented())).await,
        "REVOKED",
        "what was issued before stays void"
    );
    let third = control.enrol("operator/anna").await;
    assert_eq!(control.refusal(Some(third.presented())).await, "it was let in");

    // Everything about it is in the audit log.
    let request = ListAuditRequest {
        subject: uri("operator/anna"),
        ..ListAuditRequest::default()
    };
    let entries = control
        .audit()
        .await
        .list_audit(request)
        .await
        .expect("listed")
        .into_inner()
        .entries;
    let told: Vec<_> = entries
        .iter()
        .map(|entry| (entry.action.as_str(), entry.outcome.as_str()))
        .collect();
    for expected in [
        ("Identity/Enroll", "ok"),
        ("Identity/Revoke", "ok"),
        ("Identity/Enroll", "REVOKED"),
        ("Identity/ListJoinTokens", "REVOKED"),
    ] {
        assert!(told.contains(&expected), "{expected:?} is not in {told:?}");
    }
    assert!(entries.iter().any(|entry| entry.detail.contains("lost laptop")));
}

#[tokio::test]
async fn tokens_are_good_with_a_proof_of_the_call_and_not_without() {
    let control = Home::new().start();
    let operator = control.enrol("operator/anna").await;
    let mut anna = control.identity(Some(operator.presented())).await;
    let issued = anna
        .issue_token(IssueTokenRequest::default())
        .await
        .expect("issued")
        .into_inner();
    let call = |id: u8, method: &str, host: &str, key: &AgentKey| {
        let uri = format!("https://{host}/ringgate.control.v1.Identity/{method}");
        ringgate_identity::token::proof(key, "POST", &uri, &issued.token, UnixTime::now(), [id; 16])
            .expect("a proof")
    };
    let refusal = async |proof: Option<&str>, token: &str| {
        let mut request = Request::new(Default::default());
        let metadata = request.metadata_mut();
        let header = MetadataValue::try_from(format!("DPoP {token}")).expect("ASCII");
        metadata.insert("authorization", header);
        if let Some(proof) = proof {
            metadata.insert("dpop", MetadataValue::try_from(proof).expect("ASCII"));
        }
        match control.identity(None).await.list_join_tokens(request).await {
            Ok(_) => "it was let in".to_owned(),
            Err(status) => harness::reason(&status),
        }
    };
    let (token, host) = (&issued.token, &control.authority);
    let good = call(1, "ListJoinTokens", host, &operator.key);
    assert_eq!(refusal(Some(&good), token).await, "it was let in");
    assert_eq!(refusal(Some(&good), token).await, "PROOF_REPLAYED");
    assert_eq!(refusal(None, token).await, "PROOF_MISSING");
    let other_call = call(2, "ListIssued", host, &operator.key);
    assert_eq!(refusal(Some(&other_call), token).await, "PROOF_MISMATCH");
    let other_host = call(3, "ListJoinTokens", "elsewhere.test:1", &operator.key);
    assert_eq!(refusal(Some(&other_host), token).await, "PROOF_MISMATCH");
    let other_key = call(4, "ListJoinTokens", host, &key());
    assert_eq!(refusal(Some(&other_key), token).await, "KEY_MISMATCH");
    let fresh = call(5, "ListJoinTokens", host, &operator.key);
    assert_eq!(refusal(Some(&fresh), &token[1..]).await, "TOKEN_MALFORMED");

    let request = RevokeRequest {
        subject: Some(Target::Serial(operator.enrolled.serial.clone())),
        ..RevokeRequest::default()
    };
    anna.revoke(request).await.expect("its own");
    let fresh = call(6, "ListJoinTokens", host, &operator.key);
    assert_eq!(
        refusal(Some(&fresh), token).await,
        "REVOKED",
        "the token goes with its certificate"
    );
}

#[tokio::test]
async fn tokens_that_are_over_or_of_another_authority_are_refused() {
    let control = Home::new().start();
    let operator = control.enrol("operator/anna").await;
    let url = format!(
        "https://{}/ringgate.control.v1.Identity/ListJoinTokens",
        control.authority
    );
    let refusal = async |id: u8, token: &str| {
        let proof =
            ringgate_identity::token::proof(&operator.key, "POST", &url, token, UnixTime::now(), [id; 16])
                .expect("a proof");
        let mut request = Request::new(Default::default());
        let header = |text: String| MetadataValue::try_from(text).expect("ASCII");
        request
            .metadata_mut()
            .insert("authorization", header(format!("DPoP {token}")));
        request.metadata_mut().insert("dpop", header(proof));
        match control.identity(None).await.list_join_tokens(request).await {
            Ok(_) => None,
            Err(status) => Some(harness::reason(&status)),
        }
    };
    let request = IssueTokenRequest { ttl_seconds: 1 };
    let mut anna = control.identity(Some(operator.presented())).await;
    let issued = anna.issue_token(request).await.expect("issued").into_inner();
    // It is good until its last second is over.
    let left = (issued.not_after_unix + 1).cast_unsigned() - UnixTime::now().as_secs();
    tokio::time::sleep(std::time::Duration::from_secs(left)).await;
    assert_eq!(refusal(1, &issued.token).await.as_deref(), Some("EXPIRED"));
    let domain = TrustDomain::new(DOMAIN).expect("a name");
    let (stranger, _) = Authority::create(&domain, UnixTime::now()).expect("made");
    let issuer = Issuer::load(domain, &stranger).expect("its own files");
    let subject = Subject::from_path("operator/anna").expect("a name");
    let forged = issuer.issue_token(&subject, &operator.key.thumbprint(), None, 60, UnixTime::now());
    assert_eq!(
        refusal(2, &forged.expect("issued").token).await.as_deref(),
        Some("TOKEN_SIGNATURE")
    );
}

#[tokio::test]
async fn a_verdict_says_what_a_verifier_would_say() {
    let home = Home::new();
    let control = home.start();
    let agent = control.enrol("acme/demo/bot/1").await;
    let mut client = control.identity(Some(agent.presented())).await;
    let mut verdict = async |chain: Vec<bytes::Bytes>, at_unix| {
        let request = VerifyCredentialRequest {
            chain_der: chain,
            at_unix,
        };
        client
            .verify_credential(request)
            .await
            .expect("answered")
            .into_inner()
    };
    let good = verdict(agent.enrolled.chain_der.clone(), 0).await;
    assert!(good.good && good.identity == uri("acme/demo/bot/1"), "{good:?}");
    let later = verdict(agent.enrolled.chain_der.clone(), good.not_after_unix + 1).await;
    assert_eq!(later.reason, "EXPIRED");
    assert_eq!(verdict(vec![], 0).await.reason, "NO_CERTIFICATE");
}
