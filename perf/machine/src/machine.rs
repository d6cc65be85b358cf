//! Everything that is read of a machine.

use std::path::Path;

use serde::Serialize;

use crate::network::NetworkDevice;
use crate::process::Process;
use crate::topology::Topology;
use crate::tree::Tree;

/// A machine as its kernel describes it to this process.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// Whether it is a virtual machine.
    pub virtualised: bool,
    /// The kernel's release, as in `6.18.1-amd64`.
    pub kernel: String,
    /// Its CPUs.
    pub topology: Topology,
    /// What this process may use.
    pub process: Process,
    /// Network devices with hardware behind them.
    pub network: Vec<NetworkDevice>,
    /// Processor weaknesses and what the kernel does about each, as it says.
    pub weaknesses: Vec<(String, String)>,
    /// What the kernel reads time from.
    pub clock: Option<String>,
    /// `kernel.io_uring_disabled`: 0 allowed, 1 for some, 2 for nobody.
    pub io_uring_disabled: Option<u32>,
    /// Whether the kernel moves memory between nodes by itself (`kernel.numa_balancing`).
    pub memory_moves: bool,
    /// Share of the last ten seconds in which some process waited for a CPU.
    pub cpu_pressure: Option<f64>,
    /// Share of all time since start in which the host gave this machine's CPUs to others.
    pub stolen: Option<f64>,
}

impl Machine {
    /// Reads the machine whose `proc` and `sys` are below `root`; `/` is the present one.
    pub fn read(root: &Path) -> Machine {
        let tree = Tree(root);
        let cpuinfo = tree.text("proc/cpuinfo").unwrap_or_default();
        let field = |key: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(key))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        const WEAKNESSES: &str = "sys/devices/system/cpu/vulnerabilities";
        Machine {
            processor: field("model name").unwrap_or_else(|| "unknown processor".into()),
            virtualised: field("flags")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            kernel: tree.text("proc/sys/kernel/osrelease").unwrap_or_default(),
            topology: Topology::read(tree),
            process: Process::read(tree),
            network: NetworkDevice::read_all(tree),
            weaknesses: tree
                .names(WEAKNESSES)
                .into_iter()
                .filter_map(|name| {
                    let state = tree.text(format!("{WEAKNESSES}/{name}"))?;
                    Some((name, state))
                })
                .collect(),
            clock: tree.text("sys/devices/system/clocksource/clocksource0/current_clocksource"),
            io_uring_disabled: tree.value("proc/sys/kernel/io_uring_disabled"),
            memory_moves: tree.value::<u32>("proc/sys/kernel/numa_balancing").unwrap_or(0) != 0,
            cpu_pressure: pressure(&tree.text("proc/pressure/cpu").unwrap_or_default()),
            stolen: stolen(&tree.text("proc/stat").unwrap_or_default()),
        }
    }

    /// Major and minor version of the kernel; zeroes where it cannot be told.
    pub fn kernel_version(&self) -> (u32, u32) {
        let mut numbers = self.kernel.split(['.', '-']).map_while(|part| part.parse().ok());
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }
}

/// The `some` line's ten-second average (Documentation/accounting/psi.rst), as a share.
fn pressure(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let percent = line.split(' ').find_map(|word| word.strip_prefix("avg10="))?;
    Some(percent.parse::<f64>().ok()? / 100.0)
}

/// Stolen time by all time, from the first line (proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal; guest time is
/// part of user).
fn stolen(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<f64> = line
        .split_whitespace()
        .take(8)
        .filter_map(|word| word.parse().ok())
        .collect();
    let all: f64 = ticks.iter().sum();
    (all > 0.0).then_some(*ticks.get(7)? / all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_and_stolen_time_are_shares() {
        assert_eq!(
            pressure("some avg10=73.50 avg60=1.00 avg300=0.00 total=5\nfull avg10=0.00"),
            Some(0.735)
        );
        assert_eq!(stolen("cpu  10 0 10 70 0 0 0 10 0 0\ncpu0 1 1"), Some(0.1));
        assert_eq!(stolen(""), None);
    }
}
