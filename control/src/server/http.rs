//! Health over HTTP/1.1, for those who do not speak gRPC.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Connections at once; more wait.
const CONNECTIONS_MAX: usize = 64;
/// Time a client has for its request line and headers.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves `/healthz` (it runs) and `/readyz` (it serves calls) until dropped.
pub async fn serve(listener: TcpListener, ready: watch::Receiver<bool>) {
    let connections = std::sync::Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(counted) = connections.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of health");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let ready = ready.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request: http::Request<Incoming>| {
                let response = respond(request.method(), request.uri().path(), *ready.borrow());
                async move { Ok::<_, Infallible>(response) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS_TIMEOUT)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), answer);
            if let Err(error) = served.await {
                tracing::debug!(%error, "health connection");
            }
            drop(counted);
        });
    }
}

fn respond(method: &http::Method, path: &str, ready: bool) -> http::Response<Full<Bytes>> {
    let (status, text) = match (method, path) {
        (&http::Method::GET | &http::Method::HEAD, "/healthz") => (200, "ok\n"),
        (&http::Method::GET | &http::Method::HEAD, "/readyz") if ready => (200, "ready\n"),
        (&http::Method::GET | &http::Method::HEAD, "/readyz") => (503, "not ready: starting or ending\n"),
        (&http::Method::GET | &http::Method::HEAD, _) => (404, "here are /healthz and /readyz\n"),
        _ => (405, "GET and HEAD are allowed\n"),
    };
    let mut response = http::Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = http::StatusCode::from_u16(status).expect("listed above");
    response
}
