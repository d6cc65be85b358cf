//! Certificates of a real authority before the verifier: good ones, and every way to be refused.

use crate::world::{ALICE, BOB, TTL, World, date, later, subject, uri};
use rcgen::{ExtendedKeyUsagePurpose, SanType, SerialNumber};
use ringgate_identity::issue::{Authority, IssueError};
use ringgate_identity::{
    AgentKey, BundleError, CertificateDer, Issuer, Reason, Revocation, Revocations, Revoked, Serial,
    SharedVerifier, Subject, Verifier,
};

#[test]
fn each_kind_of_subject_is_issued_and_verified() {
    let world = World::new();
    let verifier = world.verifier();
    for path in [
        ALICE,
        "node/edge-1",
        "operator/ada@acme.example",
        "pseudonym/00ff",
        "a b/é/c?d/%",
    ] {
        let (key, issued) = world.enroll(path);
        let verified = verifier.verify(&issued.chain, world.now).expect(path);
        assert_eq!(verified.subject, subject(path));
        assert_eq!(verified.uri, issued.uri);
        assert_eq!(verified.serial, issued.serial);
        assert_eq!(verified.key, *key.public());
        assert_eq!(verified.issued_at(), world.now);
        assert_eq!(verified.not_after, later(world.now, i64::from(TTL)));
        assert_eq!(&*verified.leaf_der, issued.chain[0].as_ref());
        assert_eq!(
            verifier.verify_for_key(&issued.chain, key.public(), world.now),
            Ok(verified)
        );
    }
}

#[test]
fn a_chain_may_leave_out_what_the_bundle_has() {
    let world = World::new();
    let (_, issued) = world.enroll(ALICE);
    assert!(world.verifier().verify(&issued.chain[..1], world.now).is_ok());
}

#[test]
fn a_credential_is_good_from_its_first_to_its_last_second() {
    let world = World::new();
    let (_, issued) = world.enroll(ALICE);
    let verifier = world.verifier();
    for (at, expected) in [
        (later(issued.not_before, -1), Some(Reason::NotYetValid)),
        (issued.not_before, None),
        (issued.not_after, None),
        (later(issued.not_after, 1), Some(Reason::Expired)),
    ] {
        assert_eq!(verifier.verify(&issued.chain, at).err(), expected);
    }
}

/// Everything a certificate can be refused for, with the certificate.
#[test]
fn every_reason_has_its_certificate() {
    let world = World::new();
    let key = AgentKey::generate().expect("random source");
    let verifier = world.verifier();
    let alice = world.uri(ALICE);
    let refused =
        |chain: &[CertificateDer<'_>]| verifier.verify(chain, world.now).expect_err("to be refused");
    let forged = |change: fn(&mut rcgen::CertificateParams)| refused(&world.forge(&key, change));

    assert!(
        verifier.verify(&world.forge(&key, |_| {}), world.now).is_ok(),
        "unchanged, it is good"
    );

    assert_eq!(refused(&[]), Reason::NoCertificate);
    assert_eq!(
        refused(&[CertificateDer::from(&b"no certificate"[..])]),
        Reason::Malformed
    );
    let good = world.forge(&key, |_| {});
    assert_eq!(refused(&vec![good[0].clone(); 9]), Reason::ChainTooLarge);
    assert_eq!(
        refused(&[CertificateDer::from(vec![0x30; 20_000])]),
        Reason::ChainTooLarge
    );
    let trailing = [good[0].as_ref(), &[0]].concat();
    assert_eq!(refused(&[trailing.into()]), Reason::Malformed);

    assert_eq!(
        refused(&world.forge(&key, |leaf| leaf.not_after = date(later(world.now, -1)))),
        Reason::Expired
    );
    assert_eq!(
        refused(&world.forge(&key, |leaf| leaf.not_before = date(later(world.now, 1)))),
        Reason::NotYetValid
    );

    let stranger = World::new();
    assert_eq!(refused(&stranger.forge(&key, |_| {})), Reason::UnknownIssuer);
    let (_, issued) = stranger.enroll(ALICE);
    assert_eq!(refused(&issued.chain), Reason::UnknownIssuer);
    let self_signed = world.leaf(|_| {}).self_signed(&key).expect("signed");
    assert_eq!(refused(&[self_signed.der().clone()]), Reason::UnknownIssuer);

    let mut bundle = world.issuer.bundle(1, TTL);
    bundle.intermediates.clear();
    let bare = Verifier::new(bundle, Revocations::default()).expect("a good bundle");
    assert_eq!(
        bare.verify(&good[..1], world.now),
        Err(Reason::UnknownIssuer),
        "missing intermediate"
    );
    assert!(bare.verify(&good, world.now).is_ok(), "presented intermediate");

    assert_eq!(
        forged(|leaf| leaf.subject_alt_names = vec![uri("agp://other.example/acme/demo/alice/1")]),
        Reason::WrongTrustDomain
    );
    assert_eq!(forged(|leaf| leaf.subject_alt_names.clear()), Reason::NoSubject);
    assert_eq!(
        forged(
            |leaf| leaf.subject_alt_names = vec![SanType::DnsName("acme.example".try_into().expect("ASCII"))]
        ),
        Reason::NoSubject
    );
    assert_eq!(
        forged(|leaf| leaf
            .subject_alt_names
            .push(uri("agp://acme.example/acme/demo/bob/1"))),
        Reason::SeveralSubjects
    );
    assert_eq!(
        forged(|leaf| leaf
            .subject_alt_names
            .push(SanType::DnsName("acme.example".try_into().expect("ASCII")))),
        Reason::SeveralSubjects,
        "an agent has no hosts"
    );
    assert_eq!(
        forged(|leaf| leaf
            .subject_alt_names
            .push(SanType::Rfc822Name("a@acme.example".try_into().expect("ASCII")))),
        Reason::SeveralSubjects
    );
    for bad in [
        "spiffe://acme.example/x",
        "agp://acme.example/a/b/c",
        "agp://acme.example/%61/b/c/d",
    ] {
        let chain = world.forge(&key, |leaf| leaf.subject_alt_names = vec![uri(bad)]);
        assert_eq!(refused(&chain), Reason::SubjectMalformed, "{bad}");
    }

    for algorithm in [&rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_ECDSA_P256_SHA256] {
        let other = rcgen::KeyPair::generate_for(algorithm).expect("key");
        assert_eq!(refused(&world.forge(&other, |_| {})), Reason::KeyTypeNotAllowed);
    }

    assert_eq!(
        forged(|leaf| leaf.extended_key_usages.clear()),
        Reason::UsageNotAllowed
    );
    assert_eq!(
        forged(|leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        Reason::UsageNotAllowed
    );
    assert_eq!(forged(|leaf| leaf.key_usages.clear()), Reason::UsageNotAllowed);
    assert_eq!(
        forged(|leaf| leaf.subject_alt_names = vec![uri("agp://acme.example/node/edge-1")]),
        Reason::UsageNotAllowed,
        "a node that cannot serve"
    );
    let intermediate = world.issuer.bundle(1, TTL).intermediates;
    assert_eq!(
        refused(&intermediate),
        Reason::UsageNotAllowed,
        "an authority is no agent"
    );

    assert_eq!(
        refused(&world.forge(&key, |leaf| leaf.not_after =
            date(later(world.now, i64::from(TTL) + 1)))),
        Reason::LifetimeTooLong
    );

    let number: Serial = "42".repeat(16).parse().expect("serial");
    let by_serial = world.revoking(Revoked::Serial(number));
    assert_eq!(by_serial.verify(&good, world.now), Err(Reason::Revoked));
    let other_number = world.forge(&key, |leaf| {
        leaf.serial_number = Some(SerialNumber::from_slice(&[0x43; 16]))
    });
    assert!(by_serial.verify(&other_number, world.now).is_ok());
    let by_identity = world.revoking(Revoked::Identity(alice.clone()));
    assert_eq!(by_identity.verify(&good, world.now), Err(Reason::Revoked));
    assert_eq!(
        by_identity.verify(&other_number, world.now),
        Err(Reason::Revoked),
        "every certificate of it"
    );
    let (_, bob) = world.enroll(BOB);
    assert!(by_identity.verify(&bob.chain, world.now).is_ok(), "nobody else's");

    let stolen = AgentKey::generate().expect("random source");
    assert_eq!(
        verifier.verify_for_key(&good, stolen.public(), world.now),
        Err(Reason::KeyMismatch)
    );
}

#[test]
fn an_identity_that_is_allowed_again_gets_good_credentials() {
    let world = World::new();
    let (_, before) = world.enroll(ALICE);
    let verifier = world.revoking(Revoked::IdentityUntil(world.uri(ALICE), world.now));
    assert_eq!(verifier.verify(&before.chain, world.now), Err(Reason::Revoked));
    let key = AgentKey::generate().expect("random source");
    let csr = key.csr(None, &[]).expect("request");
    let after = world
        .issuer
        .issue(&csr, &subject(ALICE), 60, &[], later(world.now, 1))
        .expect("issued");
    assert!(verifier.verify(&after.chain, later(world.now, 1)).is_ok());
}

#[test]
fn a_revoked_authority_revokes_what_it_issued() {
    let world = World::new();
    let (_, issued) = world.enroll(ALICE);
    let authority = x509_parser::parse_x509_certificate(&issued.chain[1])
        .expect("read")
        .1;
    let number = Serial::from_bytes(authority.raw_serial()).expect("serial");
    let verifier = world.revoking(Revoked::Serial(number));
    assert_eq!(verifier.verify(&issued.chain, world.now), Err(Reason::Revoked));
}

#[test]
fn who_was_verified_is_asked_again_after_a_change() {
    let world = World::new();
    let shared = SharedVerifier::new(world.verifier());
    let (_, issued) = world.enroll(ALICE);
    let verified = shared.load().verify(&issued.chain, world.now).expect("good");
    assert_eq!(shared.load().recheck(&verified, world.now), Ok(()));
    assert_eq!(
        shared.load().recheck(&verified, later(verified.not_after, 1)),
        Err(Reason::Expired)
    );
    let mut revocations = shared.load().revocations().clone();
    revocations
        .insert(Revocation {
            number: 1,
            revoked: Revoked::Serial(issued.serial),
            at: world.now,
        })
        .expect("the first");
    shared.swap(shared.load().with_revocations(revocations));
    assert_eq!(shared.load().recheck(&verified, world.now), Err(Reason::Revoked));
    assert_eq!(
        shared.load().verify(&issued.chain, world.now),
        Err(Reason::Revoked)
    );
}

#[test]
fn no_verifier_without_something_to_trust() {
    let world = World::new();
    let good = world.issuer.bundle(1, TTL);
    let refused = |bundle| Verifier::new(bundle, Revocations::default()).expect_err("to be refused");
    let mut bundle = good.clone();
    bundle.anchors.clear();
    assert_eq!(refused(bundle), BundleError::NoAnchor);
    let mut bundle = good.clone();
    bundle.anchors = vec![good.anchors[0].clone(); 17];
    assert_eq!(refused(bundle), BundleError::TooLarge);
    let mut bundle = good.clone();
    bundle.intermediates.push(CertificateDer::from(&b"x"[..]));
    assert_eq!(refused(bundle), BundleError::Certificate { index: 2 });
    let mut bundle = good.clone();
    bundle.anchors = vec![world.enroll(ALICE).1.chain[0].clone()];
    assert_eq!(
        refused(bundle),
        BundleError::Certificate { index: 0 },
        "a leaf is no anchor"
    );
    for ttl in [0, 7 * 24 * 3600 + 1] {
        let mut bundle = good.clone();
        bundle.leaf_ttl_seconds_max = ttl;
        assert_eq!(refused(bundle), BundleError::LeafTtl);
    }
}

#[test]
fn the_authority_signs_only_what_was_granted() {
    let world = World::new();
    let key = AgentKey::generate().expect("random source");
    let alice = subject(ALICE);
    let csr = key.csr(Some((&world.domain, &alice)), &[]).expect("request");
    let issue = |subject: &Subject, hosts: &[String]| world.issuer.issue(&csr, subject, 60, hosts, world.now);
    assert!(matches!(
        issue(&subject(BOB), &[]),
        Err(IssueError::IdentityMismatch { .. })
    ));
    assert_eq!(
        issue(&alice, &["localhost".into()]),
        Err(IssueError::HostsNotAllowed)
    );
    let after_end = world.issuer.not_after();
    assert_eq!(
        world.issuer.issue(&csr, &alice, 60, &[], after_end),
        Err(IssueError::AuthorityExpired)
    );
    let node = subject("node/edge-1");
    let csr = key.csr(None, &[]).expect("request");
    assert!(matches!(
        world
            .issuer
            .issue(&csr, &node, 60, &["not a host".into()], world.now),
        Err(IssueError::Key(_))
    ));
    let short = world
        .issuer
        .issue(&csr, &node, u32::MAX, &[], later(after_end, -5))
        .expect("issued");
    assert_eq!(short.not_after, after_end, "never beyond the authority");
}

#[test]
fn an_operators_own_authority_may_have_another_kind_of_root() {
    let world = World::new();
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_RSA_SHA256] {
        let root_key = rcgen::KeyPair::generate_for(algorithm).expect("key");
        let mut root = world.leaf(|params| {
            params.subject_alt_names.clear();
            params.extended_key_usages.clear();
            params.not_after = date(later(world.now, 1_000_000));
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.key_usages = vec![
                rcgen::KeyUsagePurpose::KeyCertSign,
                rcgen::KeyUsagePurpose::CrlSign,
            ];
        });
        root.distinguished_name
            .push(rcgen::DnType::CommonName, "operator's root");
        let root_pem = root.self_signed(&root_key).expect("signed").pem();
        let signer = rcgen::Issuer::new(root.clone(), root_key);
        let mut issuing = root.clone();
        issuing.distinguished_name = rcgen::DistinguishedName::new();
        issuing
            .distinguished_name
            .push(rcgen::DnType::CommonName, "operator's issuing");
        let issuing_key = AgentKey::generate().expect("random source");
        let authority = Authority {
            root_pem,
            issuing_pem: issuing.signed_by(&issuing_key, &signer).expect("signed").pem(),
            issuing_key_pem: issuing_key.to_pem().expect("pem"),
            token_key_pem: issuing_key.to_pem().expect("pem"),
        };
        let issuer = Issuer::load(world.domain.clone(), &authority).expect("loads");
        let key = AgentKey::generate().expect("random source");
        let csr = key.csr(None, &[]).expect("request");
        let issued = issuer
            .issue(&csr, &subject(ALICE), 60, &[], world.now)
            .expect("issued");
        let verifier = Verifier::new(issuer.bundle(1, TTL), Revocations::default()).expect("a good bundle");
        assert!(verifier.verify(&issued.chain, world.now).is_ok());
    }
}

#[test]
fn an_authority_that_does_not_fit_together_is_refused_at_load() {
    let world = World::new();
    let stranger = World::new();
    let load = |change: &dyn Fn(&mut Authority)| {
        let mut authority = world.authority.clone();
        change(&mut authority);
        Issuer::load(world.domain.clone(), &authority)
    };
    assert!(load(&|_| {}).is_ok());
    let changes: [&dyn Fn(&mut Authority); 6] = [
        &|authority| authority.root_pem = stranger.authority.root_pem.clone(),
        &|authority| authority.issuing_pem = stranger.authority.issuing_pem.clone(),
        &|authority| authority.issuing_key_pem = stranger.authority.issuing_key_pem.clone(),
        &|authority| authority.issuing_pem = world.authority.root_pem.clone(),
        &|authority| authority.root_pem = String::new(),
        &|authority| authority.token_key_pem.clear(),
    ];
    for (index, change) in changes.iter().enumerate() {
        assert!(load(change).is_err(), "change {index}");
    }
}

#[test]
fn an_issuing_certificate_is_replaced_without_a_break() {
    let world = World::new();
    let (_, before) = world.enroll(ALICE);
    let mut authority = world.authority.clone();
    authority
        .renew(&world.root_key_pem, &world.domain, later(world.now, 10))
        .expect("renewed");
    let renewed = Issuer::load(world.domain.clone(), &authority).expect("loads");
    assert_ne!(renewed.fingerprint(), world.issuer.fingerprint());
    let key = AgentKey::generate().expect("random source");
    let csr = key.csr(None, &[]).expect("request");
    let after = renewed
        .issue(&csr, &subject(BOB), 60, &[], later(world.now, 10))
        .expect("issued");
    let verifier = Verifier::new(renewed.bundle(2, TTL), Revocations::default()).expect("a good bundle");
    for chain in [&before.chain, &after.chain] {
        assert!(verifier.verify(chain, later(world.now, 10)).is_ok());
    }
}

#[test]
fn the_revocation_list_is_one_that_others_read() {
    let world = World::new();
    let (_, issued) = world.enroll(ALICE);
    let der = world
        .issuer
        .crl([(issued.serial, world.now)], 7, world.now, later(world.now, 3600))
        .expect("signed");
    use x509_parser::prelude::FromDer;
    let (rest, list) = x509_parser::revocation_list::CertificateRevocationList::from_der(&der).expect("read");
    assert!(rest.is_empty());
    assert_eq!(list.crl_number().map(ToString::to_string), Some("7".to_owned()));
    let serials: Vec<Serial> = list
        .iter_revoked_certificates()
        .map(|revoked| Serial::from_bytes(revoked.raw_serial()).expect("serial"))
        .collect();
    assert_eq!(serials, [issued.serial]);
    let authority = x509_parser::parse_x509_certificate(&issued.chain[1])
        .expect("read")
        .1;
    assert!(list.verify_signature(authority.public_key()).is_ok());
}

#[test]
fn any_bytes_are_verified_or_refused() {
    let world = World::new();
    let verifier = world.verifier();
    let (_, issued) = world.enroll("node/edge-1");
    bolero::check!()
        .with_type::<(Vec<u8>, u16)>()
        .for_each(|(bytes, at)| {
            assert!(verifier.verify(&[bytes.as_slice().into()], world.now).is_err());
            let mut spliced = issued.chain[0].to_vec();
            let start = usize::from(*at) % spliced.len();
            for (place, byte) in spliced[start..].iter_mut().zip(bytes) {
                *place = *byte;
            }
            if spliced != issued.chain[0].as_ref() {
                assert!(verifier.verify(&[spliced.into()], world.now).is_err());
            }
        });
}

#[test]
fn codes_are_distinct_and_stable_in_form() {
    let mut codes: Vec<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    assert!(
        codes
            .iter()
            .all(|code| code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
    );
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), Reason::ALL.len());
}
