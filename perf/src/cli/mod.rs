//! The command line.

mod load;
mod memory;
mod pin;
mod servers;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use ringgate_perf::Error;
use ringgate_perf::report::{Report, hgrm, svg};
use ringgate_perf::work::Bounds;

/// Load, the raw relay that is the limit, and comparisons between servers.
#[derive(Debug, Parser)]
#[command(name = "ringgate-perf", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One publisher (or more), many subscribers; each gets each message.
    Fanout(load::PubSubArgs),
    /// Many publishers, one subscriber.
    FanIn(load::FanInArgs),
    /// Many topics, which the subscribers share evenly.
    Topics(load::TopicsArgs),
    /// Requests and their answers.
    Request(load::RequestArgs),
    /// Connections that come up at once, as after a restart.
    Storm(load::StormArgs),
    /// Connections that do nothing: what they hold in the server.
    Idle(load::IdleArgs),
    /// Subscriptions that come and go.
    Churn(load::ChurnArgs),
    /// The raw relay, as a server.
    Relay(load::RelayArgs),
    /// The same work against several servers, which are started and stopped.
    Compare(servers::CompareArgs),
    /// Latency at fixed rates beside the raw relay, parked and spinning.
    Latency(servers::LatencyArgs),
    /// What one reader that stalls does to a hundred others.
    Stalled(servers::StalledArgs),
    /// What earlier protocols cost: SLIM and AGP 2025 beside the native one, and SLIM's own node.
    Dialects(servers::DialectsArgs),
    /// What the way from one of the gateway's cores to another adds.
    Crosscore(servers::CoresArgs),
    /// What a delivery costs with two of the gateway's cores against one.
    Shards(servers::CoresArgs),
    /// The gateway with different values of one of its keys.
    Sweep(servers::SweepArgs),
    /// What an idle connection and a subscription hold of the gateway's memory.
    Memory(memory::MemoryArgs),
    /// Which CPUs the gateway should get; with --measure, what each choice costs.
    Pin(pin::PinArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BoundsArgs {
    /// Seconds that are not measured.
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    /// Seconds that are [default: 2, or what the comparison needs].
    #[arg(long)]
    duration: Option<f64>,
    /// Messages sent after which a run ends early.
    #[arg(long, default_value_t = u64::MAX)]
    messages_max: u64,
}

#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Write latencies in HdrHistogram's text form.
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
    /// Write a plot of latencies.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Does what the command line says.
pub(crate) fn run() -> Result<(), Error> {
    match Cli::parse().command {
        Command::Fanout(args) => load::fan_out(&args),
        Command::FanIn(args) => load::fan_in(&args),
        Command::Topics(args) => load::topics(&args),
        Command::Request(args) => load::request(&args),
        Command::Storm(args) => load::storm(&args),
        Command::Idle(args) => load::idle(&args),
        Command::Churn(args) => load::churn(&args),
        Command::Relay(args) => load::serve(&args),
        Command::Compare(args) => servers::compare(&args),
        Command::Latency(args) => servers::latency(&args),
        Command::Stalled(args) => servers::stalled(&args),
        Command::Dialects(args) => servers::dialects(&args),
        Command::Crosscore(args) => servers::crosscore(&args),
        Command::Shards(args) => servers::shards(&args),
        Command::Sweep(args) => servers::sweep(&args),
        Command::Memory(args) => memory::memory(&args),
        Command::Pin(args) => pin::pin(&args),
    }
}

impl BoundsArgs {
    fn bounds(&self, duration_default: f64) -> Bounds {
        Bounds {
            warmup: Duration::from_secs_f64(self.warmup),
            duration: Duration::from_secs_f64(self.duration.unwrap_or(duration_default)),
            messages_max: self.messages_max,
        }
    }
}

impl OutputArgs {
    pub(crate) fn write(&self, report: &Report) -> Result<(), Error> {
        let failed = |source| Error::Io {
            what: "cannot write the output",
            source,
        };
        if let Some(path) = &self.hgrm {
            // One section for each result; tools that take one at a time find them by the comment line.
            let sections = report
                .results
                .iter()
                .map(|it| format!("# {} | {}\n{}", it.work, it.server, hgrm(&it.histogram)));
            fs::write(path, sections.collect::<String>()).map_err(failed)?;
        }
        if let Some(path) = &self.svg {
            let names: Vec<String> = report
                .results
                .iter()
                .map(|it| format!("{}, {}", it.server, it.work))
                .collect();
            let lines: Vec<_> = names
                .iter()
                .map(String::as_str)
                .zip(report.results.iter().map(|it| &it.histogram))
                .collect();
            fs::write(path, svg(&report.command, &lines)).map_err(failed)?;
        }
        match self.json {
            true => self.json(report),
            false => {
                println!("{report}");
                Ok(())
            }
        }
    }

    fn json(&self, value: &impl serde::Serialize) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(value).map_err(|error| Error::Io {
            what: "cannot write the output",
            source: error.into(),
        })?;
        println!("{text}");
        Ok(())
    }
}
