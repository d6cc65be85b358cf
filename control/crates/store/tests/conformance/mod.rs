//! What every store does. Each case gets a store with nothing in it.

pub(crate) mod model;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringgate_store::{
    Batch, Condition, Entry, Follow, KEY_BYTES_MAX, PAGE_BYTES_MAX, Range, Revision, Store, StoreError,
    TRANSACTION_BYTES_MAX, TRANSACTION_OPS_MAX, Transaction, Update, VALUE_BYTES_MAX, Watch, Write,
};
use tokio_stream::StreamExt as _;

pub(crate) type Shared = Arc<dyn Store>;

/// Ends a test that waits for what never comes; no test is about how long something takes.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn patiently<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it comes")
}

pub(crate) fn put(key: &str, value: &str) -> Write {
    Write::Put(
        Bytes::copy_from_slice(key.as_bytes()),
        Bytes::copy_from_slice(value.as_bytes()),
    )
}

fn delete(key: &str) -> Write {
    Write::Delete(Bytes::copy_from_slice(key.as_bytes()))
}

pub(crate) async fn write(store: &Shared, writes: impl IntoIterator<Item = Write>) -> Revision {
    store
        .commit(Transaction::new().writes(writes))
        .await
        .expect("nothing is in its way")
}

async fn keys(store: &Shared, range: Range) -> (Vec<String>, bool) {
    let page = store.range(range).await.expect("readable");
    let key = |entry: &Entry| String::from_utf8(entry.key.to_vec()).expect("tests use text");
    (page.entries.iter().map(key).collect(), page.more)
}

fn told(batch: &Batch) -> Vec<(String, Option<String>)> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("tests use text");
    batch
        .changes
        .iter()
        .map(|change| (text(&change.key), change.value.as_ref().map(text)))
        .collect()
}

async fn next(watch: &mut Watch) -> Batch {
    patiently(watch.next())
        .await
        .expect("it goes on")
        .expect("it has changes")
}

pub(crate) async fn a_value_is_found_with_the_revision_that_wrote_it(store: Shared) {
    assert_eq!(store.get(b"a").await.expect("readable"), None);
    let first = write(&store, [put("a", "1"), put("b", "1")]).await;
    let second = write(&store, [put("b", "2")]).await;
    assert!(second > first);
    let read = async |key: &[u8]| {
        store
            .get(key)
            .await
            .expect("readable")
            .map(|entry| (entry.value, entry.revision))
    };
    assert_eq!(read(b"a").await, Some(("1".into(), first)));
    assert_eq!(read(b"b").await, Some(("2".into(), second)));
    let third = write(&store, [delete("a")]).await;
    assert!(third > second);
    assert_eq!(read(b"a").await, None);
}

pub(crate) async fn what_changes_nothing_has_no_revision_of_its_own(store: Shared) {
    let first = write(&store, [put("a", "1")]).await;
    assert_eq!(write(&store, [delete("nothing")]).await, first);
    assert_eq!(write(&store, []).await, first);
    assert_eq!(
        store.range(Range::prefix("x")).await.expect("readable").revision,
        first
    );
}

pub(crate) async fn a_conflict_names_its_condition_and_changes_nothing(store: Shared) {
    let first = write(&store, [put("a", "1"), put("b", "1")]).await;
    let second = write(&store, [put("b", "2")]).await;
    let absent = Condition::absent("c");
    let transaction = Transaction::new()
        .when(absent.clone())
        .when(Condition::at("a", first))
        .when(Condition::at("b", first))
        .when(Condition::absent("a"))
        .write(put("a", "3"))
        .write(put("c", "3"));
    match store.commit(transaction).await {
        Err(StoreError::Conflict { condition: 2, key }) => assert_eq!(key, "b"),
        other => panic!("{other:?}"),
    }
    match store
        .commit(Transaction::new().when(Condition::at("nothing", first)))
        .await
    {
        Err(StoreError::Conflict { condition: 0, key }) => assert_eq!(key, "nothing"),
        other => panic!("{other:?}"),
    }
    assert_eq!(keys(&store, Range::prefix("")).await.0, ["a", "b"]);
    let good = Transaction::new()
        .when(absent)
        .when(Condition::at("b", second))
        .write(put("c", "3"));
    assert!(store.commit(good).await.expect("all hold") > second);
}

pub(crate) async fn ranges_are_in_order_and_in_pages(store: Shared) {
    write(
        &store,
        ["b/1", "a", "b/3", "b", "b/2", "b0", "c"].map(|key| put(key, key)),
    )
    .await;
    let some = |names: &[&str], more: bool| (names.iter().map(ToString::to_string).collect::<Vec<_>>(), more);
    let b = || Range::prefix("b/");
    assert_eq!(
        keys(&store, Range::prefix("")).await,
        some(&["a", "b", "b/1", "b/2", "b/3", "b0", "c"], false)
    );
    assert_eq!(keys(&store, b()).await, some(&["b/1", "b/2", "b/3"], false));
    assert_eq!(keys(&store, b().limit(2)).await, some(&["b/1", "b/2"], true));
    assert_eq!(
        keys(&store, b().limit(3)).await,
        some(&["b/1", "b/2", "b/3"], false)
    );
    assert_eq!(
        keys(&store, b().beyond("b/1")).await,
        some(&["b/2", "b/3"], false)
    );
    assert_eq!(
        keys(&store, b().beyond("b/15")).await,
        some(&["b/2", "b/3"], false)
    );
    assert_eq!(
        keys(&store, b().beyond("a")).await,
        some(&["b/1", "b/2", "b/3"], false)
    );
    assert_eq!(keys(&store, b().beyond("b/3")).await, some(&[], false));
    assert_eq!(keys(&store, b().beyond("z")).await, some(&[], false));
    assert_eq!(
        keys(&store, b().descending().limit(2)).await,
        some(&["b/3", "b/2"], true)
    );
    assert_eq!(
        keys(&store, b().descending().beyond("b/2")).await,
        some(&["b/1"], false)
    );
    assert_eq!(
        keys(&store, b().descending().beyond("z")).await,
        some(&["b/3", "b/2", "b/1"], false)
    );
    assert_eq!(
        keys(&store, b().descending().beyond("b/1")).await,
        some(&[], false)
    );
    assert_eq!(keys(&store, b().descending().beyond("a")).await, some(&[], false));
}

pub(crate) async fn keys_are_bytes(store: Shared) {
    let names: [&'static [u8]; 5] = [b"\0", b"\xfe\xff", b"\xff", b"\xff\xff", b"\xff\xff\0"];
    for name in names {
        write(&store, [Write::Put(Bytes::from_static(name), Bytes::new())]).await;
    }
    let read = async |prefix: &'static [u8]| {
        let page = store.range(Range::prefix(prefix)).await.expect("readable");
        page.entries
            .into_iter()
            .map(|entry| entry.key)
            .collect::<Vec<_>>()
    };
    assert_eq!(read(b"").await, names);
    assert_eq!(read(b"\xff").await, &names[2..]);
    assert_eq!(read(b"\xff\xff").await, &names[3..]);
    assert_eq!(read(b"\xfe\xff").await, &names[1..2]);
}

pub(crate) async fn pages_are_bounded_in_bytes(store: Shared) {
    let large = Bytes::from(vec![7; VALUE_BYTES_MAX]);
    let count = 2 * PAGE_BYTES_MAX / VALUE_BYTES_MAX + 3;
    for index in 0..count {
        write(
            &store,
            [Write::Put(format!("large/{index:03}").into(), large.clone())],
        )
        .await;
    }
    let (mut range, mut found) = (Range::prefix("large/"), 0);
    loop {
        let page = store.range(range.clone()).await.expect("readable");
        found += page.entries.len();
        assert!(page.entries.len() < count && !page.entries.is_empty());
        if !page.more {
            break;
        }
        range = range.beyond(page.entries.last().expect("it has some").key.clone());
    }
    assert_eq!(found, count);
    let (all, revision) = store.all(b"large/").await.expect("readable");
    assert_eq!(all.len(), count);
    assert_eq!(all.last().map(|entry| entry.revision), Some(revision));
}

pub(crate) async fn limits_hold_and_are_named(store: Shared) {
    let value = |size: usize| Bytes::from(vec![1; size]);
    let key = |size: usize| Bytes::from(vec![b'k'; size]);
    let many = |count: usize| {
        (0..count)
            .map(|index| put(&format!("many/{index}"), ""))
            .collect::<Vec<_>>()
    };
    let refused = async |transaction: Transaction, wanted: usize| match store.commit(transaction).await {
        Err(StoreError::TooLarge { size, limit, .. }) => assert_eq!((size > limit, limit), (true, wanted)),
        other => panic!("{other:?}"),
    };
    refused(
        Transaction::new().write(Write::Put("v".into(), value(VALUE_BYTES_MAX + 1))),
        VALUE_BYTES_MAX,
    )
    .await;
    refused(
        Transaction::new().write(Write::Put(key(KEY_BYTES_MAX + 1), value(1))),
        KEY_BYTES_MAX,
    )
    .await;
    refused(
        Transaction::new().writes(many(TRANSACTION_OPS_MAX + 1)),
        TRANSACTION_OPS_MAX,
    )
    .await;
    let halves = ["v", "w"].map(|name| Write::Put(name.into(), value(TRANSACTION_BYTES_MAX / 2)));
    refused(Transaction::new().writes(halves), TRANSACTION_BYTES_MAX).await;
    match store
        .commit(Transaction::new().write(put("a", "1")).write(delete("a")))
        .await
    {
        Err(StoreError::KeyTwice { key }) => assert_eq!(key, "a"),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        keys(&store, Range::prefix("")).await.0.len(),
        0,
        "nothing was done"
    );

    let mut largest = Transaction::new().writes(many(TRANSACTION_OPS_MAX));
    largest.conditions = (0..TRANSACTION_OPS_MAX)
        .map(|index| Condition::absent(format!("many/{index}")))
        .collect();
    store.commit(largest).await.expect("within the limits");
    write(&store, [Write::Put(key(KEY_BYTES_MAX), value(VALUE_BYTES_MAX))]).await;
}

pub(crate) async fn a_watch_tells_every_commit_once_and_in_order(store: Shared) {
    let begin = write(&store, [put("x/before", "0")]).await;
    let first = write(&store, [put("x/b", "1"), put("other", "1"), put("x/a", "1")]).await;
    write(&store, [put("other", "2")]).await;
    let mut watch = store.watch("x/".into(), begin).await.expect("known");
    let batch = next(&mut watch).await;
    assert_eq!(batch.revision, first);
    assert_eq!(
        told(&batch),
        [("x/a".into(), Some("1".into())), ("x/b".into(), Some("1".into()))]
    );

    let live = write(&store, [delete("x/a"), delete("x/none"), put("x/c", "")]).await;
    let batch = next(&mut watch).await;
    assert_eq!(batch.revision, live);
    assert_eq!(
        told(&batch),
        [("x/a".into(), None), ("x/c".into(), Some(String::new()))]
    );

    let mut again = store.watch("x/".into(), live).await.expect("known");
    let after = write(&store, [put("x/a", "2")]).await;
    assert_eq!(next(&mut again).await, next(&mut watch).await);
    assert_eq!(
        store
            .get(b"x/a")
            .await
            .expect("readable")
            .map(|entry| entry.revision),
        Some(after)
    );
}

pub(crate) async fn all_watches_see_one_history(store: Shared) {
    const WRITERS: usize = 4;
    const COMMITS: usize = 40;
    let begin = write(&store, [put("begin", "")]).await;
    let watches = [
        store.watch("h/".into(), begin).await.expect("known"),
        store.watch("".into(), begin).await.expect("known"),
    ];
    let reading = watches.map(|mut watch| {
        tokio::spawn(async move {
            let mut seen = Vec::new();
            while seen.len() < WRITERS * COMMITS {
                seen.push(next(&mut watch).await);
            }
            seen
        })
    });
    let writing: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut done = Vec::new();
                for index in 0..COMMITS {
                    let key = format!("h/{writer}");
                    done.push((write(&store, [put(&key, &index.to_string())]).await, key));
                }
                done
            })
        })
        .collect();
    let mut commits = Vec::new();
    for writer in writing {
        commits.extend(writer.await.expect("it ends"));
    }
    commits.sort();
    for reader in reading {
        let seen = reader.await.expect("it ends");
        let seen: Vec<_> = seen
            .iter()
            .map(|batch| (batch.revision, told(batch)[0].0.clone()))
            .collect();
        assert_eq!(seen, commits);
    }
}

pub(crate) async fn compare_and_set_loses_no_update(store: Shared) {
    const TASKS: usize = 8;
    const EACH: usize = 12;
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for _ in 0..EACH {
                    while !increment(&store).await {}
                }
            })
        })
        .collect();
    for task in tasks {
        patiently(task).await.expect("it ends");
    }
    let count = store
        .get(b"count")
        .await
        .expect("readable")
        .expect("written")
        .value;
    assert_eq!(count, (TASKS * EACH).to_string());
}

async fn increment(store: &Shared) -> bool {
    let read = store.get(b"count").await.expect("readable");
    let (count, revision) = read.map_or((0, Revision(0)), |entry| {
        (
            std::str::from_utf8(&entry.value)
                .expect("text")
                .parse::<usize>()
                .expect("a number"),
            entry.revision,
        )
    });
    let transaction = Transaction::new()
        .when(Condition::at("count", revision))
        .write(put("count", &(count + 1).to_string()));
    match store.commit(transaction).await {
        Ok(_) => true,
        Err(StoreError::Conflict { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

pub(crate) async fn one_who_follows_is_told_everything(store: Shared) {
    let first = write(&store, [put("f/a", "1"), put("g", "1")]).await;
    let mut follow = Follow::new(Arc::clone(&store), "f/");
    match patiently(follow.next()).await.expect("readable") {
        Update::All { entries, revision } => {
            assert_eq!(
                entries.iter().map(|entry| &entry.key[..]).collect::<Vec<_>>(),
                [b"f/a"]
            );
            assert_eq!(revision, first);
        }
        other => panic!("{other:?}"),
    }
    // Nothing is lost when the wait for it is given up.
    assert!(
        tokio::time::timeout(Duration::from_millis(20), follow.next())
            .await
            .is_err()
    );
    let second = write(&store, [put("f/b", "1")]).await;
    let third = write(&store, [delete("f/a")]).await;
    for revision in [second, third] {
        match patiently(follow.next()).await.expect("readable") {
            Update::Changed(batch) => assert_eq!(batch.revision, revision),
            other => panic!("{other:?}"),
        }
    }
}

/// `forget` makes the store forget what was changed up to this revision; more than that may be forgotten.
pub(crate) async fn what_is_forgotten_is_said(store: Shared, forget: impl AsyncFn(&Shared, Revision)) {
    let old = write(&store, [put("c/a", "1")]).await;
    let mut follow = Follow::new(Arc::clone(&store), "c/");
    assert!(matches!(patiently(follow.next()).await, Ok(Update::All { .. })));
    write(&store, [put("c/a", "2")]).await;
    let newest = write(&store, [put("c/a", "3")]).await;
    forget(&store, newest).await;
    let lost = match store.watch("c/".into(), old).await {
        Ok(mut watch) => patiently(watch.next()).await.expect("it says why").map(|_| ()),
        Err(error) => Err(error),
    };
    assert!(matches!(lost, Err(StoreError::Compacted { .. })), "{lost:?}");
    // One who follows begins anew.
    match patiently(follow.next()).await.expect("readable") {
        Update::All { entries, .. } => assert_eq!(entries[0].value, "3"),
        other => panic!("{other:?}"),
    }
}
