//! Why a credential is refused.

use thiserror::Error;

/// Why a credential is refused. Each has a stable [`code`](Reason::code) for machines and a sentence for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Reason {
    /// No certificate where one must be.
    #[error("no certificate was presented; enrol, and present the certificate chain")]
    NoCertificate,
    /// Not a certificate, or one with parts that contradict each other.
    #[error("the certificate cannot be read; present the DER chain that enrolment returned, leaf first")]
    Malformed,
    /// More or larger certificates than a chain has.
    #[error("the certificate chain is too large; present the leaf and its intermediates only")]
    ChainTooLarge,
    /// Its time is over.
    #[error("the credential has expired; renew it")]
    Expired,
    /// Its time has not come.
    #[error("the credential is not valid yet; compare the clocks of its issuer and of this machine")]
    NotYetValid,
    /// No path to an anchor: another authority, or an intermediate is missing.
    #[error(
        "the credential's issuer is not trusted here; use the trust bundle of the authority that issued it, and present its intermediates"
    )]
    UnknownIssuer,
    /// Of a trusted issuer, for another trust domain.
    #[error("the credential is of another trust domain; enrol in this one")]
    WrongTrustDomain,
    /// No URI in the subject alternative name.
    #[error(
        "the certificate names no subject; it must have exactly one agp:// URI as subject alternative name"
    )]
    NoSubject,
    /// More than one subject, or names beside it that its kind may not have.
    #[error(
        "the certificate names more than one subject; it must have exactly one agp:// URI, and host names for nodes only"
    )]
    SeveralSubjects,
    /// The URI is no name of an agent, node or operator.
    #[error(
        "the certificate's URI is no valid name; it must be agp://<trust-domain>/<org>/<namespace>/<service>/<instance>, /node/<id>, /operator/<name> or /pseudonym/<random>, in canonical form"
    )]
    SubjectMalformed,
    /// Another key type than Ed25519 in the leaf, or a signature that nobody should use in the chain.
    #[error("the key or signature type is not allowed; use an Ed25519 key")]
    KeyTypeNotAllowed,
    /// Not made for authenticating, or a node's certificate that cannot serve.
    #[error(
        "the certificate is not for this use; it needs key usage digitalSignature, extended key usage clientAuth and, for nodes, serverAuth"
    )]
    UsageNotAllowed,
    /// Valid for longer than the trust bundle allows.
    #[error("the credential is valid for longer than its trust domain allows; enrol again")]
    LifetimeTooLong,
    /// Withdrawn, by its number or with its holder.
    #[error("the credential has been revoked; ask an operator")]
    Revoked,
    /// Another key than the certificate's or the token's.
    #[error("the key is not the one that the credential certifies; use the credential with its own key")]
    KeyMismatch,
    /// The server's certificate is for another host.
    #[error(
        "the server's certificate is not for this host; connect by a name that it holds, or expect its node id"
    )]
    HostMismatch,
    /// The server is somebody else than expected.
    #[error("the server is not who it should be; check the address and the expected node id")]
    PeerMismatch,
    /// Not a token.
    #[error("the token cannot be read; send the one that IssueToken returned, unchanged")]
    TokenMalformed,
    /// Its signature is of no key of this trust domain.
    #[error("the token is not signed by this trust domain; ask for a new one")]
    TokenSignature,
    /// A token alone.
    #[error(
        "the token came without a proof; send a DPoP proof (RFC 9449) of this call, made with the token's key"
    )]
    ProofMissing,
    /// Not a proof.
    #[error(
        "the proof cannot be read; it must be a JWT of type dpop+jwt with jwk, jti, htm, htu, iat and ath (RFC 9449 section 4.2)"
    )]
    ProofMalformed,
    /// Its signature is not of its own key.
    #[error("the proof's signature is wrong; sign it with the key in its header")]
    ProofSignature,
    /// Made for another method, URI or token.
    #[error("the proof is for another call or another token; make one for each call")]
    ProofMismatch,
    /// Too old, or from the future.
    #[error("the proof is too old or from the future; make one for each call, and compare the clocks")]
    ProofStale,
    /// Seen before.
    #[error("the proof has been used before; make one for each call")]
    ProofReplayed,
    /// More proofs in the window than are remembered.
    #[error("too many proofs were presented within the last minute; try again later")]
    ProofsExhausted,
}

impl Reason {
    /// Every reason, in the order of their declaration.
    pub const ALL: &[Self] = &[
        Self::NoCertificate,
        Self::Malformed,
        Self::ChainTooLarge,
        Self::Expired,
        Self::NotYetValid,
        Self::UnknownIssuer,
        Self::WrongTrustDomain,
        Self::NoSubject,
        Self::SeveralSubjects,
        Self::SubjectMalformed,
        Self::KeyTypeNotAllowed,
        Self::UsageNotAllowed,
        Self::LifetimeTooLong,
        Self::Revoked,
        Self::KeyMismatch,
        Self::HostMismatch,
        Self::PeerMismatch,
        Self::TokenMalformed,
        Self::TokenSignature,
        Self::ProofMissing,
        Self::ProofMalformed,
        Self::ProofSignature,
        Self::ProofMismatch,
        Self::ProofStale,
        Self::ProofReplayed,
        Self::ProofsExhausted,
    ];

    /// The stable name, as in `google.rpc.ErrorInfo.reason`, metrics and audit entries.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoCertificate => "NO_CERTIFICATE",
            Self::Malformed => "CERTIFICATE_MALFORMED",
            Self::ChainTooLarge => "CHAIN_TOO_LARGE",
            Self::Expired => "EXPIRED",
            Self::NotYetValid => "NOT_YET_VALID",
            Self::UnknownIssuer => "UNKNOWN_ISSUER",
            Self::WrongTrustDomain => "WRONG_TRUST_DOMAIN",
            Self::NoSubject => "NO_SUBJECT",
            Self::SeveralSubjects => "SEVERAL_SUBJECTS",
            Self::SubjectMalformed => "SUBJECT_MALFORMED",
            Self::KeyTypeNotAllowed => "KEY_TYPE_NOT_ALLOWED",
            Self::UsageNotAllowed => "USAGE_NOT_ALLOWED",
            Self::LifetimeTooLong => "LIFETIME_TOO_LONG",
            Self::Revoked => "REVOKED",
            Self::KeyMismatch => "KEY_MISMATCH",
            Self::HostMismatch => "HOST_MISMATCH",
            Self::PeerMismatch => "PEER_MISMATCH",
            Self::TokenMalformed => "TOKEN_MALFORMED",
            Self::TokenSignature => "TOKEN_SIGNATURE",
            Self::ProofMissing => "PROOF_MISSING",
            Self::ProofMalformed => "PROOF_MALFORMED",
            Self::ProofSignature => "PROOF_SIGNATURE",
            Self::ProofMismatch => "PROOF_MISMATCH",
            Self::ProofStale => "PROOF_STALE",
            Self::ProofReplayed => "PROOF_REPLAYED",
            Self::ProofsExhausted => "PROOFS_EXHAUSTED",
        }
    }
}
