//! Why something about groups did not work.

use ringgate_mls::MlsError;
use tonic_types::StatusExt as _;

/// Why something about groups did not work.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// The gateway.
    #[error(transparent)]
    Agent(#[from] crate::Error),
    /// The credential.
    #[error(transparent)]
    Credential(#[from] crate::CredentialError),
    /// Something that somebody sent, or that was to be sent, is refused.
    #[error(transparent)]
    Refused(#[from] MlsError),
    /// The delivery service refuses.
    #[error("{message} ({reason})")]
    Service {
        /// Why, of a closed list.
        reason: String,
        /// Why, in a sentence.
        message: String,
    },
    /// The delivery service cannot be reached.
    #[error("the control process does not answer: {0}; try again later")]
    Unavailable(String),
    /// The MLS library.
    #[error("MLS: {0}")]
    Library(String),
    /// This agent is in no such group, or no more.
    #[error("this agent is not a member of the group: have a member invite it")]
    NotAMember,
    /// Nobody of that name is in the group.
    #[error("{0} is not a member of the group")]
    NoSuchMember(String),
    /// The message went another way than its sender sent it.
    #[error(
        "the message was sent elsewhere or as something else: the gateway, or somebody on the way, has rerouted it"
    )]
    Rerouted,
    /// The gateway names another sender than the one who encrypted.
    #[error("the gateway says that {told} sent this, and {found} encrypted it")]
    OtherSender {
        /// Whom the gateway names.
        told: String,
        /// Who encrypted it.
        found: String,
    },
    /// A message of this agent's own.
    #[error("this agent's own message, which it cannot decrypt")]
    Own,
    /// What was waited for did not come.
    #[error("{0} did not come in time")]
    TooLate(&'static str),
    /// The group's state is lost, and there is no way back into it.
    #[error("the state of the group is lost: {0}")]
    Lost(String),
    /// The store of groups.
    #[error("the groups cannot be kept: {0}")]
    Store(String),
}

impl GroupError {
    /// What the delivery service said.
    pub(super) fn service(status: &tonic::Status) -> GroupError {
        match status.get_details_error_info() {
            Some(info) => GroupError::Service {
                reason: info.reason,
                message: status.message().to_owned(),
            },
            None => GroupError::Unavailable(status.message().to_owned()),
        }
    }

    /// The delivery service's reason, or that of the MLS rules; empty for others.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            GroupError::Service { reason, .. } => reason,
            GroupError::Refused(error) => error.code(),
            _ => "",
        }
    }

    pub(super) fn library(error: impl std::fmt::Display) -> GroupError {
        GroupError::Library(error.to_string())
    }
}
