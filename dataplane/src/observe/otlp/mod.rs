//! Metrics and traces to an OpenTelemetry collector: OTLP/HTTP with JSON bodies (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).
//!
//! By hand rather than by the `opentelemetry` crates: those keep metrics of their own and want to be told each change, while ours exist
//! already and are only to be written down; and they bring some thirty crates.

mod metrics;
mod spans;

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use ringgate_config::ObserveConfig;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::flow::FlowEvent;
use super::observer::Observer;
use spans::Spans;

/// Events of traces that may wait for the exporter.
const EVENTS_MAX: usize = 8192;
/// How long a collector may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of its answer that are read; it says little.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Sends what a node observes to a collector.
#[derive(Debug)]
pub struct Exporter {
    observer: Arc<Observer>,
    events: mpsc::Receiver<FlowEvent>,
    endpoint: String,
    every: Duration,
    spans: Spans,
    /// The last attempt failed, and that was said.
    failing: bool,
}

impl Exporter {
    /// An exporter as `config` says; `None` where it names no collector.
    pub fn new(observer: Arc<Observer>, config: &ObserveConfig) -> Option<Exporter> {
        if config.otlp_endpoint.is_empty() {
            return None;
        }
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        observer.flows().export_to(sender);
        Some(Exporter {
            observer,
            events,
            endpoint: config.otlp_endpoint.clone(),
            every: config.otlp_interval,
            spans: Spans::default(),
            failing: false,
        })
    }

    /// Exports until dropped. Spans that cannot be sent are lost; metrics are sums, so the next ones make up for those that were lost.
    pub async fn run(mut self) {
        let mut due = interval(self.every);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(event) = self.events.recv() => self.spans.note(&event),
                _ = due.tick() => self.export().await,
            }
        }
    }

    async fn export(&mut self) {
        let observer = self.observer.clone();
        // Asking the cores blocks for the time they take.
        let metrics = tokio::task::spawn_blocking(move || {
            observer.flows().drain();
            metrics::of(&observer)
        });
        let mut result = Ok(());
        if let Ok(metrics) = metrics.await {
            let resource = [
                ("resource", resource(&self.observer)),
                ("scopeMetrics", json!([{"scope": scope(), "metrics": metrics}])),
            ];
            result = self.post("/v1/metrics", "resourceMetrics", resource).await;
        }
        while let Ok(event) = self.events.try_recv() {
            self.spans.note(&event);
        }
        let spans = self.spans.take_finished();
        if !spans.is_empty() {
            let resource = [
                ("resource", resource(&self.observer)),
                ("scopeSpans", json!([{"scope": scope(), "spans": spans}])),
            ];
            result = result.and(self.post("/v1/traces", "resourceSpans", resource).await);
        }
        match (&result, self.failing) {
            (Err(error), false) => {
                tracing::warn!(endpoint = self.endpoint, %error, "nothing was exported; trying again")
            }
            (Ok(()), true) => tracing::info!(endpoint = self.endpoint, "exporting again"),
            _ => {}
        }
        self.failing = result.is_err();
    }

    async fn post(&self, path: &str, list: &str, resource: [(&str, Value); 2]) -> Result<(), ExportError> {
        let resource: serde_json::Map<String, Value> = resource
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let body = json!({ list: [resource] });
        let url = format!("{}{path}", self.endpoint);
        timeout(ANSWER_TIMEOUT, post(&url, body.to_string()))
            .await
            .map_err(|_| ExportError::Silent)?
    }
}

/// Why a collector did not get something.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("{0:?} is no http://HOST:PORT (key observe.otlp_endpoint)")]
    Endpoint(String),
    #[error("cannot reach the collector: {0}")]
    Connect(#[from] std::io::Error),
    #[error("the collector broke off: {0}")]
    Http(#[from] hyper::Error),
    #[error("the collector answered {0}")]
    Refused(hyper::StatusCode),
    #[error("the collector does not answer")]
    Silent,
}

async fn post(url: &str, body: String) -> Result<(), ExportError> {
    let wrong = || ExportError::Endpoint(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let authority = uri.authority().ok_or_else(wrong)?.clone();
    let port = authority.port_u16().unwrap_or(80);
    let stream = TcpStream::connect((authority.host().trim_matches(['[', ']']), port)).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the sender.
    tokio::spawn(connection);
    let request = Request::post(uri.path())
        .header(HOST, authority.as_str())
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|_| wrong())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    // Read, so that the collector does not see a connection that breaks.
    let _ = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await;
    match status.is_success() {
        true => Ok(()),
        false => Err(ExportError::Refused(status)),
    }
}

fn resource(observer: &Observer) -> Value {
    json!({"attributes": [
        attribute("service.name", "ringgate-dataplane"),
        attribute("service.version", env!("CARGO_PKG_VERSION")),
        attribute("service.instance.id", observer.node()),
    ]})
}

fn scope() -> Value {
    json!({"name": "ringgate", "version": env!("CARGO_PKG_VERSION")})
}

fn attribute(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// OTLP's JSON has 64-bit integers as texts.
fn integer(value: u64) -> Value {
    value.to_string().into()
}
