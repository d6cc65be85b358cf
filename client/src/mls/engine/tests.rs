//! Engines without a delivery service: what one makes is given to the other.

use ringgate_identity::issue::{Authority, Issuer};
use ringgate_identity::{Revocation, Revocations, Revoked, Subject, TrustDomain, Verifier};

use super::*;

struct World {
    issuer: Issuer,
    verifier: Arc<SharedVerifier>,
    delivery: proto::DeliveryService,
}

impl World {
    fn new() -> World {
        let domain = TrustDomain::new("test.example").expect("a name");
        let (files, _) = Authority::create(&domain, UnixTime::now()).expect("made");
        let issuer = Issuer::load(domain, &files).expect("its own files");
        let verifier = Verifier::new(issuer.bundle(1, 3600), Revocations::default()).expect("a verifier");
        let delivery = proto::DeliveryService {
            signature_key: AgentKey::generate().expect("a key").public().to_vec().into(),
            identity: Bytes::from_static(b"delivery"),
        };
        World {
            issuer,
            verifier: Arc::new(SharedVerifier::new(verifier)),
            delivery,
        }
    }

    fn agent(&self, path: &str) -> Engine {
        let key = AgentKey::generate().expect("a key");
        let subject = Subject::from_path(path).expect("a name");
        let csr = key.csr(None, &[]).expect("a request");
        let issued = self
            .issuer
            .issue(&csr, &subject, 3600, &[], UnixTime::now())
            .expect("issued");
        let verified = self.verifier.load().verify(&issued.chain, UnixTime::now());
        let held = Held {
            key,
            chain: issued.chain,
            verified: verified.expect("good"),
        };
        Engine::new(&held, Arc::clone(&self.verifier), &self.delivery)
    }

    /// From now on nobody of this identity is good.
    fn revoke(&self, identity: &str) {
        let entry = Revocation {
            number: 1,
            revoked: Revoked::Identity(identity.to_owned()),
            at: UnixTime::now(),
        };
        let revocations = Revocations::from_snapshot(1, [entry]).expect("one");
        let verifier = Verifier::new(self.issuer.bundle(1, 3600), revocations).expect("a verifier");
        self.verifier.swap(verifier);
    }
}

/// The first takes the second in.
fn take_in(first: &mut Engine, second: &mut Engine, id: &Bytes) {
    let package = second.key_packages(1, false).expect("made").remove(0);
    let (verifier, now) = (first.verifier.load(), UnixTime::now());
    let package = ringgate_mls::Package::check(&package, &verifier, now).expect("good");
    let bundle = first.commit(id, &Op::Add(vec![package.package])).expect("made");
    first.accepted(id, bundle.epoch, 1).expect("merged");
    let mail = proto::Mail {
        group_id: id.clone(),
        welcome: bundle.welcome,
        sender: first.me.uri.clone(),
        sequence: 1,
        ..proto::Mail::default()
    };
    second.join(&mail).expect("joined");
}

#[test]
fn who_is_not_good_any_more_does_not_make_the_commits_of_others_fail() {
    let world = World::new();
    let (mut alice, mut bob) = (world.agent("acme/demo/alice/1"), world.agent("acme/demo/bob/1"));
    let id = alice.random().expect("random");
    alice.create(&id, Mode::Assisted, 0).expect("made");
    take_in(&mut alice, &mut bob, &id);
    world.revoke(&bob.me.uri);
    let bundle = alice.commit(&id, &Op::Update).expect("made");
    alice.accepted(&id, bundle.epoch, 2).expect("merged");
    let live = &alice.groups[&id];
    assert_eq!((live.epoch(), live.roster().len()), (2, 2));
    // What is kept of a group comes back too, and whoever comes new is still looked at.
    let before = roster::load(&roster::save(live.roster()).expect("saved")).expect("loaded");
    assert_eq!(before, *live.roster());
    let (verifier, now) = (world.verifier.load(), UnixTime::now());
    roster::of_members_since(&before, live.group.members(), &verifier, now).expect("all were known");
    roster::of_members(live.group.members(), &verifier, now).expect_err("one is not good");
    let again = bob.key_packages(1, false).expect("made").remove(0);
    ringgate_mls::Package::check(&again, &verifier, now).expect_err("its holder is revoked");
}

#[test]
fn t20_who_is_not_good_is_refused_in_a_welcome_and_in_a_commit() {
    let world = World::new();
    let mut alice = world.agent("acme/demo/alice/1");
    let (mut bob, mut carol) = (world.agent("acme/demo/bob/1"), world.agent("acme/demo/carol/1"));
    let id = alice.random().expect("random");
    alice.create(&id, Mode::Assisted, 0).expect("made");
    take_in(&mut alice, &mut bob, &id);
    let package = carol.key_packages(1, false).expect("made").remove(0);
    let (verifier, now) = (world.verifier.load(), UnixTime::now());
    let package = ringgate_mls::Package::check(&package, &verifier, now).expect("good");
    let bundle = alice.commit(&id, &Op::Add(vec![package.package])).expect("made");
    let commit = proto::Handshake {
        group_id: id.clone(),
        sequence: 2,
        epoch: bundle.epoch,
        kind: HandshakeKind::Commit.into(),
        message: bundle.commit,
        sender: alice.me.uri.clone(),
    };
    let mail = proto::Mail {
        group_id: id.clone(),
        welcome: bundle.welcome,
        sender: alice.me.uri.clone(),
        sequence: 2,
        ..proto::Mail::default()
    };
    let refused = |error: GroupError| {
        assert!(
            matches!(error, GroupError::Refused(MlsError::Credential(_))),
            "{error}"
        )
    };
    // The commit would bring somebody in who is not good any more.
    world.revoke(&carol.me.uri);
    let Err(error) = bob.handshake(&commit) else {
        panic!("it was processed");
    };
    refused(error);
    assert_eq!(bob.groups[&id].epoch(), 1, "nothing has changed");
    // The Welcome leads into a group with somebody who is not.
    world.revoke(&bob.me.uri);
    refused(carol.join(&mail).expect_err("it would be joined"));
    assert!(!carol.groups.contains_key(&id));
    world.revoke("agp://test.example/acme/demo/nobody/1");
    bob.handshake(&commit).map(drop).expect("all are good again");
    assert_eq!(bob.groups[&id].roster().len(), 3);
}
