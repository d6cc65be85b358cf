//! Flow control in both directions.

use ringgate_http2::{Config, ErrorCode, Header, StreamKey};

use crate::peer::*;

fn answered(server: &mut Conversation, stream: u32) -> StreamKey {
    let key = server.peer_opens(stream);
    server
        .connection
        .send_headers(key, &[Header::new(b":status", b"200")], false);
    server.said();
    key
}

#[test]
fn stream_credit_returns_when_half_a_window_is_consumed() {
    let config = Config {
        stream_window_bytes: 100_000,
        ..Config::default()
    };
    let mut server = Conversation::server_with(config);
    let key = server.peer_opens(1);
    for _ in 0..10 {
        server.peer_says(&data(1, &[0; 10_000], false));
    }
    server.connection.release(key, 49_999);
    assert_eq!(server.said(), []);
    server.connection.release(key, 1);
    assert_eq!(
        server.said(),
        [Said::WindowUpdate {
            stream: 1,
            increment: 50_000
        }]
    );
    server.peer_says(&data(1, &[0; 10_000], true));
    server.connection.release(key, 60_000);
    assert_eq!(server.said(), [], "the peer has ended its message");
}

#[test]
fn connection_credit_returns_by_itself() {
    let config = Config {
        connection_window_bytes: 65_535,
        ..Config::default()
    };
    let mut server = Conversation::server_with(config);
    server.peer_opens(1);
    for round in 0..100 {
        server.peer_says(&data(1, &[0; 10_000], false));
        let said = server.said();
        let expected = if round % 4 == 3 {
            vec![Said::WindowUpdate {
                stream: 0,
                increment: 40_000,
            }]
        } else {
            vec![]
        };
        assert_eq!(said, expected, "after frame {round}");
    }
}

#[test]
fn a_peer_that_exceeds_a_window_is_stopped() {
    let config = Config {
        stream_window_bytes: 70_000,
        ..Config::default()
    };
    let mut server = Conversation::server_with(config);
    server.peer_opens(1);
    for _ in 0..7 {
        server.peer_says(&data(1, &[0; 10_000], false));
    }
    let heard = server.peer_says(&data(1, b"x", false));
    assert_eq!(heard, [heard_reset(1, ErrorCode::FLOW_CONTROL_ERROR, false)]);
}

#[test]
fn padding_gives_its_credit_back() {
    let config = Config {
        stream_window_bytes: 70_000,
        ..Config::default()
    };
    let mut server = Conversation::server_with(config);
    server.peer_opens(1);
    let frame = raw(
        ringgate_http2::frame::Kind::DATA,
        0x8,
        1,
        &[&[255u8][..], b"x", &[0; 255]].concat(),
    );
    for _ in 0..1000 {
        server.peer_says(&frame);
    }
    let credit: u32 = server
        .said()
        .iter()
        .map(|said| match said {
            Said::WindowUpdate { stream: 1, increment } => *increment,
            _ => 0,
        })
        .sum();
    assert!((200_000..=256_000).contains(&credit), "{credit}");
}

#[test]
fn a_window_below_the_default_holds_once_acknowledged() {
    let config = Config {
        stream_window_bytes: 1000,
        ..Config::default()
    };
    let mut server = Conversation::new_server(config);
    server.peer_says(&[ringgate_http2::frame::PREFACE, &settings(&[])[..]].concat());
    server.peer_opens(1);
    // The peer does not know yet.
    assert_eq!(server.peer_says(&data(1, &[0; 10_000], false)).len(), 1);
    server.peer_says(&settings_ack());
    server.peer_opens(3);
    let heard = server.peer_says(&data(3, &[0; 1001], false));
    assert_eq!(heard, [heard_reset(3, ErrorCode::FLOW_CONTROL_ERROR, false)]);
}

#[test]
fn a_used_up_window_tells_when_it_opens() {
    let mut server = Conversation::server();
    server.peer_says(&settings(&[(4, 10)]));
    let key = answered(&mut server, 1);
    assert_eq!(server.connection.send_capacity(key), 10);
    server.connection.data(key, 4, false);
    assert_eq!(server.peer_says(&window_update(1, 1)), [], "it was not used up");
    server.connection.data(key, 7, false);
    assert_eq!(server.connection.send_capacity(key), 0);
    assert_eq!(
        server.peer_says(&window_update(1, 5)),
        [Heard::Writable(Some(key))]
    );
    assert_eq!(server.connection.send_capacity(key), 5);
}

#[test]
fn a_used_up_connection_window_tells_when_it_opens() {
    let mut server = Conversation::server();
    server.peer_says(&settings(&[(4, 1 << 20)]));
    let key = answered(&mut server, 1);
    assert_eq!(
        server.connection.send_capacity(key),
        65_535,
        "the lesser window counts"
    );
    for len in [16_384, 16_384, 16_384, 16_383] {
        server.connection.data(key, len, false);
    }
    assert_eq!(server.connection.send_capacity(key), 0);
    assert_eq!(
        server.peer_says(&window_update(1, 100)),
        [],
        "the stream's window was not used up"
    );
    assert_eq!(server.peer_says(&window_update(0, 100)), [Heard::Writable(None)]);
    assert_eq!(server.connection.send_capacity(key), 100);
}

#[test]
fn settings_change_the_windows_of_open_streams() {
    let mut server = Conversation::server();
    let key = answered(&mut server, 1);
    server.connection.data(key, 1000, false);
    assert_eq!(server.peer_says(&settings(&[(4, 400)])), []);
    assert_eq!(server.connection.send_capacity(key), 0, "600 below zero");
    assert_eq!(server.peer_says(&window_update(1, 600)), [], "still nothing");
    assert_eq!(server.peer_says(&settings(&[(4, 500)])), [Heard::Writable(None)]);
    assert_eq!(server.connection.send_capacity(key), 100);
    assert_eq!(server.peer_says(&settings(&[(4, 0)])), []);
    let blocked = answered(&mut server, 3);
    assert_eq!(server.connection.send_capacity(blocked), 0);
    assert_eq!(
        server.peer_says(&window_update(3, 1)),
        [Heard::Writable(Some(blocked))]
    );
}
