//! Checks of the machine before anything is served, each with the remedy.

use std::io;

use io_uring::{IoUring, Probe, opcode};

use crate::config::RingConfig;
use crate::error::Error;
use crate::ring::Ring;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Good,
    /// Works, but slower or with less room than it could.
    Warning,
    /// The gateway cannot run.
    Fatal,
}

/// What one check found.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What was checked.
    pub check: &'static str,
    /// The verdict.
    pub severity: Severity,
    /// What was found.
    pub found: String,
    /// What to do, where there is something to do.
    pub remedy: Option<String>,
}

/// Open files below which the gateway does not start: its own need, and some dozens of agents.
const OPEN_FILES_LEAST: u64 = 128;
/// Open files below which a warning is given: a gateway for a few thousand agents fits.
const OPEN_FILES_COMFORTABLE: u64 = 16_384;

/// Checks whether this process can run rings of `config` on `cores` cores.
pub fn preflight(config: &RingConfig, cores: usize) -> Vec<Finding> {
    let mut findings = vec![kernel(), open_files(), lockable_memory(config, cores)];
    findings.push(match Ring::new(config) {
        Ok(ring) => {
            let how = if ring.is_incremental() { "with" } else { "without" };
            Finding {
                check: "io_uring",
                severity: Severity::Good,
                found: format!("usable, {how} incremental receive buffers"),
                remedy: None,
            }
        }
        Err(Error::Setup { step, source, remedy }) => Finding {
            check: "io_uring",
            severity: Severity::Fatal,
            found: format!("{step:?} failed: {source}"),
            remedy: Some(remedy.to_owned()),
        },
        Err(other) => Finding {
            check: "io_uring",
            severity: Severity::Fatal,
            found: other.to_string(),
            remedy: None,
        },
    });
    findings.push(operations());
    findings
}

/// Raises the soft limit of open files as far as the hard limit allows (for root: to `wanted`), and returns it.
///
/// # Errors
/// What the kernel said.
pub fn raise_open_files(wanted: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: getrlimit writes to the structure it is given, which lives over the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    for target in [wanted, limit.rlim_max.min(wanted)] {
        if target <= limit.rlim_cur {
            return Ok(limit.rlim_cur);
        }
        let raised = libc::rlimit {
            rlim_cur: target,
            rlim_max: limit.rlim_max.max(target),
        };
        // SAFETY: setrlimit reads the structure it is given, which lives over the call.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
            return Ok(target);
        }
    }
    Ok(limit.rlim_cur)
}

/// Major and minor version of the running kernel; zeroes where it cannot be told.
pub(crate) fn kernel_version() -> (u32, u32) {
    let release = kernel_release();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn kernel() -> Finding {
    let (release, version) = (kernel_release(), kernel_version());
    let (severity, remedy) = match version {
        v if v >= (6, 7) => (Severity::Good, None),
        v if v >= (6, 1) => (
            Severity::Warning,
            Some("Linux 6.7 or later spares clients with Nagle's algorithm (SLIM, AGP 2025) delayed acknowledgements.".to_owned()),
        ),
        _ => (
            Severity::Fatal,
            Some("Run on Linux 6.1 or later (6.12 recommended).".to_owned()),
        ),
    };
    Finding {
        check: "kernel",
        severity,
        found: format!("Linux {release}"),
        remedy,
    }
}

fn open_files() -> Finding {
    let soft = limit(libc::RLIMIT_NOFILE).0;
    let few = soft < OPEN_FILES_COMFORTABLE;
    Finding {
        check: "open files",
        severity: match soft {
            0..OPEN_FILES_LEAST => Severity::Fatal,
            OPEN_FILES_LEAST..OPEN_FILES_COMFORTABLE => Severity::Warning,
            OPEN_FILES_COMFORTABLE.. => Severity::Good,
        },
        found: format!("{soft} allowed: about as many connections"),
        remedy: few.then(|| "Raise it: `ulimit -n 1048576`, or systemd LimitNOFILE=1048576.".to_owned()),
    }
}

fn lockable_memory(config: &RingConfig, cores: usize) -> Finding {
    let (soft, _) = limit(libc::RLIMIT_MEMLOCK);
    // The kernel charges ring memory to the cgroup since 5.12; the limit matters for registered buffers of glommio's own rings.
    let needed = cores as u64
        * (u64::from(config.receive_buffers) * 16
            + u64::from(config.submission_entries) * 64
            + u64::from(config.completion_entries) * 16);
    let short = soft < needed;
    Finding {
        check: "lockable memory",
        severity: if short { Severity::Warning } else { Severity::Good },
        found: if soft == u64::MAX {
            "unlimited".to_owned()
        } else {
            format!("{} KiB allowed", soft / 1024)
        },
        remedy: short.then(|| {
            format!(
                "Raise it to at least {} KiB: `ulimit -l unlimited`, or systemd LimitMEMLOCK=infinity.",
                needed / 1024
            )
        }),
    }
}

/// Looks for the operations that rings use.
fn operations() -> Finding {
    let wanted = [
        ("accept", opcode::AcceptMulti::CODE),
        ("recv", opcode::RecvMulti::CODE),
        ("send", opcode::Send::CODE),
        ("sendmsg", opcode::SendMsg::CODE),
    ];
    let mut probe = Probe::new();
    let supported = IoUring::new(2).and_then(|ring| ring.submitter().register_probe(&mut probe));
    let missing: Vec<&str> = match supported {
        Ok(()) => wanted
            .iter()
            .filter(|(_, code)| !probe.is_supported(*code))
            .map(|(name, _)| *name)
            .collect(),
        Err(_) => wanted.iter().map(|(name, _)| *name).collect(),
    };
    let good = missing.is_empty();
    Finding {
        check: "io_uring operations",
        severity: if good { Severity::Good } else { Severity::Fatal },
        found: if good {
            "all there".to_owned()
        } else {
            format!("missing: {}", missing.join(", "))
        },
        remedy: (!good).then(|| "Run on Linux 6.1 or later, with io_uring allowed.".to_owned()),
    }
}

fn limit(resource: libc::__rlimit_resource_t) -> (u64, u64) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: getrlimit writes to the structure it is given, which lives over the call.
    unsafe { libc::getrlimit(resource, &raw mut limit) };
    (limit.rlim_cur, limit.rlim_max)
}
