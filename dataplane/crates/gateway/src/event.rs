//! Security events: what the operator's audit log shall know.

use std::fmt;

use ringgate_policy::Rejection;

/// What happened. A closed list; metrics and the audit log use these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// No, or no valid, credential was shown.
    Unauthenticated,
    /// Policy does not allow what an agent asked for. Told once for each thing asked for, until policy changes.
    PermissionDenied,
    /// Policy no longer allows what an agent had: a subscription, a stream, a capability.
    PermissionLost,
    /// A credential was revoked, and what it had open was ended.
    RevokedConnClosed,
    /// A credential ran out, and what it had open was ended.
    CredentialExpired,
    /// The proof of a bearer token came a second time.
    ProofReplayed,
    /// An agent sent something that others could read, where payloads must be encrypted.
    PlaintextRefused,
    /// An agent sent a damaged MLS message, or a handshake, where encrypted application messages are passed on.
    MalformedMls,
    /// An MLS message of an epoch that its group has left behind.
    EpochOutOfWindow,
    /// An MLS message without the padding that its group asks for.
    PaddingMissing,
}

impl EventKind {
    /// All there are.
    pub const ALL: [Self; 10] = [
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::PermissionLost,
        Self::RevokedConnClosed,
        Self::CredentialExpired,
        Self::ProofReplayed,
        Self::PlaintextRefused,
        Self::MalformedMls,
        Self::EpochOutOfWindow,
        Self::PaddingMissing,
    ];

    /// What it is that something ends because its credential is no longer good, by the code of the [`Rejection`].
    pub fn of_rejection(rejection: &Rejection) -> Self {
        match rejection.code {
            "REVOKED" => Self::RevokedConnClosed,
            "EXPIRED" => Self::CredentialExpired,
            _ => Self::Unauthenticated,
        }
    }

    /// As the audit log writes it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::PermissionLost => "PERMISSION_LOST",
            Self::RevokedConnClosed => "REVOKED_CONN_CLOSED",
            Self::CredentialExpired => "CREDENTIAL_EXPIRED",
            Self::ProofReplayed => "PROOF_REPLAYED",
            Self::PlaintextRefused => "PLAINTEXT_REFUSED",
            Self::MalformedMls => "MALFORMED_MLS",
            Self::EpochOutOfWindow => "EPOCH_OUT_OF_WINDOW",
            Self::PaddingMissing => "PADDING_MISSING",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// One security event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityEvent {
    /// What happened.
    pub kind: EventKind,
    /// Who: the identity that was proved, or the name that was claimed where nothing was.
    pub identity: String,
    /// The peer's address; empty where it is not known.
    pub address: String,
    /// What exactly, never with payload.
    pub detail: String,
}
