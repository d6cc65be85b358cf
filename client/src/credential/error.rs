//! Why there is no credential.

use std::sync::Arc;

use ringgate_identity::keystore::KeystoreError;
use ringgate_identity::{BundleError, KeyError, Reason, SubjectError};
use tonic_types::StatusExt;

use crate::error::chain;

/// Why a credential cannot be had, kept or used.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The agent's own settings are wrong. To be corrected in the program.
    #[error("{what}: {reason}")]
    Configuration {
        /// Which setting.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The control process cannot be reached, or is not who it should be.
    #[error("cannot reach the control process at {url}: {reason}; is it running, and is this its address?")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// What the operating system or TLS said.
        reason: Arc<str>,
    },
    /// The control process said no.
    #[error("the control process refused: {message} ({reason})")]
    Refused {
        /// Why, as a stable word (`JOIN_TOKEN_USED`, `REVOKED`); the gRPC status where there is none.
        reason: String,
        /// Why, in its words.
        message: String,
    },
    /// What the control process sent, or the keystore held, is no good credential.
    #[error("the credential is not good: {0}")]
    NotGood(#[from] Reason),
    /// Another identity than was asked for.
    #[error(
        "the control process certified {uri}, which is not the identity that was asked for; use another control process"
    )]
    Changed {
        /// Whom it certified.
        uri: String,
    },
    /// What the control process sent is no answer to what was asked.
    #[error("the control process answered without {missing}; is it a control process of this version?")]
    Incomplete {
        /// What is missing.
        missing: &'static str,
    },
    /// The trust bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The keystore.
    #[error(transparent)]
    Keystore(Arc<KeystoreError>),
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The runtime is shutting down.
    #[error("the program is shutting down")]
    Stopped,
}

impl CredentialError {
    /// Whether the same call may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            CredentialError::Unreachable { .. } => true,
            CredentialError::Refused { reason, .. } => {
                matches!(
                    reason.as_str(),
                    "UNAVAILABLE" | "RESOURCE_EXHAUSTED" | "RATE_LIMITED" | "ABORTED" | "INTERNAL"
                )
            }
            // A full disk, for one.
            CredentialError::Keystore(error) => matches!(**error, KeystoreError::Io { .. }),
            _ => false,
        }
    }

    pub(crate) fn transport(url: &str, error: &(dyn std::error::Error + 'static)) -> CredentialError {
        CredentialError::Unreachable {
            url: url.to_owned(),
            reason: chain(error),
        }
    }

    pub(crate) fn status(url: &str, status: &tonic::Status) -> CredentialError {
        if let Some(info) = status.get_details_error_info() {
            return CredentialError::Refused {
                reason: info.reason,
                message: status.message().to_owned(),
            };
        }
        // A status without an answer from the other side is the transport's.
        match status.code() {
            tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::Cancelled => {
                CredentialError::transport(url, status)
            }
            code => CredentialError::Refused {
                reason: screaming(code),
                message: status.message().to_owned(),
            },
        }
    }

    pub(crate) fn name(error: &SubjectError) -> CredentialError {
        CredentialError::Configuration {
            what: "identity",
            reason: error.to_string(),
        }
    }

    pub(crate) fn tls(error: rustls::Error) -> CredentialError {
        CredentialError::Configuration {
            what: "tls",
            reason: error.to_string(),
        }
    }
}

/// The name of a gRPC status as the specification writes it.
fn screaming(code: tonic::Code) -> String {
    let mut out = String::new();
    for character in format!("{code:?}").chars() {
        if character.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(character.to_ascii_uppercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_by_its_reason_or_its_status() {
        use tonic_types::ErrorDetails;
        let details = ErrorDetails::with_error_info("JOIN_TOKEN_USED", "ringgate.control", []);
        let status =
            tonic::Status::with_error_details(tonic::Code::FailedPrecondition, "it is used up", details);
        let error = CredentialError::status("https://x", &status);
        assert_eq!(
            error.to_string(),
            "the control process refused: it is used up (JOIN_TOKEN_USED)"
        );
        assert!(!error.retryable());
        let status = tonic::Status::resource_exhausted("slow down");
        let error = CredentialError::status("https://x", &status);
        assert!(matches!(&error, CredentialError::Refused { reason, .. } if reason == "RESOURCE_EXHAUSTED"));
        assert!(error.retryable());
    }
}
