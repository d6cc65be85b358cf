//! What a control process survives: being killed at any moment, being asked to end, another one beside it.

mod harness;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use harness::{Control, Home, enrolment, reason, uri};
use ringgate_control::ledger::check_chain;
use ringgate_identity::AgentKey;
use ringgate_proto::control::v1::revoke_request::Subject as Target;
use ringgate_proto::control::v1::{Issued, ListIssuedRequest, RevokeRequest, WatchSecurityEventsRequest};
use ringgate_store::testing::EtcdServer;

fn key() -> AgentKey {
    AgentKey::generate().expect("a key")
}

async fn issued(control: &Control) -> Vec<Issued> {
    let mut admin = control.admin().await;
    let mut all: Vec<Issued> = Vec::new();
    loop {
        let request = ListIssuedRequest {
            after_number: all.len() as u64,
            ..ListIssuedRequest::default()
        };
        let page = admin.list_issued(request).await.expect("listed").into_inner();
        all.extend(page.issued);
        if !page.more {
            return all;
        }
    }
}

/// How many rounds of killing: more by RINGGATE_CRASH_ROUNDS.
fn rounds(default: usize) -> usize {
    let set = std::env::var("RINGGATE_CRASH_ROUNDS").ok();
    set.and_then(|rounds| rounds.parse().ok()).unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_it_is_killed_while_it_enrols() {
    let home = Home::bare();
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let mut token = None;
    for round in 0..rounds(4) {
        let control = home.start();
        let token = match &token {
            Some(token) => String::clone(token),
            None => token
                .insert(control.join_token("acme/demo/*/*", 1_000_000).await)
                .clone(),
        };
        let killed = Arc::new(AtomicBool::new(false));
        let enrolling: Vec<_> = (0..4)
            .map(|worker| {
                let (token, killed, acknowledged) = (token.clone(), killed.clone(), acknowledged.clone());
                let (address, anchors) = (control.authority.clone(), control.anchors.clone());
                tokio::spawn(async move {
                    let channel = harness::channel(&address, &anchors, None)
                        .await
                        .expect("connected");
                    let mut client =
                        ringgate_proto::control::v1::identity_client::IdentityClient::new(channel);
                    for number in 0.. {
                        let path = format!("acme/demo/bot/{round}-{worker}-{number}");
                        match client.enroll(enrolment(&key(), &path, &token)).await {
                            Ok(enrolled) => {
                                let serial = enrolled.into_inner().serial;
                                acknowledged.lock().expect("list").push(serial);
                            }
                            Err(status) => {
                                assert!(killed.load(Ordering::SeqCst), "it was refused: {status}");
                                return;
                            }
                        }
                    }
                })
            })
            .collect();
        let before = acknowledged.lock().expect("list").len();
        while acknowledged.lock().expect("list").len() < before + 20 + 7 * round {
            tokio::task::yield_now().await;
        }
        killed.store(true, Ordering::SeqCst);
        control.kill();
        for task in enrolling {
            task.await.expect("no refusal before the kill");
        }
    }
    let control = home.start();
    let log = issued(&control).await;
    assert_eq!(check_chain(None, &log), Ok(()));
    for serial in acknowledged.lock().expect("list").iter() {
        assert!(
            log.iter().any(|entry| entry.serial == *serial),
            "{serial} is lost"
        );
    }
}

#[tokio::test]
async fn a_first_start_that_is_killed_anywhere_is_completed_by_the_next() {
    // What it makes, in the order in which it makes it: it is killed as soon as each is there.
    for made in [
        "",
        "ca/seal.key",
        "ca/root.pem",
        "ca/root.key",
        "ca.pem",
        "admin",
        "admin/key.pem",
        "admin/chain.pem",
        "endpoint",
    ] {
        let home = Home::bare();
        let mut child = home.spawn();
        while !home.state().join(made).exists() {
            assert!(
                child.try_wait().expect("asked").is_none(),
                "it ended before {made}"
            );
            tokio::task::yield_now().await;
        }
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        let control = home.start();
        assert_eq!(
            control.refusal(Some(control.admin_credential())).await,
            "it was let in",
            "{made}"
        );
        let bundle = control.trust_bundle().await;
        assert_eq!(
            (bundle.version, bundle.anchors_der.len()),
            (1, 1),
            "one authority: {made}"
        );
        control.enrol("acme/demo/bot/1").await;
    }
}

/// Prints a number and asserts none: `cargo test --release -p ringgate-control --test survival -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement; it says how many agents are enrolled in a second"]
async fn enrolments_per_second() {
    const CLIENTS: usize = 64;
    const EACH: usize = 50;
    let control = Home::bare()
        .set("limits.anonymous_calls_per_second_max=1000000")
        .start();
    let token = control.join_token("acme/demo/*/*", 1_000_000).await;
    let channel = control.channel(None).await;
    let requests: Vec<Vec<_>> = (0..CLIENTS)
        .map(|client| {
            let path = |number| format!("acme/demo/bot/{client}-{number}");
            (0..EACH)
                .map(|number| enrolment(&key(), &path(number), &token))
                .collect()
        })
        .collect();
    let (begun, before) = (std::time::Instant::now(), cpu_seconds(&control));
    let tasks: Vec<_> = requests
        .into_iter()
        .map(|requests| {
            let mut client =
                ringgate_proto::control::v1::identity_client::IdentityClient::new(channel.clone());
            tokio::spawn(async move {
                for request in requests {
                    client.enroll(request).await.expect("enrolled");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("enrolled");
    }
    let elapsed = begun.elapsed();
    let count = (CLIENTS * EACH) as f64;
    println!(
        "{count} enrolments, {CLIENTS} at once: {:.0} a second; {:.0} in a second of the process's CPU, which is what one core does",
        count / elapsed.as_secs_f64(),
        count / (cpu_seconds(&control) - before)
    );
}

/// CPU time of a process so far (proc_pid_stat(5): fields 14 and 15, in hundredths of a second).
fn cpu_seconds(control: &Control) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", control.child.id())).expect("it runs");
    let after_name = stat.rsplit_once(')').expect("a name").1;
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks
        .map(|field| field.parse::<f64>().expect("a number"))
        .sum::<f64>()
        / 100.0
}

#[tokio::test]
async fn a_restart_keeps_the_authority_the_operator_and_what_is_revoked() {
    let home = Home::bare();
    let mut control = home.start();
    let bundle = control.trust_bundle().await;
    let agent = control.enrol("operator/anna").await;
    let request = RevokeRequest {
        subject: Some(Target::Serial(agent.enrolled.serial.clone())),
        ..RevokeRequest::default()
    };
    control.admin().await.revoke(request).await.expect("revoked");
    let admin = std::fs::read(home.state().join("admin/chain.pem")).expect("a file");
    assert!(control.terminate().success());
    let control = home.start();
    assert_eq!(control.trust_bundle().await, bundle);
    assert_eq!(
        std::fs::read(home.state().join("admin/chain.pem")).expect("a file"),
        admin
    );
    assert_eq!(control.refusal(Some(agent.presented())).await, "REVOKED");
    for (path, mode) in [
        ("", 0o700),
        ("ca/root.key", 0o600),
        ("ca/seal.key", 0o600),
        ("store.redb", 0o600),
        ("admin", 0o700),
        ("admin/key.pem", 0o600),
    ] {
        use std::os::unix::fs::PermissionsExt as _;
        let found = std::fs::metadata(home.state().join(path))
            .expect(path)
            .permissions()
            .mode()
            & 0o777;
        assert_eq!(found, mode, "{path}");
    }
}

#[tokio::test]
async fn asked_to_end_it_ends_streams_and_then_itself() {
    let mut control = Home::bare().set("drain_ms=60000").start();
    let mut events = control
        .audit()
        .await
        .watch_security_events(WatchSecurityEventsRequest::default())
        .await
        .expect("watching")
        .into_inner();
    let told = tokio::spawn(async move { events.message().await.expect_err("it ends") });
    let ended = tokio::task::spawn_blocking(move || control.terminate());
    assert_eq!(reason(&told.await.expect("told")), "DRAINING");
    assert!(ended.await.expect("ended").success());
}

#[tokio::test]
async fn the_operators_own_authority_takes_over_and_the_old_one_stays_trusted() {
    let home = Home::bare();
    let control = home.start();
    let agent = control.enrol("operator/anna").await;
    control.kill();
    let own = Home::new();
    let file = |name: &str| own.folder.path().join(name).display().to_string();
    let home = home
        .set(format!("ca.root_certificate={}", file("root.pem")))
        .set(format!("ca.issuing_certificate={}", file("issuing.pem")))
        .set(format!("ca.issuing_key={}", file("issuing.key")));
    let control = home.start();
    let bundle = control.trust_bundle().await;
    assert_eq!((bundle.version, bundle.anchors_der.len()), (2, 2));
    assert_eq!(control.refusal(Some(agent.presented())).await, "it was let in");
    control.enrol("acme/demo/bot/1").await;
}

#[tokio::test]
async fn a_start_that_cannot_be_says_what_to_do() {
    let home = Home::bare();
    home.start().kill();
    let seal = home.state().join("ca/seal.key");
    let kept = std::fs::read(&seal).expect("a file");
    std::fs::remove_file(&seal).expect("removed");
    let log = home.try_start().map(|_| ()).expect_err("another seal key");
    assert!(log.contains("copy the seal key file"), "{log}");
    harness::write_private(&seal, &kept);
    let home = home.set("trust_domain=other.test");
    let log = home.try_start().map(|_| ()).expect_err("another trust domain");
    assert!(log.contains("cannot be renamed"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_control_processes_over_one_etcd_are_one_authority() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(etcd) = EtcdServer::start().await else {
        return;
    };
    let seal = folder.path().join("seal.key");
    let homes = [(), ()].map(|()| {
        Home::bare()
            .set("store.kind=etcd")
            .set(format!("store.etcd_endpoints=[\"{}\"]", etcd.url))
            .set(format!("ca.seal_key={}", seal.display()))
    });
    // Both at once, on a store where there is nothing.
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(|| homes[1].start());
        (homes[0].start(), other.join().expect("started"))
    });
    assert_eq!(one.trust_bundle().await, other.trust_bundle().await);
    assert_eq!(one.trust_bundle().await.anchors_der.len(), 1);

    // What one enrols the other knows; a key is certified once in both; a join token is used up in both.
    let agent = one.enrol("operator/anna").await;
    assert_eq!(other.refusal(Some(agent.presented())).await, "it was let in");
    let token = one.join_token("acme/demo/*/*", 8).await;
    let enrolling: Vec<_> = [&one, &other]
        .into_iter()
        .flat_map(|control| std::iter::repeat_n(control, 8))
        .map(|control| {
            let (address, anchors, token) =
                (control.authority.clone(), control.anchors.clone(), token.clone());
            tokio::spawn(async move {
                let channel = harness::channel(&address, &anchors, None)
                    .await
                    .expect("connected");
                let mut client = ringgate_proto::control::v1::identity_client::IdentityClient::new(channel);
                let answer = client.enroll(enrolment(&key(), "acme/demo/bot/1", &token)).await;
                answer.map(drop).map_err(|status| reason(&status))
            })
        })
        .collect();
    let mut answers = Vec::new();
    for task in enrolling {
        answers.push(task.await.expect("answered"));
    }
    assert_eq!(
        answers.iter().filter(|answer| answer.is_ok()).count(),
        8,
        "{answers:?}"
    );
    assert!(
        answers
            .iter()
            .flat_map(|answer| answer.as_ref().err())
            .all(|reason| reason == "JOIN_TOKEN_USED")
    );
    assert_eq!(check_chain(None, &issued(&one).await), Ok(()));

    // What one revokes ends a stream at the other; then one is killed and the other goes on.
    let channel = other.channel(Some(agent.presented())).await;
    let mut events = ringgate_proto::control::v1::audit_client::AuditClient::new(channel)
        .watch_security_events(WatchSecurityEventsRequest::default())
        .await
        .expect("watching")
        .into_inner();
    let request = RevokeRequest {
        subject: Some(Target::Identity(uri("operator/anna"))),
        ..RevokeRequest::default()
    };
    one.admin().await.revoke(request).await.expect("revoked");
    assert_eq!(reason(&events.message().await.expect_err("it ends")), "REVOKED");
    one.kill();
    other.enrol("acme/demo/bot/2").await;
    assert_eq!(check_chain(None, &issued(&other).await), Ok(()));
}
