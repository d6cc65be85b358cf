//! Which CPUs the gateway's data cores should get.

use serde::Serialize;

use crate::cpulist::CpuList;
use crate::machine::Machine;
use crate::topology::Cpu;

/// CPU time of one delivery, ns: a message of 256 B to 100 subscribers over loopback with some room (`perf/002-headline.md`).
const DELIVERY_NS: f64 = 500.0;
/// Share of a core that may be used in the mean: above it queues grow, and with them latency.
const USE_MAX: f64 = 0.7;
/// Spin time suggested for cores that may sleep, µs: about what parking and being woken costs.
const SPIN_US: u32 = 50;

/// What is asked of a placement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Wanted {
    /// Data cores; `None` lets the load decide, or else takes what the machine has.
    pub cores: Option<usize>,
    /// Deliveries each second that are expected at most.
    pub deliveries_per_second: Option<f64>,
    /// Latency before all: data cores may burn their whole time.
    pub dedicated: bool,
}

/// What a data core does that has nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Idle {
    /// It never sleeps.
    BusyPoll,
    /// It looks for work so long before it sleeps.
    SpinUs(u32),
}

/// A suggestion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Placement {
    /// CPUs of the data cores, in order.
    pub data: CpuList,
    /// What they do when there is nothing to do.
    pub idle: Idle,
    /// CPUs to be left idle because a data core shares its core with them.
    pub leave: CpuList,
    /// CPUs for all else: control process, metrics, interrupts.
    pub others: CpuList,
    /// The arguments that make the gateway so.
    pub arguments: String,
    /// Why so.
    pub reasons: Vec<String>,
}

/// No placement can be suggested.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlacementError {
    /// The machine's CPUs cannot be read.
    #[error("no CPU can be read below /sys/devices/system/cpu: is /sys mounted?")]
    Unknown,
    /// There are too few.
    #[error(
        "{wanted} data cores are wanted, but only CPUs {allowed} are allowed, on {cores} cores. Ask for fewer, or allow more CPUs"
    )]
    TooFew {
        /// Data cores asked for.
        wanted: usize,
        /// CPUs that may be used.
        allowed: CpuList,
        /// On so many cores.
        cores: usize,
    },
}

impl Placement {
    /// Suggests one: whole cores, near each other and near the network, and not those that others need.
    ///
    /// # Errors
    /// [`PlacementError`], when the machine does not have what is wanted.
    pub fn suggest(machine: &Machine, wanted: &Wanted) -> Result<Placement, PlacementError> {
        let cores = usable_cores(machine);
        if cores.is_empty() {
            return Err(PlacementError::Unknown);
        }
        let mut reasons = Vec::new();
        let count = how_many(wanted, cores.len(), &mut reasons);
        if count > cores.len() {
            return Err(PlacementError::TooFew {
                wanted: count,
                allowed: allowed(machine),
                cores: cores.len(),
            });
        }
        let chosen = choose(machine, cores, count, &mut reasons);
        let data: CpuList = chosen.iter().map(|cpu| cpu.id).collect();
        let leave: CpuList = chosen
            .iter()
            .flat_map(|cpu| cpu.siblings.iter())
            .filter(|cpu| !data.contains(*cpu))
            .collect();
        if !leave.is_empty() {
            reasons.push(format!(
                "CPUs {leave} share a core with a data core: leave them idle"
            ));
        }
        let free = |cpu: &usize| !data.contains(*cpu) && !leave.contains(*cpu);
        let others: CpuList = machine.topology.online().iter().filter(free).collect();
        match others.first() {
            Some(_) => reasons.push(format!(
                "CPUs {others} take the control process, metrics and interrupts"
            )),
            None => reasons.push(
                "nothing is left for the control process and interrupts: they will disturb data cores".into(),
            ),
        }
        let idle = how_idle(machine, wanted, others.is_empty(), &mut reasons);
        let idle_argument = match idle {
            Idle::BusyPoll => "--busy-poll".to_owned(),
            Idle::SpinUs(micros) => format!("--spin-us {micros}"),
        };
        let list = data
            .iter()
            .map(|cpu| cpu.to_string())
            .collect::<Vec<_>>()
            .join(",");
        Ok(Placement {
            arguments: format!("--cores {list} {idle_argument}"),
            data,
            idle,
            leave,
            others,
            reasons,
        })
    }
}

fn allowed(machine: &Machine) -> CpuList {
    match machine.process.allowed.is_empty() {
        true => machine.topology.online(),
        false => machine.process.allowed.clone(),
    }
}

/// The first allowed CPU of each core.
fn usable_cores(machine: &Machine) -> Vec<&Cpu> {
    let allowed = allowed(machine);
    let usable = |cpu: &&Cpu| {
        let first = cpu.siblings.iter().find(|sibling| allowed.contains(*sibling));
        first == Some(cpu.id)
    };
    machine.topology.cpus.iter().filter(usable).collect()
}

fn how_many(wanted: &Wanted, cores: usize, reasons: &mut Vec<String>) -> usize {
    if let Some(count) = wanted.cores {
        return count.max(1);
    }
    match wanted.deliveries_per_second {
        Some(rate) => {
            let count = (rate * DELIVERY_NS / 1e9 / USE_MAX).ceil().max(1.0) as usize;
            reasons.push(format!(
                "{rate} deliveries/s at {DELIVERY_NS} ns each keep {count} cores busy to {:.0} % at most; measure your own with ringgate-perf",
                USE_MAX * 100.0
            ));
            count
        }
        None => {
            reasons.push("one core is left for all else".into());
            cores.saturating_sub(1).max(1)
        }
    }
}

/// Picks `count` cores: isolated ones first, then those of one memory node (the network's, where it says) and one cache, and CPU 0,
/// which the kernel uses for itself, last.
fn choose<'a>(
    machine: &Machine,
    mut cores: Vec<&'a Cpu>,
    count: usize,
    reasons: &mut Vec<String>,
) -> Vec<&'a Cpu> {
    let isolated = &machine.topology.isolated;
    let near = machine.network.iter().find_map(|device| device.node);
    let room = |group: &dyn Fn(&Cpu) -> bool| cores.iter().filter(|cpu| group(cpu)).count();
    // A node or cache that holds all of them beats one that does not; among equals the larger one is left for others.
    let lacks_room = |free: usize| (free < count, free);
    let mut ranked: Vec<_> = cores
        .iter()
        .map(|cpu| {
            let key = (
                !isolated.contains(cpu.id),
                near.is_some_and(|node| node != cpu.node),
                lacks_room(room(&|other| other.node == cpu.node)),
                cpu.node,
                lacks_room(room(&|other| other.cache == cpu.cache && other.id != 0)),
                cpu.cache.first(),
                cpu.siblings.contains(0),
                cpu.id,
            );
            (key, *cpu)
        })
        .collect();
    ranked.sort_by_key(|(key, _)| *key);
    cores.clear();
    cores.extend(ranked.into_iter().take(count).map(|(_, cpu)| cpu));
    let distinct = |of: &dyn Fn(&Cpu) -> Option<usize>| {
        let values: CpuList = cores.iter().filter_map(|cpu| of(cpu)).collect();
        values.len()
    };
    if let Some(node) = near.filter(|node| cores.iter().all(|cpu| cpu.node == *node)) {
        reasons.push(format!(
            "all on memory node {node}, to which the network is attached"
        ));
    }
    match (
        distinct(&|cpu| Some(cpu.node)),
        distinct(&|cpu| cpu.cache.first()),
    ) {
        (1, 1) if count > 1 => {
            reasons.push("all share one last-level cache: waking another core is cheapest".into())
        }
        (1, caches) if count > 1 => reasons.push(format!(
            "they spread over {caches} last-level caches: waking across them costs about three times as much"
        )),
        (nodes, _) if nodes > 1 => reasons.push(format!(
            "they spread over {nodes} memory nodes: consider one gateway for each node"
        )),
        _ => {}
    }
    cores
}

fn how_idle(machine: &Machine, wanted: &Wanted, crowded: bool, reasons: &mut Vec<String>) -> Idle {
    if wanted.dedicated && machine.process.quota_cpus.is_some() {
        reasons.push("a CPU quota applies: a core that never sleeps would use it up, so cores sleep".into());
        return Idle::SpinUs(SPIN_US);
    }
    if wanted.dedicated && crowded {
        reasons.push(
            "there is no core left for anything else: cores that never sleep would starve it, so they sleep"
                .into(),
        );
        return Idle::SpinUs(SPIN_US);
    }
    match wanted.dedicated {
        true => Idle::BusyPoll,
        false => Idle::SpinUs(SPIN_US),
    }
}
