//! Checks: each looks at one thing and says what it found.

mod kernel;
mod network;
mod process;
mod processor;

use ringgate_uring::RingConfig;

use crate::{Finding, Machine};

pub use kernel::features;

/// All checks of what was read of a machine.
pub fn examine(machine: &Machine) -> Vec<Finding> {
    let mut findings = vec![processor::topology(machine), process::allowed(machine)];
    findings.extend(process::quota(machine));
    findings.push(processor::threads(machine));
    findings.extend(processor::governor(machine));
    findings.push(processor::idle_states(machine));
    findings.push(processor::isolation(machine));
    findings.push(processor::mitigations(machine));
    findings.extend(processor::clock(machine));
    findings.extend(processor::stolen(machine));
    findings.extend(processor::pressure(machine));
    findings.extend(processor::memory_nodes(machine));
    findings.extend(
        machine
            .network
            .iter()
            .map(|device| network::interrupts(machine, device)),
    );
    findings.extend(machine.network.iter().filter_map(network::steering));
    findings.push(process::system_calls(machine));
    findings.extend(kernel::rings_allowed(machine));
    findings.extend(kernel::features(machine));
    findings
}

/// Checks that only the present machine can answer: the kernel's version, limits, and whether a ring of this `config` can be made.
/// They are those that the gateway itself makes at its start, for `cores` cores.
pub fn preflight(config: &RingConfig, cores: usize) -> Vec<Finding> {
    ringgate_uring::preflight(config, cores)
        .into_iter()
        .map(Finding::from)
        .collect()
}
