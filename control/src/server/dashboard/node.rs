//! What one data plane is asked.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use ringgate_identity::ViewerToken;
use ringgate_proto::control::v1::Node;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::server::http::{Body, text, whole};

/// Pages that are passed on.
pub(super) const PAGES: [&str; 9] = [
    "corez",
    "connz",
    "subz",
    "agentz",
    "topicz",
    "conversations",
    "conversation",
    "events",
    "tap",
];
/// How long a data plane may take to begin an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of one answer.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Header by which a data plane names itself.
const NODE_HEADER: &str = "x-ringgate-node";
/// Media type of streams in the browser.
const EVENT_STREAM: &str = "text/event-stream";

/// Asks a data plane for a page and passes its answer on.
pub(super) async fn ask(
    node: &Node,
    page: &str,
    query: Option<&str>,
    accept: &str,
    token: Option<&ViewerToken>,
) -> http::Response<Body> {
    if !node.attached {
        return text(503, "this data plane is not attached\n");
    }
    let Ok(address) = node.http_address.parse::<SocketAddr>() else {
        return text(
            503,
            "this data plane tells nothing over HTTP (its key `http` is off)\n",
        );
    };
    let streams = accept.contains(EVENT_STREAM);
    let path = match query {
        Some(query) => format!("/{page}?{query}"),
        None => format!("/{page}"),
    };
    let response = match timeout(ANSWER_TIMEOUT, get(address, &path, streams, token)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            tracing::debug!(node = node.id, %address, %error, "a data plane's endpoint cannot be asked");
            return text(
                502,
                "the HTTP endpoint of this data plane cannot be reached from here\n",
            );
        }
        Err(_) => return text(504, "this data plane does not answer\n"),
    };
    let named = response
        .headers()
        .get(NODE_HEADER)
        .is_some_and(|name| name.as_bytes() == node.id.as_bytes());
    if !named {
        return text(
            502,
            "another answers at the HTTP endpoint of this data plane: its loopback address is not this machine's\n",
        );
    }
    let status = response.status();
    if status == http::StatusCode::UNAUTHORIZED {
        return text(
            502,
            "this data plane asks for another token: its key `http_token` and that of the control process must be the same\n",
        );
    }
    if streams && status.is_success() {
        let mut passed = whole(200, EVENT_STREAM, Bytes::new());
        *passed.body_mut() = response.into_body().boxed();
        return passed;
    }
    let kind = match status.is_success() {
        true => "application/json",
        false => "text/plain; charset=utf-8",
    };
    let body = timeout(
        ANSWER_TIMEOUT,
        Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect(),
    )
    .await;
    match body {
        Ok(Ok(body)) => whole(status.as_u16(), kind, body.to_bytes()),
        _ => text(502, "the data plane's answer broke off, or is too long\n"),
    }
}

async fn get(
    address: SocketAddr,
    path: &str,
    streams: bool,
    token: Option<&ViewerToken>,
) -> Result<hyper::Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer, or when nobody wants it any more.
    tokio::spawn(connection);
    let accept = if streams { EVENT_STREAM } else { "application/json" };
    let mut request = hyper::Request::get(path)
        .header(http::header::HOST, address.to_string())
        .header(http::header::ACCEPT, accept);
    if let Some(token) = token {
        request = request.header(http::header::AUTHORIZATION, token.authorization());
    }
    Ok(sender.send_request(request.body(Empty::<Bytes>::new())?).await?)
}
