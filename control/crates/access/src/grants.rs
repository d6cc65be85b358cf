//! Roles, given to names and to all below them.

use std::collections::HashMap;
use std::sync::Arc;

use ringgate_policy::{AgentName, NameError, PATH_BYTES_MAX, capability};
use thiserror::Error;

/// Roles one name may be given. Each becomes an entity of every decision about an agent at or below the name.
pub const ROLES_PER_NAME_MAX: usize = 32;
/// Names that may be given roles: ten times the agents that one installation is built for, at about 200 bytes each.
pub const GRANTS_MAX: usize = 1_000_000;

/// Why a grant is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GrantError {
    /// Not the beginning of an agent's name.
    #[error(
        "{name:?} cannot be given roles: {source}; write org, org/namespace, org/namespace/service or org/namespace/service/instance"
    )]
    Name {
        /// What was given.
        name: String,
        /// The rule it breaks.
        source: NameError,
    },
    /// Not a role.
    #[error("{role:?} is no role: {source}")]
    Role {
        /// What was given.
        role: String,
        /// The rule it breaks.
        source: NameError,
    },
    /// Too many for one name.
    #[error(
        "{name} is given {given} roles; at most {ROLES_PER_NAME_MAX} are allowed: give some to a name above it"
    )]
    TooManyRoles {
        /// The name.
        name: String,
        /// How many.
        given: usize,
    },
    /// Too many names.
    #[error(
        "{GRANTS_MAX} names have roles already; give roles to a service or namespace rather than to its agents"
    )]
    TooManyNames,
}

type Roles = Arc<[Arc<str>]>;

/// Which roles are given to which names. A role given to a name is held by every agent at or below it.
///
/// A clone shares the table; the first change after it copies the table once, whatever the number of changes that follow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    names: Arc<HashMap<Arc<str>, Roles>>,
}

impl Grants {
    /// Gives a name exactly these roles, in place of those it had; none: the name has none any more.
    ///
    /// # Errors
    /// [`GrantError`]; nothing is changed then.
    pub fn set<R: AsRef<str>>(
        &mut self,
        name: &str,
        roles: impl IntoIterator<Item = R>,
    ) -> Result<(), GrantError> {
        check_name(name).map_err(|source| GrantError::Name {
            name: name.to_owned(),
            source,
        })?;
        let mut given = Vec::new();
        for role in roles {
            let role = role.as_ref();
            capability(role).map_err(|source| GrantError::Role {
                role: role.to_owned(),
                source,
            })?;
            given.push(Arc::<str>::from(role));
        }
        given.sort_unstable();
        given.dedup();
        if given.len() > ROLES_PER_NAME_MAX {
            return Err(GrantError::TooManyRoles {
                name: name.to_owned(),
                given: given.len(),
            });
        }
        if given.is_empty() {
            self.remove(name);
            return Ok(());
        }
        if self.names.len() >= GRANTS_MAX && !self.names.contains_key(name) {
            return Err(GrantError::TooManyNames);
        }
        Arc::make_mut(&mut self.names).insert(name.into(), given.into());
        Ok(())
    }

    /// Takes all roles from a name; whether it had any.
    pub fn remove(&mut self, name: &str) -> bool {
        // Looked up first: nothing is copied for a name that has none.
        self.names.contains_key(name) && Arc::make_mut(&mut self.names).remove(name).is_some()
    }

    /// The roles given to this very name, in order.
    pub fn of(&self, name: &str) -> &[Arc<str>] {
        self.names.get(name).map_or(&[], |roles| roles)
    }

    /// The roles an agent holds by its name and all above it, in order.
    pub fn roles(&self, who: &AgentName) -> Vec<Arc<str>> {
        let mut held: Vec<_> = levels(who.as_str())
            .flat_map(|name| self.of(name))
            .cloned()
            .collect();
        held.sort_unstable();
        held.dedup();
        held
    }

    /// Every name that has roles, with them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[Arc<str>])> {
        self.names.iter().map(|(name, roles)| (&**name, &**roles))
    }

    /// How many names have roles.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no name has any.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// A name and all above it, the uppermost first: `a`, `a/b`, `a/b/c`, … of `a/b/c/…`. Roles of any of them are roles of the name.
pub fn levels(name: &str) -> impl Iterator<Item = &str> {
    let ends = name.match_indices('/').map(|(at, _)| at);
    ends.chain([name.len()]).map(|end| &name[..end])
}

fn check_name(name: &str) -> Result<(), NameError> {
    if name.len() > PATH_BYTES_MAX {
        return Err(NameError::TooLong {
            bytes: name.len(),
            max: PATH_BYTES_MAX,
        });
    }
    let mut found = 0;
    for segment in name.split('/') {
        capability(segment)?;
        found += 1;
    }
    match found {
        1..=4 => Ok(()),
        _ => Err(NameError::Segments {
            found,
            wanted: "one to four",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_come_from_every_level() {
        let mut grants = Grants::default();
        grants.set("acme", ["staff"]).expect("an organization");
        grants
            .set("acme/demo/weather", ["b", "a", "a"])
            .expect("a service");
        grants.set("acme/demo/weather/2", ["other"]).expect("an agent");
        let who = AgentName::new("acme/demo/weather/1").expect("valid");
        let held: Vec<_> = grants.roles(&who).iter().map(|role| role.to_string()).collect();
        assert_eq!(held, ["a", "b", "staff"]);

        let before = grants.clone();
        grants.set("acme", [""; 0]).expect("none");
        assert_eq!((before.len(), grants.len()), (3, 2), "a clone keeps what it had");
        assert!(!grants.remove("acme"));
    }

    #[test]
    fn bad_grants_are_refused() {
        let mut grants = Grants::default();
        for name in ["", "a/", "a/b/c/d/e", "a/*"] {
            assert!(
                matches!(grants.set(name, ["r"]), Err(GrantError::Name { .. })),
                "{name:?}"
            );
        }
        assert!(matches!(grants.set("a", ["x/y"]), Err(GrantError::Role { .. })));
        let many: Vec<_> = (0..=ROLES_PER_NAME_MAX).map(|n| n.to_string()).collect();
        assert!(matches!(
            grants.set("a", &many),
            Err(GrantError::TooManyRoles { given: 33, .. })
        ));
        assert!(grants.is_empty());
    }
}
