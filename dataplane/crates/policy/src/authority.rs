//! Who may do what. The gateway asks once for each (session, action, resource) it has not lately asked for, and asks anew when it is
//! given another authority.

use thiserror::Error;

use crate::identity::{Identity, Proof};
use crate::name::AgentName;

/// What an agent wants to do, and to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Permission<'a> {
    /// Bear a name.
    Register,
    /// Say that it has a capability.
    Declare(&'a str),
    /// Publish to a topic.
    Publish(&'a str),
    /// Subscribe to a pattern.
    Subscribe(&'a str),
    /// Send a request to an agent, service or capability.
    Request(&'a str),
    /// Open a stream to one.
    Stream(&'a str),
    /// Ask one for a channel.
    Introduce(&'a str),
    /// Read a state space, or watch it.
    StateRead(&'a str),
    /// Change a state space.
    StateWrite(&'a str),
}

impl<'a> Permission<'a> {
    /// The action, as policies and errors write it.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Declare(_) => "declare",
            Self::Publish(_) => "publish",
            Self::Subscribe(_) => "subscribe",
            Self::Request(_) => "request",
            Self::Stream(_) => "stream",
            Self::Introduce(_) => "introduce",
            Self::StateRead(_) => "state_read",
            Self::StateWrite(_) => "state_write",
        }
    }

    /// What it is done to; empty for [`Register`](Self::Register), which is about the agent itself.
    pub fn resource(&self) -> &'a str {
        match *self {
            Self::Register => "",
            Self::Declare(resource)
            | Self::Publish(resource)
            | Self::Subscribe(resource)
            | Self::Request(resource)
            | Self::Stream(resource)
            | Self::Introduce(resource)
            | Self::StateRead(resource)
            | Self::StateWrite(resource) => resource,
        }
    }
}

/// A refusal, in words the agent gets to read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct Denial {
    /// Names action and resource, or the credential's fault, and what to do.
    pub reason: String,
    /// Whether something forbids it; else it is only that nothing permits it.
    pub forbidden: bool,
}

/// Why a credential is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct Rejection {
    /// What is wrong with it, of a closed list in upper case: `EXPIRED`, `REVOKED`, …
    pub code: &'static str,
    /// What is wrong and what to do, in a sentence.
    pub reason: String,
}

/// Decides what agents may do, and whether their credentials are good. It does not change: other rules are another authority.
pub trait Authority {
    /// Decides one action of an agent. The same question has the same answer.
    ///
    /// # Errors
    /// [`Denial`] when it is not allowed.
    fn decide(&self, who: &Identity, name: &AgentName, what: Permission<'_>) -> Result<(), Denial>;

    /// Whether anything forbids this action on some resource. Where nothing does, who is permitted a service or capability is
    /// permitted each of the agents that it stands for, and none of them is asked about.
    fn may_forbid(&self, what: Permission<'_>) -> bool {
        let _ = what;
        true
    }

    /// Whether an identity is good enough to be here at all, at `unix_seconds`: proved where it must be, neither expired nor revoked.
    ///
    /// # Errors
    /// [`Rejection`] when it is not.
    fn examine(&self, who: &Identity, unix_seconds: i64) -> Result<(), Rejection>;

    /// Who shows this bearer token with this proof in its Register. The proof must be for a call of `uri`.
    ///
    /// # Errors
    /// [`Rejection`] when they are not good at `unix_seconds`.
    fn authenticate(
        &self,
        token: &str,
        proof: &[u8],
        uri: &str,
        unix_seconds: i64,
    ) -> Result<Identity, Rejection>;

    /// Uses up a proof. Asked at one core for all uses of it.
    ///
    /// # Errors
    /// [`Rejection`] when it was used before, or too many were used lately to know.
    fn use_up(&self, proof: &Proof, unix_seconds: i64) -> Result<(), Rejection>;
}

/// Profile `development`: an agent is who it says unless its certificate says otherwise, and everyone may do everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Development;

impl Authority for Development {
    fn decide(&self, who: &Identity, name: &AgentName, what: Permission<'_>) -> Result<(), Denial> {
        if what == Permission::Register {
            return bearing(who, name);
        }
        Ok(())
    }

    fn may_forbid(&self, _: Permission<'_>) -> bool {
        false
    }

    fn examine(&self, _: &Identity, _: i64) -> Result<(), Rejection> {
        Ok(())
    }

    /// Nobody issues tokens for this profile, so none is looked at.
    fn authenticate(&self, _: &str, _: &[u8], _: &str, _: i64) -> Result<Identity, Rejection> {
        Ok(Identity::Declared)
    }

    fn use_up(&self, _: &Proof, _: i64) -> Result<(), Rejection> {
        Ok(())
    }
}

/// Whether an identity may bear a name at all, whatever policy says.
///
/// # Errors
/// [`Denial`] when it proves another name.
pub fn bearing(who: &Identity, name: &AgentName) -> Result<(), Denial> {
    match who.bears(name) {
        true => Ok(()),
        false => Err(Denial {
            reason: format!("the presented credential is not for {name}; register the name it certifies"),
            forbidden: true,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Credential;

    #[test]
    fn development_lets_a_credential_bear_only_its_name() {
        let name = AgentName::new("a/b/c/d").expect("valid");
        let other = Identity::Certificate(
            Credential {
                agent: AgentName::new("a/b/c/e").ok(),
                ..Credential::default()
            }
            .into(),
        );
        assert!(Development.decide(&other, &name, Permission::Register).is_err());
        assert!(
            Development
                .decide(&Identity::Declared, &name, Permission::Register)
                .is_ok()
        );
        assert!(
            Development
                .decide(&Identity::Declared, &name, Permission::Publish("t"))
                .is_ok()
        );
    }
}
