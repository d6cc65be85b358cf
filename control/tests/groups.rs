//! Key packages and groups, as agents and `openmls` use them: MLS.md section 3, its tests by their numbers.

mod harness;
mod player;

use std::collections::BTreeSet;

use bytes::Bytes;
use harness::{Control, Home, reason, uri};
use player::{MODE_ASSISTED, MODE_SEALED, Player};
use ringgate_mls::profile;
use ringgate_proto::control::v1::revoke_request::Subject as Target;
use ringgate_proto::control::v1::{
    ClaimKeyPackagesRequest, GetGroupInfoRequest, GetKeyPackagePoolRequest, HandshakeKind,
    PublishKeyPackagesRequest, ReportEpochRequest, ReportInvalidCommitRequest, RequestReAddRequest,
    RevokeRequest, SubmitCommitRequest, WithdrawKeyPackagesRequest,
};

fn name(who: &str) -> String {
    format!("acme/demo/{who}/1")
}

async fn player(control: &Control, who: &str) -> Player {
    Player::enrol(control, &name(who)).await
}

/// A group of some, the first of whom made it.
async fn group(players: &mut [&mut Player]) -> Bytes {
    let id = players[0].create(MODE_ASSISTED).await.expect("created");
    let (first, others) = players.split_first_mut().expect("one");
    for other in others.iter_mut() {
        other.publish(1).await;
    }
    let names: Vec<String> = others.iter().map(|other| other.name.clone()).collect();
    let packages = first.claim(&names).await;
    first.add(&id, packages).await.expect("added");
    for other in others {
        other.join_from_mail().await;
    }
    id
}

#[tokio::test]
async fn a_key_package_is_handed_out_once_and_the_last_resort_again_and_again() {
    let control = Home::new().start();
    let mut alice = player(&control, "alice").await;
    let bob = player(&control, "bob").await;
    let published: BTreeSet<Bytes> = alice.publish(3).await.into_iter().collect();
    assert_eq!(published.len(), 3);
    let last = alice.publish_last_resort().await;
    let mut claimed = BTreeSet::new();
    for round in 0..5 {
        let result = bob.claim_one(&alice.name).await;
        assert_eq!(result.reason, "", "{}", result.message);
        assert_eq!(result.last_resort, round >= 3);
        match result.last_resort {
            true => assert_eq!(result.reference, last),
            false => assert!(claimed.insert(result.reference), "nothing is handed out twice"),
        }
    }
    assert_eq!(claimed, published);
    let pool = alice
        .packages
        .get_key_package_pool(GetKeyPackagePoolRequest::default())
        .await;
    let pool = pool.expect("told").into_inner();
    assert_eq!((pool.available, pool.last_resort, pool.low), (0, true, true));
    assert!(pool.last_resort_used_unix > 0);
    // What was published cannot be published again, nor can what was handed out.
    let again = alice.publish_again().await;
    assert_eq!(again, ["KEY_PACKAGE_DUPLICATE"; 3]);
    let withdrawn = alice
        .packages
        .withdraw_key_packages(WithdrawKeyPackagesRequest {
            all: true,
            ..Default::default()
        })
        .await;
    assert_eq!(withdrawn.expect("withdrawn").into_inner().removed, 1);
    // Somebody else: one caller may claim so often in a second.
    assert_eq!(alice.claim_one(&alice.name).await.reason, "NO_KEY_PACKAGE");
}

#[tokio::test]
async fn claims_at_the_same_time_never_get_the_same_package() {
    let control = Home::new().start();
    let mut alice = player(&control, "alice").await;
    alice.publish(24).await;
    let mut claimers = Vec::new();
    for number in 0..6 {
        claimers.push(player(&control, &format!("claimer{number}")).await);
    }
    let claims = claimers
        .iter()
        .flat_map(|claimer| (0..4).map(|_| claimer.claim_one(&alice.name)));
    let results = futures_util::future::join_all(claims).await;
    let references: BTreeSet<Bytes> = results.iter().map(|result| result.reference.clone()).collect();
    assert_eq!((results.len(), references.len()), (24, 24), "{results:?}");
}

#[tokio::test]
async fn t8_t18_t20_key_packages_that_are_not_good_are_refused_with_their_reason() {
    let home = Home::new();
    let control = home.start();
    let alice = player(&control, "alice").await;
    let bob = player(&control, "bob").await;
    let mut publish = alice.packages.clone();
    let mut judge = async |package: Bytes| {
        let request = PublishKeyPackagesRequest {
            key_packages: vec![package],
        };
        let response = publish
            .publish_key_packages(request)
            .await
            .expect("judged")
            .into_inner();
        response.results[0].reason.clone()
    };
    assert_eq!(judge(alice.package(|_| {})).await, "");
    assert_eq!(judge(bob.package(|_| {})).await, "NOT_OWNER");
    assert_eq!(
        judge(Bytes::from_static(b"not a key package")).await,
        "MALFORMED_MLS"
    );
    assert_eq!(
        judge([&alice.package(|_| {})[..], b"\0"].concat().into()).await,
        "MALFORMED_MLS"
    );
    assert_eq!(judge(vec![0; 17 * 1024].into()).await, "TOO_LARGE");
    let mut broken = alice.package(|_| {}).to_vec();
    *broken.last_mut().expect("bytes") ^= 1;
    assert_eq!(judge(broken.into()).await, "SIGNATURE");
    // T18: a leaf with another key than its certificate's.
    assert_eq!(judge(alice.package(|kit| kit.other_key())).await, "KEY_MISMATCH");
    // T8: a suite that is not on the list.
    assert_eq!(judge(alice.package_of_p256()).await, "CIPHERSUITE_NOT_ALLOWED");
    assert_eq!(
        judge(alice.package(|kit| kit.lifetime = 365 * 24 * 3600)).await,
        "LIFETIME"
    );
    assert_eq!(
        judge(alice.package(|kit| kit.capable = false)).await,
        "CAPABILITIES"
    );
    assert_eq!(judge(alice.package(|kit| kit.basic())).await, "CREDENTIAL");
    // T20 at this door: certificates that are not good.
    let now = time::OffsetDateTime::now_utc();
    let san = harness::san(&alice.uri);
    let elsewhere = harness::san("agp://elsewhere.test/acme/demo/alice/1");
    let forged = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        alice.package(|kit| kit.chain = home.forge(&kit.rcgen_key(), change))
    };
    let good = |leaf: &mut rcgen::CertificateParams| leaf.subject_alt_names = vec![san.clone()];
    assert_eq!(judge(forged(&good)).await, "", "the forger's own work is good");
    for change in [
        &(|leaf: &mut rcgen::CertificateParams| {
            good(leaf);
            leaf.not_before = now - time::Duration::hours(2);
            leaf.not_after = now - time::Duration::seconds(5);
        }) as &dyn Fn(&mut rcgen::CertificateParams),
        &|leaf| {
            good(leaf);
            leaf.not_before = now + time::Duration::minutes(5);
        },
        &|leaf| leaf.subject_alt_names = vec![elsewhere.clone()],
        &|leaf| leaf.subject_alt_names.clear(),
    ] {
        assert_eq!(judge(forged(change)).await, "CREDENTIAL_REJECTED");
    }
    let alone = alice.package(|kit| kit.chain.truncate(1));
    assert_eq!(judge(alone).await, "", "the service knows its own intermediates");
    let stranger = Home::new();
    let foreign = alice.package(|kit| kit.chain = stranger.forge(&kit.rcgen_key(), good));
    assert_eq!(judge(foreign).await, "CREDENTIAL_REJECTED");
}

#[tokio::test]
async fn who_is_no_agent_has_no_key_packages_and_no_groups() {
    let control = Home::new().start();
    let channel = control.channel(Some(control.admin_credential())).await;
    let mut packages =
        ringgate_proto::control::v1::key_packages_client::KeyPackagesClient::new(channel.clone());
    let refused = packages
        .claim_key_packages(ClaimKeyPackagesRequest::default())
        .await
        .expect_err("refused");
    assert_eq!(reason(&refused), "NOT_AN_AGENT");
}

#[tokio::test]
async fn members_talk_who_is_removed_does_not_and_strangers_learn_nothing() {
    let control = Home::new().start();
    let (mut alice, mut bob, mut carol) = (
        player(&control, "alice").await,
        player(&control, "bob").await,
        player(&control, "carol").await,
    );
    let id = group(&mut [&mut alice, &mut bob]).await;
    let sealed = alice.seal(&id, b"hello");
    assert_eq!(bob.open(&sealed).expect("decrypted"), b"hello");

    // A third joins, and reads what comes after.
    carol.publish(1).await;
    let packages = bob.claim(&[carol.name.clone()]).await;
    bob.add(&id, packages).await.expect("added");
    carol.join_from_mail().await;
    alice.catch_up(&id).await;
    let sealed = carol.seal(&id, b"I am here");
    assert_eq!(alice.open(&sealed).expect("decrypted"), b"I am here");

    // T17: one is removed, and cannot decrypt what comes after.
    alice.remove(&id, &bob.uri.clone()).await.expect("removed");
    bob.catch_up(&id).await;
    carol.catch_up(&id).await;
    let sealed = alice.seal(&id, b"without bob");
    assert!(bob.open(&sealed).is_err());
    assert_eq!(carol.open(&sealed).expect("decrypted"), b"without bob");
    // It learns no more than who was never in it.
    for outsider in [&bob, &player(&control, "mallory").await] {
        let mut groups = outsider.groups.clone();
        let request = GetGroupInfoRequest { group_id: id.clone() };
        assert_eq!(
            reason(&groups.get_group_info(request).await.expect_err("refused")),
            "NOT_A_MEMBER"
        );
        let nothing = GetGroupInfoRequest {
            group_id: Bytes::from_static(&[9; 16]),
        };
        assert_eq!(
            reason(&groups.get_group_info(nothing).await.expect_err("refused")),
            "NOT_A_MEMBER"
        );
    }
}

#[tokio::test]
async fn t16_of_commits_at_the_same_time_one_is_taken() {
    let control = Home::new().start();
    let mut players = Vec::new();
    for number in 0..4 {
        players.push(player(&control, &format!("p{number}")).await);
    }
    let id = group(&mut players.iter_mut().collect::<Vec<_>>()).await;
    for round in 0..8 {
        let bundles: Vec<SubmitCommitRequest> = players.iter_mut().map(|player| player.update(&id)).collect();
        let submitted = players.iter().zip(bundles).map(|(player, bundle)| {
            let mut groups = player.groups.clone();
            async move { groups.submit_commit(bundle).await }
        });
        let answers = futures_util::future::join_all(submitted).await;
        let accepted = answers.iter().filter(|answer| answer.is_ok()).count();
        let stale = answers
            .iter()
            .filter_map(|answer| answer.as_ref().err())
            .filter(|status| reason(status) == "STALE_EPOCH");
        assert_eq!((accepted, stale.count()), (1, 3), "round {round}: {answers:?}");
        for (player, answer) in players.iter_mut().zip(&answers) {
            if answer.is_err() {
                player.refused(&id);
            }
            player.catch_up(&id).await;
        }
        let sealed = players[round % 4].seal(&id, b"still one group");
        assert_eq!(
            players[(round + 1) % 4].open(&sealed).expect("decrypted"),
            b"still one group"
        );
    }
    let log = players[0].log(&id, 0).await;
    let epochs: Vec<u64> = log
        .iter()
        .filter(|entry| entry.kind() == HandshakeKind::Commit)
        .map(|entry| entry.epoch)
        .collect();
    assert_eq!(
        epochs,
        (0..9).collect::<Vec<u64>>(),
        "the log has one commit for each epoch"
    );
}

#[tokio::test]
async fn t27_a_commit_that_was_accepted_is_accepted_again_even_after_the_process_was_killed() {
    let home = Home::new();
    let control = home.start();
    let mut alice = player(&control, "alice").await;
    let mut bob = player(&control, "bob").await;
    let id = group(&mut [&mut alice, &mut bob]).await;
    let bundle = alice.update(&id);
    let first = alice
        .groups
        .submit_commit(bundle.clone())
        .await
        .expect("accepted")
        .into_inner();
    control.kill();
    let control = home.start();
    alice.reconnect(&control).await;
    bob.reconnect(&control).await;
    let again = alice
        .groups
        .submit_commit(bundle)
        .await
        .expect("accepted")
        .into_inner();
    assert_eq!(first, again);
    alice.catch_up(&id).await;
    bob.catch_up(&id).await;
    // The service goes on with the tree that it stored.
    let bundle = bob.update(&id);
    bob.groups.submit_commit(bundle).await.expect("accepted");
    bob.catch_up(&id).await;
    alice.catch_up(&id).await;
    let sealed = bob.seal(&id, b"after a restart");
    assert_eq!(alice.open(&sealed).expect("decrypted"), b"after a restart");
}

#[tokio::test]
async fn a_commit_that_is_altered_or_of_somebody_else_is_refused() {
    let control = Home::new().start();
    let mut alice = player(&control, "alice").await;
    let mut bob = player(&control, "bob").await;
    let id = group(&mut [&mut alice, &mut bob]).await;
    let bundle = alice.update(&id);
    let refused = async |groups: &Player, change: &dyn Fn(&mut SubmitCommitRequest)| {
        let mut request = bundle.clone();
        change(&mut request);
        let answer = groups.groups.clone().submit_commit(request).await;
        answer.map_or_else(|status| reason(&status), |_| "it was accepted".to_owned())
    };
    assert_eq!(refused(&bob, &|_| {}).await, "SENDER_IDENTITY_MISMATCH");
    let flip = |bytes: &mut Bytes, from_end: usize| {
        let mut altered = bytes.to_vec();
        let at = altered.len() - from_end;
        altered[at] ^= 1;
        *bytes = altered.into();
    };
    // Of a PublicMessage the membership tag comes last, which only members can check; before it the confirmation tag, and the
    // signature, each with their length.
    assert_eq!(
        refused(&alice, &|request| flip(&mut request.commit, 33 + 5)).await,
        "GROUP_INFO_MISMATCH"
    );
    assert_eq!(
        refused(&alice, &|request| flip(&mut request.commit, 33 + 33 + 5)).await,
        "COMMIT_INVALID"
    );
    assert_eq!(
        refused(&alice, &|request| flip(&mut request.group_info, 5)).await,
        "GROUP_INFO_MISMATCH"
    );
    assert_eq!(
        refused(&alice, &|request| request.group_info.clear()).await,
        "MALFORMED_MLS"
    );
    assert_eq!(
        refused(&alice, &|request| request.epoch += 1).await,
        "MALFORMED_MLS"
    );
    assert_eq!(
        refused(&alice, &|request| request.commit = request.group_info.clone()).await,
        "MALFORMED_MLS"
    );
    assert_eq!(
        refused(&alice, &|request| request.welcome = request.group_info.clone()).await,
        "MALFORMED_MLS"
    );
    assert_eq!(
        refused(&alice, &|_| {}).await,
        "it was accepted",
        "what was refused changed nothing"
    );
}

#[tokio::test]
async fn t10_t30_what_would_weaken_a_group_or_double_a_member_is_refused() {
    let control = Home::new().start();
    let mut alice = player(&control, "alice").await;
    let mut bob = player(&control, "bob").await;
    let id = group(&mut [&mut alice, &mut bob]).await;
    // T10: a change of context that drops the required capabilities, and the delivery service with them.
    let bundle = alice.bare_context(&id);
    let refused = alice.groups.submit_commit(bundle).await.expect_err("refused");
    assert_eq!(reason(&refused), "CONTEXT_FORBIDDEN");
    alice.refused(&id);
    // T30: bob has lost its key: another certificate, for another key.
    let mut twin = bob.with_another_key(&control).await;
    let told = twin
        .groups
        .get_group_info(GetGroupInfoRequest { group_id: id.clone() })
        .await;
    let bundle = twin.external(&id, &told.expect("told").into_inner());
    let refused = twin.groups.submit_commit(bundle).await.expect_err("refused");
    assert_eq!(reason(&refused), "DUPLICATE_IDENTITY");
    let request = RequestReAddRequest {
        group_id: id.clone(),
        key_package: twin.fresh_package(),
    };
    twin.groups.request_re_add(request).await.expect("asked");
    alice.catch_up(&id).await;
    let (identity, package) = alice.asked.pop().expect("it was told");
    alice.swap(&id, &identity, package).await.expect("swapped");
    twin.forget(&id);
    twin.join_from_mail().await;
    let sealed = alice.seal(&id, b"welcome back");
    assert_eq!(twin.open(&sealed).expect("decrypted"), b"welcome back");
    assert_eq!(alice.members(&id), 2);
}

#[tokio::test]
async fn t29_who_lost_its_state_and_not_its_key_joins_again_by_itself() {
    let control = Home::new().start();
    let (mut alice, mut bob, mut carol) = (
        player(&control, "alice").await,
        player(&control, "bob").await,
        player(&control, "carol").await,
    );
    let id = group(&mut [&mut alice, &mut bob, &mut carol]).await;
    bob.forget(&id);
    let told = bob
        .groups
        .get_group_info(GetGroupInfoRequest { group_id: id.clone() })
        .await;
    let bundle = bob.external(&id, &told.expect("told").into_inner());
    bob.groups.submit_commit(bundle).await.expect("accepted");
    alice.catch_up(&id).await;
    carol.catch_up(&id).await;
    let sealed = alice.seal(&id, b"three as before");
    assert_eq!(bob.open(&sealed).expect("decrypted"), b"three as before");
    assert_eq!((alice.members(&id), carol.members(&id)), (3, 3));
}

#[tokio::test]
async fn t21_who_is_revoked_loses_its_packages_and_is_to_be_removed_with_the_next_commit() {
    let control = Home::new().start();
    let mut alice = player(&control, "alice").await;
    let mut bob = player(&control, "bob").await;
    let id = group(&mut [&mut alice, &mut bob]).await;
    bob.publish(2).await;
    let request = RevokeRequest {
        subject: Some(Target::Identity(uri(&name("bob")))),
        ..RevokeRequest::default()
    };
    control.admin().await.revoke(request).await.expect("revoked");
    // The proposal of the service comes by itself.
    alice.catch_up_to(&id, 2).await;
    assert_eq!(alice.claim_one(&bob.name).await.reason, "NO_KEY_PACKAGE");
    // Nobody can say anything until it is committed, and no other commit is taken.
    let bundle = alice.update_without_proposals(&id);
    let refused = alice.groups.submit_commit(bundle).await.expect_err("refused");
    assert_eq!(reason(&refused), "EVICTION_NOT_COVERED");
    alice.refused(&id);
    let bundle = alice.update(&id);
    alice.groups.submit_commit(bundle).await.expect("accepted");
    alice.catch_up(&id).await;
    assert_eq!(alice.members(&id), 1);
}

#[tokio::test]
async fn t13_who_stole_a_state_reads_neither_what_was_before_nor_what_comes_after_an_update() {
    let control = Home::new().start();
    let mut alice = player(&control, "alice").await;
    let mut bob = player(&control, "bob").await;
    let id = group(&mut [&mut alice, &mut bob]).await;
    let read = alice.seal(&id, b"read before");
    let unread = alice.seal(&id, b"sent and never read");
    assert_eq!(bob.open(&read).expect("decrypted"), b"read before");
    let mut thief = bob.stolen(&id);
    // Forward secrecy: the key of a message that was read is gone.
    thief.open(&read).expect_err("its key is gone");
    let now = alice.seal(&id, b"still the same epoch");
    assert_eq!(
        thief.open(&now).expect("its keys were stolen"),
        b"still the same epoch"
    );
    // Post-compromise security: bob renews its leaf, and the thief is left behind, even with the commit in its hands.
    let bundle = bob.update(&id);
    let commit = bundle.commit.clone();
    bob.groups.submit_commit(bundle).await.expect("accepted");
    alice.catch_up(&id).await;
    bob.catch_up(&id).await;
    thief.follow(&commit).expect_err("its path is for others");
    let healed = alice.seal(&id, b"healed");
    thief
        .open(&healed)
        .expect_err("of an epoch that it does not come to");
    assert_eq!(bob.open(&healed).expect("decrypted"), b"healed");
    // And of epochs that are over the keys go, whether their messages were read or not.
    for _ in 0..profile::PAST_EPOCHS {
        let bundle = alice.update(&id);
        alice.groups.submit_commit(bundle).await.expect("accepted");
        alice.catch_up(&id).await;
        bob.catch_up(&id).await;
    }
    bob.stolen(&id).open(&unread).expect_err("its epoch is over");
}

#[tokio::test]
async fn t15_whose_leaf_is_too_old_is_to_be_removed_unless_it_renews_it() {
    let control = Home::new().set("groups.leaf_age_seconds_max=3").start();
    let mut alice = player(&control, "alice").await;
    let mut bob = player(&control, "bob").await;
    let id = group(&mut [&mut alice, &mut bob]).await;
    // Bob is there, and renews its leaf when it is told; later it is away.
    for is_there in [true, false] {
        proposed_while_renewing(&mut alice, &id).await;
        match is_there {
            true => {
                bob.catch_up(&id).await;
                let bundle = bob.update_without_proposals(&id);
                bob.groups
                    .submit_commit(bundle)
                    .await
                    .expect("it was not revoked");
                bob.catch_up(&id).await;
                alice.catch_up(&id).await;
                assert_eq!(alice.members(&id), 2);
            }
            false => {
                alice.catch_up(&id).await;
                let bundle = alice.update(&id);
                alice.groups.submit_commit(bundle).await.expect("accepted");
                alice.catch_up(&id).await;
                assert_eq!(alice.members(&id), 1);
            }
        }
    }
}

/// Renews a member's own leaf again and again, until the service proposes to remove somebody else's.
async fn proposed_while_renewing(member: &mut Player, id: &Bytes) {
    let proposed = async {
        let mut again = tokio::time::interval(std::time::Duration::from_millis(500));
        loop {
            again.tick().await;
            let told = member.log(id, 0).await;
            let epoch = member.epoch(id);
            if told
                .iter()
                .any(|entry| entry.kind() == HandshakeKind::Proposal && entry.epoch == epoch)
            {
                return;
            }
            let bundle = member.update(id);
            member.groups.submit_commit(bundle).await.expect("accepted");
            member.catch_up(id).await;
        }
    };
    let patience = std::time::Duration::from_secs(60);
    tokio::time::timeout(patience, proposed).await.expect("proposed");
}

#[tokio::test]
async fn a_sealed_group_is_ordered_by_its_headers() {
    let control = Home::new().start();
    let mut alice = player(&control, "alice").await;
    let mut bob = player(&control, "bob").await;
    let id = alice.create(MODE_SEALED).await.expect("created");
    bob.publish(1).await;
    let packages = alice.claim(&[bob.name.clone()]).await;
    alice.add(&id, packages).await.expect("added");
    bob.join_from_mail().await;
    let (of_alice, of_bob) = (alice.update(&id), bob.update(&id));
    bob.groups.submit_commit(of_bob).await.expect("the first");
    let refused = alice
        .groups
        .submit_commit(of_alice)
        .await
        .expect_err("the second");
    assert_eq!(reason(&refused), "STALE_EPOCH");
    alice.refused(&id);
    alice.catch_up(&id).await;
    bob.catch_up(&id).await;
    let sealed = bob.seal(&id, b"nobody else knows");
    assert_eq!(alice.open(&sealed).expect("decrypted"), b"nobody else knows");
    let told = alice.log(&id, 0).await;
    assert!(told.iter().all(|entry| entry.sender.is_empty()));
    let request = GetGroupInfoRequest { group_id: id };
    assert_eq!(
        reason(&alice.groups.get_group_info(request).await.expect_err("refused")),
        "SEALED_GROUP"
    );
}

#[tokio::test]
async fn t31_forks_and_invalid_commits_are_told_and_stop_a_group() {
    let control = Home::new().start();
    let mut alice = player(&control, "alice").await;
    let mut bob = player(&control, "bob").await;
    let id = group(&mut [&mut alice, &mut bob]).await;
    let report = |epoch, digest: &[u8]| ReportEpochRequest {
        group_id: id.clone(),
        epoch,
        digest: Bytes::copy_from_slice(digest),
    };
    alice
        .groups
        .report_epoch(report(1, b"one"))
        .await
        .expect("the first");
    bob.groups
        .report_epoch(report(1, b"one"))
        .await
        .expect("the same");
    let forked = bob
        .groups
        .report_epoch(report(1, b"two"))
        .await
        .expect_err("another");
    assert_eq!(reason(&forked), "FORK_DETECTED");
    // The service is behind what a member knows: it was set back.
    let behind = alice
        .groups
        .report_epoch(report(7, b"one"))
        .await
        .expect_err("ahead");
    assert_eq!(reason(&behind), "BEHIND");
    let bundle = alice.update(&id);
    assert_eq!(
        reason(&alice.groups.submit_commit(bundle).await.expect_err("frozen")),
        "GROUP_FROZEN"
    );

    let mut carol = player(&control, "carol").await;
    let mut dave = player(&control, "dave").await;
    let id = group(&mut [&mut carol, &mut dave]).await;
    let complaint = ReportInvalidCommitRequest {
        group_id: id.clone(),
        sequence: 1,
        error: "no".into(),
    };
    let answer = dave
        .groups
        .report_invalid_commit(complaint)
        .await
        .expect("told")
        .into_inner();
    assert!(
        answer.frozen,
        "the only one who did not make it cannot process it"
    );
}
