//! The servers that are compared, each started by this process and stopped by its own process id.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::machine::{self, Placement};
use crate::wire::Protocol;
use crate::{Error, relay};

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
}

impl Peer {
    /// All there are, the limit first.
    pub const ALL: [Peer; 5] = [
        Peer::RelayUring,
        Peer::RelayEpoll,
        Peer::Ringgate,
        Peer::Redis,
        Peer::Nats,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Peer::RelayUring => "raw relay, io_uring",
            Peer::RelayEpoll => "raw relay, epoll",
            Peer::Ringgate => "ringgate",
            Peer::Redis => "redis",
            Peer::Nats => "nats",
        }
    }

    /// What it speaks.
    pub fn protocol(self) -> Protocol {
        match self {
            Peer::RelayUring | Peer::RelayEpoll => Protocol::Relay,
            Peer::Ringgate => Protocol::Agp,
            Peer::Redis => Protocol::Redis,
            Peer::Nats => Protocol::Nats,
        }
    }
}

/// How servers are started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The core that each server gets.
    pub core: usize,
    /// Servers that can, never sleep.
    pub spin: bool,
    /// The gateway's program; by default the one beside this program.
    pub gateway: Option<PathBuf>,
    /// More arguments for the gateway.
    pub gateway_args: Vec<String>,
}

/// A server under way. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts a server on a free port and waits until it listens. `Ok(Err(reason))` says that it is not installed.
    ///
    /// # Errors
    /// When it cannot be started or does not listen.
    pub fn start(peer: Peer, options: &Options) -> Result<Result<Server, String>, Error> {
        let Some(program) = program(peer, options) else {
            return Ok(Err(missing(peer)));
        };
        let address = free_address().map_err(Error::io("cannot find a free port"))?;
        let mut command = Command::new(&program);
        command.args(arguments(peer, address, options));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = {
            // A child inherits the affinity of the thread that starts it.
            let _placement = Placement::hold();
            machine::pin(options.core)?;
            command.spawn().map_err(|source| Error::Start {
                program: program.clone(),
                source,
            })?
        };
        let mut server = Server { child, address };
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
            if TcpStream::connect(self.address).is_ok() {
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
        Peer::RelayUring | Peer::RelayEpoll => this_program("ringgate-perf"),
        Peer::Ringgate => options
            .gateway
            .clone()
            .or_else(|| this_program("ringgate-dataplane")),
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
    // Debian puts servers where ordinary users do not look.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

fn missing(peer: Peer) -> String {
    match peer {
        Peer::RelayUring | Peer::RelayEpoll => {
            "raw relay: build it, `cargo build --release -p ringgate-perf`".into()
        }
        Peer::Ringgate => {
            "ringgate: build it, `cargo build --release -p ringgate-dataplane`, or name it with --gateway"
                .into()
        }
        Peer::Redis => "redis: install it, `apt-get install redis-server`".into(),
        Peer::Nats => "nats: install it, `apt-get install nats-server`".into(),
    }
}

fn arguments(peer: Peer, address: SocketAddr, options: &Options) -> Vec<String> {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<String>>();
    let (ip, port) = (address.ip(), address.port());
    match peer {
        Peer::RelayUring | Peer::RelayEpoll => {
            let mode = if peer == Peer::RelayUring {
                relay::Mode::Uring
            } else {
                relay::Mode::Epoll
            };
            let mode = if mode == relay::Mode::Uring {
                "uring"
            } else {
                "epoll"
            };
            let spin = if options.spin { " --spin" } else { "" };
            words(&format!("relay --mode {mode} --listen {address}{spin}"))
        }
        Peer::Ringgate => {
            // The relay sleeps when it has nothing to do; so must the gateway, for its time to be compared.
            let spin = if options.spin {
                "--busy-poll"
            } else {
                "--spin-us 0"
            };
            let core = options.core;
            let mut all = words(&format!(
                "--profile development --listen {address} --cores {core} --http off {spin}"
            ));
            all.extend(options.gateway_args.iter().cloned());
            all
        }
        Peer::Redis => {
            let mut all = words(&format!(
                "--bind {ip} --port {port} --appendonly no --io-threads 1 --daemonize no --maxclients 50000"
            ));
            all.extend(["--save", "", "--client-output-buffer-limit", "pubsub 0 0 0"].map(str::to_owned));
            all
        }
        Peer::Nats => words(&format!("-a {ip} -p {port}")),
    }
}

fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
