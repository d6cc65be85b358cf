//! What this process may use.

use crate::{CpuList, Finding, Machine};

pub(super) fn allowed(machine: &Machine) -> Finding {
    let check = "allowed CPUs";
    let (online, allowed) = (machine.topology.online(), &machine.process.allowed);
    let kept: CpuList = online.iter().filter(|cpu| !allowed.contains(*cpu)).collect();
    if allowed.is_empty() {
        return Finding::note(check, "cannot be read");
    }
    match kept.is_empty() {
        true => Finding::good(check, format!("all: {allowed}")),
        false => Finding::note(check, format!("{allowed}, not {kept} (affinity or cpuset)")).with_remedy(
            "Give `--cores` only allowed CPUs. To allow more: `taskset`, systemd `AllowedCPUs=`, or the container's `--cpuset-cpus`.",
        ),
    }
}

pub(super) fn quota(machine: &Machine) -> Option<Finding> {
    let quota = machine.process.quota_cpus?;
    Some(Finding::warning(
        "CPU quota",
        format!(
            "{quota:.2} CPUs' worth of time in each period: when it is used up, every core stops until the next"
        ),
        "Remove it (systemd `CPUQuota=`, Docker `--cpus`, Kubernetes `limits.cpu`) and give whole CPUs instead (`AllowedCPUs=`, \
         `--cpuset-cpus`, the static CPU manager policy).",
    ))
}

pub(super) fn system_calls(machine: &Machine) -> Finding {
    match machine.process.filtered {
        false => Finding::good("seccomp", "no filter"),
        true => Finding::note("seccomp", "a filter of system calls applies; Docker's default one forbids io_uring").with_remedy(
            "If the io_uring check fails, start the container with a profile that allows io_uring_setup, io_uring_enter and \
             io_uring_register, or with `--security-opt seccomp=unconfined`.",
        ),
    }
}
