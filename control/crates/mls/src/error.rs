//! Why something of MLS is refused.

use ringgate_identity::Reason;
use thiserror::Error;

/// Why something of MLS is refused. Each has a stable [`code`](MlsError::code) for machines and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MlsError {
    /// Not the message that it should be, or with something behind it.
    #[error(
        "not {expected}, or with something behind it; send what the MLS library made, as an MLSMessage (RFC 9420 section 6)"
    )]
    Malformed {
        /// What should be there.
        expected: &'static str,
    },
    /// Larger than such a message may be.
    #[error("{what} has {bytes} bytes; {limit} are allowed")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its bytes.
        bytes: usize,
        /// How many may be.
        limit: usize,
    },
    /// A cipher suite that is not on the list.
    #[error("cipher suite {0:#06x} is not allowed here; use {list}", list = crate::suite::LIST)]
    Ciphersuite(u16),
    /// The signature of a key package, its leaf or a group info is wrong.
    #[error("the signature is wrong ({0}); sign with the key in the leaf")]
    Signature(String),
    /// Not valid now, for too long, or longer than its certificate.
    #[error("the lifetime is not allowed: {0}")]
    Lifetime(String),
    /// A leaf that lacks what members of groups here must be able to.
    #[error("the leaf's capabilities lack {0}; list it, or other members cannot be in a group with it")]
    Capabilities(&'static str),
    /// The credential is no chain of certificates.
    #[error(
        "the credential is no X.509 chain (RFC 9420 section 5.3); use the chain of the identity service, leaf first"
    )]
    CredentialType,
    /// The certificate is not good.
    #[error("the credential is refused: {0}")]
    Credential(Reason),
    /// A certificate of somebody who is no agent.
    #[error("{0} is no agent; only agents are members of groups")]
    NotAnAgent(String),
    /// A key package of somebody else.
    #[error("the credential names {found}, and the caller is {caller}; publish key packages of your own")]
    NotOwner {
        /// Whom the credential names.
        found: String,
        /// Who calls.
        caller: String,
    },
    /// Not of the group's current epoch.
    #[error(
        "made for epoch {found}, and the group is in {current}; process the commits in between and make it again"
    )]
    StaleEpoch {
        /// Of the message.
        found: u64,
        /// Of the group.
        current: u64,
    },
    /// The message breaks the rules of MLS.
    #[error("the message is not valid in this group: {0}")]
    Invalid(String),
    /// ReInit.
    #[error("groups are not reinitialised here; make another group and invite its members")]
    ReInit,
    /// A proposal that groups here do not know.
    #[error("this proposal is not known here: {0}")]
    UnsupportedProposal(String),
    /// It would take away what keeps the group safe.
    #[error("the group's context may not lose {0}")]
    Context(&'static str),
    /// Somebody would be in the group twice.
    #[error("{0} is a member already; remove the old leaf in the same commit")]
    DuplicateIdentity(String),
    /// Another identity than the leaf had.
    #[error("the leaf of {before} cannot become that of {after}; a member keeps its identity")]
    IdentityChanged {
        /// Whose it is.
        before: String,
        /// Whose it would be.
        after: String,
    },
    /// An external commit that is no resync.
    #[error(
        "an external commit is only for members who lost their state: it must remove the old leaf of the same identity, and no other"
    )]
    ExternalJoin,
    /// The Welcome is not for those who are added.
    #[error("the Welcome is not for those whom the commit adds; send the one that belongs to it")]
    Welcome,
    /// The GroupInfo is not of the epoch that the commit leads to.
    #[error("the GroupInfo does not fit the commit: {0}")]
    GroupInfo(&'static str),
    /// More members than a group may have.
    #[error("a group may have {0} members")]
    TooManyMembers(usize),
    /// What was stored cannot be read.
    #[error("the stored group cannot be read: {0}")]
    Damaged(String),
}

impl MlsError {
    /// As programs read it, of a closed list.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            MlsError::Malformed { .. } => "MALFORMED_MLS",
            MlsError::TooLarge { .. } => "TOO_LARGE",
            MlsError::Ciphersuite(_) => "CIPHERSUITE_NOT_ALLOWED",
            MlsError::Signature(_) => "SIGNATURE",
            MlsError::Lifetime(_) => "LIFETIME",
            MlsError::Capabilities(_) => "CAPABILITIES",
            MlsError::CredentialType | MlsError::NotAnAgent(_) => "CREDENTIAL",
            MlsError::Credential(Reason::KeyMismatch) => "KEY_MISMATCH",
            MlsError::Credential(_) => "CREDENTIAL_REJECTED",
            MlsError::NotOwner { .. } => "NOT_OWNER",
            MlsError::StaleEpoch { .. } => "STALE_EPOCH",
            MlsError::Invalid(_) => "COMMIT_INVALID",
            MlsError::ReInit => "REINIT_FORBIDDEN",
            MlsError::UnsupportedProposal(_) => "UNSUPPORTED_PROPOSAL",
            MlsError::Context(_) => "CONTEXT_FORBIDDEN",
            MlsError::DuplicateIdentity(_) => "DUPLICATE_IDENTITY",
            MlsError::IdentityChanged { .. } => "IDENTITY_CHANGED",
            MlsError::ExternalJoin => "EXTERNAL_JOIN_FORBIDDEN",
            MlsError::Welcome => "WELCOME_MISMATCH",
            MlsError::GroupInfo(_) => "GROUP_INFO_MISMATCH",
            MlsError::TooManyMembers(_) => "TOO_MANY_MEMBERS",
            MlsError::Damaged(_) => "GROUP_DAMAGED",
        }
    }
}
