//! Who may do what: asking policy, and telling of refusals.

use ringgate_policy::{AgentName, Authority, Identity, Permission, Rejection, capability, service};

use crate::action::{Target, To};
use crate::code::Code;
use crate::decisions::{Decided, Refused};
use crate::directory::Card;
use crate::effect::Effect;
use crate::event::{EventKind, SecurityEvent};
use crate::gateway::Gateway;
use crate::ids::{Now, SessionId};
use crate::ops::inspect::agent_info;
use crate::refusal::Refusal;
use crate::session::Session;

/// Agents that policy is asked about in one go to find one that is not forbidden: with 30 µs for a decision, two milliseconds. What
/// it has said already is remembered, so that the next go asks about others.
pub(crate) const MEMBERS_ASKED_MAX: usize = 64;

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
            Some(Err(refused)) => Err(Refusal::new(Code::PermissionDenied, refused.reason.to_string())),
            None => self.decide(id, what),
        }
    }

    #[cold]
    fn decide(&mut self, id: SessionId, what: Permission<'_>) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get_mut(id) else {
            return Ok(());
        };
        let most = self.limits.decisions_max as usize;
        decide(session, &*self.authority, &what, self.generation, most).map_err(|refused| {
            let reason = refused.reason.to_string();
            self.tell_denied(id, EventKind::PermissionDenied, &what, &reason);
            Refusal::new(Code::PermissionDenied, reason)
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
        reason: &str,
    ) {
        let detail = match what.resource() {
            "" => format!("{}: {reason}", what.action()),
            resource => format!("{} {resource}: {reason}", what.action()),
        };
        self.tell_event(id, kind, detail);
    }

    /// Tells the operator of a credential that is not accepted.
    pub(crate) fn tell_rejected(&mut self, id: SessionId, rejection: &Rejection) {
        let kind = EventKind::of_rejection(rejection);
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

/// Asks policy on behalf of a session, and remembers the answer.
fn decide(
    session: &mut Session,
    authority: &dyn Authority,
    what: &Permission<'_>,
    generation: u64,
    most: usize,
) -> Decided {
    let Some(card) = &session.card else { return Ok(()) };
    let denied = authority.decide(&card.identity, &card.name, *what);
    let decided = denied.map_err(|denial| Refused::from(&denial));
    let hasher = *session.subscriptions.hasher();
    session
        .decisions
        .put(what, decided.clone(), generation, most, hasher);
    decided
}

/// What is found out about the agents that one of is to be chosen.
#[derive(Debug, Default)]
pub(crate) struct Bar {
    asked: usize,
    /// There were more than may be asked about.
    pub(crate) overrun: bool,
    /// The first that is forbidden: why, and whether that was not known.
    pub(crate) forbidden: Option<(Box<str>, Refused, bool)>,
}

impl Bar {
    /// Whether a session is forbidden to do something to one of several agents. That nothing permits it does not count: the
    /// service or capability that they are chosen for is permitted.
    pub(crate) fn allows(
        &mut self,
        session: &mut Session,
        authority: &dyn Authority,
        what: &Permission<'_>,
        generation: u64,
        most: usize,
    ) -> bool {
        let hasher = *session.subscriptions.hasher();
        let known = session.decisions.get(what, generation, hasher).cloned();
        let is_new = known.is_none();
        if is_new && self.asked == MEMBERS_ASKED_MAX {
            self.overrun = true;
            return false;
        }
        self.asked += usize::from(is_new);
        let decided = known.unwrap_or_else(|| decide(session, authority, what, generation, most));
        match decided {
            Err(refused) if refused.forbidden => {
                self.forbidden
                    .get_or_insert_with(|| (what.resource().into(), refused, is_new));
                false
            }
            _ => true,
        }
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
