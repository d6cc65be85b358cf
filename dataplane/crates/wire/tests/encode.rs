//! What the gateway itself says, read by prost.

mod support;

use ringgate_gateway::code::Code;
use ringgate_gateway::outgoing::{Dialect, Encoder as _, Outgoing, Registered, StateChange};
use ringgate_proto::agp::v1 as proto;
use ringgate_proto::agp::v1::gateway_message::Body as Heard;
use ringgate_wire::AgpEncoder;
use support::{encode, hear};

#[track_caller]
fn assert_heard(outgoing: Outgoing<'_>, expected: Heard) {
    assert_eq!(hear(&mut AgpEncoder::default(), &outgoing), expected);
}

#[test]
fn registered() {
    assert_heard(
        Outgoing::Registered(Registered {
            session: "s-1",
            name: "org/ns/service/one",
            message_bytes_max: 4 << 20,
            subscriptions_max: 10_000,
            queue_bytes_max: u64::MAX,
            streams_max: 100,
            requests_in_flight_max: 0,
            resume_token: &[0xff; 16],
            server_time_unix_nanos: 1_700_000_000_000_000_000,
            node: "node-1",
            resumed: true,
        }),
        Heard::Registered(proto::Registered {
            session: "s-1".into(),
            name: "org/ns/service/one".into(),
            limits: Some(proto::Limits {
                message_bytes_max: 4 << 20,
                subscriptions_max: 10_000,
                queue_bytes_max: u64::MAX,
                streams_max: 100,
                requests_in_flight_max: 0,
            }),
            resume_token: vec![0xff; 16].into(),
            server_time_unix_nanos: 1_700_000_000_000_000_000,
            node: "node-1".into(),
            resumed: true,
        }),
    );
}

#[test]
fn answers() {
    assert_heard(
        Outgoing::Ack {
            id: 300,
            revision: 0,
            receivers: u32::MAX,
        },
        Heard::Ack(proto::Ack {
            id: 300,
            revision: 0,
            receivers: u32::MAX,
        }),
    );
    assert_heard(
        Outgoing::Error {
            id: 0,
            code: Code::Compacted,
            message: "watch anew",
            retryable: true,
            retry_after_ms: 250,
        },
        Heard::Error(proto::Error {
            id: 0,
            code: proto::Code::Compacted.into(),
            message: "watch anew".into(),
            retryable: true,
            retry_after_ms: 250,
        }),
    );
}

#[test]
fn notices() {
    assert_heard(
        Outgoing::Gap {
            subscription: 5,
            dropped: 1_000_000,
            dropped_bytes: 1 << 40,
            topic: "a/b",
        },
        Heard::Gap(proto::Gap {
            subscription: 5,
            dropped: 1_000_000,
            dropped_bytes: 1 << 40,
            topic: "a/b".into(),
        }),
    );
    assert_heard(
        Outgoing::Drain {
            deadline_ms: 30_000,
            reconnect_after_ms: 0,
            jitter_ms: 500,
        },
        Heard::Drain(proto::Drain {
            deadline_ms: 30_000,
            jitter_ms: 500,
            ..Default::default()
        }),
    );
}

#[test]
fn what_a_space_holds() {
    assert_heard(
        Outgoing::StateValue {
            id: 3,
            space: "notes/team",
            key: "k",
            value: Some(b"v"),
            revision: 1 << 50,
            source: "a/b/c/d",
        },
        Heard::StateValue(proto::StateValue {
            id: 3,
            space: "notes/team".into(),
            key: "k".into(),
            value: b"v".as_slice().into(),
            revision: 1 << 50,
            exists: true,
            source: "a/b/c/d".into(),
        }),
    );
    assert_heard(
        Outgoing::StateEvent {
            id: 4,
            space: "notes/team",
            key: "k",
            value: b"",
            revision: 9,
            change: StateChange::Delete,
            source: "",
            time_unix_nanos: 77,
        },
        Heard::StateEvent(proto::StateEvent {
            id: 4,
            space: "notes/team".into(),
            key: "k".into(),
            revision: 9,
            change: proto::StateChange::Delete.into(),
            time_unix_nanos: 77,
            ..Default::default()
        }),
    );
}

#[test]
fn stream_control() {
    assert_heard(
        Outgoing::StreamEnded {
            stream: 4,
            code: Code::Unavailable,
            message: "the peer is gone",
        },
        Heard::StreamClose(proto::StreamClose {
            stream: 4,
            code: proto::Code::Unavailable.into(),
            message: "the peer is gone".into(),
        }),
    );
    assert_heard(
        Outgoing::StreamCredit {
            stream: 3,
            bytes: 1 << 20,
        },
        Heard::StreamCredit(proto::StreamCredit {
            stream: 3,
            bytes: 1 << 20,
        }),
    );
}

#[test]
fn cancels() {
    let what = Some(proto::cancel::What::Request(0));
    assert_heard(
        Outgoing::CancelRequest { request: 0 },
        Heard::Cancel(proto::Cancel { what }),
    );
    let what = Some(proto::cancel::What::Introduction(7));
    assert_heard(
        Outgoing::CancelIntroduction { introduction: 7 },
        Heard::Cancel(proto::Cancel { what }),
    );
}

#[test]
fn the_senders_bytes_travel_unchanged() {
    let body = [0x0a, 0x01, b't', 0x12, 0x02, 0xff, 0xfe];
    let outgoing = Outgoing::Notify {
        body: &body,
        source: "s",
        sequence: 1,
        time_unix_nanos: 2,
    };
    let bytes = encode(&mut AgpEncoder::default(), &outgoing);
    assert_eq!(bytes[..2], [4 << 3 | 2, bytes.len() as u8 - 2]);
    assert_eq!(bytes[2..9], body);
    assert_eq!(
        bytes[9..],
        *b"\x82\x01\x01s\x88\x01\x01\x91\x01\x02\0\0\0\0\0\0\0"
    );
}

#[test]
fn a_run_can_be_cut_at_every_message() {
    let mut encoder = AgpEncoder::default();
    let payloads: Vec<Vec<u8>> = [0usize, 1, 200, 70_000, 5].map(|length| vec![7; length]).into();
    for body in &payloads {
        // An unknown field of the payload's length makes a body of it.
        let mut message = Vec::new();
        support::sized(&mut message, 30, body);
        encoder.append(
            Dialect::Agp,
            &Outgoing::Chunk {
                body: &message,
                stream: 1,
            },
        );
    }
    let pending = encoder.pending();
    let mut run = encoder.take();
    assert_eq!((run.len(), encoder.pending()), (pending, 0));
    for body in &payloads {
        let first = run.split_to(AgpEncoder::first_len(Dialect::Agp, &run));
        assert!(first.len() > body.len() && first.len() < body.len() + 32);
    }
    assert!(run.is_empty());
}

#[test]
fn an_owned_body_is_a_copy_and_leaves_the_run_alone() {
    let mut encoder = AgpEncoder::default();
    encoder.append(Dialect::Agp, &Outgoing::CancelRequest { request: 1 });
    let pending = encoder.pending();
    let owned = encoder.own(b"inner");
    assert_eq!((&*owned, encoder.pending()), (&b"inner"[..], pending));
}
