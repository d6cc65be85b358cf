//! Registration, requests, streams and introductions, told as conversations.

mod support;

use ringgate_gateway::action::{
    Accept, Action, Balance, Chunk, Delivery, Introduce, Register, Reject, Status, StreamClose, StreamOpen,
    Target, To,
};
use ringgate_gateway::code::Code;
use ringgate_gateway::{Closing, Flow};
use ringgate_policy::Limits;
use support::{Agent, Node, Said, bodies};

fn nodes() -> Vec<Node> {
    [1, 2, 3]
        .map(|cores| Node::new(cores, Limits::default(), 7))
        .into()
}

/// Two agents as far apart as the node allows.
fn pair(node: &mut Node) -> (Agent, Agent) {
    let last = node.cores() - 1;
    let asker = node.agent(0, "acme/demo/asker/1");
    let register = Register {
        name: "acme/demo/weather/1",
        capabilities: vec!["forecast"],
        ..Register::default()
    };
    (asker, node.agent_with(last, register))
}

fn target(to: To<'_>) -> Target<'_> {
    Target {
        to,
        balance: Balance::RoundRobin,
        affinity: "",
    }
}

fn end(node: &mut Node, agents: &[&Agent]) {
    for agent in agents {
        node.leave(agent, Closing::Orderly);
    }
    node.assert_idle();
}

#[test]
fn register_comes_first() {
    for mut node in nodes() {
        let session = node.open(0);
        let _ = node.apply(0, session, Action::Unsubscribe { id: 1 });
        assert!(matches!(
            &node.read(0, session)[..],
            [Said::Error {
                id: 0,
                code: Code::Unauthenticated,
                ..
            }]
        ));
        assert_eq!(node.ended, [(0, session, Code::Unauthenticated)]);
        node.close(0, session, Closing::Orderly);
        let silent = node.open(0);
        node.advance(Limits::default().register_timeout_ms);
        assert_eq!(node.ended.last(), Some(&(0, silent, Code::Unauthenticated)));
        node.close(0, silent, Closing::Lost);
        node.assert_idle();
    }
}

#[test]
fn a_name_in_use_is_refused_and_free_when_its_agent_left() {
    for mut node in nodes() {
        let last = node.cores() - 1;
        let first = node.agent(0, "a/b/c/d");
        let second = node.open(last);
        let register = || {
            Action::Register(Register {
                name: "a/b/c/d",
                ..Register::default()
            })
        };
        let _ = node.apply(last, second, register());
        assert!(matches!(
            &node.read(last, second)[..],
            [Said::Error {
                id: 0,
                code: Code::AlreadyExists,
                ..
            }]
        ));
        node.close(last, second, Closing::Orderly);
        node.leave(&first, Closing::Orderly);
        let again = node.agent(last, "a/b/c/d");
        end(&mut node, &[&again]);
    }
}

#[test]
fn a_request_is_answered() {
    for mut node in nodes() {
        let (asker, weather) = pair(&mut node);
        let targets = [
            To::Agent("acme/demo/weather/1"),
            To::Service("acme/demo/weather"),
            To::Capability("forecast"),
        ];
        for (id, to) in (1..).zip(targets) {
            let _ = node.request(&asker, id, to, 0, b"rain?");
            let said = node.told(&weather);
            let [Said::Forward { request, source, .. }] = &said[..] else {
                panic!("{said:?}")
            };
            assert_eq!(source, "acme/demo/asker/1");
            let _ = node.respond(&weather, *request, b"no");
            let wanted = Said::Deliver {
                body: b"no".into(),
                id,
                source: "acme/demo/weather/1".into(),
            };
            assert_eq!(node.told(&asker), [wanted]);
            // A second answer is late, not wrong; one to nothing is wrong.
            let _ = node.respond(&weather, *request, b"yes");
            assert_eq!(node.told(&weather), []);
        }
        let _ = node.respond(&weather, 123_456_789, b"?");
        assert!(matches!(
            &node.told(&weather)[..],
            [Said::Error {
                code: Code::NotFound,
                ..
            }]
        ));
        end(&mut node, &[&asker, &weather]);
    }
}

#[test]
fn a_request_that_cannot_be_answered_fails_at_once() {
    for mut node in nodes() {
        let last = node.cores() - 1;
        let (asker, weather) = pair(&mut node);
        let picky = Register {
            name: "acme/demo/picky/1",
            accept_from: vec!["acme/other/**"],
            ..Register::default()
        };
        let picky = node.agent_with(last, picky);
        let cases = [
            (To::Agent("acme/demo/nobody/1"), Code::NoResponder),
            (To::Capability("magic"), Code::NoResponder),
            (To::Agent("acme/demo/picky/1"), Code::PermissionDenied),
            (To::Service("acme/demo/picky"), Code::PermissionDenied),
            (To::Agent("nonsense"), Code::InvalidArgument),
            (To::Channel("channel-7"), Code::NotFound),
        ];
        for (id, (to, wanted)) in (1..).zip(cases) {
            let _ = node.request(&asker, id, to, 0, b"");
            let said = node.told(&asker);
            assert!(
                matches!(&said[..], [Said::Error { id: at, code, .. }] if *at == id && *code == wanted),
                "{said:?}"
            );
        }
        let _ = node.request(&asker, 9, To::Capability("forecast"), 0, b"");
        let _ = node.request(&asker, 9, To::Capability("forecast"), 0, b"");
        assert!(matches!(
            &node.told(&asker)[..],
            [Said::Error {
                id: 9,
                code: Code::AlreadyExists,
                ..
            }]
        ));
        node.leave(&weather, Closing::Lost);
        let said = node.told(&asker);
        assert!(
            matches!(
                &said[..],
                [Said::Error {
                    id: 9,
                    code: Code::Unavailable,
                    retryable: true,
                    ..
                }]
            ),
            "{said:?}"
        );
        let _ = node.request(&asker, 10, To::Capability("forecast"), 0, b"");
        assert!(matches!(
            &node.told(&asker)[..],
            [Said::Error {
                id: 10,
                code: Code::NoResponder,
                ..
            }]
        ));
        node.advance(Limits::default().resume_grace_ms);
        end(&mut node, &[&asker, &picky]);
    }
}

#[test]
fn a_deadline_and_a_cancel_reach_the_responder() {
    for mut node in nodes() {
        let (asker, weather) = pair(&mut node);
        let _ = node.request(&asker, 1, To::Capability("forecast"), 50, b"");
        let _ = node.request(&asker, 2, To::Capability("forecast"), 0, b"");
        let forwards = node.told(&weather);
        node.advance(50);
        assert!(matches!(
            &node.told(&asker)[..],
            [Said::Error {
                id: 1,
                code: Code::DeadlineExceeded,
                ..
            }]
        ));
        let _ = node.apply(asker.core, asker.session, Action::CancelRequest { id: 2 });
        assert!(matches!(
            &node.told(&asker)[..],
            [Said::Error {
                id: 2,
                code: Code::Cancelled,
                ..
            }]
        ));
        for (forward, cancel) in forwards.iter().zip(node.told(&weather)) {
            let Said::Forward { request, .. } = forward else {
                panic!("{forward:?}")
            };
            assert_eq!(cancel, Said::CancelRequest { request: *request });
            let _ = node.respond(&weather, *request, b"late");
        }
        assert_eq!(node.told(&weather), []);
        assert_eq!(node.told(&asker), []);
        end(&mut node, &[&asker, &weather]);
    }
}

#[test]
fn a_draining_agent_gets_no_new_work() {
    for mut node in nodes() {
        let (asker, weather) = pair(&mut node);
        let status = Status {
            outstanding: 0,
            weight: 1,
            draining: true,
        };
        let _ = node.apply(weather.core, weather.session, Action::Status(status));
        node.settle();
        let _ = node.request(&asker, 1, To::Capability("forecast"), 0, b"");
        assert!(matches!(
            &node.told(&asker)[..],
            [Said::Error {
                code: Code::NoResponder,
                ..
            }]
        ));
        let _ = node.request(&asker, 2, To::Agent("acme/demo/weather/1"), 0, b"");
        assert!(matches!(&node.told(&weather)[..], [Said::Forward { .. }]));
        let back = Status {
            outstanding: 0,
            weight: 1,
            draining: false,
        };
        let _ = node.apply(weather.core, weather.session, Action::Status(back));
        node.advance(Limits::default().status_interval_ms);
        node.settle();
        let _ = node.request(&asker, 3, To::Capability("forecast"), 0, b"");
        assert!(matches!(&node.told(&weather)[..], [Said::Forward { .. }]));
        end(&mut node, &[&asker, &weather]);
    }
}

fn open_stream(node: &mut Node, from: &Agent, stream: u64, credit_bytes: u64) {
    let target = target(To::Capability("forecast"));
    let open = StreamOpen {
        stream,
        target,
        credit_bytes,
        body: b"open",
    };
    let _ = node.apply(from.core, from.session, Action::StreamOpen(open));
}

fn chunk(node: &mut Node, from: &Agent, stream: u64, body: &[u8]) -> Flow {
    let chunk = Chunk {
        stream,
        payload_bytes: body.len() as u64,
        body,
    };
    node.apply(from.core, from.session, Action::Chunk(chunk))
}

#[test]
fn a_stream_carries_chunks_both_ways_on_credit() {
    for mut node in nodes() {
        let (asker, weather) = pair(&mut node);
        open_stream(&mut node, &asker, 1, 3);
        let said = node.told(&weather);
        let [Said::StreamOpen { stream, source }] = &said[..] else {
            panic!("{said:?}")
        };
        let far = *stream;
        assert_eq!((far % 2, &source[..]), (0, "acme/demo/asker/1"));
        let _ = node.apply(
            weather.core,
            weather.session,
            Action::StreamCredit {
                stream: far,
                bytes: 5,
            },
        );
        assert_eq!(node.told(&asker), [Said::StreamCredit { stream: 1, bytes: 5 }]);
        let _ = chunk(&mut node, &asker, 1, b"hello");
        assert_eq!(
            node.told(&weather),
            [Said::Chunk {
                body: b"hello".into(),
                stream: far
            }]
        );
        let _ = chunk(&mut node, &weather, far, b"yes");
        assert_eq!(
            node.told(&asker),
            [Said::Chunk {
                body: b"yes".into(),
                stream: 1
            }]
        );
        let _ = chunk(&mut node, &weather, far, b"x");
        let said = node.told(&weather);
        assert!(
            matches!(&said[..], [Said::Error { id, code: Code::ResourceExhausted, .. }] if *id == far),
            "{said:?}"
        );
        assert_eq!(
            node.told(&asker),
            [Said::StreamEnded {
                stream: 1,
                code: Code::ResourceExhausted
            }]
        );
        // A chunk that crosses the end is not an error; one for a stream that never was, is.
        let _ = chunk(&mut node, &asker, 1, b"");
        assert_eq!(node.told(&asker), []);
        let _ = chunk(&mut node, &asker, 77, b"");
        assert!(matches!(
            &node.told(&asker)[..],
            [Said::Error {
                id: 77,
                code: Code::NotFound,
                ..
            }]
        ));
        end(&mut node, &[&asker, &weather]);
    }
}

#[test]
fn a_close_ends_a_stream_for_both() {
    for mut node in nodes() {
        let (asker, weather) = pair(&mut node);
        open_stream(&mut node, &asker, 1, 0);
        let said = node.told(&weather);
        let [Said::StreamOpen { stream, .. }] = said[..] else {
            panic!("{said:?}")
        };
        let _ = node.apply(
            weather.core,
            weather.session,
            Action::StreamClose(StreamClose { stream, body: b"" }),
        );
        assert_eq!(node.told(&asker), [Said::StreamClose { stream: 1 }]);
        open_stream(&mut node, &asker, 1, 0);
        node.settle();
        node.leave(&weather, Closing::Orderly);
        let said = node.told(&asker);
        assert_eq!(
            said,
            [Said::StreamEnded {
                stream: 1,
                code: Code::Unavailable
            }]
        );
        end(&mut node, &[&asker]);
    }
}

fn introduce(node: &mut Node, from: &Agent, id: u64) {
    let target = target(To::Capability("forecast"));
    let introduce = Introduce {
        id,
        target,
        timeout_ms: 50,
        body: b"hello",
    };
    let _ = node.apply(from.core, from.session, Action::Introduce(introduce));
}

fn invitation(node: &mut Node, to: &Agent) -> u64 {
    let said = node.told(to);
    let [Said::Introduce { introduction, .. }] = said[..] else {
        panic!("{said:?}")
    };
    introduction
}

#[test]
fn an_introduction_opens_a_channel() {
    for mut node in nodes() {
        let (asker, weather) = pair(&mut node);
        introduce(&mut node, &asker, 4);
        let introduction = invitation(&mut node, &weather);
        let accept = Accept {
            introduction,
            body: b"welcome",
        };
        let _ = node.apply(weather.core, weather.session, Action::Accept(accept));
        let said = node.told(&asker);
        let [
            Said::Connected {
                id: 4,
                channel,
                source,
            },
        ] = &said[..]
        else {
            panic!("{said:?}")
        };
        assert_eq!(source, "acme/demo/weather/1");
        let wanted = Said::Connected {
            id: 0,
            channel: channel.clone(),
            source: "acme/demo/asker/1".into(),
        };
        assert_eq!(node.told(&weather), [wanted]);
        let _ = node.request(&asker, 1, To::Channel(channel), 0, b"over the channel");
        assert!(matches!(&node.told(&weather)[..], [Said::Forward { .. }]));
        let _ = node.request(&weather, 1, To::Channel(channel), 0, b"and back");
        assert!(matches!(&node.told(&asker)[..], [Said::Forward { .. }]));
        node.leave(&weather, Closing::Orderly);
        let _ = node.told(&asker);
        let _ = node.request(&asker, 2, To::Channel(channel), 0, b"gone");
        assert!(matches!(
            &node.told(&asker)[..],
            [Said::Error {
                id: 2,
                code: Code::NotFound,
                ..
            }]
        ));
        end(&mut node, &[&asker]);
    }
}

#[test]
fn an_introduction_is_declined_late_or_given_up() {
    for mut node in nodes() {
        let (asker, weather) = pair(&mut node);
        introduce(&mut node, &asker, 1);
        let introduction = invitation(&mut node, &weather);
        let reject = Reject {
            introduction,
            code: Code::Rejected,
            body: b"",
        };
        let _ = node.apply(weather.core, weather.session, Action::Reject(reject));
        assert_eq!(node.told(&asker), [Said::Rejected { id: 1 }]);
        introduce(&mut node, &asker, 2);
        let introduction = invitation(&mut node, &weather);
        node.advance(50);
        assert!(matches!(
            &node.told(&asker)[..],
            [Said::Error {
                id: 2,
                code: Code::DeadlineExceeded,
                ..
            }]
        ));
        assert_eq!(node.told(&weather), [Said::CancelIntroduction { introduction }]);
        introduce(&mut node, &asker, 3);
        let introduction = invitation(&mut node, &weather);
        let _ = node.apply(asker.core, asker.session, Action::CancelIntroduction { id: 3 });
        assert_eq!(node.told(&weather), [Said::CancelIntroduction { introduction }]);
        end(&mut node, &[&asker, &weather]);
    }
}

fn resume(node: &mut Node, core: usize, name: &str, token: &[u8]) -> (Agent, Vec<Said>) {
    let session = node.open(core);
    let register = Register {
        name,
        resume_token: token,
        ..Register::default()
    };
    let _ = node.apply(core, session, Action::Register(register));
    let said = node.read(core, session);
    (
        Agent {
            core,
            session,
            token: token.to_vec(),
        },
        said,
    )
}

#[test]
fn a_lost_session_goes_on_where_it_was() {
    for mut node in nodes() {
        for to in 0..node.cores() {
            let publisher = node.agent(0, "a/b/c/publisher");
            let lost = node.agent(0, "a/b/c/lost");
            node.subscribe(&lost, 1, "t/*", "", Delivery::default());
            let _ = node.publish(&publisher, "t/1", 0, b"one");
            node.leave(&lost, Closing::Lost);
            let _ = node.publish(&publisher, "t/2", 0, b"two");
            let (back, said) = resume(&mut node, to, "a/b/c/lost", &lost.token);
            assert!(
                matches!(said[0], Said::Registered { resumed: true, .. }),
                "{said:?}"
            );
            assert_eq!(bodies(&said), ["one", "two"]);
            let _ = node.publish(&publisher, "t/3", 0, b"three");
            assert_eq!(bodies(&node.told(&back)), ["three"]);
            node.leave(&back, Closing::Orderly);
            end(&mut node, &[&publisher]);
        }
    }
}

#[test]
fn a_lost_name_is_taken_over_without_its_token() {
    for mut node in nodes() {
        let last = node.cores() - 1;
        let lost = node.agent(0, "a/b/c/lost");
        node.subscribe(&lost, 1, "t", "", Delivery::default());
        node.leave(&lost, Closing::Lost);
        let (fresh, said) = resume(&mut node, last, "a/b/c/lost", &[0; 16]);
        assert!(
            matches!(said[..], [Said::Registered { resumed: false, .. }]),
            "{said:?}"
        );
        let _ = node.publish(&fresh, "t", 1, b"x");
        assert_eq!(node.told(&fresh), [Said::Ack { id: 1, receivers: 0 }]);
        end(&mut node, &[&fresh]);
    }
}

#[test]
fn a_live_session_moves_to_the_stream_that_shows_its_token() {
    for mut node in nodes() {
        let last = node.cores() - 1;
        let old = node.agent(0, "a/b/c/d");
        node.subscribe(&old, 1, "t", "", Delivery::default());
        let (new, said) = resume(&mut node, last, "a/b/c/d", &old.token);
        assert!(
            matches!(said[..], [Said::Registered { resumed: true, .. }]),
            "{said:?}"
        );
        assert_eq!(node.ended, [(0, old.session, Code::Unavailable)]);
        node.leave(&old, Closing::Orderly);
        let _ = node.publish(&new, "t", 0, b"x");
        assert_eq!(bodies(&node.told(&new)), ["x"]);
        end(&mut node, &[&new]);
    }
}

#[test]
fn grace_ends() {
    for mut node in nodes() {
        let lost = node.agent(0, "a/b/c/lost");
        node.subscribe(&lost, 1, "t", "g", Delivery::default());
        node.leave(&lost, Closing::Lost);
        node.advance(Limits::default().resume_grace_ms);
        node.assert_idle();
    }
}

#[test]
fn who_does_not_read_its_answers_is_not_read_from() {
    let mut node = Node::new(
        1,
        Limits {
            control_queue_bytes_max: 1 << 16,
            ..Limits::default()
        },
        7,
    );
    let (asker, weather) = pair(&mut node);
    let mut asked = 0;
    while node.request(&asker, asked, To::Agent("acme/demo/nobody/1"), 0, b"") == Flow::Continue {
        asked += 1;
        assert!(asked < 10_000, "never paused");
    }
    assert!(!node.told(&asker).is_empty());
    assert_eq!(node.resumed, [(0, asker.session)]);
    let big = vec![0; 1 << 15];
    let refused = (0..5).any(|id| {
        let _ = node.request(&asker, 100_000 + id, To::Capability("forecast"), 0, &big);
        node.told(&asker).iter().any(|said| {
            matches!(
                said,
                Said::Error {
                    code: Code::ResourceExhausted,
                    retryable: true,
                    ..
                }
            )
        })
    });
    assert!(refused, "the responder's backlog is bounded");
    end(&mut node, &[&asker, &weather]);
}

#[test]
fn an_agent_that_has_every_answer_is_owed_nothing() {
    for mut node in nodes() {
        let asker = node.agent(0, "a/b/c/asker");
        let responder = node.agent(node.cores() - 1, "a/b/c/responder");
        node.subscribe(&asker, 1, "news/*", "", Delivery::default());
        node.told(&asker);
        assert!(!node.gateways[0].is_owed(asker.session));
        let _ = node.request(&asker, 5, To::Agent("a/b/c/responder"), 1000, b"?");
        assert!(
            node.gateways[0].is_owed(asker.session),
            "a request waits for its response"
        );
        let forward = node.told(&responder);
        let Some(Said::Forward { request, .. }) = forward.first() else {
            panic!("{forward:?}")
        };
        let _ = node.respond(&responder, *request, b"!");
        node.told(&asker);
        assert!(!node.gateways[0].is_owed(asker.session));
    }
}
