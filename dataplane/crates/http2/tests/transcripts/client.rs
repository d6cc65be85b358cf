//! The client's role.

use ringgate_http2::frame::{Kind, flags};
use ringgate_http2::{ErrorCode, Header, OpenError, StreamKey, Violation};

use crate::peer::*;

const POST: [Header<'static>; 4] = [
    Header::new(b":method", b"POST"),
    Header::new(b":scheme", b"http"),
    Header::new(b":path", b"/s/m"),
    Header::new(b":authority", b"gate"),
];

fn response(stream: u32, status: &str, end: bool) -> Vec<u8> {
    headers(stream, &block(&[(":status", status)]), end)
}

fn opened(client: &mut Conversation) -> StreamKey {
    let key = client.connection.open(&POST, false).unwrap();
    client.said();
    key
}

#[test]
fn a_call_in_full() {
    let mut client = Conversation::client();
    let key = client.connection.open(&POST, false).unwrap();
    assert_eq!(client.said(), [said_headers(1, &REQUEST, false)]);
    assert_eq!(client.connection.data(key, 3, true), [0, 0, 3, 0, 1, 0, 0, 0, 1]);
    let heard = client.peer_says(&[response(1, "103", false), response(1, "200", false)].concat());
    assert!(matches!(
        &heard[..],
        [
            Heard::Informational { stream: 1, .. },
            Heard::Headers {
                stream: 1,
                end: false,
                ..
            }
        ]
    ));
    let trailers = headers(1, &block(&[("grpc-status", "0")]), true);
    let heard = client.peer_says(&[data(1, b"abc", false), trailers].concat());
    assert!(matches!(&heard[..], [Heard::Data { .. }, Heard::Trailers { .. }]));
    assert_eq!(client.connection.active_streams(), 0);
    client.connection.forget(key);
    assert_eq!(client.said(), []);
    opened(&mut client);
    assert_eq!(client.connection.stream_id(key).get(), 3, "the key is used again");
}

#[test]
fn the_servers_limit_is_kept() {
    let mut client = Conversation::client();
    client.peer_says(&settings(&[(3, 1)]));
    let key = opened(&mut client);
    assert_eq!(
        client.connection.open(&POST, true),
        Err(OpenError::TooManyStreams { limit: 1 })
    );
    client.connection.reset(key, ErrorCode::CANCEL);
    opened(&mut client);
}

#[test]
fn going_away_refuses_the_streams_above() {
    let mut client = Conversation::client();
    opened(&mut client);
    opened(&mut client);
    opened(&mut client);
    assert_eq!(
        client.peer_says(&go_away(1, ErrorCode::NO_ERROR)),
        [
            Heard::GoAway {
                last: 1,
                code: ErrorCode::NO_ERROR
            },
            heard_reset(5, ErrorCode::REFUSED_STREAM, true),
            heard_reset(3, ErrorCode::REFUSED_STREAM, true),
        ]
    );
    assert_eq!(client.connection.open(&POST, true), Err(OpenError::GoingAway));
    assert!(!client.connection.is_drained());
    assert_eq!(
        client.peer_says(&response(1, "200", true)).len(),
        1,
        "the first goes on"
    );
}

#[test]
fn an_early_response_stops_the_request() {
    let mut client = Conversation::client();
    let key = opened(&mut client);
    let heard = client.peer_says(&[response(1, "200", true), rst(1, ErrorCode::NO_ERROR)].concat());
    assert!(matches!(
        &heard[..],
        [
            Heard::Headers { end: true, .. },
            Heard::Reset { by_peer: true, .. }
        ]
    ));
    assert!(!client.connection.can_send(key));
}

#[test]
fn rules_for_servers() {
    let broken = |bytes: &[u8]| {
        let mut client = Conversation::client();
        opened(&mut client);
        client.peer_loses_connection(bytes)
    };
    assert_eq!(
        broken(&raw(Kind::PUSH_PROMISE, flags::END_HEADERS, 1, &[0; 4])),
        Violation::Push
    );
    assert_eq!(broken(&settings(&[(2, 1)])), Violation::SettingValue);
    assert_eq!(broken(&response(2, "200", true)), Violation::StreamId);
    assert_eq!(broken(&response(3, "200", true)), Violation::StreamId);
    assert_eq!(broken(&data(3, b"x", false)), Violation::IdleStream);
}

#[test]
fn malformed_responses_reset_the_stream() {
    let reset = |bytes: &[Vec<u8>]| {
        let mut client = Conversation::client();
        opened(&mut client);
        let heard = client.peer_says(&bytes.concat());
        assert_eq!(
            heard.last(),
            Some(&heard_reset(1, ErrorCode::PROTOCOL_ERROR, false)),
            "{heard:?}"
        );
    };
    reset(&[headers(1, &block(&[("server", "x")]), true)]);
    reset(&[response(1, "101", false)]);
    reset(&[response(1, "100", true)]);
    reset(&[data(1, b"before headers", false)]);
    reset(&[response(1, "200", false), response(1, "200", false)]);
    reset(&[headers(
        1,
        &block(&[(":status", "200"), ("content-length", "3")]),
        true,
    )]);
    reset(&[
        headers(1, &block(&[(":status", "200"), ("content-length", "3")]), false),
        data(1, b"x", true),
    ]);
}

#[test]
fn responses_without_body_may_have_a_length() {
    let mut client = Conversation::client();
    let head = [Header::new(b":method", b"HEAD"), POST[1], POST[2]];
    client.connection.open(&head, true).unwrap();
    opened(&mut client);
    let with_length = |status| block(&[(":status", status), ("content-length", "3")]);
    let heard = client.peer_says(
        &[
            headers(1, &with_length("200"), true),
            headers(3, &with_length("304"), true),
        ]
        .concat(),
    );
    assert!(matches!(
        &heard[..],
        [Heard::Headers { .. }, Heard::Headers { .. }]
    ));
}
