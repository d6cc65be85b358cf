//! An agent that does what it is told, a line at a time: so tests bring members of several MLS implementations into one group, through
//! a real gateway and control process. `--library` says which implementation it is made of: this SDK (`openmls`), or `mls-rs`, which
//! knows of this SDK only how to enrol and how to send bytes.
//!
//! Commands are read from stdin, one JSON object a line, and answered on stdout: `{"id": 1, "do": "create"}` with
//! `{"re": 1, "group": "…"}` or `{"re": 1, "error": "…"}`. What happens by itself is told as `{"event": "joined", …}`. Several commands
//! run at once. It ends with its stdin.

mod foreign;
mod own;

use std::future::Future;
use std::io::BufRead as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use ringgate_client::{Agent, Enrollment, Trust};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Longer than anything here takes, but for what is done many times over.
const PATIENCE: Duration = Duration::from_secs(60);

/// What went wrong, in a sentence.
type Failure = Box<dyn std::error::Error + Send + Sync>;
type Answer = Pin<Box<dyn Future<Output = Result<Value, Failure>> + Send>>;

/// An agent for tests, told what to do on stdin.
#[derive(Parser)]
struct Arguments {
    /// Where the gateway is.
    #[arg(long)]
    url: String,
    /// Where the control process is.
    #[arg(long)]
    control: String,
    /// Certificates of its authority, PEM file.
    #[arg(long)]
    control_ca: PathBuf,
    /// A join token for the name.
    #[arg(long)]
    join_token: String,
    /// Who it is to be.
    #[arg(long)]
    name: String,
    /// What its MLS is made of.
    #[arg(long, value_enum, default_value_t = Library::Openmls)]
    library: Library,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Library {
    Openmls,
    MlsRs,
}

#[derive(Deserialize)]
struct Line {
    id: u64,
    #[serde(flatten)]
    command: Command,
}

/// What can be asked for.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Command {
    /// A group. Padding does not go together with libraries that pad otherwise.
    Create {
        #[serde(default)]
        padding: u32,
    },
    Invite {
        group: String,
        names: Vec<String>,
    },
    Remove {
        group: String,
        name: String,
    },
    Leave {
        group: String,
    },
    /// New keys for the own leaf, so many times.
    Update {
        group: String,
        #[serde(default = "once")]
        times: u32,
    },
    /// Another certificate, for another key, so many times; each is in the group before the next.
    Renew {
        group: String,
        times: u32,
    },
    /// Tells what comes as events.
    Subscribe {
        pattern: String,
    },
    Publish {
        group: String,
        topic: String,
        text: String,
    },
    /// Publishes a message that says nothing.
    Cover {
        group: String,
        topic: String,
    },
    /// Publishes one number after the other until `quiet`.
    Talk {
        group: String,
        topic: String,
    },
    Quiet,
    /// Asks an agent; requests are answered with `re: ` and what they say.
    Request {
        group: String,
        agent: String,
        text: String,
    },
    /// Until these are the members, and nobody else.
    Wait {
        group: String,
        members: Vec<String>,
    },
    /// Until it is no member any more.
    Out {
        group: String,
    },
    Info {
        group: String,
    },
    /// Tries to have the group begin anew with another suite, in one commit.
    Reinit {
        group: String,
    },
}

fn once() -> u32 {
    1
}

/// Either of the members.
trait Told: Send + Sync {
    fn tell(self: Arc<Self>, command: Command) -> Answer;
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("member: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let anchors = std::fs::read_to_string(&arguments.control_ca)?;
    let credential = Enrollment::new(&arguments.control, Trust::Anchors(anchors))
        .join_token(&arguments.join_token)
        .enroll(&arguments.name)
        .await?;
    let agent = Agent::builder(&arguments.url)
        .identity(credential.clone())
        .connect()
        .await?;
    let member = match arguments.library {
        Library::Openmls => own::start(agent, credential).await?,
        Library::MlsRs => foreign::start(agent, credential).await?,
    };
    say(&json!({"event": "ready", "name": arguments.name}));
    let mut lines = lines();
    while let Some(line) = lines.recv().await {
        let Line { id, command } = serde_json::from_str(&line)?;
        let many = matches!(command, Command::Renew { .. } | Command::Update { .. });
        let answer = Arc::clone(&member).tell(command);
        tokio::spawn(async move {
            let answer = match many {
                true => answer.await,
                false => match tokio::time::timeout(PATIENCE, answer).await {
                    Ok(answer) => answer,
                    Err(_) => Err(format!("not done after {PATIENCE:?}").into()),
                },
            };
            let mut answer = answer.unwrap_or_else(|failure| json!({"error": failure.to_string()}));
            answer["re"] = id.into();
            say(&answer);
        });
    }
    Ok(())
}

/// The lines of stdin, read on a thread of its own: reading it cannot be given up.
fn lines() -> mpsc::UnboundedReceiver<String> {
    let (out, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if out.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// One line on stdout.
fn say(value: &Value) {
    println!("{value}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<Bytes, Failure> {
    let pairs = text.as_bytes().chunks(2);
    let bytes = pairs.map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?));
    bytes.collect::<Result<Vec<u8>, Failure>>().map(Bytes::from)
}
