//! What agent and gateway say to each other, where a real gateway cannot be made to say it at the right moment: lost connections,
//! refusals, full queues, credit.

use bytes::Bytes;
use ringgate_client::{Code, ConnectionState, Error, Event, Limits, Target};
use ringgate_proto::agp::v1 as proto;
use ringgate_proto::agp::v1::agent_message::Body as Said;
use ringgate_proto::agp::v1::gateway_message::Body as Heard;

use crate::fake_gateway::FakeGateway;

fn ack(id: u64) -> Heard {
    Heard::Ack(proto::Ack {
        id,
        ..Default::default()
    })
}

#[tokio::test]
async fn an_agent_says_who_it_is_and_what_it_can() {
    let gateway = FakeGateway::listen().await;
    let agent = gateway
        .agent()
        .capability("weather")
        .label("region", "eu")
        .accept_from("org/**");
    let accept = async {
        let mut peer = gateway.accept_stream().await;
        let Said::Register(register) = peer.hear().await else {
            panic!()
        };
        peer.say(Heard::Registered(proto::Registered {
            name: "verified".into(),
            ..Default::default()
        }));
        (peer, register)
    };
    let (agent, (_peer, register)) = tokio::join!(agent.connect(), accept);
    assert_eq!(agent.unwrap().name(), "verified");
    assert_eq!(
        (register.capabilities, register.accept_from),
        (vec!["weather".into()], vec!["org/**".into()])
    );
    assert_eq!(register.labels["region"], "eu");
}

#[tokio::test]
async fn a_refusal_is_told_with_its_code() {
    let gateway = FakeGateway::listen().await;
    let refuse = async {
        let mut peer = gateway.accept_stream().await;
        peer.hear().await;
        let code = proto::Code::AlreadyExists.into();
        peer.say(Heard::Error(proto::Error {
            code,
            message: "the name is in use".into(),
            ..Default::default()
        }));
        peer
    };
    let (agent, _peer) = tokio::join!(gateway.agent().connect(), refuse);
    let error = agent.unwrap_err();
    assert_eq!(error.code(), Some(Code::AlreadyExists));
    assert_eq!(
        error.to_string(),
        "the gateway refused the session: the name is in use (CODE_ALREADY_EXISTS)"
    );
}

#[tokio::test]
async fn nobody_there_is_told_with_the_address() {
    let gateway = FakeGateway::listen().await;
    let agent = gateway.agent();
    drop(gateway);
    let error = agent.connect().await.unwrap_err();
    assert!(
        matches!(error, Error::Unreachable { .. }) && error.retryable(),
        "{error}"
    );
    assert!(error.to_string().contains("http://127.0.0.1:"), "{error}");
}

#[tokio::test]
async fn close_sends_what_was_handed_in_before() {
    let gateway = FakeGateway::listen().await;
    let (agent, mut peer) = gateway.connect().await;
    for number in 0..100u8 {
        agent.publish("t", vec![number]).await.unwrap();
    }
    let closing = tokio::spawn(agent.close());
    for number in 0..100u8 {
        let Said::Publish(publish) = peer.hear().await else {
            panic!()
        };
        assert_eq!(publish.payload, Bytes::from(vec![number]));
    }
    assert_eq!(peer.hear_or_end().await, None);
    peer.end("0", "");
    closing.await.unwrap();
}

#[tokio::test]
async fn a_resumed_session_goes_on_silently() {
    let gateway = FakeGateway::listen().await;
    let (agent, mut peer) = gateway.connect().await;
    let subscribing = async {
        let Said::Subscribe(subscribe) = peer.hear().await else {
            panic!()
        };
        peer.say(ack(subscribe.id));
    };
    let (subscription, ()) = tokio::join!(agent.subscribe("t").send(), subscribing);
    let mut subscription = subscription.unwrap();
    drop(peer);

    let mut peer = gateway.accept_stream().await;
    let Said::Register(register) = peer.hear().await else {
        panic!()
    };
    assert_eq!(register.resume_token, Bytes::from_static(b"token"));
    peer.say(Heard::Registered(proto::Registered {
        resumed: true,
        ..Default::default()
    }));
    peer.say(Heard::Notify(proto::Notify {
        topic: "t".into(),
        ..Default::default()
    }));
    assert!(matches!(subscription.next().await, Some(Event::Notification(_))));
    // Nothing was subscribed again: this is what comes next.
    agent.publish("t", "").await.unwrap();
    assert!(matches!(peer.hear().await, Said::Publish(_)));
}

#[tokio::test]
async fn a_forgotten_session_subscribes_again_and_says_so() {
    let gateway = FakeGateway::listen().await;
    let (agent, mut peer) = gateway.connect().await;
    let subscribing = async {
        let Said::Subscribe(subscribe) = peer.hear().await else {
            panic!()
        };
        peer.say(ack(subscribe.id));
        subscribe
    };
    let (subscription, first) = tokio::join!(agent.subscribe("t").group("g").send(), subscribing);
    let mut subscription = subscription.unwrap();
    drop(peer);

    let mut peer = gateway.accept(false).await;
    assert_eq!(peer.hear().await, Said::Subscribe(first.clone()));
    peer.say(ack(first.id));
    assert_eq!(subscription.next().await, Some(Event::Interrupted));
    drop(subscription);
    assert_eq!(
        peer.hear().await,
        Said::Unsubscribe(proto::Unsubscribe { id: first.id })
    );
}

#[tokio::test]
async fn what_waits_for_an_answer_fails_with_the_connection() {
    let gateway = FakeGateway::listen().await;
    let (agent, mut peer) = gateway.connect().await;
    let cut = async {
        for _ in 0..2 {
            peer.hear().await;
        }
        drop(peer);
        gateway.accept(false).await
    };
    let (reply, receivers, _peer) = tokio::join!(
        agent.request(Target::capability("c"), "").send(),
        agent.publish_acked("t", ""),
        cut
    );
    assert!(matches!(reply, Err(Error::ConnectionLost)));
    assert!(matches!(receivers, Err(Error::ConnectionLost)));
}

#[tokio::test]
async fn a_revoked_agent_does_not_come_back() {
    let gateway = FakeGateway::listen().await;
    let (agent, mut peer) = gateway.connect().await;
    peer.end("16", "the credential was revoked");
    agent
        .state()
        .wait_for(|state| *state == ConnectionState::Closed)
        .await
        .unwrap();
    let error = agent.publish("t", "").await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Unauthenticated));
}

#[tokio::test]
async fn a_draining_gateway_is_left_when_it_closes() {
    let gateway = FakeGateway::listen().await;
    let (agent, mut peer) = gateway.connect().await;
    let mut state = agent.state();
    peer.say(Heard::Drain(proto::Drain {
        deadline_ms: 1000,
        jitter_ms: 1,
        ..Default::default()
    }));
    state
        .wait_for(|state| *state == ConnectionState::Draining)
        .await
        .unwrap();
    agent.publish("t", "still here").await.unwrap();
    assert!(matches!(peer.hear().await, Said::Publish(_)));
    peer.end("14", "draining");
    let _peer = gateway.accept(false).await;
    state
        .wait_for(|state| *state == ConnectionState::Connected)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_request_nobody_waits_for_is_cancelled() {
    let gateway = FakeGateway::listen().await;
    let (agent, mut peer) = gateway.connect().await;
    let asking = tokio::spawn(async move { agent.request(Target::capability("c"), "").await });
    let Said::Request(request) = peer.hear().await else {
        panic!()
    };
    assert_eq!(request.timeout_ms, 30_000);
    asking.abort();
    let what = Some(proto::cancel::What::Request(request.id));
    assert_eq!(peer.hear().await, Said::Cancel(proto::Cancel { what }));
}

#[tokio::test]
async fn an_answer_with_an_error_names_who_gave_it() {
    let gateway = FakeGateway::listen().await;
    let (agent, mut peer) = gateway.connect().await;
    let answer = async {
        let Said::Request(request) = peer.hear().await else {
            panic!()
        };
        peer.say(Heard::Deliver(proto::Deliver {
            id: request.id,
            code: proto::Code::NotFound.into(),
            message: "no such city".into(),
            source: "org/ns/oracle/1".into(),
            ..Default::default()
        }));
    };
    let (reply, ()) = tokio::join!(agent.request(Target::capability("c"), "").send(), answer);
    assert_eq!(
        reply.unwrap_err().to_string(),
        "org/ns/oracle/1 answered: no such city (CODE_NOT_FOUND)"
    );
}

#[tokio::test]
async fn requests_beyond_the_queue_and_dropped_ones_are_answered_with_errors() {
    let gateway = FakeGateway::listen().await;
    let limits = Limits {
        incoming_requests_max: 1,
        ..Limits::default()
    };
    let (agent, mut peer) = tokio::join!(gateway.agent().limits(limits).connect(), gateway.accept(false));
    let agent = agent.unwrap();
    for request in [7, 8] {
        peer.say(Heard::Forward(proto::Forward {
            request,
            ..Default::default()
        }));
    }
    let Said::Response(refused) = peer.hear().await else {
        panic!()
    };
    assert_eq!(
        (refused.request, refused.code()),
        (8, proto::Code::ResourceExhausted)
    );
    drop(agent.requests().next().await.unwrap());
    let Said::Response(dropped) = peer.hear().await else {
        panic!()
    };
    assert_eq!((dropped.request, dropped.code()), (7, proto::Code::Internal));
}

#[tokio::test]
async fn a_cancelled_request_is_not_answered() {
    let gateway = FakeGateway::listen().await;
    let (agent, mut peer) = gateway.connect().await;
    peer.say(Heard::Forward(proto::Forward {
        request: 7,
        ..Default::default()
    }));
    let request = agent.requests().next().await.unwrap();
    let what = Some(proto::cancel::What::Request(7));
    peer.say(Heard::Cancel(proto::Cancel { what }));
    request.cancelled().await;
    assert!(request.is_cancelled());
}

#[tokio::test]
async fn an_answer_of_the_last_connection_is_not_sent_on_the_next() {
    let gateway = FakeGateway::listen().await;
    let (agent, mut peer) = gateway.connect().await;
    peer.say(Heard::Forward(proto::Forward {
        request: 7,
        ..Default::default()
    }));
    let request = agent.requests().next().await.unwrap();
    drop(peer);
    request.cancelled().await;
    let mut peer = gateway.accept(true).await;
    agent
        .state()
        .wait_for(|state| *state == ConnectionState::Connected)
        .await
        .unwrap();
    request.respond("late").await.unwrap();
    agent.publish("t", "").await.unwrap();
    assert!(matches!(peer.hear().await, Said::Publish(_)));
}

#[tokio::test]
async fn a_stream_sends_what_the_peer_is_ready_for() {
    let gateway = FakeGateway::listen().await;
    let (agent, mut peer) = gateway.connect().await;
    let opening = async {
        let Said::StreamOpen(open) = peer.hear().await else {
            panic!()
        };
        assert_eq!((open.stream % 2, open.credit_bytes), (1, 1 << 20));
        peer.say(Heard::StreamCredit(proto::StreamCredit {
            stream: open.stream,
            bytes: 10,
        }));
        open.stream
    };
    let (stream, number) = tokio::join!(agent.open_stream(Target::capability("c")).send(), opening);
    let mut stream = stream.unwrap();
    stream.send(vec![1; 8]).await.unwrap();
    assert!(matches!(peer.hear().await, Said::Chunk(_)));
    let grant = async {
        // Two bytes of credit are left: the next chunk waits for this.
        agent.publish("t", "").await.unwrap();
        assert!(matches!(peer.hear().await, Said::Publish(_)));
        peer.say(Heard::StreamCredit(proto::StreamCredit {
            stream: number,
            bytes: 6,
        }));
        let Said::Chunk(chunk) = peer.hear().await else {
            panic!()
        };
        assert_eq!((chunk.sequence, chunk.payload.len()), (2, 8));
    };
    let (sent, ()) = tokio::join!(stream.send(vec![2; 8]), grant);
    sent.unwrap();
    peer.say(Heard::Chunk(proto::Chunk {
        stream: number,
        payload: "last".into(),
        ..Default::default()
    }));
    peer.say(Heard::StreamClose(proto::StreamClose {
        stream: number,
        ..Default::default()
    }));
    assert_eq!(stream.recv().await.unwrap(), Some("last".into()));
    assert_eq!(stream.recv().await.unwrap(), None);
    assert!(matches!(stream.send("more").await, Err(Error::Closed)));
}

#[tokio::test]
async fn a_reader_gives_credit_by_half_windows() {
    let gateway = FakeGateway::listen().await;
    let (agent, mut peer) = gateway.connect().await;
    peer.say(Heard::StreamOpen(proto::StreamOpen {
        stream: 2,
        credit_bytes: 0,
        ..Default::default()
    }));
    let mut stream = agent
        .incoming_streams()
        .next()
        .await
        .unwrap()
        .accept()
        .await
        .unwrap();
    let window = proto::StreamCredit {
        stream: 2,
        bytes: 1 << 20,
    };
    assert_eq!(peer.hear().await, Said::StreamCredit(window));
    let quarter = Bytes::from(vec![0; 256 << 10]);
    for _ in 0..2 {
        peer.say(Heard::Chunk(proto::Chunk {
            stream: 2,
            payload: quarter.clone(),
            ..Default::default()
        }));
        stream.recv().await.unwrap();
    }
    let half = proto::StreamCredit {
        stream: 2,
        bytes: 512 << 10,
    };
    assert_eq!(peer.hear().await, Said::StreamCredit(half));
    drop(stream);
    let Said::StreamClose(close) = peer.hear().await else {
        panic!()
    };
    assert_eq!((close.stream, close.code()), (2, proto::Code::Cancelled));
}

#[tokio::test]
async fn an_introduction_opens_a_channel_at_both_ends() {
    let gateway = FakeGateway::listen().await;
    let (agent, mut peer) = gateway.connect().await;
    let introduced = async {
        let Said::Introduce(introduce) = peer.hear().await else {
            panic!()
        };
        peer.say(Heard::Connected(proto::Connected {
            id: introduce.id,
            channel: "ch-1".into(),
            source: "org/ns/peer/1".into(),
            ..Default::default()
        }));
    };
    let (channel, ()) = tokio::join!(agent.introduce(Target::capability("c"), "hi").send(), introduced);
    assert_eq!(channel.unwrap().target(), Target::channel("ch-1"));

    let source = || "org/ns/peer/2".to_owned();
    peer.say(Heard::Introduce(proto::Introduce {
        introduction: 5,
        source: source(),
        ..Default::default()
    }));
    let introduction = agent.introductions().next().await.unwrap();
    let connected = async {
        assert!(matches!(
            peer.hear().await,
            Said::Accept(proto::Accept { introduction: 5, .. })
        ));
        let channel = "ch-2".into();
        peer.say(Heard::Connected(proto::Connected {
            channel,
            source: source(),
            ..Default::default()
        }));
    };
    let (channel, ()) = tokio::join!(introduction.accept("welcome"), connected);
    assert_eq!(channel.unwrap().name, "ch-2");

    peer.say(Heard::Introduce(proto::Introduce {
        introduction: 6,
        ..Default::default()
    }));
    drop(agent.introductions().next().await.unwrap());
    let Said::Reject(reject) = peer.hear().await else {
        panic!()
    };
    assert_eq!((reject.introduction, reject.code()), (6, proto::Code::Rejected));
}
