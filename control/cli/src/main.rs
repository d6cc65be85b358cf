//! The command line of Ringgate.
//!
//! Nearly every command asks the control process and prints what it says: as a table for people, with `--json` for scripts.
#![forbid(unsafe_code)]

mod agents;
mod audit;
mod config;
mod credential;
mod doctor;
mod drain;
mod join_token;
mod output;
mod policy;
mod session;
mod status;
mod up;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use session::Where;

/// Operates a Ringgate gateway: identities, access, configuration, and who is there.
#[derive(Debug, Parser)]
#[command(name = "ringgate", version, propagate_version = true)]
struct Arguments {
    #[command(flatten)]
    at: Where,
    /// Print JSON, for scripts.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a control process and a data plane on this machine, with their state in ./.ringgate.
    Up(up::Arguments),
    /// Show what runs and how it is.
    Status,
    /// Get a certificate for an identity.
    Enroll(credential::Enroll),
    /// Get a bearer token for your own identity, bound to its key.
    Token(credential::Token),
    /// Revoke a certificate or an identity, or allow an identity again.
    Revoke(credential::Revoke),
    /// Secrets that let others enrol.
    #[command(subcommand)]
    JoinToken(join_token::Command),
    /// List the agents that are there.
    Agents(agents::Agents),
    /// List the data planes.
    Nodes,
    /// Configuration of the data planes.
    #[command(subcommand)]
    Config(config::Command),
    /// Who may do what: policies, and the roles they speak of.
    #[command(subcommand)]
    Policy(policy::Command),
    /// What was changed, by whom, and what was refused.
    Audit(audit::Arguments),
    /// Let a data plane on this machine end: its agents are told to go elsewhere.
    Drain(drain::Arguments),
    /// Say what this machine has and lacks for a data plane, and which cores should serve.
    Doctor(doctor::Arguments),
    /// Show a data plane at work: cores, latencies, slow readers, busy topics.
    Top(watch::Top),
    /// List topics, with how often they are published to.
    Topics(watch::Topics),
    /// List a data plane's links to other nodes.
    Links(watch::Network),
    /// List the nodes that a data plane knows, and how it reaches them.
    Routes(watch::Network),
    /// Show what passes through a data plane, as it passes: names, sizes and times, never payload.
    Tap(watch::Tap),
    /// List conversations that were seen lately.
    Conversations(watch::Conversations),
    /// Show who said what to whom in a conversation, when, and where it waited.
    Conversation(watch::Conversation),
    /// Show security events of a data plane, as they happen.
    Events(watch::Events),
    /// Print what makes your shell complete commands.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringgate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let (at, out) = (&arguments.at, output::Output { json: arguments.json });
    match arguments.command {
        Command::Up(arguments) => up::run(arguments).await,
        Command::Status => status::run(at, out).await,
        Command::Enroll(arguments) => credential::enroll(at, out, arguments).await,
        Command::Token(arguments) => credential::token(at, out, arguments).await,
        Command::Revoke(arguments) => credential::revoke(at, out, arguments).await,
        Command::JoinToken(command) => join_token::run(at, out, command).await,
        Command::Agents(arguments) => agents::list(at, out, arguments).await,
        Command::Nodes => agents::nodes(at, out).await,
        Command::Config(command) => config::run(at, out, command).await,
        Command::Policy(command) => policy::run(at, out, command).await,
        Command::Audit(arguments) => audit::run(at, out, arguments).await,
        Command::Drain(arguments) => drain::run(&arguments),
        Command::Doctor(arguments) => doctor::run(out, &arguments),
        Command::Top(arguments) => watch::top(arguments).await,
        Command::Topics(arguments) => watch::topics(out, arguments).await,
        Command::Links(arguments) => watch::links(out, arguments).await,
        Command::Routes(arguments) => watch::routes(out, arguments).await,
        Command::Tap(arguments) => watch::tap(out, arguments).await,
        Command::Conversations(arguments) => watch::conversations(out, arguments).await,
        Command::Conversation(arguments) => watch::conversation(out, arguments).await,
        Command::Events(arguments) => watch::events(out, arguments).await,
        Command::Completion { shell } => {
            clap_complete::generate(
                shell,
                &mut self::Arguments::command(),
                "ringgate",
                &mut std::io::stdout(),
            );
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
