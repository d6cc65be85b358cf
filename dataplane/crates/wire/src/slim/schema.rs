//! The tables of `../shared/wire/slim-wire.md`, section 5: `dataplane.proto.v1`, down to the innermost field.

use crate::agp::schema::Kind::{Bytes, Map, Message, Text, Varint};
use crate::agp::schema::Schema;
use crate::envelope::Shape;

pub(super) const SUBSCRIBE_KIND: u32 = 1;
pub(super) const UNSUBSCRIBE_KIND: u32 = 2;
pub(super) const PUBLISH_KIND: u32 = 3;
pub(super) const LINK_KIND: u32 = 5;
pub(super) const ACK_KIND: u32 = 6;
/// Numbers of the fields that are bodies, as bits.
pub(super) const KINDS: u32 =
    1 << SUBSCRIBE_KIND | 1 << UNSUBSCRIBE_KIND | 1 << PUBLISH_KIND | 1 << LINK_KIND | 1 << ACK_KIND;

pub(super) static MESSAGE: Schema = Schema::new(
    "message",
    &[
        (SUBSCRIBE_KIND as usize, "subscribe", Message),
        (UNSUBSCRIBE_KIND as usize, "unsubscribe", Message),
        (PUBLISH_KIND as usize, "publish", Message),
        (4, "metadata", Map),
        (LINK_KIND as usize, "link", Message),
        (ACK_KIND as usize, "subscription_ack", Message),
    ],
);

/// In Subscribe and Unsubscribe.
pub(super) const SUBSCRIPTION_ID: u32 = 2;

/// Of Subscribe and Unsubscribe.
pub(super) static SUBSCRIBE: Schema = Schema::new(
    "subscribe",
    &[
        (1, "header", Message),
        (SUBSCRIPTION_ID as usize, "subscription_id", Varint),
    ],
);

/// In Publish.
pub(super) const SESSION: u32 = 2;
/// In Publish.
pub(super) const MSG: u32 = 3;
/// In Content.
pub(super) const APP_PAYLOAD: u32 = 1;
/// In ApplicationPayload.
pub(super) const BLOB: u32 = 2;

const fn publish() -> Schema {
    Schema::new(
        "publish",
        &[
            (1, "header", Message),
            (SESSION as usize, "session", Message),
            (MSG as usize, "msg", Message),
        ],
    )
}

pub(super) static PUBLISH: Shape = Shape {
    schema: publish(),
    inner: &[(SESSION, &SESSION_HEADER), (MSG, &CONTENT)],
};

/// A Publish that has been checked before.
pub(super) static CHECKED_PUBLISH: Shape = Shape {
    schema: publish(),
    inner: &[],
};

pub(super) static SESSION_HEADER: Shape = Shape {
    schema: Schema::new(
        "session",
        &[
            (1, "session_type", Varint),
            (2, "session_message_type", Varint),
            (3, "session_id", Varint),
            (4, "message_id", Varint),
        ],
    ),
    inner: &[],
};

pub(super) static CONTENT: Shape = Shape {
    schema: Schema::new(
        "msg",
        &[
            (APP_PAYLOAD as usize, "app_payload", Message),
            (2, "command_payload", Message),
        ],
    ),
    inner: &[(APP_PAYLOAD, &APPLICATION), (2, &COMMAND)],
};

pub(super) static APPLICATION: Shape = Shape {
    schema: Schema::new(
        "app_payload",
        &[(1, "payload_type", Text), (BLOB as usize, "blob", Bytes)],
    ),
    inner: &[],
};

static COMMAND: Shape = Shape {
    schema: Schema::new(
        "command_payload",
        &[
            (1, "discovery_request", Message),
            (2, "discovery_reply", Message),
            (3, "join_request", Message),
            (4, "join_reply", Message),
            (5, "leave_request", Message),
            (6, "leave_reply", Message),
            (7, "group_update", Message),
            (8, "group_welcome", Message),
            (9, "group_close", Message),
            (10, "group_proposal", Message),
            (11, "group_ack", Message),
            (12, "group_nack", Message),
            (13, "heartbeat", Message),
            (14, "update_participant_state", Message),
            (15, "rejoin_request", Message),
            (16, "rejoin_reply", Message),
        ],
    ),
    inner: &[
        (1, &EMPTY),
        (2, &EMPTY),
        (3, &JOIN_REQUEST),
        (4, &JOIN_REPLY),
        (5, &EMPTY),
        (6, &EMPTY),
        (7, &GROUP_UPDATE),
        (8, &GROUP_WELCOME),
        (9, &GROUP_CLOSE),
        (10, &GROUP_PROPOSAL),
        (11, &EMPTY),
        (12, &EMPTY),
        (13, &HEARTBEAT),
        (14, &UPDATE_PARTICIPANT_STATE),
        (15, &REJOIN_REQUEST),
        (16, &REJOIN_REPLY),
    ],
};

static EMPTY: Shape = Shape {
    schema: Schema::new("command", &[]),
    inner: &[],
};

static JOIN_REQUEST: Shape = Shape {
    schema: Schema::new(
        "join_request",
        &[
            (1, "timer_settings", Message),
            (2, "channel", Message),
            (3, "control", Message),
            (4, "mls_settings", Message),
        ],
    ),
    inner: &[(1, &TIMER_SETTINGS), (2, &NAME), (3, &NAME), (4, &MLS_SETTINGS)],
};

static TIMER_SETTINGS: Shape = Shape {
    schema: Schema::new(
        "timer_settings",
        &[(1, "timeout", Varint), (2, "max_retries", Varint)],
    ),
    inner: &[],
};

static MLS_SETTINGS: Shape = Shape {
    schema: Schema::new(
        "mls_settings",
        &[(1, "header_integrity_validation_percent", Varint)],
    ),
    inner: &[],
};

static JOIN_REPLY: Shape = Shape {
    schema: Schema::new(
        "join_reply",
        &[(1, "key_package", Bytes), (2, "participant", Message)],
    ),
    inner: &[(2, &PARTICIPANT)],
};

static PARTICIPANT: Shape = Shape {
    schema: Schema::new(
        "participant",
        &[
            (1, "name", Message),
            (2, "settings", Message),
            (3, "status", Varint),
        ],
    ),
    inner: &[(1, &NAME), (2, &PARTICIPANT_SETTINGS)],
};

static PARTICIPANT_SETTINGS: Shape = Shape {
    schema: Schema::new(
        "settings",
        &[(1, "sends_data", Varint), (2, "receives_data", Varint)],
    ),
    inner: &[],
};

static GROUP_UPDATE: Shape = Shape {
    schema: Schema::new(
        "group_update",
        &[
            (1, "op", Varint),
            (2, "participant", Message),
            (3, "participants", Message),
            (4, "mls", Message),
        ],
    ),
    inner: &[(2, &PARTICIPANT), (3, &PARTICIPANT), (4, &MLS_PAYLOAD)],
};

static MLS_PAYLOAD: Shape = Shape {
    schema: Schema::new("mls", &[(1, "commit_id", Varint), (2, "mls_content", Bytes)]),
    inner: &[],
};

static GROUP_WELCOME: Shape = Shape {
    schema: Schema::new(
        "group_welcome",
        &[(1, "participants", Message), (2, "mls", Message)],
    ),
    inner: &[(1, &PARTICIPANT), (2, &MLS_PAYLOAD)],
};

static GROUP_CLOSE: Shape = Shape {
    schema: Schema::new("group_close", &[(1, "participants", Message)]),
    inner: &[(1, &NAME)],
};

static GROUP_PROPOSAL: Shape = Shape {
    schema: Schema::new(
        "group_proposal",
        &[(1, "source", Message), (2, "mls_proposal", Bytes)],
    ),
    inner: &[(1, &NAME)],
};

static HEARTBEAT: Shape = Shape {
    schema: Schema::new("heartbeat", &[(1, "epoch", Varint)]),
    inner: &[],
};

static UPDATE_PARTICIPANT_STATE: Shape = Shape {
    schema: Schema::new(
        "update_participant_state",
        &[
            (1, "participant", Message),
            (2, "new_state", Varint),
            (3, "epoch", Varint),
        ],
    ),
    inner: &[(1, &NAME)],
};

static REJOIN_REQUEST: Shape = Shape {
    schema: Schema::new(
        "rejoin_request",
        &[(1, "participant", Message), (2, "key_package", Bytes)],
    ),
    inner: &[(1, &NAME)],
};

static REJOIN_REPLY: Shape = Shape {
    schema: Schema::new(
        "rejoin_reply",
        &[(1, "commit_id", Varint), (2, "mls_content", Bytes)],
    ),
    inner: &[],
};

/// In SLIMHeader.
pub(super) const TTL: u32 = 6;
/// In SLIMHeader.
pub(super) const RECV_FROM: u32 = 7;
/// In SLIMHeader.
pub(super) const FORWARD_TO: u32 = 8;
/// In SLIMHeader.
pub(super) const HEADER_MAC: u32 = 11;

pub(super) static HEADER: Schema = Schema::new(
    "header",
    &[
        (1, "source", Message),
        (2, "destination", Message),
        (3, "identity", Text),
        (4, "fanout", Varint),
        (5, "version", Text),
        (TTL as usize, "ttl", Varint),
        (RECV_FROM as usize, "recv_from", Varint),
        (FORWARD_TO as usize, "forward_to", Varint),
        (9, "incoming_conn", Varint),
        (10, "error", Varint),
        (HEADER_MAC as usize, "header_mac", Bytes),
        (12, "e2e_header_sig", Bytes),
    ],
);

pub(super) static NAME: Shape = Shape {
    schema: Schema::new("name", &[(1, "name", Message), (2, "str_name", Message)]),
    inner: &[(1, &ENCODED_NAME), (2, &STRING_NAME)],
};

pub(super) static ENCODED_NAME: Shape = Shape {
    schema: Schema::new(
        "encoded_name",
        &[
            (1, "component_0", Varint),
            (2, "component_1", Varint),
            (3, "component_2", Varint),
            (4, "name_id", Message),
        ],
    ),
    inner: &[(4, &NAME_ID)],
};

pub(super) static NAME_ID: Shape = Shape {
    schema: Schema::new("name_id", &[(1, "id_0", Varint), (2, "id_1", Varint)]),
    inner: &[],
};

pub(super) static STRING_NAME: Shape = Shape {
    schema: Schema::new(
        "str_name",
        &[
            (1, "str_component_0", Text),
            (2, "str_component_1", Text),
            (3, "str_component_2", Text),
        ],
    ),
    inner: &[],
};

/// In Link.
pub(super) const LINK_NEGOTIATION: u32 = 1;

pub(super) static LINK: Schema = Schema::new(
    "link",
    &[(LINK_NEGOTIATION as usize, "link_negotiation", Message)],
);

pub(super) static NEGOTIATION: Schema = Schema::new(
    "link_negotiation",
    &[
        (1, "link_id", Text),
        (2, "slim_version", Text),
        (3, "is_reply", Varint),
        (4, "link_ecdh_public_key", Bytes),
        (5, "connection_type", Varint),
        (6, "node_id", Text),
        (7, "deployment_name", Text),
        (8, "link_kem_payload", Bytes),
    ],
);

/// Of SubscriptionAck.
pub(super) static ACK: Schema = Schema::new(
    "subscription_ack",
    &[
        (1, "subscription_id", Varint),
        (2, "success", Varint),
        (3, "error", Text),
    ],
);
