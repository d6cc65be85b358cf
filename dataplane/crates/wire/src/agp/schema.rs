//! Names, numbers and types of the fields, as far as a parser looks at them.
//!
//! Messages that are passed on are listed with the receiver's fields too (`Publish` with those of `Notify`), since the
//! receiver's parser will look at them. A test compares the tables with the compiled `gateway.proto`.

/// What a field holds, which fixes its wire type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Not in the schema: skipped, whatever it holds.
    Unknown,
    /// Integer, bool or enum.
    Varint,
    /// `fixed64`.
    Fixed64,
    /// `string`.
    Text,
    /// `bytes`.
    Bytes,
    /// `map<string, string>`: each entry is checked where it is met.
    Map,
    /// An embedded message; who reads the field checks it.
    Message,
}

/// Wire types of protobuf (<https://protobuf.dev/programming-guides/encoding/#structure>).
pub(crate) const VARINT: u8 = 0;
pub(crate) const I64: u8 = 1;
pub(crate) const LEN: u8 = 2;
pub(crate) const I32: u8 = 5;

impl Kind {
    /// The only wire type a field of this kind may have. Packed encoding does not occur: no scalar is repeated.
    pub(crate) const fn wire_type(self) -> u8 {
        match self {
            Kind::Varint => VARINT,
            Kind::Fixed64 => I64,
            Kind::Unknown | Kind::Text | Kind::Bytes | Kind::Map | Kind::Message => LEN,
        }
    }
}

/// Field numbers below this are looked up in the tables; no message of `agp.v1` has one above 20.
const NUMBERS: usize = 32;

/// The fields of one message, indexed by number.
#[derive(Debug)]
pub(crate) struct Schema {
    /// The message, as errors name it.
    pub(crate) name: &'static str,
    kinds: [Kind; NUMBERS],
    names: [&'static str; NUMBERS],
}

impl Schema {
    pub(crate) const fn new(name: &'static str, fields: &[(usize, &'static str, Kind)]) -> Schema {
        let mut schema = Schema {
            name,
            kinds: [Kind::Unknown; NUMBERS],
            names: [""; NUMBERS],
        };
        let mut at = 0;
        while at < fields.len() {
            let (number, name, kind) = fields[at];
            schema.kinds[number] = kind;
            schema.names[number] = name;
            at += 1;
        }
        schema
    }

    /// What the field holds.
    #[inline(always)]
    pub(crate) fn kind(&self, number: u32) -> Kind {
        self.kinds.get(number as usize).copied().unwrap_or(Kind::Unknown)
    }

    /// The field, as errors name it; empty for an unknown one.
    pub(crate) fn name_of(&self, number: u32) -> &'static str {
        self.names.get(number as usize).copied().unwrap_or("")
    }
}

use Kind::{Bytes, Fixed64, Map, Message, Text, Varint};

pub(crate) static AGENT_MESSAGE: Schema = Schema::new(
    "message",
    &[
        (1, "register", Message),
        (2, "subscribe", Message),
        (3, "unsubscribe", Message),
        (4, "publish", Message),
        (5, "request", Message),
        (6, "response", Message),
        (7, "stream_open", Message),
        (8, "chunk", Message),
        (9, "stream_close", Message),
        (10, "stream_credit", Message),
        (11, "introduce", Message),
        (12, "accept", Message),
        (13, "reject", Message),
        (14, "state_get", Message),
        (15, "state_put", Message),
        (16, "state_delete", Message),
        (17, "state_watch", Message),
        (18, "state_unwatch", Message),
        (19, "status", Message),
        (20, "cancel", Message),
    ],
);

pub(crate) static REGISTER: Schema = Schema::new(
    "register",
    &[
        (1, "name", Text),
        (2, "capabilities", Text),
        (3, "labels", Message),
        (4, "token", Text),
        (5, "accept_from", Text),
        (6, "resume_token", Bytes),
        (7, "proof", Bytes),
    ],
);

pub(crate) static SUBSCRIBE: Schema = Schema::new(
    "subscribe",
    &[
        (1, "id", Varint),
        (2, "pattern", Text),
        (3, "group", Text),
        (4, "delivery", Message),
    ],
);

pub(crate) static DELIVERY: Schema = Schema::new(
    "delivery",
    &[
        (1, "policy", Varint),
        (2, "queue_bytes", Varint),
        (3, "block_ms", Varint),
    ],
);

pub(crate) static UNSUBSCRIBE: Schema = Schema::new("unsubscribe", &[(1, "id", Varint)]);

pub(crate) static PUBLISH: Schema = Schema::new(
    "publish",
    &[
        (1, "topic", Text),
        (2, "payload", Bytes),
        (3, "headers", Map),
        (4, "id", Varint),
        (16, "source", Text),
        (17, "sequence", Varint),
        (18, "time_unix_nanos", Fixed64),
    ],
);

pub(crate) static TARGET: Schema = Schema::new(
    "target",
    &[
        (1, "agent", Text),
        (2, "service", Text),
        (3, "capability", Text),
        (4, "channel", Text),
        (5, "balance", Varint),
        (6, "affinity", Text),
    ],
);

pub(crate) static REQUEST: Schema = Schema::new(
    "request",
    &[
        (1, "id", Varint),
        (2, "target", Message),
        (3, "payload", Bytes),
        (4, "headers", Map),
        (5, "timeout_ms", Varint),
        (16, "source", Text),
        (17, "request", Varint),
        (18, "deadline_unix_nanos", Fixed64),
    ],
);

pub(crate) static RESPONSE: Schema = Schema::new(
    "response",
    &[
        (1, "request", Varint),
        (2, "code", Varint),
        (3, "payload", Bytes),
        (4, "headers", Map),
        (5, "message", Text),
        (16, "id", Varint),
        (17, "source", Text),
    ],
);

pub(crate) static STREAM_OPEN: Schema = Schema::new(
    "stream_open",
    &[
        (1, "stream", Varint),
        (2, "target", Message),
        (3, "headers", Map),
        (4, "credit_bytes", Varint),
        (16, "source", Text),
    ],
);

pub(crate) static CHUNK: Schema = Schema::new(
    "chunk",
    &[
        (1, "stream", Varint),
        (2, "sequence", Varint),
        (3, "payload", Bytes),
    ],
);

pub(crate) static STREAM_CLOSE: Schema = Schema::new(
    "stream_close",
    &[(1, "stream", Varint), (2, "code", Varint), (3, "message", Text)],
);

pub(crate) static STREAM_CREDIT: Schema =
    Schema::new("stream_credit", &[(1, "stream", Varint), (2, "bytes", Varint)]);

pub(crate) static INTRODUCE: Schema = Schema::new(
    "introduce",
    &[
        (1, "id", Varint),
        (2, "target", Message),
        (3, "payload", Bytes),
        (4, "headers", Map),
        (5, "timeout_ms", Varint),
        (16, "source", Text),
        (17, "introduction", Varint),
        (18, "credential", Bytes),
    ],
);

pub(crate) static ACCEPT: Schema = Schema::new(
    "accept",
    &[
        (1, "introduction", Varint),
        (2, "payload", Bytes),
        (3, "headers", Map),
        (16, "id", Varint),
        (17, "channel", Text),
        (18, "source", Text),
        (19, "credential", Bytes),
    ],
);

pub(crate) static REJECT: Schema = Schema::new(
    "reject",
    &[
        (1, "introduction", Varint),
        (2, "code", Varint),
        (3, "message", Text),
        (16, "id", Varint),
        (17, "source", Text),
    ],
);

pub(crate) static STATE_GET: Schema = Schema::new(
    "state_get",
    &[(1, "id", Varint), (2, "space", Text), (3, "key", Text)],
);

pub(crate) static STATE_PUT: Schema = Schema::new(
    "state_put",
    &[
        (1, "id", Varint),
        (2, "space", Text),
        (3, "key", Text),
        (4, "value", Bytes),
        (5, "expect_revision", Varint),
        (6, "ttl_ms", Varint),
    ],
);

pub(crate) static STATE_DELETE: Schema = Schema::new(
    "state_delete",
    &[
        (1, "id", Varint),
        (2, "space", Text),
        (3, "key", Text),
        (4, "expect_revision", Varint),
    ],
);

pub(crate) static STATE_WATCH: Schema = Schema::new(
    "state_watch",
    &[
        (1, "id", Varint),
        (2, "space", Text),
        (3, "prefix", Text),
        (4, "from_revision", Varint),
    ],
);

pub(crate) static STATE_UNWATCH: Schema = Schema::new("state_unwatch", &[(1, "id", Varint)]);

pub(crate) static STATUS: Schema = Schema::new(
    "status",
    &[
        (1, "outstanding", Varint),
        (2, "weight", Varint),
        (3, "draining", Varint),
    ],
);

pub(crate) static CANCEL: Schema =
    Schema::new("cancel", &[(1, "request", Varint), (2, "introduction", Varint)]);

/// An entry of a `map<string, string>`.
pub(crate) static ENTRY: Schema = Schema::new("headers", &[(1, "key", Text), (2, "value", Text)]);

/// Looks for nothing but a number in field 1: to find the id of a message that breaks a rule elsewhere.
pub(crate) static ID_IN_1: Schema = Schema::new("", &[(1, "", Varint)]);

/// As [`ID_IN_1`], for the one message that has its id in field 4.
pub(crate) static ID_IN_4: Schema = Schema::new("", &[(4, "", Varint)]);

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::field_descriptor_proto::Type;
    use prost_types::{DescriptorProto, FileDescriptorSet};

    use super::*;

    /// Schema of what is passed on, then the messages whose fields it must list.
    const PAIRS: &[(&Schema, &[&str])] = &[
        (&AGENT_MESSAGE, &["AgentMessage"]),
        (&REGISTER, &["Register"]),
        (&SUBSCRIBE, &["Subscribe"]),
        (&DELIVERY, &["Delivery"]),
        (&UNSUBSCRIBE, &["Unsubscribe"]),
        (&PUBLISH, &["Publish", "Notify"]),
        (&TARGET, &["Target"]),
        (&REQUEST, &["Request", "Forward"]),
        (&RESPONSE, &["Response", "Deliver"]),
        (&STREAM_OPEN, &["StreamOpen"]),
        (&CHUNK, &["Chunk"]),
        (&STREAM_CLOSE, &["StreamClose"]),
        (&STREAM_CREDIT, &["StreamCredit"]),
        (&INTRODUCE, &["Introduce"]),
        (&ACCEPT, &["Accept", "Connected"]),
        (&REJECT, &["Reject"]),
        (&STATE_GET, &["StateGet"]),
        (&STATE_PUT, &["StatePut"]),
        (&STATE_DELETE, &["StateDelete"]),
        (&STATE_WATCH, &["StateWatch"]),
        (&STATE_UNWATCH, &["StateUnwatch"]),
        (&STATUS, &["Status"]),
        (&CANCEL, &["Cancel"]),
    ];

    #[test]
    fn tables_agree_with_the_compiled_proto() {
        let set = FileDescriptorSet::decode(ringgate_proto::FILE_DESCRIPTOR_SET).unwrap();
        let file = set.file.iter().find(|file| file.package() == "agp.v1").unwrap();
        for (schema, messages) in PAIRS {
            let mut listed = [false; NUMBERS];
            for name in *messages {
                let message = file
                    .message_type
                    .iter()
                    .find(|message| message.name() == *name)
                    .unwrap();
                for field in &message.field {
                    let number = field.number() as u32;
                    listed[number as usize] = true;
                    assert_eq!(schema.name_of(number), field.name(), "{name}");
                    let is_map = field.type_name().ends_with("Entry");
                    let expected = match field.r#type() {
                        Type::String => Text,
                        Type::Bytes => Bytes,
                        Type::Fixed64 => Fixed64,
                        Type::Uint64 | Type::Uint32 | Type::Bool | Type::Enum => Varint,
                        // The labels are read, headers only checked.
                        Type::Message if is_map && field.name() == "headers" => Map,
                        Type::Message => Message,
                        other => panic!("{name}.{}: {other:?} has no kind", field.name()),
                    };
                    assert_eq!(schema.kind(number), expected, "{name}.{}", field.name());
                    assert_entries_are_text(message, field.type_name(), is_map);
                }
            }
            for number in 0..NUMBERS as u32 {
                assert_eq!(
                    schema.kind(number) != Kind::Unknown,
                    listed[number as usize],
                    "{}",
                    schema.name
                );
            }
        }
    }

    fn assert_entries_are_text(message: &DescriptorProto, type_name: &str, is_map: bool) {
        if !is_map {
            return;
        }
        let entry = message
            .nested_type
            .iter()
            .find(|nested| type_name.ends_with(nested.name()))
            .unwrap();
        assert!(entry.field.iter().all(|field| field.r#type() == Type::String));
    }
}
