//! Spaces against a plain model of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use ringgate_policy::Limits;
use ringgate_state::{Changed, Fault, Moment, Past, Spaces, Write};

const START: Moment = Moment(1_800_000_000_000_000_000);

fn at(ms: u64) -> Moment {
    Moment(START.0 + ms * 1_000_000)
}

struct World {
    spaces: Spaces,
    limits: Limits,
    source: Arc<str>,
}

impl World {
    fn new(limits: Limits) -> World {
        World {
            spaces: Spaces::new(7, ["kept/**".into()].into()),
            limits,
            source: "a/b/c/d".into(),
        }
    }

    fn write(
        &mut self,
        key: &str,
        value: Option<&[u8]>,
        expect: Option<u64>,
        ttl_ms: u64,
        now: Moment,
    ) -> Result<Changed, Fault> {
        let write = Write {
            key,
            value: value.map(Bytes::copy_from_slice),
            expect,
            ttl_ms,
            source: &self.source,
        };
        self.spaces.write("s", write, &self.limits, now)
    }

    fn put(&mut self, key: &str, value: &[u8]) -> u64 {
        self.write(key, Some(value), None, 0, START)
            .expect("put")
            .change
            .revision
    }

    fn since(&self, revision: u64) -> Past {
        self.spaces.get("s").expect("a space").since(revision, "")
    }
}

fn count(past: &Past) -> usize {
    match past {
        Past::Changes(changes) => changes.len(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_change_has_the_next_revision_and_a_writer_can_say_what_it_expects() {
    let mut world = World::new(Limits::default());
    let first = world
        .write("k", Some(b"1"), Some(0), 0, START)
        .expect("it was not there")
        .change
        .revision;
    assert_eq!(
        world
            .write("k", Some(b"2"), Some(0), 0, START)
            .expect_err("it is there"),
        Fault::Conflict {
            expected: 0,
            found: first
        }
    );
    let second = world
        .write("k", Some(b"2"), Some(first), 0, START)
        .expect("as expected")
        .change
        .revision;
    assert_eq!(second, first + 1);
    let deleted = world
        .write("k", None, Some(second), 0, START)
        .expect("as expected");
    assert_eq!(
        (deleted.change.revision, &deleted.change.value),
        (first + 2, &None)
    );
    assert_eq!(
        world.write("k", None, None, 0, START).expect_err("it is gone"),
        Fault::NotFound
    );
}

#[test]
fn a_space_that_was_made_anew_does_not_take_old_revisions_for_its_own() {
    let mut world = World::new(Limits::default());
    let first = world.put("k", b"1");
    assert_eq!(count(&world.since(first)), 1);
    assert_eq!(count(&world.since(first + 1)), 0);
    assert_eq!(count(&world.since(0)), 1);
    assert_eq!(world.since(first + 2), Past::Unknown);
    assert_eq!(world.since(first - 1), Past::Compacted { first });
}

#[test]
fn the_past_is_bounded_and_says_where_it_begins() {
    let mut world = World::new(Limits {
        state_history_max: 3,
        ..Limits::default()
    });
    let first = world.put("a", b"1");
    (0..5).for_each(|_| _ = world.put("b", b"2"));
    assert_eq!(world.since(first), Past::Compacted { first: first + 3 });
    assert_eq!(world.since(0), Past::Compacted { first: first + 3 });
    assert_eq!(count(&world.since(first + 3)), 3);
}

#[test]
fn a_value_is_over_in_time_and_a_later_one_is_not_over_with_it() {
    let mut world = World::new(Limits::default());
    world.write("k", Some(b"1"), None, 100, START).expect("put");
    world.write("k", Some(b"2"), None, 300, at(50)).expect("put");
    world.write("l", Some(b"3"), None, 0, at(50)).expect("put");
    assert!(world.spaces.expire(&world.limits, at(349)).is_none());
    let over = world
        .spaces
        .expire(&world.limits, at(350))
        .expect("its time is over");
    assert_eq!((&*over.change.key, &over.change.value), ("k", &None));
    assert!(world.spaces.expire(&world.limits, at(1_000_000)).is_none());
}

#[test]
fn memory_is_bounded_and_the_past_gives_way_first() {
    let limits = Limits {
        state_memory_bytes_max: 1 << 20,
        ..Limits::default()
    };
    let mut world = World::new(limits);
    let value = vec![0; 100_000];
    (0..50).for_each(|_| _ = world.put("k", &value));
    assert!(world.spaces.bytes() <= limits.state_memory_bytes_max);
    let refused = (0..20).find_map(|n| world.write(&n.to_string(), Some(&value), None, 0, START).err());
    assert_eq!(refused, Some(Fault::Memory(1 << 20)));
    assert!(world.spaces.bytes() <= limits.state_memory_bytes_max);
    world
        .write("k", None, None, 0, START)
        .expect("deleting always goes");
}

#[test]
fn spaces_nobody_uses_give_way_to_new_ones() {
    let limits = Limits {
        state_spaces_max: 1,
        ..Limits::default()
    };
    let mut world = World::new(limits);
    world.put("k", b"1");
    let source: Arc<str> = "a/b/c/d".into();
    let write = Write {
        key: "k",
        value: Some(Bytes::from_static(b"1")),
        expect: None,
        ttl_ms: 0,
        source: &source,
    };
    assert_eq!(
        world
            .spaces
            .write("t", write.clone(), &limits, START)
            .expect_err("full"),
        Fault::Count(1)
    );
    world.write("k", None, None, 0, START).expect("deleted");
    world
        .spaces
        .write("t", write, &limits, START)
        .expect("there is room");
    assert_eq!(world.spaces.len(), 1);
}

#[derive(Debug, Clone)]
enum Step {
    Put {
        key: u8,
        len: usize,
        ttl: u64,
        expect: Option<bool>,
    },
    Delete {
        key: u8,
    },
    Wait {
        ms: u64,
    },
    Undo,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6u8, 0..40usize, prop_oneof![Just(0u64), 1..50u64], proptest::option::of(any::<bool>()))
            .prop_map(|(key, len, ttl, expect)| Step::Put { key, len, ttl, expect }),
        2 => (0..6u8).prop_map(|key| Step::Delete { key }),
        1 => (0..40u64).prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Undo),
    ]
}

proptest! {
    #[test]
    fn a_space_is_what_the_model_says(steps in proptest::collection::vec(step(), 1..120)) {
        let limits = Limits { state_history_max: 8, state_keys_max: 5, ..Limits::default() };
        let mut world = World::new(limits);
        // Key to value, revision and end.
        let mut model: BTreeMap<String, (Vec<u8>, u64, u64)> = BTreeMap::new();
        let (mut ms, mut last, mut newest) = (0, None::<u64>, None::<Changed>);
        for step in steps {
            let now = at(ms);
            match step {
                Step::Wait { ms: more } => {
                    ms += more;
                    while let Some(over) = world.spaces.expire(&limits, at(ms)) {
                        let (_, _, end) = model.remove(&*over.change.key).expect("it was there");
                        prop_assert!(end > 0 && end <= at(ms).millis());
                        last = Some(over.change.revision);
                        newest = None;
                    }
                    prop_assert!(model.values().all(|(_, _, end)| *end == 0 || *end > at(ms).millis()));
                }
                Step::Put { key, len, ttl, expect } => {
                    let key = key.to_string();
                    let known = model.get(&key).map_or(0, |(_, revision, _)| *revision);
                    let expect = expect.map(|right| if right { known } else { known + 1 });
                    let value = vec![b'x'; len];
                    match world.write(&key, Some(&value), expect, ttl, now) {
                        Ok(changed) => {
                            prop_assert!(expect.is_none_or(|expected| expected == known));
                            prop_assert!(last.is_none_or(|last| changed.change.revision == last + 1));
                            last = Some(changed.change.revision);
                            let end = if ttl == 0 { 0 } else { now.millis() + ttl };
                            model.insert(key, (value, changed.change.revision, end));
                            newest = Some(changed);
                        }
                        Err(Fault::Conflict { found, .. }) => prop_assert!(found == known && expect != Some(known)),
                        Err(Fault::Keys(5)) => prop_assert!(model.len() == 5 && known == 0),
                        Err(other) => panic!("{other}"),
                    }
                }
                Step::Delete { key } => match world.write(&key.to_string(), None, None, 0, now) {
                    Ok(changed) => {
                        prop_assert!(model.remove(&key.to_string()).is_some());
                        last = Some(changed.change.revision);
                        newest = Some(changed);
                    }
                    Err(fault) => prop_assert!(fault == Fault::NotFound && !model.contains_key(&key.to_string())),
                },
                Step::Undo => if let Some(changed) = newest.take() {
                    let key = changed.change.key.to_string();
                    match &changed.old {
                        None => _ = model.remove(&key),
                        Some(old) => {
                            let value = old.value.clone().expect("an entry").to_vec();
                            model.insert(key, (value, old.revision, old.expires_unix_ms));
                        }
                    }
                    last = Some(changed.change.revision - 1);
                    world.spaces.undo(changed);
                },
            }
            let Some(space) = world.spaces.get("s") else { continue };
            let entries: Vec<_> = space.entries("").collect();
            prop_assert_eq!(entries.len(), model.len());
            prop_assert_eq!(world.spaces.keys(), model.len() as u64);
            prop_assert_eq!(world.spaces.bytes(), space.bytes());
            for (entry, (key, (value, revision, end))) in entries.into_iter().zip(&model) {
                prop_assert_eq!(&*entry.key, key);
                prop_assert_eq!(entry.value.as_deref(), Some(&value[..]));
                prop_assert_eq!((entry.revision, entry.expires_unix_ms), (*revision, *end));
            }
        }
    }
}
