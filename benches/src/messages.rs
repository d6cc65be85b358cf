//! Messages as an agent sends them, encoded by generated types.

use bytes::Bytes;
use prost::Message;
use ringgate_proto::agp::v1::{
    AgentMessage, Publish, Register, Request, Subscribe, Target, Unsubscribe, agent_message, target,
};

/// The topic that single-topic benchmarks publish to.
pub const TOPIC: &str = "bench/00000000";

/// The name of agent `number`, as long as names in deployments are.
pub fn agent_name(number: usize) -> String {
    format!("bench/load/agent/{number:012}")
}

/// `Register`.
pub fn register(name: &str) -> Vec<u8> {
    encode(agent_message::Body::Register(Register {
        name: name.to_owned(),
        ..Register::default()
    }))
}

/// `Subscribe` with the default delivery policy.
pub fn subscribe(id: u64, pattern: &str) -> Vec<u8> {
    encode(agent_message::Body::Subscribe(Subscribe {
        id,
        pattern: pattern.to_owned(),
        ..Subscribe::default()
    }))
}

/// `Unsubscribe`.
pub fn unsubscribe(id: u64) -> Vec<u8> {
    encode(agent_message::Body::Unsubscribe(Unsubscribe { id }))
}

/// `Publish` of `payload_bytes` bytes, without an acknowledgement.
pub fn publish(topic: &str, payload_bytes: usize) -> Vec<u8> {
    let payload = Bytes::from(vec![b'x'; payload_bytes]);
    encode(agent_message::Body::Publish(Publish {
        topic: topic.to_owned(),
        payload,
        ..Publish::default()
    }))
}

/// `Request` to an agent.
pub fn request(id: u64, agent: &str, payload_bytes: usize) -> Vec<u8> {
    let target = Target {
        to: Some(target::To::Agent(agent.to_owned())),
        ..Target::default()
    };
    let payload = Bytes::from(vec![b'x'; payload_bytes]);
    encode(agent_message::Body::Request(Request {
        id,
        target: Some(target),
        payload,
        ..Request::default()
    }))
}

fn encode(body: agent_message::Body) -> Vec<u8> {
    AgentMessage { body: Some(body) }.encode_to_vec()
}

/// Messages behind their gRPC prefixes, one after the other.
pub fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut framed = Vec::new();
    for message in messages {
        framed.extend_from_slice(&ringgate_grpc::frame::prefix(message.len() as u32));
        framed.extend_from_slice(message);
    }
    framed
}
