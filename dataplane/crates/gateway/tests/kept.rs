//! What topics keep for those who subscribe later, over one core and several.

mod support;

use ringgate_gateway::action::{Action, Delivery, DeliveryPolicy, Register, Subscribe};
use ringgate_gateway::code::Code;
use ringgate_gateway::{Closing, Flow};
use ringgate_policy::Limits;
use support::{Agent, FRAME, Node, Said, bodies, delivery, topics};

const RETAIN: [&str; 1] = ["last/**"];
const REPLAY: [&str; 1] = ["few/**"];

fn node(cores: u16, limits: Limits) -> Node {
    Node::with_topics(cores, limits, 1, &topics(&RETAIN, &REPLAY, &[]))
}

fn publishers(node: &mut Node) -> Vec<Agent> {
    let cores = node.cores();
    (0..cores)
        .map(|core| node.agent(core, &format!("o/n/publisher/{core}")))
        .collect()
}

/// Publishes a moment after what was published before.
fn publish(node: &mut Node, agent: &Agent, topic: &str, body: &str) {
    node.now.unix_nanos += 1000;
    let _ = node.publish(agent, topic, 0, body.as_bytes());
    node.settle();
}

fn ask(node: &mut Node, agent: &Agent, id: u64, pattern: &str, delivery: Delivery) -> Flow {
    let subscribe = Subscribe {
        id,
        pattern,
        group: "",
        delivery,
    };
    node.apply(agent.core, agent.session, Action::Subscribe(subscribe))
}

/// Subscribes; what comes behind the Ack, which comes first.
fn subscribe(node: &mut Node, agent: &Agent, id: u64, pattern: &str) -> Vec<String> {
    let _ = ask(node, agent, id, pattern, Delivery::default());
    let said = node.told_all(agent);
    assert_eq!(said[0], Said::Ack { id, receivers: 0 });
    bodies(&said[1..])
}

#[test]
fn a_late_subscriber_is_told_the_last_value_of_each_topic_whichever_core_had_it() {
    for cores in 1..=3 {
        let mut node = node(cores, Limits::default());
        let publishers = publishers(&mut node);
        for round in 0..3 {
            for (core, publisher) in publishers.iter().enumerate() {
                publish(&mut node, publisher, "last/a", &format!("a{round}{core}"));
                publish(
                    &mut node,
                    publisher,
                    &format!("last/of/{core}"),
                    &format!("of{core} {round}"),
                );
                publish(&mut node, publisher, "other", "nothing");
            }
        }
        let reader = node.agent(0, "o/n/reader/1");
        let mut told = subscribe(&mut node, &reader, 1, "last/**");
        let mut wanted: Vec<String> = (0..cores).map(|core| format!("of{core} 2")).collect();
        wanted.push(format!("a2{}", cores - 1));
        told.sort();
        wanted.sort();
        assert_eq!(told, wanted);
        publish(&mut node, &publishers[0], "last/a", "live");
        assert_eq!(bodies(&node.told_all(&reader)), ["live"]);
        // It is told again to whoever subscribes anew, of one topic as of a pattern.
        let other = node.agent(usize::from(cores) - 1, "o/n/reader/2");
        assert_eq!(subscribe(&mut node, &other, 1, "last/a"), ["live"]);
        let stats = node.gateways[0].stats();
        assert_eq!((stats.replaying, stats.replaying_bytes), (0, 0));
    }
}

#[test]
fn a_late_subscriber_is_told_the_last_few_in_order_within_all_bounds() {
    let limits = Limits {
        replay_messages_max: 5,
        replay_bytes_max: 1024,
        replay_ms: 1000,
        ..Limits::default()
    };
    for cores in 1..=3 {
        let mut node = node(cores, limits);
        let publishers = publishers(&mut node);
        for n in 0..20 {
            let publisher = publishers[n % usize::from(cores)].clone();
            publish(&mut node, &publisher, "few/a", &n.to_string());
        }
        let reader = node.agent(0, "o/n/reader/1");
        assert_eq!(
            subscribe(&mut node, &reader, 1, "few/*"),
            ["15", "16", "17", "18", "19"]
        );
        // Bytes: three of these fit, and none before one that does not.
        for n in 0..4 {
            let publisher = publishers[n % usize::from(cores)].clone();
            publish(&mut node, &publisher, "few/b", &format!("{n}{:300}", ""));
        }
        assert_eq!(node.told_all(&reader).len(), 4);
        let told = subscribe(&mut node, &reader, 2, "few/b");
        assert!(
            told.is_empty(),
            "an older subscription of it has had them: {told:?}"
        );
        let other = node.agent(0, "o/n/reader/2");
        let told = subscribe(&mut node, &other, 1, "few/b");
        let numbers: Vec<&str> = told.iter().map(|body| &body[..1]).collect();
        assert_eq!(numbers, ["1", "2", "3"]);
        // Time.
        node.advance(1000);
        publish(&mut node, &publishers[0], "few/a", "new");
        let third = node.agent(0, "o/n/reader/3");
        assert_eq!(subscribe(&mut node, &third, 1, "few/**"), ["new"]);
    }
}

#[test]
fn topics_without_rules_and_queue_groups_are_told_nothing() {
    let mut node = node(2, Limits::default());
    let publishers = publishers(&mut node);
    publish(&mut node, &publishers[0], "last/a", "kept");
    publish(&mut node, &publishers[0], "else/a", "not kept");
    let reader = node.agent(0, "o/n/reader/1");
    assert!(subscribe(&mut node, &reader, 1, "else/*").is_empty());
    let subscribe = Subscribe {
        id: 2,
        pattern: "last/*",
        group: "crew",
        delivery: Delivery::default(),
    };
    let _ = node.apply(0, reader.session, Action::Subscribe(subscribe));
    assert_eq!(node.told_all(&reader), [Said::Ack { id: 2, receivers: 0 }]);
    assert_eq!(node.gateways[0].stats().kept, 1);
}

#[test]
fn what_comes_while_cores_are_asked_comes_once_and_in_order() {
    // Every way in which messages on the links and publishes can follow each other for a while.
    for choices in 0..3u32.pow(8) {
        let mut node = node(2, Limits::default());
        let publishers = publishers(&mut node);
        for (core, publisher) in publishers.iter().enumerate() {
            publish(&mut node, publisher, "few/a", &format!("{core} 0"));
        }
        let reader = node.agent(0, "o/n/reader/1");
        let _ = ask(&mut node, &reader, 1, "few/*", Delivery::default());
        let (mut choices, mut counts) = (choices, [1, 1]);
        for _ in 0..8 {
            match choices % 3 {
                0 => {
                    node.carry(1);
                    node.carry(2);
                }
                core => {
                    let core = core as usize - 1;
                    let body = format!("{core} {}", counts[core]);
                    counts[core] += 1;
                    node.now.unix_nanos += 1000;
                    let _ = node.publish(&publishers[core], "few/a", 0, body.as_bytes());
                    node.turn_end(core);
                }
            }
            choices /= 3;
        }
        let told = bodies(&node.told_all(&reader));
        for (core, count) in counts.into_iter().enumerate() {
            let of_core: Vec<&String> = told
                .iter()
                .filter(|body| body.starts_with(&core.to_string()))
                .collect();
            let wanted: Vec<String> = (0..count).map(|n| format!("{core} {n}")).collect();
            assert_eq!(of_core, wanted.iter().collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_slow_late_subscriber_gets_all_that_its_queue_does_not_hold_as_it_reads() {
    let limits = Limits {
        replay_messages_max: 500,
        ..Limits::default()
    };
    let mut node = node(2, limits);
    let publishers = publishers(&mut node);
    for n in 0..200 {
        publish(&mut node, &publishers[n % 2], "few/a", &n.to_string());
    }
    let reader = node.agent(0, "o/n/reader/1");
    let _ = ask(
        &mut node,
        &reader,
        1,
        "few/a",
        delivery(DeliveryPolicy::DropNewest, 200),
    );
    node.settle();
    assert_eq!(node.gateways[0].stats().replaying, 1);
    // It does not read: what comes meanwhile is bounded as a queue is, and what was dropped is told behind it.
    for n in 200..300 {
        publish(&mut node, &publishers[n % 2], "few/a", &n.to_string());
    }
    let said = node.told_all(&reader);
    let told = bodies(&said);
    let wanted: Vec<String> = (0..told.len()).map(|n| n.to_string()).collect();
    assert_eq!(told, wanted);
    let last = said.last().expect("more than one");
    let Said::Gap {
        dropped,
        subscription: 1,
        ..
    } = last
    else {
        panic!("{last:?}");
    };
    assert_eq!(told.len() as u64 + dropped, 300);
    assert!(told.len() > 200 && *dropped > 0);
    publish(&mut node, &publishers[1], "few/a", "live");
    assert_eq!(bodies(&node.told_all(&reader)), ["live"]);
    assert_eq!(node.gateways[0].stats().replaying, 0);
}

#[test]
fn policies_hold_for_what_comes_meanwhile() {
    for policy in [
        DeliveryPolicy::DropOldest,
        DeliveryPolicy::Latest,
        DeliveryPolicy::Block,
    ] {
        let mut node = node(1, Limits::default());
        let publisher = node.agent(0, "o/n/publisher/0");
        for n in 0..20 {
            publish(&mut node, &publisher, "few/a", &n.to_string());
        }
        let reader = node.agent(0, "o/n/reader/1");
        let _ = ask(&mut node, &reader, 1, "few/a", delivery(policy, 60));
        for n in 20..60 {
            publish(&mut node, &publisher, "few/a", &n.to_string());
        }
        let said = node.told_all(&reader);
        let lost: u64 = said
            .iter()
            .map(|said| match said {
                Said::Gap { dropped, .. } => *dropped,
                _ => 0,
            })
            .sum();
        let told = bodies(&said);
        match policy {
            // The last one alone, however many are kept; then newer ones in its place.
            DeliveryPolicy::Latest => assert_eq!(told, ["59"]),
            _ => assert_eq!(told.len() as u64 + lost, 60, "{policy:?}: {said:?}"),
        }
        if policy == DeliveryPolicy::DropOldest {
            assert_eq!(told.last().map(String::as_str), Some("59"));
        }
    }
    let mut node = node(1, Limits::default());
    let publisher = node.agent(0, "o/n/publisher/0");
    publish(&mut node, &publisher, "few/a", &"x".repeat(100));
    publish(&mut node, &publisher, "few/a", "y");
    let reader = node.agent(0, "o/n/reader/1");
    let _ = ask(
        &mut node,
        &reader,
        1,
        "few/a",
        delivery(DeliveryPolicy::Disconnect, 50),
    );
    for _ in 0..20 {
        publish(&mut node, &publisher, "few/a", "more");
    }
    assert!(
        node.ended
            .iter()
            .any(|(_, session, code)| (*session, *code) == (reader.session, Code::ResourceExhausted))
    );
    assert_eq!(node.gateways[0].stats().replaying, 0);
}

#[test]
fn what_is_kept_is_bounded_for_each_core_and_the_oldest_gives_way() {
    let limits = Limits {
        kept_bytes_max: 10_000,
        replaying_bytes_max: 1024,
        ..Limits::default()
    };
    let mut node = node(1, limits);
    let publisher = node.agent(0, "o/n/publisher/0");
    for n in 0..100 {
        publish(
            &mut node,
            &publisher,
            &format!("last/{n}"),
            &format!("{n}{:100}", ""),
        );
    }
    let stats = node.gateways[0].stats();
    assert!(stats.kept_bytes <= 10_000 && stats.kept > 20, "{stats:?}");
    assert_eq!(stats.kept + stats.kept_evicted, 100);
    // Nor is more told to one who does not read than the core has memory for; that is told too.
    let reader = node.agent(0, "o/n/reader/1");
    let _ = ask(&mut node, &reader, 1, "last/*", Delivery::default());
    let said = node.told_all(&reader);
    let told = bodies(&said);
    assert!(told.len() > 5 && told[told.len() - 1].starts_with("99"));
    let Said::Gap { dropped, .. } = said[1] else {
        panic!("{:?}", said[1]);
    };
    assert_eq!(dropped + told.len() as u64, stats.kept);
}

#[test]
fn a_session_that_is_resumed_is_told_the_rest_on_either_core() {
    for resumed_on in 0..2 {
        let limits = Limits {
            replay_messages_max: 500,
            ..Limits::default()
        };
        let mut node = node(2, limits);
        let publishers = publishers(&mut node);
        for n in 0..50 {
            publish(&mut node, &publishers[n % 2], "few/a", &n.to_string());
        }
        let reader = node.agent(0, "o/n/reader/1");
        let queue_bytes = 10 * (FRAME as u64 + 2);
        let _ = ask(
            &mut node,
            &reader,
            1,
            "few/a",
            delivery(DeliveryPolicy::DropOldest, queue_bytes),
        );
        node.settle();
        let mut stream = node
            .pull(0, reader.session, 3 * FRAME)
            .expect("something")
            .to_vec();
        let before = bodies(&node.parse(&mut stream)).len() as u64;
        node.leave(&reader, Closing::Lost);
        let session = node.open(resumed_on);
        let register = Register {
            name: "o/n/reader/1",
            resume_token: &reader.token,
            ..Register::default()
        };
        let _ = node.apply(resumed_on, session, Action::Register(register));
        let reader = Agent {
            core: resumed_on,
            session,
            token: Vec::new(),
        };
        publish(&mut node, &publishers[1], "few/a", "live");
        let said = node.told_all(&reader);
        assert!(matches!(said[0], Said::Registered { resumed: true, .. }));
        let told = bodies(&said);
        let lost: u64 = said
            .iter()
            .map(|said| match said {
                Said::Gap { dropped, .. } => *dropped,
                _ => 0,
            })
            .sum();
        assert_eq!(before + told.len() as u64 + lost, 51, "{said:?}");
        assert_eq!(told.last().map(String::as_str), Some("live"));
        let numbers: Vec<u32> = told.iter().filter_map(|body| body.parse().ok()).collect();
        assert!(numbers.is_sorted());
        for gateway in &node.gateways {
            assert_eq!(gateway.stats().replaying, 0);
        }
    }
}

#[test]
fn a_subscription_that_ends_while_it_is_told_leaves_nothing() {
    for cores in 1..=2 {
        let mut node = node(cores, Limits::default());
        let publishers = publishers(&mut node);
        for n in 0..50 {
            publish(&mut node, &publishers[0], "few/a", &n.to_string());
        }
        for (id, settle) in [(1, false), (2, true)] {
            let reader = node.agent(0, "o/n/reader/1");
            let _ = ask(
                &mut node,
                &reader,
                id,
                "few/a",
                delivery(DeliveryPolicy::DropOldest, 50),
            );
            if settle {
                node.settle();
            }
            let _ = node.apply(0, reader.session, Action::Unsubscribe { id });
            let said = node.told_all(&reader);
            assert!(said.contains(&Said::Ack { id, receivers: 0 }));
            assert!(bodies(&said).len() < 50);
            let _ = ask(
                &mut node,
                &reader,
                id,
                "few/a",
                delivery(DeliveryPolicy::DropOldest, 50),
            );
            node.leave(&reader, Closing::Orderly);
        }
        for publisher in &publishers {
            node.leave(publisher, Closing::Orderly);
        }
        node.assert_idle();
    }
}

// --- durable ones --------------------------------------------------------------------------------------------------

fn durable(cores: u16, seed: u64) -> Node {
    let rules = topics(&RETAIN, &REPLAY, &["few/safe/**", "last/safe"]);
    Node::with_topics(cores, Limits::default(), seed, &rules)
}

#[test]
fn a_publish_to_a_durable_topic_is_acknowledged_once_it_is_on_disk_and_is_there_after_a_crash() {
    for cores in 1..=2 {
        let mut node = durable(cores, 1);
        let publishers = publishers(&mut node);
        let mut id = 0;
        for n in 0..10 {
            for (core, publisher) in publishers.iter().enumerate() {
                id += 1;
                node.now.unix_nanos += 1000;
                let _ = node.publish(publisher, "few/safe/a", id, format!("{n} {core}").as_bytes());
                let _ = node.publish(publisher, "last/safe", 0, format!("{n} {core}").as_bytes());
                let _ = node.publish(publisher, "few/unsafe", id + 1000, b"lost");
                // Of the one that is not durable at once, of the other when it is safe.
                assert_eq!(
                    node.told(publisher),
                    [Said::Ack {
                        id: id + 1000,
                        receivers: 0
                    }]
                );
                node.sync(core, usize::MAX);
                assert_eq!(node.told(publisher), [Said::Ack { id, receivers: 0 }]);
            }
        }
        let _ = node.publish(&publishers[0], "few/safe/a", 0, b"never on disk");
        // Whatever the number of cores and their seed are afterwards, again and again.
        for (cores, seed) in [(cores, 1), (2, 2), (1, 3), (3, 4)] {
            let mut next = durable(cores, seed);
            next.restore(&node);
            next.advance(1);
            for core in 0..next.cores() {
                while !next.logs[core].is_empty() {
                    next.sync(core, usize::MAX);
                    next.turn_end(core);
                }
            }
            let reader = next.agent(usize::from(cores) - 1, "o/n/reader/1");
            let told = subscribe(&mut next, &reader, 1, "few/**");
            let of_cores = publishers.len();
            let wanted: Vec<String> = (0..10)
                .flat_map(|n| (0..of_cores).map(move |core| format!("{n} {core}")))
                .collect();
            assert_eq!(told, wanted);
            assert_eq!(
                subscribe(&mut next, &reader, 2, "last/*"),
                [format!("9 {}", of_cores - 1)]
            );
            node = next;
        }
    }
}

#[test]
fn a_log_that_fails_is_told_and_what_is_kept_is_written_when_the_disk_is_well() {
    let mut node = durable(1, 1);
    let publisher = node.agent(0, "o/n/publisher/0");
    node.advance(1);
    node.sync(0, usize::MAX);
    let _ = node.publish(&publisher, "few/safe/a", 1, b"a");
    node.settle();
    node.fail(0);
    let said = node.told(&publisher);
    assert!(
        matches!(
            &said[..],
            [Said::Error {
                id: 1,
                code: Code::Unavailable,
                retryable: true,
                ..
            }]
        ),
        "{said:?}"
    );
    for _ in 0..3 {
        node.advance(2000);
        node.turn_end(0);
        node.sync(0, usize::MAX);
    }
    let mut next = durable(1, 1);
    next.restore(&node);
    let reader = next.agent(0, "o/n/reader/1");
    assert_eq!(subscribe(&mut next, &reader, 1, "few/**"), ["a"]);
}

#[test]
fn durable_publishes_are_refused_where_the_disk_is_too_far_behind() {
    let limits = Limits {
        state_unsynced_bytes_max: 1024,
        ..Limits::default()
    };
    let mut node = Node::with_topics(1, limits, 1, &topics(&[], &REPLAY, &REPLAY));
    let publisher = node.agent(0, "o/n/publisher/0");
    for id in 1..=40 {
        let _ = node.publish(&publisher, "few/a", id, &[b'x'; 50]);
    }
    let refused = node.told(&publisher);
    assert!(refused.iter().all(|said| matches!(
        said,
        Said::Error {
            code: Code::ResourceExhausted,
            ..
        }
    )));
    assert!(refused.len() > 20);
    node.sync(0, usize::MAX);
    let acknowledged = node.told(&publisher);
    assert_eq!(acknowledged.len() + refused.len(), 40);
}
