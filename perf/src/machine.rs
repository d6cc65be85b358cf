//! The machine: its cores and what it says of itself.

use std::fs;

use ringgate_machine::CpuList;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Error;

/// Binds this thread, and every thread and process it starts from now on, to `core`.
///
/// # Errors
/// [`Error::Pin`] when there is no such core or it is not allowed (affinity, cgroup).
pub fn pin(core: usize) -> Result<(), Error> {
    pin_to(&[core])
}

/// The same with several cores, among which the kernel may choose.
///
/// # Errors
/// As [`pin`].
pub fn pin_to(cores: &[usize]) -> Result<(), Error> {
    let refused = |source: std::io::Error| Error::Pin {
        cores: cores.iter().copied().collect::<CpuList>().to_string(),
        source,
        allowed: allowed_cores().to_string(),
    };
    if cores.iter().any(|core| *core >= CpuSet::MAX_CPU) {
        return Err(refused(std::io::ErrorKind::InvalidInput.into()));
    }
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    sched_setaffinity(None, &set).map_err(|errno| refused(errno.into()))
}

/// The cores this process may use, in order.
pub fn allowed_cores() -> CpuList {
    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

/// Remembers where this thread may run, and puts it back there when dropped.
#[derive(Debug)]
pub struct Placement(Option<CpuSet>);

impl Placement {
    /// Notes the present affinity.
    pub fn hold() -> Placement {
        Placement(sched_getaffinity(None).ok())
    }
}

impl Drop for Placement {
    fn drop(&mut self) {
        if let Some(set) = &self.0 {
            // Fails only when the cores were taken away from the process meanwhile; it then stays where it is.
            let _ = sched_setaffinity(None, set);
        }
    }
}

/// One line that says what a measurement was made on.
pub fn describe() -> String {
    let name = rustix::system::uname();
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| {
            line.strip_prefix("model name")
                .and_then(|rest| rest.split_once(": "))
        })
        .map_or("unknown processor", |(_, model)| model.trim());
    let virtual_machine = if cpus.contains(" hypervisor") {
        ", virtual"
    } else {
        ""
    };
    // Of the machine, not of this thread, which may be pinned already.
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    format!(
        "{model}{virtual_machine}, {cores} cores, Linux {}",
        name.release().to_string_lossy()
    )
}
