//! `ringgate top`: a data plane at work, drawn anew every second.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _, stdout};
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use super::client::Endpoint;
use super::figures::{bytes, many, nanos, number, shortened, text};
use super::topics::rates;

/// Lines of each list.
const LINES: usize = 8;
/// Width of names.
const NAME: usize = 44;
/// Clears the screen, and puts the cursor at its beginning.
const CLEAR: &str = "\x1b[H\x1b[2J";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    every: f64,
    /// Look so often, then end.
    #[arg(long, value_name = "TIMES")]
    times: Option<u64>,
    #[command(flatten)]
    endpoint: Endpoint,
}

/// What was seen at one moment.
struct Look {
    cores: Value,
    connections: Value,
    topics: Value,
}

impl Look {
    async fn take(endpoint: &Endpoint) -> Result<Look> {
        Ok(Look {
            cores: endpoint.get("/corez").await?,
            connections: endpoint.get(&format!("/connz?limit={LINES}")).await?,
            topics: endpoint.get(&format!("/topicz?limit={}", LINES * 8)).await?,
        })
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let mut ticks = interval(Duration::from_secs_f64(arguments.every.clamp(0.1, 3600.0)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut before = Look::take(&arguments.endpoint).await?;
    let mut looks = 0;
    loop {
        ticks.tick().await;
        let now = Look::take(&arguments.endpoint).await?;
        let screen = draw(&before, &now);
        let clear = if stdout().is_terminal() { CLEAR } else { "" };
        writeln!(stdout(), "{clear}{screen}")?;
        before = now;
        looks += 1;
        if arguments.times.is_some_and(|times| looks >= times) {
            return Ok(());
        }
    }
}

fn draw(before: &Look, now: &Look) -> String {
    let mut out = String::new();
    let seconds = (number(&now.cores, "time_unix_nanos")
        .saturating_sub(number(&before.cores, "time_unix_nanos")) as f64
        / 1e9)
        .max(1e-3);
    head(&mut out, &now.cores);
    cores(&mut out, &before.cores, &now.cores, seconds);
    hops(&mut out, &now.cores);
    connections(&mut out, &now.connections);
    topics(&mut out, before, now);
    out
}

fn head(out: &mut String, cores: &Value) {
    let total = &cores["total"];
    let up = (number(cores, "time_unix_nanos") / 1_000_000_000).saturating_sub(number(cores, "started_unix"));
    let state = if cores["draining"] == Value::Bool(true) {
        ", draining"
    } else {
        ""
    };
    let _ = writeln!(
        out,
        "{}  up {} s{state}   agents {}   connections {}   subscriptions {}   waiting {}\n",
        text(cores, "node"),
        up,
        number(total, "sessions"),
        number(total, "connections"),
        number(total, "subscriptions"),
        bytes(number(total, "queued_bytes") as f64),
    );
}

fn cores(out: &mut String, before: &Value, now: &Value, seconds: f64) {
    let _ = writeln!(
        out,
        "{:>4} {:>4} {:>6} {:>6} {:>6} {:>10} {:>10} {:>8} {:>11} {:>11}",
        "CORE", "CPU", "BUSY", "SPIN", "SLEEP", "PUBLISH/s", "DELIVER/s", "DROP/s", "IN/s", "OUT/s"
    );
    let empty = Vec::new();
    for core in now["cores"].as_array().unwrap_or(&empty) {
        let earlier = before["cores"]
            .as_array()
            .and_then(|cores| cores.iter().find(|one| one["core"] == core["core"]));
        let grown = |name: &str| {
            number(core, name).saturating_sub(earlier.map_or(0, |earlier| number(earlier, name))) as f64
        };
        let time = |name: &str| grown(name) / 1e9;
        let all = (time("busy_nanos") + time("spin_nanos") + time("park_nanos")).max(1e-9);
        let share = |name: &str| format!("{:.0} %", 100.0 * time(name) / all);
        let every = |names: &[&str]| names.iter().map(|name| grown(name)).sum::<f64>() / seconds;
        let drops = [
            "dropped_oldest",
            "dropped_newest",
            "dropped_latest",
            "dropped_disconnect",
            "dropped_block",
        ];
        let _ = writeln!(
            out,
            "{:>4} {:>4} {:>6} {:>6} {:>6} {:>10} {:>10} {:>8} {:>11} {:>11}",
            number(core, "core"),
            number(core, "cpu"),
            share("busy_nanos"),
            share("spin_nanos"),
            share("park_nanos"),
            many(every(&["published", "slim_published", "agp2025_published"])),
            many(every(&["delivered", "slim_delivered", "agp2025_delivered"])),
            many(every(&drops)),
            bytes(every(&["received_bytes"])),
            bytes(every(&["sent_bytes"])),
        );
    }
}

fn hops(out: &mut String, cores: &Value) {
    let _ = writeln!(
        out,
        "\n{:<14} {:<9} {:<12} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "HOP (60 s)", "DIALECT", "KIND", "SAMPLES", "p50", "p99", "p99.9", "MAX"
    );
    let empty = Vec::new();
    for hop in cores["hops"].as_array().unwrap_or(&empty) {
        let time = |name: &str| nanos(number(hop, name));
        let _ = writeln!(
            out,
            "{:<14} {:<9} {:<12} {:>9} {:>9} {:>9} {:>9} {:>9}",
            text(hop, "hop"),
            text(hop, "dialect"),
            text(hop, "kind"),
            many(number(hop, "count") as f64),
            time("p50_nanos"),
            time("p99_nanos"),
            time("p999_nanos"),
            time("max_nanos"),
        );
    }
}

fn connections(out: &mut String, connections: &Value) {
    let _ = writeln!(
        out,
        "\n{:<NAME$} {:>11} {:>10} {:>10}",
        "SLOWEST READERS", "WAITING", "DROPPED", "PUBLISHED"
    );
    let empty = Vec::new();
    for one in connections["connections"]
        .as_array()
        .unwrap_or(&empty)
        .iter()
        .take(LINES)
    {
        let name = match text(one, "name") {
            "" => text(one, "address"),
            name => name,
        };
        let _ = writeln!(
            out,
            "{:<NAME$} {:>11} {:>10} {:>10}",
            shortened(name, NAME),
            bytes(number(one, "queued_bytes") as f64),
            many(number(one, "dropped") as f64),
            many(number(one, "published") as f64),
        );
    }
}

fn topics(out: &mut String, before: &Look, now: &Look) {
    let _ = writeln!(
        out,
        "\n{:<NAME$} {:>11} {:>10} {:>10}",
        "BUSIEST TOPICS", "PER SECOND", "PUBLISHED", "LISTENERS"
    );
    let mut topics = rates(&before.topics, &now.topics);
    topics.sort_by(|one, other| other.1.total_cmp(&one.1));
    for (topic, rate) in topics.into_iter().take(LINES) {
        let _ = writeln!(
            out,
            "{:<NAME$} {:>11} {:>10} {:>10}",
            shortened(text(&topic, "topic"), NAME),
            many(rate),
            many(number(&topic, "published") as f64),
            number(&topic, "subscribers"),
        );
    }
}
