//! The SDK against the real control process.

mod harness;

use harness::{Control, Home, uri};
use ringgate_client::{Credential, CredentialError, Enrollment, Fingerprint, Seal, Trust};
use ringgate_proto::control::v1::RevokeRequest;
use ringgate_proto::control::v1::identity_client::IdentityClient;
use ringgate_proto::control::v1::revoke_request::Subject;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

const NAME: &str = "acme/demo/bot/1";

fn url(control: &Control) -> String {
    format!("https://{}", control.authority)
}

fn by_anchors(control: &Control) -> Enrollment {
    let anchors = String::from_utf8(control.anchors.clone()).expect("PEM");
    Enrollment::new(url(control), Trust::Anchors(anchors))
}

fn refusal(result: Result<Credential, CredentialError>) -> String {
    match result.map(drop).expect_err("refused") {
        CredentialError::Refused { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn an_agent_enrols_by_a_fingerprint_and_keeps_its_key_encrypted() {
    let home = Home::new();
    let control = home.start();
    let issuing = CertificateDer::from_pem_slice(home.authority.issuing_pem.as_bytes()).expect("PEM");
    let folder = tempfile::tempdir().expect("a folder");
    let (path, seal) = (
        folder.path().join("agent.keystore"),
        Seal::KeyFile(folder.path().join("agent.key")),
    );
    let enrollment = |fingerprint| {
        Enrollment::new(url(&control), Trust::Fingerprint(fingerprint)).store(&path, seal.clone())
    };
    let token = control.join_token(NAME, 1).await;
    let stranger = Fingerprint::of(&CertificateDer::from(&b"another"[..]));
    let error = enrollment(stranger)
        .join_token(&token)
        .enroll(NAME)
        .await
        .map(drop)
        .expect_err("another authority");
    assert!(matches!(error, CredentialError::Unreachable { .. }), "{error}");

    let fingerprint = Fingerprint::of(&issuing);
    let credential = enrollment(fingerprint)
        .join_token(&token)
        .load_or_enroll(NAME)
        .await
        .expect("enrolled");
    let held = credential.held();
    assert_eq!(held.verified.uri, uri(NAME));
    let stored = std::fs::read(&path).expect("a keystore");
    let seed = held.key.seed().expect("a seed");
    let is_seed = |window: &[u8]| window == seed.as_slice();
    assert!(
        !stored.windows(seed.len()).any(is_seed),
        "the key is not there in the clear"
    );
    let again = Credential::load(&url(&control), &path, seal.clone())
        .await
        .expect("loaded");
    assert_eq!(again.held().verified.serial, held.verified.serial);
    assert_eq!(
        refusal(by_anchors(&control).join_token(&token).enroll(NAME).await),
        "JOIN_TOKEN_USED"
    );
}

#[tokio::test]
async fn it_renews_with_a_new_key_until_it_is_revoked() {
    let control = Home::bare().start();
    let token = control.join_token("acme/demo/*/*", 2).await;
    let enrollment = || by_anchors(&control).join_token(&token);
    assert_eq!(
        refusal(enrollment().enroll("other/demo/bot/1").await),
        "IDENTITY_NOT_ALLOWED"
    );
    let credential = enrollment().enroll(NAME).await.expect("enrolled");
    let first = credential.held();
    let mut changes = credential.watch();
    credential.renew().await.expect("renewed");
    changes.changed().await.expect("it is told");
    let second = credential.held();
    assert_eq!(second.verified.uri, first.verified.uri);
    assert_ne!(second.key.public(), first.key.public());
    assert_ne!(second.verified.serial, first.verified.serial);
    // What it holds now is good for calls of its own: here, for the end of itself.
    let mut client = IdentityClient::new(credential.control().await.expect("a channel"));
    let request = RevokeRequest {
        subject: Some(Subject::Identity(uri(NAME))),
        reason: "done".to_owned(),
        ..RevokeRequest::default()
    };
    client.revoke(request).await.expect("its own");
    let error = credential.renew().await.expect_err("revoked");
    assert!(
        matches!(&error, CredentialError::Refused { reason, .. } if reason == "REVOKED"),
        "{error}"
    );
    assert_eq!(refusal(enrollment().enroll(NAME).await), "REVOKED");
}

#[tokio::test]
async fn it_waits_for_a_control_process_that_is_away() {
    let home = Home::bare();
    let control = home.start();
    let token = control.join_token(NAME, 1).await;
    let credential = by_anchors(&control)
        .join_token(&token)
        .enroll(NAME)
        .await
        .expect("enrolled");
    let serial = credential.held().verified.serial;
    control.kill();
    let error = credential.renew().await.expect_err("nobody is there");
    assert!(error.retryable(), "{error}");
    assert_eq!(credential.held().verified.serial, serial, "it keeps what it has");
}
