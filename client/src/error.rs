//! Errors, by who can do something about them.

use std::sync::Arc;
use std::time::Duration;

use ringgate_proto::agp::v1 as proto;

use crate::Code;

/// Why something did not work.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The agent's own settings are wrong. To be corrected in the program.
    #[error("{what}: {reason}")]
    Configuration {
        /// Which setting.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The gateway cannot be reached.
    #[error("cannot reach the gateway at {url}: {reason}; is it running, and is this its address?")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// What the operating system or TLS said.
        reason: Arc<str>,
    },
    /// The gateway did not accept the session.
    #[error("the gateway refused the session: {message} ({code})", code = code.as_str_name())]
    Refused {
        /// Why.
        code: Code,
        /// Why, in the gateway's words.
        message: String,
    },
    /// The gateway could not or would not carry a message out.
    #[error("{message} ({code})", code = code.as_str_name())]
    Gateway {
        /// Why.
        code: Code,
        /// Why, in the gateway's words.
        message: String,
        /// Whether the same message may succeed later.
        retryable: bool,
        /// When to try again, if the gateway knows.
        retry_after: Option<Duration>,
    },
    /// The other agent answered with an error, declined, or ended the stream.
    #[error("{source_name} answered: {message} ({code})", code = code.as_str_name())]
    Peer {
        /// The other agent's verified name; empty where the gateway did not say.
        source_name: String,
        /// Why.
        code: Code,
        /// Why, in the other agent's words.
        message: String,
    },
    /// There is no credential to show, or none that is good.
    #[error(transparent)]
    Credential(#[from] crate::CredentialError),
    /// No answer within the timeout.
    #[error(
        "no answer within {waited:?}: give it a longer timeout, or look whether the other side is overloaded"
    )]
    Timeout {
        /// How long this agent waited.
        waited: Duration,
    },
    /// The connection was lost before the answer came. Whether the message was carried out is not known.
    #[error(
        "the connection to the gateway was lost before the answer came: send it again if it may be done twice"
    )]
    ConnectionLost,
    /// The subscription's queue was full, and its policy is to end then.
    #[error("the subscription's queue was full: read it faster, or choose a policy that drops")]
    Overflow,
    /// A payload larger than may be sent at once.
    #[error("the payload has {bytes} bytes, at most {bytes_max} are possible: send it in pieces")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The largest possible.
        bytes_max: usize,
    },
    /// The agent was closed, or gave up.
    #[error("the agent is closed")]
    Closed,
}

impl Error {
    /// Whether the same call may succeed later. False for [`Error::ConnectionLost`] too, since it may have been carried out: the
    /// application has to know whether twice is harmful.
    pub fn retryable(&self) -> bool {
        match self {
            Error::Unreachable { .. } | Error::Timeout { .. } => true,
            Error::Gateway { retryable, .. } => *retryable,
            Error::Credential(error) => error.retryable(),
            Error::Refused { code, .. } | Error::Peer { code, .. } => {
                matches!(code, Code::Unavailable | Code::ResourceExhausted)
            }
            Error::Configuration { .. }
            | Error::ConnectionLost
            | Error::Overflow
            | Error::TooLarge { .. }
            | Error::Closed => false,
        }
    }

    /// The code, where there is one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Error::Refused { code, .. } | Error::Gateway { code, .. } | Error::Peer { code, .. } => {
                Some(*code)
            }
            Error::Timeout { .. } => Some(Code::DeadlineExceeded),
            _ => None,
        }
    }

    pub(crate) fn gateway(error: proto::Error) -> Error {
        Error::Gateway {
            code: error.code(),
            retryable: error.retryable,
            retry_after: (error.retry_after_ms > 0)
                .then(|| Duration::from_millis(error.retry_after_ms.into())),
            message: error.message,
        }
    }

    /// Of a stream or call that ended with a gRPC status.
    pub(crate) fn status(url: &str, status: &tonic::Status) -> Error {
        use tonic::Code as Grpc;
        let code = match status.code() {
            Grpc::Unauthenticated => Code::Unauthenticated,
            Grpc::PermissionDenied => Code::PermissionDenied,
            Grpc::InvalidArgument => Code::InvalidArgument,
            Grpc::AlreadyExists => Code::AlreadyExists,
            Grpc::ResourceExhausted => Code::ResourceExhausted,
            Grpc::Unimplemented => Code::Unsupported,
            _ => {
                return Error::Unreachable {
                    url: url.to_owned(),
                    reason: chain(status),
                };
            }
        };
        Error::Refused {
            code,
            message: status.message().to_owned(),
        }
    }

    pub(crate) fn transport(url: &str, error: &tonic::transport::Error) -> Error {
        Error::Unreachable {
            url: url.to_owned(),
            reason: chain(error),
        }
    }
}

/// An error with its causes, which the transport keeps apart. Of a credential that was refused: the reason, in words.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> Arc<str> {
    let mut text = error.to_string();
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(reason) = refused(cause) {
            return reason.to_string().into();
        }
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text.into()
}

/// Why the other side's credential was refused in the TLS handshake, if that is what went wrong. An `io::Error` does not name what
/// is in it as its source.
fn refused(error: &(dyn std::error::Error + 'static)) -> Option<ringgate_identity::Reason> {
    let inner = error.downcast_ref::<std::io::Error>()?.get_ref()?;
    ringgate_identity::tls::reason(inner.downcast_ref::<rustls::Error>()?)
}
