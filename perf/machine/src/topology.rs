//! CPUs: which of them share a core, a cache, a memory node, and how they sleep.

use std::path::Path;

use serde::Serialize;

use crate::cpulist::CpuList;
use crate::tree::Tree;

const CPUS: &str = "sys/devices/system/cpu";
const NODES: &str = "sys/devices/system/node";

/// One logical CPU that is online.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cpu {
    /// Its number.
    pub id: usize,
    /// The physical processor it belongs to.
    pub package: usize,
    /// The CPUs of the same core, itself included: more than one where it has hardware threads (SMT).
    pub siblings: CpuList,
    /// The CPUs that share its last-level cache, itself included.
    pub cache: CpuList,
    /// Bytes of that cache, where the kernel tells.
    pub cache_bytes: Option<u64>,
    /// Its memory node (NUMA).
    pub node: usize,
    /// Frequency governor, where the kernel rules the frequency.
    pub governor: Option<String>,
    /// How it may sleep.
    pub idle_states: Vec<IdleState>,
}

/// A way for a CPU to sleep (C-state).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IdleState {
    /// Its name.
    pub name: String,
    /// How long it takes to wake from it at most, µs.
    pub wake_us: u64,
    /// Whether it is switched off.
    pub disabled: bool,
}

/// All CPUs that are online.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Topology {
    /// The CPUs, in order.
    pub cpus: Vec<Cpu>,
    /// CPUs kept free of ordinary processes (`isolcpus=`).
    pub isolated: CpuList,
    /// CPUs without a timer tick while one process runs (`nohz_full=`).
    pub tickless: CpuList,
}

impl Topology {
    pub(crate) fn read(tree: Tree<'_>) -> Topology {
        let list = |name: &str| tree.value(format!("{CPUS}/{name}")).unwrap_or_default();
        let online: CpuList = list("online");
        let nodes: Vec<(usize, CpuList)> = tree
            .numbered(NODES, "node")
            .into_iter()
            .filter_map(|(node, path)| Some((node, tree.value(path.join("cpulist"))?)))
            .collect();
        let node_of = |cpu: usize| {
            nodes
                .iter()
                .find(|(_, cpus)| cpus.contains(cpu))
                .map_or(0, |(node, _)| *node)
        };
        let cpus = tree
            .numbered(CPUS, "cpu")
            .into_iter()
            .filter(|(cpu, _)| online.is_empty() || online.contains(*cpu))
            .map(|(cpu, path)| read_cpu(tree, cpu, &path, node_of(cpu)))
            .collect();
        Topology {
            cpus,
            isolated: list("isolated"),
            tickless: list("nohz_full"),
        }
    }

    /// The CPU of this number.
    pub fn cpu(&self, id: usize) -> Option<&Cpu> {
        self.cpus.iter().find(|cpu| cpu.id == id)
    }

    /// The numbers of all.
    pub fn online(&self) -> CpuList {
        self.cpus.iter().map(|cpu| cpu.id).collect()
    }

    /// The distinct values of something that CPUs have.
    pub fn count<T: PartialEq>(&self, of: impl Fn(&Cpu) -> T) -> usize {
        let mut seen: Vec<T> = Vec::new();
        for value in self.cpus.iter().map(of) {
            if !seen.contains(&value) {
                seen.push(value);
            }
        }
        seen.len()
    }

    /// Cores, each with one CPU or several (SMT).
    pub fn cores(&self) -> usize {
        self.count(|cpu| cpu.siblings.clone())
    }
}

fn read_cpu(tree: Tree<'_>, id: usize, path: &Path, node: usize) -> Cpu {
    let alone = || CpuList::from_iter([id]);
    let siblings = tree
        .value(path.join("topology/thread_siblings_list"))
        .unwrap_or_else(alone);
    let last = tree
        .numbered(path.join("cache"), "index")
        .into_iter()
        .filter(|(_, index)| tree.text(index.join("type")).as_deref() != Some("Instruction"))
        .max_by_key(|(_, index)| tree.value::<u32>(index.join("level")).unwrap_or(0));
    let cache = last
        .as_ref()
        .and_then(|(_, index)| tree.value(index.join("shared_cpu_list")));
    let cache_bytes = last
        .as_ref()
        .and_then(|(_, index)| bytes(&tree.text(index.join("size"))?));
    let idle_states = tree
        .numbered(path.join("cpuidle"), "state")
        .into_iter()
        .filter_map(|(_, state)| {
            Some(IdleState {
                name: tree.text(state.join("name"))?,
                wake_us: tree.value(state.join("latency"))?,
                disabled: tree.value::<u32>(state.join("disable")).unwrap_or(0) != 0,
            })
        })
        .collect();
    Cpu {
        id,
        package: tree.value(path.join("topology/physical_package_id")).unwrap_or(0),
        siblings,
        cache: cache.unwrap_or_else(alone),
        cache_bytes,
        node,
        governor: tree.text(path.join("cpufreq/scaling_governor")),
        idle_states,
    }
}

/// A size as the kernel writes it, as in `32768K`.
fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let shift = match unit {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return None,
    };
    Some(number.parse::<u64>().ok()? << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("32768K"), Some(32 << 20));
        assert_eq!(bytes("512"), Some(512));
        assert_eq!(bytes("many"), None);
    }
}
