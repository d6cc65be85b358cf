//! CPUs: how many, how they share, sleep and slow down, and who else has them.

use crate::{CpuList, Finding, Machine};

/// Time to wake, µs, above which a sleep state shows in latency: parking and being woken by another core costs about as much.
const WAKE_US_MAX: u64 = 10;
/// Share of time taken by the host above which latency suffers visibly.
const STOLEN_MAX: f64 = 0.01;
/// Share of time in which somebody waits for a CPU above which measurements mean nothing.
const PRESSURE_MAX: f64 = 0.05;

pub(super) fn topology(machine: &Machine) -> Finding {
    let topology = &machine.topology;
    let found = format!(
        "{}{}: {} CPUs on {} cores, {} last-level caches, {} memory nodes",
        machine.processor,
        if machine.virtualised { ", virtual" } else { "" },
        topology.cpus.len(),
        topology.cores(),
        topology.count(|cpu| cpu.cache.clone()),
        topology.count(|cpu| cpu.node),
    );
    match topology.cores() {
        0 => Finding::note("topology", "cannot be read"),
        1 => Finding::warning(
            "topology",
            found,
            "One core is shared by agents' connections, control and the kernel: give the machine at least two.",
        ),
        _ => Finding::good("topology", found),
    }
}

pub(super) fn threads(machine: &Machine) -> Finding {
    let pairs: Vec<&CpuList> = machine
        .topology
        .cpus
        .iter()
        .filter(|cpu| cpu.siblings.len() > 1 && cpu.siblings.first() == Some(cpu.id))
        .map(|cpu| &cpu.siblings)
        .collect();
    match &pairs[..] {
        [] => Finding::good("hardware threads", "one for each core"),
        [first, ..] => Finding::note(
            "hardware threads",
            format!("{} cores have several, as CPUs {first}", pairs.len()),
        )
        .with_remedy(
            "Give the gateway one CPU of each core and leave the other idle, as the placement below does; a busy sibling takes 20 to 40 % \
             of a core.",
        ),
    }
}

pub(super) fn governor(machine: &Machine) -> Option<Finding> {
    let check = "frequency";
    let cpus = &machine.topology.cpus;
    if cpus.iter().all(|cpu| cpu.governor.is_none()) {
        let who = if machine.virtualised {
            "the host"
        } else {
            "the firmware"
        };
        return Some(Finding::note(
            check,
            format!("ruled by {who}, not by this kernel"),
        ));
    }
    let slow = |cpu: &&crate::Cpu| cpu.governor.as_deref().is_some_and(|it| it != "performance");
    let slow_cpus: CpuList = cpus.iter().filter(slow).map(|cpu| cpu.id).collect();
    let Some(first) = cpus.iter().find(slow) else {
        return Some(Finding::good(check, "governor `performance` everywhere"));
    };
    let name = first.governor.as_deref().unwrap_or_default();
    Some(Finding::warning(
        check,
        format!("governor `{name}` on CPUs {slow_cpus}: a core that was idle answers slowly at first"),
        "Run `cpupower frequency-set -g performance`, or write `performance` to \
         /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor.",
    ))
}

pub(super) fn idle_states(machine: &Machine) -> Finding {
    let check = "sleep states";
    let states = machine.topology.cpus.iter().flat_map(|cpu| &cpu.idle_states);
    let Some(deepest) = states
        .filter(|state| !state.disabled)
        .max_by_key(|state| state.wake_us)
    else {
        return match machine.virtualised {
            true => Finding::note(
                check,
                "decided by the host; an idle CPU is woken through it, which takes tens of µs",
            )
            .with_remedy("Where latency counts, let the gateway never sleep: `--busy-poll`."),
            false => Finding::note(check, "not told by this kernel"),
        };
    };
    let found = format!(
        "the deepest, {}, takes {} µs to wake from",
        deepest.name, deepest.wake_us
    );
    match deepest.wake_us <= WAKE_US_MAX {
        true => Finding::good(check, found),
        false => Finding::warning(
            check,
            found,
            format!(
                "Run `cpupower idle-set -D {WAKE_US_MAX}` (switches off what takes longer), or let the gateway never sleep: `--busy-poll`."
            ),
        ),
    }
}

pub(super) fn isolation(machine: &Machine) -> Finding {
    let check = "isolation";
    let topology = &machine.topology;
    match topology.isolated.is_empty() {
        true => Finding::note(check, "no CPU is kept free of other processes").with_remedy(
            "For the evenest latency start Linux with `isolcpus=LIST nohz_full=LIST rcu_nocbs=LIST`, LIST being the gateway's data CPUs.",
        ),
        false => Finding::good(
            check,
            format!(
                "CPUs {} are kept free{}",
                topology.isolated,
                match topology.tickless.is_empty() {
                    true => String::new(),
                    false => format!(", CPUs {} without ticks", topology.tickless),
                }
            ),
        ),
    }
}

pub(super) fn mitigations(machine: &Machine) -> Finding {
    let check = "mitigations";
    let names = |wanted: fn(&str) -> bool| -> String {
        let matching = machine.weaknesses.iter().filter(|(_, state)| wanted(state));
        matching
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mitigated = names(|state| state.starts_with("Mitigation"));
    let open = names(|state| state.starts_with("Vulnerable"));
    if mitigated.is_empty() && open.is_empty() {
        return Finding::good(check, "none needed");
    }
    let mut found = match mitigated.is_empty() {
        true => "none in force".to_owned(),
        false => format!("in force against {mitigated}: each system call costs more"),
    };
    if !open.is_empty() {
        found.push_str(&format!("; open: {open}"));
    }
    let finding = Finding::note(check, found);
    match mitigated.is_empty() {
        true => finding,
        false => finding.with_remedy(
            "Leave them on. Only a machine that runs nothing but trusted programs may start Linux with `mitigations=off`.",
        ),
    }
}

pub(super) fn clock(machine: &Machine) -> Option<Finding> {
    let clock = machine.clock.as_deref()?;
    Some(match clock {
        "tsc" | "kvm-clock" | "hyperv_clocksource_tsc_page" | "arch_sys_counter" => {
            Finding::good("clock", format!("{clock}, read without a system call"))
        }
        _ => Finding::warning(
            "clock",
            format!("{clock}: each look at the time is a system call or worse"),
            "Start Linux with `clocksource=tsc tsc=reliable` where the processor's counter is constant (`grep constant_tsc /proc/cpuinfo`).",
        ),
    })
}

pub(super) fn stolen(machine: &Machine) -> Option<Finding> {
    let stolen = machine.stolen?;
    if !machine.virtualised {
        return None;
    }
    let found = format!(
        "the host took {:.1} % of the CPUs' time since start",
        stolen * 100.0
    );
    Some(match stolen <= STOLEN_MAX {
        true => Finding::good("stolen time", found),
        false => Finding::warning(
            "stolen time",
            found,
            "Ask the provider for dedicated CPUs: what the host takes shows up as latency that nothing in here can mend.",
        ),
    })
}

pub(super) fn pressure(machine: &Machine) -> Option<Finding> {
    let pressure = machine.cpu_pressure?;
    let found = format!(
        "somebody waited for a CPU {:.0} % of the last 10 s",
        pressure * 100.0
    );
    Some(match pressure <= PRESSURE_MAX {
        true => Finding::good("quiet", found),
        false => Finding::warning(
            "quiet",
            found,
            "Find who with `top`; measurements made meanwhile mean nothing, and a gateway beside it has a bad tail.",
        ),
    })
}

pub(super) fn memory_nodes(machine: &Machine) -> Option<Finding> {
    let nodes = machine.topology.count(|cpu| cpu.node);
    if nodes < 2 {
        return None;
    }
    Some(match machine.memory_moves {
        false => Finding::good(
            "memory nodes",
            format!("{nodes}; the kernel leaves memory where it is"),
        ),
        true => Finding::warning(
            "memory nodes",
            format!("{nodes}, and the kernel moves memory between them, which stops threads that touch it"),
            "Run `sysctl kernel.numa_balancing=0`: the gateway's memory is already where its cores are.",
        ),
    })
}
