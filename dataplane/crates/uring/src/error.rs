//! Errors of making and running a ring. Each says what to do.

use std::io;

/// Which step of making a ring failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetupStep {
    /// `io_uring_setup`.
    Setup,
    /// Registering the table of fixed files.
    Files,
    /// Mapping or registering the receive buffers.
    Buffers,
    /// Making or registering the event descriptor.
    EventFd,
}

/// A ring could not be made or driven.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The ring could not be made.
    #[error("cannot set up io_uring ({step:?}): {source}. {remedy}")]
    Setup {
        /// Where.
        step: SetupStep,
        /// What the kernel said.
        source: io::Error,
        /// What to do about it.
        remedy: &'static str,
    },
    /// `io_uring_enter` failed in a way that retrying cannot mend.
    #[error("io_uring_enter failed: {0}. This is a fault of the kernel or of the gateway; please report it")]
    Enter(io::Error),
    /// The table of sockets is full.
    #[error("all {max} socket entries of this core are in use. Raise `limits.connections_max` or add cores")]
    SocketsExhausted {
        /// Entries in the table.
        max: u32,
    },
    /// A socket could not be registered.
    #[error("cannot register a socket with the ring: {0}")]
    Register(io::Error),
}

impl Error {
    pub(crate) fn setup(step: SetupStep, source: io::Error) -> Error {
        let remedy = remedy(step, source.raw_os_error().unwrap_or(0));
        Error::Setup { step, source, remedy }
    }
}

/// What an operator can do about `errno` at `step`.
fn remedy(step: SetupStep, errno: i32) -> &'static str {
    match (step, errno) {
        (_, libc::ENOSYS) => {
            "This kernel has no io_uring (or a sandbox such as gVisor hides it): run on Linux 6.1 or later, outside the sandbox."
        }
        (SetupStep::Setup, libc::EPERM) | (SetupStep::Setup, libc::EACCES) => {
            "io_uring is forbidden: set `sysctl kernel.io_uring_disabled=0`, and in a container allow io_uring_setup, io_uring_enter \
             and io_uring_register in the seccomp profile (Docker: --security-opt seccomp=PROFILE.json)."
        }
        (SetupStep::Setup, libc::EINVAL) => {
            "This kernel lacks SINGLE_ISSUER or DEFER_TASKRUN: run on Linux 6.1 or later."
        }
        (_, libc::ENOMEM) => {
            "Not enough lockable memory: raise it (`ulimit -l unlimited`, systemd LimitMEMLOCK=infinity, or a larger cgroup memory \
             limit)."
        }
        (_, libc::EMFILE) | (_, libc::ENFILE) => {
            "Too few file descriptors: raise the limit (`ulimit -n 1048576`, systemd LimitNOFILE=1048576)."
        }
        (SetupStep::Buffers, libc::EINVAL) => {
            "This kernel lacks provided-buffer rings: run on Linux 6.1 or later."
        }
        _ => "See `ringgate doctor` for a check of this machine.",
    }
}
