//! `h2` as client, ours as server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, StatusCode};
use ringgate_http2::{Config, Connection, ErrorCode, Event, Header, StreamKey};

use crate::driver::{Driver, End, body};

/// Answers by path: `/echo`, `/reset`, `/early`, `/interim`, `/headers`, `/drain`.
#[derive(Default)]
struct App {
    echoes: HashMap<StreamKey, usize>,
}

impl App {
    fn event(&mut self, driver: &mut Driver, event: Event<'_>) -> bool {
        match event {
            Event::Headers {
                key,
                headers,
                end_stream,
                ..
            } => {
                let path = headers.path().unwrap().to_vec();
                self.request(driver, key, &path, headers.get(b"large").map_or(0, <[u8]>::len));
                if end_stream && path == b"/echo" {
                    self.finish(driver, key);
                }
            }
            Event::Data {
                key,
                payload,
                end_stream,
                ..
            } => {
                driver.connection.release(key, payload.len());
                if let Some(count) = self.echoes.get_mut(&key) {
                    *count += payload.len();
                    driver.send(key, payload, End::Open);
                    if end_stream {
                        self.finish(driver, key);
                    }
                }
            }
            Event::Trailers { key, headers, .. } => {
                assert_eq!(headers.get(b"client-trailer"), Some(&b"yes"[..]));
                self.finish(driver, key);
            }
            Event::Reset { key, by_peer, .. } => {
                assert!(by_peer, "h2 breaks no rule");
                self.echoes.remove(&key);
                driver.forget(key);
            }
            _ => {}
        }
        true
    }

    fn request(&mut self, driver: &mut Driver, key: StreamKey, path: &[u8], large: usize) {
        let ok = [
            Header::new(b":status", b"200"),
            Header::new(b"server", b"ringgate"),
        ];
        match path {
            b"/echo" => {
                self.echoes.insert(key, 0);
                driver.connection.send_headers(key, &ok, false);
            }
            b"/reset" => driver.connection.reset(key, ErrorCode::INTERNAL_ERROR),
            b"/early" => {
                driver.connection.send_headers(key, &ok, true);
                driver.connection.forget(key);
            }
            b"/interim" => {
                driver
                    .connection
                    .send_headers(key, &[Header::new(b":status", b"103")], false);
                driver.connection.send_headers(key, &ok, true);
            }
            b"/headers" => {
                let value = "x".repeat(large);
                driver
                    .connection
                    .send_headers(key, &[ok[0], Header::new(b"large", value.as_bytes())], true);
            }
            b"/drain" => {
                driver.connection.send_headers(key, &ok, true);
                driver.connection.drain();
            }
            other => panic!("{}", other.escape_ascii()),
        }
    }

    fn finish(&mut self, driver: &mut Driver, key: StreamKey) {
        if let Some(count) = self.echoes.remove(&key) {
            driver.send(key, &[], End::Trailers(vec![("count", count.to_string())]));
        }
    }
}

/// Starts our server, and gives an `h2` client connected to it.
async fn client_of(config: Config, builder: &mut h2::client::Builder) -> SendRequest<Bytes> {
    let (ours, theirs) = tokio::io::duplex(4096);
    tokio::spawn(async move {
        let mut app = App::default();
        let driver = Driver::new(Connection::server(Arc::new(config), Instant::now()));
        driver
            .run(ours, &[], |driver, event| app.event(driver, event))
            .await;
    });
    let (client, connection) = builder.handshake(theirs).await.unwrap();
    tokio::spawn(async move {
        connection.await.unwrap();
    });
    client
}

fn send(client: &mut SendRequest<Bytes>, path: &str, end: bool) -> (ResponseFuture, SendStream<Bytes>) {
    let request = Request::post(format!("http://gate{path}"))
        .header("authorization", "secret")
        .body(())
        .unwrap();
    client.send_request(request, end).unwrap()
}

async fn send_body(stream: &mut SendStream<Bytes>, body: &[u8], end: bool) {
    let mut rest = Bytes::copy_from_slice(body);
    while !rest.is_empty() {
        stream.reserve_capacity(rest.len());
        let capacity = std::future::poll_fn(|cx| stream.poll_capacity(cx))
            .await
            .unwrap()
            .unwrap();
        let piece = rest.split_to(capacity.min(rest.len()));
        stream.send_data(piece, end && rest.is_empty()).unwrap();
    }
}

async fn receive_body(stream: &mut RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut body = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece.unwrap();
        stream.flow_control().release_capacity(piece.len()).unwrap();
        body.extend_from_slice(&piece);
    }
    (body, stream.trailers().await.unwrap())
}

async fn echo(mut client: SendRequest<Bytes>, len: usize, seed: usize, trailers: bool) {
    client = client.ready().await.unwrap();
    let (response, mut stream) = send(&mut client, "/echo", false);
    let sent = body(len, seed);
    let copy = sent.clone();
    let sender = tokio::spawn(async move {
        send_body(&mut stream, &copy, !trailers).await;
        if trailers {
            let fields = [("client-trailer".parse().unwrap(), "yes".parse().unwrap())];
            stream.send_trailers(HeaderMap::from_iter(fields)).unwrap();
        } else if copy.is_empty() {
            stream.send_data(Bytes::new(), true).unwrap();
        }
    });
    let response = response.await.unwrap();
    assert_eq!(
        (response.status(), &response.headers()["server"]),
        (StatusCode::OK, &"ringgate".parse().unwrap())
    );
    let (received, received_trailers) = receive_body(&mut response.into_body()).await;
    sender.await.unwrap();
    assert!(received == sent, "{} of {len} bytes came back", received.len());
    assert_eq!(received_trailers.unwrap()["count"], len.to_string());
}

#[tokio::test]
async fn bodies_and_trailers_in_both_directions() {
    let client = client_of(Config::default(), &mut h2::client::Builder::new()).await;
    for (seed, len) in [0, 1, 16_384, 16_385, 1_000_000].into_iter().enumerate() {
        echo(client.clone(), len, seed, seed % 2 == 0).await;
    }
}

#[tokio::test]
async fn bodies_through_small_windows() {
    let config = Config {
        stream_window_bytes: 1500,
        connection_window_bytes: 65_535,
        ..Config::default()
    };
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(700)
        .initial_connection_window_size(65_535)
        .max_frame_size(20_000);
    let client = client_of(config, &mut builder).await;
    echo(client.clone(), 100_000, 1, true).await;
    echo(client, 100_000, 2, false).await;
}

#[tokio::test]
async fn many_streams_at_once() {
    let mut builder = h2::client::Builder::new();
    builder.initial_max_send_streams(1000);
    let client = client_of(Config::default(), &mut builder).await;
    let calls: Vec<_> = (0..300)
        .map(|seed| tokio::spawn(echo(client.clone(), seed * 37, seed, seed % 3 == 0)))
        .collect();
    for call in calls {
        call.await.unwrap();
    }
}

#[tokio::test]
async fn tables_and_huffman_of_either_size() {
    for table in [0, 100, 4096, 65_536] {
        let config = Config {
            header_table_bytes_max: table,
            huffman: table > 100,
            ..Config::default()
        };
        let client = client_of(config, h2::client::Builder::new().header_table_size(table)).await;
        for seed in 0..5 {
            echo(client.clone(), 10, seed, true).await;
        }
    }
}

#[tokio::test]
async fn resets_in_both_directions() {
    let mut client = client_of(Config::default(), &mut h2::client::Builder::new()).await;
    let (response, _stream) = send(&mut client, "/reset", false);
    assert_eq!(response.await.unwrap_err().reason(), Some(Reason::INTERNAL_ERROR));
    for _ in 0..50 {
        let (response, mut stream) = send(&mut client, "/echo", false);
        stream.send_data(Bytes::from_static(b"some"), false).unwrap();
        stream.send_reset(Reason::CANCEL);
        assert!(response.await.is_err());
    }
    echo(client, 5000, 1, true).await;
}

#[tokio::test]
async fn early_and_interim_responses() {
    let mut client = client_of(Config::default(), &mut h2::client::Builder::new()).await;
    let (response, mut stream) = send(&mut client, "/early", false);
    assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await.unwrap();
    assert_eq!(reason, Reason::NO_ERROR);
    let (response, _stream) = send(&mut client, "/interim", true);
    assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    echo(client, 5000, 1, true).await;
}

#[tokio::test]
async fn large_headers_in_both_directions() {
    let config = Config {
        header_list_bytes_max: 100_000,
        ..Config::default()
    };
    let mut builder = h2::client::Builder::new();
    builder.max_header_list_size(100_000);
    let mut client = client_of(config, &mut builder).await;
    for len in [10, 16_384, 50_000] {
        let request = Request::post("http://gate/headers")
            .header("large", "v".repeat(len))
            .body(())
            .unwrap();
        let (response, _stream) = client.send_request(request, true).unwrap();
        assert_eq!(response.await.unwrap().headers()["large"].len(), len);
    }
}

#[tokio::test]
async fn a_drain_ends_the_connection() {
    let client = client_of(Config::default(), &mut h2::client::Builder::new()).await;
    echo(client.clone(), 100, 1, true).await;
    let (response, _stream) = send(&mut client.clone(), "/drain", true);
    assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    let refused = loop {
        match client.clone().ready().await {
            Err(error) => break error,
            Ok(_) => tokio::task::yield_now().await,
        }
    };
    assert!(
        refused.is_go_away() || refused.is_io() || refused.reason().is_some(),
        "{refused:?}"
    );
}
