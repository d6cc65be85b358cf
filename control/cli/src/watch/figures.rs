//! Figures as people read them.

use serde_json::Value;

/// A duration in three digits and its unit.
pub(super) fn nanos(value: u64) -> String {
    let value = value as f64;
    match value {
        value if value < 1e3 => format!("{value:.0} ns"),
        value if value < 1e6 => format!("{} µs", digits(value / 1e3)),
        value if value < 1e9 => format!("{} ms", digits(value / 1e6)),
        value => format!("{} s", digits(value / 1e9)),
    }
}

/// A number of bytes.
pub(super) fn bytes(value: f64) -> String {
    match value {
        value if value < 1024.0 => format!("{value:.0} B"),
        value if value < 1048576.0 => format!("{} KiB", digits(value / 1024.0)),
        value if value < 1073741824.0 => format!("{} MiB", digits(value / 1048576.0)),
        value => format!("{} GiB", digits(value / 1073741824.0)),
    }
}

/// How many in a second, or how many.
pub(super) fn many(value: f64) -> String {
    match value {
        value if value < 10_000.0 => format!("{value:.0}"),
        value if value < 1e6 => format!("{} k", digits(value / 1e3)),
        value => format!("{} M", digits(value / 1e6)),
    }
}

fn digits(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// The time of day, in UTC, to the microsecond.
pub(super) fn clock(unix_nanos: u64) -> String {
    let seconds = unix_nanos / 1_000_000_000 % (24 * 3600);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!(
        "{hours:02}:{minutes:02}:{:02}.{:06}",
        seconds % 60,
        unix_nanos % 1_000_000_000 / 1000
    )
}

/// A text field; empty where it is not there.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or("")
}

/// A number field; 0 where it is not there.
pub(super) fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or(0)
}

/// Shortens a name to `width`, keeping its end, which tells names apart.
pub(super) fn shortened(name: &str, width: usize) -> String {
    let count = name.chars().count();
    if count <= width {
        return name.to_owned();
    }
    let end: String = name.chars().skip(count + 1 - width).collect();
    format!("…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(
            (nanos(999), nanos(1_234), nanos(98_700_000)),
            ("999 ns".into(), "1.23 µs".into(), "98.7 ms".into())
        );
        assert_eq!((bytes(12.0), bytes(1536.0)), ("12 B".into(), "1.50 KiB".into()));
        assert_eq!(
            (many(9_999.0), many(123_456.0), many(2_500_000.0)),
            ("9999".into(), "123 k".into(), "2.50 M".into())
        );
        assert_eq!(shortened("acme/demo/bot/1", 6), "…bot/1");
        assert_eq!(clock(1_700_000_000_123_456_789), "22:13:20.123456");
    }
}
