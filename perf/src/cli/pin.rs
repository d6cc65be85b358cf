//! Which CPUs the gateway should get.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ringgate_machine::{Diagnosis, Wanted};
use ringgate_perf::peers::Options;
use ringgate_perf::placements::{Measurement, choices};
use ringgate_perf::{Error, machine};
use ringgate_uring::RingConfig;

use super::OutputArgs;

#[derive(Debug, Args)]
pub(super) struct PinArgs {
    /// Data cores wanted. By default as many as the load needs, or all but one.
    #[arg(long)]
    cores: Option<usize>,
    /// Deliveries each second expected at most.
    #[arg(long, value_name = "DELIVERIES_PER_SECOND")]
    rate: Option<f64>,
    /// Latency before all: data cores may burn their whole time.
    #[arg(long)]
    dedicated: bool,
    /// Try placements of server and client, sleeping and spinning, and show the latency of each.
    #[arg(long)]
    measure: bool,
    /// Seconds for each of them.
    #[arg(long, default_value_t = 1.0)]
    duration: f64,
    /// How often each.
    #[arg(long, default_value_t = 3)]
    repetitions: usize,
    /// The gateway's program. By default the one beside this program.
    #[arg(long)]
    gateway: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn pin(args: &PinArgs) -> Result<(), Error> {
    let wanted = Wanted {
        cores: args.cores,
        deliveries_per_second: args.rate,
        dedicated: args.dedicated,
    };
    let diagnosis = Diagnosis::here(&RingConfig::default(), wanted);
    if !args.measure {
        return match args.output.json {
            true => args.output.json(&diagnosis),
            false => {
                println!("{diagnosis}");
                Ok(())
            }
        };
    }
    // Otherwise the whole run would be on the last load's CPU.
    let _placement = machine::Placement::hold();
    let measurement = Measurement {
        choices: choices(&diagnosis.machine),
        duration: Duration::from_secs_f64(args.duration),
        repetitions: args.repetitions.max(1),
        options: Options {
            gateway: args.gateway.clone(),
            gateway_args: Vec::new(),
        },
    };
    let report = measurement.run(|line| eprintln!("{line}"))?;
    args.output.write(&report)
}
