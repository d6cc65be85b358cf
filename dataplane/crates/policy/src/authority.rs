//! Who may do what. The gateway asks once for each (session, action, resource) it has not lately asked for, and asks again when
//! [`Authority::generation`] moves.

use thiserror::Error;

use crate::identity::Identity;
use crate::name::AgentName;

/// What an agent wants to do, and to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Permission<'a> {
    /// Bear a name.
    Register,
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
}

/// A refusal, in words the agent gets to read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct Denial {
    /// Names action and resource, and what to do.
    pub reason: String,
}

/// Decides what agents may do.
pub trait Authority {
    /// Moves whenever an earlier decision may no longer hold.
    fn generation(&self) -> u64;

    /// Decides one action of an agent.
    ///
    /// # Errors
    /// [`Denial`] when it is not allowed.
    fn decide(&self, who: &Identity, name: &AgentName, what: Permission<'_>) -> Result<(), Denial>;
}

/// Profile `development`: an agent is who it says unless its certificate says otherwise, and everyone may do everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Development;

impl Authority for Development {
    fn generation(&self) -> u64 {
        0
    }

    fn decide(&self, who: &Identity, name: &AgentName, what: Permission<'_>) -> Result<(), Denial> {
        if what == Permission::Register && !who.bears(name.as_str()) {
            return Err(Denial {
                reason: format!("the presented credential is not for {name}; register the name it certifies"),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn development_lets_a_token_bear_only_its_name() {
        let name = AgentName::new("a/b/c/d").expect("valid");
        let token = Identity::Token {
            name: "a/b/c/e".into(),
            credential: (*b"x").into(),
        };
        assert!(Development.decide(&token, &name, Permission::Register).is_err());
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
