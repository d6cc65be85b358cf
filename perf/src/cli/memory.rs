//! What things that only stand there hold of the gateway's memory.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ringgate_perf::fleet::Dial;
use ringgate_perf::peers::{Contender, Options, Peer, Server};
use ringgate_perf::process::Usage;
use ringgate_perf::report::{Spread, Table};
use ringgate_perf::work::{Bounds, Churn, Connections, Target};
use ringgate_perf::{Error, machine};
use serde::Serialize;

/// How long connections are held before memory is read: the gateway gives back what a quiet one does not need within a second.
const HOLD: Duration = Duration::from_secs(2);
/// Connections that hold the subscriptions.
const HOLDERS: usize = 10;
/// How long changes go on once all subscriptions stand; their number does not matter.
const CHURN: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(super) struct MemoryArgs {
    /// Idle connections, each with a registered stream.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 5_000])]
    connections: Vec<usize>,
    /// Subscriptions, to a topic each.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 100_000, 1_000_000])]
    subscriptions: Vec<usize>,
    /// How often each.
    #[arg(long, default_value_t = 3)]
    repetitions: usize,
    /// The core of the gateway.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core of the load.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// The gateway's program. By default the one beside this program.
    #[arg(long)]
    gateway: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// One kind of thing, so many of them.
#[derive(Debug, Serialize)]
struct Row {
    what: &'static str,
    count: usize,
    /// By which the gateway's resident memory grew for each, bytes.
    bytes_each: Spread,
}

pub(super) fn memory(args: &MemoryArgs) -> Result<(), Error> {
    machine::pin(args.load_core)?;
    let mut rows = Vec::new();
    for &count in &args.connections {
        let work = Connections {
            count,
            at_once: 64,
            hold: HOLD,
        };
        let grown = |target: &Target| Ok(work.run(target)?.usage.map_or(0, |(_, after)| after.rss_bytes));
        rows.push(args.row("idle connections", count, &grown)?);
    }
    for &count in &args.subscriptions {
        let work = Churn {
            standing: count,
            holders: HOLDERS,
            window: 1,
        };
        let bounds = Bounds {
            warmup: Duration::ZERO,
            duration: CHURN,
            messages_max: u64::MAX,
        };
        let grown = |target: &Target| {
            let outcome = work.run(target, bounds)?;
            Ok(outcome.usage.map_or(0, |(_, after)| after.rss_bytes))
        };
        rows.push(args.row("subscriptions", count, &grown)?);
    }
    args.show(&rows);
    Ok(())
}

impl MemoryArgs {
    /// Starts a gateway for each repetition, so that none finds the memory of the one before. `run` tells what is resident at the end.
    fn row(
        &self,
        what: &'static str,
        count: usize,
        run: &dyn Fn(&Target) -> Result<u64, Error>,
    ) -> Result<Row, Error> {
        let mut each = Vec::new();
        for repetition in 1..=self.repetitions.max(1) {
            let contender = Contender::new(Peer::Ringgate, self.server_core, false);
            let options = Options {
                gateway: self.gateway.clone(),
                gateway_args: vec![format!("--set=limits.subscriptions_max={}", count.max(1_000))],
            };
            let server = Server::start(&contender, &options)?.map_err(Error::NotInstalled)?;
            let target = Target {
                dial: Dial {
                    address: server.address,
                    protocol: Peer::Ringgate.protocol(),
                    reset_on_close: true,
                    spin: false,
                },
                pid: Some(server.pid()),
                stats: None,
                run: 0,
            };
            let before = Usage::of(server.pid())?.rss_bytes;
            let grown = run(&target)?.saturating_sub(before);
            let bytes = grown as f64 / count as f64;
            eprintln!(
                "{repetition}/{} {count} {what}: {bytes:.0} B each",
                self.repetitions
            );
            each.push(bytes);
        }
        Ok(Row {
            what,
            count,
            bytes_each: Spread::of(each.into_iter()).unwrap_or_default(),
        })
    }

    fn show(&self, rows: &[Row]) {
        if self.json {
            // Numbers and names always have a form in JSON.
            println!("{}", serde_json::to_string_pretty(rows).unwrap_or_default());
            return;
        }
        let mut table = Table::new(&["what stands there", "how many", "bytes each", "[min – max]"]);
        for row in rows {
            table.row(vec![
                row.what.into(),
                row.count.to_string(),
                format!("{:.0}", row.bytes_each.median),
                format!("{:.0} – {:.0}", row.bytes_each.min, row.bytes_each.max),
            ]);
        }
        println!("{}\n\n{table}", machine::describe());
        println!(
            "growth of the gateway's resident memory, kernel's sockets apart; medians of {} runs",
            self.repetitions
        );
        let command: Vec<String> = std::env::args().collect();
        println!("{}", command.join(" "));
    }
}
