//! Who calls, as [`crate::gate`] found out.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ringgate_identity::{Reason, Subject, UnixTime, Verified, VerifiedToken, Verifier};
use ringgate_proto::control::v1::AuditEntry;
use tonic::{Code, Request, Status};

use crate::audit::entry;
use crate::errors::refusal;

/// The caller of an RPC. Handlers find it in the request's extensions.
#[derive(Debug, Clone)]
pub struct Caller {
    /// What proves who it is.
    pub presented: Presented,
    /// Where it calls from.
    pub address: SocketAddr,
    /// What it calls: `Service/Method`.
    pub action: &'static str,
    /// Whether it is an operator who may change what is not its own.
    pub administers: bool,
    note: Arc<Mutex<Note>>,
}

/// What a caller presented as proof of who it is.
#[derive(Debug, Clone)]
pub enum Presented {
    /// Nothing. Only methods open to anyone are reached so.
    Nothing,
    /// A credential that is void. Only methods open to anyone are reached so.
    Void {
        /// Why.
        reason: Reason,
        /// Whom it names (a URI), which nobody has verified.
        claimed: Option<String>,
    },
    /// A credential that is good.
    Verified(Arc<Credential>),
}

/// A credential that was good when the call began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A certificate whose key the connection proves.
    Certificate(Verified),
    /// A bearer token with a proof of the call.
    Token(VerifiedToken),
}

impl Credential {
    /// Who it names.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        match self {
            Credential::Certificate(verified) => &verified.subject,
            Credential::Token(verified) => &verified.subject,
        }
    }

    /// The same as a URI, `agp://<trust-domain>/…`.
    #[must_use]
    pub fn uri(&self) -> &str {
        match self {
            Credential::Certificate(verified) => &verified.uri,
            Credential::Token(verified) => &verified.uri,
        }
    }

    /// Its last second.
    #[must_use]
    pub fn not_after(&self) -> UnixTime {
        match self {
            Credential::Certificate(verified) => verified.not_after,
            Credential::Token(verified) => verified.not_after,
        }
    }

    /// Whether it is still good.
    ///
    /// # Errors
    /// Why it is not.
    pub fn recheck(&self, verifier: &Verifier, at: UnixTime) -> Result<(), Reason> {
        match self {
            Credential::Certificate(verified) => verifier.recheck(verified, at),
            Credential::Token(verified) => verifier.recheck_token(verified, at),
        }
    }
}

/// What the audit log says of the call.
#[derive(Debug, Clone, Default)]
struct Note {
    subject: String,
    detail: String,
    recorded: bool,
}

impl Caller {
    /// A caller of a method.
    #[must_use]
    pub fn new(presented: Presented, address: SocketAddr, action: &'static str, administers: bool) -> Caller {
        Caller {
            presented,
            address,
            action,
            administers,
            note: Arc::default(),
        }
    }

    /// The caller of a request.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when the request did not come through the gate.
    pub fn of<T>(request: &Request<T>) -> Result<Caller, Status> {
        request.extensions().get::<Caller>().cloned().ok_or_else(|| {
            refusal(
                Code::Unauthenticated,
                "CREDENTIAL_MISSING",
                "nobody says who calls",
            )
        })
    }

    /// Its credential.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` with the reason.
    pub fn credential(&self) -> Result<&Arc<Credential>, Status> {
        match &self.presented {
            Presented::Verified(credential) => Ok(credential),
            Presented::Void { reason, .. } => {
                Err(refusal(Code::Unauthenticated, reason.code(), reason.to_string()))
            }
            Presented::Nothing => Err(refusal(
                Code::Unauthenticated,
                "CREDENTIAL_MISSING",
                "call with a client certificate, or with `authorization: DPoP <token>` and `dpop: <proof>`; `ringgate enroll` gets one",
            )),
        }
    }

    /// Who it is, for the audit log: its identity, or its address.
    #[must_use]
    pub fn actor(&self) -> String {
        match &self.presented {
            Presented::Verified(credential) => credential.uri().to_owned(),
            Presented::Void { .. } | Presented::Nothing => format!("address {}", self.address.ip()),
        }
    }

    /// Says what the call is about, for the audit log. Handlers call it before anything can fail.
    pub fn about(&self, subject: impl Into<String>, detail: impl Into<String>) {
        let mut note = self.note.lock().unwrap_or_else(PoisonError::into_inner);
        note.subject = subject.into();
        note.detail = detail.into();
    }

    /// The audit entry of the call as it stands, with this outcome (`ok`, or a reason).
    #[must_use]
    pub fn entry(&self, outcome: &str) -> AuditEntry {
        let note = self.note.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut subject, mut detail) = (note.subject.clone(), note.detail.clone());
        // So that what somebody tried with a void credential is found under their name.
        if let Presented::Void {
            claimed: Some(claimed),
            ..
        } = &self.presented
            && subject.is_empty()
        {
            subject.clone_from(claimed);
            detail = "named by a credential that is void".to_owned();
        }
        AuditEntry {
            actor: self.actor(),
            action: self.action.to_owned(),
            subject,
            outcome: outcome.to_owned(),
            detail,
            ..entry()
        }
    }

    /// Says that the handler has written the audit entry itself, with its change.
    pub fn set_recorded(&self) {
        self.note.lock().unwrap_or_else(PoisonError::into_inner).recorded = true;
    }

    /// Whether the handler has written the audit entry itself.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.note.lock().unwrap_or_else(PoisonError::into_inner).recorded
    }
}
