//! The configurations as operators use them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ringgate_store::Redb;
use tempfile::TempDir;

use super::*;
use crate::caller::Presented;
use crate::errors::reason_of;
use crate::settings::Settings;

struct World {
    book: ConfigBook,
    _folder: TempDir,
}

fn call<T>(request: T) -> Request<T> {
    let mut request = Request::new(request);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    request.extensions_mut().insert(Caller::new(
        Presented::Nothing,
        address,
        "Config/ApplyConfig",
        true,
    ));
    request
}

impl World {
    async fn new() -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = Settings {
            state_dir: folder.path().to_owned(),
            ..Settings::default()
        };
        let store = Redb::open(&folder.path().join("store")).expect("a store");
        let context = Context::start(Arc::new(settings), Arc::new(store)).await;
        World {
            book: ConfigBook::new(context.expect("started")),
            _folder: folder,
        }
    }

    async fn apply(&self, toml: &str, expect_version: u64) -> Result<ApplyConfigResponse, Status> {
        let request = ApplyConfigRequest {
            toml: toml.to_owned(),
            expect_version,
            ..ApplyConfigRequest::default()
        };
        self.book
            .apply_config(call(request))
            .await
            .map(Response::into_inner)
    }

    async fn get(&self, version: u64) -> Result<ConfigDocument, Status> {
        let got = self.book.get_config(call(GetConfigRequest { version })).await;
        got.map(Response::into_inner)
    }
}

#[tokio::test]
async fn versions_follow_each_other_and_are_kept() {
    let world = World::new().await;
    assert_eq!(
        world.get(0).await.expect("readable"),
        ConfigDocument::default(),
        "nothing is configured at first"
    );
    let first = world.apply("drain_ms = 7\n", 0).await.expect("applied");
    assert_eq!(
        (first.version, first.changes.len(), first.changes[0].key.as_str()),
        (1, 1, "drain_ms")
    );
    let second = world.apply("drain_ms = 8\n", 1).await.expect("applied");
    assert_eq!(
        (
            second.version,
            second.changes[0].before.as_str(),
            second.changes[0].after.as_str()
        ),
        (2, "7", "8")
    );
    assert_eq!(world.get(1).await.expect("kept").toml, "drain_ms = 7\n");
    assert_eq!(world.get(0).await.expect("kept").version, 2);
    assert_eq!(reason_of(&world.get(3).await.expect_err("not yet")), "NOT_FOUND");

    let back = world
        .book
        .rollback_config(call(RollbackConfigRequest {
            version: 1,
            comment: String::new(),
        }))
        .await;
    assert_eq!(back.expect("applied").into_inner().version, 3);
    let present = world.get(0).await.expect("kept");
    assert_eq!(
        (present.toml.as_str(), present.comment.as_str()),
        ("drain_ms = 7\n", "rollback to 1")
    );

    let list = async |before_version, page_size| {
        let request = ListConfigHistoryRequest {
            before_version,
            page_size,
        };
        let listed = world
            .book
            .list_config_history(call(request))
            .await
            .expect("listed")
            .into_inner();
        listed
            .documents
            .iter()
            .map(|document| document.version)
            .collect::<Vec<_>>()
    };
    assert_eq!(list(0, 2).await, [3, 2]);
    assert_eq!(list(2, 2).await, [1]);
    let audited = keys::AUDIT
        .before(&*world.book.context.store, 0, 1)
        .await
        .expect("readable");
    let entry = &audited.items[0].1.value;
    assert_eq!((entry.subject.as_str(), entry.outcome.as_str()), ("config", "ok"));
    assert!(
        entry.detail.starts_with("version 3: drain_ms;"),
        "{}",
        entry.detail
    );
}

#[tokio::test]
async fn what_is_refused_or_only_tried_changes_nothing() {
    let world = World::new().await;
    world.apply("drain_ms = 7\n", 0).await.expect("applied");
    assert_eq!(
        reason_of(&world.apply("drain_ms = true\n", 0).await.expect_err("bad")),
        "CONFIG_INVALID"
    );
    let conflict = world
        .apply("drain_ms = 8\n", 5)
        .await
        .expect_err("it is at version 1");
    assert_eq!(
        (reason_of(&conflict).as_str(), conflict.code()),
        ("VERSION_CONFLICT", Code::Aborted)
    );
    let dry = ApplyConfigRequest {
        toml: "drain_ms = 8\n".into(),
        dry_run: true,
        ..ApplyConfigRequest::default()
    };
    let dry = world
        .book
        .apply_config(call(dry))
        .await
        .expect("it would do")
        .into_inner();
    assert_eq!((dry.version, dry.changes.len()), (1, 1));
    let present = world.get(0).await.expect("readable");
    assert_eq!((present.version, present.toml.as_str()), (1, "drain_ms = 7\n"));
}

#[tokio::test]
async fn of_two_at_once_each_knows_what_it_changed() {
    let world = World::new().await;
    let (one, other) = tokio::join!(world.apply("drain_ms = 1\n", 0), world.apply("drain_ms = 2\n", 0));
    let (one, other) = (one.expect("applied"), other.expect("applied"));
    let (first, second) = if one.version == 1 {
        (one, other)
    } else {
        (other, one)
    };
    assert_eq!((first.version, second.version), (1, 2));
    assert_eq!(second.changes[0].before, first.changes[0].after);
    let (one, other) = tokio::join!(world.apply("drain_ms = 3\n", 2), world.apply("drain_ms = 4\n", 2));
    let refused = one.and(other).expect_err("one of them was late");
    assert_eq!(reason_of(&refused), "VERSION_CONFLICT");
}

#[tokio::test]
async fn history_is_bounded() {
    let world = World::new().await;
    let store = &world.book.context.store;
    // As if there had been so many.
    let old = ConfigDocument {
        version: HISTORY_MAX,
        ..ConfigDocument::default()
    };
    let first = ConfigDocument {
        version: 1,
        ..ConfigDocument::default()
    };
    let writes = [keys::config().put(&old), keys::config_version(1).put(&first)];
    store
        .commit(ringgate_store::Transaction::new().writes(writes))
        .await
        .expect("written");
    world.apply("drain_ms = 7\n", 0).await.expect("applied");
    assert_eq!(world.get(0).await.expect("readable").version, HISTORY_MAX + 1);
    assert_eq!(
        reason_of(&world.get(1).await.expect_err("forgotten")),
        "NOT_FOUND"
    );
}

#[tokio::test]
async fn a_watch_tells_the_present_one_and_those_that_follow() {
    let world = World::new().await;
    world.apply("drain_ms = 1\n", 0).await.expect("applied");
    let watch = async |after_version| {
        let watching = world
            .book
            .watch_config(call(WatchConfigRequest { after_version }))
            .await;
        watching.expect("watching").into_inner()
    };
    let (mut all, mut later) = (watch(0).await, watch(1).await);
    assert_eq!(
        all.next().await.expect("it goes on").expect("a document").version,
        1
    );
    world.apply("drain_ms = 2\n", 0).await.expect("applied");
    for watch in [&mut all, &mut later] {
        assert_eq!(
            watch
                .next()
                .await
                .expect("it goes on")
                .expect("a document")
                .version,
            2
        );
    }
}
