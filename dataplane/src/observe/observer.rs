//! Knows the node's cores and asks them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value, json};

use super::catalogue::{Type, undeclared};
use super::events::EventLog;
use super::exposition::{Format, Text};
use super::flows::Flows;
use super::hops::Hops;
use super::inbox::{Command, CommandSender};
use super::inspection::{Inspection, Row, in_order};
use super::link_status::LinkStatus;
use super::observation::SecurityCounts;
use super::report::CoreReport;

/// How long a core may take to answer. One that takes longer is stuck, and that is the answer.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);
/// How much of the past percentiles are of.
const RECENT: Duration = Duration::from_secs(60);
/// Times of the past are kept in pieces of this length; twelve of them at most.
const RECENT_PIECE: Duration = Duration::from_secs(5);
/// Rows of a page at most.
const PAGE_MAX: usize = 1000;
/// Rows of a page where the client does not say.
const PAGE: usize = 100;
/// Rows that may be in front of a page: cores answer all of them.
const SKIP_MAX: usize = 10_000;

/// What the observer is of.
#[derive(Debug)]
pub struct Observed {
    /// Name of the node.
    pub node: String,
    /// Its CPUs, by core.
    pub cpus: Vec<usize>,
    /// Its cores.
    pub cores: Vec<CommandSender>,
    /// Its security events, counted.
    pub security: Arc<SecurityCounts>,
    /// The link to a control process where there is one.
    pub link: Option<Arc<LinkStatus>>,
    /// Messages that are followed.
    pub flows: Arc<Flows>,
}

/// See the module.
#[derive(Debug)]
pub struct Observer {
    of: Observed,
    draining: AtomicBool,
    events: EventLog,
    times: Mutex<Times>,
    started: SystemTime,
}

/// Times of all cores.
#[derive(Debug, Default)]
struct Times {
    total: Hops,
    /// Newest last.
    recent: VecDeque<(Instant, Hops)>,
}

/// Which rows of a list are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    skip: usize,
    most: usize,
}

impl Page {
    /// As a client asks for it, within bounds.
    pub fn new(skip: Option<usize>, most: Option<usize>) -> Page {
        Page {
            skip: skip.unwrap_or(0).min(SKIP_MAX),
            most: most.unwrap_or(PAGE).clamp(1, PAGE_MAX),
        }
    }

    /// Rows in front of it.
    pub fn skip(self) -> usize {
        self.skip
    }

    /// Its rows at most.
    pub fn most(self) -> usize {
        self.most
    }

    fn of(self, rows: Vec<Row>) -> Vec<Value> {
        let rows = in_order(rows).into_iter().skip(self.skip).take(self.most);
        rows.map(|row| row.json).collect()
    }

    fn end(self) -> usize {
        self.skip + self.most
    }
}

impl Observer {
    /// An observer of a node.
    pub fn new(of: Observed) -> Observer {
        Observer {
            of,
            draining: AtomicBool::new(false),
            events: EventLog::default(),
            times: Mutex::default(),
            started: SystemTime::now(),
        }
    }

    /// From now on the node is not ready.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the node is about to end.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Security events.
    pub fn events(&self) -> &EventLog {
        &self.events
    }

    /// Messages that are followed.
    pub fn flows(&self) -> &Arc<Flows> {
        &self.of.flows
    }

    /// Name of the node.
    pub fn node(&self) -> &str {
        &self.of.node
    }

    /// When the node started.
    pub(super) fn started(&self) -> SystemTime {
        self.started
    }

    /// Whether all cores answer in time. Blocks for as long.
    pub fn is_healthy(&self) -> bool {
        self.reports(false).len() == self.of.cores.len()
    }

    /// Answers of all cores in time. Blocks for as long.
    fn ask<T>(&self, command: impl Fn(std::sync::mpsc::SyncSender<T>) -> Command) -> Vec<T> {
        let (sender, receiver) = sync_channel(self.of.cores.len());
        let asked = self
            .of
            .cores
            .iter()
            .filter(|core| core.send(command(sender.clone())))
            .count();
        drop(sender);
        let answers = (0..asked).map_while(|_| receiver.recv_timeout(REPORT_TIMEOUT).ok());
        answers.collect()
    }

    /// Reports of all cores that answer in time. Their times are taken in.
    pub(super) fn reports(&self, sessions: bool) -> Vec<CoreReport> {
        let mut reports = self.ask(|reply| Command::Report { sessions, reply });
        reports.sort_by_key(|report| report.core);
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        reports
            .iter_mut()
            .for_each(|report| times.add(report.hops.take()));
        reports
    }

    /// All counts, summed over the cores. Blocks for the time the cores take.
    pub fn totals(&self) -> BTreeMap<&'static str, u64> {
        totals(&self.reports(false))
    }

    /// `/stats`.
    pub fn stats(&self) -> Value {
        let reports = self.reports(true);
        let sessions: Vec<&Value> = reports.iter().flat_map(|report| &report.details).collect();
        let mut stats = self.summary(&reports);
        stats["sessions"] = json!(sessions);
        stats
    }

    /// What `/stats` and `/corez` share.
    fn summary(&self, reports: &[CoreReport]) -> Value {
        let cores: Vec<Value> = reports
            .iter()
            .map(|report| {
                let mut counts: Map<String, Value> = report
                    .counts
                    .iter()
                    .map(|(name, count)| ((*name).to_owned(), (*count).into()))
                    .collect();
                counts.insert("core".to_owned(), report.core.into());
                counts.insert("cpu".to_owned(), json!(self.of.cpus.get(report.core)));
                Value::Object(counts)
            })
            .collect();
        let security = &self.of.security;
        let first = reports.iter().take(1).flat_map(|report| &report.counts);
        json!({
            "node": self.of.node,
            "version": env!("CARGO_PKG_VERSION"),
            "time_unix_nanos": super::unix_nanos(),
            "started_unix": self.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
            "draining": self.is_draining(),
            "cores_expected": self.of.cores.len(),
            "total": totals(reports),
            "cores": cores,
            "security_events": security.kinds().map(|(kind, count)| (kind.code(), count)).collect::<BTreeMap<_, _>>(),
            "security_events_lost": security.lost(),
            "control": self.of.link.as_ref().map(|link| link.to_json()),
            "undeclared": undeclared(first.map(|(name, _)| *name)),
        })
    }

    /// `/corez`.
    pub fn corez(&self) -> Value {
        let reports = self.reports(false);
        let mut summary = self.summary(&reports);
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        summary["hops"] = percentiles(&times.recent());
        summary["taps"] = self.of.flows.taps();
        summary
    }

    /// `/connz`: those that read most slowly first.
    pub fn connz(&self, page: Page) -> Value {
        let rows = self.inspect(&Inspection::Connections { most: page.end() });
        json!({"node": self.of.node, "connections": page.of(rows)})
    }

    /// `/subz`: likewise.
    pub fn subz(&self, page: Page) -> Value {
        let rows = self.inspect(&Inspection::Subscriptions { most: page.end() });
        json!({"node": self.of.node, "subscriptions": page.of(rows)})
    }

    /// `/linkz`: links to other nodes, and those that are wanted and are not there.
    pub fn linkz(&self, page: Page) -> Value {
        let rows = self.inspect(&Inspection::Links { most: page.end() });
        json!({"node": self.of.node, "links": page.of(rows)})
    }

    /// `/nodez`: the nodes of the network, and how they are reached.
    pub fn nodez(&self, page: Page) -> Value {
        let rows = self.inspect(&Inspection::Nodes { most: page.end() });
        json!({"node": self.of.node, "nodes": page.of(rows)})
    }

    /// `/topicz`: the busiest first.
    pub fn topicz(&self, page: Page) -> Value {
        let rows = self.inspect(&Inspection::Topics { most: page.end() });
        json!({"node": self.of.node, "time_unix_nanos": super::unix_nanos(), "topics": page.of(merged(rows))})
    }

    /// `/agentz`: by name, from the first behind `after`. Any core knows all; the first that answers is asked.
    pub fn agentz(&self, after: &str, page: Page) -> Value {
        let inspection = Inspection::Agents {
            after: after.to_owned(),
            most: page.most,
        };
        let (sender, receiver) = sync_channel(1);
        let rows = self.of.cores.iter().find_map(|core| {
            core.send(Command::Inspect(inspection.clone(), sender.clone()));
            receiver.recv_timeout(REPORT_TIMEOUT).ok()
        });
        let agents = page.of(rows.unwrap_or_default());
        let next = (agents.len() == page.most).then(|| agents.last().map(|agent| agent["name"].clone()));
        json!({"node": self.of.node, "agents": agents, "next": next.flatten()})
    }

    fn inspect(&self, inspection: &Inspection) -> Vec<Row> {
        let answers = self.ask(|reply| Command::Inspect(inspection.clone(), reply));
        answers.into_iter().flatten().collect()
    }

    /// `/metrics`.
    pub fn metrics(&self, format: Format) -> String {
        let reports = self.reports(false);
        let mut text = Text::new(format);
        text.cores(&reports);
        self.with_hops(|hops| text.hops(hops));
        self.node_metrics(&mut text);
        text.finish()
    }

    /// Looks at all times since the start.
    pub(super) fn with_hops(&self, look: impl FnOnce(&Hops)) {
        look(&self.times.lock().unwrap_or_else(PoisonError::into_inner).total);
    }

    /// Metrics of the node as a whole.
    fn node_metrics(&self, text: &mut Text) {
        let security = &self.of.security;
        let help = "Security events, by kind.";
        let name = text.head("ringgate_security_events", Type::Counter, help);
        for (kind, count) in security.kinds() {
            text.sample(&name, &[("kind", kind.code())], count);
        }
        for (name, kind, help, value) in self.node_counts() {
            text.single(name, kind, help, value);
        }
    }

    /// Security events by kind.
    pub(super) fn security_counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.of.security.kinds().map(|(kind, count)| (kind.code(), count))
    }

    /// Counts of the node as a whole: name, type, meaning, value.
    pub(super) fn node_counts(&self) -> Vec<(&'static str, Type, &'static str, u64)> {
        let flows = self.of.flows.counts();
        let mut counts = vec![
            (
                "ringgate_security_events_lost",
                Type::Counter,
                "Security events that reached no log.",
                self.of.security.lost(),
            ),
            (
                "ringgate_flow_messages_skipped",
                Type::Counter,
                "Messages of conversations and taps that were not followed because too many were.",
                flows.skipped.load(Ordering::Relaxed),
            ),
            (
                "ringgate_flow_events_lost",
                Type::Counter,
                "Events of followed messages that found no room.",
                flows.lost.load(Ordering::Relaxed),
            ),
        ];
        if let Some(link) = &self.of.link {
            let attached = u64::from(link.is_attached());
            counts.push((
                "ringgate_control_attached",
                Type::Gauge,
                "Whether the control process is there.",
                attached,
            ));
            counts.push((
                "ringgate_control_version",
                Type::Gauge,
                "Version of the control process's state in force.",
                link.version(),
            ));
        }
        counts
    }
}

impl Times {
    fn add(&mut self, hops: Hops) {
        if hops.iter().next().is_none() {
            return;
        }
        let now = Instant::now();
        while self
            .recent
            .front()
            .is_some_and(|(since, _)| now.duration_since(*since) > RECENT)
        {
            self.recent.pop_front();
        }
        let fresh = self
            .recent
            .back()
            .is_some_and(|(since, _)| now.duration_since(*since) < RECENT_PIECE);
        if !fresh {
            self.recent.push_back((now, Hops::default()));
        }
        if let Some((_, piece)) = self.recent.back_mut() {
            piece.add(hops.clone());
        }
        self.total.add(hops);
    }

    fn recent(&self) -> Hops {
        let mut all = Hops::default();
        let now = Instant::now();
        let recent = self
            .recent
            .iter()
            .filter(|(since, _)| now.duration_since(*since) <= RECENT);
        recent.for_each(|(_, piece)| all.add(piece.clone()));
        all
    }
}

fn percentiles(hops: &Hops) -> Value {
    let told = hops.iter().map(|(key, histogram)| {
        json!({
            "hop": key.hop.name(),
            "dialect": key.dialect,
            "kind": key.kind,
            "count": histogram.len(),
            "p50_nanos": histogram.value_at_quantile(0.5),
            "p90_nanos": histogram.value_at_quantile(0.9),
            "p99_nanos": histogram.value_at_quantile(0.99),
            "p999_nanos": histogram.value_at_quantile(0.999),
            "max_nanos": histogram.max(),
        })
    });
    told.collect()
}

/// Rows about the same topic become one.
fn merged(rows: Vec<Row>) -> Vec<Row> {
    let mut by_topic: BTreeMap<String, Row> = BTreeMap::new();
    for row in rows {
        let Some(known) = by_topic.get_mut(&row.key) else {
            by_topic.insert(row.key.clone(), row);
            continue;
        };
        known.rank[0] += row.rank[0];
        known.json["published"] = known.rank[0].into();
        // Each core counts those of the others too, as it knows them.
        let subscribers = known.json["subscribers"]
            .as_u64()
            .max(row.json["subscribers"].as_u64());
        known.json["subscribers"] = json!(subscribers);
    }
    by_topic.into_values().collect()
}

fn totals(reports: &[CoreReport]) -> BTreeMap<&'static str, u64> {
    let mut totals = BTreeMap::new();
    for (name, count) in reports.iter().flat_map(|report| &report.counts) {
        *totals.entry(*name).or_default() += count;
    }
    totals
}
