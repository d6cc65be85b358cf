//! Whom a message is for.

use std::sync::Arc;

use crate::action::{Target, To};
use crate::code::Code;
use crate::directory::{Absent, Card, Kind};
use crate::gateway::Gateway;
use crate::ids::{Address, SessionId};
use crate::ops::rights::check_target;
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
    /// Finds the receiver of a message.
    pub(crate) fn resolve(
        &mut self,
        asker: &Card,
        id: SessionId,
        target: &Target<'_>,
    ) -> Result<Chosen, Refusal> {
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
                self.directory
                    .pick(Kind::Service, name, target.balance, target.affinity, from)
            }
            To::Capability(name) => {
                check_target(target)?;
                self.directory
                    .pick(Kind::Capability, name, target.balance, target.affinity, from)
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
            Err(absent) => Err(absence(absent, &target.to, from)),
        }
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

fn absence(absent: Absent, to: &To<'_>, from: &str) -> Refusal {
    let what = match to {
        To::Agent(name) => format!("agent {name}"),
        To::Service(name) => format!("instance of service {name}"),
        To::Capability(name) => format!("agent with capability {name}"),
        To::Channel(name) => format!("peer of channel {name}"),
    };
    match absent {
        Absent::Nobody => Refusal::retryable(
            Code::NoResponder,
            format!("no {what} is connected and taking work; try again when one is"),
        ),
        Absent::Unwanted => Refusal::new(
            Code::PermissionDenied,
            format!("no {what} accepts messages from {from}; its accept_from must name this agent"),
        ),
    }
}
