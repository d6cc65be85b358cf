//! Why the link fails.

use std::path::PathBuf;

use ringgate_config::ConfigError;
use ringgate_grpc::Status;
use ringgate_identity::{BundleError, KeyError, Reason, RevocationError, SubjectError};

/// The link cannot do its work. The message says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// A URL is none.
    #[error("{url:?} is no URL of a control process; write https://HOST:PORT")]
    Url {
        /// As configured.
        url: String,
    },
    /// A file of the node cannot be read or written.
    #[error("{path}: {source}. The node must own its state folder (mode 0700) and be able to write there")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A secret file may be read by others.
    #[error(
        "{path} may be read by others (mode {mode:o}); run `chmod go-rwx {path}`, and replace the key if others had access"
    )]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file of the node is damaged.
    #[error("{path} is damaged: {what}. Delete it; the node gets a new one from the control process")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How.
        what: &'static str,
    },
    /// There is nothing to enrol with.
    #[error(
        "this node is not enrolled; give it a token to enrol with: `--join-token FILE`, made by `ringgate join-token create node/{node}`"
    )]
    NoJoinToken {
        /// Its name.
        node: String,
    },
    /// The name of the node cannot be certified.
    #[error("the node cannot be called {name:?}: {source}")]
    Name {
        /// As configured.
        name: String,
        /// What is wrong.
        source: SubjectError,
    },
    /// The fingerprint is none.
    #[error("`control.fingerprint`: {0}")]
    Fingerprint(#[from] ringgate_identity::FingerprintError),
    /// The certificates to recognise the control process by cannot be used.
    #[error("`control.ca`: {0}")]
    Ca(#[from] crate::tls::Error),
    /// No connection.
    #[error("cannot reach {url}: {source}")]
    Connect {
        /// Where.
        url: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] h2::Error),
    /// The peer does not answer any more.
    #[error("the control process does not answer within {seconds} s")]
    Silent {
        /// How long it was waited for.
        seconds: u64,
    },
    /// The call was refused.
    #[error("{call} was refused: {status}")]
    Refused {
        /// Which.
        call: &'static str,
        /// Why.
        status: Status,
    },
    /// The peer said something that makes no sense.
    #[error("the control process sent something unusable: {0}; compare its version with this node's")]
    Unusable(String),
    /// What it certified is not what was asked for.
    #[error("the certificate that came is not good: {0}")]
    Certificate(#[from] Reason),
    /// A key cannot be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The link's executor does not start.
    #[error("cannot start the link's thread: {0}")]
    Executor(String),
}

impl ControlError {
    /// Whether trying again is of no use: somebody has to do something first.
    pub(super) fn is_final(&self) -> bool {
        use ringgate_grpc::Code;
        match self {
            Self::Refused { status, .. } => matches!(
                status.code(),
                Code::InvalidArgument
                    | Code::NotFound
                    | Code::AlreadyExists
                    | Code::PermissionDenied
                    | Code::FailedPrecondition
                    | Code::Unauthenticated
            ),
            Self::Url { .. }
            | Self::File { .. }
            | Self::Exposed { .. }
            | Self::NoJoinToken { .. }
            | Self::Name { .. }
            | Self::Fingerprint(_)
            | Self::Ca(_) => true,
            _ => false,
        }
    }
}

/// Why a state cannot be put in force. Told to the control process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum StateError {
    #[error("it counts from version {from}, but this node has {held}")]
    Order { from: u64, held: u64 },
    #[error("it is of version {told} of a store of which this node holds {held} already")]
    Older { told: u64, held: u64 },
    #[error("the state has no trust bundle")]
    NoTrust,
    #[error("trust bundle: {0}")]
    Bundle(#[from] BundleError),
    #[error("trust bundle: the trust domain {name:?}: {source}")]
    Domain { name: String, source: SubjectError },
    #[error("trust bundle: token key {0:?} has not 32 bytes")]
    TokenKey(String),
    #[error("policy: {0}")]
    Policy(String),
    #[error("grant: {0}")]
    Grant(#[from] ringgate_access::GrantError),
    #[error("revocation {0} names neither a serial number nor an identity")]
    Revocation(u64),
    #[error("revocations: {0}")]
    Revocations(#[from] RevocationError),
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    #[error("this node's state is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the cores do not answer")]
    Cores,
}
