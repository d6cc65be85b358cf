//! `ringgate policy`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Subcommand;
use ringgate_proto::control::v1::policy_client::PolicyClient;
use ringgate_proto::control::v1::{
    ApplyPolicyRequest, CheckPolicyResponse, DecisionChange, GetPolicyRequest, Grant, ListGrantsRequest,
    PolicyProblem, SetGrantRequest, WhyRequest,
};
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::config::read;
use crate::output::Output;
use crate::session::{Where, told, told_of};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the policies in force.
    Show {
        /// Earlier ones.
        #[arg(id = "number", value_name = "VERSION", default_value_t = 0)]
        version: u64,
    },
    /// Check policies and put them in force, in place of all that were.
    Apply {
        /// Cedar; `-` reads the standard input.
        file: PathBuf,
        /// Refuse if the version in force is another one than this.
        #[arg(long, default_value_t = 0, value_name = "VERSION")]
        expect: u64,
    },
    /// Say what is wrong with policies, and for whom applying them would change what. Changes nothing.
    Check {
        /// Cedar; `-` reads the standard input.
        file: PathBuf,
    },
    /// Say whether an agent may do something, and why.
    Why {
        /// The agent: organization/namespace/service/instance.
        agent: String,
        /// register, declare, publish, subscribe, request, stream, introduce, state_read or state_write.
        action: String,
        /// What it is done to: a topic, pattern, agent, service, capability or space. Nothing for register.
        #[arg(default_value = "")]
        resource: String,
    },
    /// Give everyone at or below a name these roles, in place of those given to it before.
    Grant {
        /// One to four segments: organization/namespace/service/instance.
        name: String,
        /// The roles.
        #[arg(required_unless_present = "none", conflicts_with = "none")]
        roles: Vec<String>,
        /// Take all roles away from the name.
        #[arg(long)]
        none: bool,
    },
    /// List the names that have roles.
    Grants,
}

pub(crate) async fn run(at: &Where, out: Output, command: Command) -> Result<()> {
    let mut client = PolicyClient::new(at.connect().await?);
    match command {
        Command::Show { version } => {
            let request = GetPolicyRequest { version };
            let policies = client.get_policy(request).await.map_err(told)?.into_inner();
            match out.json {
                true => out.one(vec![
                    ("version", json!(policies.version)),
                    ("text", json!(policies.text)),
                ]),
                // As it is, so that it can be kept in a file and applied again.
                false => print!("{}", policies.text),
            }
            Ok(())
        }
        Command::Apply { file, expect } => apply(&mut client, out, &file, expect).await,
        Command::Check { file } => {
            let request = ApplyPolicyRequest {
                text: read(&file)?,
                expect_version: 0,
            };
            let found = client.check_policy(request).await.map_err(told)?.into_inner();
            checked(out, &file, found)
        }
        Command::Why {
            agent,
            action,
            resource,
        } => {
            let request = WhyRequest {
                agent,
                action,
                resource,
            };
            let why = client.why(request).await.map_err(told)?.into_inner();
            match out.json {
                true => out.one(vec![
                    ("allowed", json!(why.allowed)),
                    ("policies", json!(why.policies)),
                    ("roles", json!(why.roles)),
                    ("explanation", json!(why.explanation)),
                ]),
                false => println!("{}", why.explanation),
            }
            Ok(())
        }
        Command::Grant { name, roles, .. } => {
            let grant = Some(Grant { name, roles });
            client.set_grant(SetGrantRequest { grant }).await.map_err(told)?;
            Ok(())
        }
        Command::Grants => grants(&mut client, out).await,
    }
}

async fn apply(client: &mut PolicyClient<Channel>, out: Output, file: &Path, expect: u64) -> Result<()> {
    let request = ApplyPolicyRequest {
        text: read(file)?,
        expect_version: expect,
    };
    let version = client
        .apply_policy(request)
        .await
        .map_err(|status| told_of(file, status))?
        .into_inner()
        .version;
    match out.json {
        true => out.one(vec![("version", json!(version))]),
        false => println!("version {version} is in force"),
    }
    Ok(())
}

async fn grants(client: &mut PolicyClient<Channel>, out: Output) -> Result<()> {
    let mut rows: Vec<Vec<Value>> = Vec::new();
    let mut request = ListGrantsRequest::default();
    loop {
        let page = client
            .list_grants(request.clone())
            .await
            .map_err(told)?
            .into_inner();
        let row = |grant: Grant| vec![json!(grant.name), json!(grant.roles)];
        rows.extend(page.grants.into_iter().map(row));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    out.list(&["name", "roles"], rows);
    Ok(())
}

/// Prints what a check found. It fails where the policies would be refused, so that a script notices.
fn checked(out: Output, file: &Path, found: CheckPolicyResponse) -> Result<()> {
    let refused = found.problems.iter().filter(|problem| problem.fatal).count();
    if out.json {
        let problem = |problem: &PolicyProblem| {
            json!({
                "line": problem.line,
                "column": problem.column,
                "policy": problem.policy,
                "message": problem.message,
                "fatal": problem.fatal,
            })
        };
        let change = |change: &DecisionChange| {
            json!({
                "agent": change.agent,
                "action": change.action,
                "resource": change.resource,
                "allowed_before": change.allowed_before,
                "allowed_after": change.allowed_after,
            })
        };
        out.one(vec![
            ("problems", found.problems.iter().map(problem).collect()),
            ("changes", found.changes.iter().map(change).collect()),
            ("agents examined", json!(found.agents_examined)),
            ("decisions examined", json!(found.decisions_examined)),
        ]);
    } else {
        for problem in &found.problems {
            println!("{}", placed(file, problem));
        }
        if refused == 0 {
            changes(out, &found);
        }
    }
    match refused {
        0 => Ok(()),
        1 => bail!("the policies would be refused"),
        count => bail!("the policies would be refused, for {count} reasons"),
    }
}

fn changes(out: Output, found: &CheckPolicyResponse) {
    if !found.changes.is_empty() {
        let row = |change: &DecisionChange| {
            let becomes = if change.allowed_after {
                "allowed"
            } else {
                "refused"
            };
            vec![
                json!(change.agent),
                json!(change.action),
                json!(change.resource),
                json!(becomes),
            ]
        };
        out.list(
            &["agent", "action", "resource", "becomes"],
            found.changes.iter().map(row).collect(),
        );
    }
    println!(
        "{} decisions would change, of {} for {} agents that this concerns",
        found.changes.len(),
        found.decisions_examined,
        found.agents_examined
    );
}

/// A problem as compilers write it, `file:line:column: …`, where it has a place.
fn placed(file: &Path, problem: &PolicyProblem) -> String {
    let mut text = match problem.line {
        0 => String::new(),
        line => format!("{}:{line}:{}: ", file.display(), problem.column),
    };
    text.push_str(match (problem.fatal, problem.line) {
        (true, _) => "",
        (false, 0) => "note: ",
        (false, _) => "warning: ",
    });
    if !problem.policy.is_empty() {
        text.push_str(&format!("policy `{}`: ", problem.policy));
    }
    text.push_str(&problem.message);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_written_as_compilers_do() {
        let mut problem = PolicyProblem {
            line: 3,
            column: 7,
            policy: "p".into(),
            message: "wrong".into(),
            fatal: true,
        };
        let file = Path::new("a.cedar");
        assert_eq!(placed(file, &problem), "a.cedar:3:7: policy `p`: wrong");
        problem.fatal = false;
        assert_eq!(placed(file, &problem), "a.cedar:3:7: warning: policy `p`: wrong");
        problem = PolicyProblem {
            message: "not all".into(),
            ..PolicyProblem::default()
        };
        assert_eq!(placed(file, &problem), "note: not all");
    }
}
