//! Finds the policies that can concern a question without looking at the others.
//!
//! Policies are kept by action, then by the principal and then by the resource of their scope. A scope that names an entity concerns
//! a question only if the asked is that entity or in it, so the few entities that a scene's principal and resource are in are all
//! that must be looked up. `is` is left to Cedar. Each cell is a policy set of its own, made once; verdicts of cells add up because
//! Cedar's decision is "some permit and no forbid" (Cedar 4, "Authorization").

use std::collections::{BTreeSet, HashMap};

use cedar_policy::{
    ActionConstraint, AuthorizationError, Authorizer, Decision, Effect, EntityUid, Policy, PolicySet,
    PrincipalConstraint, ResourceConstraint,
};

use crate::scene::Scene;
use crate::vocabulary::{Action, WORDS};

/// Values by the entity that a scope names.
#[derive(Debug, Clone)]
struct Scoped<T> {
    any: T,
    of: HashMap<EntityUid, T>,
}

impl<T: Default> Default for Scoped<T> {
    fn default() -> Self {
        Self {
            any: T::default(),
            of: HashMap::new(),
        }
    }
}

impl<T: Default> Scoped<T> {
    fn entry(&mut self, scope: Option<EntityUid>) -> &mut T {
        match scope {
            None => &mut self.any,
            Some(uid) => self.of.entry(uid).or_default(),
        }
    }

    fn concerning(&self, uids: &[EntityUid]) -> impl Iterator<Item = &T> {
        let named = uids.iter().filter_map(|uid| self.of.get(uid));
        [&self.any].into_iter().chain(named)
    }
}

/// All policies, by what they concern.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    actions: [Scoped<Scoped<PolicySet>>; Action::ALL.len()],
    /// By principal: topics at which a decision on a subscription may be stricter than above them.
    strict: Scoped<BTreeSet<String>>,
    /// Actions that a policy forbids on something.
    forbidding: [bool; Action::ALL.len()],
}

/// What the policies say to one question.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Ids of permits that hold; unknown when there are forbids.
    pub(crate) permits: Vec<String>,
    /// Ids of forbids that hold.
    pub(crate) forbids: Vec<String>,
    /// Why something could not be evaluated.
    pub(crate) failures: Vec<String>,
}

impl Verdict {
    pub(crate) fn allowed(&self) -> bool {
        self.forbids.is_empty() && !self.permits.is_empty()
    }
}

impl Index {
    pub(crate) fn insert(&mut self, policy: &Policy) {
        for action in actions(policy) {
            self.forbidding[action as usize] |= policy.effect() == Effect::Forbid;
            let cell = self.actions[action as usize]
                .entry(principal(policy))
                .entry(resource(policy));
            // Ids are distinct (checked when parsing), and templates are not taken.
            cell.add(policy.clone())
                .expect("a static policy with an id of its own");
        }
    }

    /// Notes topics at which a policy may refuse a subscription.
    pub(crate) fn note_strict(&mut self, policy: &Policy, topics: impl IntoIterator<Item = String>) {
        self.strict.entry(principal(policy)).extend(topics);
    }

    /// The topics noted of policies that can concern the principal.
    pub(crate) fn strict(&self, scene: &Scene) -> impl Iterator<Item = &str> {
        self.strict
            .concerning(&scene.principals)
            .flatten()
            .map(String::as_str)
    }

    /// The policies whose scope fits, but for `is`.
    pub(crate) fn concerning(&self, scene: &Scene) -> impl Iterator<Item = &PolicySet> {
        self.actions[scene.action as usize]
            .concerning(&scene.principals)
            .flat_map(|resources| resources.concerning(&scene.resources))
            .filter(|cell| !cell.is_empty())
    }

    /// Whether a policy forbids this action on anything.
    pub(crate) fn may_forbid(&self, action: Action) -> bool {
        self.forbidding[action as usize]
    }

    pub(crate) fn judge(&self, scene: &Scene) -> Verdict {
        let mut verdict = Verdict::default();
        for cell in self.concerning(scene) {
            verdict.add(cell, scene);
        }
        verdict.permits.sort_unstable();
        verdict.forbids.sort_unstable();
        verdict
    }
}

impl Verdict {
    fn add(&mut self, cell: &PolicySet, scene: &Scene) {
        let response = Authorizer::new().is_authorized(&scene.request, cell, &scene.entities);
        let held = response.diagnostics().reason().map(|id| id.to_string());
        match response.decision() {
            Decision::Allow => self.permits.extend(held),
            Decision::Deny => self.forbids.extend(held),
        }
        for error in response.diagnostics().errors() {
            let AuthorizationError::PolicyEvaluationError(failed) = error;
            self.failures.push(error.to_string());
            let id = failed.policy_id();
            // Cedar skips what fails. A forbid that is skipped would give a right away, so here it forbids.
            if cell
                .policy(id)
                .is_none_or(|policy| policy.effect() == Effect::Forbid)
            {
                self.forbids.push(id.to_string());
            }
        }
    }
}

/// The actions a policy can concern, groups resolved.
pub(crate) fn actions(policy: &Policy) -> Vec<Action> {
    let named = match policy.action_constraint() {
        ActionConstraint::Any => return Action::ALL.to_vec(),
        ActionConstraint::Eq(uid) => vec![uid],
        ActionConstraint::In(uids) => uids,
    };
    Action::ALL
        .into_iter()
        .filter(|&action| {
            WORDS.scopes[action as usize]
                .iter()
                .any(|uid| named.contains(uid))
        })
        .collect()
}

pub(crate) fn principal(policy: &Policy) -> Option<EntityUid> {
    match policy.principal_constraint() {
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
        PrincipalConstraint::In(uid) | PrincipalConstraint::Eq(uid) | PrincipalConstraint::IsIn(_, uid) => {
            Some(uid)
        }
    }
}

pub(crate) fn resource(policy: &Policy) -> Option<EntityUid> {
    match policy.resource_constraint() {
        ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
        ResourceConstraint::In(uid) | ResourceConstraint::Eq(uid) | ResourceConstraint::IsIn(_, uid) => {
            Some(uid)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;
    use ringgate_policy::{AgentName, matches};

    use super::*;
    use crate::{Access, Asked, Context, Credential, Grants};

    const PRINCIPALS: &[&str] = &[
        "principal",
        "principal == Agent::\"acme/demo/weather/1\"",
        "principal in Service::\"acme/demo/weather\"",
        "principal in Namespace::\"acme/demo\"",
        "principal in Organization::\"acme\"",
        "principal in Role::\"lead\"",
        "principal is Agent",
        "principal is Agent in Role::\"staff\"",
    ];
    const ACTIONS: &[&str] = &[
        "action",
        "action == Action::\"subscribe\"",
        "action in Action::\"topics\"",
        "action in [Action::\"publish\", Action::\"reach\"]",
    ];
    const RESOURCES: &[&str] = &[
        "resource",
        "resource == Topic::\"a\"",
        "resource == Topic::\"a/b\"",
        "resource in Topic::\"\"",
        "resource in Topic::\"a\"",
        "resource in Topic::\"a/b\"",
        "resource in Topic::\"a/b/a\"",
        "resource is Topic in Topic::\"b\"",
        "resource in Namespace::\"acme/demo\"",
        "resource in Role::\"staff\"",
        "resource == Capability::\"forecast\"",
        "resource is Service",
    ];
    const CONDITIONS: &[&str] = &[
        "",
        "",
        "when { context.node == \"n1\" }",
        "when { principal in Role::\"lead\" }",
        "unless { resource in Topic::\"b/a\" }",
        "when { resource == Topic::\"b\" }",
        "when { resource in principal.organization.topics }",
        "unless { resource in principal.topics }",
        "when { 9223372036854775807 + 1 > 0 }",
    ];
    const QUESTIONS: &[(Action, &str)] = &[
        (Action::Register, ""),
        (Action::Publish, "a/b"),
        (Action::Publish, "b/a/b"),
        (Action::Subscribe, "a"),
        (Action::Subscribe, "a/*"),
        (Action::Subscribe, "acme/demo/x"),
        (Action::Request, "acme/demo/weather"),
        (Action::Request, "acme/demo/weather/2"),
        (Action::Stream, "forecast"),
        (Action::StateRead, "acme/x"),
    ];
    const PATTERNS: &[&str] = &[
        "**", "a/**", "a/*", "*/a", "*/b/**", "a/b/*", "b/*/*", "acme/**", "*/*",
    ];

    fn policy() -> impl Strategy<Value = String> {
        let effect = select(&["permit", "permit", "forbid"][..]);
        (
            effect,
            select(PRINCIPALS),
            select(ACTIONS),
            select(RESOURCES),
            select(CONDITIONS),
        )
            .prop_map(|(effect, principal, action, resource, condition)| {
                format!("{effect} ({principal}, {action}, {resource}) {condition};")
            })
    }

    /// Combinations that make no sense are refused; sets are made of those that do.
    fn policies() -> impl Strategy<Value = crate::PolicySet> {
        prop::collection::vec(policy(), 1..12).prop_map(|texts| {
            let sound: Vec<_> = texts
                .iter()
                .filter(|text| crate::PolicySet::parse(text).is_ok())
                .cloned()
                .collect();
            crate::PolicySet::parse(&sound.join("\n")).expect("each is sound")
        })
    }

    fn grants() -> Grants {
        let mut grants = Grants::default();
        grants.set("acme", ["staff"]).expect("valid");
        grants.set("acme/demo/weather", ["lead"]).expect("valid");
        grants
    }

    fn agent() -> impl Strategy<Value = AgentName> {
        select(&["acme/demo/weather/1", "acme/demo/other/1", "b/a/x/1"][..])
            .prop_map(|name| AgentName::new(name).expect("valid"))
    }

    proptest! {
        #[test]
        fn the_slice_decides_as_the_whole_set(policies in policies(), who in agent(), (action, resource) in select(QUESTIONS)) {
            let context = Context::new(Credential::Token, "n1");
            let asked = Asked::new(&who, action, resource).expect("valid");
            let scene = Scene::new(&who, &context, action, asked.resource, &grants()).expect("sound");
            let mut whole = Verdict::default();
            whole.add(&policies.policies, &scene);
            let slice = policies.index.judge(&scene);
            whole.forbids.sort_unstable();
            prop_assert_eq!(slice.allowed(), whole.allowed());
            prop_assert_eq!(&slice.forbids, &whole.forbids);
            prop_assert_eq!(slice.failures.len(), whole.failures.len());
            if whole.forbids.is_empty() {
                whole.permits.sort_unstable();
                prop_assert_eq!(slice.permits, whole.permits);
            }
        }

        #[test]
        fn an_allowed_pattern_matches_only_allowed_topics(
            policies in policies(), generous in any::<bool>(), who in agent(), pattern in select(PATTERNS),
        ) {
            let base = if generous { "permit (principal, action, resource);" } else { "" };
            let policies = crate::PolicySet::parse(&format!("{}{base}", policies.text())).expect("sound");
            let access = Access::new(policies.into(), grants());
            let context = Context::new(Credential::Token, "n1");
            let may = |resource: &str| {
                let asked = Asked::new(&who, Action::Subscribe, resource).expect("valid");
                access.decide(&who, &context, asked).allowed
            };
            if may(pattern) {
                for topic in topics().iter().filter(|topic| matches(pattern, topic)) {
                    prop_assert!(may(topic), "{pattern} is allowed, {topic} is not");
                }
            }
        }
    }

    fn topics() -> Vec<String> {
        let mut topics = vec![
            "acme/demo/weather/1".to_owned(),
            "acme/demo/x".to_owned(),
            "acme/x".to_owned(),
        ];
        let mut level = vec![String::new()];
        for _ in 0..4 {
            level = level
                .iter()
                .flat_map(|topic| ["a", "b", "z"].map(|segment| format!("{topic}/{segment}")))
                .collect();
            topics.extend(level.iter().map(|topic| topic[1..].to_owned()));
        }
        topics
    }
}
