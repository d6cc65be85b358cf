//! The real gateway over sockets, beside the raw relay and the peers that are installed: what a delivery costs, and how long it takes.
//! `ringgate-perf` does the same with more to choose.

use std::process::{Command, ExitCode};
use std::time::Duration;

use ringgate_benches::results;
use ringgate_perf::compare::{Comparison, Reference, Shape};
use ringgate_perf::machine;
use ringgate_perf::peers::{Contender, Options, Peer};
use ringgate_perf::report::View;
use ringgate_perf::work::Bounds;

const SERVER_CORE: usize = 0;
const LOAD_CORE: usize = 1;
/// An odd number, so that the median is a run; few, so that the whole takes minutes. `--repetitions` of ringgate-perf takes more.
const REPETITIONS: usize = 3;

fn main() -> ExitCode {
    // `cargo bench` says so; `cargo test --all-targets`, which must stay quick, does not.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    build();
    if let Err(error) = machine::pin(LOAD_CORE) {
        eprintln!("not measured: {error}. Two cores are needed, one for the servers and one for the load");
        return ExitCode::SUCCESS;
    }
    let cost = Comparison {
        contenders: Peer::ALL
            .map(|peer| Contender::new(peer, SERVER_CORE, false))
            .to_vec(),
        shapes: Shape::HEADLINE.to_vec(),
        ..comparison()
    };
    let peers = [Peer::RelayUring, Peer::Ringgate];
    let modes = [false, true];
    let latency = Comparison {
        contenders: modes
            .iter()
            .flat_map(|spin| peers.map(|peer| Contender::new(peer, SERVER_CORE, *spin)))
            .collect(),
        shapes: Shape::LATENCY.to_vec(),
        load_spins: true,
        view: View::Latency,
        ..comparison()
    };
    let mut text = String::new();
    for comparison in [cost, latency] {
        let report = comparison.run(|line| eprintln!("{line}"));
        println!("{report}\n");
        text.push_str(&format!("{report}\n\n"));
    }
    if let Err(error) = results::keep("end_to_end", &text) {
        eprintln!("the tables cannot be kept for `summary`: {error}");
    }
    ExitCode::SUCCESS
}

fn comparison() -> Comparison {
    Comparison {
        contenders: Vec::new(),
        shapes: Vec::new(),
        repetitions: REPETITIONS,
        bounds: Bounds {
            warmup: Duration::from_millis(300),
            duration: Duration::from_secs(1),
            messages_max: u64::MAX,
        },
        options: Options::default(),
        load_spins: false,
        view: View::Cost,
        reference: Reference::Relay,
    }
}

/// Builds the servers, which are other packages' programs. What then is missing is named by the report.
fn build() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    for package in ["ringgate-perf", "ringgate-dataplane"] {
        let built = Command::new(&cargo)
            .args(["build", "--release", "--bins", "--package", package])
            .status();
        if !built.is_ok_and(|status| status.success()) {
            eprintln!("{package} does not build");
        }
    }
}
