//! What `scripts/run` shows: a few agents in one process do each pattern once through a real gateway, and say who did what and
//! how long it took. Ends 0 if all of it worked, else 1 with the cause.
//!
//! In the profile `strict` all that they say to each other is end-to-end encrypted ([`protected`]); in `development` it is legible ([`plain`]).
//!
//! `cargo run -p ringgate-client --example demo -- --url http://127.0.0.1:46357` for a gateway of profile `development`; for others
//! with `--url https://… --control https://… --control-ca FILE --join-token TOKEN`: then each agent enrols first.

mod context;
mod plain;
mod protected;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use ringgate_client::groups::Groups;
use ringgate_client::{Agent, Credential, Enrollment, Trust};

/// Longer than anything here can take; what takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(20);

/// Demo agents: each pattern once, through a running gateway.
#[derive(Parser)]
struct Arguments {
    /// Where the gateway is.
    #[arg(long, default_value = "http://127.0.0.1:46357")]
    url: String,
    /// Where the agents enrol: the control process.
    #[arg(long, requires = "control_ca", requires = "join_token")]
    control: Option<String>,
    /// Certificates of its authority, PEM file.
    #[arg(long)]
    control_ca: Option<std::path::PathBuf>,
    /// What lets them: a join token for `acme/demo/*/*`.
    #[arg(long)]
    join_token: Option<String>,
}

/// What went wrong, in a sentence. A demo has nobody who would tell errors apart.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    println!("demo agents at {}", arguments.url);
    match tokio::time::timeout(PATIENCE, demo(&arguments)).await {
        Ok(Ok(())) => {
            println!("demo: all patterns worked");
            ExitCode::SUCCESS
        }
        Ok(Err(failure)) => {
            eprintln!("demo: failed: {failure}");
            ExitCode::FAILURE
        }
        Err(_) => {
            eprintln!("demo: failed: not done after {PATIENCE:?}; the line above is the last that worked");
            ExitCode::FAILURE
        }
    }
}

async fn demo(arguments: &Arguments) -> Result<(), Failure> {
    let stage = Stage::new(arguments)?;
    match stage.enrollment {
        Some(_) => protected::demo(&stage).await?,
        None => plain::demo(&stage).await?,
    }
    context::shared_context(&stage).await
}

/// Where agents come from.
struct Stage {
    url: String,
    enrollment: Option<Enrollment>,
}

impl Stage {
    fn new(arguments: &Arguments) -> Result<Stage, Failure> {
        let mut enrollment = None;
        if let (Some(control), Some(ca), Some(token)) =
            (&arguments.control, &arguments.control_ca, &arguments.join_token)
        {
            let anchors =
                std::fs::read_to_string(ca).map_err(|error| format!("{}: {error}", ca.display()))?;
            enrollment = Some(Enrollment::new(control, Trust::Anchors(anchors)).join_token(token));
        }
        Ok(Stage {
            url: arguments.url.clone(),
            enrollment,
        })
    }

    /// Brings an agent on, with a capability or none.
    async fn agent(&self, name: &str, capability: &str) -> Result<Agent, Failure> {
        Ok(self.enrolled(name, capability).await?.0)
    }

    /// The same with its groups.
    async fn member(&self, name: &str, capability: &str) -> Result<Groups, Failure> {
        let (agent, credential) = self.enrolled(name, capability).await?;
        let start = Instant::now();
        let credential = credential.ok_or("it is not enrolled")?;
        let groups = Groups::open(&agent, &credential)
            .await
            .map_err(|error| format!("{name}: {error}"))?;
        say(
            &agent,
            "published key packages: can be invited into groups",
            start,
        );
        Ok(groups)
    }

    async fn enrolled(&self, name: &str, capability: &str) -> Result<(Agent, Option<Credential>), Failure> {
        let mut start = Instant::now();
        let mut builder = Agent::builder(&self.url);
        if !capability.is_empty() {
            builder = builder.capability(capability);
        }
        let mut held = None;
        builder = match &self.enrollment {
            None => builder.name(name),
            Some(enrollment) => {
                let credential = enrollment.clone().enroll(name).await;
                let credential = credential.map_err(|error| format!("{name}: {error}"))?;
                start = tell(name, "enrolled: holds a certificate", start);
                held = Some(credential.clone());
                builder.identity(credential)
            }
        };
        let agent = builder
            .connect()
            .await
            .map_err(|error| format!("{name}: {error}"))?;
        say(&agent, "connected and registered", start);
        Ok((agent, held))
    }
}

/// One line: who, what, how long. Returns when the next thing begins.
fn tell(name: &str, what: impl std::fmt::Display, since: Instant) -> Instant {
    let microseconds = since.elapsed().as_micros();
    println!("  {name:<26} {what:<66} {microseconds:>7} us");
    Instant::now()
}

fn say(agent: &Agent, what: impl std::fmt::Display, since: Instant) {
    tell(agent.name(), what, since);
}

/// A payload as people read it.
fn text(payload: &Bytes) -> String {
    format!("'{}'", String::from_utf8_lossy(payload))
}

fn act(title: &str) {
    println!("\n{title}");
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), Failure> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: expected {expected:?}, got {found:?}").into())
}
