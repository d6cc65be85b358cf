//! Arbitrary bytes: no panic, no unbounded memory, no event after an error, in either role.
//!
//! A property test under `cargo test`; a fuzz target under `cargo bolero test`.

use std::sync::Arc;
use std::time::Instant;

use ringgate_http2::frame::PREFACE;
use ringgate_http2::{Config, Connection, ErrorCode, Event, Header, StreamKey};

const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
const OK: [Header<'static>; 1] = [Header::new(b":status", b"200")];
const GET: [Header<'static>; 3] = [
    Header::new(b":method", b"GET"),
    Header::new(b":scheme", b"http"),
    Header::new(b":path", b"/"),
];

/// Does with the events what an application might.
fn respond(connection: &mut Connection, event: &Event<'_>) {
    match *event {
        Event::Headers { key, .. } if connection.is_server() => connection.send_headers(key, &OK, false),
        Event::Data {
            key,
            payload,
            end_stream,
            stream,
        } => {
            connection.release(key, payload.len());
            echo(connection, key, payload.len());
            if end_stream {
                connection.forget(key);
            } else if stream.get() % 8 == 7 {
                connection.reset(key, ErrorCode::CANCEL);
            }
        }
        Event::Trailers { key, .. } | Event::Reset { key, .. } => connection.forget(key),
        _ => {}
    }
}

fn echo(connection: &mut Connection, key: StreamKey, len: usize) {
    let len = len
        .min(connection.send_capacity(key))
        .min(connection.max_frame_size());
    if connection.can_send(key) {
        connection.data(key, len, false);
    }
}

fn run(mut connection: Connection, config: &Config, input: &[u8]) {
    let now = Instant::now();
    for piece in input.chunks(1 + input.len() / 3) {
        let mut rest = piece;
        loop {
            match connection.receive(&mut rest, now) {
                Ok(Some(event)) => respond(&mut connection, &event),
                Ok(None) => break,
                Err(_) => {
                    assert!(connection.is_drained());
                    assert_eq!(connection.receive(&mut &input[..], now), Ok(None));
                    return;
                }
            }
        }
        assert!(rest.is_empty());
        assert!(connection.active_streams() <= config.streams_max as usize);
        // An answer to each frame of nine bytes, at most four times as long.
        assert!(connection.output().len() <= config.output_bytes_max as usize + 4 * input.len());
    }
}

#[test]
fn any_bytes_to_a_server() {
    bolero::check!().for_each(|input: &[u8]| {
        let config = Config {
            streams_max: 8,
            ..Config::default()
        };
        let connection = Connection::server(Arc::new(config), Instant::now());
        run(connection, &config, &[&PREFACE[..], SETTINGS, input].concat());
    });
}

#[test]
fn any_bytes_to_a_client() {
    bolero::check!().for_each(|input: &[u8]| {
        let config = Config {
            streams_max: 8,
            ..Config::client()
        };
        let mut connection = Connection::client(Arc::new(config), Instant::now());
        for _ in 0..4 {
            connection.open(&GET, false).unwrap();
        }
        run(connection, &config, &[SETTINGS, input].concat());
    });
}
