//! The tables of `../shared/wire/agp-wire.md`, section 2.

use crate::agp::schema::Kind::{Bytes, Map, Message, Text, Varint};
use crate::agp::schema::Schema;
use crate::envelope::Shape;

pub(super) const SUBSCRIBE_KIND: u32 = 1;
pub(super) const UNSUBSCRIBE_KIND: u32 = 2;
pub(super) const PUBLISH_KIND: u32 = 3;
/// Numbers of the fields that are bodies, as bits.
pub(super) const KINDS: u32 = 1 << SUBSCRIBE_KIND | 1 << UNSUBSCRIBE_KIND | 1 << PUBLISH_KIND;

/// In Publish.
pub(super) const SESSION: u32 = 2;
/// In Publish.
pub(super) const MSG: u32 = 4;
/// In Content.
pub(super) const BLOB: u32 = 2;
/// In AGPHeader.
pub(super) const RECV_FROM: u32 = 4;
/// In AGPHeader.
pub(super) const FORWARD_TO: u32 = 5;

pub(super) static MESSAGE: Schema = Schema::new(
    "message",
    &[
        (SUBSCRIBE_KIND as usize, "subscribe", Message),
        (UNSUBSCRIBE_KIND as usize, "unsubscribe", Message),
        (PUBLISH_KIND as usize, "publish", Message),
        (4, "metadata", Map),
    ],
);

/// Of Subscribe in both generations, and of Unsubscribe. The readable names are not looked at: older clients do not send them.
pub(super) static SUBSCRIBE: Shape = Shape {
    schema: Schema::new("subscribe", &[(1, "header", Message)]),
    inner: &[],
};

pub(super) static PUBLISH: Shape = Shape {
    schema: Schema::new(
        "publish",
        &[
            (1, "header", Message),
            (SESSION as usize, "session", Message),
            (MSG as usize, "msg", Message),
        ],
    ),
    inner: &[(SESSION, &SESSION_HEADER), (MSG, &CONTENT)],
};

static SESSION_HEADER: Shape = Shape {
    schema: Schema::new(
        "session",
        &[
            (1, "header_type", Varint),
            (2, "session_id", Varint),
            (3, "message_id", Varint),
        ],
    ),
    inner: &[],
};

pub(super) static CONTENT: Shape = Shape {
    schema: Schema::new(
        "msg",
        &[(1, "content_type", Text), (BLOB as usize, "blob", Bytes)],
    ),
    inner: &[],
};

pub(super) static HEADER: Schema = Schema::new(
    "header",
    &[
        (1, "source", Message),
        (2, "destination", Message),
        (3, "fanout", Varint),
        (RECV_FROM as usize, "recvFrom", Varint),
        (FORWARD_TO as usize, "forwardTo", Varint),
        (6, "incomingConn", Varint),
        (7, "error", Varint),
    ],
);

pub(super) static AGENT: Schema = Schema::new(
    "agent",
    &[
        (1, "organization", Varint),
        (2, "namespace", Varint),
        (3, "agent_type", Varint),
        (4, "agent_id", Varint),
    ],
);
