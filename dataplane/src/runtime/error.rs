//! Why a node does not start, or ends.

use std::net::SocketAddr;

use crate::config::ConfigError;
use crate::control::ControlError;
use crate::front::FrontError;
use crate::log::LogError;
use crate::observe::HttpError;
use crate::rules::LocalError;
use crate::tls;
use ringgate_identity::ViewerTokenError;

/// A node does not start, or has failed. The message says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot be used.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// The machine lacks something.
    #[error("this machine cannot run the gateway: {check}: {found}. {remedy}")]
    Machine {
        /// What was checked.
        check: &'static str,
        /// What was found.
        found: String,
        /// What to do.
        remedy: String,
    },
    /// A CPU was asked for that this process may not use.
    #[error(
        "CPU {cpu} is not among those this process may use ({allowed:?}). Change `cores.list`, or the affinity of the process (cpuset, \
         taskset)"
    )]
    Cpu {
        /// As configured.
        cpu: usize,
        /// Those there are.
        allowed: Vec<usize>,
    },
    /// A CPU is listed twice.
    #[error(
        "CPU {cpu} is listed twice in `cores.list`; list each CPU once: two shards on one would only take turns"
    )]
    CpuTwice {
        /// Which.
        cpu: usize,
    },
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}. Is another gateway running? Choose another address with `--listen`"
    )]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] tls::Error),
    /// The rules of a node without a control process cannot be read.
    #[error(transparent)]
    Rules(#[from] LocalError),
    /// The node cannot be attached to its control process.
    #[error("control process: {0}")]
    Control(#[from] ControlError),
    /// A dialect cannot be set up.
    #[error(transparent)]
    Front(#[from] FrontError),
    /// The log of durable spaces cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The token of those who look cannot be read.
    #[error(transparent)]
    Token(#[from] ViewerTokenError),
    /// A ring failed.
    #[error(transparent)]
    Ring(#[from] ringgate_uring::Error),
    /// An executor does not start.
    #[error("cannot start an executor on CPU {cpu}: {cause}. See `ringgate doctor`")]
    Executor {
        /// Where.
        cpu: usize,
        /// Why.
        cause: String,
    },
    /// An executor has ended by itself.
    #[error("a core has ended: {0}")]
    Ended(String),
    /// Reflection cannot be served.
    #[error("reflection: {0}")]
    Reflection(#[from] ringgate_grpc::reflection::ReflectionError),
    /// The operator's endpoint cannot be served.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The service thread does not start.
    #[error("cannot start the service thread: {0}")]
    ServiceThread(String),
}
