//! The text form of a histogram that HdrHistogram's tools plot.

use std::fmt::Write;

use hdrhistogram::Histogram;

/// Steps for each halving of the distance to 100 %, as the other writers of this format take them.
const TICKS_PER_HALF: u32 = 5;
const NANOS_PER_UNIT: f64 = 1e3;

/// Latencies in nanoseconds as percentiles in microseconds.
pub fn hgrm(histogram: &Histogram<u64>) -> String {
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut count = 0;
    for value in histogram.iter_quantiles(TICKS_PER_HALF) {
        count += value.count_since_last_iteration();
        let quantile = value.quantile_iterated_to();
        let value = value.value_iterated_to() as f64 / NANOS_PER_UNIT;
        // Writing to a String cannot fail.
        let _ = match quantile < 1.0 {
            true => writeln!(
                text,
                "{value:12.3} {quantile:2.12} {count:10} {:14.2}",
                1.0 / (1.0 - quantile)
            ),
            false => writeln!(text, "{value:12.3} {quantile:2.12} {count:10}"),
        };
    }
    let _ = writeln!(
        text,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n#[Max     = {:12.3}, Total count    = {:12}]\n\
         #[Buckets = {:12}, SubBuckets     = {:12}]",
        histogram.mean() / NANOS_PER_UNIT,
        histogram.stdev() / NANOS_PER_UNIT,
        histogram.max() as f64 / NANOS_PER_UNIT,
        histogram.len(),
        histogram.buckets(),
        2048
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_data_has_everything() {
        let mut histogram = crate::work::histogram();
        (1..=1000).for_each(|micros| histogram.record(micros * 1000).unwrap());
        let text = hgrm(&histogram);
        let last = text.lines().rfind(|line| !line.starts_with('#')).unwrap();
        assert_eq!(last.split_whitespace().nth(1), Some("1.000000000000"));
        assert_eq!(last.split_whitespace().nth(2), Some("1000"));
    }
}
