//! The servers that are compared, each started by this process and stopped by its own process id.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Error;
use crate::machine::{self, Placement};
use crate::wire::Protocol;

/// How long a server may take to listen.
const START_MAX: Duration = Duration::from_secs(15);
/// How long it may take to end when it is asked to, before it is killed.
const STOP_MAX: Duration = Duration::from_secs(5);
/// Between two looks at whether it does.
const POLL: Duration = Duration::from_millis(10);

/// A server that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Peer {
    /// The raw relay over io_uring: the limit.
    RelayUring,
    /// The raw relay over epoll.
    RelayEpoll,
    /// The gateway.
    Ringgate,
    /// `redis-server`.
    Redis,
    /// `nats-server`.
    Nats,
    /// The usual way to write a relay: a tonic service (`ringgate-perf relay --mode tonic`).
    Tonic,
    /// The gateway, for clients of SLIM as they are by default.
    RinggateSlim,
    /// The same without codes that authenticate headers.
    RinggateSlimNoMac,
    /// The gateway, for clients of the Agent Gateway Protocol of 2025.
    RinggateAgp2025,
    /// SLIM's own node (`slim`), without such codes.
    SlimNoMac,
}

impl Peer {
    /// Those that are compared on topics, the limit first.
    pub const ALL: [Peer; 6] = [
        Peer::RelayUring,
        Peer::RelayEpoll,
        Peer::Ringgate,
        Peer::Tonic,
        Peer::Redis,
        Peer::Nats,
    ];
    /// Those that speak the gateway's dialects, and the native protocol that they are compared with first.
    pub const DIALECTS: [Peer; 5] = [
        Peer::Ringgate,
        Peer::RinggateSlim,
        Peer::RinggateSlimNoMac,
        Peer::RinggateAgp2025,
        Peer::SlimNoMac,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Peer::RelayUring => "raw relay, io_uring",
            Peer::RelayEpoll => "raw relay, epoll",
            Peer::Ringgate => "ringgate",
            Peer::Redis => "redis",
            Peer::Nats => "nats",
            Peer::Tonic => "tonic relay",
            Peer::RinggateSlim => "ringgate, SLIM",
            Peer::RinggateSlimNoMac => "ringgate, SLIM without MAC",
            Peer::RinggateAgp2025 => "ringgate, AGP 2025",
            Peer::SlimNoMac => "slim without MAC",
        }
    }

    /// Whether it is the gateway.
    fn is_gateway(self) -> bool {
        matches!(
            self,
            Peer::Ringgate | Peer::RinggateSlim | Peer::RinggateSlimNoMac | Peer::RinggateAgp2025
        )
    }

    /// What the relay is told to be, where it is one.
    fn relay_mode(self) -> Option<&'static str> {
        match self {
            Peer::RelayUring => Some("uring"),
            Peer::RelayEpoll => Some("epoll"),
            Peer::Tonic => Some("tonic"),
            _ => None,
        }
    }

    /// What it speaks.
    pub fn protocol(self) -> Protocol {
        match self {
            Peer::RelayUring | Peer::RelayEpoll => Protocol::Relay,
            Peer::Ringgate | Peer::Tonic => Protocol::Agp,
            Peer::RinggateSlim => Protocol::Slim,
            Peer::RinggateSlimNoMac | Peer::SlimNoMac => Protocol::SlimNoMac,
            Peer::RinggateAgp2025 => Protocol::Agp2025,
            Peer::Redis => Protocol::Redis,
            Peer::Nats => Protocol::Nats,
        }
    }
}

/// A server in one of the ways it can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contender {
    /// Which.
    pub peer: Peer,
    /// Whether it never sleeps, where it can.
    pub spin: bool,
    /// The cores that it gets, one at least.
    pub cores: Vec<usize>,
    /// Arguments for the gateway, more than those of [`Options`].
    pub arguments: Vec<String>,
}

impl Contender {
    /// This server on one core.
    pub fn new(peer: Peer, core: usize, spin: bool) -> Contender {
        Contender {
            peer,
            spin,
            cores: vec![core],
            arguments: Vec::new(),
        }
    }

    /// Its name in tables: what makes it special behind the server's.
    pub fn name(&self) -> String {
        let mut name = self.peer.name().to_owned();
        if self.spin {
            name.push_str(", spinning");
        }
        if self.cores.len() > 1 {
            name.push_str(&format!(", {} cores", self.cores.len()));
        }
        if !self.arguments.is_empty() {
            name.push_str(&format!(", {}", self.arguments.join(" ")));
        }
        name
    }

    /// Whether sleeping or not is a choice at all: a server that cannot spin is of no use in a comparison of those that do.
    pub fn is_possible(&self) -> bool {
        !self.spin || self.peer.is_gateway() || matches!(self.peer, Peer::RelayUring | Peer::RelayEpoll)
    }
}

/// How servers are started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The gateway's program; by default the one beside this program.
    pub gateway: Option<PathBuf>,
    /// More arguments for the gateway.
    pub gateway_args: Vec<String>,
}

/// A server under way. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// What it was configured with, to be removed.
    file: Option<PathBuf>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it tells of itself, which only the gateway does.
    pub stats: Option<SocketAddr>,
}

impl Server {
    /// Starts a server on a free port and waits until it listens. `Ok(Err(reason))` says that it is not installed.
    ///
    /// # Errors
    /// When it cannot be started or does not listen.
    pub fn start(contender: &Contender, options: &Options) -> Result<Result<Server, String>, Error> {
        let peer = contender.peer;
        let Some(program) = program(peer, options) else {
            return Ok(Err(missing(peer)));
        };
        let address = free_address().map_err(Error::io("cannot find a free port"))?;
        let stats = match peer.is_gateway() {
            true => Some(free_address().map_err(Error::io("cannot find a free port"))?),
            false => None,
        };
        let mut command = Command::new(&program);
        let file = match peer {
            Peer::SlimNoMac => {
                let path =
                    slim_config(address).map_err(Error::io("cannot write a configuration for slim"))?;
                command.arg("--config").arg(&path);
                Some(path)
            }
            _ => None,
        };
        command.args(arguments(contender, address, stats, options));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = {
            // A child inherits the affinity of the thread that starts it.
            let _placement = Placement::hold();
            machine::pin_to(&contender.cores)?;
            command.spawn().map_err(|source| Error::Start {
                program: program.clone(),
                source,
            })?
        };
        let mut server = Server {
            child,
            file,
            address,
            stats,
        };
        server.wait_until_listening(&program, &command)?;
        Ok(Ok(server))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_listening(&mut self, program: &Path, command: &Command) -> Result<(), Error> {
        let begun = Instant::now();
        loop {
            let listens = |address: SocketAddr| TcpStream::connect(address).is_ok();
            if listens(self.address) && self.stats.is_none_or(listens) {
                return Ok(());
            }
            let ended = matches!(self.child.try_wait(), Ok(Some(_)));
            if ended || begun.elapsed() > START_MAX {
                return Err(Error::NotReady {
                    program: program.to_owned(),
                    address: self.address,
                    after: begun.elapsed(),
                    command: format!("{command:?}"),
                });
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // What is left behind is a small file in the folder for such.
            let _ = std::fs::remove_file(file);
        }
        // Fails only when it has ended by itself.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let asked = Instant::now();
        while asked.elapsed() < STOP_MAX {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(POLL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program(peer: Peer, options: &Options) -> Option<PathBuf> {
    match peer {
        Peer::RelayUring | Peer::RelayEpoll | Peer::Tonic => this_program("ringgate-perf"),
        Peer::Ringgate | Peer::RinggateSlim | Peer::RinggateSlimNoMac | Peer::RinggateAgp2025 => options
            .gateway
            .clone()
            .or_else(|| this_program("ringgate-dataplane")),
        Peer::SlimNoMac => find("slim"),
        Peer::Redis => find("redis-server"),
        Peer::Nats => find("nats-server"),
    }
}

/// A program that was built together with this one: beside it, or one folder up where this is a test or benchmark.
fn this_program(name: &str) -> Option<PathBuf> {
    let this = std::env::current_exe().ok()?;
    this.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo/bin"));
    // Debian puts servers where ordinary users do not look; cargo puts what it installs where some do not.
    let folders = std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .chain(home);
    folders
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

fn missing(peer: Peer) -> String {
    match peer {
        Peer::RelayUring | Peer::RelayEpoll | Peer::Tonic => {
            "the relays: build them, `cargo build --release -p ringgate-perf`".into()
        }
        Peer::Ringgate | Peer::RinggateSlim | Peer::RinggateSlimNoMac | Peer::RinggateAgp2025 => {
            "ringgate: build it, `cargo build --release -p ringgate-dataplane`, or name it with --gateway"
                .into()
        }
        Peer::Redis => "redis: install it, `apt-get install redis-server`".into(),
        Peer::Nats => "nats: install it, `apt-get install nats-server`".into(),
        Peer::SlimNoMac => "slim: install it, `scripts/bench-peers`".into(),
    }
}

fn arguments(
    contender: &Contender,
    address: SocketAddr,
    stats: Option<SocketAddr>,
    options: &Options,
) -> Vec<String> {
    let peer = contender.peer;
    let (ip, port) = (address.ip(), address.port());
    if let Some(mode) = peer.relay_mode() {
        let spin = if contender.spin { " --spin" } else { "" };
        return words(&format!("relay --mode {mode} --listen {address}{spin}"));
    }
    match peer {
        Peer::Redis => {
            let mut all = words(&format!(
                "--bind {ip} --port {port} --appendonly no --io-threads 1 --daemonize no --maxclients 50000"
            ));
            all.extend(["--save", "", "--client-output-buffer-limit", "pubsub 0 0 0"].map(str::to_owned));
            all
        }
        Peer::Nats => words(&format!("-a {ip} -p {port}")),
        // Its file says all.
        Peer::SlimNoMac => Vec::new(),
        _ => gateway_arguments(contender, address, stats, options),
    }
}

fn gateway_arguments(
    contender: &Contender,
    address: SocketAddr,
    stats: Option<SocketAddr>,
    options: &Options,
) -> Vec<String> {
    // The relay sleeps when it has nothing to do; so must the gateway, for its time to be compared.
    let spin = match contender.spin {
        true => "--busy-poll",
        false => "--spin-us 0",
    };
    let cores: Vec<String> = contender.cores.iter().map(usize::to_string).collect();
    let cores = cores.join(",");
    let http = stats.map_or("off".into(), |stats| stats.to_string());
    let mut all = words(&format!(
        "--profile development --listen {address} --cores {cores} --http {http} {spin}"
    ));
    if contender.peer == Peer::RinggateSlimNoMac {
        all.push("--set=slim.header_mac=off".into());
    }
    all.extend(options.gateway_args.iter().chain(&contender.arguments).cloned());
    all
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Writes a configuration for SLIM's node: plaintext, one thread, no codes in headers, and as good as silent.
fn slim_config(address: SocketAddr) -> std::io::Result<PathBuf> {
    let text = format!(
        "tracing:
  log_level: error
runtime:
  n_cores: 1
  drain_timeout: 1s
services:
  slim/0:
    node_id: \"slim-0\"
    dataplane:
      servers:
        - endpoint: \"{address}\"
          require_header_mac: false
          tls:
            insecure: true
"
    );
    let name = format!(
        "ringgate-perf-slim.{}.{}.yaml",
        std::process::id(),
        address.port()
    );
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, text)?;
    Ok(path)
}

fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
