//! What benchmarks leave for each other: criterion's estimates, and the tables that `summary` shows at the end.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use criterion::Criterion;
use ringgate_perf::report::Table;
use serde_json::Value;

/// Time to warm up, and time to measure, of each benchmark: a hundred of them take two minutes, and on a machine that is quiet ten
/// times as much changes the third digit.
const WARM_UP: Duration = Duration::from_millis(200);
const MEASUREMENT: Duration = Duration::from_millis(800);
/// Samples of each.
const SAMPLES: usize = 30;
/// Results older than this are of another run of `cargo bench`.
const AGE_MAX: Duration = Duration::from_secs(3600);

/// The settings of all micro benchmarks. The command line overrides them.
pub fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(WARM_UP)
        .measurement_time(MEASUREMENT)
        .sample_size(SAMPLES)
}

/// Keeps a benchmark's tables for `summary`.
///
/// # Errors
/// When they cannot be written.
pub fn keep(name: &str, text: &str) -> io::Result<()> {
    let path = kept_path(name);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text)
}

/// What [`keep`] has kept lately.
pub fn kept(name: &str) -> Option<String> {
    let path = kept_path(name);
    is_recent(&path).then(|| fs::read_to_string(path).ok()).flatten()
}

/// The table of all of criterion's lately estimated times, by group.
pub fn micro() -> Option<Table> {
    let mut rows = Vec::new();
    collect(&target().join("criterion"), &mut rows);
    rows.sort();
    let mut table = Table::new(&["benchmark", "time", "[95 % within]", "each"]);
    for (_, cells) in &rows {
        table.row(cells.clone());
    }
    (!rows.is_empty()).then_some(table)
}

/// Finds `new/benchmark.json` beside `new/estimates.json`, which is where criterion leaves its results.
fn collect(folder: &Path, rows: &mut Vec<(String, Vec<String>)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.ends_with("new") && is_recent(&path.join("estimates.json")) {
            rows.extend(row(&path));
        } else if path.is_dir() {
            collect(&path, rows);
        }
    }
}

fn row(folder: &Path) -> Option<(String, Vec<String>)> {
    let read = |name: &str| -> Option<Value> {
        serde_json::from_str(&fs::read_to_string(folder.join(name)).ok()?).ok()
    };
    let (benchmark, estimates) = (read("benchmark.json")?, read("estimates.json")?);
    let name = benchmark["full_id"].as_str()?.to_owned();
    // Criterion prefers the slope where it has sampled for it.
    let estimate = match &estimates["slope"] {
        Value::Null => &estimates["mean"],
        slope => slope,
    };
    let nanos = estimate["point_estimate"].as_f64()?;
    let interval = &estimate["confidence_interval"];
    let bounds =
        [&interval["lower_bound"], &interval["upper_bound"]].map(|bound| bound.as_f64().unwrap_or(nanos));
    let each = benchmark["throughput"]["Elements"]
        .as_f64()
        .filter(|elements| *elements > 1.0);
    let cells = vec![
        name.clone(),
        time(nanos),
        format!("{} – {}", time(bounds[0]), time(bounds[1])),
        each.map_or(String::new(), |elements| time(nanos / elements)),
    ];
    Some((name, cells))
}

fn time(nanos: f64) -> String {
    match nanos {
        ..1e3 => format!("{nanos:.1} ns"),
        ..1e6 => format!("{:.2} µs", nanos / 1e3),
        _ => format!("{:.2} ms", nanos / 1e6),
    }
}

fn is_recent(path: &Path) -> bool {
    let modified = fs::metadata(path).and_then(|it| it.modified());
    let age = modified
        .ok()
        .and_then(|modified| SystemTime::now().duration_since(modified).ok());
    age.is_some_and(|age| age < AGE_MAX)
}

fn kept_path(name: &str) -> PathBuf {
    target().join("ringgate-benches").join(name).with_extension("txt")
}

/// The folder that cargo builds into: where this program is, up to the profile's folder.
fn target() -> PathBuf {
    if let Some(folder) = std::env::var_os("CARGO_TARGET_DIR") {
        return folder.into();
    }
    let program = std::env::current_exe().unwrap_or_default();
    let folder = program
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").is_file());
    folder.map_or_else(|| "target".into(), Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_fitting_unit() {
        assert_eq!(time(12.34), "12.3 ns");
        assert_eq!(time(12_340.0), "12.34 µs");
        assert_eq!(time(12_340_000.0), "12.34 ms");
    }
}
