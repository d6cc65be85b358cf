//! Access control as operators see it: policies, the roles they speak of, and questions about both.
//!
//! A set of policies is replaced as a whole, and only by one that [`ringgate_access`] takes: what is stored can be served. Data
//! planes learn of it by the store's watch, like everything else they are given. Nothing is kept in memory but the last set that was
//! read, so an answer is as new as the store.

mod change;
mod check;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ringgate_access::{Access, Action, Asked, Context as Circumstances, Credential, Grants, Problem, levels};
use ringgate_policy::AgentName;
use ringgate_proto::control::v1::policy_server::Policy;
use ringgate_proto::control::v1::{
    ApplyPolicyRequest, ApplyPolicyResponse, CheckPolicyResponse, GetPolicyRequest, Grant, ListGrantsRequest,
    ListGrantsResponse, PolicyProblem, PolicySet, SetGrantRequest, SetGrantResponse, WhyRequest, WhyResponse,
};
use tokio::sync::Semaphore;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::caller::Caller;
use crate::context::Context;
use crate::errors::{DOMAIN, refusal, refusal_with, store_refusal};
use crate::keys::{self, Stored};
use crate::registry::Registry;
use change::{Apply, SetGrant};

/// Policies that are kept, the one in force included: at the largest, 100 MiB.
pub const HISTORY_MAX: u64 = 200;
/// Sets read and dry runs made at once. Each takes a core for seconds at the largest; others wait.
const WORK_AT_ONCE: usize = 2;
/// Problems that a refusal tells; a header holds so much. The check tells all.
const PROBLEMS_TOLD_MAX: usize = 16;
/// Bytes of one problem in a refusal.
const PROBLEM_BYTES_MAX: usize = 256;

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PolicyService {
    context: Context,
    registry: Registry,
    work: Arc<Semaphore>,
    /// The set that was read last: most questions are about the one in force.
    last: Arc<Mutex<Option<Arc<ringgate_access::PolicySet>>>>,
}

/// A set that can be decided by, or what is wrong with its text.
type Parsed = Result<Arc<ringgate_access::PolicySet>, Vec<Problem>>;

impl PolicyService {
    /// The service over a store. The registry says for whom a dry run is made.
    #[must_use]
    pub fn new(context: Context, registry: Registry) -> PolicyService {
        PolicyService {
            context,
            registry,
            work: Arc::new(Semaphore::new(WORK_AT_ONCE)),
            last: Arc::default(),
        }
    }

    /// The policies in force; none before any were applied.
    async fn in_force(&self) -> Result<PolicySet, Status> {
        let stored = keys::policy().get(&*self.context.store).await;
        let stored = stored.map_err(|error| store_refusal(&error))?;
        Ok(stored.map_or_else(PolicySet::default, |stored| stored.value))
    }

    /// The policies in force, ready to decide by.
    async fn deciding(&self) -> Result<(u64, Arc<ringgate_access::PolicySet>), Status> {
        let PolicySet { text, version } = self.in_force().await?;
        match self.parse(text).await? {
            Ok(policies) => Ok((version, policies)),
            Err(problems) => Err(refusal(
                Code::FailedPrecondition,
                "POLICY_UNREADABLE",
                format!(
                    "this version of the control process does not take the policies in force (version {version}): {}; apply others",
                    first(&problems)
                ),
            )),
        }
    }

    /// Reads policies, on a thread that may be busy for long.
    async fn parse(&self, text: String) -> Result<Parsed, Status> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(last) = last
            && **last.text() == *text
        {
            return Ok(Ok(last));
        }
        let parsed: Parsed = self
            .working(move || ringgate_access::PolicySet::parse(&text).map(Arc::new))
            .await?;
        if let Ok(policies) = &parsed {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(policies.clone());
        }
        Ok(parsed)
    }

    /// Does long work, of which only so much is done at once.
    async fn working<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        let ending = || Status::unavailable("the control process is ending; repeat");
        let permit = self.work.clone().acquire_owned().await.map_err(|_| ending())?;
        // The permit goes along: whoever stops waiting does not stop the work.
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        done.await.map_err(|_| ending())
    }

    async fn version(&self, version: u64) -> Result<PolicySet, Status> {
        let store = &*self.context.store;
        let stored = keys::policy_version(version).get(store).await;
        match stored.map_err(|error| store_refusal(&error))? {
            Some(stored) => Ok(stored.value),
            None => {
                let newest = self.in_force().await?.version;
                Err(refusal(
                    Code::NotFound,
                    "NOT_FOUND",
                    format!(
                        "there is no version {version} of the policies: the newest is {newest}, and {HISTORY_MAX} are kept"
                    ),
                ))
            }
        }
    }

    async fn apply(
        &self,
        caller: &Caller,
        request: ApplyPolicyRequest,
    ) -> Result<ApplyPolicyResponse, Status> {
        let digest = change::digest(&request.text);
        caller.about("policy", format!("sha256 {digest}"));
        let policies = match self.parse(request.text.clone()).await? {
            Ok(policies) => policies,
            Err(problems) => return Err(invalid(&problems)),
        };
        let detail = format!("{} policies, sha256 {digest}", policies.len());
        caller.about("policy", detail);
        let step = Apply {
            text: request.text,
            expect_version: request.expect_version,
            audit: caller.entry("ok"),
        };
        let (version, _) = self.context.ledger.take(step).await?;
        caller.set_recorded();
        Ok(ApplyPolicyResponse { version })
    }

    async fn explain(&self, request: WhyRequest) -> Result<WhyResponse, Status> {
        let (agent, action) = (request.agent.as_str(), request.action.as_str());
        let wrong = |reason: &str, sentence: String| refusal(Code::InvalidArgument, reason, sentence);
        let who = AgentName::new(agent).map_err(|error| {
            wrong(
                "AGENT_MALFORMED",
                format!("{agent:?} is no agent's name: {error}"),
            )
        })?;
        let action: Action = action
            .parse()
            .map_err(|error: ringgate_access::UnknownAction| wrong("ACTION_UNKNOWN", error.to_string()))?;
        let asked = Asked::new(&who, action, &request.resource)
            .map_err(|error| wrong("RESOURCE_MALFORMED", error.to_string()))?;
        let (_, policies) = self.deciding().await?;
        let mut names: BTreeSet<&str> = levels(who.as_str()).collect();
        // Policies may ask for the roles of the one who is reached. Of other resources nobody holds any.
        names.extend(levels(&request.resource));
        let access = Access::new(policies, self.grants_of(names).await?);
        let explained = access.why(&who, &circumstances(), asked);
        Ok(WhyResponse {
            allowed: explained.decision.allowed,
            policies: explained.decision.policies,
            explanation: explained.text,
            roles: explained.roles,
        })
    }

    /// The grants of these names alone.
    async fn grants_of(&self, names: BTreeSet<&str>) -> Result<Grants, Status> {
        let mut grants = Grants::default();
        for name in names.into_iter().filter(|name| is_grantable(name)) {
            let stored = keys::grant(name).get(&*self.context.store).await;
            let stored = stored.map_err(|error| store_refusal(&error))?;
            enter(&mut grants, stored.map(|stored| stored.value).as_ref());
        }
        Ok(grants)
    }

    async fn grant(&self, caller: &Caller, grant: Option<Grant>) -> Result<SetGrantResponse, Status> {
        let Grant { name, roles } = grant.unwrap_or_default();
        caller.about(format!("grant {name}"), format!("roles: {}", roles.join(", ")));
        let mut checked = Grants::default();
        checked
            .set(&name, &roles)
            .map_err(|error| refusal(Code::InvalidArgument, "GRANT_MALFORMED", error.to_string()))?;
        let roles = checked.of(&name).iter().map(|role| role.to_string()).collect();
        let step = SetGrant {
            grant: Grant { name, roles },
            audit: caller.entry("ok"),
        };
        let ((), revision) = self.context.ledger.take(step).await?;
        caller.set_recorded();
        Ok(SetGrantResponse { version: revision.0 })
    }

    /// A page may be shorter than asked for, as names whose roles were taken away are left out.
    async fn list_grants_page(&self, request: &ListGrantsRequest) -> Result<ListGrantsResponse, Status> {
        let max = self.context.settings.limits.page_size_max as usize;
        let limit = match request.page_size as usize {
            0 => max,
            size => size.min(max),
        };
        let page = keys::GRANTS
            .page(&*self.context.store, &request.page_token, limit)
            .await;
        let page = page.map_err(|error| store_refusal(&error))?;
        let next_page_token = match page.items.last() {
            Some((name, _)) if page.more => name.clone(),
            _ => String::new(),
        };
        let grants = page.items.into_iter().map(|(_, Stored { value, .. })| value);
        Ok(ListGrantsResponse {
            grants: grants.filter(|grant| !grant.roles.is_empty()).collect(),
            next_page_token,
        })
    }
}

/// What is asked for people is asked as of an agent with a certificate, on no node in particular.
fn circumstances() -> Circumstances {
    Circumstances::new(Credential::Certificate, "")
}

/// Whether a name can be given roles at all. Other resources are topics, which are not looked up.
fn is_grantable(name: &str) -> bool {
    Grants::default().set(name, ["role"]).is_ok()
}

/// Enters a grant as it is stored: checked when it was made.
fn enter(grants: &mut Grants, grant: Option<&Grant>) {
    if let Some(grant) = grant
        && let Err(error) = grants.set(&grant.name, &grant.roles)
    {
        tracing::warn!(name = grant.name, %error, "a grant in the store is left out");
    }
}

/// The first problem for which a text is refused.
fn first(problems: &[Problem]) -> String {
    let fatal = problems.iter().find(|problem| problem.fatal);
    fatal
        .or(problems.first())
        .map(Problem::to_string)
        .unwrap_or_default()
}

/// The refusal of a text: the first problem in the sentence, as `line:column: …`, and the others in `google.rpc.BadRequest`.
fn invalid(problems: &[Problem]) -> Status {
    let fatal: Vec<&Problem> = problems.iter().filter(|problem| problem.fatal).collect();
    let mut about = std::collections::HashMap::new();
    if let Some(problem) = fatal.first() {
        about.insert("line".to_owned(), problem.line.to_string());
        about.insert("column".to_owned(), problem.column.to_string());
        about.insert("policy".to_owned(), problem.policy.clone());
    }
    let mut details = ErrorDetails::with_error_info("POLICY_INVALID", DOMAIN, about);
    for problem in fatal.iter().take(PROBLEMS_TOLD_MAX) {
        let place = format!("text:{}:{}", problem.line, problem.column);
        details.add_bad_request_violation(place, cut(&problem.message, PROBLEM_BYTES_MAX));
    }
    let more = match fatal.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let sentence = cut(&first(problems), 2 * PROBLEM_BYTES_MAX);
    Status::with_error_details(Code::InvalidArgument, format!("{sentence}{more}"), details)
}

fn cut(text: &str, bytes_max: usize) -> String {
    match text.len() > bytes_max {
        true => format!("{}…", &text[..text.floor_char_boundary(bytes_max)]),
        false => text.to_owned(),
    }
}

/// Refuses what expects another version than the one in force.
fn check_version(expected: u64, in_force: u64) -> Result<(), Status> {
    if expected == 0 || expected == in_force {
        return Ok(());
    }
    Err(refusal_with(
        Code::Aborted,
        "VERSION_CONFLICT",
        format!(
            "version {in_force} of the policies is in force, not {expected}: get it, bring your change in and repeat"
        ),
        [("version", in_force.to_string())],
    ))
}

/// A problem as callers are told of it.
fn problem(problem: &Problem) -> PolicyProblem {
    PolicyProblem {
        line: problem.line,
        column: problem.column,
        policy: problem.policy.clone(),
        message: problem.message.clone(),
        fatal: problem.fatal,
    }
}

#[async_trait]
impl Policy for PolicyService {
    async fn get_policy(&self, request: Request<GetPolicyRequest>) -> Result<Response<PolicySet>, Status> {
        let policies = match request.get_ref().version {
            0 => self.in_force().await,
            version => self.version(version).await,
        };
        policies.map(Response::new)
    }

    async fn apply_policy(
        &self,
        request: Request<ApplyPolicyRequest>,
    ) -> Result<Response<ApplyPolicyResponse>, Status> {
        let caller = Caller::of(&request)?;
        self.apply(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn check_policy(
        &self,
        request: Request<ApplyPolicyRequest>,
    ) -> Result<Response<CheckPolicyResponse>, Status> {
        self.check(request.into_inner()).await.map(Response::new)
    }

    async fn why(&self, request: Request<WhyRequest>) -> Result<Response<WhyResponse>, Status> {
        self.explain(request.into_inner()).await.map(Response::new)
    }

    async fn set_grant(
        &self,
        request: Request<SetGrantRequest>,
    ) -> Result<Response<SetGrantResponse>, Status> {
        let caller = Caller::of(&request)?;
        self.grant(&caller, request.into_inner().grant)
            .await
            .map(Response::new)
    }

    async fn list_grants(
        &self,
        request: Request<ListGrantsRequest>,
    ) -> Result<Response<ListGrantsResponse>, Status> {
        self.list_grants_page(request.get_ref()).await.map(Response::new)
    }
}
