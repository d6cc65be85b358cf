//! The command line.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use ringgate_perf::compare::{Comparison, Shape};
use ringgate_perf::fleet::Dial;
use ringgate_perf::peers::{Options, Peer};
use ringgate_perf::report::{Report, Summary, hgrm, svg};
use ringgate_perf::wire::Protocol;
use ringgate_perf::work::{Bounds, Churn, Connections, Outcome, Pace, PubSub, Requests, Target};
use ringgate_perf::{Error, machine, relay};
use ringgate_uring::RingConfig;

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
    Fanout(PubSubArgs),
    /// Many publishers, one subscriber.
    FanIn(FanInArgs),
    /// Many topics, which the subscribers share evenly.
    Topics(TopicsArgs),
    /// Requests and their answers.
    Request(RequestArgs),
    /// Connections that come up at once, as after a restart.
    Storm(StormArgs),
    /// Connections that do nothing: what they hold in the server.
    Idle(IdleArgs),
    /// Subscriptions that come and go.
    Churn(ChurnArgs),
    /// The raw relay, as a server.
    Relay(RelayArgs),
    /// The same work against several servers, which are started and stopped.
    Compare(CompareArgs),
}

#[derive(Debug, Args)]
struct ServerArgs {
    /// What the server speaks.
    #[arg(long, value_enum, default_value = "agp")]
    wire: Protocol,
    /// Where it listens.
    #[arg(long, default_value = "127.0.0.1:46357")]
    connect: SocketAddr,
    /// Its process, to read processor time and memory from.
    #[arg(long)]
    server_pid: Option<u32>,
    /// The core that the load runs on.
    #[arg(long)]
    core: Option<usize>,
    /// Never sleep: faster to notice arrivals, at the price of a core.
    #[arg(long)]
    spin: bool,
}

#[derive(Debug, Args)]
struct BoundsArgs {
    /// Seconds that are not measured.
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    /// Seconds that are.
    #[arg(long, default_value_t = 2.0)]
    duration: f64,
    /// Messages sent after which a run ends early.
    #[arg(long, default_value_t = u64::MAX)]
    messages_max: u64,
}

#[derive(Debug, Args)]
struct OutputArgs {
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

#[derive(Debug, Args)]
struct PaceArgs {
    /// Closed loop: messages in flight.
    #[arg(long, default_value_t = 64)]
    window: usize,
    /// Open loop: messages sent each second, instead of a window.
    #[arg(long, conflicts_with = "window")]
    rate: Option<f64>,
}

#[derive(Debug, Args)]
struct PubSubArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Connections that subscribe.
    #[arg(long, default_value_t = 10)]
    subscribers: usize,
    /// Connections that publish.
    #[arg(long, default_value_t = 1)]
    publishers: usize,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 256)]
    payload: usize,
    #[command(flatten)]
    pace: PaceArgs,
    #[command(flatten)]
    bounds: BoundsArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct FanInArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Connections that publish.
    #[arg(long, default_value_t = 100)]
    publishers: usize,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 256)]
    payload: usize,
    #[command(flatten)]
    pace: PaceArgs,
    #[command(flatten)]
    bounds: BoundsArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct TopicsArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Topics: a divisor or a multiple of the subscribers.
    #[arg(long, default_value_t = 10_000)]
    topics: usize,
    /// Connections that subscribe.
    #[arg(long, default_value_t = 10)]
    subscribers: usize,
    /// Connections that publish.
    #[arg(long, default_value_t = 1)]
    publishers: usize,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 256)]
    payload: usize,
    #[command(flatten)]
    pace: PaceArgs,
    #[command(flatten)]
    bounds: BoundsArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct RequestArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Connections that answer.
    #[arg(long, default_value_t = 1)]
    responders: usize,
    /// Bytes of a payload, both ways.
    #[arg(long, default_value_t = 256)]
    payload: usize,
    /// Closed loop: requests in flight.
    #[arg(long, default_value_t = 1)]
    window: usize,
    /// Open loop: requests each second, instead of a window.
    #[arg(long, conflicts_with = "window")]
    rate: Option<f64>,
    #[command(flatten)]
    bounds: BoundsArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct StormArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Connections.
    #[arg(long, default_value_t = 5_000)]
    connections: usize,
    /// Connections on their way at the same time.
    #[arg(long, default_value_t = 256)]
    at_once: usize,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct IdleArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Connections.
    #[arg(long, default_value_t = 5_000)]
    connections: usize,
    /// Seconds to hold them before memory is read.
    #[arg(long, default_value_t = 2.0)]
    hold: f64,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct ChurnArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Subscriptions that stand all the time.
    #[arg(long, default_value_t = 1_000)]
    standing: usize,
    /// Connections that hold them.
    #[arg(long, default_value_t = 10)]
    holders: usize,
    /// Changes under way at a time.
    #[arg(long, default_value_t = 16)]
    window: usize,
    #[command(flatten)]
    bounds: BoundsArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct RelayArgs {
    /// Which of the kernel's interfaces moves the bytes.
    #[arg(long, value_enum, default_value = "uring")]
    mode: relay::Mode,
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:46399")]
    listen: SocketAddr,
    /// The core to run on.
    #[arg(long)]
    core: Option<usize>,
    /// Never sleep.
    #[arg(long)]
    spin: bool,
    /// Receive buffers of the ring, a power of two.
    #[arg(long)]
    receive_buffers: Option<u16>,
    /// Bytes of each.
    #[arg(long)]
    receive_buffer_bytes: Option<u32>,
    /// Use up a whole buffer for each receive, as before Linux 6.12.
    #[arg(long)]
    whole_buffers: bool,
    /// Bytes up to which what is sent is copied rather than referred to.
    #[arg(long)]
    copy_bytes_max: Option<usize>,
}

#[derive(Debug, Args)]
struct CompareArgs {
    /// What to run: headline, latency, SUBSxBYTESxWINDOW, SUBSxBYTES@DELIVERIES_PER_SECOND, request:BYTESxWINDOW.
    #[arg(long, default_value = "headline")]
    shapes: String,
    /// Against which servers.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Peer::ALL)]
    servers: Vec<Peer>,
    /// How often each.
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// The core of the servers.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core of the load.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Servers that can, never sleep. Their processor time then says nothing; latency does.
    #[arg(long)]
    spin: bool,
    /// The load never sleeps.
    #[arg(long)]
    load_spin: bool,
    /// The gateway's program. By default the one beside this program.
    #[arg(long)]
    gateway: Option<PathBuf>,
    /// One more argument for the gateway; may be repeated.
    #[arg(long = "gateway-arg", value_name = "ARG", allow_hyphen_values = true)]
    gateway_args: Vec<String>,
    #[command(flatten)]
    bounds: BoundsArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Does what the command line says.
pub(crate) fn run() -> Result<(), Error> {
    match Cli::parse().command {
        Command::Fanout(args) => fan_out(&args),
        Command::FanIn(args) => fan_in(&args),
        Command::Topics(args) => topics(&args),
        Command::Request(args) => request(&args),
        Command::Storm(args) => storm(&args),
        Command::Idle(args) => idle(&args),
        Command::Churn(args) => churn(&args),
        Command::Relay(args) => serve(&args),
        Command::Compare(args) => compare(&args),
    }
}

fn fan_out(args: &PubSubArgs) -> Result<(), Error> {
    let work = PubSub {
        publishers: args.publishers,
        subscribers: args.subscribers,
        topics: 1,
        payload_bytes: args.payload,
        pace: args.pace.pace(),
    };
    let name = format!(
        "fan-out {} → {}, {} B",
        args.publishers, args.subscribers, args.payload
    );
    pub_sub(name, &work, &args.server, &args.bounds, &args.output)
}

fn fan_in(args: &FanInArgs) -> Result<(), Error> {
    let work = PubSub {
        publishers: args.publishers,
        subscribers: 1,
        topics: 1,
        payload_bytes: args.payload,
        pace: args.pace.pace(),
    };
    let name = format!("fan-in {} → 1, {} B", args.publishers, args.payload);
    pub_sub(name, &work, &args.server, &args.bounds, &args.output)
}

fn topics(args: &TopicsArgs) -> Result<(), Error> {
    let work = PubSub {
        publishers: args.publishers,
        subscribers: args.subscribers,
        topics: args.topics,
        payload_bytes: args.payload,
        pace: args.pace.pace(),
    };
    let name = format!(
        "{} topics, {} → {}, {} B",
        args.topics, args.publishers, args.subscribers, args.payload
    );
    pub_sub(name, &work, &args.server, &args.bounds, &args.output)
}

fn pub_sub(
    name: String,
    work: &PubSub,
    server: &ServerArgs,
    bounds: &BoundsArgs,
    output: &OutputArgs,
) -> Result<(), Error> {
    let target = server.target(false)?;
    output.show(name, server, work.run(&target, bounds.bounds())?)
}

fn request(args: &RequestArgs) -> Result<(), Error> {
    let pace = args.rate.map_or(Pace::Window(args.window), Pace::PerSecond);
    let work = Requests {
        responders: args.responders,
        payload_bytes: args.payload,
        pace,
    };
    let target = args.server.target(false)?;
    let name = format!("request 1 → {}, {} B", args.responders, args.payload);
    args.output
        .show(name, &args.server, work.run(&target, args.bounds.bounds())?)
}

fn storm(args: &StormArgs) -> Result<(), Error> {
    let work = Connections {
        count: args.connections,
        at_once: args.at_once,
        hold: Duration::ZERO,
    };
    let outcome = work.run(&args.server.target(true)?)?;
    args.output.show(
        format!("storm of {} connections", args.connections),
        &args.server,
        outcome,
    )
}

fn idle(args: &IdleArgs) -> Result<(), Error> {
    let hold = Duration::from_secs_f64(args.hold);
    let work = Connections {
        count: args.connections,
        at_once: 64,
        hold,
    };
    let outcome = work.run(&args.server.target(true)?)?;
    if let Some((before, after)) = outcome.usage {
        let grown = after.rss_bytes.saturating_sub(before.rss_bytes);
        eprintln!(
            "{} connections: the server's memory grew by {grown} bytes, {:.0} for each",
            args.connections,
            grown as f64 / args.connections as f64
        );
    }
    args.output.show(
        format!("{} idle connections", args.connections),
        &args.server,
        outcome,
    )
}

fn churn(args: &ChurnArgs) -> Result<(), Error> {
    let work = Churn {
        standing: args.standing,
        holders: args.holders,
        window: args.window,
    };
    let target = args.server.target(false)?;
    let name = format!("churn beside {} subscriptions", args.standing);
    args.output
        .show(name, &args.server, work.run(&target, args.bounds.bounds())?)
}

fn serve(args: &RelayArgs) -> Result<(), Error> {
    if let Some(core) = args.core {
        machine::pin(core)?;
    }
    let default = RingConfig::default();
    let ring = RingConfig {
        receive_buffers: args.receive_buffers.unwrap_or(default.receive_buffers),
        receive_buffer_bytes: args.receive_buffer_bytes.unwrap_or(default.receive_buffer_bytes),
        incremental: !args.whole_buffers,
        copy_bytes_max: args.copy_bytes_max.unwrap_or(default.copy_bytes_max),
        ..default
    };
    let config = relay::Config {
        listen: args.listen,
        mode: args.mode,
        spin: args.spin,
        ring,
    };
    match relay::run(&config)? {}
}

fn compare(args: &CompareArgs) -> Result<(), Error> {
    let shapes = Shape::parse_list(&args.shapes).unwrap_or_else(|message| {
        use clap::CommandFactory;
        Cli::command()
            .error(clap::error::ErrorKind::InvalidValue, message)
            .exit()
    });
    machine::pin(args.load_core)?;
    let comparison = Comparison {
        peers: args.servers.clone(),
        shapes,
        repetitions: args.repetitions.max(1),
        bounds: args.bounds.bounds(),
        options: Options {
            core: args.server_core,
            spin: args.spin,
            gateway: args.gateway.clone(),
            gateway_args: args.gateway_args.clone(),
        },
        load_spins: args.load_spin,
    };
    let report = comparison.run(|line| eprintln!("{line}"));
    args.output.write(&report)
}

impl PaceArgs {
    fn pace(&self) -> Pace {
        self.rate.map_or(Pace::Window(self.window), Pace::PerSecond)
    }
}

impl BoundsArgs {
    fn bounds(&self) -> Bounds {
        Bounds {
            warmup: Duration::from_secs_f64(self.warmup),
            duration: Duration::from_secs_f64(self.duration),
            messages_max: self.messages_max,
        }
    }
}

impl ServerArgs {
    /// What to load. Pins this thread to its core.
    fn target(&self, reset_on_close: bool) -> Result<Target, Error> {
        if let Some(core) = self.core {
            machine::pin(core)?;
        }
        let dial = Dial {
            address: self.connect,
            protocol: self.wire,
            reset_on_close,
            spin: self.spin,
        };
        Ok(Target {
            dial,
            pid: self.server_pid,
            run: 0,
        })
    }
}

impl OutputArgs {
    fn show(&self, work: String, server: &ServerArgs, outcome: Outcome) -> Result<(), Error> {
        let name = format!("{} at {}", server.wire.name(), server.connect);
        self.write(&Report::new(
            vec![Summary::new(work, name, &[outcome])],
            Vec::new(),
        ))
    }

    fn write(&self, report: &Report) -> Result<(), Error> {
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
            true => println!(
                "{}",
                serde_json::to_string_pretty(report).map_err(|error| failed(error.into()))?
            ),
            false => println!("{report}"),
        }
        Ok(())
    }
}
