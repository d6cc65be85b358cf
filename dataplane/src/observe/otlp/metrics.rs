//! Metrics as OTLP has them: sums and histograms since the start.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::{attribute, integer};
use crate::observe::catalogue::{FAMILIES, Family, Type};
use crate::observe::exposition::{BUCKETS, HOPS, HOPS_HELP};
use crate::observe::hops::Hops;
use crate::observe::observer::Observer;
use crate::observe::report::CoreReport;
use crate::observe::unix_nanos;

/// The sum is of everything since the start (`AGGREGATION_TEMPORALITY_CUMULATIVE`).
const CUMULATIVE: u32 = 2;

/// The time that values are of.
#[derive(Clone, Copy)]
struct Span {
    start: u64,
    now: u64,
}

/// All metrics of a node. Blocks for the time the cores take.
pub(super) fn of(observer: &Observer) -> Vec<Value> {
    let reports = observer.reports(false);
    let since = observer
        .started()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let span = Span {
        start: since.as_nanos() as u64,
        now: unix_nanos(),
    };
    let mut metrics: Vec<Value> = FAMILIES
        .iter()
        .map(|family| of_cores(family, &reports, span))
        .collect();
    let events = observer
        .security_counts()
        .map(|(kind, count)| point(vec![attribute("kind", kind)], integer(count), "asInt", span));
    metrics.push(metric(
        "ringgate_security_events",
        "Security events, by kind.",
        "1",
        Type::Counter,
        events.collect(),
    ));
    for (name, kind, help, value) in observer.node_counts() {
        metrics.push(metric(
            name,
            help,
            "1",
            kind,
            vec![point(Vec::new(), integer(value), "asInt", span)],
        ));
    }
    observer.with_hops(|hops| metrics.push(histograms(hops, span)));
    metrics
}

fn of_cores(family: &Family, reports: &[CoreReport], span: Span) -> Value {
    let mut points = Vec::new();
    for report in reports {
        let core = report.core.to_string();
        for series in family.series {
            let Some(value) = report.count(series.count) else {
                continue;
            };
            let mut attributes = vec![attribute("core", &core)];
            attributes.extend(series.labels.iter().map(|(label, value)| attribute(label, value)));
            points.push(match family.nanos {
                true => point(attributes, json!(value as f64 / 1e9), "asDouble", span),
                false => point(attributes, integer(value), "asInt", span),
            });
        }
    }
    let unit = if family.nanos { "s" } else { "1" };
    metric(family.name, family.help, unit, family.kind, points)
}

fn point(attributes: Vec<Value>, value: Value, kind: &str, span: Span) -> Value {
    json!({
        "attributes": attributes,
        "startTimeUnixNano": integer(span.start),
        "timeUnixNano": integer(span.now),
        kind: value,
    })
}

fn metric(name: &str, help: &str, unit: &str, kind: Type, points: Vec<Value>) -> Value {
    let (form, data) = match kind {
        Type::Counter => (
            "sum",
            json!({"aggregationTemporality": CUMULATIVE, "isMonotonic": true, "dataPoints": points}),
        ),
        Type::Gauge => ("gauge", json!({"dataPoints": points})),
    };
    json!({"name": name, "description": help, "unit": unit, form: data})
}

fn histograms(hops: &Hops, span: Span) -> Value {
    let points: Vec<Value> = hops
        .iter()
        .map(|(key, histogram)| {
            let mut from = 0;
            let mut below = 0;
            let mut counts: Vec<Value> = Vec::with_capacity(BUCKETS.len() + 1);
            for bound in BUCKETS {
                // A bucket of the histogram that lies across two bounds is counted once.
                let count = histogram.count_between(from, bound).min(histogram.len() - below);
                from = bound + 1;
                below += count;
                counts.push(integer(count));
            }
            counts.push(integer(histogram.len() - below));
            json!({
                "attributes": [
                    attribute("hop", key.hop.name()),
                    attribute("dialect", key.dialect),
                    attribute("kind", key.kind),
                ],
                "startTimeUnixNano": integer(span.start),
                "timeUnixNano": integer(span.now),
                "count": integer(histogram.len()),
                "sum": histogram.mean() * histogram.len() as f64 / 1e9,
                "bucketCounts": counts,
                "explicitBounds": BUCKETS.map(|bound| bound as f64 / 1e9),
            })
        })
        .collect();
    json!({
        "name": HOPS,
        "description": HOPS_HELP,
        "unit": "s",
        "histogram": {"aggregationTemporality": CUMULATIVE, "dataPoints": points},
    })
}
