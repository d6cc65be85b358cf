//! Servers side by side, started and stopped by this program.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ringgate_perf::compare::{Comparison, Reference, Shape};
use ringgate_perf::peers::{Contender, Options, Peer};
use ringgate_perf::report::View;
use ringgate_perf::{Error, machine};

use super::{BoundsArgs, OutputArgs};

/// How long each run is measured unless it is said.
const DURATION_SECONDS: f64 = 2.0;
/// The same where a reader stalls: its buffers, and the server's, must have time to fill.
const STALL_DURATION_SECONDS: f64 = 6.0;

/// What a server does that has nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// It sleeps.
    Parked,
    /// It never does. Its processor time then says nothing; latency does.
    Spinning,
}

/// What all comparisons have.
#[derive(Debug, Args)]
struct CommonArgs {
    /// How often each.
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// The core of the servers.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core of the load.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
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

#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// What to run: headline, latency, stalled, across, dialects, SUBSxBYTESxWINDOW, SUBSxBYTES@DELIVERIES_PER_SECOND[!STALLED],
    /// request:BYTESxWINDOW, request:BYTES@REQUESTS_PER_SECOND, topics:TOPICSxBYTESxWINDOW, churn:STANDINGxWINDOW.
    #[arg(long, default_value = "headline", value_parser = Shape::parse_list)]
    shapes: ShapeList,
    /// Against which servers.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Peer::ALL)]
    servers: Vec<Peer>,
    /// What servers do that have nothing to do, those that have the choice.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Mode::Parked])]
    modes: Vec<Mode>,
    /// What the table shows.
    #[arg(long, value_enum, default_value_t = View::Cost)]
    view: View,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
pub(super) struct LatencyArgs {
    /// What to run, as for `compare`.
    #[arg(long, default_value = "latency", value_parser = Shape::parse_list)]
    shapes: ShapeList,
    /// Against which servers.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Peer::RelayUring, Peer::Ringgate])]
    servers: Vec<Peer>,
    /// What servers do that have nothing to do.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Mode::Parked, Mode::Spinning])]
    modes: Vec<Mode>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
pub(super) struct StalledArgs {
    /// What to run, as for `compare`, in pairs of without and with.
    #[arg(long, default_value = "stalled", value_parser = Shape::parse_list)]
    shapes: ShapeList,
    /// Against which servers.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Peer::Ringgate, Peer::Redis, Peer::Nats])]
    servers: Vec<Peer>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
pub(super) struct DialectsArgs {
    /// What to run, as for `compare`.
    #[arg(long, default_value = "dialects", value_parser = Shape::parse_list)]
    shapes: ShapeList,
    /// Against which servers. Ratios are to the first.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Peer::DIALECTS)]
    servers: Vec<Peer>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
pub(super) struct CoresArgs {
    /// What to run, as for `compare`.
    #[arg(long, value_parser = Shape::parse_list)]
    shapes: Option<ShapeList>,
    /// The gateway's two cores.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1])]
    server_cores: Vec<usize>,
    /// What the gateway's cores do that have nothing to do [default: spinning for crosscore, parked for shards].
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
pub(super) struct SweepArgs {
    /// A key of the gateway's configuration and the values to try, as in ring.copy_bytes_max=0,256,1024,4096.
    #[arg(value_name = "KEY=VALUE,VALUE,...", value_parser = values)]
    key: Values,
    /// What to run, as for `compare`.
    #[arg(long, default_value = "headline", value_parser = Shape::parse_list)]
    shapes: ShapeList,
    /// What the table shows.
    #[arg(long, value_enum, default_value_t = View::Cost)]
    view: View,
    #[command(flatten)]
    common: CommonArgs,
}

/// What clap would otherwise take for an argument that may be repeated.
type ShapeList = std::vec::Vec<Shape>;

/// A key, and the arguments that give it each of its values.
#[derive(Debug, Clone)]
struct Values(Vec<String>);

fn values(text: &str) -> Result<Values, String> {
    match text.split_once('=') {
        Some((key, values)) if !key.is_empty() && !values.is_empty() => Ok(Values(
            values
                .split(',')
                .map(|value| format!("--set={key}={value}"))
                .collect(),
        )),
        _ => Err("a key and values are wanted, as in ring.copy_bytes_max=0,1024".into()),
    }
}

pub(super) fn compare(args: &CompareArgs) -> Result<(), Error> {
    let contenders = contenders(&args.servers, &args.modes, args.common.server_core);
    args.common.run(Comparison {
        shapes: args.shapes.clone(),
        view: args.view,
        ..args.common.comparison(contenders, DURATION_SECONDS)
    })
}

pub(super) fn latency(args: &LatencyArgs) -> Result<(), Error> {
    let contenders = contenders(&args.servers, &args.modes, args.common.server_core);
    args.common.run(Comparison {
        shapes: args.shapes.clone(),
        // The load has a core of its own: what it sleeps would be taken for the server's latency.
        load_spins: true,
        view: View::Latency,
        ..args.common.comparison(contenders, DURATION_SECONDS)
    })
}

pub(super) fn stalled(args: &StalledArgs) -> Result<(), Error> {
    let contenders = contenders(&args.servers, &[Mode::Parked], args.common.server_core);
    args.common.run(Comparison {
        shapes: args.shapes.clone(),
        load_spins: true,
        view: View::Latency,
        reference: Reference::ShapeBefore,
        ..args.common.comparison(contenders, STALL_DURATION_SECONDS)
    })
}

pub(super) fn dialects(args: &DialectsArgs) -> Result<(), Error> {
    let contenders = contenders(&args.servers, &[Mode::Parked], args.common.server_core);
    args.common.run(Comparison {
        shapes: args.shapes.clone(),
        reference: Reference::FirstServer,
        ..args.common.comparison(contenders, DURATION_SECONDS)
    })
}

pub(super) fn crosscore(args: &CoresArgs) -> Result<(), Error> {
    let spin = args.mode.unwrap_or(Mode::Spinning) == Mode::Spinning;
    let contender = Contender {
        cores: args.server_cores.clone(),
        ..Contender::new(Peer::Ringgate, args.common.server_core, spin)
    };
    args.common.run(Comparison {
        shapes: args.shapes.clone().unwrap_or(Shape::ACROSS.to_vec()),
        view: View::Latency,
        reference: Reference::ShapeBefore,
        ..args.common.comparison(vec![contender], DURATION_SECONDS)
    })
}

pub(super) fn shards(args: &CoresArgs) -> Result<(), Error> {
    let spin = args.mode == Some(Mode::Spinning);
    let cores = args.server_cores.iter().copied();
    let one = Contender {
        cores: cores.clone().take(1).collect(),
        ..Contender::new(Peer::Ringgate, args.common.server_core, spin)
    };
    let all = Contender {
        cores: cores.collect(),
        ..one.clone()
    };
    args.common.run(Comparison {
        shapes: args.shapes.clone().unwrap_or(Shape::SHARDS.to_vec()),
        reference: Reference::FirstServer,
        ..args.common.comparison(vec![one, all], DURATION_SECONDS)
    })
}

pub(super) fn sweep(args: &SweepArgs) -> Result<(), Error> {
    let contender = |argument: &String| Contender {
        arguments: vec![argument.clone()],
        ..Contender::new(Peer::Ringgate, args.common.server_core, false)
    };
    let relay = Contender::new(Peer::RelayUring, args.common.server_core, false);
    let contenders = std::iter::once(relay).chain(args.key.0.iter().map(contender));
    args.common.run(Comparison {
        shapes: args.shapes.clone(),
        view: args.view,
        load_spins: args.common.load_spin || args.view == View::Latency,
        ..args.common.comparison(contenders.collect(), DURATION_SECONDS)
    })
}

/// Each server in each of the modes that it has.
fn contenders(servers: &[Peer], modes: &[Mode], core: usize) -> Vec<Contender> {
    let all = modes.iter().flat_map(|mode| {
        let spin = *mode == Mode::Spinning;
        servers.iter().map(move |peer| Contender::new(*peer, core, spin))
    });
    all.filter(Contender::is_possible).collect()
}

impl CommonArgs {
    fn comparison(&self, contenders: Vec<Contender>, duration_seconds: f64) -> Comparison {
        Comparison {
            contenders,
            shapes: Vec::new(),
            repetitions: self.repetitions.max(1),
            bounds: self.bounds.bounds(duration_seconds),
            options: Options {
                gateway: self.gateway.clone(),
                gateway_args: self.gateway_args.clone(),
            },
            load_spins: self.load_spin,
            view: View::Cost,
            reference: Reference::Relay,
        }
    }

    fn run(&self, comparison: Comparison) -> Result<(), Error> {
        machine::pin(self.load_core)?;
        let mut report = comparison.run(|line| eprintln!("{line}"));
        let shared = comparison
            .contenders
            .iter()
            .any(|it| it.cores.contains(&self.load_core));
        if shared {
            report.missing.push(format!(
                "the server without the load: both are on core {}. With a core more, give it to --load-core",
                self.load_core
            ));
        }
        self.output.write(&report)
    }
}
