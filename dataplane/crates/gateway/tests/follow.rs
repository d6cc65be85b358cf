//! What is told of messages that are followed.

mod support;

use ringgate_gateway::action::{DeliveryPolicy, To};
use ringgate_gateway::code::Code;
use ringgate_gateway::{Follow, RECEIVERS_MAX, Role, Step};
use ringgate_policy::Limits;
use support::{Agent, FRAME, Node, delivery};

/// Follows what `act` does.
fn followed(node: &mut Node, act: impl FnOnce(&mut Node)) -> Vec<Step> {
    node.settle();
    node.steps.clear();
    node.gateways[0].follow(Follow::All);
    act(node);
    node.turn_end(0);
    node.gateways[0].followed();
    node.gateways[0].follow(Follow::Off);
    // Whatever else happens, nothing more is told.
    node.settle();
    std::mem::take(&mut node.steps)
        .into_iter()
        .map(|(_, step)| step)
        .collect()
}

fn subscriber(node: &mut Node, name: &str, policy: DeliveryPolicy, room: u64) -> Agent {
    let agent = node.agent(0, name);
    node.subscribe(&agent, 7, "t", "", delivery(policy, room));
    agent
}

#[test]
fn a_publish_is_queued_or_dropped_for_each_subscriber() {
    let mut node = Node::new(1, Limits::default(), 7);
    let body = [b'x'; 1000];
    let len = (FRAME + body.len()) as u64;
    let publisher = node.agent(0, "a/b/c/publisher");
    let wide = subscriber(&mut node, "a/b/c/wide", DeliveryPolicy::DropOldest, 100_000);
    let narrow = subscriber(&mut node, "a/b/c/narrow", DeliveryPolicy::DropOldest, 1024);
    let newest = subscriber(&mut node, "a/b/c/newest", DeliveryPolicy::DropNewest, 1024);
    let publish = |node: &mut Node| _ = node.publish(&publisher, "t", 0, &body);
    let queued = |agent: &Agent, waiting, dropped| Step::Queued {
        session: agent.session,
        subscription: 7,
        waiting,
        dropped,
    };
    let dropped = |agent: &Agent, policy, this| Step::Dropped {
        session: agent.session,
        subscription: 7,
        policy,
        messages: 1,
        this,
    };
    let first = followed(&mut node, publish);
    assert_eq!(
        first,
        [
            queued(&wide, len, 0),
            queued(&narrow, len, 0),
            queued(&newest, len, 0)
        ]
    );
    let second = followed(&mut node, publish);
    let wanted = [
        queued(&wide, 2 * len, 0),
        dropped(&narrow, DeliveryPolicy::DropOldest, false),
        queued(&narrow, len, 1),
        dropped(&newest, DeliveryPolicy::DropNewest, true),
    ];
    assert_eq!(second, wanted);
}

#[test]
fn receivers_are_told_up_to_a_bound_and_counted_beyond() {
    let mut node = Node::new(1, Limits::default(), 7);
    let publisher = node.agent(0, "a/b/c/publisher");
    for number in 0..RECEIVERS_MAX + 5 {
        subscriber(
            &mut node,
            &format!("a/b/c/{number}"),
            DeliveryPolicy::DropOldest,
            100_000,
        );
    }
    let steps = followed(&mut node, |node| _ = node.publish(&publisher, "t", 0, b"x"));
    assert_eq!(steps.len() as u32, RECEIVERS_MAX + 1);
    assert_eq!(steps.last(), Some(&Step::More { receivers: 5 }));
}

#[test]
fn a_request_tells_its_numbers_and_how_it_ends() {
    let mut node = Node::new(1, Limits::default(), 7);
    let (asker, answerer) = (node.agent(0, "a/b/c/asker"), node.agent(0, "a/b/c/answerer"));
    let to = To::Agent("a/b/c/answerer");
    let steps = followed(&mut node, |node| _ = node.request(&asker, 4, to, 50, b"?"));
    let asked = Step::Numbered {
        session: asker.session,
        number: 4,
        role: Role::Asked,
    };
    assert!(steps.contains(&asked), "{steps:?}");
    let number = steps.iter().find_map(|step| match step {
        Step::Numbered {
            session,
            number,
            role: Role::Answers,
        } if *session == answerer.session => Some(*number),
        _ => None,
    });
    assert!(number.is_some(), "{steps:?}");
    assert!(matches!(steps.last(), Some(Step::Queued { session, .. }) if *session == answerer.session));
    // Nobody answers: with an eye on errors alone, that is told.
    node.gateways[0].follow(Follow::Errors);
    node.advance(51);
    let late = Step::Refused {
        session: asker.session,
        id: 4,
        code: Code::DeadlineExceeded,
    };
    assert_eq!(node.steps, [(0, late)]);
    let steps = followed(&mut node, |node| {
        _ = node.request(&asker, 5, To::Agent("a/b/c/nobody"), 50, b"?")
    });
    assert!(
        matches!(steps[..], [Step::Refused { id: 5, .. }, Step::Queued { .. }]),
        "{steps:?}"
    );
}
