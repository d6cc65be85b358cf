//! Network devices and the CPUs that take their interrupts.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cpulist::CpuList;
use crate::tree::Tree;

const NET: &str = "sys/class/net";

/// A network device with hardware behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkDevice {
    /// Its name.
    pub name: String,
    /// The memory node it is attached to, where the machine has several and says so.
    pub node: Option<usize>,
    /// Receive queues.
    pub receive_queues: usize,
    /// CPUs that take over received packets by software (RPS), as masks; empty when it is off.
    pub steered: Vec<String>,
    /// Its interrupts.
    pub interrupts: Vec<Interrupt>,
}

/// One interrupt line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interrupt {
    /// Its number.
    pub number: usize,
    /// What it is for, as its driver says.
    pub name: String,
    /// CPUs that may take it.
    pub allowed: CpuList,
    /// How often each CPU has taken it since start.
    pub taken: BTreeMap<usize, u64>,
}

impl NetworkDevice {
    /// All devices with hardware behind them, in order.
    pub(crate) fn read_all(tree: Tree<'_>) -> Vec<NetworkDevice> {
        let interrupts = interrupts(tree);
        let physical = |name: &String| tree.has(format!("{NET}/{name}/device"));
        let names = tree.names(NET).into_iter().filter(physical);
        names
            .map(|name| NetworkDevice::read(tree, name, &interrupts))
            .collect()
    }

    fn read(tree: Tree<'_>, name: String, interrupts: &[Interrupt]) -> NetworkDevice {
        let folder = format!("{NET}/{name}");
        let queues = tree.numbered(format!("{folder}/queues"), "rx-");
        let masks = queues
            .iter()
            .filter_map(|(_, queue)| tree.text(queue.join("rps_cpus")));
        // A virtio device's interrupts belong to the PCI device above it.
        let lines: Vec<usize> = ["device/msi_irqs", "device/../msi_irqs"]
            .iter()
            .flat_map(|place| tree.names(format!("{folder}/{place}")))
            .filter_map(|number| number.parse().ok())
            .collect();
        let own = |it: &&Interrupt| lines.contains(&it.number) || it.name.contains(&name);
        NetworkDevice {
            node: tree
                .value::<i64>(format!("{folder}/device/numa_node"))
                .and_then(|node| usize::try_from(node).ok()),
            receive_queues: queues.len(),
            steered: masks
                .filter(|mask| mask.chars().any(|c| c.is_ascii_hexdigit() && c != '0'))
                .collect(),
            interrupts: interrupts.iter().filter(own).cloned().collect(),
            name,
        }
    }

    /// CPUs that have taken interrupts of this device.
    pub fn interrupted(&self) -> CpuList {
        let counts = self.interrupts.iter().flat_map(|it| &it.taken);
        counts
            .filter(|(_, count)| **count > 0)
            .map(|(cpu, _)| *cpu)
            .collect()
    }
}

/// `/proc/interrupts`: a head with the CPUs, then for each numbered line its counts and its name (proc(5)).
fn interrupts(tree: Tree<'_>) -> Vec<Interrupt> {
    let text = tree.text("proc/interrupts").unwrap_or_default();
    let mut lines = text.lines();
    let cpus: Vec<usize> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|head| head.strip_prefix("CPU")?.parse().ok())
        .collect();
    lines
        .filter_map(|line| {
            let (number, rest) = line.split_once(':')?;
            let number = number.trim().parse().ok()?;
            let mut words = rest.split_whitespace();
            let taken = cpus
                .iter()
                .map(|cpu| Some((*cpu, words.next()?.parse().ok()?)))
                .collect::<Option<BTreeMap<usize, u64>>>()?;
            let allowed = tree.value(format!("proc/irq/{number}/smp_affinity_list"));
            Some(Interrupt {
                number,
                name: words.next_back().unwrap_or_default().to_owned(),
                allowed: allowed.unwrap_or_default(),
                taken,
            })
        })
        .collect()
}
