//! Who gets a certificate, and for what; what the logs say of it.

mod harness;

use harness::{Home, enrolment, reason, uri};
use ringgate_control::ledger::check_chain;
use ringgate_identity::AgentKey;
use ringgate_proto::control::v1::enroll_request::Authorization;
use ringgate_proto::control::v1::{
    CreateJoinTokenRequest, DeleteJoinTokenRequest, EnrollRequest, GetCrlRequest, ListAuditRequest,
    ListIssuedRequest, ListJoinTokensRequest, RenewRequest,
};
use tonic::{Code, Request};

fn key() -> AgentKey {
    AgentKey::generate().expect("a key")
}

#[tokio::test]
async fn t19_a_join_token_enrols_as_often_as_it_says_and_whom_it_says() {
    let control = Home::bare().start();
    let token = control.join_token("acme/demo/*/*", 2).await;
    let mut anyone = control.identity(None).await;
    let first = key();
    let enrolled = anyone
        .enroll(enrolment(&first, "acme/demo/bot/1", &token))
        .await
        .expect("enrolled")
        .into_inner();
    assert_eq!(enrolled.identity, uri("acme/demo/bot/1"));
    assert!(enrolled.renew_after_unix < enrolled.not_after_unix);
    assert!(enrolled.trust_bundle.is_some());

    let mut refused = async |request: EnrollRequest| {
        let status = anyone.enroll(request).await.expect_err("refused");
        (status.code(), reason(&status))
    };
    let denied = |reason: &str| (Code::PermissionDenied, reason.to_owned());
    assert_eq!(
        refused(enrolment(&key(), "other/demo/bot/1", &token)).await,
        denied("IDENTITY_NOT_ALLOWED"),
        "a foreign identity"
    );
    assert_eq!(
        refused(enrolment(&key(), "node/n1", &token)).await,
        denied("IDENTITY_NOT_ALLOWED")
    );
    assert_eq!(
        refused(enrolment(&first, "acme/demo/bot/2", &token)).await,
        (Code::AlreadyExists, "KEY_ALREADY_CERTIFIED".into())
    );
    let mut other_domain = enrolment(&key(), "acme/demo/bot/2", &token);
    other_domain.identity = "agp://other.test/acme/demo/bot/2".into();
    assert_eq!(
        refused(other_domain).await,
        (Code::InvalidArgument, "WRONG_TRUST_DOMAIN".into())
    );
    let mut tampered = enrolment(&key(), "acme/demo/bot/2", &token);
    let mut csr = tampered.csr_der.to_vec();
    *csr.last_mut().expect("bytes") ^= 1;
    tampered.csr_der = csr.into();
    assert_eq!(
        refused(tampered).await,
        (Code::InvalidArgument, "CSR_BAD_SIGNATURE".into())
    );
    let mut nothing = enrolment(&key(), "acme/demo/bot/2", &token);
    nothing.csr_der.clear();
    assert_eq!(
        refused(nothing).await,
        (Code::InvalidArgument, "CSR_MALFORMED".into())
    );
    let mut rsa = enrolment(&key(), "acme/demo/bot/2", &token);
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
    let csr = rcgen::CertificateParams::default()
        .serialize_request(&pair)
        .expect("a request");
    rsa.csr_der = csr.der().to_vec().into();
    assert_eq!(
        refused(rsa).await,
        (Code::InvalidArgument, "KEY_TYPE_NOT_ALLOWED".into())
    );
    let mut two = enrolment(&key(), "acme/demo/bot/2", &token);
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = ["acme/demo/bot/2", "acme/demo/bot/3"]
        .map(|path| harness::san(&uri(path)))
        .to_vec();
    let csr = params.serialize_request(&key()).expect("a request");
    two.csr_der = csr.der().to_vec().into();
    assert_eq!(
        refused(two).await,
        (Code::InvalidArgument, "SEVERAL_SUBJECTS".into())
    );
    let mut hosts = enrolment(&key(), "acme/demo/bot/2", &token);
    hosts.hosts = vec!["gateway.example".into()];
    assert_eq!(refused(hosts).await, denied("HOST_NOT_ALLOWED"));
    let mut alone = enrolment(&key(), "acme/demo/bot/2", &token);
    alone.authorization = None;
    assert_eq!(
        refused(alone).await,
        (Code::Unauthenticated, "CREDENTIAL_MISSING".into())
    );
    let mut assertion = enrolment(&key(), "acme/demo/bot/2", &token);
    assertion.authorization = Some(Authorization::Assertion("a.b.c".into()));
    assert_eq!(refused(assertion).await, denied("ASSERTION_INVALID"));
    assert_eq!(
        refused(enrolment(&key(), "acme/demo/bot/2", "rgjoin.0123456789abcdef.x")).await,
        denied("JOIN_TOKEN_UNKNOWN")
    );

    // None of these used it up.
    let second = anyone.enroll(enrolment(&key(), "acme/demo/bot/2", &token)).await;
    second.expect("the second use");
    let status = anyone
        .enroll(enrolment(&key(), "acme/demo/bot/3", &token))
        .await
        .expect_err("a third use");
    assert_eq!(reason(&status), "JOIN_TOKEN_USED");
}

#[tokio::test]
async fn join_tokens_are_told_once_listed_and_deleted() {
    let control = Home::bare().start();
    let mut admin = control.admin().await;
    let create = |identity: &str, hosts: &[&str]| CreateJoinTokenRequest {
        identity: identity.into(),
        hosts: hosts.iter().map(|&host| host.into()).collect(),
        ..CreateJoinTokenRequest::default()
    };
    let node = admin
        .create_join_token(create("node/*", &["127.0.0.1"]))
        .await
        .expect("created")
        .into_inner();
    let agent = admin
        .create_join_token(create("acme/demo/bot/1", &[]))
        .await
        .expect("created")
        .into_inner();
    for (request, expected) in [
        (create("acme", &[]), "IDENTITY_NOT_ALLOWED"),
        (create("*/*", &[]), "IDENTITY_NOT_ALLOWED"),
        (create("acme/demo/bot/1", &["h"]), "HOST_NOT_ALLOWED"),
    ] {
        let status = admin.create_join_token(request).await.expect_err("refused");
        assert_eq!(reason(&status), expected);
    }
    let page = |page_token: String| ListJoinTokensRequest {
        page_token,
        page_size: 1,
    };
    let first = admin
        .list_join_tokens(page(String::new()))
        .await
        .expect("listed")
        .into_inner();
    let second = admin
        .list_join_tokens(page(first.next_page_token.clone()))
        .await
        .expect("listed")
        .into_inner();
    assert_eq!(second.next_page_token, "");
    let mut listed: Vec<_> = [first, second]
        .into_iter()
        .flat_map(|page| page.join_tokens)
        .collect();
    assert!(
        listed
            .iter()
            .all(|token| token.token.is_empty() && token.uses_left == 1)
    );
    listed.retain(|token| token.id == node.id || token.id == agent.id);
    assert_eq!(listed.len(), 2);

    // A node gets the hosts that its token allows, and keeps them when it renews.
    let first = key();
    let mut request = enrolment(&first, "node/n1", &node.token);
    request.hosts = vec!["127.0.0.1".into()];
    let enrolled = control
        .identity(None)
        .await
        .enroll(request)
        .await
        .expect("enrolled")
        .into_inner();
    let member = harness::Member { key: first, enrolled };
    let renewal = key();
    let request = RenewRequest {
        csr_der: renewal.csr(None, &[]).expect("a request").into(),
        ttl_seconds: 0,
        ..RenewRequest::default()
    };
    let renewed = control
        .identity(Some(member.presented()))
        .await
        .renew(request)
        .await
        .expect("renewed")
        .into_inner();
    let address = [127, 0, 0, 1];
    assert!(
        renewed.chain_der[0].windows(4).any(|window| window == address),
        "the host is still in it"
    );

    admin
        .delete_join_token(DeleteJoinTokenRequest { id: agent.id.clone() })
        .await
        .expect("deleted");
    let status = admin
        .delete_join_token(DeleteJoinTokenRequest { id: agent.id })
        .await
        .expect_err("twice");
    assert_eq!(reason(&status), "NOT_FOUND");
    let status = control
        .identity(None)
        .await
        .enroll(enrolment(&key(), "acme/demo/bot/1", &agent.token))
        .await
        .expect_err("deleted");
    assert_eq!(reason(&status), "JOIN_TOKEN_UNKNOWN");
}

#[tokio::test]
async fn renewal_keeps_the_identity_and_takes_a_new_key() {
    let control = Home::bare().start();
    let agent = control.enrol("acme/demo/bot/1").await;
    let mut client = control.identity(Some(agent.presented())).await;
    let renew = |csr: Vec<u8>| RenewRequest {
        csr_der: csr.into(),
        ttl_seconds: 600,
        ..RenewRequest::default()
    };
    let status = client
        .renew(renew(agent.key.csr(None, &[]).expect("a request")))
        .await
        .expect_err("the same key");
    assert_eq!(reason(&status), "KEY_ALREADY_CERTIFIED");
    let domain = ringgate_identity::TrustDomain::new(harness::DOMAIN).expect("a name");
    let other = ringgate_identity::Subject::from_path("acme/demo/bot/2").expect("a name");
    let status = client
        .renew(renew(key().csr(Some((&domain, &other)), &[]).expect("a request")))
        .await
        .expect_err("another identity");
    assert_eq!(reason(&status), "IDENTITY_CHANGED");
    let renewed = client
        .renew(renew(key().csr(None, &[]).expect("a request")))
        .await
        .expect("renewed")
        .into_inner();
    assert_eq!(renewed.supersedes_serial, agent.enrolled.serial);
    assert_eq!(renewed.identity, agent.enrolled.identity);
    assert!(
        renewed.not_after_unix < agent.enrolled.not_after_unix,
        "ten minutes were asked for"
    );
}

#[tokio::test]
async fn a_pseudonym_says_nothing_and_is_the_authoritys_choice() {
    let control = Home::bare().start();
    let token = control.join_token("pseudonym/*", 1).await;
    let mut client = control.identity(None).await;
    let mut request = enrolment(&key(), "acme/demo/bot/1", &token);
    request.pseudonym = true;
    let status = client
        .enroll(request.clone())
        .await
        .expect_err("a name of its own choice");
    assert_eq!(reason(&status), "IDENTITY_NOT_ALLOWED");
    request.identity.clear();
    let enrolled = client.enroll(request).await.expect("enrolled").into_inner();
    assert!(
        enrolled.identity.starts_with(&uri("pseudonym/")),
        "{}",
        enrolled.identity
    );
}

#[tokio::test]
async fn nobody_enrols_as_the_control_process_and_viewers_change_nothing() {
    let control = Home::bare().set("viewers=[\"eve\"]").start();
    let status = control
        .identity(None)
        .await
        .enroll(enrolment(
            &key(),
            "node/control",
            &control.join_token("node/*", 1).await,
        ))
        .await
        .expect_err("reserved");
    assert_eq!(reason(&status), "IDENTITY_NOT_ALLOWED");
    let eve = control.enrol("operator/eve").await;
    let mut client = control.identity(Some(eve.presented())).await;
    client
        .list_join_tokens(Request::new(Default::default()))
        .await
        .expect("she may look");
    let status = client
        .create_join_token(CreateJoinTokenRequest {
            identity: "operator/mallory".into(),
            ..CreateJoinTokenRequest::default()
        })
        .await
        .expect_err("she may not");
    assert_eq!(reason(&status), "VIEWER");
    let mut by_herself = enrolment(&key(), "operator/mallory", "");
    by_herself.authorization = None;
    let status = client.enroll(by_herself).await.expect_err("she may not");
    assert_eq!(reason(&status), "IDENTITY_NOT_ALLOWED");
    let renewal = RenewRequest {
        csr_der: key().csr(None, &[]).expect("a request").into(),
        ttl_seconds: 0,
        ..RenewRequest::default()
    };
    client.renew(renewal).await.expect("her own credential");
}

#[tokio::test]
async fn logs_are_chained_and_say_who_did_what() {
    let control = Home::bare().start();
    for instance in 0..20 {
        control.enrol(&format!("acme/demo/bot/{instance}")).await;
    }
    assert_eq!(control.refusal(None).await, "CREDENTIAL_MISSING");
    let mut admin = control.admin().await;
    let issued = admin
        .list_issued(ListIssuedRequest::default())
        .await
        .expect("listed")
        .into_inner();
    assert_eq!(check_chain(None, &issued.issued), Ok(()));
    assert!(
        !issued.more && issued.issued.len() >= 22,
        "twenty, and those of the process"
    );
    let of_one = ListIssuedRequest {
        identity: "acme/demo/bot/7".into(),
        ..ListIssuedRequest::default()
    };
    let of_one = admin
        .list_issued(of_one)
        .await
        .expect("listed")
        .into_inner()
        .issued;
    assert_eq!(of_one.len(), 1);
    assert!(of_one[0].authorized_by.starts_with("join token "));

    let mut entries = Vec::new();
    loop {
        let request = ListAuditRequest {
            after_number: entries.len() as u64,
            page_size: 7,
            subject: String::new(),
        };
        let page = control
            .audit()
            .await
            .list_audit(request)
            .await
            .expect("listed")
            .into_inner();
        entries.extend(page.entries);
        if !page.more {
            break;
        }
    }
    assert_eq!(check_chain(None, &entries), Ok(()));
    let enrolments = entries
        .iter()
        .filter(|entry| entry.action == "Identity/Enroll" && entry.outcome == "ok");
    assert_eq!(enrolments.count(), 20);
    let refused = entries
        .iter()
        .find(|entry| entry.outcome == "CREDENTIAL_MISSING")
        .expect("it is told");
    assert_eq!(
        (refused.actor.as_str(), refused.action.as_str()),
        ("address 127.0.0.1", "Identity/ListJoinTokens")
    );
    let mut bent = entries.clone();
    bent[5].detail.push('!');
    assert_eq!(check_chain(None, &bent), Err(6), "a bent entry is found");
}

#[tokio::test]
async fn the_revocation_list_is_signed_and_holds_what_is_revoked() {
    use ringgate_proto::control::v1::RevokeRequest;
    use ringgate_proto::control::v1::revoke_request::Subject as Target;
    use x509_parser::prelude::FromDer as _;

    let control = Home::bare().start();
    let mut admin = control.admin().await;
    let empty = admin
        .get_crl(GetCrlRequest {})
        .await
        .expect("signed")
        .into_inner();
    assert_eq!(empty.number, 0);
    let one = control.enrol("acme/demo/bot/1").await;
    let other = control.enrol("acme/demo/bot/2").await;
    for subject in [
        Target::Serial(one.enrolled.serial.clone()),
        Target::Identity(uri("acme/demo/bot/2")),
    ] {
        let request = RevokeRequest {
            subject: Some(subject),
            ..RevokeRequest::default()
        };
        admin.revoke(request).await.expect("revoked");
    }
    let crl = admin
        .get_crl(GetCrlRequest {})
        .await
        .expect("signed")
        .into_inner();
    assert_eq!(crl.number, 2);
    let (_, list) =
        x509_parser::revocation_list::CertificateRevocationList::from_der(&crl.crl_der).expect("a list");
    let mut listed: Vec<_> = list
        .iter_revoked_certificates()
        .map(|revoked| {
            revoked
                .raw_serial()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        })
        .collect();
    listed.sort();
    let mut expected = vec![one.enrolled.serial, other.enrolled.serial];
    expected.sort();
    assert_eq!(listed, expected);
}
