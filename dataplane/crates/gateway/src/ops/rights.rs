//! Who may do what: asking policy, and telling of refusals.

use std::sync::Arc;

use ringgate_policy::{AgentName, Denial, Identity, Permission, Rejection, capability, service};

use crate::action::{Target, To};
use crate::code::Code;
use crate::directory::Card;
use crate::effect::Effect;
use crate::event::{EventKind, SecurityEvent};
use crate::gateway::Gateway;
use crate::ids::{Now, SessionId};
use crate::ops::inspect::agent_info;
use crate::refusal::Refusal;

/// What an action on a target asks policy for.
pub(crate) type Ask = for<'a> fn(&'a str) -> Permission<'a>;

impl Gateway {
    /// Asks policy, unless it was asked the same before.
    #[inline]
    pub(crate) fn permit(&mut self, id: SessionId, what: Permission<'_>) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get(id) else {
            return Ok(());
        };
        let hasher = *session.subscriptions.hasher();
        match session.decisions.get(&what, self.generation, hasher) {
            Some(Ok(())) => Ok(()),
            Some(Err(reason)) => Err(Refusal::new(Code::PermissionDenied, reason.to_string())),
            None => self.decide(id, what),
        }
    }

    #[cold]
    fn decide(&mut self, id: SessionId, what: Permission<'_>) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get_mut(id) else {
            return Ok(());
        };
        let Some(card) = &session.card else { return Ok(()) };
        let decided = self.authority.decide(&card.identity, &card.name, what);
        let hasher = *session.subscriptions.hasher();
        let most = self.limits.decisions_max as usize;
        let kept = match &decided {
            Ok(()) => Ok(()),
            Err(denial) => Err(Arc::from(denial.reason.as_str())),
        };
        session.decisions.put(&what, kept, self.generation, most, hasher);
        decided.map_err(|denial| {
            self.tell_denied(id, EventKind::PermissionDenied, &what, &denial);
            Refusal::new(Code::PermissionDenied, denial.reason)
        })
    }

    /// Asks policy about a target. The peer of a channel is an agent like any other.
    pub(crate) fn permit_target(
        &mut self,
        id: SessionId,
        ask: Ask,
        target: &Target<'_>,
    ) -> Result<(), Refusal> {
        if let To::Channel(text) = target.to {
            let peer = self.channel(id, text)?.name.clone();
            return self.permit(id, ask(peer.as_str()));
        }
        // Policy knows nothing of what cannot be a target; the better answer is what is wrong with it.
        self.permit(id, ask(named(target)))
            .map_err(|refusal| check_target(target).err().unwrap_or(refusal))
    }

    /// Tells the operator of a refusal by policy.
    pub(crate) fn tell_denied(
        &mut self,
        id: SessionId,
        kind: EventKind,
        what: &Permission<'_>,
        denial: &Denial,
    ) {
        let detail = match what.resource() {
            "" => format!("{}: {}", what.action(), denial.reason),
            resource => format!("{} {resource}: {}", what.action(), denial.reason),
        };
        self.tell_event(id, kind, detail);
    }

    /// Tells the operator of a credential that is not accepted.
    pub(crate) fn tell_rejected(&mut self, id: SessionId, rejection: &Rejection) {
        let kind = match rejection.code {
            "REVOKED" => EventKind::RevokedConnClosed,
            "EXPIRED" => EventKind::CredentialExpired,
            _ => EventKind::Unauthenticated,
        };
        self.tell_event(id, kind, format!("{}: {}", rejection.code, rejection.reason));
    }

    pub(crate) fn tell_event(&mut self, id: SessionId, kind: EventKind, detail: String) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let proved = session.peer.identity.proved();
        let identity = match proved {
            Some(credential) if !credential.uri.is_empty() => credential.uri.clone(),
            _ => session.name().to_owned(),
        };
        let address = session.peer.address.clone();
        self.push_effect(Effect::Security(Box::new(SecurityEvent {
            kind,
            identity,
            address,
            detail,
        })));
    }

    /// Tells those who follow who is there.
    pub(crate) fn tell_present(&mut self, card: &Card) {
        let status = self.directory.status_of(card);
        self.push_effect(Effect::Present(Box::new(agent_info(card, status))));
    }

    /// Whether an identity is good enough to be here now.
    pub(crate) fn examine(&self, identity: &Identity, now: &Now) -> Result<(), Rejection> {
        self.authority.examine(identity, unix_seconds(now))
    }
}

/// The time as credentials tell it.
pub(crate) fn unix_seconds(now: &Now) -> i64 {
    // Until the year 292277026596.
    (now.unix_nanos / 1_000_000_000) as i64
}

/// How a target is named.
pub(crate) fn named<'a>(target: &Target<'a>) -> &'a str {
    match target.to {
        To::Agent(text) | To::Service(text) | To::Capability(text) | To::Channel(text) => text,
    }
}

/// Whether a target can be one at all.
pub(crate) fn check_target(target: &Target<'_>) -> Result<(), Refusal> {
    let (what, text, checked) = match target.to {
        To::Agent(text) => ("agent", text, AgentName::new(text).map(drop)),
        To::Service(text) => ("service", text, service(text)),
        To::Capability(text) => ("capability", text, capability(text)),
        To::Channel(text) => ("channel", text, Ok(())),
    };
    checked.map_err(|error| Refusal::invalid(format!("target {what} {text:?}: {error}")))
}
