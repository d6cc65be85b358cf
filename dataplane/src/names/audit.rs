//! What of a dialect's clients the operator's audit log shall know.

use ringgate_gateway::{EventKind, SecurityEvent};
use ringgate_grpc::Status;
use ringgate_policy::Rejection;
use ringgate_switch::{Notice, Offence, Peer as SwitchPeer};

use crate::observe::Reporter;
use crate::shard::{Now, Peer};

/// Tells of one dialect's clients on one core.
pub(super) struct Audit {
    dialect: &'static str,
    reporter: Reporter,
}

impl Audit {
    pub(super) fn new(dialect: &'static str, reporter: Reporter) -> Audit {
        Audit { dialect, reporter }
    }

    /// A stream was refused for want of a credential.
    pub(super) fn turned_away(&self, peer: &Peer, status: &Status, now: &Now) {
        let who = SwitchPeer {
            address: peer.address.to_string(),
            ..SwitchPeer::default()
        };
        let detail = format!("opening a stream: {status}");
        self.tell(EventKind::Unauthenticated, &who, String::new(), &detail, now);
    }

    /// A stream was ended because its credential is no longer good.
    pub(super) fn expelled(&self, who: &SwitchPeer, rejection: &Rejection, now: &Now) {
        let kind = EventKind::of_rejection(rejection);
        let detail = format!("{}: {}", rejection.code, rejection.reason);
        self.tell(kind, who, String::new(), &detail, now);
    }

    /// A client said what it may not.
    pub(super) fn noticed(&self, notice: Notice, now: &Now) {
        let (kind, detail) = match &notice.offence {
            Offence::Unauthenticated => (
                EventKind::Unauthenticated,
                "a header's authentication code is missing or wrong",
            ),
            Offence::NotMls => (
                EventKind::PermissionDenied,
                "a payload that is not MLS (key plain_payloads)",
            ),
            Offence::Denied(reason) => (EventKind::PermissionDenied, &**reason),
        };
        self.tell(kind, &notice.peer, notice.client.node, detail, now);
    }

    /// `claimed`: who a client says it is, for want of proof.
    fn tell(&self, kind: EventKind, who: &SwitchPeer, claimed: String, detail: &str, now: &Now) {
        let event = SecurityEvent {
            kind,
            identity: match who.owner.is_empty() {
                true => claimed,
                false => who.owner.clone(),
            },
            address: who.address.clone(),
            detail: format!("{}: {detail}", self.dialect),
        };
        self.reporter.security(event, now.unix_nanos);
    }
}
