//! Metrics as text: Prometheus 0.0.4, and OpenMetrics 1.0 for those who ask for it.

use std::fmt::Write;

use super::catalogue::{FAMILIES, Family, Type};
use super::hops::Hops;
use super::report::CoreReport;

/// Upper bounds of the buckets of histograms, in nanoseconds: 1, 2, 5 and so on, from a microsecond to ten seconds.
pub(super) const BUCKETS: [u64; 22] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
];
/// The histograms' name.
pub(super) const HOPS: &str = "ringgate_hop_seconds";
/// What they mean.
pub(super) const HOPS_HELP: &str = "How long sampled messages took for a part of their way.";

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// What a client asks for by its `Accept`.
    pub fn of(accept: &str) -> Format {
        match accept.contains("application/openmetrics-text") {
            true => Format::OpenMetrics,
            false => Format::Prometheus,
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A text that metrics are written to.
#[derive(Debug)]
pub(super) struct Text {
    format: Format,
    text: String,
}

impl Text {
    pub(super) fn new(format: Format) -> Text {
        Text {
            format,
            text: String::new(),
        }
    }

    /// The first lines of a metric; what its samples are called.
    pub(super) fn head(&mut self, name: &str, kind: Type, help: &str) -> String {
        let (word, sample) = match kind {
            Type::Counter => ("counter", format!("{name}_total")),
            Type::Gauge => ("gauge", name.to_owned()),
        };
        let named = match self.format {
            Format::Prometheus => &sample,
            Format::OpenMetrics => name,
        };
        let _ = writeln!(self.text, "# HELP {named} {help}\n# TYPE {named} {word}");
        sample
    }

    /// A metric with one sample.
    pub(super) fn single(&mut self, name: &str, kind: Type, help: &str, value: u64) {
        let sample = self.head(name, kind, help);
        let _ = writeln!(self.text, "{sample} {value}");
    }

    /// One sample.
    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.text.push_str(name);
        for (position, (label, value)) in labels.iter().enumerate() {
            // Values are of closed lists: nothing needs to be escaped.
            let _ = write!(
                self.text,
                "{}{label}=\"{value}\"",
                if position == 0 { '{' } else { ',' }
            );
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// All counts of all cores.
    pub(super) fn cores(&mut self, reports: &[CoreReport]) {
        for family in FAMILIES {
            let sample = self.head(family.name, family.kind, family.help);
            for report in reports {
                self.core(family, &sample, report);
            }
        }
    }

    fn core(&mut self, family: &Family, sample: &str, report: &CoreReport) {
        let core = report.core.to_string();
        for series in family.series {
            // A dialect that is off has no counts.
            let Some(value) = report.count(series.count) else {
                continue;
            };
            let mut labels = vec![("core", core.as_str())];
            labels.extend(series.labels);
            match family.nanos {
                false => self.sample(sample, &labels, value),
                true => self.sample(sample, &labels, value as f64 / 1e9),
            }
        }
    }

    /// The histograms.
    pub(super) fn hops(&mut self, hops: &Hops) {
        let _ = writeln!(self.text, "# HELP {HOPS} {HOPS_HELP}\n# TYPE {HOPS} histogram");
        for (key, histogram) in hops.iter() {
            let labels = [
                ("hop", key.hop.name()),
                ("dialect", key.dialect),
                ("kind", key.kind),
            ];
            let mut below = 0;
            let mut from = 0;
            for bound in BUCKETS {
                below += histogram.count_between(from, bound);
                from = bound + 1;
                let bound = (bound as f64 / 1e9).to_string();
                let mut labels = labels.to_vec();
                labels.push(("le", &bound));
                self.sample(&format!("{HOPS}_bucket"), &labels, below.min(histogram.len()));
            }
            let mut all = labels.to_vec();
            all.push(("le", "+Inf"));
            self.sample(&format!("{HOPS}_bucket"), &all, histogram.len());
            self.sample(
                &format!("{HOPS}_sum"),
                &labels,
                histogram.mean() * histogram.len() as f64 / 1e9,
            );
            self.sample(&format!("{HOPS}_count"), &labels, histogram.len());
        }
    }

    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{Hop, HopKey};

    #[test]
    fn counters_and_gauges_are_written_as_each_format_wants() {
        let report = CoreReport {
            core: 1,
            counts: vec![("turns", 7), ("spin_nanos", 1_500_000_000), ("connections", 3)],
            hops: Hops::default(),
            details: Vec::new(),
        };
        let mut text = Text::new(Format::Prometheus);
        text.cores(std::slice::from_ref(&report));
        let text = text.finish();
        assert!(
            text.contains("# TYPE ringgate_turns_total counter\nringgate_turns_total{core=\"1\"} 7\n"),
            "{text}"
        );
        assert!(
            text.contains("ringgate_core_seconds_total{core=\"1\",state=\"spin\"} 1.5\n"),
            "{text}"
        );
        assert!(
            text.contains("# TYPE ringgate_connections gauge\nringgate_connections{core=\"1\"} 3\n"),
            "{text}"
        );
        let mut text = Text::new(Format::of(
            "application/openmetrics-text;version=1.0.0,text/plain",
        ));
        text.cores(&[report]);
        let text = text.finish();
        assert!(
            text.contains("# TYPE ringgate_turns counter\nringgate_turns_total{core=\"1\"} 7\n"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn buckets_add_up() {
        let mut hops = Hops::default();
        let key = HopKey {
            hop: Hop::QueueWire,
            dialect: "agp.v1",
            kind: "publish",
        };
        for nanos in [500, 1_500, 1_500, 3_000_000, 50_000_000_000] {
            hops.record(key, nanos);
        }
        let mut text = Text::new(Format::Prometheus);
        text.hops(&hops);
        let text = text.finish();
        let line = |le: &str| {
            format!(
                "ringgate_hop_seconds_bucket{{hop=\"queue_wire\",dialect=\"agp.v1\",kind=\"publish\",le=\"{le}\"}}"
            )
        };
        for (le, count) in [
            ("0.000001", 1),
            ("0.000002", 3),
            ("0.001", 3),
            ("0.005", 4),
            ("10", 4),
            ("+Inf", 5),
        ] {
            assert!(text.contains(&format!("{} {count}\n", line(le))), "{le}: {text}");
        }
    }
}
