//! What a run is shown as: a table for people, JSON for programs, `.hgrm` and SVG for latency.

mod hgrm;
mod svg;
mod table;

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::compare::Reference;
use crate::machine;
use crate::work::Outcome;

pub use hgrm::hgrm;
pub use svg::svg;
pub use table::Table;

/// Everything that a command has measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What it was measured on.
    pub machine: String,
    /// The command that measured it.
    pub command: String,
    /// One for each kind of work and server.
    pub results: Vec<Summary>,
    /// What could not be measured, and why.
    pub missing: Vec<String>,
    /// What the table shows of it.
    #[serde(skip)]
    pub view: View,
    /// What ratios were taken to.
    #[serde(skip)]
    pub reference: Reference,
}

/// Which columns a table has. JSON has all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum View {
    /// The server's processor time for each message first, and some of the rest.
    #[default]
    Cost,
    /// Percentiles of latency.
    Latency,
}

impl Report {
    /// A report of this process' command line.
    pub fn new(results: Vec<Summary>, missing: Vec<String>) -> Report {
        let command: Vec<String> = std::env::args().collect();
        Report {
            machine: machine::describe(),
            command: command.join(" "),
            results,
            missing,
            view: View::default(),
            reference: Reference::default(),
        }
    }
}

/// The runs of one kind of work against one server.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The work.
    pub work: String,
    /// The server.
    pub server: String,
    /// How often it ran.
    pub runs: usize,
    /// The server's processor time for each message that arrived, nanoseconds.
    pub cpu_ns_per_message: Option<Spread>,
    /// The same, divided by the limit's, or what else it was compared with, in the same repetition.
    pub cpu_ratio: Option<Spread>,
    /// The median latency, divided in the same way.
    pub p50_ratio: Option<Spread>,
    /// The 99th percentile, divided in the same way.
    pub p99_ratio: Option<Spread>,
    /// Messages that arrived in each second.
    pub per_second: Spread,
    /// Latency over all runs, microseconds.
    pub latency_us: Latency,
    /// Share of the measured time in which the server was on a processor.
    pub busy: Option<Spread>,
    /// Share of the measured time in which the load waited for its core because others used it.
    pub load_waited: Spread,
    /// The most by which the load was late for its own schedule in any of the runs (open loop), milliseconds.
    pub load_late_ms: f64,
    /// Whether that was too much, so that what was lost or late is the load's doing and not the server's.
    pub load_starved: bool,
    /// Resident memory of the server at the end, bytes; the largest of the runs.
    pub rss_bytes: Option<u64>,
    /// Messages sent in the measured time of all runs.
    pub sent: u64,
    /// Messages that arrived in it.
    pub done: u64,
    /// Messages that never arrived or that the server said it dropped.
    pub lost: u64,
    /// Messages that arrived out of order.
    pub misordered: u64,
    /// The latencies themselves, nanoseconds.
    #[serde(skip)]
    pub histogram: Histogram<u64>,
}

impl Summary {
    /// Sums up runs of the same work. At least one.
    pub fn new(work: String, server: String, outcomes: &[Outcome]) -> Summary {
        let mut histogram = crate::work::histogram();
        for outcome in outcomes {
            histogram
                .add(&outcome.latency)
                .expect("all histograms have the same bounds");
        }
        Summary {
            work,
            server,
            runs: outcomes.len(),
            cpu_ns_per_message: Spread::of(outcomes.iter().filter_map(Outcome::cpu_ns_per_message)),
            cpu_ratio: None,
            p50_ratio: None,
            p99_ratio: None,
            per_second: Spread::of(outcomes.iter().map(Outcome::per_second)).unwrap_or_default(),
            latency_us: Latency::of(&histogram),
            busy: Spread::of(outcomes.iter().filter_map(|run| Some(share(run.cpu?, run)))),
            load_waited: Spread::of(outcomes.iter().map(|run| share(run.load_waited, run)))
                .unwrap_or_default(),
            load_late_ms: outcomes
                .iter()
                .map(|run| run.load_late.as_secs_f64() * 1e3)
                .fold(0.0, f64::max),
            load_starved: outcomes.iter().any(Outcome::is_load_starved),
            rss_bytes: outcomes
                .iter()
                .filter_map(|run| Some(run.usage?.1.rss_bytes))
                .max(),
            sent: outcomes.iter().map(|run| run.sent).sum(),
            done: outcomes.iter().map(|run| run.done).sum(),
            lost: outcomes.iter().map(|run| run.lost).sum(),
            misordered: outcomes.iter().map(|run| run.misordered).sum(),
            histogram,
        }
    }
}

/// The share of a run's time.
fn share(time: Duration, run: &Outcome) -> f64 {
    time.as_secs_f64() / run.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
}

/// A median and what lies around it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spread {
    /// The middle value.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of some values; `None` when there are none.
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let upper = values[values.len() / 2];
        let lower = values[(values.len() - 1) / 2];
        Some(Spread {
            median: (lower + upper) / 2.0,
            min,
            max,
        })
    }
}

/// Percentiles, microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// Half are faster.
    pub p50: f64,
    /// Nine of ten are faster.
    pub p90: f64,
    /// 99 of 100 are faster.
    pub p99: f64,
    /// 999 of 1000 are faster.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Latency {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Latency {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_of_even_and_odd_counts() {
        assert_eq!(
            Spread::of([3.0, 1.0, 2.0].into_iter()),
            Some(Spread {
                median: 2.0,
                min: 1.0,
                max: 3.0
            })
        );
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0].into_iter()).unwrap().median, 2.5);
        assert_eq!(Spread::of(std::iter::empty()), None);
    }
}
