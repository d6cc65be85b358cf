//! The words of policies: actions, kinds of entities, and what an agent asks for.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, Schema};
use ringgate_policy::{AgentName, NameError, Pattern, PatternError, Permission, Topic, capability, service};
use thiserror::Error;

/// What an agent may be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Bear its name.
    Register,
    /// Say that it has a capability.
    Declare,
    /// Publish to a topic.
    Publish,
    /// Subscribe to a pattern. One without wildcards is the topic of that name. One with wildcards stands for all topics it can match:
    /// it needs a right on the whole subtree below its longest literal prefix, and no topic it can match may be forbidden.
    Subscribe,
    /// Send a request to an agent, service or capability.
    Request,
    /// Open a stream to one.
    Stream,
    /// Ask one for a channel.
    Introduce,
    /// Read a state space, or watch it.
    StateRead,
    /// Change a state space.
    StateWrite,
}

/// There is no such action.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "there is no action {given:?}; write one of register, declare, publish, subscribe, request, stream, introduce, state_read, state_write"
)]
pub struct UnknownAction {
    /// What was given.
    pub given: String,
}

impl Action {
    /// All there are.
    pub const ALL: [Self; 9] = [
        Self::Register,
        Self::Declare,
        Self::Publish,
        Self::Subscribe,
        Self::Request,
        Self::Stream,
        Self::Introduce,
        Self::StateRead,
        Self::StateWrite,
    ];

    /// As policies write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Declare => "declare",
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Request => "request",
            Self::Stream => "stream",
            Self::Introduce => "introduce",
            Self::StateRead => "state_read",
            Self::StateWrite => "state_write",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, UnknownAction> {
        let found = Self::ALL.into_iter().find(|action| action.name() == text);
        found.ok_or_else(|| UnknownAction {
            given: text.to_owned(),
        })
    }
}

/// Why something cannot be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AskedError {
    /// Not a topic, pattern or space.
    #[error("{resource:?} is no {kind}: {source}")]
    Path {
        /// What was given.
        resource: String,
        /// What it should be.
        kind: &'static str,
        /// The rule it breaks.
        source: PatternError,
    },
    /// Not an agent, service or capability.
    #[error("{resource:?} is no {kind}: {source}")]
    Name {
        /// What was given.
        resource: String,
        /// What it should be.
        kind: &'static str,
        /// The rule it breaks.
        source: NameError,
    },
    /// An agent can register only itself.
    #[error("an agent registers its own name; give {agent}, or nothing, as resource")]
    NotItself {
        /// Who asks.
        agent: String,
    },
}

/// A question in its checked form: an action and a resource that it applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    pub(crate) action: Action,
    pub(crate) resource: Resource<'a>,
}

/// What an action is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource<'a> {
    /// `organization/namespace/service/instance`.
    Agent(&'a str),
    /// `organization/namespace/service`.
    Service(&'a str),
    Capability(&'a str),
    Topic(&'a str),
    /// A pattern with wildcards.
    Pattern(&'a str),
    Space(&'a str),
}

impl<'a> Asked<'a> {
    /// Reads a question as people write it: what a target is shows in its segments (four: an agent, three: a service, one: a
    /// capability). For [`Action::Register`] the resource is the agent, or empty.
    ///
    /// # Errors
    /// [`AskedError`] when the action cannot be done to such a resource.
    pub fn new(who: &'a AgentName, action: Action, resource: &'a str) -> Result<Self, AskedError> {
        let resource = match action {
            Action::Register if resource.is_empty() || resource == who.as_str() => {
                Resource::Agent(who.as_str())
            }
            Action::Register => {
                return Err(AskedError::NotItself {
                    agent: who.to_string(),
                });
            }
            Action::Declare => Resource::Capability(named(capability(resource), resource, "capability")?),
            Action::Publish => {
                Topic::new(resource).map_err(|source| unfit(resource, "topic", source))?;
                Resource::Topic(resource)
            }
            Action::Subscribe => {
                let pattern = Pattern::new(resource).map_err(|source| unfit(resource, "pattern", source))?;
                match pattern.is_exact() {
                    true => Resource::Topic(resource),
                    false => Resource::Pattern(resource),
                }
            }
            Action::Request | Action::Stream | Action::Introduce => target(resource)?,
            Action::StateRead | Action::StateWrite => {
                Topic::new(resource).map_err(|source| unfit(resource, "space", source))?;
                Resource::Space(resource)
            }
        };
        Ok(Self { action, resource })
    }

    /// The action.
    pub fn action(&self) -> Action {
        self.action
    }

    /// The resource, as written.
    pub fn resource(&self) -> &'a str {
        match self.resource {
            Resource::Agent(text)
            | Resource::Service(text)
            | Resource::Capability(text)
            | Resource::Topic(text)
            | Resource::Pattern(text)
            | Resource::Space(text) => text,
        }
    }
}

/// The action and resource of a [`Permission`]; none for one that this crate does not know, which nothing permits.
pub(crate) fn of_permission(what: Permission<'_>) -> Option<(Action, &str)> {
    what.action().parse().ok().map(|action| (action, what.resource()))
}

fn target(resource: &str) -> Result<Resource<'_>, AskedError> {
    Ok(match resource.bytes().filter(|&byte| byte == b'/').count() {
        0 => Resource::Capability(named(capability(resource), resource, "capability")?),
        2 => Resource::Service(named(service(resource), resource, "service")?),
        _ => Resource::Agent(named(
            AgentName::new(resource).map(drop),
            resource,
            "agent, service or capability",
        )?),
    })
}

fn named<'a>(
    checked: Result<(), NameError>,
    resource: &'a str,
    kind: &'static str,
) -> Result<&'a str, AskedError> {
    checked.map(|()| resource).map_err(|source| AskedError::Name {
        resource: resource.to_owned(),
        kind,
        source,
    })
}

fn unfit(resource: &str, kind: &'static str, source: PatternError) -> AskedError {
    AskedError::Path {
        resource: resource.to_owned(),
        kind,
        source,
    }
}

/// The kinds of entities that have names of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Organization,
    Namespace,
    Service,
    Agent,
    Role,
    Topic,
    Capability,
    Space,
    Credential,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Organization,
        Self::Namespace,
        Self::Service,
        Self::Agent,
        Self::Role,
        Self::Topic,
        Self::Capability,
        Self::Space,
        Self::Credential,
    ];

    /// What names of one to four segments stand for.
    pub(crate) const LEVELS: [Self; 4] = [Self::Organization, Self::Namespace, Self::Service, Self::Agent];

    /// As the schema writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Organization => "Organization",
            Self::Namespace => "Namespace",
            Self::Service => "Service",
            Self::Agent => "Agent",
            Self::Role => "Role",
            Self::Topic => "Topic",
            Self::Capability => "Capability",
            Self::Space => "Space",
            Self::Credential => "Credential",
        }
    }

    pub(crate) fn of(name: &EntityTypeName) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| WORDS.kinds[*kind as usize] == *name)
    }

    pub(crate) fn uid(self, id: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(WORDS.kinds[self as usize].clone(), EntityId::new(id))
    }
}

/// What is made of the schema, once.
pub(crate) struct Words {
    pub(crate) schema: Schema,
    kinds: [EntityTypeName; Kind::ALL.len()],
    /// In the order of [`Action::ALL`], each with the groups it is in.
    pub(crate) actions: [Entity; Action::ALL.len()],
    /// Each action and its groups: what the scope of a policy on it may name.
    pub(crate) scopes: [Vec<EntityUid>; Action::ALL.len()],
}

pub(crate) static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let (schema, _warnings) =
        Schema::from_cedarschema_str(crate::SCHEMA).expect("the schema is a constant that every test reads");
    let entities = schema.action_entities().expect("its actions form no cycle");
    let name = |kind: Kind| EntityTypeName::from_str(kind.name()).expect("a plain word");
    let actions = Action::ALL.map(|action| {
        let uid = action_uid(action.name());
        entities.get(&uid).expect("the schema has every action").clone()
    });
    let scopes = Action::ALL.map(|action| {
        let uid = action_uid(action.name());
        let groups = entities.ancestors(&uid).into_iter().flatten().cloned();
        groups.chain([uid.clone()]).collect()
    });
    Words {
        scopes,
        kinds: Kind::ALL.map(name),
        actions,
        schema,
    }
});

fn action_uid(name: &str) -> EntityUid {
    let kind = EntityTypeName::from_str("Action").expect("a plain word");
    EntityUid::from_type_name_and_id(kind, EntityId::new(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_read_back_and_is_in_the_schema() {
        for action in Action::ALL {
            assert_eq!(action.to_string().parse(), Ok(action));
            assert_eq!(WORDS.actions[action as usize].uid(), action_uid(action.name()));
        }
        let refused = "sing".parse::<Action>().expect_err("no such action");
        assert!(refused.to_string().contains("state_write"), "{refused}");
    }

    #[test]
    fn every_kind_is_in_the_schema() {
        for kind in Kind::ALL {
            assert!(
                WORDS
                    .schema
                    .entity_types()
                    .any(|declared| Kind::of(declared) == Some(kind)),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn a_target_is_what_its_segments_say() {
        let who = AgentName::new("a/b/c/d").expect("valid");
        let resource = |text| Asked::new(&who, Action::Request, text).map(|asked| asked.resource);
        assert_eq!(resource("x"), Ok(Resource::Capability("x")));
        assert_eq!(resource("x/y/z"), Ok(Resource::Service("x/y/z")));
        assert_eq!(resource("x/y/z/1"), Ok(Resource::Agent("x/y/z/1")));
        assert!(matches!(resource("x/y"), Err(AskedError::Name { .. })));
        assert!(matches!(resource("x/*/z"), Err(AskedError::Name { .. })));
        assert!(matches!(
            Asked::new(&who, Action::Register, "a/b/c/e"),
            Err(AskedError::NotItself { .. })
        ));
        assert!(matches!(
            Asked::new(&who, Action::Publish, "a/*"),
            Err(AskedError::Path { .. })
        ));
    }
}
