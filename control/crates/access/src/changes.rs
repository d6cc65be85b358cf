//! What other policies would change, and for whom.
//!
//! Only what the changed policies can concern is asked: the agents in their scopes, their actions, and the resources they name
//! (those that any policy names, where a changed one names none). What is left is bounded by the caller; of more agents than fit,
//! those who differ by service or roles come first, since policies rarely tell others apart.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use cedar_policy::{EntityUid, Policy};
use ringgate_policy::AgentName;

use crate::access::Access;
use crate::grants::{Grants, levels};
use crate::index::{actions, principal, resource};
use crate::policies::{PolicySet, name_of};
use crate::scene::Context;
use crate::vocabulary::{Action, Asked, Kind};

/// Services and capabilities there are that are asked for as targets, each; more would only repeat what the first ones show.
const TARGETS_ASKED_MAX: usize = 16;
/// Stands for everything that no policy names; it is valid as topic, space and capability, and as a segment of a name.
const UNNAMED: &str = "(any other)";

/// An action on a resource, asked of agents.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// The action.
    pub action: Action,
    /// The resource as [`Asked::new`] takes it.
    pub resource: String,
}

/// A decision that would be another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Of whom.
    pub agent: AgentName,
    /// On what.
    pub question: Question,
    /// Whether it is allowed now; afterwards it is the opposite.
    pub allowed_before: bool,
}

/// Who and what there is.
#[derive(Debug, Clone, Default)]
pub struct Crowd {
    /// The agents.
    pub agents: BTreeSet<AgentName>,
    /// Capabilities that they declare.
    pub capabilities: BTreeSet<String>,
}

/// How much a comparison may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Questions asked, each decided before and after.
    pub decisions_max: usize,
    /// Bytes of the names in [`Comparison::changes`].
    pub listed_bytes_max: usize,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// What would be decided otherwise, by agent.
    pub changes: Vec<Change>,
    /// Further changes, which had no room in `changes`.
    pub unlisted: usize,
    /// Agents that the changed policies can concern.
    pub agents_concerned: usize,
    /// Those of them that were asked about; fewer where the bounds took effect.
    pub agents_examined: usize,
    /// Questions asked.
    pub decisions_examined: usize,
}

/// Compares what is decided now with what other policies would decide, for agents that come with such a context.
pub fn compare(
    now: &Access,
    policies: Arc<PolicySet>,
    context: &Context,
    crowd: &Crowd,
    bounds: Bounds,
) -> Comparison {
    let mut after = now.clone();
    after.set_policies(policies);
    let difference = Difference::between(now.policies(), after.policies());
    let agents = difference.concerned(&crowd.agents, now.grants());
    let questions = difference.questions(now.policies(), after.policies(), crowd);
    let mut found = Comparison {
        agents_concerned: agents.len(),
        ..Comparison::default()
    };
    let mut listed_bytes = 0;
    for agent in agents {
        let own = difference.own_questions(agent);
        if found.decisions_examined + questions.len() + own.len() > bounds.decisions_max
            && found.agents_examined > 0
        {
            break;
        }
        found.agents_examined += 1;
        for question in questions.iter().chain(own.difference(&questions)) {
            let Ok(asked) = Asked::new(agent, question.action, &question.resource) else {
                continue;
            };
            if found.decisions_examined == bounds.decisions_max {
                break;
            }
            found.decisions_examined += 1;
            let allowed_before = now.decide(agent, context, asked).allowed;
            if allowed_before == after.decide(agent, context, asked).allowed {
                continue;
            }
            let bytes = agent.as_str().len() + question.resource.len();
            if listed_bytes + bytes > bounds.listed_bytes_max {
                found.unlisted += 1;
                continue;
            }
            listed_bytes += bytes;
            found.changes.push(Change {
                agent: agent.clone(),
                question: question.clone(),
                allowed_before,
            });
        }
    }
    found
}

/// What the policies that are only in one of two sets can concern.
#[derive(Debug, Default)]
struct Difference {
    /// Actions of policies that name resources in their scope, with those they name anywhere.
    narrow: BTreeSet<(Action, &'static str, String)>,
    /// Actions of policies whose scope takes every resource.
    wide: BTreeSet<Action>,
    /// Entities that the scopes name as principals.
    principals: HashSet<EntityUid>,
    /// Whether some scope takes every principal.
    anyone: bool,
}

impl Difference {
    fn between(before: &PolicySet, after: &PolicySet) -> Self {
        let texts = |set: &PolicySet| -> HashSet<String> { set.policies.policies().map(source).collect() };
        let (old, new) = (texts(before), texts(after));
        let mut difference = Self::default();
        let gone = before
            .policies
            .policies()
            .filter(|policy| !new.contains(&source(policy)));
        let come = after
            .policies
            .policies()
            .filter(|policy| !old.contains(&source(policy)));
        for policy in gone.chain(come) {
            difference.add(policy);
        }
        difference
    }

    fn add(&mut self, policy: &Policy) {
        match principal(policy) {
            None => self.anyone = true,
            Some(uid) => {
                self.principals.insert(uid);
            }
        }
        let literals = policy.entity_literals();
        let named: Vec<_> = literals.iter().filter_map(name_of).collect();
        for action in actions(policy) {
            if resource(policy).is_none() {
                self.wide.insert(action);
            }
            let of_action = named.iter().map(|(kind, id)| (action, kind.name(), id.clone()));
            self.narrow.extend(of_action);
        }
    }

    /// The agents in the scopes; the first of each service with the same roles come before all others.
    fn concerned<'a>(&self, agents: &'a BTreeSet<AgentName>, grants: &Grants) -> Vec<&'a AgentName> {
        let mut seen = HashSet::new();
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        for agent in agents {
            let roles = grants.roles(agent);
            let mut uids = levels(agent.as_str())
                .zip(Kind::LEVELS)
                .map(|(name, kind)| kind.uid(name))
                .chain(roles.iter().map(|role| Kind::Role.uid(role)));
            if !self.anyone && !uids.any(|uid| self.principals.contains(&uid)) {
                continue;
            }
            match seen.insert((agent.service(), roles)) {
                true => first.push(agent),
                false => rest.push(agent),
            }
        }
        first.append(&mut rest);
        first
    }

    /// What all agents are asked.
    fn questions(&self, before: &PolicySet, after: &PolicySet, crowd: &Crowd) -> BTreeSet<Question> {
        let mut questions = BTreeSet::new();
        for (action, kind, id) in &self.narrow {
            ask(&mut questions, *action, kind, id);
        }
        for action in &self.wide {
            for named in [before, after].map(|set| set.named.get(action)) {
                for (kind, id) in named.into_iter().flatten() {
                    ask(&mut questions, *action, kind, id);
                }
            }
            let mut add = |resource: String| {
                questions.insert(Question {
                    action: *action,
                    resource,
                });
            };
            match action {
                Action::Register => add(String::new()),
                Action::Publish | Action::StateRead | Action::StateWrite => add(UNNAMED.to_owned()),
                Action::Subscribe => {
                    add("**".to_owned());
                    add(UNNAMED.to_owned());
                }
                Action::Declare => {
                    add(UNNAMED.to_owned());
                    crowd
                        .capabilities
                        .iter()
                        .take(TARGETS_ASKED_MAX)
                        .cloned()
                        .for_each(add);
                }
                Action::Request | Action::Stream | Action::Introduce => {
                    for segments in [1, 3, 4] {
                        add([UNNAMED; 4][..segments].join("/"));
                    }
                    let capabilities = crowd.capabilities.iter().map(String::as_str);
                    let mut services: Vec<_> = crowd.agents.iter().map(AgentName::service).collect();
                    services.dedup();
                    let services = services.into_iter().take(TARGETS_ASKED_MAX);
                    let targets = capabilities.take(TARGETS_ASKED_MAX).chain(services);
                    targets.map(str::to_owned).for_each(add);
                }
            }
        }
        questions
    }

    /// What one agent is asked besides, for policies that compare it with the resource: what is named like itself and what it is in.
    fn own_questions(&self, agent: &AgentName) -> BTreeSet<Question> {
        let mut questions = BTreeSet::new();
        for &action in &self.wide {
            let mut add = |resource: String| {
                questions.insert(Question { action, resource });
            };
            match action {
                Action::Register | Action::Declare => {}
                Action::Publish | Action::StateRead | Action::StateWrite => {
                    levels(agent.as_str()).for_each(|level| add(format!("{level}/{UNNAMED}")));
                }
                Action::Subscribe => levels(agent.as_str()).for_each(|level| add(format!("{level}/**"))),
                Action::Request | Action::Stream | Action::Introduce => {
                    add(agent.service().to_owned());
                    add(agent.to_string());
                }
            }
        }
        questions
    }
}

/// Adds what an action can be asked of an entity that a policy names: the entity, and what is below it.
fn ask(questions: &mut BTreeSet<Question>, action: Action, kind: &str, id: &str) {
    let is = |wanted: Kind| wanted.name() == kind;
    let mut add = |resource: String| {
        questions.insert(Question { action, resource });
    };
    match action {
        Action::Register => add(String::new()),
        Action::Publish if is(Kind::Topic) => below(id).into_iter().for_each(add),
        Action::StateRead | Action::StateWrite if is(Kind::Space) => below(id).into_iter().for_each(add),
        Action::Subscribe if is(Kind::Topic) && id.is_empty() => add("**".to_owned()),
        Action::Subscribe if is(Kind::Topic) => {
            add(id.to_owned());
            add(format!("{id}/**"));
        }
        Action::Declare if is(Kind::Capability) => add(id.to_owned()),
        Action::Request | Action::Stream | Action::Introduce => {
            if is(Kind::Agent) || is(Kind::Capability) {
                add(id.to_owned());
            } else if is(Kind::Service) {
                add(id.to_owned());
                add(format!("{id}/{UNNAMED}"));
            } else if is(Kind::Namespace) {
                add(format!("{id}/{UNNAMED}"));
            } else if is(Kind::Organization) {
                add(format!("{id}/{UNNAMED}/{UNNAMED}"));
            }
        }
        _ => {}
    }
}

/// A topic or space, and what is below it.
fn below(id: &str) -> Vec<String> {
    match id {
        "" => vec![UNNAMED.to_owned()],
        id => vec![id.to_owned(), format!("{id}/{UNNAMED}")],
    }
}

/// As people wrote it.
fn source(policy: &Policy) -> String {
    policy.to_cedar().unwrap_or_else(|| policy.to_string())
}
