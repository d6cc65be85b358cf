//! Why a message was refused.

use ringgate_gateway::code::Code;

/// A message that breaks a rule. Nothing of it may be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{message}{dot}{field} {rule}", dot = if field.is_empty() { "" } else { "." })]
pub struct DecodeError {
    /// What to answer on: the message's own id, stream or request number where it could be read, else 0.
    pub id: u64,
    /// The message, by its name in `AgentMessage`.
    pub message: &'static str,
    /// The field, by its name in the message; empty where the fault is not in a known field.
    pub field: &'static str,
    /// The rule it breaks.
    pub rule: Rule,
}

impl DecodeError {
    /// The code for the agent: the same bytes will never be accepted.
    pub const CODE: Code = Code::InvalidArgument;
}

/// What a message must keep to. The text goes on from the name of the field and says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rule {
    /// A value reaches beyond its message.
    #[error("ends before its length says: send the whole message, with the right lengths")]
    Truncated,
    /// A varint with more than ten bytes or 64 bits; tags and lengths: more than five bytes.
    #[error("holds a malformed varint: send at most 10 bytes, for tags and lengths at most 5")]
    Varint,
    /// Field number 0, which protobuf reserves.
    #[error("holds field number 0: field numbers start at 1")]
    FieldZero,
    /// A group or an undefined wire type.
    #[error(
        "holds a field of wire type {found}: only varint (0), 64-bit (1), bytes (2) and 32-bit (5) are allowed"
    )]
    Unsupported {
        /// The wire type.
        found: u8,
    },
    /// A known field with another type than the schema's.
    #[error("has wire type {found}: it must be {expected}, see agp/v1/gateway.proto")]
    WireType {
        /// As sent.
        found: u8,
        /// As in the schema.
        expected: u8,
    },
    /// Text that is not UTF-8.
    #[error("is not valid UTF-8: send binary data in the payload")]
    Utf8,
    /// A field that must be there at most once.
    #[error("is there twice: send it once")]
    Repeated,
    /// A field that must be there.
    #[error("is missing: set it")]
    Missing,
    /// An enum value this version does not know.
    #[error("is {value}, which is no known value: see agp/v1/gateway.proto")]
    UnknownValue {
        /// As sent.
        value: i32,
    },
    /// A repeated field with too many elements.
    #[error("has more than {max} elements: send fewer")]
    TooMany {
        /// How many are allowed.
        max: usize,
    },
    /// No field of the oneof is set.
    #[error("holds no known message: set exactly one field of its body")]
    NoBody,
    /// More than one field of the oneof is set.
    #[error("holds several messages: send each in a message of its own")]
    SeveralBodies,
}
