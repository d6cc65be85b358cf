//! Drain, GOAWAY and deadlines.

use std::time::Duration;

use ringgate_http2::frame::PREFACE;
use ringgate_http2::{Config, ErrorCode, Header, OpenError, Violation};

use crate::peer::*;

const OK: [Header<'static>; 1] = [Header::new(b":status", b"200")];

#[test]
fn a_drain_loses_no_request_on_the_way() {
    let mut server = Conversation::server();
    let first = server.peer_opens(1);
    server.connection.drain();
    let said = server.said();
    let [
        Said::GoAway {
            last: 0x7fff_ffff,
            code: ErrorCode::NO_ERROR,
        },
        Said::Ping(payload),
    ] = said[..]
    else {
        panic!("{said:?}")
    };
    assert!(server.connection.is_draining() && !server.connection.is_drained());
    let on_the_way = server.peer_opens(3);
    assert_eq!(server.peer_says(&ping(&payload, true)), []);
    assert_eq!(
        server.said(),
        [Said::GoAway {
            last: 3,
            code: ErrorCode::NO_ERROR
        }]
    );
    assert_eq!(
        server.peer_says(&[request(5, false), data(5, b"x", true)].concat()),
        [],
        "too late"
    );
    assert_eq!(server.said(), []);
    for key in [first, on_the_way] {
        assert!(!server.connection.is_drained());
        server.connection.send_headers(key, &OK, true);
        server.connection.forget(key);
    }
    assert!(server.connection.is_drained());
}

#[test]
fn a_drain_does_not_wait_for_a_silent_peer() {
    let mut server = Conversation::server();
    server.connection.drain();
    server.said();
    let due = server.connection.next_deadline().unwrap();
    assert_eq!(due - server.now, Config::default().keepalive_timeout);
    server.now = due;
    server.connection.tick(due).unwrap();
    assert_eq!(
        server.said(),
        [Said::GoAway {
            last: 0,
            code: ErrorCode::NO_ERROR
        }]
    );
    assert!(server.connection.is_drained());
}

#[test]
fn a_client_drains_at_once() {
    let mut client = Conversation::client();
    let request = [
        Header::new(b":method", b"GET"),
        Header::new(b":scheme", b"http"),
        Header::new(b":path", b"/"),
    ];
    client.connection.open(&request, true).unwrap();
    client.said();
    client.connection.drain();
    assert_eq!(
        client.said(),
        [Said::GoAway {
            last: 0,
            code: ErrorCode::NO_ERROR
        }]
    );
    assert_eq!(client.connection.open(&request, true), Err(OpenError::GoingAway));
    assert_eq!(
        client
            .peer_says(&headers(1, &block(&[(":status", "200")]), true))
            .len(),
        1
    );
    assert!(client.connection.is_drained());
}

#[test]
fn the_application_may_end_the_connection() {
    let mut server = Conversation::server();
    server.peer_opens(1);
    server.connection.go_away(ErrorCode::INTERNAL_ERROR, b"why");
    assert_eq!(
        server.said(),
        [Said::GoAway {
            last: 1,
            code: ErrorCode::INTERNAL_ERROR
        }]
    );
    assert_eq!(server.peer_says(&request(3, true)), []);
    server.connection.go_away(ErrorCode::NO_ERROR, b"");
    assert_eq!(
        server.said(),
        [Said::GoAway {
            last: 1,
            code: ErrorCode::NO_ERROR
        }],
        "the last stream does not grow"
    );
}

/// Waits for the next deadline, which must end the connection.
#[track_caller]
fn times_out(server: &mut Conversation, after: Duration) -> Violation {
    let due = server.connection.next_deadline().expect("there is a deadline");
    assert_eq!(due - server.now, after);
    assert_eq!(server.connection.tick(due - Duration::from_nanos(1)), Ok(()));
    let error = server.connection.tick(due).expect_err("the deadline has passed");
    assert!(matches!(server.said().pop(), Some(Said::GoAway { code, .. }) if code == error.code()));
    assert_eq!(server.connection.next_deadline(), None);
    error.violation()
}

const SECONDS_10: Duration = Duration::from_secs(10);

#[test]
fn a_preface_must_come_in_time() {
    let mut server = Conversation::new_server(Config::default());
    server.peer_says(&PREFACE[..20]);
    assert_eq!(times_out(&mut server, SECONDS_10), Violation::PrefaceTimeout);
}

#[test]
fn settings_must_be_acknowledged_in_time() {
    let mut server = Conversation::new_server(Config::default());
    server.peer_says(&[PREFACE, &settings(&[])[..]].concat());
    assert_eq!(times_out(&mut server, SECONDS_10), Violation::SettingsTimeout);
}

#[test]
fn a_frame_must_be_completed_in_time_however_it_dribbles() {
    for cut in [1, 9, 12] {
        let mut server = Conversation::server();
        let frame = request(1, true);
        server.peer_says(&frame[..cut]);
        server.later(Duration::from_secs(9));
        server.peer_says(&frame[cut..cut + 1]);
        assert_eq!(
            times_out(&mut server, Duration::from_secs(1)),
            Violation::FrameTimeout
        );
    }
}

#[test]
fn a_header_block_must_be_completed_in_time() {
    let mut server = Conversation::server();
    server.peer_says(&raw(
        ringgate_http2::frame::Kind::HEADERS,
        0,
        1,
        &request_with(&[]),
    ));
    assert_eq!(times_out(&mut server, SECONDS_10), Violation::FrameTimeout);
}

#[test]
fn a_body_must_make_progress() {
    let mut server = Conversation::server();
    server.peer_opens(1);
    let frame = data(1, &[0; 100], false);
    for byte in frame[..50].chunks(1) {
        server.peer_says(byte);
        server.later(Duration::from_secs(9));
        if byte.as_ptr() > frame[9..].as_ptr() {
            assert_eq!(server.connection.tick(server.now), Ok(()));
        } else {
            server.now -= Duration::from_secs(9);
        }
    }
    server.now -= Duration::from_secs(9);
    assert_eq!(times_out(&mut server, SECONDS_10), Violation::FrameTimeout);
}

#[test]
fn a_silent_peer_is_asked_for_a_sign_of_life() {
    let mut server = Conversation::server();
    server.peer_opens(1);
    let due = server.connection.next_deadline().unwrap();
    assert_eq!(due - server.now, Duration::from_secs(60));
    server.now = due;
    server.connection.tick(due).unwrap();
    let Some(Said::Ping(payload)) = server.said().pop() else {
        panic!()
    };
    server.later(Duration::from_secs(1));
    assert_eq!(server.peer_says(&ping(&payload, true)), []);
    let due = server.connection.next_deadline().unwrap();
    assert_eq!(due - server.now, Duration::from_secs(60));
    server.now = due;
    server.connection.tick(due).unwrap();
    server.said();
    assert_eq!(
        times_out(&mut server, Duration::from_secs(20)),
        Violation::KeepaliveTimeout
    );
}

#[test]
fn a_connection_without_streams_is_closed() {
    let config = Config {
        keepalive_interval: None,
        ..Config::default()
    };
    let mut server = Conversation::server_with(config);
    server.later(Duration::from_secs(29 * 60));
    let key = server.peer_opens(1);
    assert_eq!(server.connection.next_deadline(), None);
    server.connection.forget(key);
    server.connection.tick(server.now).unwrap();
    assert_eq!(
        times_out(&mut server, Duration::from_secs(30 * 60)),
        Violation::Idle
    );
}

#[test]
fn a_large_output_gives_its_memory_back() {
    let mut server = Conversation::server();
    for index in 0..1000 {
        let key = server.peer_opens(2 * index + 1);
        server.connection.send_headers(key, &OK, true);
        server.connection.forget(key);
    }
    server.connection.output().clear();
    server.connection.tick(server.now).unwrap();
    assert!(server.connection.output().capacity() <= 1024);
}
