//! `decode` and the encoder against prost, over messages of every kind, with fields in any order, repeated, unknown and forged.

mod support;

use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use ringgate_wire::AgpEncoder;
use ringgate_wire::agp::{Rule, decode};
use support::{agent_message, judge, number, sized, tag};

static MESSAGES: LazyLock<Vec<DescriptorProto>> = LazyLock::new(|| {
    let set = FileDescriptorSet::decode(ringgate_proto::FILE_DESCRIPTOR_SET).unwrap();
    set.file
        .into_iter()
        .find(|file| file.package() == "agp.v1")
        .unwrap()
        .message_type
});

/// Values of which a field of any type can be made.
#[derive(Debug, Clone)]
struct Seed {
    pick: usize,
    number: u64,
    text: String,
    bytes: Vec<u8>,
    inner: Vec<Seed>,
}

fn seed() -> impl Strategy<Value = Seed> {
    let leaf = (any::<usize>(), numbers(), "\\PC{0,12}", vec(any::<u8>(), 0..300)).prop_map(
        |(pick, number, text, bytes)| Seed {
            pick,
            number,
            text,
            bytes,
            inner: Vec::new(),
        },
    );
    leaf.prop_recursive(2, 12, 3, |inner| {
        (
            any::<usize>(),
            numbers(),
            "\\PC{0,12}",
            vec(any::<u8>(), 0..20),
            vec(inner, 0..4),
        )
            .prop_map(|(pick, number, text, bytes, inner)| Seed {
                pick,
                number,
                text,
                bytes,
                inner,
            })
    })
}

fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![0..20u64, any::<u64>(), Just(0), Just(u64::MAX)]
}

/// The receiver's message where there is one, so that forged fields of the gateway occur.
fn receivers_name(name: &str) -> &str {
    match name {
        "Publish" => "Notify",
        "Request" => "Forward",
        "Response" => "Deliver",
        "Accept" => "Connected",
        other => other,
    }
}

fn message_of(name: &str, seeds: &[Seed]) -> Vec<u8> {
    let message = MESSAGES.iter().find(|message| message.name() == name).unwrap();
    body_of(message, message, seeds)
}

fn body_of(message: &DescriptorProto, parent: &DescriptorProto, seeds: &[Seed]) -> Vec<u8> {
    let mut body = Vec::new();
    for seed in seeds {
        match message.field.get(seed.pick % (message.field.len() + 1)) {
            Some(field) => put_field(&mut body, field, parent, seed),
            None => put_unknown(&mut body, seed),
        }
    }
    body
}

fn put_field(body: &mut Vec<u8>, field: &FieldDescriptorProto, parent: &DescriptorProto, seed: &Seed) {
    let at = field.number() as u32;
    match field.r#type() {
        Type::String => sized(body, at, seed.text.as_bytes()),
        Type::Bytes => sized(body, at, &seed.bytes),
        Type::Fixed64 => {
            tag(body, at, 1);
            body.extend(seed.number.to_le_bytes());
        }
        // Mostly values that have a name.
        Type::Enum => number(body, at, seed.number % 7),
        Type::Uint64 | Type::Uint32 | Type::Bool => number(body, at, seed.number),
        Type::Message => {
            let name = field.type_name().rsplit('.').next().unwrap();
            let inner = match parent.nested_type.iter().find(|nested| nested.name() == name) {
                Some(entry) => body_of(entry, parent, &seed.inner),
                None => message_of(name, &seed.inner),
            };
            sized(body, at, &inner);
        }
        other => panic!("no field of agp.v1 is {other:?}"),
    }
}

fn put_unknown(body: &mut Vec<u8>, seed: &Seed) {
    let at = 21 + (seed.number % 3_000) as u32;
    match seed.pick % 4 {
        0 => number(body, at, seed.number),
        1 => sized(body, at, &seed.bytes),
        2 => {
            tag(body, at, 1);
            body.extend(seed.number.to_le_bytes());
        }
        _ => {
            tag(body, at, 5);
            body.extend((seed.number as u32).to_le_bytes());
        }
    }
}

/// Each kind of message, by its name in the proto and its number in AgentMessage.
fn kinds() -> Vec<(u32, String)> {
    let message = MESSAGES
        .iter()
        .find(|message| message.name() == "AgentMessage")
        .unwrap();
    let name = |field: &FieldDescriptorProto| field.type_name().rsplit('.').next().unwrap().to_owned();
    message
        .field
        .iter()
        .map(|field| (field.number() as u32, name(field)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn decode_sees_what_prost_sees_and_receivers_hear_the_gateway(
        kind in 0..20usize,
        seeds in vec(seed(), 0..10),
        before in vec(seed(), 0..2),
        after in vec(seed(), 0..2),
    ) {
        let (number, name) = &kinds()[kind];
        let body = message_of(receivers_name(name), &seeds);
        let mut message = Vec::new();
        before.iter().for_each(|seed| put_unknown(&mut message, seed));
        message.extend(agent_message(*number, &body));
        after.iter().for_each(|seed| put_unknown(&mut message, seed));
        match decode(&message) {
            Ok(action) => judge(&message, &action, &mut AgpEncoder::default()),
            // What the dialect refuses though it is valid protobuf.
            Err(error) => prop_assert!(
                matches!(error.rule, Rule::Missing | Rule::Repeated | Rule::UnknownValue { .. }),
                "{error}"
            ),
        }
    }

    #[test]
    fn a_flipped_bit_is_refused_or_seen_alike(
        kind in 0..20usize,
        seeds in vec(seed(), 1..10),
        at in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let (number, name) = &kinds()[kind];
        let mut message = agent_message(*number, &message_of(receivers_name(name), &seeds));
        let at = at.index(message.len());
        message[at] ^= 1 << bit;
        if let Ok(action) = decode(&message) {
            judge(&message, &action, &mut AgpEncoder::default());
        }
    }
}
