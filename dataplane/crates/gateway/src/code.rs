//! Codes of the errors that agents get. Numbers are those of `agp.v1.Code`.

/// Why something was refused or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Code {
    /// No error.
    Unspecified = 0,
    /// The message breaks a rule; it will never be accepted.
    InvalidArgument = 1,
    /// No, or no valid, credential.
    Unauthenticated = 2,
    /// The credential does not allow this.
    PermissionDenied = 3,
    /// What the message refers to does not exist.
    NotFound = 4,
    /// Nobody is there to answer.
    NoResponder = 5,
    /// The time ran out.
    DeadlineExceeded = 6,
    /// A limit is reached.
    ResourceExhausted = 7,
    /// The revision was another.
    Conflict = 8,
    /// The name or id is in use.
    AlreadyExists = 9,
    /// Not now.
    Unavailable = 10,
    /// The peer declined.
    Rejected = 11,
    /// The caller gave up.
    Cancelled = 12,
    /// The payload must be an MLS message.
    MlsRequired = 13,
    /// This gateway does not do this.
    Unsupported = 14,
    /// A fault of the gateway.
    Internal = 15,
    /// The revision to start from is gone.
    Compacted = 16,
}
