//! What of their payloads agents may have passed on: in the profile `strict` encrypted application messages of MLS, and nothing else. There
//! is no switch for it.

use bytes::Bytes;
use ringgate_envelope::{Fault, Window, Windows};
use ringgate_gateway::action::Action;
use ringgate_gateway::{EventKind, PayloadFault};
use ringgate_wire::agp;

/// Which windows of groups changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WindowChange {
    /// It is all there is: others are forgotten.
    pub all: bool,
    /// By group.
    pub windows: Vec<(Bytes, Window)>,
}

/// The windows of groups, on one core.
#[derive(Debug, Default)]
pub struct Payloads {
    windows: Windows,
}

impl Payloads {
    /// Takes over a change.
    pub fn take(&mut self, change: &WindowChange) {
        if change.all {
            self.windows.clear();
        }
        for (group, window) in &change.windows {
            self.windows.set(group, *window);
        }
    }

    /// Whether what a message carries may be passed on.
    ///
    /// # Errors
    /// The number to answer on, and why not.
    #[inline]
    pub fn check(&self, action: &Action<'_>) -> Result<(), (u64, Box<PayloadFault>)> {
        let Some(content) = agp::content(action) else {
            return Ok(());
        };
        if let Some(what) = content.legible {
            return Err((content.id, legible(what)));
        }
        match content.payload.map(|payload| self.windows.check(payload)) {
            None | Some(Ok(_)) => Ok(()),
            Some(Err(fault)) => Err((content.id, sealed(fault))),
        }
    }
}

#[cold]
fn legible(what: &str) -> Box<PayloadFault> {
    Box::new(PayloadFault {
        kind: EventKind::PlaintextRefused,
        message: format!(
            "the message has {what}, which travel in the clear; put them into the encrypted payload"
        ),
        retryable: false,
    })
}

#[cold]
fn sealed(fault: Fault) -> Box<PayloadFault> {
    let kind = match fault {
        Fault::Handshake | Fault::Malformed | Fault::AuthenticatedData => EventKind::MalformedMls,
        Fault::OldEpoch => EventKind::EpochOutOfWindow,
        Fault::Padding => EventKind::PaddingMissing,
        _ => EventKind::PlaintextRefused,
    };
    debug_assert_eq!(kind.code(), fault.code(), "the audit log has one word for each");
    Box::new(PayloadFault {
        kind,
        message: fault.to_string(),
        retryable: fault.is_retryable(),
    })
}
