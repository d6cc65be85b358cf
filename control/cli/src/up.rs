//! `ringgate up`: a control process and a data plane on this machine.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ringgate_proto::control::v1::CreateJoinTokenRequest;
use ringgate_proto::control::v1::identity_client::IdentityClient;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

use crate::credential::write_private;
use crate::session::{STATE, Where, told};

/// Longest time until a process serves.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How often it is asked whether it does.
const ASK: Duration = Duration::from_millis(50);
/// Longest time that a process has to end when asked; then it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(20);
/// Lines of a log that are shown when its process ends badly.
const LOG_LINES: usize = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Settings of the control process (TOML).
    #[arg(long, value_name = "FILE")]
    control_config: Option<PathBuf>,
    /// Configuration of the data plane (TOML).
    #[arg(long, value_name = "FILE")]
    dataplane_config: Option<PathBuf>,
    /// Address of the control process's API.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:46358")]
    control_listen: SocketAddr,
    /// Address of the control process's health and of the dashboard, or off.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:46360")]
    control_http: String,
    /// Address agents connect to.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:46357")]
    listen: SocketAddr,
    /// Address of the data plane's metrics and health.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:46359")]
    http: SocketAddr,
    /// Name of the data plane.
    #[arg(long, value_name = "NAME", default_value = "local")]
    node: String,
    /// Hosts that agents reach the data plane by, beside its address. Can be given often.
    #[arg(long, value_name = "HOST", default_value = "localhost")]
    host: Vec<String>,
    /// More arguments of the data plane, after `--`.
    #[arg(last = true)]
    dataplane: Vec<String>,
}

/// Starts both, says where they are, and ends both when asked to, or when one of them ends.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let state = std::path::absolute(STATE)?;
    let folder = std::env::current_exe().context("cannot find my own program")?;
    let folder = folder.parent().context("my own program is in no folder")?;
    private_folder(&state)?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let asked = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::pin!(asked);

    let mut control = Process::start("control", control_command(&arguments, folder, &state), &state)?;
    let started = async {
        control
            .serving(&state.join("control/endpoint"), Ready::File)
            .await?;
        let mut dataplane = Process::start(
            "dataplane",
            dataplane_command(&arguments, folder, &state).await?,
            &state,
        )?;
        std::fs::write(state.join("dataplane.pid"), format!("{}\n", dataplane.id()))?;
        match dataplane
            .serving(Path::new("/readyz"), Ready::Http(arguments.http))
            .await
        {
            Ok(()) => Ok(dataplane),
            Err(error) => {
                dataplane.end().await;
                Err(error)
            }
        }
    };
    let started = tokio::select! {
        started = started => started,
        () = &mut asked => Err(anyhow::anyhow!("asked to end while starting")),
    };
    let mut dataplane = match started {
        Ok(dataplane) => dataplane,
        Err(error) => {
            control.end().await;
            return Err(error);
        }
    };
    guide(&arguments, &state);

    let ended = tokio::select! {
        () = &mut asked => None,
        status = control.child.wait() => Some(("control", status)),
        status = dataplane.child.wait() => Some(("dataplane", status)),
    };
    println!("ending");
    // The data plane first: it tells its agents, and the control process sees them leave.
    dataplane.end().await;
    control.end().await;
    match ended {
        None => Ok(()),
        // Asked by `ringgate drain`, or by its own signal.
        Some((_, Ok(status))) if status.success() => Ok(()),
        Some((name, status)) => bail!("{}", died(name, status.ok(), &state)),
    }
}

fn control_command(arguments: &Arguments, folder: &Path, state: &Path) -> Command {
    let mut command = Command::new(folder.join("ringgate-control"));
    if let Some(config) = &arguments.control_config {
        command.arg("--config").arg(config);
    }
    command
        .args(["--set", &format!("state_dir={}", state.join("control").display())])
        .args(["--set", &format!("listen={}", arguments.control_listen)])
        .args(["--set", &format!("http={}", arguments.control_http)]);
    command
}

async fn dataplane_command(arguments: &Arguments, folder: &Path, state: &Path) -> Result<Command> {
    let (control, node) = (state.join("control"), state.join("node"));
    private_folder(&node)?;
    let token = node.join("join.token");
    if !node.join("credential.pem").exists() {
        write_private(&token, &join_token(arguments, &control).await?)?;
    }
    let endpoint = Where::of_state(&control).url()?;
    let mut command = Command::new(folder.join("ringgate-dataplane"));
    if let Some(config) = &arguments.dataplane_config {
        command.arg("--config").arg(config);
    }
    command
        .args(["--control", &endpoint])
        .arg("--control-ca")
        .arg(control.join("ca.pem"))
        .arg("--join-token")
        .arg(token)
        .arg("--state-dir")
        .arg(node)
        .args(["--node", &arguments.node])
        .args(["--listen", &arguments.listen.to_string()])
        .args(["--http", &arguments.http.to_string()])
        .args(&arguments.dataplane);
    Ok(command)
}

/// A token that lets the data plane enrol, once.
async fn join_token(arguments: &Arguments, control: &Path) -> Result<String> {
    let mut hosts = arguments.host.clone();
    hosts.push(arguments.listen.ip().to_string());
    let request = CreateJoinTokenRequest {
        identity: format!("node/{}", arguments.node),
        uses: 1,
        ttl_seconds: 600,
        hosts,
    };
    let channel = Where::of_state(control).connect().await?;
    let created = IdentityClient::new(channel)
        .create_join_token(request)
        .await
        .map_err(told)?;
    Ok(created.into_inner().token)
}

/// How it is found out that a process serves.
enum Ready {
    /// A file is there, which is written then.
    File,
    /// It answers 200 at this address.
    Http(SocketAddr),
}

struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(name: &'static str, mut command: Command, state: &Path) -> Result<Process> {
        // What the last run left says nothing of this one.
        if name == "control" {
            let _ = std::fs::remove_file(state.join("control/endpoint"));
        }
        let log = log_file(name, state);
        let out = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let program = command.as_std().get_program().to_owned();
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            // A Ctrl-C is for this process, which then ends the others in their order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| {
                format!(
                    "cannot start {}: build it (cargo build --release), or put it beside `ringgate`",
                    Path::new(&program).display()
                )
            })?;
        Ok(Process { name, child, log })
    }

    fn id(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Returns when it serves.
    async fn serving(&mut self, at: &Path, ready: Ready) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "{}",
                    died(
                        self.name,
                        Some(status),
                        self.log.parent().unwrap_or(Path::new("."))
                    )
                );
            }
            let serves = match ready {
                Ready::File => at.exists(),
                Ready::Http(address) => answers(address, at).await.unwrap_or(false),
            };
            if serves {
                return Ok(());
            }
            sleep(ASK).await;
        }
        bail!(
            "the {} process does not serve after {} s; its log is {}",
            self.name,
            START_TIMEOUT.as_secs(),
            self.log.display()
        )
    }

    async fn end(&mut self) {
        let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id as i32)) else {
            return;
        };
        // It has not been waited for, so the number is still its own.
        let asked = kill_process(pid, Signal::TERM);
        if asked.is_err() || timeout(END_TIMEOUT, self.child.wait()).await.is_err() {
            eprintln!("ringgate: the {} process does not end; it is killed", self.name);
            // It has ended by itself if this fails.
            let _ = self.child.kill().await;
        }
    }
}

/// Whether 200 is answered.
async fn answers(address: SocketAddr, path: &Path) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n",
        path.display()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    timeout(Duration::from_secs(2), stream.read_to_end(&mut answer)).await??;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}

/// Why a process ended, with the end of its log.
fn died(name: &str, status: Option<ExitStatus>, state: &Path) -> String {
    let log = log_file(name, state);
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
    let status = status.map_or_else(|| "badly".to_owned(), |status| format!("with {status}"));
    format!(
        "the {name} process ended {status}; its log, {}, ends:\n  {last}",
        log.display()
    )
}

fn log_file(name: &str, state: &Path) -> PathBuf {
    state.join(format!("{name}.log"))
}

fn private_folder(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))
}

fn guide(arguments: &Arguments, state: &Path) {
    println!(
        "\
The gateway is up. It takes verified agents only (profile strict).

  agents     https://{agents}    gRPC agp.v1.AgentGateway, with reflection and health
  metrics    http://{http}    /healthz /readyz /metrics /corez /connz /topicz /tap /events
  dashboard  {dashboard}
  control    https://{control}    gRPC ringgate.control.v1
  state      {state}    logs: control.log, dataplane.log

Next, in this folder:

  ringgate enroll acme/demo/me/1 --out me       a credential for an agent: me/key.pem, me/chain.pem, me/ca.pem
  ringgate join-token create 'acme/demo/*/*'    a secret with which an agent enrols itself
  ringgate agents                               who is there
  ringgate top                                  what it does; also: topics, tap, conversations, events
  ringgate revoke acme/demo/me/1                end it, and keep it out
  ringgate audit                                what happened

Ctrl-C ends it.",
        agents = arguments.listen,
        http = arguments.http,
        dashboard = match arguments.control_http.as_str() {
            "off" => "off".to_owned(),
            address => format!("http://{address}/"),
        },
        control = arguments.control_listen,
        state = state.display(),
    );
}
