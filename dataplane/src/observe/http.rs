//! Health, metrics and what else the operator sees, over HTTP/1.1, served by the service thread.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use ringgate_identity::{VIEWER_CHALLENGE, ViewerToken};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::body::Body;
use super::exposition::Format;
use super::flow::Filter;
use super::observer::{Observer, Page};
use super::query::Query;
use super::stream::{self, Form};

/// Connections served at once. Scrapers and people come one by one.
const CONNECTIONS_MAX: usize = 64;
/// Streams of events among them, so that those who ask once find room.
const STREAMS_MAX: usize = 32;
/// How long a client may take to send its request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Header that names the node.
const NODE_HEADER: &str = "x-ringgate-node";
/// Past security events that are told at first.
const EVENTS_BEFORE: usize = 100;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const PATHS: &str = "there are /healthz, /readyz, /metrics, /stats, /corez, /connz, /subz, /linkz, /nodez, /agentz, /topicz, \
                     /conversations, /conversation?id=, /tap and /events\n";

/// The endpoint cannot be served.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot serve metrics and health on {address}: {source}. Choose another address with `--http`, or `--http off`"
)]
pub struct HttpError {
    address: SocketAddr,
    source: std::io::Error,
}

/// An answer that is known as a whole.
struct Answer {
    status: StatusCode,
    kind: &'static str,
    body: String,
}

impl Answer {
    fn text(status: StatusCode, body: &str) -> Answer {
        Answer {
            status,
            kind: TEXT,
            body: body.to_owned(),
        }
    }

    fn json(value: &Value) -> Answer {
        Answer {
            status: StatusCode::OK,
            kind: JSON,
            body: format!("{value}\n"),
        }
    }
}

/// Serves `observer` on `address` until the task is dropped; to those who show the token, if there is one.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    observer: Arc<Observer>,
    token: Option<ViewerToken>,
) -> Result<(), HttpError> {
    let error = |source| HttpError { address, source };
    let listener = TcpListener::bind(address).await.map_err(error)?;
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let endpoint = Arc::new(Endpoint {
        node: HeaderValue::from_str(observer.node()).ok(),
        observer,
        token,
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        is_local: address.ip().is_loopback(),
    });
    tokio::spawn(async move {
        while let Ok(permit) = permits.clone().acquire_owned().await {
            let Ok((stream, _)) = listener.accept().await else {
                continue;
            };
            let endpoint = endpoint.clone();
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request| {
                    let endpoint = endpoint.clone();
                    async move {
                        let mut response = endpoint.respond(request).await;
                        if let Some(node) = &endpoint.node {
                            response.headers_mut().insert(NODE_HEADER, node.clone());
                        }
                        Ok::<_, Infallible>(response)
                    }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service);
                // A client that breaks off is none of our business.
                let _ = connection.await;
                drop(permit);
            });
        }
    });
    Ok(())
}

struct Endpoint {
    /// Name of the node, told with every answer: who passes answers on knows by it whose they are.
    node: Option<HeaderValue>,
    observer: Arc<Observer>,
    /// What must be shown.
    token: Option<ViewerToken>,
    streams: Arc<Semaphore>,
    /// It listens on loopback only.
    is_local: bool,
}

impl Endpoint {
    async fn respond(&self, request: Request<Incoming>) -> Response<Body> {
        let method = request.method().clone();
        if method != Method::GET && method != Method::HEAD {
            let text = "GET and HEAD are served here\n";
            return whole(Answer::text(StatusCode::METHOD_NOT_ALLOWED, text), false);
        }
        let header = |name| {
            request
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or("")
        };
        if self.is_local && !names_this_machine(header(HOST)) {
            // A page in somebody's browser whose name was made to point here must not read what is served here.
            let text = "this endpoint is for this machine: ask for it by localhost or its address\n";
            return whole(Answer::text(StatusCode::MISDIRECTED_REQUEST, text), false);
        }
        let query = Query::parse(request.uri().query().unwrap_or(""));
        let path = request.uri().path();
        // Who asks whether the node is well is told nothing else.
        let is_health = matches!(path, "/healthz" | "/readyz");
        if let Some(token) = self.token.as_ref().filter(|_| !is_health)
            && !token.admits(header(AUTHORIZATION))
        {
            let text = "show the token of this node's key `http_token`: Authorization: Bearer TOKEN\n";
            let mut refused = whole(Answer::text(StatusCode::UNAUTHORIZED, text), false);
            let challenge = HeaderValue::from_static(VIEWER_CHALLENGE);
            refused.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            return refused;
        }
        if method == Method::GET && matches!(path, "/tap" | "/events") {
            return self.stream(path, &query, Form::of(header(ACCEPT)));
        }
        let (path, format) = (path.to_owned(), Format::of(header(ACCEPT)));
        let observer = self.observer.clone();
        // Asking the cores blocks for the time they take.
        let answer = tokio::task::spawn_blocking(move || answer(&observer, &path, &query, format)).await;
        let down = |_| Answer::text(StatusCode::INTERNAL_SERVER_ERROR, "the node is going down\n");
        whole(answer.unwrap_or_else(down), method == Method::HEAD)
    }

    /// Opens a stream of events.
    fn stream(&self, path: &str, query: &Query, form: Form) -> Response<Body> {
        let busy = |text: &str| whole(Answer::text(StatusCode::TOO_MANY_REQUESTS, text), false);
        let Ok(permit) = self.streams.clone().try_acquire_owned() else {
            return busy("too many streams are open here; close one\n");
        };
        let lines = if path == "/events" {
            let before = query.number("before").unwrap_or(EVENTS_BEFORE);
            stream::events(&self.observer, before, form, permit)
        } else {
            let filter = Filter {
                agent: query.text("agent").to_owned(),
                topic: query.text("topic").to_owned(),
                conversation: query.text("conversation").to_owned(),
                one_in: query.number("one_in").unwrap_or(1) as u32,
            };
            match self.observer.flows().tap(filter) {
                Some(tap) => stream::tap(&self.observer, tap, form, permit),
                None => return busy("too many taps are open on this node; close one\n"),
            }
        };
        let mut response = Response::new(Body::Lines(lines));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(form.media_type()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

fn answer(observer: &Observer, path: &str, query: &Query, format: Format) -> Answer {
    let page = Page::new(query.number("offset"), query.number("limit"));
    match path {
        "/healthz" if observer.is_healthy() => Answer::text(StatusCode::OK, "ok\n"),
        "/healthz" => Answer::text(StatusCode::SERVICE_UNAVAILABLE, "a core does not answer\n"),
        "/readyz" if observer.is_draining() => Answer::text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        "/readyz" => Answer::text(StatusCode::OK, "ready\n"),
        "/metrics" => Answer {
            status: StatusCode::OK,
            kind: format.media_type(),
            body: observer.metrics(format),
        },
        "/stats" => Answer::json(&observer.stats()),
        "/corez" => Answer::json(&observer.corez()),
        "/connz" => Answer::json(&observer.connz(page)),
        "/subz" => Answer::json(&observer.subz(page)),
        "/linkz" => Answer::json(&observer.linkz(page)),
        "/nodez" => Answer::json(&observer.nodez(page)),
        "/topicz" => Answer::json(&observer.topicz(page)),
        "/agentz" => Answer::json(&observer.agentz(query.text("after"), page)),
        "/conversations" => Answer::json(&observer.flows().conversations(page.skip(), page.most())),
        "/conversation" => match observer.flows().conversation(query.text("id")) {
            Some(conversation) => Answer::json(&conversation),
            None => Answer::text(
                StatusCode::NOT_FOUND,
                "no message of such a conversation was seen lately; name it as the header conversation-id does, or by its trace id\n",
            ),
        },
        _ => Answer::text(StatusCode::NOT_FOUND, PATHS),
    }
}

fn whole(answer: Answer, head: bool) -> Response<Body> {
    let body = if head {
        Bytes::new()
    } else {
        Bytes::from(answer.body)
    };
    let mut response = Response::new(Body::Whole(Some(body)));
    *response.status_mut() = answer.status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(answer.kind));
    response
}

/// Whether a `Host` is this machine's by any name that nobody else can give it.
fn names_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.is_empty() || name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_own_names_are_served_on_loopback() {
        for good in [
            "",
            "localhost",
            "LOCALHOST:46359",
            "127.0.0.1:46359",
            "[::1]:46359",
            "[::1]",
        ] {
            assert!(names_this_machine(good), "{good}");
        }
        for bad in [
            "evil.example",
            "evil.example:46359",
            "localhost.evil.example",
            "127.0.0.1.evil.example:1",
        ] {
            assert!(!names_this_machine(bad), "{bad}");
        }
    }
}
