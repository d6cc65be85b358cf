//! The dry run: what other policies would change, for the agents there are.

use std::collections::BTreeSet;
use std::sync::Arc;

use ringgate_access::{Access, Bounds, Change, Comparison, Crowd, Grants, compare};
use ringgate_identity::Subject;
use ringgate_policy::AgentName;
use ringgate_proto::control::v1::registry_server::Registry as _;
use ringgate_proto::control::v1::{
    ApplyPolicyRequest, CheckPolicyResponse, DecisionChange, Grant, ListAgentsRequest, PolicyProblem,
};
use tonic::{Request, Status};

use super::{PolicyService, check_version, circumstances, enter, problem};
use crate::errors::store_refusal;
use crate::keys;

/// Agents that one check considers: as many as one installation is built for.
const AGENTS_MAX: usize = 100_000;
/// Questions that one check asks, each decided twice: some seconds of one core.
const DECISIONS_MAX: usize = 100_000;
/// Bytes of the names of the changes that one check tells, so that the answer stays below the 4 MiB that clients take.
const LISTED_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Pages of the issuance log's index that are read for one check, and entries of each. A page at least passes one identity.
const PAGES_MAX: usize = 4_000;
const PAGE_ENTRIES: usize = 64;
/// Stands for agents that there are none of yet, below a name that has roles.
const SOMEBODY: &str = "(any other)";

impl PolicyService {
    pub(super) async fn check(&self, request: ApplyPolicyRequest) -> Result<CheckPolicyResponse, Status> {
        check_version(request.expect_version, self.in_force().await?.version)?;
        // First, so that the set read last stays the one in force.
        let proposed = self.parse(request.text).await?;
        let (_, policies) = self.deciding().await?;
        let proposed = match proposed {
            Ok(proposed) => proposed,
            Err(problems) => {
                return Ok(CheckPolicyResponse {
                    problems: problems.iter().map(problem).collect(),
                    ..CheckPolicyResponse::default()
                });
            }
        };
        let mut problems: Vec<_> = proposed.warnings().iter().map(problem).collect();
        let grants = self.all_grants().await?;
        let (crowd, complete) = self.crowd(&grants).await?;
        let now = Access::new(policies, grants);
        let found = self.working(move || compared(&now, proposed, &crowd)).await?;
        problems.extend(limits_met(&found, complete));
        Ok(CheckPolicyResponse {
            problems,
            agents_examined: found.agents_examined as u64,
            decisions_examined: found.decisions_examined as u64,
            changes: found.changes.into_iter().map(told).collect(),
        })
    }

    async fn all_grants(&self) -> Result<Grants, Status> {
        let all = self.context.store.all(&keys::GRANTS.prefix()).await;
        let (entries, _) = all.map_err(|error| store_refusal(&error))?;
        let mut grants = Grants::default();
        for entry in &entries {
            let stored = keys::decode::<Grant>(entry).map_err(|error| store_refusal(&error))?;
            enter(&mut grants, Some(&stored.value));
        }
        Ok(grants)
    }

    /// Agents that are there, then those that were ever certified, and somebody for each name that has roles; whether these are
    /// all.
    async fn crowd(&self, grants: &Grants) -> Result<(Crowd, bool), Status> {
        let mut crowd = Crowd::default();
        let mut complete = self.present(&mut crowd).await?;
        complete &= self.certified(&mut crowd.agents).await?;
        for (name, _) in grants.iter() {
            complete &= crowd.agents.len() < AGENTS_MAX;
            if complete {
                crowd.agents.extend(somebody(name));
            }
        }
        Ok((crowd, complete))
    }

    /// Adds the agents that are there, and what they can do; whether all had room.
    async fn present(&self, crowd: &mut Crowd) -> Result<bool, Status> {
        let mut request = ListAgentsRequest::default();
        while crowd.agents.len() < AGENTS_MAX {
            let page = self
                .registry
                .list_agents(Request::new(request.clone()))
                .await?
                .into_inner();
            for agent in page.agents {
                crowd.agents.extend(AgentName::new(&agent.name).ok());
                crowd.capabilities.extend(agent.capabilities);
            }
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Adds agents that were ever certified; whether all had room.
    async fn certified(&self, agents: &mut BTreeSet<AgentName>) -> Result<bool, Status> {
        let mut beyond = String::new();
        for _ in 0..PAGES_MAX {
            if agents.len() >= AGENTS_MAX {
                return Ok(false);
            }
            let page = keys::ISSUED_IDENTITIES
                .page(&*self.context.store, &beyond, PAGE_ENTRIES)
                .await;
            let page = page.map_err(|error| store_refusal(&error))?;
            let mut last = "";
            for (key, _) in &page.items {
                let Some((uri, _)) = key.rsplit_once("%/") else {
                    continue;
                };
                if uri != last {
                    let subject = Subject::parse(uri).ok().map(|(_, subject)| subject);
                    agents.extend(subject.and_then(|subject| subject.agent_name()));
                }
                last = uri;
            }
            if !page.more {
                return Ok(true);
            }
            // Past all other certificates of the last one: `~` is after `/`.
            beyond = format!("{last}%~");
        }
        Ok(false)
    }
}

fn compared(now: &Access, proposed: Arc<ringgate_access::PolicySet>, crowd: &Crowd) -> Comparison {
    let bounds = Bounds {
        decisions_max: DECISIONS_MAX,
        listed_bytes_max: LISTED_BYTES_MAX,
    };
    compare(now, proposed, &circumstances(), crowd, bounds)
}

/// An agent at or below a name.
fn somebody(name: &str) -> Option<AgentName> {
    let missing = 4_usize.checked_sub(name.split('/').count())?;
    let rest = format!("/{SOMEBODY}").repeat(missing);
    AgentName::new(&format!("{name}{rest}")).ok()
}

/// What the answer leaves out, in words.
fn limits_met(found: &Comparison, complete: bool) -> Vec<PolicyProblem> {
    let mut notes = Vec::new();
    if found.agents_examined < found.agents_concerned {
        notes.push(format!(
            "of {} agents that this concerns, {} were examined: those that differ by service or roles first",
            found.agents_concerned, found.agents_examined
        ));
    }
    if !complete {
        notes.push("there are more agents than were considered".to_owned());
    }
    if found.unlisted > 0 {
        notes.push(format!(
            "{} more decisions would change than are listed",
            found.unlisted
        ));
    }
    let note = |message| PolicyProblem {
        message,
        ..PolicyProblem::default()
    };
    notes.into_iter().map(note).collect()
}

fn told(change: Change) -> DecisionChange {
    DecisionChange {
        agent: change.agent.to_string(),
        action: change.question.action.to_string(),
        resource: change.question.resource,
        allowed_before: change.allowed_before,
        allowed_after: !change.allowed_before,
    }
}
