//! The messages of `dataplane.proto.v1` as another implementation parses them (`../shared/wire/slim-wire.md`, section 5).
#![allow(dead_code, reason = "the fields are compared, not read")]
#![allow(clippy::large_enum_variant, reason = "as the code that prost generates")]

use std::collections::BTreeMap;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Message {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 5, 6")]
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
    #[prost(message, tag = "5")]
    Link(Link),
    #[prost(message, tag = "6")]
    Ack(Ack),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Subscribe {
    #[prost(message, tag = "1")]
    pub(crate) header: Option<Header>,
    #[prost(uint64, tag = "2")]
    pub(crate) subscription_id: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Publish {
    #[prost(message, tag = "1")]
    pub(crate) header: Option<Header>,
    #[prost(message, tag = "2")]
    pub(crate) session: Option<Session>,
    #[prost(message, tag = "3")]
    pub(crate) msg: Option<Content>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Link {
    #[prost(message, tag = "1")]
    pub(crate) negotiation: Option<Negotiation>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Negotiation {
    #[prost(string, tag = "1")]
    pub(crate) link_id: String,
    #[prost(string, tag = "2")]
    pub(crate) slim_version: String,
    #[prost(bool, tag = "3")]
    pub(crate) is_reply: bool,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) link_ecdh_public_key: Vec<u8>,
    #[prost(int32, tag = "5")]
    pub(crate) connection_type: i32,
    #[prost(string, tag = "6")]
    pub(crate) node_id: String,
    #[prost(string, tag = "7")]
    pub(crate) deployment_name: String,
    #[prost(bytes = "vec", optional, tag = "8")]
    pub(crate) link_kem_payload: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ack {
    #[prost(uint64, tag = "1")]
    pub(crate) subscription_id: u64,
    #[prost(bool, tag = "2")]
    pub(crate) success: bool,
    #[prost(string, tag = "3")]
    pub(crate) error: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Header {
    #[prost(message, tag = "1")]
    pub(crate) source: Option<Name>,
    #[prost(message, tag = "2")]
    pub(crate) destination: Option<Name>,
    #[prost(string, tag = "3")]
    pub(crate) identity: String,
    #[prost(uint32, tag = "4")]
    pub(crate) fanout: u32,
    #[prost(string, tag = "5")]
    pub(crate) version: String,
    #[prost(uint32, tag = "6")]
    pub(crate) ttl: u32,
    #[prost(uint64, optional, tag = "7")]
    pub(crate) recv_from: Option<u64>,
    #[prost(uint64, optional, tag = "8")]
    pub(crate) forward_to: Option<u64>,
    #[prost(uint64, optional, tag = "9")]
    pub(crate) incoming_conn: Option<u64>,
    #[prost(bool, optional, tag = "10")]
    pub(crate) error: Option<bool>,
    #[prost(bytes = "vec", optional, tag = "11")]
    pub(crate) header_mac: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "12")]
    pub(crate) e2e_header_sig: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Name {
    #[prost(message, tag = "1")]
    pub(crate) name: Option<Encoded>,
    #[prost(message, tag = "2")]
    pub(crate) str_name: Option<Strings>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Encoded {
    #[prost(uint64, tag = "1")]
    pub(crate) component_0: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) component_1: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) component_2: u64,
    #[prost(message, tag = "4")]
    pub(crate) name_id: Option<NameId>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct NameId {
    #[prost(uint64, tag = "1")]
    pub(crate) id_0: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) id_1: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Strings {
    #[prost(string, tag = "1")]
    pub(crate) str_component_0: String,
    #[prost(string, tag = "2")]
    pub(crate) str_component_1: String,
    #[prost(string, tag = "3")]
    pub(crate) str_component_2: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Session {
    #[prost(int32, tag = "1")]
    pub(crate) session_type: i32,
    #[prost(int32, tag = "2")]
    pub(crate) session_message_type: i32,
    #[prost(uint32, tag = "3")]
    pub(crate) session_id: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) message_id: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Content {
    #[prost(oneof = "Payload", tags = "1, 2")]
    pub(crate) payload: Option<Payload>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Payload {
    #[prost(message, tag = "1")]
    App(Application),
    #[prost(message, tag = "2")]
    Command(Command),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Application {
    #[prost(string, tag = "1")]
    pub(crate) payload_type: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) blob: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Command {
    #[prost(
        oneof = "Order",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16"
    )]
    pub(crate) order: Option<Order>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Order {
    #[prost(message, tag = "1")]
    DiscoveryRequest(()),
    #[prost(message, tag = "2")]
    DiscoveryReply(()),
    #[prost(message, tag = "3")]
    JoinRequest(JoinRequest),
    #[prost(message, tag = "4")]
    JoinReply(JoinReply),
    #[prost(message, tag = "5")]
    LeaveRequest(()),
    #[prost(message, tag = "6")]
    LeaveReply(()),
    #[prost(message, tag = "7")]
    GroupUpdate(GroupUpdate),
    #[prost(message, tag = "8")]
    GroupWelcome(GroupWelcome),
    #[prost(message, tag = "9")]
    GroupClose(GroupClose),
    #[prost(message, tag = "10")]
    GroupProposal(GroupProposal),
    #[prost(message, tag = "11")]
    GroupAck(()),
    #[prost(message, tag = "12")]
    GroupNack(()),
    #[prost(message, tag = "13")]
    Heartbeat(Heartbeat),
    #[prost(message, tag = "14")]
    UpdateParticipantState(UpdateParticipantState),
    #[prost(message, tag = "15")]
    RejoinRequest(RejoinRequest),
    #[prost(message, tag = "16")]
    RejoinReply(RejoinReply),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct JoinRequest {
    #[prost(message, tag = "1")]
    pub(crate) timer_settings: Option<TimerSettings>,
    #[prost(message, tag = "2")]
    pub(crate) channel: Option<Name>,
    #[prost(message, tag = "3")]
    pub(crate) control: Option<Name>,
    #[prost(message, tag = "4")]
    pub(crate) mls_settings: Option<MlsSettings>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TimerSettings {
    #[prost(uint32, tag = "1")]
    pub(crate) timeout: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) max_retries: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MlsSettings {
    #[prost(uint32, tag = "1")]
    pub(crate) header_integrity_validation_percent: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct JoinReply {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub(crate) key_package: Option<Vec<u8>>,
    #[prost(message, tag = "2")]
    pub(crate) participant: Option<Participant>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Participant {
    #[prost(message, tag = "1")]
    pub(crate) name: Option<Name>,
    #[prost(message, tag = "2")]
    pub(crate) settings: Option<ParticipantSettings>,
    #[prost(int32, tag = "3")]
    pub(crate) status: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ParticipantSettings {
    #[prost(bool, tag = "1")]
    pub(crate) sends_data: bool,
    #[prost(bool, tag = "2")]
    pub(crate) receives_data: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GroupUpdate {
    #[prost(int32, tag = "1")]
    pub(crate) op: i32,
    #[prost(message, tag = "2")]
    pub(crate) participant: Option<Participant>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) participants: Vec<Participant>,
    #[prost(message, tag = "4")]
    pub(crate) mls: Option<Mls>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Mls {
    #[prost(uint32, tag = "1")]
    pub(crate) commit_id: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) mls_content: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GroupWelcome {
    #[prost(message, repeated, tag = "1")]
    pub(crate) participants: Vec<Participant>,
    #[prost(message, tag = "2")]
    pub(crate) mls: Option<Mls>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GroupClose {
    #[prost(message, repeated, tag = "1")]
    pub(crate) participants: Vec<Name>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GroupProposal {
    #[prost(message, tag = "1")]
    pub(crate) source: Option<Name>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) mls_proposal: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Heartbeat {
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct UpdateParticipantState {
    #[prost(message, tag = "1")]
    pub(crate) participant: Option<Name>,
    #[prost(int32, tag = "2")]
    pub(crate) new_state: i32,
    #[prost(uint64, tag = "3")]
    pub(crate) epoch: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RejoinRequest {
    #[prost(message, tag = "1")]
    pub(crate) participant: Option<Name>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) key_package: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RejoinReply {
    #[prost(uint32, tag = "1")]
    pub(crate) commit_id: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) mls_content: Vec<u8>,
}
