//! A plot of latency over percentiles, both on logarithmic scales, so that the tail is as visible as the middle.

use std::fmt::Write;

use hdrhistogram::Histogram;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 480.0;
const MARGIN: f64 = 70.0;
const COLOURS: [&str; 8] = [
    "#0b6e99", "#c4342b", "#3f7d20", "#8a4fbe", "#d08700", "#555555", "#0aa5a0", "#b3387e",
];
/// Nines shown to the right end, if there are enough values for them.
const NINES_MAX: f64 = 6.0;

/// Draws one line for each named histogram of nanoseconds.
pub fn svg(title: &str, lines: &[(&str, &Histogram<u64>)]) -> String {
    let count = lines
        .iter()
        .map(|(_, histogram)| histogram.len())
        .max()
        .unwrap_or(1)
        .max(10);
    let nines = (count as f64).log10().min(NINES_MAX);
    let low = lines
        .iter()
        .map(|(_, it)| it.min().max(100))
        .min()
        .unwrap_or(1_000) as f64;
    let high = lines.iter().map(|(_, it)| it.max()).max().unwrap_or(1_000_000) as f64;
    let plot = Plot {
        nines,
        low: low.log10().floor(),
        high: high.log10().ceil().max(low.log10().floor() + 1.0),
    };
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n<text x=\"{MARGIN}\" y=\"28\" font-size=\"15\">{}</text>\n",
        escape(title)
    );
    plot.axes(&mut text);
    for (number, (name, histogram)) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        plot.line(histogram, colour, &mut text);
        let y = 60.0 + 18.0 * number as f64;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{y}\" fill=\"{colour}\">{}</text>",
            MARGIN + 14.0,
            escape(name)
        );
    }
    text.push_str("</svg>\n");
    text
}

/// The scales: powers of ten of nanoseconds upwards, powers of ten of rarity to the right.
struct Plot {
    nines: f64,
    low: f64,
    high: f64,
}

impl Plot {
    fn x(&self, quantile: f64) -> f64 {
        let rarity = -(1.0 - quantile).max(f64::MIN_POSITIVE).log10();
        MARGIN + (rarity / self.nines).clamp(0.0, 1.0) * (WIDTH - 2.0 * MARGIN)
    }

    fn y(&self, nanos: f64) -> f64 {
        let share = (nanos.max(1.0).log10() - self.low) / (self.high - self.low);
        HEIGHT - MARGIN - share.clamp(0.0, 1.0) * (HEIGHT - 2.0 * MARGIN)
    }

    fn axes(&self, text: &mut String) {
        for power in self.low as i32..=self.high as i32 {
            let nanos = 10f64.powi(power);
            let y = self.y(nanos);
            let label = match power {
                ..3 => format!("{nanos} ns"),
                3..6 => format!("{} µs", nanos / 1e3),
                6..9 => format!("{} ms", nanos / 1e6),
                _ => format!("{} s", nanos / 1e9),
            };
            let right = WIDTH - MARGIN;
            let _ = writeln!(
                text,
                "<path d=\"M{MARGIN} {y:.1}H{right}\" stroke=\"#dddddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                MARGIN - 8.0,
                y + 4.0
            );
        }
        for power in 0..=self.nines as i32 {
            let quantile = 1.0 - 10f64.powi(-power);
            let x = self.x(quantile);
            let (top, bottom) = (MARGIN, HEIGHT - MARGIN);
            let digits = (power - 2).max(0) as usize;
            let _ = writeln!(
                text,
                "<path d=\"M{x:.1} {top}V{bottom}\" stroke=\"#dddddd\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{:.digits$} %</text>",
                bottom + 20.0,
                quantile * 100.0
            );
        }
    }

    fn line(&self, histogram: &Histogram<u64>, colour: &str, text: &mut String) {
        let mut path = String::new();
        for value in histogram.iter_quantiles(10) {
            let quantile = value.quantile_iterated_to();
            let command = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(
                path,
                "{command}{:.1} {:.1}",
                self.x(quantile),
                self.y(value.value_iterated_to() as f64)
            );
        }
        let _ = writeln!(
            text,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
        );
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_histogram_has_a_line_and_its_name() {
        let mut histogram = crate::work::histogram();
        (1..=1000).for_each(|micros| histogram.record(micros * 1000).unwrap());
        let text = svg("a < b", &[("one", &histogram), ("two", &histogram)]);
        assert_eq!(text.matches("stroke-width=\"2\"").count(), 2);
        assert!(text.contains("a &lt; b") && text.contains(">two</text>"));
        assert!(!text.contains("NaN"));
    }
}
