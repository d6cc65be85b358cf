//! Why a payload is not passed on.

use thiserror::Error;

/// Why a payload is not passed on. The sentences tell the sender what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing at all.
    #[error("the payload is empty; send an MLS PrivateMessage (RFC 9420 section 6.3)")]
    Empty,
    /// Not a message of MLS 1.0.
    #[error(
        "the payload is no message of MLS 1.0; encrypt it for the receivers' group and send an MLS PrivateMessage (RFC 9420)"
    )]
    NotMls,
    /// A PublicMessage: signed, and legible to all.
    #[error("the payload is an MLS PublicMessage, which anybody can read; send a PrivateMessage")]
    Public,
    /// A Welcome, GroupInfo, KeyPackage, proposal or commit.
    #[error(
        "the payload is an MLS handshake message; those go through the control process (Groups, KeyPackages)"
    )]
    Handshake,
    /// It begins as a PrivateMessage and does not go on as one.
    #[error(
        "the payload is a damaged MLS PrivateMessage; send it as the MLS library made it, all of it and nothing behind it"
    )]
    Malformed,
    /// More authenticated data than a digest: it travels in the clear.
    #[error(
        "the authenticated data of the MLS message is longer than a digest; it travels in the clear, so put it into the payload"
    )]
    AuthenticatedData,
    /// Older than the group allows.
    #[error(
        "the MLS message is of an epoch that its group has left behind; process the group's commits and send it again"
    )]
    OldEpoch,
    /// The group asks for padding.
    #[error("the MLS message is not padded as its group asks; set the padding that the group's policy names")]
    Padding,
}

impl Fault {
    /// As the audit log names it, of a closed list.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Fault::Empty | Fault::NotMls | Fault::Public => "PLAINTEXT_REFUSED",
            Fault::Handshake | Fault::Malformed | Fault::AuthenticatedData => "MALFORMED_MLS",
            Fault::OldEpoch => "EPOCH_OUT_OF_WINDOW",
            Fault::Padding => "PADDING_MISSING",
        }
    }

    /// Whether the same content can be sent again, encrypted anew.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        self == Fault::OldEpoch
    }
}
