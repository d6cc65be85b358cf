//! Which CPUs serve.

use std::path::Path;

use super::error::StartError;
use crate::config::Cores;

/// The CPUs to run shards on: those configured, if they are allowed, or all that are allowed and paid for.
///
/// # Errors
/// [`StartError::Cpu`] when a configured CPU is not allowed.
pub(super) fn choose(cores: &Cores) -> Result<Vec<usize>, StartError> {
    // Respects the affinity mask, and with it cpusets.
    let allowed: Vec<usize> = core_affinity::get_core_ids()
        .unwrap_or_default()
        .into_iter()
        .map(|core| core.id)
        .collect();
    match cores {
        Cores::List(list) => match list.iter().find(|cpu| !allowed.contains(cpu)) {
            Some(cpu) => Err(StartError::Cpu { cpu: *cpu, allowed }),
            None => match list
                .iter()
                .enumerate()
                .find(|(at, cpu)| list[..*at].contains(cpu))
            {
                Some((_, cpu)) => Err(StartError::CpuTwice { cpu: *cpu }),
                None => Ok(list.clone()),
            },
        },
        Cores::Auto => {
            let paid = quota(Path::new("/sys/fs/cgroup/cpu.max")).unwrap_or(usize::MAX);
            let take = paid.clamp(1, allowed.len().max(1));
            Ok(if allowed.is_empty() {
                vec![0]
            } else {
                allowed.into_iter().take(take).collect()
            })
        }
    }
}

/// Whole CPUs that the cgroup's quota pays for: more shards than that would be throttled in the middle of their turns.
fn quota(file: &Path) -> Option<usize> {
    let text = std::fs::read_to_string(file).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (usize, usize) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0).then(|| (quota / period).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_that_are_not_allowed_are_refused_by_name() {
        let error = choose(&Cores::List(vec![9999]))
            .expect_err("no such CPU")
            .to_string();
        assert!(error.contains("CPU 9999"), "{error}");
    }

    #[test]
    fn no_cpu_gets_two_shards() {
        let cpu = core_affinity::get_core_ids().expect("CPUs")[0].id;
        let error = choose(&Cores::List(vec![cpu, cpu]))
            .expect_err("twice")
            .to_string();
        assert!(error.contains("listed twice"), "{error}");
    }

    #[test]
    fn a_quota_limits_the_shards() {
        let dir = std::env::temp_dir().join(format!("ringgate-quota-{}", std::process::id()));
        std::fs::write(&dir, "250000 100000\n").expect("write");
        assert_eq!(quota(&dir), Some(2));
        std::fs::write(&dir, "max 100000\n").expect("write");
        assert_eq!(quota(&dir), None);
        std::fs::remove_file(&dir).expect("remove");
    }
}
