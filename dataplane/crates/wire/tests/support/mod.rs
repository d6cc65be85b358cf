//! What the tests of the dialect share: a writer of raw protobuf, and the judge that holds `decode` and the encoder against prost.
#![allow(dead_code, reason = "each test file uses its own part")]

use bytes::Bytes;
use prost::Message as _;
use ringgate_gateway::action::{Action, Balance, DeliveryPolicy, Target, To};
use ringgate_gateway::outgoing::{Dialect, Encoder as _, Outgoing};
use ringgate_proto::agp::v1 as proto;
use ringgate_proto::agp::v1::agent_message::Body as Said;
use ringgate_proto::agp::v1::gateway_message::Body as Heard;
use ringgate_wire::AgpEncoder;

/// Writes a varint.
pub(crate) fn varint(out: &mut Vec<u8>, value: u64) {
    prost::encoding::encode_varint(value, out);
}

/// Writes a tag.
pub(crate) fn tag(out: &mut Vec<u8>, number: u32, wire_type: u8) {
    varint(out, u64::from(number) << 3 | u64::from(wire_type));
}

/// Writes a field of wire type 0.
pub(crate) fn number(out: &mut Vec<u8>, number: u32, value: u64) {
    tag(out, number, 0);
    varint(out, value);
}

/// Writes a field of wire type 2.
pub(crate) fn sized(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    tag(out, number, 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// An AgentMessage around an inner message.
pub(crate) fn agent_message(body_number: u32, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    sized(&mut message, body_number, body);
    message
}

/// Encodes one message and takes the gRPC prefix off again.
pub(crate) fn encode(encoder: &mut AgpEncoder, message: &Outgoing<'_>) -> Bytes {
    encoder.append(Dialect::Agp, message);
    let mut run = encoder.take();
    assert_eq!(AgpEncoder::first_len(Dialect::Agp, &run), run.len());
    assert_eq!(run[0], 0, "not compressed");
    run.split_off(5)
}

/// Encodes one message and lets prost decode it, as a receiver would.
pub(crate) fn hear(encoder: &mut AgpEncoder, message: &Outgoing<'_>) -> Heard {
    let bytes = encode(encoder, message);
    proto::GatewayMessage::decode(bytes)
        .expect("a receiver can parse it")
        .body
        .expect("it has a body")
}

/// Asserts that prost sees in `message` what `decode` saw, and that what receivers get of it is what the gateway says.
pub(crate) fn judge(message: &[u8], action: &Action<'_>, encoder: &mut AgpEncoder) {
    let said = proto::AgentMessage::decode(message).expect("prost accepts what decode accepts");
    assert_same(action, &said.body.expect("there is a body"));
    assert_passed_on(action, encoder);
}

/// Asserts that both saw the same.
fn assert_same(action: &Action<'_>, said: &Said) {
    match (action, said) {
        (Action::Register(a), Said::Register(b)) => {
            assert_eq!(a.name, b.name);
            assert_eq!(a.capabilities, b.capabilities);
            assert_eq!(a.accept_from, b.accept_from);
            assert_eq!(a.labels.len(), b.labels.len());
            assert!(a.labels.iter().all(|(key, value)| b.labels[*key] == *value));
            assert_eq!(
                (a.token, a.resume_token, a.proof),
                (&*b.token, &*b.resume_token, &*b.proof)
            );
        }
        (Action::Subscribe(a), Said::Subscribe(b)) => {
            assert_eq!((a.id, a.pattern, a.group), (b.id, &*b.pattern, &*b.group));
            let delivery = b.delivery.unwrap_or_default();
            let policy = match a.delivery.policy {
                DeliveryPolicy::DropOldest => 1,
                DeliveryPolicy::DropNewest => 2,
                DeliveryPolicy::Latest => 3,
                DeliveryPolicy::Disconnect => 4,
                DeliveryPolicy::Block => 5,
            };
            assert_eq!(policy, delivery.policy.max(1));
            assert_eq!(a.delivery.queue_bytes, delivery.queue_bytes);
            assert_eq!(a.delivery.block_ms, delivery.block_ms);
        }
        (Action::Unsubscribe { id }, Said::Unsubscribe(b)) => assert_eq!(*id, b.id),
        (Action::Publish(a), Said::Publish(b)) => assert_eq!((a.topic, a.id), (&*b.topic, b.id)),
        (Action::Request(a), Said::Request(b)) => {
            assert_eq!((a.id, a.timeout_ms), (b.id, b.timeout_ms));
            assert_same_target(&a.target, b.target.as_ref());
        }
        (Action::Response(a), Said::Response(b)) => assert_eq!(a.request, b.request),
        (Action::StreamOpen(a), Said::StreamOpen(b)) => {
            assert_eq!((a.stream, a.credit_bytes), (b.stream, b.credit_bytes));
            assert_same_target(&a.target, b.target.as_ref());
        }
        (Action::Chunk(a), Said::Chunk(b)) => {
            assert_eq!((a.stream, a.payload_bytes), (b.stream, b.payload.len() as u64));
        }
        (Action::StreamClose(a), Said::StreamClose(b)) => assert_eq!(a.stream, b.stream),
        (Action::StreamCredit { stream, bytes }, Said::StreamCredit(b)) => {
            assert_eq!((*stream, *bytes), (b.stream, b.bytes));
        }
        (Action::Introduce(a), Said::Introduce(b)) => {
            assert_eq!((a.id, a.timeout_ms), (b.id, b.timeout_ms));
            assert_same_target(&a.target, b.target.as_ref());
        }
        (Action::Accept(a), Said::Accept(b)) => assert_eq!(a.introduction, b.introduction),
        (Action::Reject(a), Said::Reject(b)) => {
            assert_eq!(a.introduction, b.introduction);
            let known = proto::Code::try_from(b.code).unwrap_or(proto::Code::Rejected);
            assert_eq!(a.code as i32, known as i32);
        }
        (Action::StateGet(a), Said::StateGet(b)) => {
            assert_eq!((a.id, a.space, a.key), (b.id, &*b.space, &*b.key));
        }
        (Action::StateWrite(a), Said::StatePut(b)) => {
            assert_eq!((a.id, a.space, a.key), (b.id, &*b.space, &*b.key));
            let wanted = (Some(&*b.value), b.expect_revision, b.ttl_ms);
            assert_eq!((a.value, a.expect, a.ttl_ms), wanted);
        }
        (Action::StateWrite(a), Said::StateDelete(b)) => {
            assert_eq!((a.id, a.space, a.key), (b.id, &*b.space, &*b.key));
            assert_eq!((a.value, a.expect), (None, b.expect_revision));
        }
        (Action::StateWatch(a), Said::StateWatch(b)) => {
            assert_eq!((a.id, a.space, a.prefix), (b.id, &*b.space, &*b.prefix));
            assert_eq!(a.from, b.from_revision);
        }
        (Action::StateUnwatch { id }, Said::StateUnwatch(b)) => assert_eq!(*id, b.id),
        (Action::Status(a), Said::Status(b)) => {
            assert_eq!(
                (a.outstanding, a.weight, a.draining),
                (b.outstanding, b.weight, b.draining)
            );
        }
        (Action::CancelRequest { id }, Said::Cancel(b)) => {
            assert_eq!(b.what, Some(proto::cancel::What::Request(*id)));
        }
        (Action::CancelIntroduction { id }, Said::Cancel(b)) => {
            assert_eq!(b.what, Some(proto::cancel::What::Introduction(*id)));
        }
        (action, said) => panic!("decode saw {action:?}, prost saw {said:?}"),
    }
}

fn assert_same_target(a: &Target<'_>, b: Option<&proto::Target>) {
    use proto::target::To as Sent;
    let b = b.expect("prost sees a target too");
    let to = match a.to {
        To::Agent(name) => Sent::Agent(name.into()),
        To::Service(name) => Sent::Service(name.into()),
        To::Capability(name) => Sent::Capability(name.into()),
        To::Channel(name) => Sent::Channel(name.into()),
    };
    assert_eq!(b.to.as_ref(), Some(&to));
    let balance = match a.balance {
        Balance::RoundRobin => 1,
        Balance::LeastOutstanding => 2,
        Balance::Hash => 3,
    };
    assert_eq!((balance, a.affinity), (b.balance.max(1), &*b.affinity));
}

/// Sends a message on as the gateway does, and asserts that the receiver sees the sender's fields unchanged and the gateway's own
/// values, whatever the sender put into their place.
fn assert_passed_on(action: &Action<'_>, encoder: &mut AgpEncoder) {
    const SOURCE: &str = "org/ns/service/true-source";
    const EMPTY: &[u8] = b"";
    match action {
        Action::Publish(publish) => {
            let body = publish.body;
            let outgoing = Outgoing::Notify {
                body,
                source: SOURCE,
                sequence: 300,
                time_unix_nanos: 0,
            };
            let Heard::Notify(heard) = hear(encoder, &outgoing) else {
                panic!()
            };
            assert_eq!(
                (&*heard.source, heard.sequence, heard.time_unix_nanos),
                (SOURCE, 300, 0)
            );
            let sent = proto::Publish::decode(body).unwrap();
            let got = proto::Publish {
                topic: heard.topic,
                payload: heard.payload,
                headers: heard.headers,
                id: heard.id,
            };
            assert_eq!(got, sent);
        }
        Action::Request(request) => {
            let body = request.body;
            let outgoing = Outgoing::Forward {
                body,
                source: "",
                request: 0,
                deadline_unix_nanos: u64::MAX,
            };
            let Heard::Forward(heard) = hear(encoder, &outgoing) else {
                panic!()
            };
            assert_eq!(
                (&*heard.source, heard.request, heard.deadline_unix_nanos),
                ("", 0, u64::MAX)
            );
            let sent = proto::Request::decode(body).unwrap();
            assert_eq!(
                (heard.id, heard.target, heard.payload),
                (sent.id, sent.target, sent.payload)
            );
        }
        Action::Response(response) => {
            let body = response.body;
            let outgoing = Outgoing::Deliver {
                body,
                id: u64::MAX,
                source: SOURCE,
            };
            let Heard::Deliver(heard) = hear(encoder, &outgoing) else {
                panic!()
            };
            assert_eq!((heard.id, &*heard.source), (u64::MAX, SOURCE));
            let sent = proto::Response::decode(body).unwrap();
            assert_eq!((heard.code, heard.payload), (sent.code, sent.payload));
        }
        Action::StreamOpen(open) => {
            let outgoing = Outgoing::StreamOpen {
                body: open.body,
                stream: 2,
                source: SOURCE,
            };
            let Heard::StreamOpen(heard) = hear(encoder, &outgoing) else {
                panic!()
            };
            assert_eq!(
                (heard.stream, &*heard.source, heard.credit_bytes),
                (2, SOURCE, open.credit_bytes)
            );
        }
        Action::Chunk(chunk) => {
            let outgoing = Outgoing::Chunk {
                body: chunk.body,
                stream: 0,
            };
            let Heard::Chunk(heard) = hear(encoder, &outgoing) else {
                panic!()
            };
            assert_eq!(
                (heard.stream, heard.payload.len() as u64),
                (0, chunk.payload_bytes)
            );
        }
        Action::StreamClose(close) => {
            let outgoing = Outgoing::StreamClose {
                body: close.body,
                stream: 6,
            };
            let Heard::StreamClose(heard) = hear(encoder, &outgoing) else {
                panic!()
            };
            assert_eq!(heard.stream, 6);
        }
        Action::Introduce(introduce) => {
            let body = introduce.body;
            let outgoing = Outgoing::Introduce {
                body,
                source: SOURCE,
                introduction: 0,
                credential: EMPTY,
            };
            let Heard::Introduce(heard) = hear(encoder, &outgoing) else {
                panic!()
            };
            assert_eq!(
                (&*heard.source, heard.introduction, &*heard.credential),
                (SOURCE, 0, EMPTY)
            );
            assert_eq!(heard.payload, proto::Introduce::decode(body).unwrap().payload);
        }
        Action::Accept(accept) => {
            let body = accept.body;
            let outgoing = Outgoing::Connected {
                body,
                id: 0,
                introduction: 7,
                channel: "",
                source: "",
                credential: EMPTY,
            };
            let Heard::Connected(heard) = hear(encoder, &outgoing) else {
                panic!()
            };
            assert_eq!(
                (
                    heard.id,
                    heard.introduction,
                    &*heard.channel,
                    &*heard.source,
                    &*heard.credential
                ),
                (0, 7, "", "", EMPTY)
            );
            assert_eq!(heard.payload, proto::Accept::decode(body).unwrap().payload);
        }
        Action::Reject(reject) => {
            let outgoing = Outgoing::Rejected {
                body: reject.body,
                id: 9,
                source: SOURCE,
            };
            let Heard::Rejected(heard) = hear(encoder, &outgoing) else {
                panic!()
            };
            assert_eq!((heard.id, &*heard.source), (9, SOURCE));
        }
        _ => {}
    }
}
