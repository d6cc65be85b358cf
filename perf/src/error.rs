//! What can end a run.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::wire::WireError;

/// A run could not be started or finished.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody listens, or nobody answers in time.
    #[error("cannot connect to {address}: {source}. Is the server running there?")]
    Connect {
        /// Where to.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The server closed a connection that the run needs.
    #[error("the server closed connection {connection} ({role}) in the middle of the run; see its log")]
    Closed {
        /// Number of the connection in this run.
        connection: usize,
        /// What it was for.
        role: &'static str,
    },
    /// The server said what the protocol does not allow, or refused.
    #[error("connection {connection}: {source}")]
    Wire {
        /// Number of the connection in this run.
        connection: usize,
        /// What was wrong.
        source: WireError,
    },
    /// Nothing arrived for too long.
    #[error(
        "{what}: nothing arrived for {quiet:?}, {missing} still missing. The server has stalled or has lost messages"
    )]
    Stalled {
        /// What the run was waiting for.
        what: &'static str,
        /// How long.
        quiet: Duration,
        /// How many of them.
        missing: u64,
    },
    /// In closed loop each message must arrive, or the window never opens again.
    #[error(
        "the server dropped {count} deliveries, which a closed loop cannot go on without. Give its queues more room, or use a smaller \
         --window"
    )]
    Dropped {
        /// How many it said.
        count: u64,
    },
    /// The protocol has no such operation.
    #[error("{protocol} cannot do {work}; choose another --wire")]
    Unsupported {
        /// The protocol's name.
        protocol: &'static str,
        /// What was asked for.
        work: &'static str,
    },
    /// A server that the command is about is not there.
    #[error("{0}")]
    NotInstalled(String),
    /// Numbers of a work that do not fit each other.
    #[error("{0}")]
    Invalid(&'static str),
    /// The machine does not have, or this process may not use, this core.
    #[error("cannot run on core {cores}: {source}. Allowed cores: {allowed}")]
    Pin {
        /// The core asked for, or the cores.
        cores: String,
        /// What the kernel said.
        source: io::Error,
        /// What the kernel allows.
        allowed: String,
    },
    /// The server's process is not there, or its statistics cannot be read.
    #[error("cannot read the statistics of process {pid}: {source}. Is it running, and yours?")]
    Statistics {
        /// The server's process.
        pid: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// A server could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A server ended or did not listen in time.
    #[error(
        "{program} does not listen on {address} {after:?} after its start. Run it by hand to see why: {command}"
    )]
    NotReady {
        /// The program.
        program: PathBuf,
        /// Where it should.
        address: SocketAddr,
        /// How long was waited.
        after: Duration,
        /// Its command line.
        command: String,
    },
    /// The server does not tell which core has a connection.
    #[error(
        "the server's statistics at {address} are of no use: {reason}. A gateway started with --http ADDRESS has them"
    )]
    Stats {
        /// Where they were asked for.
        address: SocketAddr,
        /// What is wrong.
        reason: String,
    },
    /// The server does not spread connections over cores.
    #[error("none of {tries} connections came to core {core} of the server; does it have so many?")]
    Unplaced {
        /// The core that was wanted, as the server counts.
        core: usize,
        /// Connections made.
        tries: usize,
    },
    /// The ring of the raw relay failed.
    #[error(transparent)]
    Ring(#[from] ringgate_uring::Error),
}

impl Error {
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { what, source }
    }
}
