//! Ours as client, `h2` as server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use ringgate_http2::{Config, Connection, ErrorCode, Event, Header, StreamKey};
use tokio::io::DuplexStream;

use crate::driver::{Driver, End, body};

/// Serves `/echo`, `/reset` and `/large` with `h2`, `streams` of them, then says GOAWAY.
async fn serve(io: DuplexStream, builder: h2::server::Builder, streams: usize) {
    let mut connection = builder.handshake::<_, Bytes>(io).await.unwrap();
    for _ in 0..streams {
        let Some(accepted) = connection.accept().await else {
            return;
        };
        let (request, respond) = accepted.unwrap();
        tokio::spawn(answer(request, respond));
    }
    connection.graceful_shutdown();
    while let Some(Ok(_)) = connection.accept().await {}
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    assert_eq!(request.headers()["te"], "trailers");
    let path = request.uri().path().to_owned();
    if path == "/reset" {
        return respond.send_reset(Reason::REFUSED_STREAM);
    }
    let large = request.headers().get("large").cloned();
    let mut response = Response::new(());
    if let Some(value) = large {
        response.headers_mut().insert("large", value);
    }
    let Ok(mut sender) = respond.send_response(response, false) else {
        return;
    };
    let mut receiver = request.into_body();
    let mut count = 0;
    while let Some(Ok(mut piece)) = receiver.data().await {
        count += piece.len();
        receiver.flow_control().release_capacity(piece.len()).unwrap();
        while !piece.is_empty() {
            sender.reserve_capacity(piece.len());
            let Some(Ok(capacity)) = std::future::poll_fn(|cx| sender.poll_capacity(cx)).await else {
                return;
            };
            sender
                .send_data(piece.split_to(capacity.min(piece.len())), false)
                .unwrap();
        }
    }
    let count = ("count".parse().unwrap(), count.to_string().parse().unwrap());
    sender.send_trailers(HeaderMap::from_iter([count])).ok();
}

/// How a call of ours ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    body: Vec<u8>,
    large: usize,
    count: Option<usize>,
    reset: Option<ErrorCode>,
}

/// Sends `bodies` to `path` at once, each on its own stream, and gives the answers in that order.
async fn call(
    config: Config,
    builder: h2::server::Builder,
    path: &str,
    large: usize,
    bodies: &[Vec<u8>],
) -> Vec<Answer> {
    let (ours, theirs) = tokio::io::duplex(4096);
    let server = tokio::spawn(serve(theirs, builder, bodies.len()));
    let mut driver = Driver::new(Connection::client(Arc::new(config), Instant::now()));
    let value = "v".repeat(large);
    let mut request = vec![
        Header::new(b":method", b"POST"),
        Header::new(b":scheme", b"http"),
        Header::new(b":path", path.as_bytes()),
        Header::new(b":authority", b"gate"),
        Header::new(b"te", b"trailers"),
    ];
    if large > 0 {
        request.push(Header::new(b"large", value.as_bytes()));
    }
    let mut keys = Vec::new();
    for body in bodies {
        let key = driver.connection.open(&request, false).unwrap();
        driver.send(key, body, End::Stream);
        keys.push(key);
    }
    let mut answers: HashMap<StreamKey, Answer> = HashMap::new();
    driver
        .run(ours, &keys, |driver, event| {
            take(&mut answers, driver, event);
            true
        })
        .await;
    server.await.unwrap();
    keys.iter()
        .map(|key| answers.remove(key).unwrap_or_default())
        .collect()
}

fn take(answers: &mut HashMap<StreamKey, Answer>, driver: &mut Driver, event: Event<'_>) {
    match event {
        Event::Headers { key, headers, .. } => {
            assert_eq!(headers.status(), Some(200));
            answers.entry(key).or_default().large = headers.get(b"large").map_or(0, <[u8]>::len);
        }
        Event::Data { key, payload, .. } => {
            answers.entry(key).or_default().body.extend_from_slice(payload);
            driver.connection.release(key, payload.len());
        }
        Event::Trailers { key, headers, .. } => {
            let count = std::str::from_utf8(headers.get(b"count").unwrap()).unwrap();
            answers.entry(key).or_default().count = Some(count.parse().unwrap());
        }
        Event::Reset {
            key, code, by_peer, ..
        } => {
            assert!(by_peer, "h2 breaks no rule");
            answers.entry(key).or_default().reset = Some(code);
        }
        _ => {}
    }
}

fn echoed(bodies: &[Vec<u8>], large: usize) -> Vec<Answer> {
    let answer = |body: &Vec<u8>| Answer {
        body: body.clone(),
        large,
        count: Some(body.len()),
        reset: None,
    };
    bodies.iter().map(answer).collect()
}

#[tokio::test]
async fn bodies_and_trailers_in_both_directions() {
    let bodies: Vec<_> = [0, 1, 16_384, 16_385, 1_000_000].map(|len| body(len, len)).into();
    let answers = call(Config::client(), h2::server::Builder::new(), "/echo", 0, &bodies).await;
    assert!(answers == echoed(&bodies, 0));
}

#[tokio::test]
async fn bodies_through_small_windows() {
    let config = Config {
        stream_window_bytes: 1500,
        connection_window_bytes: 65_535,
        ..Config::client()
    };
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(700).max_frame_size(20_000);
    let bodies = [body(100_000, 1), body(100_000, 2), body(100_000, 3)];
    let answers = call(config, builder, "/echo", 0, &bodies).await;
    assert!(answers == echoed(&bodies, 0));
}

#[tokio::test]
async fn many_streams_at_once() {
    let bodies: Vec<_> = (0..100).map(|seed| body(seed * 37, seed)).collect();
    let answers = call(Config::client(), h2::server::Builder::new(), "/echo", 0, &bodies).await;
    assert!(answers == echoed(&bodies, 0));
}

#[tokio::test]
async fn resets_are_told() {
    let answers = call(
        Config::client(),
        h2::server::Builder::new(),
        "/reset",
        0,
        &[body(10, 1), vec![]],
    )
    .await;
    assert!(
        answers
            .iter()
            .all(|answer| answer.reset == Some(ErrorCode::REFUSED_STREAM)),
        "{answers:?}"
    );
}

#[tokio::test]
async fn large_headers_in_both_directions() {
    let config = Config {
        header_list_bytes_max: 100_000,
        ..Config::client()
    };
    let mut builder = h2::server::Builder::new();
    builder.max_header_list_size(100_000);
    let bodies = [body(10, 1)];
    let answers = call(config, builder, "/echo", 50_000, &bodies).await;
    assert!(answers == echoed(&bodies, 50_000));
}
