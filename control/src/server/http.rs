//! Health over HTTP/1.1, for those who do not speak gRPC, and the dashboard.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::dashboard::Dashboard;

/// Connections at once; more wait. A browser holds six.
const CONNECTIONS_MAX: usize = 64;
/// Time a client has for its request line and headers.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);

/// The body of an answer: known, or passed on from a data plane as it comes.
pub(super) type Body = BoxBody<Bytes, hyper::Error>;

/// Serves `/healthz` (it runs), `/readyz` (it serves calls) and the dashboard until dropped.
pub async fn serve(listener: TcpListener, ready: watch::Receiver<bool>, dashboard: Dashboard) {
    let connections = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    let dashboard = Arc::new(dashboard);
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
        let (ready, dashboard) = (ready.clone(), dashboard.clone());
        tokio::spawn(async move {
            let answer = service_fn(move |request: http::Request<Incoming>| {
                let (ready, dashboard) = (*ready.borrow(), dashboard.clone());
                async move { Ok::<_, Infallible>(respond(&request, ready, &dashboard).await) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS_TIMEOUT)
                .serve_connection(TokioIo::new(stream), answer);
            if let Err(error) = served.await {
                tracing::debug!(%error, "health connection");
            }
            drop(counted);
        });
    }
}

async fn respond(
    request: &http::Request<Incoming>,
    ready: bool,
    dashboard: &Dashboard,
) -> http::Response<Body> {
    match (request.method(), request.uri().path()) {
        (&http::Method::GET | &http::Method::HEAD, "/healthz") => text(200, "ok\n"),
        (&http::Method::GET | &http::Method::HEAD, "/readyz") if ready => text(200, "ready\n"),
        (&http::Method::GET | &http::Method::HEAD, "/readyz") => text(503, "not ready: starting or ending\n"),
        (&http::Method::GET, _) => dashboard.respond(request).await,
        _ => text(405, "GET is allowed, and HEAD for /healthz and /readyz\n"),
    }
}

/// An answer in words.
pub(super) fn text(status: u16, text: &'static str) -> http::Response<Body> {
    whole(
        status,
        "text/plain; charset=utf-8",
        Bytes::from_static(text.as_bytes()),
    )
}

/// An answer that is known.
pub(super) fn whole(status: u16, kind: &'static str, body: Bytes) -> http::Response<Body> {
    let body = Full::new(body).map_err(|never| match never {}).boxed();
    let mut response = http::Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(status).expect("a status in this file or its user");
    let kind = http::HeaderValue::from_static(kind);
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}
