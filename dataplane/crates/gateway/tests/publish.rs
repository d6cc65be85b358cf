//! Publish and subscribe, told as conversations.

mod support;

use ringgate_gateway::action::{Action, Delivery, DeliveryPolicy, Publish, StateGet, Subscribe};
use ringgate_gateway::code::Code;
use ringgate_gateway::{Closing, Flow};
use ringgate_policy::Limits;
use support::{FRAME, Node, Said, bodies, delivery};

fn nodes() -> Vec<Node> {
    [1, 2, 3]
        .map(|cores| Node::new(cores, Limits::default(), 7))
        .into()
}

#[test]
fn a_publish_reaches_each_subscriber_once_with_the_gateways_word() {
    for mut node in nodes() {
        let last = node.cores() - 1;
        let publisher = node.agent(0, "a/b/c/publisher");
        let near = node.agent(0, "a/b/c/near");
        let far = node.agent(last, "a/b/c/far");
        node.subscribe(&near, 1, "news/*", "", Delivery::default());
        node.subscribe(&near, 2, "news/**", "", Delivery::default());
        node.subscribe(&far, 1, "news/today", "", Delivery::default());
        let _ = node.publish(&publisher, "news/today", 0, b"one");
        let _ = node.publish(&publisher, "news/today", 0, b"two");
        let _ = node.publish(&publisher, "other", 0, b"lost");
        let _ = node.publish(&publisher, "news/today", 9, b"three");
        let wanted: Vec<Said> = [("one", 1), ("two", 2), ("three", 4)]
            .map(|(body, sequence)| Said::Notify {
                body: body.into(),
                source: "a/b/c/publisher".into(),
                sequence,
            })
            .into();
        assert_eq!(node.told(&near), wanted);
        assert_eq!(node.told(&far), wanted);
        assert_eq!(node.told(&publisher), [Said::Ack { id: 9, receivers: 2 }]);
        for agent in [&publisher, &near, &far] {
            node.leave(agent, Closing::Orderly);
        }
        node.assert_idle();
    }
}

#[test]
fn an_agent_hears_itself() {
    let mut node = Node::new(1, Limits::default(), 7);
    let agent = node.agent(0, "a/b/c/d");
    node.subscribe(&agent, 1, "echo", "", Delivery::default());
    let _ = node.publish(&agent, "echo", 0, b"hello");
    assert_eq!(bodies(&node.told(&agent)), ["hello"]);
}

#[test]
fn nothing_comes_after_the_ack_of_unsubscribe() {
    for mut node in nodes() {
        let last = node.cores() - 1;
        let publisher = node.agent(0, "a/b/c/publisher");
        let reader = node.agent(last, "a/b/c/reader");
        node.subscribe(&reader, 5, "t", "", Delivery::default());
        let _ = node.publish(&publisher, "t", 0, b"before");
        node.settle();
        let _ = node.apply(reader.core, reader.session, Action::Unsubscribe { id: 5 });
        let _ = node.publish(&publisher, "t", 0, b"after");
        let said = node.told(&reader);
        assert_eq!(bodies(&said), ["before"]);
        assert_eq!(said.last(), Some(&Said::Ack { id: 5, receivers: 0 }));
        let _ = node.apply(reader.core, reader.session, Action::Unsubscribe { id: 5 });
        assert!(matches!(
            &node.told(&reader)[..],
            [Said::Error {
                id: 5,
                code: Code::NotFound,
                ..
            }]
        ));
    }
}

#[test]
fn errors_name_what_was_wrong() {
    let mut node = Node::new(
        1,
        Limits {
            subscriptions_max: 1,
            ..Limits::default()
        },
        7,
    );
    let agent = node.agent(0, "a/b/c/d");
    node.subscribe(&agent, 1, "t", "", Delivery::default());
    let cases = [
        (
            Action::Publish(Publish {
                topic: "a/*",
                id: 3,
                body: b"",
            }),
            3,
            Code::InvalidArgument,
        ),
        (Action::Subscribe(subscribe(1, "t")), 1, Code::AlreadyExists),
        (Action::Subscribe(subscribe(2, "t")), 2, Code::ResourceExhausted),
        (
            Action::Subscribe(subscribe(2, "a/**/b")),
            2,
            Code::InvalidArgument,
        ),
        (
            Action::StateGet(StateGet {
                id: 8,
                space: "a/*",
                key: "k",
            }),
            8,
            Code::InvalidArgument,
        ),
    ];
    for (action, wanted_id, wanted_code) in cases {
        let _ = node.apply(agent.core, agent.session, action);
        let said = node.told(&agent);
        let [Said::Error { id, code, .. }] = &said[..] else {
            panic!("{said:?}")
        };
        assert_eq!((*id, *code), (wanted_id, wanted_code));
    }
}

fn subscribe(id: u64, pattern: &str) -> Subscribe<'_> {
    Subscribe {
        id,
        pattern,
        group: "",
        delivery: Delivery::default(),
    }
}

#[test]
fn the_oldest_give_way_and_a_gap_counts_them() {
    for mut node in nodes() {
        let last = node.cores() - 1;
        let publisher = node.agent(0, "a/b/c/publisher");
        let slow = node.agent(last, "a/b/c/slow");
        let room = 4 * (FRAME as u64 + 2);
        node.subscribe(&slow, 1, "t", "", delivery(DeliveryPolicy::DropOldest, room));
        for n in 0..10 {
            let _ = node.publish(&publisher, "t", 0, format!("{n:02}").as_bytes());
        }
        let said = node.told(&slow);
        let lost = 6 * (FRAME as u64 + 2);
        let gap = Said::Gap {
            subscription: 1,
            dropped: 6,
            dropped_bytes: lost,
            topic: "t".into(),
        };
        assert_eq!(said[0], gap);
        assert_eq!(bodies(&said), ["06", "07", "08", "09"]);
    }
}

#[test]
fn the_newest_give_way_and_the_gap_stands_behind_what_waited() {
    let mut node = Node::new(1, Limits::default(), 7);
    let agent = node.agent(0, "a/b/c/d");
    let room = 2 * (FRAME as u64 + 1);
    node.subscribe(&agent, 1, "*", "", delivery(DeliveryPolicy::DropNewest, room));
    for (topic, body) in [("x", "a"), ("x", "b"), ("x", "c"), ("y", "d")] {
        let _ = node.publish(&agent, topic, 0, body.as_bytes());
    }
    let gap = Said::Gap {
        subscription: 1,
        dropped: 2,
        dropped_bytes: room,
        topic: String::new(),
    };
    let said = node.told(&agent);
    assert_eq!(bodies(&said), ["a", "b"]);
    assert_eq!(said.last(), Some(&gap));
}

#[test]
fn latest_keeps_the_newest_of_each_topic() {
    let mut node = Node::new(1, Limits::default(), 7);
    let agent = node.agent(0, "a/b/c/d");
    node.subscribe(&agent, 1, "*", "", delivery(DeliveryPolicy::Latest, 0));
    for (topic, body) in [("x", "x1"), ("y", "y1"), ("x", "x2"), ("x", "x3"), ("y", "y2")] {
        let _ = node.publish(&agent, topic, 0, body.as_bytes());
    }
    let said = node.told(&agent);
    assert_eq!(bodies(&said), ["x3", "y2"]);
    assert!(matches!(said[0], Said::Gap { dropped: 3, .. }), "{said:?}");
}

#[test]
fn disconnect_ends_the_reader_and_names_the_subscription() {
    for mut node in nodes() {
        let last = node.cores() - 1;
        let publisher = node.agent(0, "a/b/c/publisher");
        let reader = node.agent(last, "a/b/c/reader");
        node.subscribe(
            &reader,
            3,
            "t",
            "",
            delivery(DeliveryPolicy::Disconnect, FRAME as u64),
        );
        // An empty queue takes one message of any size.
        let _ = node.publish(&publisher, "t", 0, b"above the bound");
        node.settle();
        assert_eq!(node.ended, []);
        let _ = node.publish(&publisher, "t", 0, b"too much");
        node.settle();
        assert_eq!(node.ended, [(last, reader.session, Code::ResourceExhausted)]);
        let said = node.told(&reader);
        let [
            Said::Error {
                id: 0,
                code: Code::ResourceExhausted,
                message,
                ..
            },
        ] = &said[..]
        else {
            panic!("{said:?}")
        };
        assert!(message.contains("subscription 3"), "{message}");
        node.leave(&reader, Closing::Orderly);
        node.leave(&publisher, Closing::Orderly);
        node.assert_idle();
    }
}

#[test]
fn block_holds_the_publisher_until_there_is_room() {
    for mut node in nodes() {
        let last = node.cores() - 1;
        let publisher = node.agent(0, "a/b/c/publisher");
        let reader = node.agent(last, "a/b/c/reader");
        let room = FRAME as u64 + 3;
        node.subscribe(&reader, 1, "t", "", delivery(DeliveryPolicy::Block, room));
        let _ = node.publish(&publisher, "t", 1, b"one");
        node.settle();
        node.resumed.clear();
        assert_eq!(node.publish(&publisher, "t", 2, b"two"), Flow::Pause);
        node.settle();
        assert!(node.resumed.is_empty());
        assert_eq!(bodies(&node.told(&reader)), ["one", "two"]);
        assert_eq!(node.resumed, [(0, publisher.session)]);
        let acks = node.told(&publisher);
        assert!(
            matches!(acks[..], [Said::Ack { id: 1, .. }, Said::Ack { id: 2, .. }]),
            "{acks:?}"
        );
    }
}

#[test]
fn block_drops_when_the_time_is_over() {
    for mut node in nodes() {
        let last = node.cores() - 1;
        let publisher = node.agent(0, "a/b/c/publisher");
        let reader = node.agent(last, "a/b/c/reader");
        node.subscribe(
            &reader,
            1,
            "t",
            "",
            delivery(DeliveryPolicy::Block, FRAME as u64 + 3),
        );
        for body in [b"one", b"two"] {
            let _ = node.publish(&publisher, "t", 0, body);
            node.settle();
        }
        node.resumed.clear();
        node.advance(Limits::default().block_ms_default);
        node.settle();
        assert_eq!(node.resumed, [(0, publisher.session)]);
        let said = node.told(&reader);
        assert_eq!(bodies(&said), ["one"]);
        assert!(
            matches!(said.last(), Some(Said::Gap { dropped: 1, .. })),
            "{said:?}"
        );
    }
}

#[test]
fn one_member_of_a_group_gets_each_message() {
    for mut node in nodes() {
        let cores = node.cores();
        let publisher = node.agent(0, "a/b/c/publisher");
        let members: Vec<_> = (0..4)
            .map(|n| node.agent(n % cores, &format!("a/b/c/{n}")))
            .collect();
        for member in &members {
            node.subscribe(member, 1, "work/*", "crew", Delivery::default());
        }
        for n in 0..40 {
            let _ = node.publish(&publisher, "work/x", 0, format!("{n}").as_bytes());
        }
        let mut all = Vec::new();
        for member in &members {
            let got = bodies(&node.told(member));
            assert!((5..=15).contains(&got.len()), "{} on {cores} cores", got.len());
            all.extend(got);
        }
        all.sort_by_key(|body| body.parse::<u32>().expect("a number"));
        assert_eq!(all, (0..40).map(|n| n.to_string()).collect::<Vec<_>>());
    }
}

#[test]
fn a_full_member_of_a_group_is_passed_over() {
    for mut node in nodes() {
        let last = node.cores() - 1;
        let publisher = node.agent(0, "a/b/c/publisher");
        let full = node.agent(last, "a/b/c/full");
        let free = node.agent(0, "a/b/c/free");
        let bound = delivery(DeliveryPolicy::DropNewest, FRAME as u64 + 2);
        node.subscribe(&full, 1, "t", "g", bound);
        node.subscribe(&free, 1, "t", "g", Delivery::default());
        for n in 0..20 {
            let _ = node.publish(&publisher, "t", 0, format!("{n:02}").as_bytes());
            node.settle();
        }
        let got = bodies(&node.told(&free)).len();
        let (took, said) = (bodies(&node.told(&full)).len(), got);
        assert_eq!(took, 1);
        assert!(
            said >= 18,
            "{said}: at most one was on its way when the other filled up"
        );
    }
}

#[test]
fn a_message_that_was_begun_is_never_dropped() {
    let mut node = Node::new(1, Limits::default(), 7);
    let agent = node.agent(0, "a/b/c/d");
    let frame = FRAME + 2;
    node.subscribe(
        &agent,
        1,
        "t",
        "",
        delivery(DeliveryPolicy::DropOldest, 2 * frame as u64),
    );
    let _ = node.publish(&agent, "t", 0, b"00");
    node.turn_end(0);
    let mut stream = node.pull(0, agent.session, 3).expect("the start of it").to_vec();
    for n in 1..5 {
        let _ = node.publish(&agent, "t", 0, format!("{n:02}").as_bytes());
        node.turn_end(0);
    }
    while let Some(bytes) = node.pull(0, agent.session, 3) {
        assert!(bytes.len() <= 3);
        stream.extend_from_slice(&bytes);
    }
    let said = node.parse(&mut stream);
    assert_eq!(bodies(&said), ["00", "04"]);
    assert!(matches!(said[1], Said::Gap { dropped: 3, .. }), "{said:?}");
}

#[test]
fn memory_is_shared_by_what_is_free() {
    let limits = Limits {
        queue_memory_bytes_max: 1 << 20,
        ..Limits::default()
    };
    let mut node = Node::new(1, limits, 7);
    let publisher = node.agent(0, "a/b/c/publisher");
    let readers: Vec<_> = (0..8).map(|n| node.agent(0, &format!("a/b/c/{n}"))).collect();
    for reader in &readers {
        node.subscribe(reader, 1, "t", "", delivery(DeliveryPolicy::DropOldest, 1 << 20));
    }
    for _ in 0..2000 {
        let _ = node.publish(&publisher, "t", 0, &[0; 1000]);
    }
    node.settle();
    let stats = node.gateways[0].stats();
    assert!(stats.queued_bytes <= 1 << 20, "{}", stats.queued_bytes);
    for reader in &readers {
        let waiting = node.gateways[0].queued_bytes(reader.session);
        assert!(waiting > 1 << 15, "each gets a share: {waiting}");
    }
}

#[test]
fn a_message_above_the_bound_is_delivered_to_a_reader_that_keeps_up() {
    use DeliveryPolicy::{Block, DropNewest, DropOldest, Latest};
    for policy in [DropOldest, DropNewest, Latest, Block] {
        for mut node in nodes() {
            let last = node.cores() - 1;
            let publisher = node.agent(0, "a/b/c/publisher");
            let reader = node.agent(last, "a/b/c/reader");
            node.subscribe(&reader, 1, "t", "", delivery(policy, FRAME as u64));
            for body in ["first, which is large", "second, which is large"] {
                // BLOCK on another core holds the publisher for a round trip in any case.
                let _ = node.publish(&publisher, "t", 0, body.as_bytes());
                node.settle();
                assert_eq!(bodies(&node.told(&reader)), [body], "{policy:?}");
            }
        }
    }
}
