//! What a process has used, as the kernel counts it.

use std::fs;
use std::io;
use std::time::Duration;

use crate::Error;

/// Processor time and memory of a process at one instant.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Time on a processor, in user and kernel mode, of all its threads that are alive.
    pub cpu: Duration,
    /// Time in which its threads could have run but waited for a processor that others used.
    pub waited: Duration,
    /// Resident memory, bytes.
    pub rss_bytes: u64,
    /// The most that was ever resident, bytes.
    pub rss_bytes_max: u64,
}

impl Usage {
    /// Reads the usage of process `pid`.
    ///
    /// Time comes from `/proc/PID/task/*/schedstat`, which counts nanoseconds. The kernel brings the number of a running thread up
    /// to date at each tick and each switch, so a difference is good to one tick per thread (1 to 4 ms).
    ///
    /// # Errors
    /// [`Error::Statistics`] when the process is gone.
    pub fn of(pid: u32) -> Result<Usage, Error> {
        Usage::read(pid).map_err(|source| Error::Statistics { pid, source })
    }

    fn read(pid: u32) -> io::Result<Usage> {
        let (mut ran_nanos, mut waited_nanos) = (0u64, 0u64);
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread that ended between the listing and the reading is none of ours any more.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else {
                continue;
            };
            let mut fields = text.split(' ').map(|field| field.parse::<u64>().unwrap_or(0));
            ran_nanos += fields.next().unwrap_or(0);
            waited_nanos += fields.next().unwrap_or(0);
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        Ok(Usage {
            cpu: Duration::from_nanos(ran_nanos),
            waited: Duration::from_nanos(waited_nanos),
            rss_bytes: kib("VmRSS:").unwrap_or(0) * 1024,
            rss_bytes_max: kib("VmHWM:").unwrap_or(0) * 1024,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_memory() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.rss_bytes > 0);
        assert!(usage.rss_bytes_max >= usage.rss_bytes);
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(matches!(Usage::of(u32::MAX >> 1), Err(Error::Statistics { .. })));
    }
}
