//! `decode` against hand-written bytes: one rule of the dialect in each test.

mod support;

use ringgate_gateway::action::{Action, Chunk, Publish, Response, Status, Target, To};
use ringgate_gateway::code::Code;
use ringgate_wire::agp::{DecodeError, REGISTER_ELEMENTS_MAX, Rule, decode};
use support::{agent_message, number, sized, tag, varint};

const PUBLISH: u32 = 4;
const REQUEST: u32 = 5;
const RESPONSE: u32 = 6;
const CHUNK: u32 = 8;

fn rule_of(message: &[u8]) -> Rule {
    decode(message).unwrap_err().rule
}

#[test]
fn a_publish_is_borrowed_whole() {
    let mut body = Vec::new();
    sized(&mut body, 1, b"weather/berlin");
    sized(&mut body, 2, &[0xff; 300]);
    number(&mut body, 4, 7);
    let message = agent_message(PUBLISH, &body);
    let expected = Action::Publish(Publish {
        topic: "weather/berlin",
        id: 7,
        body: &body,
    });
    assert_eq!(decode(&message), Ok(expected));
}

#[test]
fn an_empty_publish_is_one() {
    let expected = Action::Publish(Publish {
        topic: "",
        id: 0,
        body: b"",
    });
    assert_eq!(decode(&agent_message(PUBLISH, b"")), Ok(expected));
}

#[test]
fn the_last_value_of_a_field_wins() {
    let mut body = Vec::new();
    number(&mut body, 1, 5);
    number(&mut body, 1, 300);
    let message = agent_message(RESPONSE, &body);
    assert_eq!(
        decode(&message),
        Ok(Action::Response(Response {
            request: 300,
            body: &body
        }))
    );
}

#[test]
fn unknown_fields_are_skipped_at_every_level() {
    let mut body = Vec::new();
    tag(&mut body, 99, 5);
    body.extend([1, 2, 3, 4]);
    tag(&mut body, 2_000, 1);
    body.extend([0; 8]);
    number(&mut body, 6, u64::MAX);
    sized(&mut body, 7, &[0xff]);
    sized(&mut body, 1, b"t");
    let mut message = Vec::new();
    number(&mut message, 21, 1);
    sized(&mut message, PUBLISH, &body);
    sized(&mut message, 536_870_911, b"\xff");
    assert_eq!(
        decode(&message),
        Ok(Action::Publish(Publish {
            topic: "t",
            id: 0,
            body: &body
        }))
    );
}

#[test]
fn exactly_one_body_is_allowed() {
    assert_eq!(rule_of(b""), Rule::NoBody);
    let mut message = agent_message(PUBLISH, b"");
    message.extend(agent_message(RESPONSE, b""));
    assert_eq!(rule_of(&message), Rule::SeveralBodies);
    let mut message = agent_message(PUBLISH, b"");
    message.extend(agent_message(PUBLISH, b""));
    assert_eq!(rule_of(&message), Rule::SeveralBodies);
}

#[test]
fn a_fault_is_told_on_the_id_wherever_it_stands() {
    let mut body = Vec::new();
    sized(&mut body, 1, b"\xff");
    number(&mut body, 4, 77);
    let error = decode(&agent_message(PUBLISH, &body)).unwrap_err();
    assert_eq!(
        error,
        DecodeError {
            id: 77,
            message: "publish",
            field: "topic",
            rule: Rule::Utf8
        }
    );
    assert_eq!(DecodeError::CODE, Code::InvalidArgument);
    assert_eq!(
        error.to_string(),
        "publish.topic is not valid UTF-8: send binary data in the payload"
    );
}

#[test]
fn headers_must_be_text() {
    let mut entry = Vec::new();
    sized(&mut entry, 1, b"key");
    sized(&mut entry, 2, b"\xc3\x28");
    let mut body = Vec::new();
    sized(&mut body, 3, &entry);
    let error = decode(&agent_message(PUBLISH, &body)).unwrap_err();
    assert_eq!(
        (error.message, error.field, error.rule),
        ("headers", "value", Rule::Utf8)
    );
}

#[test]
fn known_fields_must_have_their_wire_type() {
    let mut body = Vec::new();
    number(&mut body, 1, 5);
    assert_eq!(
        rule_of(&agent_message(PUBLISH, &body)),
        Rule::WireType {
            found: 0,
            expected: 2
        }
    );
    // A field of the gateway, which the receiver's parser will look at.
    let mut body = Vec::new();
    number(&mut body, 18, 5);
    assert_eq!(
        rule_of(&agent_message(PUBLISH, &body)),
        Rule::WireType {
            found: 0,
            expected: 1
        }
    );
    let mut message = Vec::new();
    number(&mut message, PUBLISH, 5);
    assert_eq!(
        rule_of(&message),
        Rule::WireType {
            found: 0,
            expected: 2
        }
    );
}

#[test]
fn groups_and_field_zero_are_refused() {
    for wire_type in [3, 4, 6, 7] {
        let mut body = Vec::new();
        tag(&mut body, 99, wire_type);
        assert_eq!(
            rule_of(&agent_message(PUBLISH, &body)),
            Rule::Unsupported { found: wire_type }
        );
    }
    assert_eq!(rule_of(&agent_message(PUBLISH, &[0, 0])), Rule::FieldZero);
}

#[test]
fn truncated_messages_are_refused() {
    let mut body = Vec::new();
    sized(&mut body, 1, b"topic");
    sized(&mut body, 2, &[7; 200]);
    number(&mut body, 4, 300);
    let whole = agent_message(PUBLISH, &body);
    for length in 1..whole.len() {
        assert!(decode(&whole[..length]).is_err(), "cut at {length}");
    }
    // Also where only the inner message is cut, at any place but between two fields.
    for length in 1..body.len() {
        let between = [7, 7 + 3 + 200].contains(&length);
        assert_eq!(
            decode(&agent_message(PUBLISH, &body[..length])).is_ok(),
            between,
            "cut at {length}"
        );
    }
}

#[test]
fn overlong_varints_are_refused() {
    let mut body = Vec::new();
    tag(&mut body, 4, 0);
    body.extend([0xff; 9]);
    body.push(2);
    assert_eq!(rule_of(&agent_message(PUBLISH, &body)), Rule::Varint);
    *body.last_mut().unwrap() = 1;
    let message = agent_message(PUBLISH, &body);
    let Ok(Action::Publish(publish)) = decode(&message) else {
        panic!("ten bytes are allowed")
    };
    assert_eq!(publish.id, u64::MAX);
    // A length of six bytes, and one of more than 32 bits.
    assert_eq!(
        rule_of(&agent_message(PUBLISH, &[0x12, 0x80, 0x80, 0x80, 0x80, 0x80, 0])),
        Rule::Varint
    );
    assert_eq!(
        rule_of(&agent_message(PUBLISH, &[0x12, 0xff, 0xff, 0xff, 0xff, 0x1f])),
        Rule::Varint
    );
}

#[test]
fn a_target_is_needed_once() {
    let mut target = Vec::new();
    sized(&mut target, 3, b"weather");
    let mut body = Vec::new();
    number(&mut body, 1, 8);
    assert_eq!(rule_of(&agent_message(REQUEST, &body)), Rule::Missing);
    sized(&mut body, 2, &target);
    let message = agent_message(REQUEST, &body);
    let Ok(Action::Request(request)) = decode(&message) else {
        panic!()
    };
    let expected = Target {
        to: To::Capability("weather"),
        balance: Default::default(),
        affinity: "",
    };
    assert_eq!(request.target, expected);
    sized(&mut body, 2, &target);
    let error = decode(&agent_message(REQUEST, &body)).unwrap_err();
    assert_eq!((error.id, error.field, error.rule), (8, "target", Rule::Repeated));
    let mut body = Vec::new();
    sized(&mut body, 2, b"");
    let error = decode(&agent_message(REQUEST, &body)).unwrap_err();
    assert_eq!((error.message, error.rule), ("target", Rule::Missing));
}

#[test]
fn a_balance_nobody_knows_is_refused() {
    let mut target = Vec::new();
    sized(&mut target, 1, b"a/b/c/d");
    number(&mut target, 5, 4);
    let mut body = Vec::new();
    sized(&mut body, 2, &target);
    assert_eq!(
        rule_of(&agent_message(REQUEST, &body)),
        Rule::UnknownValue { value: 4 }
    );
}

#[test]
fn a_chunk_pays_for_all_it_carries() {
    let mut body = Vec::new();
    number(&mut body, 1, 3);
    sized(&mut body, 3, &[0; 1000]);
    let message = agent_message(CHUNK, &body);
    assert_eq!(
        decode(&message),
        Ok(Action::Chunk(Chunk {
            stream: 3,
            payload_bytes: 1000,
            body: &body
        }))
    );
    sized(&mut body, 3, b"");
    let error = decode(&agent_message(CHUNK, &body)).unwrap_err();
    assert_eq!((error.id, error.rule), (3, Rule::Repeated));
}

#[test]
fn numbers_of_32_bits_are_cut_as_protobuf_cuts_them() {
    let mut body = Vec::new();
    number(&mut body, 1, 1 << 32 | 5);
    number(&mut body, 3, 1 << 40);
    let expected = Status {
        outstanding: 5,
        weight: 0,
        draining: true,
    };
    assert_eq!(decode(&agent_message(19, &body)), Ok(Action::Status(expected)));
}

#[test]
fn a_register_is_bounded() {
    let mut body = Vec::new();
    for _ in 0..REGISTER_ELEMENTS_MAX {
        sized(&mut body, 2, b"c");
    }
    assert!(decode(&agent_message(1, &body)).is_ok());
    sized(&mut body, 2, b"c");
    assert_eq!(
        rule_of(&agent_message(1, &body)),
        Rule::TooMany {
            max: REGISTER_ELEMENTS_MAX
        }
    );
}

#[test]
fn a_tag_may_be_written_long() {
    // Two bytes for field 1: allowed by protobuf, if unusual.
    let mut body = vec![0x80 | 0x0a, 0x00];
    varint(&mut body, 1);
    body.push(b't');
    let message = agent_message(PUBLISH, &body);
    assert_eq!(
        decode(&message),
        Ok(Action::Publish(Publish {
            topic: "t",
            id: 0,
            body: &body
        }))
    );
}
