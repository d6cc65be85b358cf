//! `ringgate doctor`.

use anyhow::{Result, bail};
use ringgate_machine::{Diagnosis, Verdict, Wanted};
use ringgate_uring::RingConfig;

use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Data cores that are to be placed. Without: as the load asks for, or as the machine has.
    #[arg(long)]
    cores: Option<usize>,
    /// Deliveries each second that are expected at most.
    #[arg(long, value_name = "NUMBER")]
    deliveries_per_second: Option<f64>,
    /// Latency before all: data cores may burn their whole time.
    #[arg(long)]
    dedicated: bool,
}

/// Says what this machine has and lacks for a data plane, what to do about it, and which cores should serve.
pub(crate) fn run(out: Output, arguments: &Arguments) -> Result<()> {
    let wanted = Wanted {
        cores: arguments.cores,
        deliveries_per_second: arguments.deliveries_per_second,
        dedicated: arguments.dedicated,
    };
    let diagnosis = Diagnosis::here(&RingConfig::default(), wanted);
    if out.json {
        println!("{}", serde_json::to_string_pretty(&diagnosis)?);
    } else {
        print!("{diagnosis}");
    }
    if diagnosis.worst() == Verdict::Fatal {
        bail!("a data plane cannot run on this machine; what is marked fatal says how to mend it");
    }
    Ok(())
}
