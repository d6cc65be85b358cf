//! The entities of one question: who asks, what for, and everything that either is in.

use cedar_policy::{Entities, Entity, EntityUid, Request, RestrictedExpression};
use ringgate_policy::{AgentName, Identity};

use crate::grants::{Grants, levels};
use crate::vocabulary::{Action, Kind, Resource, WORDS};

/// How an agent proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Credential {
    /// By a certificate.
    Certificate,
    /// By a bearer token bound to its key.
    Token,
    /// Not at all (profile `development`).
    Declared,
}

impl Credential {
    fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Token => "token",
            Self::Declared => "declared",
        }
    }
}

impl From<&Identity> for Credential {
    fn from(identity: &Identity) -> Self {
        match identity {
            Identity::Certificate(..) => Self::Certificate,
            Identity::Token(..) => Self::Token,
            // A proof that this crate does not know is none.
            _ => Self::Declared,
        }
    }
}

/// What a decision knows besides the question. Made once for a node and kind of credential; a clone is cheap.
#[derive(Debug, Clone)]
pub struct Context(cedar_policy::Context);

impl Context {
    /// The context of agents that prove themselves so, attached to that node.
    pub fn new(credential: Credential, node: &str) -> Self {
        let credential = RestrictedExpression::new_entity_uid(Kind::Credential.uid(credential.name()));
        let pairs = [
            ("credential".to_owned(), credential),
            ("node".to_owned(), string(node)),
        ];
        Self(cedar_policy::Context::from_pairs(pairs).expect("two distinct keys with plain values"))
    }
}

/// One question as Cedar takes it, and by which scopes policies can concern it.
pub(crate) struct Scene {
    pub(crate) action: Action,
    pub(crate) request: Request,
    pub(crate) entities: Entities,
    /// The principal and all it is in.
    pub(crate) principals: Vec<EntityUid>,
    /// The resource and all it is in.
    pub(crate) resources: Vec<EntityUid>,
}

impl Scene {
    /// # Errors
    /// Cedar's words, should it refuse entities that are acyclic and distinct by construction.
    pub(crate) fn new(
        who: &AgentName,
        context: &Context,
        action: Action,
        resource: Resource<'_>,
        grants: &Grants,
    ) -> Result<Self, String> {
        let mut cast = Cast::default();
        let principals = cast.member(who.as_str(), "", grants);
        let resources = match resource {
            Resource::Agent(name) | Resource::Service(name) => cast.member(name, who.as_str(), grants),
            Resource::Capability(name) => cast.leaf(Kind::Capability, "name", name, Vec::new()),
            Resource::Topic(path) => cast.leaf(Kind::Topic, "path", path, above(Kind::Topic, path)),
            Resource::Pattern(path) => cast.leaf(Kind::Topic, "path", path, below(path)),
            Resource::Space(name) => cast.leaf(Kind::Space, "name", name, above(Kind::Space, name)),
        };
        let verb = &WORDS.actions[action as usize];
        cast.entities.push(verb.clone());
        let request = Request::new(
            principals[0].clone(),
            verb.uid(),
            resources[0].clone(),
            context.0.clone(),
            None,
        );
        Ok(Self {
            action,
            request: request.map_err(|error| error.to_string())?,
            entities: Entities::from_entities(cast.entities, None).map_err(|error| error.to_string())?,
            principals,
            resources,
        })
    }
}

#[derive(Default)]
struct Cast {
    entities: Vec<Entity>,
}

impl Cast {
    /// An agent or service, and the service, namespace and organization it is in; levels shared with `present` are there already.
    /// Returns it, all above it, and their roles.
    fn member(&mut self, name: &str, present: &str, grants: &Grants) -> Vec<EntityUid> {
        let names: Vec<&str> = levels(name).collect();
        let uids: Vec<EntityUid> = names
            .iter()
            .zip(Kind::LEVELS)
            .map(|(name, kind)| kind.uid(name))
            .collect();
        // What a level is in: all above it and the roles of those, and its own.
        let mut above: Vec<EntityUid> = Vec::new();
        for (level, name) in names.iter().enumerate() {
            above.extend(grants.of(name).iter().map(|role| Kind::Role.uid(role)));
            if levels(present).nth(level) != Some(name) {
                self.add(
                    uids[level].clone(),
                    attributes(name, &uids[..level]),
                    above.clone(),
                );
            }
            above.push(uids[level].clone());
        }
        above.reverse();
        above
    }

    /// A resource with one attribute. Returns it and all it is in.
    fn leaf(&mut self, kind: Kind, attribute: &str, id: &str, above: Vec<EntityUid>) -> Vec<EntityUid> {
        let uid = kind.uid(id);
        self.add(
            uid.clone(),
            vec![(attribute.to_owned(), string(id))],
            above.clone(),
        );
        [uid].into_iter().chain(above).collect()
    }

    fn add(
        &mut self,
        uid: EntityUid,
        attributes: Vec<(String, RestrictedExpression)>,
        parents: Vec<EntityUid>,
    ) {
        let entity = Entity::new_with_tags(uid, attributes, parents, []);
        self.entities
            .push(entity.expect("strings and entity references need no evaluation"));
    }
}

fn attributes(name: &str, above: &[EntityUid]) -> Vec<(String, RestrictedExpression)> {
    let entity = RestrictedExpression::new_entity_uid;
    let mut attributes = vec![
        ("name".to_owned(), string(name)),
        ("topics".to_owned(), entity(Kind::Topic.uid(name))),
        ("spaces".to_owned(), entity(Kind::Space.uid(name))),
    ];
    let keys = ["organization", "namespace", "service"];
    attributes.extend(
        keys.iter()
            .zip(above)
            .map(|(key, uid)| ((*key).to_owned(), entity(uid.clone()))),
    );
    attributes
}

fn string(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

/// What a topic or space is in: those above it, and the root.
fn above(kind: Kind, path: &str) -> Vec<EntityUid> {
    let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
    [""].into_iter()
        .chain(parents)
        .map(|parent| kind.uid(parent))
        .collect()
}

/// What everything that a pattern with wildcards matches is in.
fn below(pattern: &str) -> Vec<EntityUid> {
    let prefix = literal_prefix(pattern);
    let mut parents = vec![Kind::Topic.uid("")];
    if !prefix.is_empty() {
        parents.extend(levels(prefix).map(|parent| Kind::Topic.uid(parent)));
    }
    parents
}

/// The segments before the first wildcard; empty when there are none.
pub(crate) fn literal_prefix(pattern: &str) -> &str {
    let mut end = 0;
    for segment in pattern.split('/') {
        if segment.contains('*') {
            break;
        }
        end += segment.len() + 1;
    }
    pattern[..end.min(pattern.len())].trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(resource: Resource<'_>, action: Action, grants: &Grants) -> Scene {
        let who = AgentName::new("acme/demo/weather/1").expect("valid");
        let context = Context::new(Credential::Certificate, "n1");
        Scene::new(&who, &context, action, resource, grants).expect("sound")
    }

    #[test]
    fn scenes_keep_to_the_schema() {
        let mut grants = Grants::default();
        grants.set("acme", ["staff"]).expect("valid");
        grants
            .set("acme/demo/weather/1", ["staff", "lead"])
            .expect("valid");
        for (resource, action) in [
            (Resource::Agent("acme/demo/weather/1"), Action::Register),
            (Resource::Agent("acme/demo/weather/2"), Action::Request),
            (Resource::Agent("other/demo/weather/1"), Action::Stream),
            (Resource::Service("acme/demo/weather"), Action::Introduce),
            (Resource::Service("acme/other/x"), Action::Introduce),
            (Resource::Capability("forecast"), Action::Declare),
            (Resource::Topic("a/b/c"), Action::Publish),
            (Resource::Pattern("a/*/c"), Action::Subscribe),
            (Resource::Pattern("**"), Action::Subscribe),
            (Resource::Space("acme/x"), Action::StateWrite),
        ] {
            let scene = scene(resource, action, &grants);
            // The schema brings its own actions.
            let action = |entity: &Entity| entity.uid().type_name().basename() == "Action";
            let entities = scene
                .entities
                .clone()
                .into_iter()
                .filter(|entity| !action(entity));
            Entities::from_entities(entities, Some(&WORDS.schema))
                .unwrap_or_else(|e| panic!("{resource:?}: {e}"));
            let [principal, verb, object] = [
                scene.request.principal(),
                scene.request.action(),
                scene.request.resource(),
            ]
            .map(|uid| uid.expect("known").clone());
            let context = scene.request.context().expect("known").clone();
            Request::new(principal, verb, object, context, Some(&WORDS.schema))
                .unwrap_or_else(|e| panic!("{resource:?}: {e}"));
        }
    }

    #[test]
    fn a_pattern_is_in_what_all_it_matches_is_in() {
        let ids = |resource| {
            let scene = scene(resource, Action::Subscribe, &Grants::default());
            let ids = scene.resources.iter().map(|uid| uid.id().unescaped().to_owned());
            ids.collect::<Vec<_>>()
        };
        assert_eq!(ids(Resource::Topic("a/b/c")), ["a/b/c", "", "a", "a/b"]);
        assert_eq!(ids(Resource::Pattern("a/b/*")), ["a/b/*", "", "a", "a/b"]);
        assert_eq!(ids(Resource::Pattern("a/*/b/**")), ["a/*/b/**", "", "a"]);
        assert_eq!(ids(Resource::Pattern("*/b")), ["*/b", ""]);
    }
}
