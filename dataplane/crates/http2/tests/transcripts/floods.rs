//! Floods are answered with ENHANCE_YOUR_CALM; busy but honest peers are served.

use std::time::Duration;

use ringgate_http2::frame::{Kind, flags};
use ringgate_http2::{Config, ErrorCode, Header, Violation};

use crate::peer::*;

const OK: [Header<'static>; 1] = [Header::new(b":status", b"200")];

/// Says `frame(i)` for growing `i` until the connection is lost, while the peer reads all answers. Gives the violation and
/// how many frames it took.
fn flood(server: &mut Conversation, limit: u32, frame: impl Fn(u32) -> Vec<u8>) -> (Violation, u32) {
    for index in 0..limit {
        match server.try_peer_says(&frame(index)) {
            Ok(heard) => {
                for event in heard {
                    if let Heard::Headers { key, .. } = event {
                        server.connection.send_headers(key, &OK, false);
                    }
                }
                server.said();
            }
            Err(error) => {
                assert_eq!(error.code(), ErrorCode::ENHANCE_YOUR_CALM);
                return (error.violation(), index);
            }
        }
    }
    panic!("{limit} frames were taken");
}

#[test]
fn frames_that_carry_nothing() {
    type Frame = fn(u32) -> Vec<u8>;
    let cases: [(&str, Frame); 10] = [
        ("PING", |_| ping(&[0; 8], false)),
        ("unasked PING ACK", |_| ping(&[0; 8], true)),
        ("SETTINGS", |_| settings(&[(4, 100_000)])),
        ("unasked SETTINGS ACK", |_| settings_ack()),
        ("PRIORITY", |index| raw(Kind::PRIORITY, 0, 2 * index + 3, &[0; 5])),
        ("unknown", |_| raw(Kind(0x42), 0, 0, b"x")),
        ("WINDOW_UPDATE", |_| window_update(0, 1)),
        ("empty DATA", |_| data(1, b"", false)),
        ("DATA of one byte", |_| data(1, b"x", false)),
        ("DATA of four bytes, padded", |_| {
            raw(Kind::DATA, flags::PADDED, 1, b"\x02xxxx\0\0")
        }),
    ];
    for (name, frame) in cases {
        let mut server = Conversation::server();
        server.peer_opens(1);
        let (violation, frames) = flood(&mut server, 10_000, frame);
        assert_eq!(violation, Violation::OverheadFlood, "{name}");
        assert!((100..=2100).contains(&frames), "{name}: {frames}");
    }
}

#[test]
fn rapid_reset() {
    let mut server = Conversation::server();
    let cancel = |index| {
        [
            request(2 * index + 1, false),
            rst(2 * index + 1, ErrorCode::CANCEL),
        ]
        .concat()
    };
    assert_eq!(flood(&mut server, 5000, cancel), (Violation::ResetFlood, 1000));
}

#[test]
fn tiny_frames_on_a_cut_stream() {
    let mut server = Conversation::server();
    let key = server.peer_opens(1);
    server.connection.reset(key, ErrorCode::CANCEL);
    let (violation, frames) = flood(&mut server, 10_000, |_| data(1, b"x", false));
    assert_eq!(violation, Violation::OverheadFlood);
    assert!((1900..=2100).contains(&frames), "{frames}");
}

#[test]
fn made_you_reset() {
    let mut server = Conversation::server();
    let broken = |index| [request(2 * index + 1, false), window_update(2 * index + 1, 0)].concat();
    assert_eq!(flood(&mut server, 5000, broken), (Violation::ErrorFlood, 100));
    let mut server = Conversation::server();
    let malformed = |index| headers(2 * index + 1, &block(&[(":method", "GET")]), true);
    assert_eq!(flood(&mut server, 5000, malformed), (Violation::ErrorFlood, 100));
}

#[test]
fn streams_above_the_limit() {
    let mut server = Conversation::server();
    let (violation, streams) = flood(&mut server, 50_000, |index| request(2 * index + 1, false));
    assert_eq!(violation, Violation::RefusalFlood);
    assert!(
        (12_048..13_000).contains(&streams),
        "{streams}: time passes a little"
    );
    assert_eq!(server.connection.active_streams(), 2048);
}

#[test]
fn continuation() {
    let begin = raw(Kind::HEADERS, 0, 1, &request_with(&[]));
    let more = raw(Kind::CONTINUATION, 0, 1, b"");
    let mut server = Conversation::server();
    let bytes = [begin.clone(), more.repeat(33)].concat();
    assert_eq!(server.peer_loses_connection(&bytes), Violation::HeaderBlockFrames);
    let long = raw(Kind::CONTINUATION, 0, 1, &[0; 16_384]);
    let bytes = [begin, long.repeat(4)].concat();
    assert_eq!(
        Conversation::server().peer_loses_connection(&bytes),
        Violation::HeaderBlockBytes
    );
}

#[test]
fn hpack_bomb() {
    // One entry of almost the whole table, then a thousand references to it.
    let value = "v".repeat(4000);
    let mut bomb = request_with(&[]);
    bomb.extend_from_slice(b"\x40\x01x\x7f\xa1\x1e");
    bomb.extend_from_slice(value.as_bytes());
    bomb.extend_from_slice(&[0xbe; 10_000]);
    let mut server = Conversation::server();
    assert_eq!(server.peer_says(&headers(1, &bomb, true)), []);
    assert_eq!(server.said(), [said_headers(1, &[(":status", "431")], true)]);
    server.peer_opens(3);
}

#[test]
fn settings_in_bulk() {
    let entries = vec![(4, 1000); 65];
    assert_eq!(
        Conversation::server().peer_loses_connection(&settings(&entries)),
        Violation::SettingsEntries
    );
}

#[test]
fn a_peer_that_does_not_read() {
    let config = Config {
        output_bytes_max: 16 << 10,
        ..Config::default()
    };
    let mut server = Conversation::server_with(config);
    let violation = server.peer_loses_connection(&ping(&[0; 8], false).repeat(1500));
    assert_eq!(violation, Violation::OutputFlood);
}

#[test]
fn a_dribbling_reader_earns_nothing() {
    let mut server = Conversation::server();
    server.peer_says(&settings(&[(4, 0)]));
    let key = server.peer_opens(1);
    server.connection.send_headers(key, &OK, false);
    for round in 0..3000 {
        if let Err(error) = server.try_peer_says(&window_update(1, 1)) {
            assert_eq!(error.violation(), Violation::OverheadFlood);
            assert!(round > 1900);
            return;
        }
        server.connection.data(key, 1, false);
    }
    panic!("3000 bytes were pulled one by one");
}

#[test]
fn two_hundred_quick_cancels_are_served_again_and_again() {
    let mut server = Conversation::server();
    for round in 0..20 {
        for index in 0..200 {
            let stream = 2 * (round * 200 + index) + 1;
            let heard = server.peer_says(&[request(stream, false), rst(stream, ErrorCode::CANCEL)].concat());
            let Heard::Headers { key, .. } = heard[0] else {
                panic!("{heard:?}")
            };
            server.connection.forget(key);
        }
        server.later(Duration::from_secs(2));
    }
}

#[test]
fn cancels_of_streams_that_were_of_use_cost_nothing() {
    let mut server = Conversation::server();
    for index in 0..10_000 {
        let key = server.peer_opens(2 * index + 1);
        server.connection.send_headers(key, &OK, false);
        server.connection.data(key, 1, false);
        server.peer_says(&[rst(2 * index + 1, ErrorCode::CANCEL), window_update(0, 1)].concat());
        server.connection.forget(key);
        server.said();
    }
}

#[test]
fn thousands_of_small_messages_on_one_stream_are_served() {
    let mut server = Conversation::server();
    server.peer_opens(1);
    let messages = data(1, b"\0\0\0\0\x01x", false).repeat(50_000);
    assert_eq!(server.peer_says(&messages).len(), 50_000);
}

#[test]
fn messages_framed_in_two_are_served() {
    let mut server = Conversation::server();
    server.peer_opens(1);
    let message = [data(1, b"\0\0\0\0\x01", false), data(1, b"x", false)].concat();
    assert_eq!(server.peer_says(&message.repeat(50_000)).len(), 100_000);
}

#[test]
fn tiny_bodies_that_end_their_streams_are_served() {
    let mut server = Conversation::server();
    for index in 0..10_000 {
        let key = server.peer_opens(2 * index + 1);
        server.peer_says(&data(2 * index + 1, b"x", true));
        server.connection.send_headers(key, &OK, true);
        server.connection.forget(key);
        server.said();
    }
}

#[test]
fn a_thousand_streams_at_once_are_served() {
    let mut server = Conversation::server();
    let opening: Vec<u8> = (0..1000)
        .flat_map(|index| [request(2 * index + 1, false), window_update(2 * index + 1, 9)].concat())
        .collect();
    assert_eq!(server.peer_says(&opening).len(), 1000);
    assert_eq!(server.connection.active_streams(), 1000);
}

#[test]
fn a_reader_that_returns_credit_for_each_message_is_served() {
    let mut server = Conversation::server();
    let key = server.peer_opens(1);
    server.connection.send_headers(key, &OK, false);
    for _ in 0..20_000 {
        server.connection.data(key, 100, false);
        server.peer_says(&[window_update(1, 100), window_update(0, 100)].concat());
    }
}

#[test]
fn empty_frames_between_messages_are_served() {
    let mut server = Conversation::server();
    server.peer_opens(1);
    for _ in 0..10_000 {
        let message = data(1, b"\0\0\0\0\x01x", false);
        server.peer_says(&[message, raw(Kind::DATA, flags::PADDED, 1, &[0])].concat());
    }
}
