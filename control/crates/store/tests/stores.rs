//! Both stores do what every store does.
#![forbid(unsafe_code)]

mod conformance;

use std::future::Future;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, TestRunner};
use ringgate_store::testing::EtcdServer;
use ringgate_store::{Range, Redb, Revision, Store, StoreError, Transaction, VALUE_BYTES_MAX, Write};
use tokio_stream::StreamExt as _;

use conformance::{Shared, model, patiently, put};

/// The cases, once as tests of the embedded store, and once as a list for the other one, which shares one etcd.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let folder = tempfile::tempdir().expect("a folder");
                    super::conformance::$name(super::redb(&folder)).await;
                }
            )*
        }

        fn cases() -> Vec<(&'static str, fn(Shared) -> Pin<Box<dyn Future<Output = ()>>>)> {
            vec![$((stringify!($name), |store| Box::pin(conformance::$name(store)))),*]
        }
    };
}

cases![
    a_value_is_found_with_the_revision_that_wrote_it,
    what_changes_nothing_has_no_revision_of_its_own,
    a_conflict_names_its_condition_and_changes_nothing,
    ranges_are_in_order_and_in_pages,
    keys_are_bytes,
    pages_are_bounded_in_bytes,
    limits_hold_and_are_named,
    a_watch_tells_every_commit_once_and_in_order,
    all_watches_see_one_history,
    compare_and_set_loses_no_update,
    one_who_follows_is_told_everything,
];

fn redb(folder: &tempfile::TempDir) -> Shared {
    Arc::new(Redb::open(&folder.path().join("store.redb")).expect("it can be made"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_conforms() {
    let Some(server) = EtcdServer::start().await else {
        return;
    };
    for (name, case) in cases() {
        eprintln!("etcd: {name}");
        let store = server.open(&format!("{name}/")).await.expect("it answers");
        case(Arc::new(store)).await;
    }

    let store = server.open("forgotten/").await.expect("it answers");
    conformance::what_is_forgotten_is_said(Arc::new(store), async |_, revision| {
        compact(&server.url, revision)
    })
    .await;

    let mut runner = TestRunner::new(Config::with_cases(1));
    for case in 0..12 {
        let steps = model::steps().new_tree(&mut runner).expect("a case").current();
        eprintln!("etcd, case {case}: {steps:?}");
        let store = server.open(&format!("model-{case}/")).await.expect("it answers");
        model::agrees(Arc::new(store), steps).await;
    }

    lineages_tell_histories_apart(&server).await;
    what_a_session_put_vanishes_with_it(&server).await;
    a_session_that_is_not_heard_of_is_told(&server).await;
}

async fn lineages_tell_histories_apart(server: &EtcdServer) {
    let (one, other) = tokio::join!(server.open("lineage/"), server.open("lineage/"));
    let one = one.expect("it answers").lineage();
    assert_eq!(
        one,
        other.expect("it answers").lineage(),
        "two that open it at once agree"
    );
    assert_ne!(one, server.open("another/").await.expect("it answers").lineage());
}

async fn what_a_session_put_vanishes_with_it(server: &EtcdServer) {
    let store = server.open("session/").await.expect("it answers");
    let begin = store.range(Range::prefix("")).await.expect("readable").revision;
    let session = store
        .session(Duration::from_secs(60))
        .await
        .expect("it answers")
        .expect("etcd is shared");
    session.write(vec![put("here", "1")]).await.expect("it is alive");
    store
        .commit(Transaction::new().write(put("stays", "1")))
        .await
        .expect("nothing is in its way");
    let mut watch = store.watch("".into(), begin).await.expect("known");
    for key in ["here", "stays"] {
        let batch = patiently(watch.next()).await.expect("it goes on").expect("known");
        assert_eq!(batch.changes[0].key, key);
    }
    drop(session);
    let gone = patiently(watch.next()).await.expect("it goes on").expect("known");
    assert_eq!(
        (&gone.changes[0].key[..], &gone.changes[0].value),
        (&b"here"[..], &None)
    );
    assert!(store.get(b"stays").await.expect("readable").is_some());
}

async fn a_session_that_is_not_heard_of_is_told(server: &EtcdServer) {
    let store = server.open("unheard/").await.expect("it answers");
    let session = store
        .session(Duration::from_secs(60))
        .await
        .expect("it answers")
        .expect("etcd is shared");
    session.write(vec![put("here", "1")]).await.expect("it is alive");
    // As if nothing had been heard of it for a minute.
    let id = lease_of(&server.url, "unheard/data/here");
    post(&server.url, "/v3/lease/revoke", &format!("{{\"ID\":\"{id}\"}}"));
    assert!(matches!(
        session.write(vec![put("here", "2")]).await,
        Err(StoreError::SessionEnded)
    ));
    assert!(store.get(b"here").await.expect("readable").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_forgets_what_it_was_given_no_room_for() {
    let folder = tempfile::tempdir().expect("a folder");
    conformance::what_is_forgotten_is_said(redb(&folder), async |store, _| {
        // More bytes than are remembered.
        for _ in 0..20 {
            conformance::write(
                store,
                [Write::Put("large".into(), vec![0; VALUE_BYTES_MAX].into())],
            )
            .await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_embedded_store_is_the_same_when_it_is_opened_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = redb(&folder);
    let revision = conformance::write(&store, [put("a", "1"), put("b", "2")]).await;
    let mut watch = store.watch("".into(), revision).await.expect("known");
    let (lineage, all) = (store.lineage(), store.all(b"").await.expect("readable"));
    drop(store);
    assert!(matches!(
        patiently(watch.next()).await,
        Some(Err(StoreError::Unavailable { .. }))
    ));
    assert!(watch.next().await.is_none(), "an error is the end of a watch");

    let store = redb(&folder);
    assert_eq!(
        (store.lineage(), store.all(b"").await.expect("readable")),
        (lineage, all)
    );
    assert!(conformance::write(&store, [put("a", "2")]).await > revision);
    let another = tempfile::tempdir().expect("a folder");
    assert_ne!(redb(&another).lineage(), lineage);
}

#[test]
fn the_embedded_store_agrees_with_a_map() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut runner = TestRunner::new(Config {
        cases: 48,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&model::steps(), |steps| {
        let folder = tempfile::tempdir().expect("a folder");
        runtime.block_on(model::agrees(redb(&folder), steps));
        Ok(())
    });
    outcome.expect("they agree");
}

/// Makes etcd forget what was changed up to a revision, through its JSON gateway.
fn compact(url: &str, revision: Revision) {
    post(
        url,
        "/v3/kv/compaction",
        &format!("{{\"revision\":\"{revision}\",\"physical\":true}}"),
    );
}

/// The lease of a key.
fn lease_of(url: &str, key: &str) -> String {
    let answer = post(
        url,
        "/v3/kv/range",
        &format!("{{\"key\":\"{}\"}}", BASE64_STANDARD.encode(key)),
    );
    let (_, rest) = answer.split_once("\"lease\":\"").expect("it has a lease");
    rest.split('"').next().expect("it has a number").to_owned()
}

fn post(url: &str, path: &str, body: &str) -> String {
    let address = url.strip_prefix("http://").expect("plain HTTP");
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(
        stream,
        "POST {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.contains(" 200 OK"), "{answer}");
    answer
}
