//! Load on one server, and the raw relay as one.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use ringgate_perf::fleet::Dial;
use ringgate_perf::report::{Report, Summary};
use ringgate_perf::wire::Protocol;
use ringgate_perf::work::{Churn, Connections, Outcome, Pace, Placed, PubSub, Requests, Target};
use ringgate_perf::{Error, machine, relay};
use ringgate_uring::RingConfig;

use super::{BoundsArgs, OutputArgs};

/// How long a run is measured unless it is said.
const DURATION_SECONDS: f64 = 2.0;

#[derive(Debug, Args)]
pub(super) struct ServerArgs {
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
pub(super) struct PaceArgs {
    /// Closed loop: messages in flight.
    #[arg(long, default_value_t = 64)]
    window: usize,
    /// Open loop: messages sent each second, instead of a window.
    #[arg(long, conflicts_with = "window")]
    rate: Option<f64>,
}

#[derive(Debug, Args)]
pub(super) struct PubSubArgs {
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
pub(super) struct FanInArgs {
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
pub(super) struct TopicsArgs {
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
pub(super) struct RequestArgs {
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
pub(super) struct StormArgs {
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
pub(super) struct IdleArgs {
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
pub(super) struct ChurnArgs {
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
pub(super) struct RelayArgs {
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
    /// Let the kernel fill receive buffers piece by piece (Linux 6.12).
    #[arg(long)]
    incremental: bool,
    /// Bytes up to which what is sent is copied rather than referred to.
    #[arg(long)]
    copy_bytes_max: Option<usize>,
}

pub(super) fn fan_out(args: &PubSubArgs) -> Result<(), Error> {
    let work = PubSub {
        publishers: args.publishers,
        subscribers: args.subscribers,
        topics: 1,
        payload_bytes: args.payload,
        pace: args.pace.pace(),
        stalled: 0,
        placed: Placed::Anywhere,
    };
    let name = format!(
        "fan-out {} → {}, {} B",
        args.publishers, args.subscribers, args.payload
    );
    pub_sub(name, &work, &args.server, &args.bounds, &args.output)
}

pub(super) fn fan_in(args: &FanInArgs) -> Result<(), Error> {
    let work = PubSub {
        publishers: args.publishers,
        subscribers: 1,
        topics: 1,
        payload_bytes: args.payload,
        pace: args.pace.pace(),
        stalled: 0,
        placed: Placed::Anywhere,
    };
    let name = format!("fan-in {} → 1, {} B", args.publishers, args.payload);
    pub_sub(name, &work, &args.server, &args.bounds, &args.output)
}

pub(super) fn topics(args: &TopicsArgs) -> Result<(), Error> {
    let work = PubSub {
        publishers: args.publishers,
        subscribers: args.subscribers,
        topics: args.topics,
        payload_bytes: args.payload,
        pace: args.pace.pace(),
        stalled: 0,
        placed: Placed::Anywhere,
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
    show(
        output,
        name,
        server,
        work.run(&target, bounds.bounds(DURATION_SECONDS))?,
    )
}

pub(super) fn request(args: &RequestArgs) -> Result<(), Error> {
    let pace = args.rate.map_or(Pace::Window(args.window), Pace::PerSecond);
    let work = Requests {
        responders: args.responders,
        payload_bytes: args.payload,
        pace,
    };
    let target = args.server.target(false)?;
    let name = format!("request 1 → {}, {} B", args.responders, args.payload);
    show(
        &args.output,
        name,
        &args.server,
        work.run(&target, args.bounds.bounds(DURATION_SECONDS))?,
    )
}

pub(super) fn storm(args: &StormArgs) -> Result<(), Error> {
    let work = Connections {
        count: args.connections,
        at_once: args.at_once,
        hold: Duration::ZERO,
    };
    let outcome = work.run(&args.server.target(true)?)?;
    show(
        &args.output,
        format!("storm of {} connections", args.connections),
        &args.server,
        outcome,
    )
}

pub(super) fn idle(args: &IdleArgs) -> Result<(), Error> {
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
    show(
        &args.output,
        format!("{} idle connections", args.connections),
        &args.server,
        outcome,
    )
}

pub(super) fn churn(args: &ChurnArgs) -> Result<(), Error> {
    let work = Churn {
        standing: args.standing,
        holders: args.holders,
        window: args.window,
    };
    let target = args.server.target(false)?;
    let name = format!("churn beside {} subscriptions", args.standing);
    show(
        &args.output,
        name,
        &args.server,
        work.run(&target, args.bounds.bounds(DURATION_SECONDS))?,
    )
}

pub(super) fn serve(args: &RelayArgs) -> Result<(), Error> {
    if let Some(core) = args.core {
        machine::pin(core)?;
    }
    let default = RingConfig::default();
    let ring = RingConfig {
        receive_buffers: args.receive_buffers.unwrap_or(default.receive_buffers),
        receive_buffer_bytes: args.receive_buffer_bytes.unwrap_or(default.receive_buffer_bytes),
        incremental: args.incremental,
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

impl PaceArgs {
    fn pace(&self) -> Pace {
        self.rate.map_or(Pace::Window(self.window), Pace::PerSecond)
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
            stats: None,
            run: 0,
        })
    }
}

fn show(output: &OutputArgs, work: String, server: &ServerArgs, outcome: Outcome) -> Result<(), Error> {
    let name = format!("{} at {}", server.wire.name(), server.connect);
    output.write(&Report::new(
        vec![Summary::new(work, name, &[outcome])],
        Vec::new(),
    ))
}
