//! Rules of RFC 9113 that a peer may break, by section. Each ends the stream or the connection with the code the RFC names.

use ringgate_http2::frame::{Kind, PREFACE, flags};
use ringgate_http2::hpack::DecodeError;
use ringgate_http2::{Config, ErrorCode, Header, Violation};

use crate::peer::*;

/// The bytes, said to a fresh server, end the connection.
#[track_caller]
fn connection_error(bytes: &[Vec<u8>], violation: Violation) {
    assert_eq!(
        Conversation::server().peer_loses_connection(&bytes.concat()),
        violation
    );
}

/// The bytes, said to a fresh server, reset stream 1 and leave the connection alone.
#[track_caller]
fn stream_error(bytes: &[Vec<u8>], code: ErrorCode) {
    let mut server = Conversation::server();
    let heard = server.peer_says(&bytes.concat());
    let told = heard
        .iter()
        .any(|event| matches!(event, Heard::Headers { stream: 1, .. }));
    let reset = heard.contains(&heard_reset(1, code, false));
    assert_eq!(
        told, reset,
        "the application hears of the end of what it knew: {heard:?}"
    );
    let said = server.said();
    assert!(said.contains(&Said::Reset { stream: 1, code }), "{said:?}");
    assert_eq!(server.connection.active_streams(), 0);
    server.peer_opens(5);
}

#[test]
fn s3_4_preface_and_settings_come_first() {
    let new = || Conversation::new_server(Config::default());
    assert_eq!(
        new().peer_loses_connection(b"GET / HTTP/1.1\r\n"),
        Violation::Preface
    );
    assert_eq!(
        new().peer_loses_connection(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rx"),
        Violation::Preface
    );
    let preface = |frame: Vec<u8>| [&PREFACE[..], &frame].concat();
    assert_eq!(
        new().peer_loses_connection(&preface(request(1, true))),
        Violation::FirstFrame
    );
    assert_eq!(
        new().peer_loses_connection(&preface(settings_ack())),
        Violation::FirstFrame
    );
    assert_eq!(
        new().peer_loses_connection(&preface(data(1, b"", false))),
        Violation::FirstFrame
    );
    let mut server = new();
    for byte in preface(settings(&[])).chunks(1) {
        assert_eq!(server.peer_says(byte), []);
    }
    server.peer_opens(1);
}

#[test]
fn s4_2_frame_size() {
    connection_error(
        &[request(1, false), data(1, &[0; 16_385], false)],
        Violation::FrameTooLong,
    );
    connection_error(&[headers(1, &[0; 16_385], false)], Violation::FrameTooLong);
    let config = Config {
        frame_bytes_max: 100_000,
        ..Config::default()
    };
    let mut server = Conversation::server_with(config);
    server.peer_opens(1);
    assert_eq!(
        server.peer_says(&data(1, &[7; 100_000], false)),
        [heard_data(1, &[7; 100_000], false)]
    );
}

#[test]
fn s4_3_header_compression() {
    let violation = |block: &[u8]| {
        Conversation::server().peer_loses_connection(&headers(1, &[&request_with(&[]), block].concat(), true))
    };
    assert_eq!(violation(b"\x80"), Violation::Compression(DecodeError::Index));
    assert_eq!(
        violation(b"\xff\xff\xff\xff\xff\x7f"),
        Violation::Compression(DecodeError::IntegerOverflow)
    );
    assert_eq!(
        violation(b"\x00\x05abc"),
        Violation::Compression(DecodeError::Truncated)
    );
    assert_eq!(
        violation(b"\x20"),
        Violation::Compression(DecodeError::SizeUpdate)
    );
    assert_eq!(
        violation(b"\x00\x01x\x84\xff\xff\xff\xff"),
        Violation::Compression(DecodeError::Huffman)
    );
}

#[test]
fn s4_3_a_lowered_table_must_be_taken_up_once_acknowledged() {
    let config = Config {
        header_table_bytes_max: 100,
        ..Config::default()
    };
    let mut server = Conversation::server_with(config);
    let missing = Violation::Compression(DecodeError::SizeUpdateMissing);
    assert_eq!(server.peer_loses_connection(&request(1, true)), missing);
    let mut server = Conversation::server_with(config);
    let heard = server.peer_says(&headers(1, &[b"\x3f\x45", &request_with(&[])[..]].concat(), true));
    assert_eq!(heard.len(), 1);
    let mut server = Conversation::server_with(config);
    let too_large = headers(1, &[b"\x3f\x46", &request_with(&[])[..]].concat(), true);
    assert_eq!(
        server.peer_loses_connection(&too_large),
        Violation::Compression(DecodeError::SizeUpdate)
    );
}

#[test]
fn s5_1_idle_streams() {
    connection_error(&[data(1, b"x", false)], Violation::IdleStream);
    connection_error(&[rst(1, ErrorCode::CANCEL)], Violation::IdleStream);
    connection_error(&[window_update(1, 100)], Violation::IdleStream);
    connection_error(
        &[raw(Kind::CONTINUATION, flags::END_HEADERS, 1, b"")],
        Violation::HeaderBlockOrder,
    );
    connection_error(&[request(3, true), data(2, b"x", false)], Violation::IdleStream);
}

#[test]
fn s5_1_half_closed_streams() {
    stream_error(
        &[request(1, true), data(1, b"x", false)],
        ErrorCode::STREAM_CLOSED,
    );
    stream_error(&[request(1, true), request(1, true)], ErrorCode::STREAM_CLOSED);
    let mut server = Conversation::server();
    server.peer_says(
        &[
            request(1, true),
            window_update(1, 10),
            raw(Kind::PRIORITY, 0, 1, &[0; 5]),
        ]
        .concat(),
    );
    assert_eq!(server.said(), [], "these are allowed");
}

#[test]
fn s5_1_closed_streams() {
    let answered = || {
        let mut server = Conversation::server();
        let Some(Heard::Headers { key, .. }) = server.peer_says(&request(1, true)).pop() else {
            panic!()
        };
        server
            .connection
            .send_headers(key, &[Header::new(b":status", b"200")], true);
        server.said();
        server
    };
    let closed = Said::Reset {
        stream: 1,
        code: ErrorCode::STREAM_CLOSED,
    };
    let mut server = answered();
    assert_eq!(server.peer_says(&data(1, b"x", false)), []);
    assert_eq!(server.said(), std::slice::from_ref(&closed));
    assert_eq!(
        answered().peer_loses_connection(&request(1, true)),
        Violation::ClosedStream
    );
    let mut server = answered();
    server.peer_says(
        &[
            window_update(1, 9),
            rst(1, ErrorCode::CANCEL),
            raw(Kind::PRIORITY, 0, 1, &[0; 5]),
        ]
        .concat(),
    );
    assert_eq!(server.said(), [], "these may be late");

    let reset = || {
        let mut server = Conversation::server();
        server.peer_says(&[request(1, false), rst(1, ErrorCode::CANCEL)].concat());
        server
    };
    let mut server = reset();
    server.peer_says(&data(1, b"x", false));
    assert_eq!(server.said(), [closed]);
    assert_eq!(
        reset().peer_loses_connection(&request(1, true)),
        Violation::ClosedStream
    );
}

#[test]
fn s5_1_1_stream_ids() {
    connection_error(&[request(2, true)], Violation::StreamId);
    connection_error(&[request(5, true), request(3, true)], Violation::StreamId);
    connection_error(&[request(0, true)], Violation::NeedsStream);
}

#[test]
fn s5_1_2_concurrent_streams() {
    let mut server = Conversation::server_with(Config {
        streams_max: 2,
        ..Config::default()
    });
    let keys = [server.peer_opens(1), server.peer_opens(3)];
    assert_eq!(
        server.peer_says(&[request(5, false), data(5, b"in flight", true)].concat()),
        []
    );
    assert_eq!(
        server.said(),
        [Said::Reset {
            stream: 5,
            code: ErrorCode::REFUSED_STREAM
        }]
    );
    server.connection.reset(keys[0], ErrorCode::CANCEL);
    server.peer_opens(7);
}

#[test]
fn s5_3_1_self_dependency() {
    let on_itself = [&[0, 0, 0, 1, 16][..], &request_with(&[])].concat();
    let frame = raw(Kind::HEADERS, flags::END_HEADERS | flags::PRIORITY, 1, &on_itself);
    stream_error(&[frame], ErrorCode::PROTOCOL_ERROR);
    stream_error(
        &[request(1, false), raw(Kind::PRIORITY, 0, 1, &[0, 0, 0, 1, 16])],
        ErrorCode::PROTOCOL_ERROR,
    );
    connection_error(
        &[raw(Kind::PRIORITY, 0, 1, &[0, 0, 0, 1, 16])],
        Violation::SelfDependency,
    );
}

#[test]
fn s5_5_unknown_frames_do_not_interrupt_a_header_block() {
    let begun = raw(Kind::HEADERS, 0, 1, &request_with(&[]));
    for other in [
        raw(Kind(0xfa), 0, 0, b"x"),
        ping(&[0; 8], false),
        data(1, b"", false),
        request(3, true),
    ] {
        connection_error(&[begun.clone(), other], Violation::HeaderBlockOrder);
    }
    let on_another = raw(Kind::CONTINUATION, flags::END_HEADERS, 3, b"");
    connection_error(&[begun, on_another], Violation::HeaderBlockOrder);
}

#[test]
fn s6_1_data() {
    connection_error(&[data(0, b"x", false)], Violation::NeedsStream);
    let padded = |payload: &[u8]| raw(Kind::DATA, flags::PADDED, 1, payload);
    connection_error(&[request(1, false), padded(b"\x02a")], Violation::Padding);
    connection_error(&[request(1, false), padded(b"")], Violation::FrameLength);
}

#[test]
fn s6_2_headers() {
    let padded = raw(Kind::HEADERS, flags::END_HEADERS | flags::PADDED, 1, b"\xffa");
    connection_error(&[padded], Violation::Padding);
    let short = raw(Kind::HEADERS, flags::END_HEADERS | flags::PRIORITY, 1, b"\0\0");
    connection_error(&[short], Violation::FrameLength);
}

#[test]
fn s6_3_priority() {
    connection_error(&[raw(Kind::PRIORITY, 0, 0, &[0; 5])], Violation::NeedsStream);
    stream_error(
        &[request(1, false), raw(Kind::PRIORITY, 0, 1, &[0; 4])],
        ErrorCode::FRAME_SIZE_ERROR,
    );
    stream_error(
        &[request(1, false), raw(Kind::PRIORITY, 0, 1, &[0; 6])],
        ErrorCode::FRAME_SIZE_ERROR,
    );
    stream_error(
        &[request(1, false), raw(Kind::PRIORITY, 0, 1, &[])],
        ErrorCode::FRAME_SIZE_ERROR,
    );
}

#[test]
fn s6_4_rst_stream() {
    connection_error(&[raw(Kind::RST_STREAM, 0, 0, &[0; 4])], Violation::NeedsStream);
    connection_error(
        &[request(1, false), raw(Kind::RST_STREAM, 0, 1, &[0; 3])],
        Violation::FrameLength,
    );
}

#[test]
fn s6_5_settings() {
    connection_error(&[raw(Kind::SETTINGS, 0, 1, &[])], Violation::NeedsConnection);
    connection_error(&[raw(Kind::SETTINGS, 0, 0, &[0; 5])], Violation::FrameLength);
    connection_error(
        &[raw(Kind::SETTINGS, flags::ACK, 0, &[0; 6])],
        Violation::FrameLength,
    );
    connection_error(&[settings(&[(2, 2)])], Violation::SettingValue);
    connection_error(&[settings(&[(4, 1 << 31)])], Violation::SettingWindow);
    connection_error(&[settings(&[(5, 16_383)])], Violation::SettingValue);
    connection_error(&[settings(&[(5, 1 << 24)])], Violation::SettingValue);
}

#[test]
fn s6_6_push_promise() {
    connection_error(
        &[raw(Kind::PUSH_PROMISE, flags::END_HEADERS, 1, &[0; 4])],
        Violation::Push,
    );
}

#[test]
fn s6_7_ping() {
    connection_error(&[raw(Kind::PING, 0, 1, &[0; 8])], Violation::NeedsConnection);
    connection_error(&[raw(Kind::PING, 0, 0, &[0; 6])], Violation::FrameLength);
}

#[test]
fn s6_8_goaway() {
    connection_error(&[raw(Kind::GOAWAY, 0, 1, &[0; 8])], Violation::NeedsConnection);
    connection_error(&[raw(Kind::GOAWAY, 0, 0, &[0; 7])], Violation::FrameLength);
}

#[test]
fn s6_9_window_update() {
    connection_error(&[window_update(0, 0)], Violation::WindowIncrement);
    connection_error(&[raw(Kind::WINDOW_UPDATE, 0, 0, &[0; 3])], Violation::FrameLength);
    stream_error(
        &[request(1, false), window_update(1, 0)],
        ErrorCode::PROTOCOL_ERROR,
    );
    connection_error(&[window_update(0, (1 << 31) - 1)], Violation::WindowOverflow);
    stream_error(
        &[request(1, false), window_update(1, (1 << 31) - 1)],
        ErrorCode::FLOW_CONTROL_ERROR,
    );
    let overflow = [
        request(1, false),
        window_update(1, (1 << 31) - 1 - 65_535),
        settings(&[(4, 65_536)]),
    ];
    connection_error(&overflow, Violation::SettingWindow);
}

#[test]
fn s8_1_malformed_messages() {
    let malformed = |fields: &[(&str, &str)]| {
        stream_error(&[headers(1, &block(fields), true)], ErrorCode::PROTOCOL_ERROR);
    };
    let [method, scheme, path, authority] = REQUEST;
    malformed(&[scheme, path, authority]);
    malformed(&[method, path, authority]);
    malformed(&[method, scheme, authority]);
    malformed(&[method, scheme, (":path", "")]);
    malformed(&[method, method, scheme, path]);
    malformed(&[method, scheme, path, ("x", "1"), authority]);
    malformed(&[method, scheme, path, (":status", "200")]);
    malformed(&[method, scheme, path, (":unknown", "1")]);
    malformed(&[method, scheme, path, ("X-Upper", "1")]);
    malformed(&[method, scheme, path, ("connection", "keep-alive")]);
    malformed(&[method, scheme, path, ("te", "trailers, deflate")]);
    malformed(&[method, scheme, path, ("x", "a\rb")]);
    malformed(&[method, scheme, path, ("content-length", "1")]);
}

#[test]
fn s8_1_trailers() {
    let not_the_end = headers(1, &block(&[("t", "1")]), false);
    stream_error(&[request(1, false), not_the_end], ErrorCode::PROTOCOL_ERROR);
    let pseudo = headers(1, &block(&[(":path", "/")]), true);
    stream_error(&[request(1, false), pseudo], ErrorCode::PROTOCOL_ERROR);
}

#[test]
fn s8_1_1_content_length() {
    let of = |length: &str| headers(1, &request_with(&[("content-length", length)]), false);
    stream_error(&[of("1"), data(1, b"test", true)], ErrorCode::PROTOCOL_ERROR);
    stream_error(&[of("9"), data(1, b"test", true)], ErrorCode::PROTOCOL_ERROR);
    stream_error(
        &[of("4"), data(1, b"test", false), data(1, b"test", true)],
        ErrorCode::PROTOCOL_ERROR,
    );
    stream_error(
        &[of("9"), data(1, b"test", false), headers(1, &[], true)],
        ErrorCode::PROTOCOL_ERROR,
    );
    let mut server = Conversation::server();
    let heard = server.peer_says(&[of("8"), data(1, b"test", false), data(1, b"test", true)].concat());
    assert_eq!(heard.len(), 3);
}
