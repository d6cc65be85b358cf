//! Policies and grants together: what decides.

use std::sync::Arc;

use ringgate_policy::{AgentName, Denial, Permission};

use crate::grants::{Grants, levels};
use crate::index::Verdict;
use crate::policies::PolicySet;
use crate::scene::{Context, Scene};
use crate::vocabulary::{Asked, Resource, of_permission};
use crate::witness::{Part, parts};

/// Who may do what. A clone shares everything; change a clone and put it in the old one's place.
#[derive(Debug, Clone)]
pub struct Access {
    policies: Arc<PolicySet>,
    grants: Grants,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The policies that decided, in order: permits of what is allowed, forbids of what is not. None: no policy permits it.
    pub policies: Vec<String>,
    /// Of a pattern with wildcards: the topic or pattern within it that is refused, where it is not refused as a whole.
    pub part: Option<String>,
    /// What could not be evaluated, in Cedar's words.
    pub failures: Vec<String>,
}

impl Access {
    /// Decides by these.
    pub fn new(policies: Arc<PolicySet>, grants: Grants) -> Self {
        Self { policies, grants }
    }

    /// The policies.
    pub fn policies(&self) -> &Arc<PolicySet> {
        &self.policies
    }

    /// The grants.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Puts other policies in the place of these.
    pub fn set_policies(&mut self, policies: Arc<PolicySet>) {
        self.policies = policies;
    }

    /// The grants, to be changed.
    pub fn grants_mut(&mut self) -> &mut Grants {
        &mut self.grants
    }

    /// Decides one action of an agent.
    ///
    /// # Errors
    /// [`Denial`] with words for the agent: the action, the resource, why, and what to do.
    pub fn check(&self, who: &AgentName, context: &Context, what: Permission<'_>) -> Result<(), Denial> {
        let Some((action, resource)) = of_permission(what) else {
            return Err(Denial {
                reason: format!("{what:?} is not known to the policies of this gateway; update it"),
                forbidden: true,
            });
        };
        match Asked::new(who, action, resource) {
            Err(unfit) => Err(Denial {
                reason: format!("{who} may not {action}: {unfit}"),
                forbidden: true,
            }),
            Ok(asked) => {
                let decision = self.decide(who, context, asked);
                match decision.allowed {
                    true => Ok(()),
                    false => Err(Denial {
                        reason: decision.refusal(who, asked),
                        // What could not be decided counts as forbidden.
                        forbidden: !decision.policies.is_empty() || !decision.failures.is_empty(),
                    }),
                }
            }
        }
    }

    /// Whether a policy forbids this action on anything.
    pub fn may_forbid(&self, what: Permission<'_>) -> bool {
        of_permission(what).is_none_or(|(action, _)| self.policies.index.may_forbid(action))
    }

    /// Decides one question.
    pub fn decide(&self, who: &AgentName, context: &Context, asked: Asked<'_>) -> Decision {
        let ask = |resource: Resource<'_>| Scene::new(who, context, asked.action, resource, &self.grants);
        let scene = match ask(asked.resource) {
            Ok(scene) => scene,
            Err(failure) => return Decision::failed(failure),
        };
        let whole = Decision::of(self.policies.index.judge(&scene), None);
        let Resource::Pattern(pattern) = asked.resource else {
            return whole;
        };
        if !whole.allowed {
            return whole;
        }
        let own = levels(who.as_str()).filter(|_| self.policies.own_topics);
        for part in parts(pattern, self.policies.index.strict(&scene).chain(own)) {
            let resource = match &part {
                Part::At(topic) => Resource::Topic(topic),
                Part::Below(pattern) => Resource::Pattern(pattern),
            };
            let verdict = match ask(resource) {
                Ok(scene) => self.policies.index.judge(&scene),
                Err(failure) => return Decision::failed(failure),
            };
            if !verdict.allowed() {
                let (Part::At(text) | Part::Below(text)) = part;
                return Decision::of(verdict, Some(text));
            }
        }
        whole
    }
}

impl Decision {
    fn of(verdict: Verdict, part: Option<String>) -> Self {
        let allowed = verdict.allowed();
        Self {
            allowed,
            policies: match allowed {
                true => verdict.permits,
                false => verdict.forbids,
            },
            part,
            failures: verdict.failures,
        }
    }

    fn failed(failure: String) -> Self {
        Self {
            allowed: false,
            policies: Vec::new(),
            part: None,
            failures: vec![failure],
        }
    }

    /// A refusal in one sentence: who, what, why, and what to do.
    pub(crate) fn refusal(&self, who: &AgentName, asked: Asked<'_>) -> String {
        let (action, resource) = (asked.action(), asked.resource());
        let part = match &self.part {
            Some(part) => format!(" (at {part}, which the pattern covers)"),
            None => String::new(),
        };
        let cause = match self.policies.is_empty() {
            true => "no policy permits it".to_owned(),
            false => format!("forbidden by {}", quoted(&self.policies)),
        };
        let remedy =
            format!("ask the operator, who sees more by `ringgate policy why {who} {action} '{resource}'`");
        format!("{who} may not {action} {resource}{part}: {cause}; {remedy}")
    }
}

/// `a`, `b`.
pub(crate) fn quoted(ids: &[String]) -> String {
    let ids: Vec<_> = ids.iter().map(|id| format!("`{id}`")).collect();
    ids.join(", ")
}
