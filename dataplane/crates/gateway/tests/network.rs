//! The door to other nodes, told as conversations.

mod support;

use bytes::Bytes;
use ringgate_gateway::Closing;
use ringgate_gateway::action::{Action, Delivery, DeliveryPolicy};
use ringgate_policy::Limits;
use support::{Node, Said, bodies, delivery};

fn nodes() -> Vec<Node> {
    [1, 2, 3]
        .map(|cores| Node::new(cores, Limits::default(), 7))
        .into()
}

/// What the node has for others since this was asked last: topics and how many messages.
fn sent(node: &mut Node) -> Vec<(String, u32)> {
    node.settle();
    let sent = std::mem::take(&mut node.to_network).into_iter();
    sent.map(|(topic, _, messages)| (topic, messages)).collect()
}

#[test]
fn what_others_want_goes_out_once_from_any_core() {
    for mut node in nodes() {
        let cores = node.cores();
        node.join_network();
        let publishers: Vec<_> = (0..cores)
            .map(|core| node.agent(core, &format!("a/b/c/p{core}")))
            .collect();
        let reader = node.agent(cores - 1, "a/b/c/reader");
        node.subscribe(&reader, 1, "news/*", "", Delivery::default());
        let _ = node.publish(&publishers[0], "news/today", 0, b"early");
        assert_eq!(sent(&mut node), [], "nobody elsewhere wants it");
        node.wanted_elsewhere("news/today", 4);
        node.wanted_elsewhere("news/**", 1);
        for publisher in &publishers {
            let _ = node.publish(publisher, "news/today", 0, b"one");
            let _ = node.publish(publisher, "news/today", 0, b"two");
            let out: u32 = sent(&mut node).iter().map(|(_, messages)| messages).sum();
            assert_eq!(out, 2, "{cores} cores");
            let _ = node.publish(publisher, "news/today", 9, b"three");
            assert_eq!(sent(&mut node), [("news/today".to_owned(), 1)]);
            assert_eq!(node.told(publisher), [Said::Ack { id: 9, receivers: 6 }]);
        }
        assert_eq!(node.told(&reader).len(), 1 + 3 * cores);
        node.wanted_elsewhere("news/**", 0);
        node.wanted_elsewhere("news/today", 0);
        let _ = node.publish(&publishers[cores - 1], "news/today", 0, b"late");
        assert_eq!(sent(&mut node), []);
        for agent in publishers.iter().chain([&reader]) {
            node.leave(agent, Closing::Orderly);
        }
        node.assert_idle();
    }
}

#[test]
fn what_is_wanted_on_any_core_is_told() {
    for mut node in nodes() {
        let last = node.cores() - 1;
        let early = node.agent(last, "a/b/c/early");
        node.subscribe(&early, 1, "t", "", Delivery::default());
        assert!(node.wanted.is_empty(), "a node by itself tells nobody");
        node.join_network();
        assert_eq!(std::mem::take(&mut node.wanted), [("t".to_owned(), 1)]);
        let near = node.agent(0, "a/b/c/near");
        node.subscribe(&near, 1, "t", "", Delivery::default());
        node.subscribe(&near, 2, "of/a/group", "workers", Delivery::default());
        assert_eq!(node.wanted.last(), Some(&("t".to_owned(), 2)));
        // What others want is not told back to them.
        node.wanted_elsewhere("t", 7);
        let _ = node.apply(near.core, near.session, Action::Unsubscribe { id: 1 });
        node.settle();
        assert_eq!(node.wanted.last(), Some(&("t".to_owned(), 1)));
        node.leave(&early, Closing::Orderly);
        node.settle();
        assert_eq!(node.wanted.last(), Some(&("t".to_owned(), 0)));
        assert!(
            node.wanted.iter().all(|(pattern, _)| pattern == "t"),
            "groups do not span nodes"
        );
    }
}

#[test]
fn what_comes_from_others_reaches_each_subscriber_once_and_does_not_go_back() {
    for mut node in nodes() {
        let cores = node.cores();
        node.join_network();
        node.wanted_elsewhere("t", 1);
        let readers: Vec<_> = (0..cores)
            .map(|core| node.agent(core, &format!("a/b/c/r{core}")))
            .collect();
        for reader in &readers {
            node.subscribe(reader, 1, "t", "", Delivery::default());
            node.subscribe(reader, 2, "*", "", Delivery::default());
        }
        let blocking = node.agent(cores - 1, "a/b/c/blocking");
        node.subscribe(&blocking, 1, "t", "", delivery(DeliveryPolicy::Block, 1 << 16));
        let publisher = node.agent(0, "a/b/c/publisher");
        let _ = node.publish(&publisher, "t", 0, b"one");
        let _ = node.publish(&publisher, "t", 0, b"two");
        node.settle();
        // As another node would have sent it.
        let there: Vec<(String, Bytes, u32)> = std::mem::take(&mut node.to_network);
        for (topic, bytes, messages) in there {
            node.published_elsewhere(&topic, bytes, messages);
        }
        assert_eq!(sent(&mut node), [], "it came from there");
        for reader in readers.iter().chain([&blocking]) {
            assert_eq!(bodies(&node.told(reader)), ["one", "two", "one", "two"]);
        }
        for agent in readers.iter().chain([&blocking, &publisher]) {
            node.leave(agent, Closing::Orderly);
        }
        node.wanted_elsewhere("t", 0);
        node.assert_idle();
    }
}

#[test]
fn a_loss_on_the_way_is_told_in_its_place() {
    for mut node in nodes() {
        let cores = node.cores();
        node.join_network();
        let readers: Vec<_> = (0..cores)
            .map(|core| node.agent(core, &format!("a/b/c/r{core}")))
            .collect();
        for reader in &readers {
            node.subscribe(reader, 5, "t/*", "", Delivery::default());
        }
        let publisher = node.agent(0, "a/b/c/publisher");
        let _ = node.publish(&publisher, "t/x", 0, b"before");
        node.settle();
        node.lost_elsewhere("t/x", 3);
        node.lost_elsewhere("u", 9);
        let _ = node.publish(&publisher, "t/x", 0, b"after");
        node.settle();
        for reader in &readers {
            let said = node.told(reader);
            let gap = Said::Gap {
                subscription: 5,
                dropped: 3,
                dropped_bytes: 0,
                topic: "t/x".into(),
            };
            assert_eq!((said.len(), &said[1]), (3, &gap));
        }
    }
}
