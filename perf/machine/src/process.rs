//! What this process may use.

use std::path::PathBuf;

use serde::Serialize;

use crate::cpulist::CpuList;
use crate::tree::Tree;

/// What the kernel lets this process have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Process {
    /// The CPUs it may run on: affinity and cpuset together. Empty where that cannot be read.
    pub allowed: CpuList,
    /// CPUs' worth of time it may use in each period (cgroup quota); `None` is no limit.
    pub quota_cpus: Option<f64>,
    /// Whether a filter of system calls applies (seccomp mode 2).
    pub filtered: bool,
}

impl Process {
    pub(crate) fn read(tree: Tree<'_>) -> Process {
        let status = tree.text("proc/self/status").unwrap_or_default();
        let field = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            Some(line.trim().to_owned())
        };
        let allowed = field("Cpus_allowed_list:").and_then(|list| list.parse().ok());
        Process {
            allowed: allowed.unwrap_or_default(),
            quota_cpus: quota(tree),
            filtered: field("Seccomp:").as_deref() == Some("2"),
        }
    }
}

/// The tightest quota of this process' cgroup and those above it, as far as they are visible (cgroup v2 `cpu.max`, v1
/// `cpu.cfs_quota_us`).
fn quota(tree: Tree<'_>) -> Option<f64> {
    let groups = tree.text("proc/self/cgroup")?;
    let mut tightest: Option<f64> = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let base = match controllers {
            "" => PathBuf::from("sys/fs/cgroup"),
            _ if controllers.split(',').any(|it| it == "cpu") => PathBuf::from("sys/fs/cgroup/cpu"),
            _ => continue,
        };
        let mut group = base.join(path.trim_start_matches('/'));
        while group.starts_with(&base) {
            let here = quota_v2(tree, &group).or_else(|| quota_v1(tree, &group));
            tightest = match (tightest, here) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
            group.pop();
        }
    }
    tightest
}

fn quota_v2(tree: Tree<'_>, group: &std::path::Path) -> Option<f64> {
    let text = tree.text(group.join("cpu.max"))?;
    let (quota, period) = text.split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
}

fn quota_v1(tree: Tree<'_>, group: &std::path::Path) -> Option<f64> {
    let quota: f64 = tree.value(group.join("cpu.cfs_quota_us"))?;
    let period: f64 = tree.value(group.join("cpu.cfs_period_us"))?;
    // -1 is no limit.
    (quota > 0.0).then_some(quota / period)
}
