//! Agents with an identity: what they present, and how they change over to a better one.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use ringgate_client::{Agent, Builder, Credential, CredentialError, Error, Event, Expected, NodeId, Target};
use ringgate_identity::{ProofTarget, ReplayCache, UnixTime};
use ringgate_proto::agp::v1 as proto;
use ringgate_proto::agp::v1::agent_message::Body as Said;
use ringgate_proto::agp::v1::gateway_message::Body as Heard;

use crate::control::{ALICE, Control};
use crate::fake_gateway::{FakeGateway, Peer};

struct Network {
    control: Control,
    gateway: FakeGateway,
}

impl Network {
    async fn start(certificate_required: bool) -> Network {
        let control = Control::start().await;
        let tls = control.desk.server_config("node/edge-1", certificate_required);
        Network {
            gateway: FakeGateway::listen_tls(tls).await,
            control,
        }
    }

    fn builder(&self) -> Builder {
        let moment = std::time::Duration::from_millis(1);
        Agent::builder(self.gateway.url()).backoff(moment, moment)
    }

    /// Alice, connected by certificate.
    async fn alice(&self) -> (Credential, Agent, Peer) {
        let credential = self.control.alice().await;
        let agent = self.builder().identity(credential.clone());
        let (agent, peer) = tokio::join!(agent.connect(), self.gateway.accept(false));
        (credential, agent.unwrap(), peer)
    }
}

fn notify(topic: &str, sequence: u64) -> Heard {
    Heard::Notify(proto::Notify {
        topic: topic.into(),
        sequence,
        source: "acme/demo/bob/1".into(),
        ..Default::default()
    })
}

fn ack(id: u64) -> Heard {
    Heard::Ack(proto::Ack {
        id,
        ..Default::default()
    })
}

/// The message that is sent for its answer alone, answered.
async fn fence(peer: &mut Peer) {
    match peer.hear().await {
        Said::Unsubscribe(unsubscribe) => answer_fence(peer, unsubscribe.id),
        other => panic!("{other:?}"),
    }
}

fn answer_fence(peer: &mut Peer, id: u64) {
    peer.say(Heard::Error(proto::Error {
        id,
        code: proto::Code::NotFound.into(),
        ..Default::default()
    }));
}

#[tokio::test]
async fn an_agent_presents_its_certificate() {
    let network = Network::start(true).await;
    let (credential, agent, peer) = network.alice().await;
    assert_eq!(agent.name(), ALICE, "the name is the credential's");
    assert_eq!(peer.certificates, credential.held().chain);
    assert!(peer.metadata.get("authorization").is_none());
}

#[tokio::test]
async fn the_gateway_must_be_who_was_expected() {
    let network = Network::start(true).await;
    let credential = network.control.alice().await;
    let stranger = Expected::Node(NodeId::new("edge-2").unwrap());
    let builder = network.builder().identity(credential.clone()).gateway(stranger);
    let served = tokio::select! {
        outcome = builder.connect() => outcome,
        () = network.gateway.handshake_only() => unreachable!("it goes on"),
    };
    let error = served.unwrap_err();
    assert!(error.to_string().contains("not who it should be"), "{error}");

    let builder = network
        .builder()
        .identity(credential)
        .gateway(Expected::Node(NodeId::new("edge-1").unwrap()));
    let (agent, _peer) = tokio::join!(builder.connect(), network.gateway.accept(false));
    assert!(agent.is_ok());
}

#[tokio::test]
async fn settings_that_do_not_fit_together_are_told() {
    let control = Control::start().await;
    let credential = control.alice().await;
    let plain = Agent::builder("http://127.0.0.1:1")
        .identity(credential.clone())
        .connect()
        .await;
    assert!(
        matches!(
            &plain,
            Err(Error::Credential(CredentialError::Configuration {
                what: "url",
                ..
            }))
        ),
        "{plain:?}"
    );
    let both = Agent::builder("https://127.0.0.1:1")
        .identity(credential)
        .tls(ringgate_client::Tls::new())
        .connect()
        .await;
    assert!(matches!(both, Err(Error::Configuration { what: "tls", .. })));
}

#[tokio::test]
async fn a_token_with_a_proof_stands_in_for_the_certificate() {
    let network = Network::start(false).await;
    let desk = &network.control.desk;
    let credential = network.control.alice().await;
    let uri = format!("{}/agp.v1.AgentGateway/Open", network.gateway.url());
    let target = ProofTarget {
        method: "POST",
        uri: &uri,
    };
    let mut seen = ReplayCache::default();
    for connection in 1..=2 {
        let agent = network.builder().identity_by_token(credential.clone());
        let (agent, peer) = tokio::join!(agent.connect(), network.gateway.accept(false));
        assert!(agent.is_ok() && peer.certificates.is_empty());
        let header = |name| peer.metadata.get(name).unwrap().to_str().unwrap().to_owned();
        let authorization = header("authorization");
        let token = authorization.strip_prefix("DPoP ").unwrap();
        let verifier = desk.verifier();
        let verified = verifier.verify_token(token, &header("dpop"), &target, UnixTime::now(), &mut seen);
        let verified = verified.unwrap();
        assert_eq!(verified.subject.to_string(), ALICE);
        assert_eq!(verified.key, *credential.held().key.public());
        assert_eq!(
            desk.tokens.load(Ordering::Relaxed),
            1,
            "connection {connection} needs no other token"
        );
    }
    // The token is bound to the key that was replaced.
    credential.renew().await.unwrap();
    let agent = network.builder().identity_by_token(credential.clone());
    let (agent, _peer) = tokio::join!(agent.connect(), network.gateway.accept(false));
    assert!(agent.is_ok());
    assert_eq!(desk.tokens.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_agent_changes_over_without_missing_a_message() {
    let network = Network::start(true).await;
    let (credential, agent, mut old) = network.alice().await;
    let subscribing = async {
        let Said::Subscribe(subscribe) = old.hear().await else {
            panic!()
        };
        old.say(ack(subscribe.id));
    };
    let (subscription, ()) = tokio::join!(agent.subscribe("news"), subscribing);
    let mut subscription = subscription.unwrap();

    credential.renew().await.unwrap();
    fence(&mut old).await;
    let mut new = network.gateway.accept(true).await;
    assert_eq!(new.register.resume_token, "token");
    assert_eq!(new.certificates, credential.held().chain);
    // What the gateway had handed to the old stream before it ended it, and what came after.
    new.say(notify("news", 2));
    old.say(notify("news", 1));
    old.end("14", "the session was resumed on another stream");
    for sequence in [1, 2] {
        match subscription.next().await {
            Some(Event::Notification(notification)) => assert_eq!(notification.sequence, sequence),
            other => panic!("{other:?}"),
        }
    }
    agent.publish("news", "on the new one").await.unwrap();
    assert!(
        matches!(new.hear().await, Said::Publish(_)),
        "and nothing is subscribed again"
    );
}

#[tokio::test]
async fn a_request_under_way_is_waited_for() {
    let network = Network::start(true).await;
    let (credential, agent, mut old) = network.alice().await;
    let asking = tokio::spawn({
        let agent = agent.clone();
        async move { agent.request(Target::capability("x"), "?").await }
    });
    let Said::Request(request) = old.hear().await else {
        panic!()
    };
    credential.renew().await.unwrap();
    // The agent is told of it and goes on with what it has: this is behind anything it would have said at once.
    agent.publish("still", "here").await.unwrap();
    assert!(matches!(old.hear().await, Said::Publish(_)));
    old.say(Heard::Deliver(proto::Deliver {
        id: request.id,
        payload: Bytes::from_static(b"!"),
        ..Default::default()
    }));
    assert_eq!(asking.await.unwrap().unwrap().payload, "!");
    fence(&mut old).await;
    let _new = network.gateway.accept(true).await;
}

#[tokio::test]
async fn an_agent_keeps_its_connection_until_it_has_another() {
    let network = Network::start(true).await;
    let (credential, agent, mut old) = network.alice().await;
    credential.renew().await.unwrap();
    fence(&mut old).await;
    let mut refused = network.gateway.accept_stream().await;
    refused.hear().await;
    refused.say(Heard::Error(proto::Error {
        code: proto::Code::Unavailable.into(),
        message: "not now".into(),
        ..Default::default()
    }));
    // It goes on with the old one, and tries again.
    agent.publish("still", "here").await.unwrap();
    let mut published = false;
    loop {
        match old.hear().await {
            Said::Publish(_) => published = true,
            Said::Unsubscribe(unsubscribe) => {
                answer_fence(&mut old, unsubscribe.id);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let mut new = network.gateway.accept(true).await;
    old.end("14", "the session was resumed on another stream");
    if !published {
        assert!(matches!(new.hear().await, Said::Publish(_)));
    }
    agent.publish("now", "there").await.unwrap();
    assert!(matches!(new.hear().await, Said::Publish(publish) if publish.topic == "now"));
}

#[tokio::test]
async fn a_connection_that_breaks_meanwhile_is_brought_back_with_the_new_certificate() {
    let network = Network::start(true).await;
    let (credential, _agent, mut old) = network.alice().await;
    credential.renew().await.unwrap();
    assert!(matches!(old.hear().await, Said::Unsubscribe(_)));
    drop(old);
    let new = network.gateway.accept(true).await;
    assert_eq!(new.certificates, credential.held().chain);
    assert_eq!(new.register.resume_token, "token");
}

#[tokio::test]
async fn a_token_is_replaced_before_it_expires() {
    let network = Network::start(false).await;
    network.control.desk.token_ttl.store(3, Ordering::Relaxed);
    let credential = network.control.alice().await;
    let agent = network.builder().identity_by_token(credential);
    let (agent, mut old) = tokio::join!(agent.connect(), network.gateway.accept(false));
    let _agent = agent.unwrap();
    network.control.desk.token_ttl.store(600, Ordering::Relaxed);
    fence(&mut old).await;
    let new = network.gateway.accept(true).await;
    assert_ne!(new.metadata["authorization"], old.metadata["authorization"]);
}
