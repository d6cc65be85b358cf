//! Tables of text, readable in a terminal and valid as Markdown.

use std::fmt;

use super::{Latency, Report, Spread, Summary, View};

/// Share of the time for which the load may wait for its core before the report warns: what timers and the kernel's own threads
/// take of a quiet machine stays well below.
const WAITED_SHARE_MAX: f64 = 0.02;

/// Rows of cells under headings.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[impl AsRef<str>]) -> Table {
        Table {
            rows: vec![
                headings
                    .iter()
                    .map(|heading| heading.as_ref().to_owned())
                    .collect(),
            ],
        }
    }

    /// Adds a row, with as many cells as there are headings.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.rows[0].len());
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows[0].len();
        let width = |column: usize| {
            self.rows
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (number, row) in self.rows.iter().enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                write!(f, "| {cell:<width$} ")?;
            }
            writeln!(f, "|")?;
            if number == 0 {
                for width in &widths {
                    write!(f, "|{}", "-".repeat(width + 2))?;
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headings: Vec<String> = self
            .view
            .headings()
            .iter()
            .map(|heading| heading.replace("limit", self.reference.name()))
            .collect();
        let mut table = Table::new(&headings);
        for summary in &self.results {
            table.row(self.view.cells(summary));
        }
        writeln!(f, "{}\n\n{table}", self.machine)?;
        for missing in &self.missing {
            writeln!(f, "not measured: {missing}")?;
        }
        let waited = self
            .results
            .iter()
            .map(|summary| summary.load_waited.median)
            .fold(0.0, f64::max);
        if waited > WAITED_SHARE_MAX {
            writeln!(
                f,
                "THE MACHINE WAS NOT QUIET: the load waited for its core {:.0} % of the time; do not trust these numbers",
                waited * 100.0
            )?;
        }
        for starved in self.results.iter().filter(|summary| summary.load_starved) {
            writeln!(
                f,
                "LOAD STARVED: {}, {}: the load was kept from its core and came up to {:.0} ms late, reading nothing in that time; what \
                 was lost or late is its doing, not the server's",
                starved.work, starved.server, starved.load_late_ms
            )?;
        }
        let runs = self.results.iter().map(|summary| summary.runs).min().unwrap_or(0);
        match self.view {
            View::Cost => writeln!(
                f,
                "medians of {runs} runs; CPU is the server's, of all its threads, for each message that arrived"
            )?,
            View::Latency => writeln!(
                f,
                "percentiles over {runs} runs; ratios are medians; in open loop (/s) latency counts from when a message was due"
            )?,
        }
        write!(f, "{}", self.command)
    }
}

impl View {
    fn headings(self) -> [&'static str; 12] {
        match self {
            View::Cost => COST,
            View::Latency => LATENCY,
        }
    }

    fn cells(self, summary: &Summary) -> Vec<String> {
        match self {
            View::Cost => cost(summary),
            View::Latency => latency(summary),
        }
    }
}

const COST: [&str; 12] = [
    "work",
    "server",
    "CPU ns/msg",
    "[min – max]",
    "× limit",
    "msg/s",
    "p50 µs",
    "p99 µs",
    "p99.9 µs",
    "busy",
    "RSS MiB",
    "lost",
];

const LATENCY: [&str; 12] = [
    "work",
    "server",
    "p50 µs",
    "p90 µs",
    "p99 µs",
    "p99.9 µs",
    "max µs",
    "p50 × limit",
    "p99 × limit",
    "msg/s",
    "RSS MiB",
    "lost",
];

fn number(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or("–".into(), |it| format!("{:.digits$}", it.median))
}

fn mebibytes(bytes: Option<u64>) -> String {
    bytes.map_or("–".into(), |it| {
        format!("{:.1}", it as f64 / f64::from(1 << 20))
    })
}

fn lost(summary: &Summary) -> String {
    let mut text = summary.lost.to_string();
    if summary.misordered > 0 {
        text.push_str(&format!(", {} out of order", summary.misordered));
    }
    if summary.load_starved {
        text.push_str(", load starved");
    }
    text
}

fn latency(summary: &Summary) -> Vec<String> {
    let at = |micros: f64| format!("{micros:.1}");
    let Latency {
        p50,
        p90,
        p99,
        p999,
        max,
    } = summary.latency_us;
    vec![
        summary.work.clone(),
        summary.server.clone(),
        at(p50),
        at(p90),
        at(p99),
        at(p999),
        at(max),
        number(summary.p50_ratio, 2),
        number(summary.p99_ratio, 2),
        format!("{:.0}", summary.per_second.median),
        mebibytes(summary.rss_bytes),
        lost(summary),
    ]
}

fn cost(summary: &Summary) -> Vec<String> {
    let range =
        |spread: Option<Spread>| spread.map_or("–".into(), |it| format!("{:.0} – {:.0}", it.min, it.max));
    vec![
        summary.work.clone(),
        summary.server.clone(),
        number(
            summary.cpu_ns_per_message,
            if summary.cpu_ns_per_message.is_some_and(|it| it.median < 100.0) {
                1
            } else {
                0
            },
        ),
        range(summary.cpu_ns_per_message),
        number(summary.cpu_ratio, 2),
        format!("{:.0}", summary.per_second.median),
        format!("{:.1}", summary.latency_us.p50),
        format!("{:.1}", summary.latency_us.p99),
        format!("{:.1}", summary.latency_us.p999),
        summary
            .busy
            .map_or("–".into(), |it| format!("{:.0} %", it.median * 100.0)),
        mebibytes(summary.rss_bytes),
        lost(summary),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["a", "µs"]);
        table.row(vec!["long".into(), "1".into()]);
        assert_eq!(table.to_string(), "| a    | µs |\n|------|----|\n| long | 1  |\n");
    }
}
