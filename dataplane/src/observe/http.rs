//! Health, metrics and statistics over HTTP/1.1, served by the service thread.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::inbox::{Command, CommandSender};
use super::link_status::LinkStatus;
use super::observation::SecurityCounts;
use super::report::CoreReport;

/// Connections served at once. Scrapers and people come one by one.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to send its request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a core may take to answer. One that takes longer is stuck, and that is the answer.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// The endpoint cannot be served.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot serve metrics and health on {address}: {source}. Choose another address with `--http`, or `--http off`"
)]
pub struct HttpError {
    address: SocketAddr,
    source: std::io::Error,
}

/// Knows the node's cores and asks them.
#[derive(Debug)]
pub struct Observer {
    node: String,
    cores: Vec<CommandSender>,
    draining: AtomicBool,
    security: Arc<SecurityCounts>,
    link: Option<Arc<LinkStatus>>,
}

impl Observer {
    /// An observer of `cores`, of their security events, and of the link to a control process where there is one.
    pub fn new(
        node: String,
        cores: Vec<CommandSender>,
        security: Arc<SecurityCounts>,
        link: Option<Arc<LinkStatus>>,
    ) -> Observer {
        Observer {
            node,
            cores,
            draining: AtomicBool::new(false),
            security,
            link,
        }
    }

    /// From now on the node is not ready.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Reports of all cores that answer in time. Blocks for as long.
    fn reports(&self) -> Vec<CoreReport> {
        let (sender, receiver) = sync_channel(self.cores.len());
        let asked = self
            .cores
            .iter()
            .filter(|core| core.send(Command::Report(sender.clone())))
            .count();
        drop(sender);
        let mut reports: Vec<CoreReport> = (0..asked)
            .map_while(|_| receiver.recv_timeout(REPORT_TIMEOUT).ok())
            .collect();
        reports.sort_by_key(|report| report.core);
        reports
    }

    /// All counts, summed over the cores. Blocks for the time the cores take.
    pub fn totals(&self) -> BTreeMap<&'static str, u64> {
        totals(&self.reports())
    }

    fn stats(&self) -> Value {
        let reports = self.reports();
        let total = totals(&reports);
        let cores: Vec<Value> = reports
            .iter()
            .map(|report| {
                let mut counts: Map<String, Value> = report
                    .counts
                    .iter()
                    .map(|(name, count)| ((*name).to_owned(), (*count).into()))
                    .collect();
                counts.insert("core".to_owned(), report.core.into());
                Value::Object(counts)
            })
            .collect();
        let sessions: Vec<&Value> = reports.iter().flat_map(|report| &report.details).collect();
        json!({
            "node": self.node,
            "cores_expected": self.cores.len(),
            "total": total,
            "cores": cores,
            "sessions": sessions,
            "security_events": self.security.kinds().map(|(kind, count)| (kind.code(), count)).collect::<BTreeMap<_, _>>(),
            "security_events_lost": self.security.lost(),
            "control": self.link.as_ref().map(|link| link.to_json()),
        })
    }

    /// The Prometheus text format. Names are those of the counts, which are fixed; the core is the only label.
    fn metrics(&self) -> String {
        let reports = self.reports();
        let mut text = String::new();
        let Some(first) = reports.first() else { return text };
        for (position, (name, _)) in first.counts.iter().enumerate() {
            let _ = writeln!(text, "# TYPE ringgate_{name} untyped");
            for report in &reports {
                if let Some((_, count)) = report.counts.get(position) {
                    let _ = writeln!(text, "ringgate_{name}{{core=\"{}\"}} {count}", report.core);
                }
            }
        }
        self.node_metrics(&mut text);
        text
    }

    /// Those of the node as a whole. `kind` is of a closed list.
    fn node_metrics(&self, text: &mut String) {
        let _ = writeln!(text, "# TYPE ringgate_security_events_total counter");
        for (kind, count) in self.security.kinds() {
            let _ = writeln!(text, "ringgate_security_events_total{{kind=\"{kind}\"}} {count}");
        }
        let lost = self.security.lost();
        let _ = writeln!(
            text,
            "# TYPE ringgate_security_events_lost_total counter\nringgate_security_events_lost_total {lost}"
        );
        if let Some(link) = &self.link {
            let (attached, version) = (u8::from(link.is_attached()), link.version());
            let _ = writeln!(
                text,
                "# TYPE ringgate_control_attached gauge\nringgate_control_attached {attached}\n\
                 # TYPE ringgate_control_version gauge\nringgate_control_version {version}"
            );
        }
    }

    fn answer(&self, method: &Method, path: &str) -> (StatusCode, &'static str, String) {
        const TEXT: &str = "text/plain; charset=utf-8";
        if method != Method::GET && method != Method::HEAD {
            return (
                StatusCode::METHOD_NOT_ALLOWED,
                TEXT,
                "GET and HEAD are served here\n".to_owned(),
            );
        }
        match path {
            "/healthz" if self.reports().len() == self.cores.len() => {
                (StatusCode::OK, TEXT, "ok\n".to_owned())
            }
            "/healthz" => (
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                "a core does not answer\n".to_owned(),
            ),
            "/readyz" if self.draining.load(Ordering::Relaxed) => {
                (StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n".to_owned())
            }
            "/readyz" => (StatusCode::OK, TEXT, "ready\n".to_owned()),
            "/metrics" => (
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                self.metrics(),
            ),
            "/stats" => (StatusCode::OK, "application/json", format!("{}\n", self.stats())),
            _ => (
                StatusCode::NOT_FOUND,
                TEXT,
                "there are /healthz, /readyz, /metrics and /stats\n".to_owned(),
            ),
        }
    }
}

fn totals(reports: &[CoreReport]) -> BTreeMap<&'static str, u64> {
    let mut totals = BTreeMap::new();
    for (name, count) in reports.iter().flat_map(|report| &report.counts) {
        *totals.entry(*name).or_default() += count;
    }
    totals
}

/// Serves `observer` on `address` until the task is dropped.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(address: SocketAddr, observer: Arc<Observer>) -> Result<(), HttpError> {
    let error = |source| HttpError { address, source };
    let listener = TcpListener::bind(address).await.map_err(error)?;
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tokio::spawn(async move {
        while let Ok(permit) = permits.clone().acquire_owned().await {
            let Ok((stream, _)) = listener.accept().await else {
                continue;
            };
            let observer = observer.clone();
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request| respond(observer.clone(), request));
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

async fn respond(
    observer: Arc<Observer>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let head = method == Method::HEAD;
    // Asking the cores blocks for the time they take.
    let answer = tokio::task::spawn_blocking(move || observer.answer(&method, &path)).await;
    let (status, kind, body) = answer.unwrap_or((
        StatusCode::INTERNAL_SERVER_ERROR,
        "text/plain",
        "the node is going down\n".to_owned(),
    ));
    let body = if head { Bytes::new() } else { Bytes::from(body) };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        hyper::header::CONTENT_TYPE,
        hyper::header::HeaderValue::from_static(kind),
    );
    Ok(response)
}
