//! State spaces, over one core and several.

mod support;

use ringgate_gateway::Closing;
use ringgate_gateway::action::{Action, Register, StateWrite};
use ringgate_gateway::code::Code;
use ringgate_gateway::outgoing::StateChange;
use ringgate_policy::Limits;
use support::{Agent, Node, Said};

fn nodes(limits: Limits, durable: &[&str]) -> Vec<Node> {
    [1, 2, 3]
        .map(|cores| Node::keeping(cores, limits, 7, durable))
        .into()
}

/// Two agents, on different cores where there are several.
fn agents(node: &mut Node) -> (Agent, Agent) {
    let last = node.cores() - 1;
    (node.agent(0, "a/b/c/one"), node.agent(last, "a/b/c/two"))
}

fn revision(said: &[Said]) -> u64 {
    match said {
        [Said::Done { revision, .. }] => *revision,
        other => panic!("{other:?}"),
    }
}

fn code(said: &[Said]) -> Code {
    match said {
        [Said::Error { code, .. }] => *code,
        other => panic!("{other:?}"),
    }
}

fn events(said: &[Said]) -> Vec<(String, String, u64)> {
    let mut events = Vec::new();
    for said in said {
        if let Said::Event {
            key,
            value,
            change,
            revision,
            ..
        } = said
        {
            let what = match change {
                StateChange::Put => String::from_utf8_lossy(value).into_owned(),
                StateChange::Delete => "gone".to_owned(),
                StateChange::SnapshotEnd => "end".to_owned(),
            };
            events.push((key.clone(), what, *revision));
        }
    }
    events
}

fn event(key: &str, what: &str, revision: u64) -> (String, String, u64) {
    (key.to_owned(), what.to_owned(), revision)
}

#[test]
fn what_one_agent_puts_another_gets() {
    for mut node in nodes(Limits::default(), &[]) {
        let (one, two) = agents(&mut node);
        let _ = node.get(&two, 1, "team/notes", "k");
        let nothing = Said::Value {
            id: 1,
            value: None,
            revision: 0,
            source: String::new(),
        };
        assert_eq!(node.told(&two), [nothing]);
        let _ = node.put(&one, 2, "team/notes", "k", b"v", Some(0));
        let first = revision(&node.told(&one));
        let _ = node.put(&two, 3, "team/notes", "k", b"w", Some(0));
        assert_eq!(code(&node.told(&two)), Code::Conflict);
        let _ = node.get(&two, 4, "team/notes", "k");
        let value = Said::Value {
            id: 4,
            value: Some(b"v".to_vec()),
            revision: first,
            source: "a/b/c/one".to_owned(),
        };
        assert_eq!(node.told(&two), [value]);
        let _ = node.delete(&two, 5, "team/notes", "k");
        assert_eq!(revision(&node.told(&two)), first + 1);
        let _ = node.delete(&one, 6, "team/notes", "k");
        assert_eq!(code(&node.told(&one)), Code::NotFound);
        let _ = node.put(&one, 0, "team/notes", "k", b"quiet", None);
        assert_eq!(node.told(&one), []);
        let _ = node.put(&one, 7, "team/notes", "", b"v", None);
        assert_eq!(code(&node.told(&one)), Code::InvalidArgument);
    }
}

#[test]
fn a_watch_is_a_snapshot_then_changes_of_its_prefix_without_a_gap() {
    for mut node in nodes(Limits::default(), &[]) {
        let (one, two) = agents(&mut node);
        for (id, key) in ["a/1", "b/1", "a/2"].into_iter().enumerate() {
            let _ = node.put(&one, id as u64 + 1, "s", key, b"v", None);
        }
        let said = node.told(&one);
        let Some(Said::Done { revision: third, .. }) = said.last() else {
            panic!("{said:?}")
        };
        let _ = node.watch(&two, 9, "s", "a/", None);
        let said = node.told_all(&two);
        assert_eq!(
            said[0],
            Said::Done {
                id: 9,
                revision: *third
            }
        );
        assert_eq!(
            events(&said),
            [
                event("a/1", "v", third - 2),
                event("a/2", "v", *third),
                event("", "end", *third)
            ]
        );
        let _ = node.put(&one, 0, "s", "b/2", b"w", None);
        let _ = node.put(&one, 0, "s", "a/1", b"w", None);
        let _ = node.delete(&one, 0, "s", "a/2");
        node.settle();
        assert_eq!(
            events(&node.told(&two)),
            [event("a/1", "w", third + 2), event("a/2", "gone", third + 3)]
        );
        let _ = node.apply(two.core, two.session, Action::StateUnwatch { id: 9 });
        assert_eq!(node.told(&two), [Said::Ack { id: 9, receivers: 0 }]);
        let _ = node.put(&one, 0, "s", "a/1", b"x", None);
        node.settle();
        assert_eq!(node.told(&two), []);
        node.leave(&one, Closing::Orderly);
        node.leave(&two, Closing::Orderly);
        node.settle();
        node.assert_idle();
    }
}

#[test]
fn a_watch_goes_on_where_another_was_broken_off_unless_that_is_gone() {
    let limits = Limits {
        state_history_max: 4,
        ..Limits::default()
    };
    for mut node in nodes(limits, &[]) {
        let (one, two) = agents(&mut node);
        let _ = node.put(&one, 1, "s", "k", b"0", None);
        let first = revision(&node.told(&one));
        (1..4).for_each(|n| _ = node.put(&one, 0, "s", "k", n.to_string().as_bytes(), None));
        node.settle();
        let _ = node.watch(&two, 1, "s", "", Some(first + 2));
        assert_eq!(
            events(&node.told_all(&two)),
            [event("k", "2", first + 2), event("k", "3", first + 3)]
        );
        (4..8).for_each(|n| _ = node.put(&one, 0, "s", "k", n.to_string().as_bytes(), None));
        assert_eq!(events(&node.told_all(&two)).len(), 4);
        for (id, from) in [(2, first + 2), (3, first + 100), (4, 1)] {
            let _ = node.watch(&two, id, "s", "", Some(from));
            assert_eq!(code(&node.told_all(&two)), Code::Compacted);
        }
        let _ = node.watch(&two, 1, "s", "", None);
        assert_eq!(code(&node.told_all(&two)), Code::AlreadyExists);
    }
}

#[test]
fn a_slow_watcher_gets_all_that_is_kept_and_a_gap_and_a_snapshot_for_the_rest() {
    for (history, compacted) in [(1000, false), (20, true)] {
        let limits = Limits {
            state_history_max: history,
            queue_bytes_default: 1024,
            ..Limits::default()
        };
        for mut node in nodes(limits, &[]) {
            let (one, two) = agents(&mut node);
            let _ = node.watch(&two, 1, "s", "", None);
            node.told_all(&two);
            for n in 0..300 {
                let _ = node.put(
                    &one,
                    0,
                    "s",
                    &format!("k{}", n % 7),
                    format!("{n:0100}").as_bytes(),
                    None,
                );
                node.settle();
                let waiting = node.gateways[two.core].queued_bytes(two.session);
                assert!(waiting <= 1100, "{waiting} bytes wait");
            }
            let said = node.told_all(&two);
            let told = events(&said);
            let gaps = said
                .iter()
                .filter(|said| matches!(said, Said::Gap { .. }))
                .count();
            assert_eq!(gaps, usize::from(compacted));
            if !compacted {
                assert_eq!(told.len(), 300, "{told:?}");
                assert!(told.is_sorted_by_key(|(_, _, revision)| *revision));
            }
            for key in 0..7 {
                let key = format!("k{key}");
                let last = told.iter().rfind(|(known, ..)| *known == key).expect("told");
                let _ = node.get(&two, 5, "s", &key);
                let said = node.told(&two);
                let [Said::Value { revision, .. }] = &said[..] else {
                    panic!("{said:?}")
                };
                assert_eq!(last.2, *revision);
            }
            // It is live again.
            let _ = node.put(&one, 0, "s", "k0", b"live", None);
            assert_eq!(events(&node.told_all(&two))[0].1, "live");
        }
    }
}

#[test]
fn a_snapshot_larger_than_the_queue_comes_as_it_is_read() {
    let limits = Limits {
        queue_bytes_default: 1024,
        ..Limits::default()
    };
    for mut node in nodes(limits, &[]) {
        let (one, two) = agents(&mut node);
        (0..100).for_each(|n| _ = node.put(&one, 0, "s", &format!("k{n:03}"), &[b'v'; 100], None));
        node.settle();
        let _ = node.watch(&two, 1, "s", "", None);
        node.settle();
        assert!(node.gateways[two.core].queued_bytes(two.session) <= 1100);
        let _ = node.put(&one, 0, "s", "k050", b"meanwhile", None);
        let told = events(&node.told_all(&two));
        assert_eq!(told.len(), 102);
        assert_eq!(told[100].1, "end");
        assert_eq!(told[101].1, "meanwhile");
    }
}

#[test]
fn a_value_is_over_in_time_and_watchers_are_told() {
    for mut node in nodes(Limits::default(), &[]) {
        let (one, two) = agents(&mut node);
        let _ = node.watch(&two, 1, "s", "", None);
        node.told_all(&two);
        let write = StateWrite {
            id: 1,
            space: "s",
            key: "k",
            value: Some(b"v"),
            expect: None,
            ttl_ms: 50,
        };
        let _ = node.apply(one.core, one.session, Action::StateWrite(write));
        let first = revision(&node.told(&one));
        node.settle();
        node.advance(49);
        assert_eq!(events(&node.told_all(&two)), [event("k", "v", first)]);
        node.advance(1);
        assert_eq!(events(&node.told_all(&two)), [event("k", "gone", first + 1)]);
    }
}

#[test]
fn a_watch_ends_with_its_stream() {
    for mut node in nodes(Limits::default(), &[]) {
        let (one, two) = agents(&mut node);
        let _ = node.watch(&two, 1, "s", "", None);
        node.told_all(&two);
        let _ = node.put(&one, 0, "s", "k", b"v", None);
        node.settle();
        node.leave(&two, Closing::Lost);
        let register = Register {
            name: "a/b/c/two",
            resume_token: &two.token,
            ..Register::default()
        };
        let again = node.agent_with(0, register);
        let _ = node.put(&one, 0, "s", "k", b"w", None);
        assert_eq!(events(&node.told_all(&again)), []);
        node.leave(&one, Closing::Orderly);
        node.leave(&again, Closing::Orderly);
        node.settle();
        node.assert_idle();
    }
}

#[test]
fn nothing_is_told_of_a_durable_change_before_it_is_on_disk() {
    for mut node in nodes(Limits::default(), &["kept/**"]) {
        let (one, two) = agents(&mut node);
        let _ = node.watch(&two, 1, "kept/s", "", None);
        node.told_all(&two);
        let _ = node.put(&one, 2, "kept/s", "k", b"v", None);
        node.settle();
        let _ = node.get(&two, 3, "kept/s", "k");
        assert_eq!(node.told_all(&one), []);
        assert_eq!(node.told_all(&two), []);
        (0..node.cores()).for_each(|core| node.sync(core, usize::MAX));
        let first = revision(&node.told_all(&one));
        let said = node.told_all(&two);
        assert_eq!(events(&said), [event("k", "v", first)]);
        assert!(said.contains(&Said::Value {
            id: 3,
            value: Some(b"v".to_vec()),
            revision: first,
            source: "a/b/c/one".to_owned()
        }));

        let _ = node.put(&one, 4, "kept/s", "k", b"lost", None);
        let _ = node.put(&one, 5, "kept/s", "l", b"lost", None);
        let _ = node.delete(&one, 6, "kept/s", "k");
        node.settle();
        (0..node.cores()).for_each(|core| node.fail(core));
        let said = node.told_all(&one);
        assert!(
            said.len() == 3
                && said.iter().all(|said| matches!(
                    said,
                    Said::Error {
                        code: Code::Unavailable,
                        retryable: true,
                        ..
                    }
                ))
        );
        assert_eq!(node.told_all(&two), []);
        let _ = node.get(&two, 7, "kept/s", "k");
        assert!(
            matches!(&node.told_all(&two)[..], [Said::Value { value: Some(value), .. }] if value == b"v")
        );
        let _ = node.put(&one, 8, "kept/s", "k", b"w", Some(first));
        node.settle();
        (0..node.cores()).for_each(|core| node.sync(core, usize::MAX));
        assert_eq!(revision(&node.told_all(&one)), first + 1);
        assert_eq!(events(&node.told_all(&two)), [event("k", "w", first + 1)]);
    }
}

#[test]
fn what_was_on_disk_is_there_after_a_restart_on_any_number_of_cores() {
    for mut node in nodes(Limits::default(), &["kept/**"]) {
        let (one, _) = agents(&mut node);
        for space in ["kept/a", "kept/b", "kept/c"] {
            (0..20).for_each(|n| _ = node.put(&one, 0, space, &format!("k{}", n % 5), &[n], None));
            let _ = node.delete(&one, 0, space, "k3");
        }
        node.settle();
        (0..node.cores()).for_each(|core| node.sync(core, usize::MAX));
        let _ = node.put(&one, 0, "kept/a", "k0", b"never synced", None);
        node.settle();
        for cores in [1, 2, 3] {
            let mut later = Node::keeping(cores, Limits::default(), 8, &["kept/**"]);
            later.restore(&node);
            let reader = later.agent(0, "a/b/c/three");
            let _ = later.watch(&reader, 1, "kept/a", "", None);
            let said = later.told_all(&reader);
            let told = events(&said);
            let keys: Vec<&str> = told.iter().map(|(key, ..)| &**key).collect();
            assert_eq!(keys, ["k0", "k1", "k2", "k4", ""]);
            assert_eq!(told[0].1, "\u{f}");
            // What was restored is written anew, and is as good.
            later.advance(1);
            later.settle();
            for core in 0..later.cores() {
                later.sync(core, usize::MAX);
            }
            let mut third = Node::keeping(2, Limits::default(), 9, &["kept/**"]);
            third.restore(&later);
            let reader = third.agent(0, "a/b/c/three");
            let _ = third.watch(&reader, 1, "kept/a", "", None);
            assert_eq!(events(&third.told_all(&reader)), told);
        }
    }
}
