//! Tables of text, readable in a terminal and valid as Markdown.

use std::fmt;

use super::{Report, Spread, Summary};

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
    pub fn new(headings: &[&str]) -> Table {
        Table {
            rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()],
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
        let mut table = Table::new(&[
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
        ]);
        for summary in &self.results {
            table.row(cells(summary));
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
        let runs = self.results.iter().map(|summary| summary.runs).min().unwrap_or(0);
        writeln!(
            f,
            "medians of {runs} runs; CPU is the server's, of all its threads, for each message that arrived"
        )?;
        write!(f, "{}", self.command)
    }
}

fn cells(summary: &Summary) -> Vec<String> {
    let number = |spread: Option<Spread>, digits: usize| {
        spread.map_or("–".into(), |it| format!("{:.digits$}", it.median))
    };
    let range =
        |spread: Option<Spread>| spread.map_or("–".into(), |it| format!("{:.0} – {:.0}", it.min, it.max));
    let lost = match summary.misordered {
        0 => summary.lost.to_string(),
        count => format!("{}, {count} out of order", summary.lost),
    };
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
        number(summary.cpu_to_limit, 2),
        format!("{:.0}", summary.per_second.median),
        format!("{:.1}", summary.latency_us.p50),
        format!("{:.1}", summary.latency_us.p99),
        format!("{:.1}", summary.latency_us.p999),
        summary
            .busy
            .map_or("–".into(), |it| format!("{:.0} %", it.median * 100.0)),
        summary.rss_bytes.map_or("–".into(), |it| {
            format!("{:.1}", it as f64 / f64::from(1 << 20))
        }),
        lost,
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
