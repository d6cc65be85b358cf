//! A server's ordinary life.

use ringgate_http2::frame::{Kind, PREFACE, flags, settings::Settings};
use ringgate_http2::{Config, ErrorCode, Header};

use crate::peer::*;

const OK: [Header<'static>; 2] = [
    Header::new(b":status", b"200"),
    Header::new(b"content-type", b"application/grpc"),
];
const TRAILERS: [Header<'static>; 1] = [Header::new(b"grpc-status", b"0")];

#[test]
fn it_announces_its_settings_first() {
    let mut server = Conversation::new_server(Config::default());
    let settings = Settings {
        header_table_bytes: Some(4096),
        enable_push: None,
        streams_max: Some(2048),
        stream_window_bytes: Some(1 << 20),
        frame_bytes_max: Some(16_384),
        header_list_bytes_max: Some(16_384),
    };
    let window = Said::WindowUpdate {
        stream: 0,
        increment: (4 << 20) - 65_535,
    };
    assert_eq!(server.said(), [Said::Settings(settings), window]);
    assert_eq!(server.peer_says(PREFACE), []);
    assert_eq!(server.said(), []);
    assert_eq!(
        server.peer_says(&crate::peer::settings(&[(3, 5), (4, 100), (5, 20_000), (6, 900)])),
        []
    );
    assert_eq!(server.said(), [Said::SettingsAck]);
    assert_eq!(server.connection.max_frame_size(), 20_000);
    assert_eq!(server.connection.peer_streams_max(), 5);
    assert_eq!(server.connection.peer_header_list_bytes_max(), Some(900));
}

#[test]
fn a_call_with_bodies_and_trailers() {
    let mut server = Conversation::server();
    let heard = server.peer_says(&request(1, false));
    let [
        Heard::Headers {
            key,
            stream: 1,
            headers,
            end: false,
        },
    ] = &heard[..]
    else {
        panic!("{heard:?}")
    };
    let key = *key;
    assert_eq!(headers.path(), Some(&b"/s/m"[..]));
    assert_eq!(headers.authority(), Some(&b"gate"[..]));

    assert_eq!(server.connection.send_capacity(key), 0, "no body before headers");
    server.connection.send_headers(key, &OK, false);
    let ok = [(":status", "200"), ("content-type", "application/grpc")];
    assert_eq!(server.said(), [said_headers(1, &ok, false)]);

    let body = [data(1, b"hello", false), data(1, b" world", true)].concat();
    assert_eq!(
        server.peer_says(&body),
        [heard_data(1, b"hello", false), heard_data(1, b" world", true)]
    );

    assert_eq!(server.connection.send_capacity(key), 65_535);
    assert_eq!(server.connection.data(key, 5, false), [0, 0, 5, 0, 0, 0, 0, 0, 1]);
    server.connection.send_headers(key, &TRAILERS, true);
    assert_eq!(server.said(), [said_headers(1, &[("grpc-status", "0")], true)]);
    assert_eq!(server.connection.active_streams(), 0);
    server.connection.forget(key);
    assert_eq!(server.said(), []);
}

#[test]
fn requests_may_have_trailers() {
    let mut server = Conversation::server();
    server.peer_opens(1);
    let trailers = headers(1, &block(&[("checksum", "1")]), true);
    let heard = server.peer_says(&[data(1, b"x", false), trailers].concat());
    let [Heard::Data { .. }, Heard::Trailers { stream: 1, headers }] = &heard[..] else {
        panic!("{heard:?}")
    };
    assert_eq!(headers.get(b"checksum"), Some(&b"1"[..]));
}

#[test]
fn a_body_arrives_in_the_pieces_it_came_in() {
    let mut server = Conversation::server();
    server.peer_opens(1);
    let frame = data(1, b"abcdef", true);
    assert_eq!(server.peer_says(&frame[..11]), [heard_data(1, b"ab", false)]);
    assert_eq!(server.peer_says(&frame[11..14]), [heard_data(1, b"cde", false)]);
    assert_eq!(server.peer_says(&frame[14..]), [heard_data(1, b"f", true)]);
}

#[test]
fn padding_is_not_part_of_the_body() {
    let mut server = Conversation::server();
    server.peer_opens(1);
    let padded = raw(Kind::DATA, flags::PADDED | flags::END_STREAM, 1, b"\x03ab\0\0\0");
    let heard: Vec<_> = padded.chunks(1).flat_map(|byte| server.peer_says(byte)).collect();
    assert_eq!(heard, [heard_data(1, b"a", false), heard_data(1, b"b", true)]);
}

#[test]
fn an_empty_body_ends_the_stream() {
    let mut server = Conversation::server();
    server.peer_opens(1);
    assert_eq!(server.peer_says(&data(1, b"", true)), [heard_data(1, b"", true)]);
    server.peer_opens(3);
    let padding_only = raw(Kind::DATA, flags::PADDED | flags::END_STREAM, 3, b"\x02\0\0");
    assert_eq!(server.peer_says(&padding_only), [heard_data(3, b"", true)]);
}

#[test]
fn a_header_block_may_come_in_continuations() {
    let mut server = Conversation::server();
    let block = request_with(&[("x", "y")]);
    let frames = [
        raw(Kind::HEADERS, flags::END_STREAM, 1, &block[..2]),
        raw(Kind::CONTINUATION, 0, 1, &block[2..2]),
        raw(Kind::CONTINUATION, 0, 1, &block[2..7]),
        raw(Kind::CONTINUATION, flags::END_HEADERS, 1, &block[7..]),
    ];
    let heard = server.peer_says(&frames.concat());
    assert!(
        matches!(&heard[..], [Heard::Headers { stream: 1, end: true, headers, .. }] if headers.len() == 5)
    );
}

#[test]
fn long_header_blocks_are_sent_in_continuations() {
    let mut server = Conversation::server();
    let key = server.peer_opens(1);
    let value = "v".repeat(40_000);
    server
        .connection
        .send_headers(key, &[OK[0], Header::new(b"long", value.as_bytes())], true);
    assert_eq!(
        server.said(),
        [said_headers(1, &[(":status", "200"), ("long", &value)], true)]
    );
}

#[test]
fn interim_responses_leave_the_final_one_to_come() {
    let mut server = Conversation::server();
    let key = server.peer_opens(1);
    server
        .connection
        .send_headers(key, &[Header::new(b":status", b"103")], false);
    assert!(!server.connection.can_send(key));
    server.connection.send_headers(key, &OK[..1], false);
    assert!(server.connection.can_send(key));
}

#[test]
fn a_reset_by_the_peer_is_told_and_silences_the_stream() {
    let mut server = Conversation::server();
    let key = server.peer_opens(1);
    assert_eq!(
        server.peer_says(&rst(1, ErrorCode::CANCEL)),
        [heard_reset(1, ErrorCode::CANCEL, true)]
    );
    server.connection.send_headers(key, &OK, false);
    server.connection.reset(key, ErrorCode::INTERNAL_ERROR);
    assert_eq!(server.connection.send_capacity(key), 0);
    assert_eq!(server.said(), [], "nothing is said on a stream that is over");
    server.connection.forget(key);
}

#[test]
fn a_reset_by_the_application_ignores_what_is_in_flight() {
    let mut server = Conversation::server();
    let key = server.peer_opens(1);
    // In the middle of a DATA frame.
    let frame = data(1, b"abcdef", false);
    assert_eq!(server.peer_says(&frame[..10]), [heard_data(1, b"a", false)]);
    server.connection.reset(key, ErrorCode::CANCEL);
    server.connection.forget(key);
    let in_flight = [
        &frame[10..],
        &data(1, b"more", false)[..],
        &window_update(1, 5)[..],
        &headers(1, &block(&[("t", "1")]), true)[..],
        &rst(1, ErrorCode::CANCEL)[..],
    ];
    assert_eq!(server.peer_says(&in_flight.concat()), []);
    assert_eq!(
        server.said(),
        [Said::Reset {
            stream: 1,
            code: ErrorCode::CANCEL
        }]
    );
    let reused = server.peer_opens(3);
    assert_eq!(reused, key);
}

#[test]
fn an_answered_stream_that_is_forgotten_tells_the_client_to_stop() {
    let mut server = Conversation::server();
    let key = server.peer_opens(1);
    server.connection.send_headers(key, &OK[..1], true);
    server.connection.forget(key);
    let stop = Said::Reset {
        stream: 1,
        code: ErrorCode::NO_ERROR,
    };
    assert_eq!(
        server.said(),
        [said_headers(1, &[(":status", "200")], true), stop]
    );
    let key = server.peer_opens(3);
    server.connection.forget(key);
    assert_eq!(
        server.said(),
        [Said::Reset {
            stream: 3,
            code: ErrorCode::CANCEL
        }]
    );
}

#[test]
fn pings_are_answered_and_asked() {
    let mut server = Conversation::server();
    assert_eq!(server.peer_says(&ping(b"abcdefgh", false)), []);
    assert_eq!(server.said(), [Said::PingAck(*b"abcdefgh")]);
    server.connection.ping(*b"12345678");
    assert_eq!(server.said(), [Said::Ping(*b"12345678")]);
    assert_eq!(
        server.peer_says(&ping(b"12345678", true)),
        [Heard::Pong(*b"12345678")]
    );
    assert_eq!(server.peer_says(&ping(b"12345678", true)), [], "nobody asked");
}

#[test]
fn unknown_frames_settings_and_priority_are_ignored() {
    let mut server = Conversation::server();
    server.peer_opens(1);
    let noise = [
        raw(Kind(0x10), 0xff, 0, b"0123456789"),
        raw(Kind(0xfe), 0, 1, b""),
        settings(&[(0xfff0, 7)]),
        raw(Kind::PRIORITY, 0, 9, &[0, 0, 0, 1, 16]),
        raw(Kind::GOAWAY, 0, 0, &[0; 8]),
    ];
    let heard = server.peer_says(&noise.concat());
    assert_eq!(
        heard,
        [Heard::GoAway {
            last: 0,
            code: ErrorCode::NO_ERROR
        }]
    );
    assert_eq!(
        server.peer_says(&data(1, b"x", true)),
        [heard_data(1, b"x", true)]
    );
}

#[test]
fn headers_with_priority_and_padding_open_a_stream() {
    let mut server = Conversation::server();
    let payload = [&[2, 0x80, 0, 0, 0, 16][..], &request_with(&[]), &[0, 0]].concat();
    let all = flags::END_HEADERS | flags::END_STREAM | flags::PADDED | flags::PRIORITY;
    let heard = server.peer_says(&raw(Kind::HEADERS, all, 1, &payload));
    assert!(matches!(
        &heard[..],
        [Heard::Headers {
            stream: 1,
            end: true,
            ..
        }]
    ));
}

#[test]
fn a_header_list_too_large_is_answered_431_and_the_connection_lives() {
    let mut server = Conversation::server();
    let value = "v".repeat(9000);
    let block = request_with(&[("a", &value), ("b", &value)]);
    assert_eq!(server.peer_says(&headers(1, &block, true)), []);
    assert_eq!(server.said(), [said_headers(1, &[(":status", "431")], true)]);
    assert_eq!(server.peer_says(&headers(3, &block, false)), []);
    let stop = Said::Reset {
        stream: 3,
        code: ErrorCode::NO_ERROR,
    };
    assert_eq!(
        server.said(),
        [said_headers(3, &[(":status", "431")], true), stop]
    );
    assert_eq!(server.peer_says(&data(3, b"in flight", true)), []);
    server.peer_opens(5);
    let trailers = headers(5, &crate::peer::block(&[("a", &value), ("b", &value)]), true);
    assert_eq!(
        server.peer_says(&trailers),
        [heard_reset(5, ErrorCode::ENHANCE_YOUR_CALM, false)]
    );
}

#[test]
fn a_lowered_table_of_the_peer_is_taken_up() {
    let mut server = Conversation::server();
    let key = server.peer_opens(1);
    server.peer_says(&settings(&[(1, 0)]));
    server.said();
    server.connection.send_headers(key, &OK[..1], true);
    assert_eq!(&server.connection.output()[9..], b"\x20\x88");
}
