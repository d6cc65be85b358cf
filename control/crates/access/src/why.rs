//! Why a decision is what it is, in words for operators.

use cedar_policy::Effect;
use ringgate_policy::AgentName;

use crate::access::{Access, Decision, quoted};
use crate::scene::{Context, Scene};
use crate::vocabulary::{Asked, Kind, Resource};

/// A decision and what led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The decision.
    pub decision: Decision,
    /// The roles that the agent holds, in order.
    pub roles: Vec<String>,
    /// All of it in sentences, one per line.
    pub text: String,
}

impl Access {
    /// Decides, and says why: which policies, by which roles, what came close, and what would change it.
    pub fn why(&self, who: &AgentName, context: &Context, asked: Asked<'_>) -> Explanation {
        let decision = self.decide(who, context, asked);
        let roles: Vec<String> = self
            .grants()
            .roles(who)
            .iter()
            .map(|role| role.to_string())
            .collect();
        let (action, resource) = (asked.action(), asked.resource());
        let mut lines = Vec::new();
        if decision.allowed {
            lines.push(format!(
                "{who} may {action} {resource}: permitted by {}, and nothing forbids it.",
                quoted(&decision.policies)
            ));
        } else {
            let part = decision.part.as_ref();
            let place = part.map_or(String::new(), |part| {
                format!(" because the pattern covers {part}")
            });
            let cause = match decision.policies.is_empty() {
                true => format!("no policy permits it{place}."),
                false => format!(
                    "{} forbids it{place}; a forbid outweighs every permit.",
                    quoted(&decision.policies)
                ),
            };
            lines.push(format!("{who} may not {action} {resource}: {cause}"));
        }
        lines.extend(
            decision
                .failures
                .iter()
                .map(|failure| format!("Could not be evaluated: {failure}.")),
        );
        lines.push(match roles.is_empty() {
            true => "It holds no roles.".to_owned(),
            false => format!("It holds {}.", quoted(&roles)),
        });
        if !decision.allowed && decision.policies.is_empty() {
            let close = self.close(who, context, asked);
            if !close.is_empty() {
                lines.push(format!(
                    "In scope, but with conditions that do not hold: {}.",
                    quoted(&close)
                ));
            }
            lines.push(format!("This would permit it: {}", permit(who, asked)));
        }
        Explanation {
            decision,
            roles,
            text: lines.join("\n"),
        }
    }

    /// Permits whose scope fits the question as a whole.
    fn close(&self, who: &AgentName, context: &Context, asked: Asked<'_>) -> Vec<String> {
        let Ok(scene) = Scene::new(who, context, asked.action, asked.resource, self.grants()) else {
            return Vec::new();
        };
        let cells = self.policies().index.concerning(&scene);
        let permits = cells
            .flat_map(|cell| cell.policies())
            .filter(|policy| policy.effect() == Effect::Permit);
        let mut ids: Vec<String> = permits.map(|policy| policy.id().to_string()).collect();
        ids.sort_unstable();
        ids
    }
}

/// The narrowest policy that permits just this.
fn permit(who: &AgentName, asked: Asked<'_>) -> String {
    let (operator, kind, id) = match asked.resource {
        Resource::Agent(id) => ("==", Kind::Agent, id),
        Resource::Service(id) => ("==", Kind::Service, id),
        Resource::Capability(id) => ("==", Kind::Capability, id),
        Resource::Topic(id) => ("==", Kind::Topic, id),
        Resource::Pattern(pattern) => ("in", Kind::Topic, crate::scene::literal_prefix(pattern)),
        Resource::Space(id) => ("==", Kind::Space, id),
    };
    format!(
        "permit (principal == {}, action == Action::\"{}\", resource {operator} {});",
        Kind::Agent.uid(who.as_str()),
        asked.action(),
        kind.uid(id)
    )
}
