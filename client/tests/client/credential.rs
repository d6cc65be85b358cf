//! Getting, keeping and renewing a credential.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ringgate_client::{Credential, CredentialError, Enrollment, Seal, Trust};
use ringgate_identity::keystore::{self, Stored};
use ringgate_identity::{AgentKey, Reason, Subject, UnixTime};

use crate::control::{ALICE, Control, Fault};

fn refused(error: &CredentialError) -> Option<&str> {
    match error {
        CredentialError::Refused { reason, .. } => Some(reason),
        _ => None,
    }
}

#[tokio::test]
async fn an_agent_enrols_with_what_it_was_told_of_the_authority() {
    let control = Control::start().await;
    let anchors = Trust::Anchors(control.desk.authority.root_pem.clone());
    for (trust, token) in [(control.trust(), "good 1"), (anchors, "good 2")] {
        let credential = Enrollment::new(control.url(), trust)
            .join_token(token)
            .enroll(ALICE)
            .await
            .unwrap();
        assert_eq!(credential.agent_name().as_deref(), Some(ALICE));
        let held = credential.held();
        let verifier = control.desk.verifier();
        let verified = verifier.verify_for_key(&held.chain, held.key.public(), UnixTime::now());
        assert_eq!(verified.unwrap().uri, "agp://acme.example/acme/demo/alice/1");
    }
}

#[tokio::test]
async fn a_pseudonym_is_chosen_for_the_agent() {
    let control = Control::start().await;
    let credential = control.enrollment().enroll_pseudonym().await.unwrap();
    assert_eq!(
        credential.agent_name().as_deref(),
        Some("pseudonym/anonymous/agent/00ff")
    );
}

#[tokio::test]
async fn an_enrolment_is_refused_with_its_reason() {
    let control = Control::start().await;
    let with = |token: &str| Enrollment::new(control.url(), control.trust()).join_token(token);
    let error = with("bad").enroll(ALICE).await.unwrap_err();
    assert_eq!(refused(&error), Some("JOIN_TOKEN_UNKNOWN"));
    with("good").enroll(ALICE).await.unwrap();
    let error = with("good").enroll(ALICE).await.unwrap_err();
    assert_eq!(refused(&error), Some("JOIN_TOKEN_USED"));
    let error = with("good 2").enroll("alice").await.unwrap_err();
    assert!(matches!(
        error,
        CredentialError::Configuration { what: "identity", .. }
    ));
}

#[tokio::test]
async fn a_control_process_that_is_not_recognised_is_told_nothing() {
    let control = Control::start().await;
    let other = Control::start().await;
    let anchors = Trust::Anchors(other.desk.authority.root_pem.clone());
    for trust in [other.trust(), anchors] {
        let error = Enrollment::new(control.url(), trust)
            .join_token("good")
            .enroll(ALICE)
            .await
            .unwrap_err();
        let CredentialError::Unreachable { reason, .. } = &error else {
            panic!("{error}")
        };
        assert!(reason.contains("not trusted here"), "{reason}");
    }
    control.alice().await; // The join token is as good as new.
    let nothing = Enrollment::new(control.url(), Trust::Anchors(String::new()));
    let error = nothing.enroll(ALICE).await.unwrap_err();
    assert!(matches!(
        error,
        CredentialError::Configuration { what: "trust", .. }
    ));
}

#[tokio::test]
async fn what_the_control_process_sends_is_verified_before_it_is_kept() {
    let control = Control::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alice.keystore");
    for (fault, token) in [(Fault::AnotherName, "good 1"), (Fault::AnotherKey, "good 2")] {
        *control.desk.fault.lock().unwrap() = fault;
        let enrollment = Enrollment::new(control.url(), control.trust())
            .join_token(token)
            .store(&path, Seal::KeyFile(folder.path().join("key")));
        if fault == Fault::AnotherName {
            let error = enrollment.enroll_pseudonym().await.unwrap_err();
            assert!(matches!(error, CredentialError::Changed { .. }), "{error}");
        } else {
            let error = enrollment.enroll(ALICE).await.unwrap_err();
            assert!(
                matches!(error, CredentialError::NotGood(Reason::KeyMismatch)),
                "{error}"
            );
        }
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn a_credential_outlives_its_program_in_the_keystore() {
    let control = Control::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alice.keystore");
    let seal = Seal::KeyFile(folder.path().join("key"));
    let start = || {
        // The join token is good once, so whoever starts again must not need it.
        let enrollment = control.enrollment().store(&path, seal.clone());
        async move { enrollment.load_or_enroll(ALICE).await.unwrap() }
    };
    let first = start().await;
    let second = start().await;
    assert_eq!(second.held().verified, first.held().verified);
    assert_eq!(second.held().key.public(), first.held().key.public());

    second.renew().await.unwrap();
    let third = Credential::load(&control.url(), &path, seal).await.unwrap();
    assert_eq!(third.held().verified, second.held().verified);
    assert_ne!(third.held().verified.serial, first.held().verified.serial);
}

#[tokio::test]
async fn an_expired_credential_is_not_loaded() {
    let control = Control::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alice.keystore");
    let seal = Seal::KeyFile(folder.path().join("key"));
    let key = AgentKey::generate().unwrap();
    let yesterday = UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() - 86_400));
    let subject = Subject::from_path(ALICE).unwrap();
    let issuer = &control.desk.issuer;
    let issued = issuer.issue(&key.csr(None, &[]).unwrap(), &subject, 3600, &[], yesterday);
    let stored = Stored {
        key,
        chain: issued.unwrap().chain,
        bundle: issuer.bundle(1, 86_400),
    };
    keystore::save(&path, &stored, &seal).unwrap();
    let error = Credential::load(&control.url(), &path, seal).await.unwrap_err();
    assert!(
        matches!(error, CredentialError::NotGood(Reason::Expired)),
        "{error}"
    );
    let error = Credential::load("http://127.0.0.1:1", &path, Seal::KeyFile("none".into())).await;
    assert!(matches!(
        error,
        Err(CredentialError::Configuration { what: "url", .. })
    ));
}

#[tokio::test]
async fn t22_a_renewal_is_for_another_key_and_the_same_holder() {
    let control = Control::start().await;
    let credential = control.alice().await;
    let mut keys = vec![*credential.held().key.public()];
    for _ in 0..20 {
        credential.renew().await.unwrap();
        let held = credential.held();
        assert_eq!(held.verified.uri, "agp://acme.example/acme/demo/alice/1");
        assert!(!keys.contains(held.key.public()));
        keys.push(*held.key.public());
    }
}

#[tokio::test]
async fn a_renewal_that_goes_wrong_changes_nothing() {
    let control = Control::start().await;
    let credential = control.alice().await;
    let before = credential.held();
    for fault in [Fault::Refuse("REVOKED"), Fault::AnotherName, Fault::AnotherKey] {
        *control.desk.fault.lock().unwrap() = fault;
        let error = credential.renew().await.unwrap_err();
        assert!(!error.retryable(), "{error}");
        match fault {
            Fault::Refuse(reason) => assert_eq!(refused(&error), Some(reason)),
            Fault::AnotherName => assert!(matches!(error, CredentialError::Changed { .. })),
            _ => assert!(matches!(error, CredentialError::NotGood(Reason::KeyMismatch))),
        }
        assert_eq!(credential.held().verified, before.verified);
    }
    *control.desk.fault.lock().unwrap() = Fault::None;
    credential.renew().await.unwrap();
    let url = control.url();
    drop(control);
    let error = credential.renew().await.unwrap_err();
    assert!(error.retryable() && error.to_string().contains(&url), "{error}");
}

#[tokio::test]
async fn a_credential_is_renewed_before_it_expires() {
    let control = Control::start().await;
    control.desk.leaf_ttl.store(3, Ordering::Relaxed);
    let credential = control.alice().await;
    let before = credential.held();
    let mut held = credential.watch();
    held.mark_unchanged();
    control.desk.leaf_ttl.store(3600, Ordering::Relaxed);
    held.changed().await.unwrap();
    let after = credential.held();
    assert_ne!(after.verified.serial, before.verified.serial);
    assert!(after.verified.issued_at() <= before.verified.not_after, "in time");
}
