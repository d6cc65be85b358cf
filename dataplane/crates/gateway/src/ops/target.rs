//! Whom a message is for.

use std::sync::Arc;

use ringgate_policy::AgentName;

use crate::action::{Target, To};
use crate::code::Code;
use crate::directory::{Absent, Card, Kind};
use crate::event::EventKind;
use crate::gateway::Gateway;
use crate::ids::{Address, SessionId};
use crate::ops::rights::{Ask, Bar, MEMBERS_ASKED_MAX, check_target};
use crate::outgoing::Dialect;
use crate::refusal::Refusal;
use crate::session::Channel;

/// The one who gets it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chosen {
    pub(crate) address: Address,
    pub(crate) dialect: Dialect,
    /// Its place in the directory, for load accounting; none for the peer of a channel.
    pub(crate) agent: Option<u32>,
}

/// How a channel is written: `channel-` and its number in hexadecimal.
pub(crate) fn channel_name(number: u64) -> String {
    format!("channel-{number:x}")
}

fn channel_number(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("channel-")?, 16).ok()
}

impl Gateway {
    /// Finds the receiver of a message, for an action that policy permits on the target. Of several agents, one is chosen that it
    /// is not forbidden on.
    pub(crate) fn resolve(
        &mut self,
        asker: &Card,
        id: SessionId,
        ask: Ask,
        target: &Target<'_>,
    ) -> Result<Chosen, Refusal> {
        let mut bar = Bar::default();
        let from = asker.name.as_str();
        let found = match target.to {
            To::Agent(name) => {
                let found = self.directory.by_name(name, from);
                if found == Err(Absent::Nobody) {
                    check_target(target)?;
                }
                found
            }
            To::Service(name) => {
                check_target(target)?;
                self.choose(id, ask, (Kind::Service, name), target, from, &mut bar)
            }
            To::Capability(name) => {
                check_target(target)?;
                self.choose(id, ask, (Kind::Capability, name), target, from, &mut bar)
            }
            To::Channel(text) => return self.resolve_channel(id, text),
        };
        match found {
            Ok(agent) => {
                let card: &Arc<Card> = self.directory.card(agent);
                Ok(Chosen {
                    address: card.address,
                    dialect: card.dialect,
                    agent: Some(agent),
                })
            }
            Err(Absent::Forbidden) => Err(self.barred(id, ask, &target.to, bar)),
            Err(absent) => Err(absence(absent, &target.to, from)),
        }
    }

    /// One of several agents.
    fn choose(
        &mut self,
        id: SessionId,
        ask: Ask,
        (kind, name): (Kind, &str),
        target: &Target<'_>,
        from: &str,
        bar: &mut Bar,
    ) -> Result<u32, Absent> {
        let Self {
            directory,
            sessions,
            authority,
            generation,
            limits,
            ..
        } = self;
        let may_forbid = authority.may_forbid(ask(name));
        let most = limits.decisions_max as usize;
        let allowed = |member: &AgentName| {
            let asks = may_forbid.then(|| sessions.get_mut(id)).flatten();
            asks.is_none_or(|session| {
                bar.allows(session, &**authority, &ask(member.as_str()), *generation, most)
            })
        };
        directory.pick(kind, name, target.balance, target.affinity, from, allowed)
    }

    /// Nobody of several is allowed; the operator is told unless that is not new.
    fn barred(&mut self, id: SessionId, ask: Ask, to: &To<'_>, bar: Bar) -> Refusal {
        let what = described(to);
        let Some((member, refused, is_new)) = bar.forbidden else {
            return absence(Absent::Nobody, to, "");
        };
        if is_new {
            let asked = ask(&member);
            self.tell_denied(id, EventKind::PermissionDenied, &asked, &refused.reason);
        }
        let reason = &refused.reason;
        if bar.overrun {
            let message = format!(
                "the first {MEMBERS_ASKED_MAX} that are an {what} are forbidden ({reason}); try again, which asks about others"
            );
            return Refusal::retryable(Code::Unavailable, message);
        }
        Refusal::new(
            Code::PermissionDenied,
            format!("every {what} is forbidden: {reason}"),
        )
    }

    fn resolve_channel(&self, id: SessionId, text: &str) -> Result<Chosen, Refusal> {
        let channel = self.channel(id, text)?;
        Ok(Chosen {
            address: channel.peer,
            dialect: channel.dialect,
            agent: None,
        })
    }

    /// A channel of a session, by its name.
    pub(crate) fn channel(&self, id: SessionId, text: &str) -> Result<&Channel, Refusal> {
        self.sessions
            .get(id)
            .and_then(|session| session.calls.channels.get(&channel_number(text)?))
            .ok_or_else(|| {
                let message =
                    format!("there is no channel {text:?}; it ended with its peer's stream: introduce anew");
                Refusal::new(Code::NotFound, message)
            })
    }
}

/// A target in words.
fn described(to: &To<'_>) -> String {
    match to {
        To::Agent(name) => format!("agent {name}"),
        To::Service(name) => format!("instance of service {name}"),
        To::Capability(name) => format!("agent with capability {name}"),
        To::Channel(name) => format!("peer of channel {name}"),
    }
}

fn absence(absent: Absent, to: &To<'_>, from: &str) -> Refusal {
    let what = described(to);
    match absent {
        // What is forbidden has its own words.
        Absent::Nobody | Absent::Forbidden => Refusal::retryable(
            Code::NoResponder,
            format!("no {what} is connected and taking work; try again when one is"),
        ),
        Absent::Unwanted => Refusal::new(
            Code::PermissionDenied,
            format!("no {what} accepts messages from {from}; its accept_from must name this agent"),
        ),
    }
}
