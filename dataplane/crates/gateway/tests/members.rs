//! Services and capabilities stand for agents: what is forbidden on one of those holds also where it would be chosen.

mod support;

use std::collections::HashMap;

use ringgate_gateway::action::{Action, Balance, Introduce, Register, Request, StreamOpen, Target, To};
use ringgate_gateway::code::Code;
use ringgate_gateway::{Closing, EventKind};
use ringgate_policy::{AgentName, Authority, Denial, Identity, Limits, Permission, Proof, Rejection};
use support::{Agent, Node, Said};

const SERVICE: To<'static> = To::Service("a/b/cook");
const CAPABILITY: To<'static> = To::Capability("cook");

/// What is not listed is permitted; what is listed is forbidden, or only not permitted.
#[derive(Debug, Clone, Default)]
struct Rules(HashMap<(&'static str, String), bool>);

impl Rules {
    fn forbid(mut self, action: &'static str, resource: &str) -> Self {
        self.0.insert((action, resource.to_owned()), true);
        self
    }

    fn leave_out(mut self, action: &'static str, resource: &str) -> Self {
        self.0.insert((action, resource.to_owned()), false);
        self
    }
}

impl Authority for Rules {
    fn decide(&self, _: &Identity, _: &AgentName, what: Permission<'_>) -> Result<(), Denial> {
        match self.0.get(&(what.action(), what.resource().to_owned())) {
            None => Ok(()),
            Some(&forbidden) => Err(Denial {
                reason: format!("{} {}: ask the operator", what.action(), what.resource()),
                forbidden,
            }),
        }
    }

    fn may_forbid(&self, what: Permission<'_>) -> bool {
        let forbids = |(asked, forbidden): (&(&str, String), &bool)| *forbidden && asked.0 == what.action();
        self.0.iter().any(forbids)
    }

    fn examine(&self, _: &Identity, _: i64) -> Result<(), Rejection> {
        Ok(())
    }

    fn authenticate(&self, _: &str, _: &[u8], _: &str, _: i64) -> Result<Identity, Rejection> {
        Ok(Identity::Declared)
    }

    fn use_up(&self, _: &Proof, _: i64) -> Result<(), Rejection> {
        Ok(())
    }
}

/// A guest and two cooks, each on a core of its own.
struct Kitchen {
    node: Node,
    guest: Agent,
    cooks: Vec<Agent>,
}

impl Kitchen {
    fn new(rules: &Rules) -> Self {
        let mut node = Node::new(3, Limits::default(), 7);
        change(&mut node, rules);
        let cooks = ["a/b/cook/1", "a/b/cook/2"].into_iter().enumerate();
        let cooks = cooks.map(|(core, name)| {
            let register = Register {
                name,
                capabilities: vec!["cook"],
                ..Register::default()
            };
            node.agent_with(core, register)
        });
        let cooks = cooks.collect();
        let guest = node.agent(2, "a/b/guest/1");
        Self { node, guest, cooks }
    }

    fn say(&mut self, action: Action<'_>) {
        let _ = self.node.apply(self.guest.core, self.guest.session, action);
        self.node.settle();
    }

    /// Sends a request, a stream and an introduction to a target.
    fn reach(&mut self, to: To<'static>, balance: Balance, id: u64) {
        let target = || Target {
            to,
            balance,
            affinity: "key",
        };
        self.say(Action::Request(Request {
            id,
            target: target(),
            timeout_ms: 0,
            body: b"",
        }));
        self.say(Action::StreamOpen(StreamOpen {
            stream: 2 * id + 1,
            target: target(),
            credit_bytes: 0,
            body: b"",
        }));
        self.say(Action::Introduce(Introduce {
            id: 1000 + id,
            target: target(),
            timeout_ms: 0,
            body: b"",
        }));
    }

    /// How many messages each cook got.
    fn served(&mut self) -> Vec<usize> {
        let cooks = self.cooks.iter();
        cooks.map(|cook| self.node.told(cook).len()).collect()
    }

    fn refusals(&mut self) -> Vec<(Code, String)> {
        let told = self.node.told(&self.guest).into_iter();
        told.filter_map(|said| match said {
            Said::Error { code, message, .. } => Some((code, message)),
            _ => None,
        })
        .collect()
    }
}

/// New rules on all cores, and the review that follows.
fn change(node: &mut Node, rules: &Rules) {
    let now = node.now;
    for gateway in &mut node.gateways {
        gateway.reauthorise(Box::new(rules.clone()), &now);
    }
    while node.gateways.iter().any(|gateway| gateway.is_reviewing()) {
        node.advance(1);
    }
    node.settle();
}

fn all_forbidden_on(name: &str) -> Rules {
    ["request", "stream", "introduce"]
        .into_iter()
        .fold(Rules::default(), |rules, action| rules.forbid(action, name))
}

#[test]
fn the_one_that_is_forbidden_is_not_chosen() {
    let mut kitchen = Kitchen::new(&all_forbidden_on("a/b/cook/1"));
    let mut id = 0;
    for to in [SERVICE, CAPABILITY] {
        for balance in [Balance::RoundRobin, Balance::LeastOutstanding, Balance::Hash] {
            for _ in 0..4 {
                id += 1;
                kitchen.reach(to, balance, id);
            }
        }
    }
    assert_eq!(kitchen.served(), [0, 3 * id as usize]);
    assert!(kitchen.refusals().is_empty());
    assert!(
        kitchen.node.events.is_empty(),
        "nothing was refused: {:?}",
        kitchen.node.events
    );
}

#[test]
fn where_all_are_forbidden_it_is_refused_with_the_reason() {
    let mut rules = all_forbidden_on("a/b/cook/1");
    rules.0.extend(all_forbidden_on("a/b/cook/2").0);
    let mut kitchen = Kitchen::new(&rules);
    for id in 1..=4 {
        kitchen.reach(SERVICE, Balance::RoundRobin, id);
        kitchen.reach(CAPABILITY, Balance::RoundRobin, 100 + id);
    }
    assert_eq!(kitchen.served(), [0, 0]);
    let refusals = kitchen.refusals();
    assert_eq!(refusals.len(), 24);
    for (code, message) in &refusals {
        assert_eq!(*code, Code::PermissionDenied);
        assert!(
            message.contains("a/b/cook/") && message.contains("ask the operator"),
            "{message}"
        );
    }
    let events: Vec<_> = kitchen.node.events.iter().map(|event| event.kind).collect();
    assert!(events.iter().all(|kind| *kind == EventKind::PermissionDenied));
    assert!(events.len() <= 6, "each is told once: {events:?}");
}

#[test]
fn what_only_nothing_permits_on_an_agent_is_permitted_by_its_capability() {
    let rules = ["request", "stream", "introduce"].into_iter();
    let rules = rules.fold(Rules::default(), |rules, action| {
        rules
            .leave_out(action, "a/b/cook/1")
            .leave_out(action, "a/b/cook/2")
            .forbid(action, "a/b/elsewhere/1")
    });
    let mut kitchen = Kitchen::new(&rules);
    kitchen.reach(CAPABILITY, Balance::RoundRobin, 1);
    kitchen.reach(SERVICE, Balance::RoundRobin, 2);
    assert_eq!(kitchen.served().iter().sum::<usize>(), 6);
    let one = To::Agent("a/b/cook/1");
    kitchen.reach(one, Balance::RoundRobin, 3);
    assert_eq!(kitchen.served(), [0, 0]);
    assert_eq!(kitchen.refusals().len(), 3, "it was not asked for by its name");
}

#[test]
fn a_stream_ends_when_the_one_that_was_chosen_becomes_forbidden() {
    let mut kitchen = Kitchen::new(&Rules::default());
    for (stream, to) in [(1, CAPABILITY), (3, SERVICE), (5, To::Agent("a/b/cook/2"))] {
        kitchen.say(Action::StreamOpen(StreamOpen {
            stream,
            target: Target {
                to,
                balance: Balance::Hash,
                affinity: "",
            },
            credit_bytes: 0,
            body: b"",
        }));
    }
    let served = kitchen.served();
    assert_eq!(served.iter().sum::<usize>(), 3);
    change(
        &mut kitchen.node,
        &Rules::default().forbid("stream", "a/b/cook/1"),
    );
    let first = served[0];
    assert_eq!(kitchen.refusals().len(), first, "those to the first cook");
    assert_eq!(kitchen.served(), [first, 0]);
    change(
        &mut kitchen.node,
        &Rules::default()
            .forbid("stream", "a/b/cook/1")
            .forbid("stream", "a/b/cook/2"),
    );
    assert_eq!(kitchen.refusals().len(), 3 - first);
    let (guest, cooks) = (kitchen.guest, kitchen.cooks);
    for agent in cooks.iter().chain([&guest]) {
        kitchen.node.leave(agent, Closing::Orderly);
    }
    kitchen.node.assert_idle();
}

#[test]
fn of_very_many_a_bounded_number_is_asked_about_in_one_go() {
    let mut rules = Rules::default();
    for number in 0..200 {
        rules = rules.forbid("request", &format!("a/b/cook/{number}"));
    }
    let mut node = Node::new(1, Limits::default(), 7);
    change(&mut node, &rules);
    let names: Vec<String> = (0..=200).map(|number| format!("a/b/cook/{number}")).collect();
    let cooks: Vec<Agent> = names.iter().map(|name| node.agent(0, name)).collect();
    let guest = node.agent(0, "a/b/guest/1");
    // The last may be asked; each try goes on where the one before stopped.
    for id in 1..=4 {
        let _ = node.request(&guest, id, SERVICE, 0, b"");
        let told = node.told(&guest);
        let [] = &told[..] else {
            assert!(
                matches!(
                    &told[..],
                    [Said::Error {
                        code: Code::Unavailable,
                        retryable: true,
                        ..
                    }]
                ),
                "{told:?}"
            );
            continue;
        };
        assert!(matches!(node.told(&cooks[200])[..], [Said::Forward { .. }]));
        return;
    }
    panic!("nobody was asked");
}
