//! The real gateway over sockets, beside the raw relay and the peers that are installed. `ringgate-perf compare` does the same with
//! more to choose.

use std::process::{Command, ExitCode};
use std::time::Duration;

use ringgate_perf::compare::{Comparison, Shape};
use ringgate_perf::machine;
use ringgate_perf::peers::{Options, Peer};
use ringgate_perf::work::Bounds;

const SERVER_CORE: usize = 0;
const LOAD_CORE: usize = 1;
const REPETITIONS: usize = 5;

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
    let comparison = Comparison {
        peers: Peer::ALL.to_vec(),
        shapes: Shape::HEADLINE.to_vec(),
        repetitions: REPETITIONS,
        bounds: Bounds {
            warmup: Duration::from_millis(300),
            duration: Duration::from_secs(1),
            messages_max: u64::MAX,
        },
        options: Options {
            core: SERVER_CORE,
            spin: false,
            gateway: None,
            gateway_args: Vec::new(),
        },
        load_spins: false,
    };
    println!("{}", comparison.run(|line| eprintln!("{line}")));
    ExitCode::SUCCESS
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
