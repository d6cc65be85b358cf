//! The messages of `pubsub.proto.v1` as another implementation parses them (`../shared/wire/agp-wire.md`, section 2), and publishes from
//! a seed.
#![allow(dead_code, reason = "the fields are compared, not read")]

use std::collections::BTreeMap;

use fastrand::Rng;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Message {
    #[prost(oneof = "Kind", tags = "1, 2, 3")]
    pub(crate) kind: Option<Kind>,
    #[prost(btree_map = "string, string", tag = "4")]
    pub(crate) metadata: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Kind {
    #[prost(message, tag = "1")]
    Subscribe(Subscribe),
    #[prost(message, tag = "2")]
    Unsubscribe(Subscribe),
    #[prost(message, tag = "3")]
    Publish(Publish),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Subscribe {
    #[prost(message, tag = "1")]
    pub(crate) header: Option<Header>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Publish {
    #[prost(message, tag = "1")]
    pub(crate) header: Option<Header>,
    #[prost(message, tag = "2")]
    pub(crate) session: Option<Session>,
    #[prost(message, tag = "4")]
    pub(crate) msg: Option<Content>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Header {
    #[prost(message, tag = "1")]
    pub(crate) source: Option<Agent>,
    #[prost(message, tag = "2")]
    pub(crate) destination: Option<Agent>,
    #[prost(uint32, tag = "3")]
    pub(crate) fanout: u32,
    #[prost(uint64, optional, tag = "4")]
    pub(crate) recv_from: Option<u64>,
    #[prost(uint64, optional, tag = "5")]
    pub(crate) forward_to: Option<u64>,
    #[prost(uint64, optional, tag = "6")]
    pub(crate) incoming_conn: Option<u64>,
    #[prost(bool, optional, tag = "7")]
    pub(crate) error: Option<bool>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Agent {
    #[prost(uint64, tag = "1")]
    pub(crate) organization: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) namespace: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) agent_type: u64,
    #[prost(uint64, optional, tag = "4")]
    pub(crate) agent_id: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Session {
    #[prost(int32, tag = "1")]
    pub(crate) header_type: i32,
    #[prost(uint32, tag = "2")]
    pub(crate) session_id: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) message_id: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Content {
    #[prost(string, tag = "1")]
    pub(crate) content_type: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) blob: Vec<u8>,
}

fn agent(rng: &mut Rng, id: Option<u64>) -> Agent {
    Agent {
        organization: rng.u64(..),
        namespace: rng.u64(..) >> rng.u32(..64),
        agent_type: rng.u64(..),
        agent_id: id,
    }
}

/// A Publish that a node passes on.
pub(crate) fn publish(rng: &mut Rng) -> Message {
    let sometimes = |rng: &mut Rng| (rng.u8(..4) == 0).then(|| rng.u64(..));
    let id = rng.u64(..);
    let any = sometimes(rng);
    let blob = (0..rng.usize(..300)).map(|_| rng.u8(..)).collect();
    Message {
        kind: Some(Kind::Publish(Publish {
            header: Some(Header {
                source: Some(agent(rng, Some(id))),
                destination: Some(agent(rng, any)),
                fanout: rng.u32(..) >> rng.u32(..32),
                recv_from: sometimes(rng),
                forward_to: sometimes(rng),
                incoming_conn: sometimes(rng),
                error: rng.bool().then(|| rng.bool()),
            }),
            session: Some(Session {
                header_type: rng.i32(..),
                session_id: rng.u32(..),
                message_id: rng.u32(..),
            }),
            msg: rng.bool().then(|| Content {
                content_type: "msg".into(),
                blob,
            }),
        })),
        metadata: [("traceparent".to_owned(), "00".to_owned())].into(),
    }
}
