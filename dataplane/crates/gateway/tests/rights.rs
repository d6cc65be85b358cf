//! Credentials and policy: what is asked when, and what ends when they change.

mod support;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use ringgate_gateway::action::{
    Action, Balance, Chunk, Delivery, DeliveryPolicy, Introduce, Register, StreamOpen, Target, To,
};
use ringgate_gateway::code::Code;
use ringgate_gateway::{Closing, EventKind};
use ringgate_policy::{
    AgentName, Authority, Credential, Denial, Identity, Limits, PROOF_BYTES, Permission, Proof, Rejection,
    bearing,
};
use support::{Agent, Node, Said, delivery};

/// Everyone may do what is not listed.
#[derive(Clone, Default)]
struct Rules {
    denied: HashSet<(String, &'static str, String)>,
    revoked: HashSet<String>,
    credential_required: bool,
    asked: Rc<Cell<u32>>,
    proofs: Rc<RefCell<HashSet<Proof>>>,
}

impl Rules {
    fn deny(&self, who: &str, action: &'static str, resource: &str) -> Self {
        let mut rules = self.clone();
        rules.denied.insert((who.to_owned(), action, resource.to_owned()));
        rules
    }

    fn revoke(&self, serial: &str) -> Self {
        let mut rules = self.clone();
        rules.revoked.insert(serial.to_owned());
        rules
    }
}

fn rejection(code: &'static str) -> Rejection {
    Rejection {
        code,
        reason: "get another credential".to_owned(),
    }
}

impl Authority for Rules {
    fn decide(&self, who: &Identity, name: &AgentName, what: Permission<'_>) -> Result<(), Denial> {
        self.asked.set(self.asked.get() + 1);
        bearing(who, name)?;
        let asked = (name.to_string(), what.action(), what.resource().to_owned());
        match self.denied.contains(&asked) {
            false => Ok(()),
            true => Err(Denial {
                reason: format!("{} {}: not allowed; ask the operator", asked.1, asked.2),
                forbidden: true,
            }),
        }
    }

    fn examine(&self, who: &Identity, unix_seconds: i64) -> Result<(), Rejection> {
        let Some(credential) = who.proved() else {
            return match self.credential_required {
                true => Err(rejection("CREDENTIAL_MISSING")),
                false => Ok(()),
            };
        };
        if self.revoked.contains(&credential.serial) {
            return Err(rejection("REVOKED"));
        }
        match credential.expires_unix.is_some_and(|end| end <= unix_seconds) {
            true => Err(rejection("EXPIRED")),
            false => Ok(()),
        }
    }

    fn authenticate(&self, token: &str, proof: &[u8], _: &str, _: i64) -> Result<Identity, Rejection> {
        let &[number] = proof else {
            return Err(rejection("PROOF_MISSING"));
        };
        let proof = Proof([number; PROOF_BYTES]);
        Ok(Identity::Token(credential(token, "t1", None), proof))
    }

    fn use_up(&self, proof: &Proof, _: i64) -> Result<(), Rejection> {
        match self.proofs.borrow_mut().insert(*proof) {
            true => Ok(()),
            false => Err(rejection("PROOF_REPLAYED")),
        }
    }
}

fn credential(agent: &str, serial: &str, expires_unix: Option<i64>) -> Arc<Credential> {
    Arc::new(Credential {
        agent: AgentName::new(agent).ok(),
        uri: format!("agp://test/{agent}"),
        serial: serial.to_owned(),
        expires_unix,
        ..Credential::default()
    })
}

fn node(cores: u16, rules: &Rules) -> Node {
    let mut node = Node::new(cores, Limits::default(), 7);
    change(&mut node, rules);
    node
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

fn certified(node: &mut Node, core: usize, name: &str, serial: &str, expires_unix: Option<i64>) -> Agent {
    let identity = Identity::Certificate(credential(name, serial, expires_unix));
    let session = node.open_as(core, identity);
    let _ = node.apply(core, session, Action::Register(named(name)));
    let said = node.read(core, session);
    let [Said::Registered { token, .. }] = &said[..] else {
        panic!("not registered: {said:?}")
    };
    Agent {
        core,
        session,
        token: token.clone(),
    }
}

fn named(name: &str) -> Register<'_> {
    Register {
        name,
        ..Register::default()
    }
}

fn error(said: &[Said]) -> (u64, Code, &str) {
    match said {
        [
            Said::Error {
                id, code, message, ..
            },
        ] => (*id, *code, message),
        other => panic!("one error expected: {other:?}"),
    }
}

fn stream_to(node: &mut Node, from: &Agent, stream: u64, to: To<'_>) {
    let open = StreamOpen {
        stream,
        target: Target {
            to,
            balance: Balance::RoundRobin,
            affinity: "",
        },
        credit_bytes: 100,
        body: b"open",
    };
    let _ = node.apply(from.core, from.session, Action::StreamOpen(open));
}

#[test]
fn policy_is_asked_once_and_a_denial_is_told_once() {
    let rules = Rules::default().deny("a/b/c/1", "publish", "secret");
    let mut node = node(1, &rules);
    let agent = node.agent(0, "a/b/c/1");
    let before = rules.asked.get();
    for topic in ["open", "secret", "open", "secret", "open"] {
        let _ = node.publish(&agent, topic, 9, b"x");
    }
    assert_eq!(rules.asked.get() - before, 2);
    let denied = node
        .told(&agent)
        .into_iter()
        .filter(|said| matches!(said, Said::Error { id: 9, code: Code::PermissionDenied, message, .. } if message.contains("publish secret")));
    assert_eq!(denied.count(), 2, "each message is answered");
    let kinds: Vec<_> = node.events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::PermissionDenied], "the operator is told once");
}

#[test]
fn a_lost_right_ends_just_what_it_was_for() {
    let rules = Rules::default();
    let mut node = node(2, &rules);
    let reader = node.agent(0, "a/b/reader/1");
    let peer = node.agent(1, "a/b/peer/1");
    let writer = node.agent(1, "a/b/writer/1");
    node.subscribe(&reader, 1, "kept", "", Delivery::default());
    node.subscribe(&reader, 2, "lost", "", Delivery::default());
    node.subscribe(&reader, 3, "lost", "crew", delivery(DeliveryPolicy::Latest, 0));
    stream_to(&mut node, &reader, 5, To::Agent("a/b/peer/1"));
    stream_to(&mut node, &reader, 7, To::Agent("a/b/writer/1"));
    let opened = node.told(&peer);
    let [Said::StreamOpen { stream, .. }] = opened[..] else {
        panic!("{opened:?}")
    };
    node.told(&writer);
    for number in 0..3u8 {
        let _ = node.publish(&writer, "kept", 0, &[number]);
    }

    let rules = rules
        .deny("a/b/reader/1", "subscribe", "lost")
        .deny("a/b/reader/1", "stream", "a/b/peer/1");
    change(&mut node, &rules);
    let _ = node.publish(&writer, "lost", 0, b"unheard");
    let _ = node.publish(&writer, "kept", 0, &[3]);

    let said = node.told(&reader);
    let heard: Vec<&[u8]> = said
        .iter()
        .filter_map(|said| match said {
            Said::Notify { body, .. } => Some(&body[..]),
            _ => None,
        })
        .collect();
    assert_eq!(
        heard,
        [&[0][..], &[1], &[2], &[3]],
        "the rest is whole and in order"
    );
    let mut ended: Vec<u64> = said
        .iter()
        .filter_map(|said| match said {
            Said::Error {
                id,
                code: Code::PermissionDenied,
                message,
                ..
            } => {
                let named = message.contains("subscribe lost") || message.contains("stream a/b/peer/1");
                assert!(named, "{message}");
                Some(*id)
            }
            _ => None,
        })
        .collect();
    ended.sort_unstable();
    assert_eq!(ended, [2, 3, 5]);
    let told = node.told(&peer);
    assert_eq!(
        told,
        [Said::StreamEnded {
            stream,
            code: Code::PermissionDenied
        }]
    );
    let chunk = Chunk {
        stream: 7,
        payload_bytes: 0,
        body: b"",
    };
    let _ = node.apply(reader.core, reader.session, Action::Chunk(chunk));
    assert!(
        matches!(node.told(&writer)[..], [Said::Chunk { .. }]),
        "the other stream goes on"
    );
    assert!(
        node.events
            .iter()
            .all(|event| event.kind == EventKind::PermissionLost)
    );
    for agent in [&reader, &peer, &writer] {
        node.leave(agent, Closing::Orderly);
    }
    node.assert_idle();
}

#[test]
fn a_right_that_is_given_works_at_once() {
    let rules = Rules::default();
    let mut node = node(1, &rules.deny("a/b/c/1", "publish", "t"));
    let agent = node.agent(0, "a/b/c/1");
    let _ = node.publish(&agent, "t", 1, b"x");
    assert_eq!(error(&node.told(&agent)).1, Code::PermissionDenied);
    let now = node.now;
    node.gateways[0].reauthorise(Box::new(rules), &now);
    let _ = node.publish(&agent, "t", 2, b"x");
    assert_eq!(node.told(&agent), [Said::Ack { id: 2, receivers: 0 }]);
}

#[test]
fn a_lost_capability_is_withdrawn_on_every_core_and_the_agent_stays() {
    let rules = Rules::default();
    let mut node = node(2, &rules);
    let register = Register {
        name: "a/b/c/1",
        capabilities: vec!["bake", "cook"],
        ..Register::default()
    };
    let cook = node.agent_with(0, register);
    let guest = node.agent(1, "a/b/guest/1");
    change(&mut node, &rules.deny("a/b/c/1", "declare", "bake"));
    let told = node.told(&cook);
    let (id, code, message) = error(&told);
    assert_eq!((id, code), (0, Code::PermissionDenied));
    assert!(message.contains("declare bake"), "{message}");
    let _ = node.request(&guest, 1, To::Capability("bake"), 0, b"bread");
    assert_eq!(error(&node.told(&guest)).1, Code::NoResponder);
    let _ = node.request(&guest, 2, To::Capability("cook"), 0, b"soup");
    assert!(matches!(node.told(&cook)[..], [Said::Forward { .. }]));
}

#[test]
fn a_capability_that_is_not_allowed_refuses_the_register() {
    let rules = Rules::default().deny("a/b/c/1", "declare", "rule");
    let mut node = node(1, &rules);
    let session = node.open(0);
    let register = Register {
        name: "a/b/c/1",
        capabilities: vec!["rule"],
        ..Register::default()
    };
    let _ = node.apply(0, session, Action::Register(register));
    let told = node.read(0, session);
    assert_eq!(error(&told).1, Code::PermissionDenied);
    assert_eq!(node.ended, [(0, session, Code::PermissionDenied)]);
}

#[test]
fn a_revoked_credential_ends_its_session_and_no_other() {
    let rules = Rules::default();
    let mut node = node(2, &rules);
    let revoked = certified(&mut node, 0, "a/b/c/1", "01", None);
    let other = certified(&mut node, 1, "a/b/c/2", "02", None);
    node.subscribe(&revoked, 1, "t", "", Delivery::default());
    node.subscribe(&other, 1, "t", "", Delivery::default());
    let _ = node.publish(&other, "t", 0, b"waits");
    node.settle();
    let rules = rules.revoke("01");
    change(&mut node, &rules);
    let told = node.told(&revoked);
    let (id, code, message) = error(&told);
    assert_eq!(
        (id, code),
        (0, Code::Unauthenticated),
        "what waited is not told any more"
    );
    assert!(message.starts_with("REVOKED"), "{message}");
    assert_eq!(node.ended, [(0, revoked.session, Code::Unauthenticated)]);
    assert_eq!(node.expelled, [(0, revoked.session)]);
    assert!(!node.gateways[0].vouches(revoked.session) && node.gateways[1].vouches(other.session));
    assert_eq!(node.events[0].kind, EventKind::RevokedConnClosed);
    assert_eq!(node.events[0].identity, "agp://test/a/b/c/1");
    assert!(matches!(node.told(&other)[..], [Said::Notify { .. }]));

    // It cannot come back, not on another core and not with its resume token.
    let session = node.open_as(1, Identity::Certificate(credential("a/b/c/1", "01", None)));
    let again = Register {
        resume_token: &revoked.token,
        ..named("a/b/c/1")
    };
    let _ = node.apply(1, session, Action::Register(again));
    assert_eq!(error(&node.read(1, session)).1, Code::Unauthenticated);
    // Its successor can.
    node.close(0, revoked.session, Closing::Orderly);
    certified(&mut node, 1, "a/b/c/1", "03", None);
}

#[test]
fn a_stream_whose_credential_is_revoked_before_its_register_ends() {
    let rules = Rules::default();
    let mut node = node(1, &rules);
    let token = |serial| {
        let held = credential("a/b/c/1", serial, None);
        Identity::Token(held, Proof([1; PROOF_BYTES]))
    };
    let revoked = node.open_as(0, token("01"));
    let waits = node.open_as(0, token("02"));
    let nobody = node.open_as(0, Identity::Declared);
    change(&mut node, &rules.revoke("01"));
    assert_eq!(node.ended, [(0, revoked, Code::Unauthenticated)]);
    assert_eq!(node.expelled, [(0, revoked)]);
    assert_eq!(node.events[0].kind, EventKind::RevokedConnClosed);
    let vouched = [revoked, waits, nobody].map(|session| node.gateways[0].vouches(session));
    assert_eq!(vouched, [false, true, false]);
}

#[test]
fn a_right_that_is_lost_says_nothing_against_a_connection() {
    let rules = Rules::default();
    let mut node = node(1, &rules);
    let agent = certified(&mut node, 0, "a/b/c/1", "01", None);
    change(&mut node, &rules.deny("a/b/c/1", "register", ""));
    assert_eq!(node.ended, [(0, agent.session, Code::PermissionDenied)]);
    assert!(node.expelled.is_empty());
}

#[test]
fn a_lost_session_of_a_revoked_credential_cannot_be_resumed() {
    let rules = Rules::default();
    let mut node = node(1, &rules);
    let agent = certified(&mut node, 0, "a/b/c/1", "01", None);
    node.subscribe(&agent, 1, "t", "", Delivery::default());
    node.leave(&agent, Closing::Lost);
    change(&mut node, &rules.revoke("01"));
    node.assert_idle();
}

#[test]
fn a_credential_that_runs_out_ends_its_session() {
    let rules = Rules::default();
    let mut node = node(1, &rules);
    // The clock of the node starts at one second.
    let agent = certified(&mut node, 0, "a/b/c/1", "01", Some(61));
    node.advance(59_000);
    assert!(node.told(&agent).is_empty());
    node.advance(1_000);
    assert!(error(&node.told(&agent)).2.starts_with("EXPIRED"));
    assert_eq!(node.events[0].kind, EventKind::CredentialExpired);
    assert_eq!(node.ended, [(0, agent.session, Code::Unauthenticated)]);
}

#[test]
fn who_proves_nothing_is_refused_where_proof_is_required() {
    let rules = Rules {
        credential_required: true,
        ..Rules::default()
    };
    let mut node = node(1, &rules);
    let session = node.open(0);
    let _ = node.apply(0, session, Action::Register(named("a/b/c/1")));
    let told = node.read(0, session);
    assert_eq!(error(&told).1, Code::Unauthenticated);
    assert_eq!(node.events[0].kind, EventKind::Unauthenticated);
    assert!(node.events[0].detail.contains("a/b/c/1"));
}

#[test]
fn a_proof_is_good_once_in_the_whole_node() {
    let rules = Rules {
        credential_required: true,
        ..Rules::default()
    };
    let mut node = node(3, &rules);
    let register = |proof| Register {
        name: "a/b/c/1",
        token: "a/b/c/1",
        proof,
        ..Register::default()
    };
    let first = node.agent_with(0, register(&[1]));
    node.leave(&first, Closing::Orderly);
    let session = node.open(2);
    let _ = node.apply(2, session, Action::Register(register(&[1])));
    let told = node.read(2, session);
    let (_, code, message) = error(&told);
    assert_eq!(code, Code::Unauthenticated);
    assert!(message.starts_with("PROOF_REPLAYED"), "{message}");
    assert_eq!(
        node.events.last().map(|event| event.kind),
        Some(EventKind::ProofReplayed)
    );
    node.agent_with(2, register(&[2]));
}

#[test]
fn a_token_for_one_name_does_not_bear_another() {
    let mut node = node(1, &Rules::default());
    let session = node.open(0);
    let register = Register {
        token: "a/b/c/2",
        proof: &[1],
        ..named("a/b/c/1")
    };
    let _ = node.apply(0, session, Action::Register(register));
    assert_eq!(error(&node.read(0, session)).1, Code::PermissionDenied);
}

#[test]
fn the_peer_of_a_channel_is_judged_by_its_name() {
    let rules = Rules::default().deny("a/b/c/1", "request", "a/b/c/2");
    let mut node = node(1, &rules);
    let one = node.agent(0, "a/b/c/1");
    let two = node.agent(0, "a/b/c/2");
    let introduce = Introduce {
        id: 1,
        target: Target {
            to: To::Agent("a/b/c/2"),
            balance: Balance::RoundRobin,
            affinity: "",
        },
        timeout_ms: 0,
        body: b"",
    };
    let _ = node.apply(0, one.session, Action::Introduce(introduce));
    let told = node.told(&two);
    let [Said::Introduce { introduction, .. }] = told[..] else {
        panic!("{told:?}")
    };
    let accept = ringgate_gateway::action::Accept {
        introduction,
        body: b"",
    };
    let _ = node.apply(0, two.session, Action::Accept(accept));
    node.told(&two);
    let told = node.told(&one);
    let [Said::Connected { channel, .. }] = &told[..] else {
        panic!("{told:?}")
    };
    let _ = node.request(&one, 2, To::Channel(channel), 0, b"");
    let told = node.told(&one);
    let (id, code, message) = error(&told);
    assert_eq!((id, code), (2, Code::PermissionDenied));
    assert!(message.contains("a/b/c/2"), "{message}");
}

#[test]
fn a_session_resumed_on_another_core_is_looked_at_there() {
    let rules = Rules::default();
    let mut node = node(2, &rules);
    let agent = node.agent(0, "a/b/c/1");
    node.subscribe(&agent, 1, "kept", "", Delivery::default());
    node.subscribe(&agent, 2, "lost", "", Delivery::default());
    let session = node.open(1);
    let register = Register {
        resume_token: &agent.token,
        ..named("a/b/c/1")
    };
    let _ = node.apply(1, session, Action::Register(register));
    // The new core hears of the rules before it gets the session, whose old core never looked at it.
    let now = node.now;
    let rules = rules.deny("a/b/c/1", "subscribe", "lost");
    node.gateways[1].reauthorise(Box::new(rules), &now);
    node.advance(1);
    let told = node.read(1, session);
    assert!(
        matches!(told[..], [Said::Registered { resumed: true, .. }]),
        "{told:?}"
    );
    node.advance(1);
    assert_eq!(error(&node.read(1, session)).0, 2);
    assert_eq!(node.gateways[1].subscriptions(session).count(), 1);
}

#[test]
fn who_is_there_is_told_in_order() {
    let mut node = node(2, &Rules::default());
    let agent = node.agent(0, "a/b/c/1");
    node.leave(&agent, Closing::Lost);
    let register = Register {
        resume_token: &agent.token,
        ..named("a/b/c/1")
    };
    let again = node.agent_with(1, register);
    node.leave(&again, Closing::Orderly);
    let name = || "a/b/c/1".to_owned();
    assert_eq!(
        node.presence,
        [(name(), true), (name(), false), (name(), true), (name(), false)]
    );
}
