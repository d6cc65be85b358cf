//! A node from start to end: checks, listeners, one executor for each core ([`Node`]); rules, the link to the control process,
//! the operator's endpoint, signals, drain ([`run`]).

mod cores;
mod dial;
mod error;
mod gateway;
mod listen;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use ringgate_uring::{Finding, Ring, Severity, preflight, raise_open_files};

pub use error::StartError;
pub use gateway::run;

use crate::config::Config;
use crate::mesh::{Port, mesh};
use crate::observe::{Command, CommandSender, Inbox, inbox};
use crate::shard::{Service, Shard, ShardConfig};
use crate::tls::{self, Clients, FileCertificate};

/// Memory that glommio registers for file I/O on each core, of which this node does little.
const GLOMMIO_IO_BYTES: usize = 256 * 1024;
/// Open files wanted: a gateway holds one for each connection.
const OPEN_FILES_WANTED: u64 = 1 << 20;

/// A quiet link is asked whether it is alive this often, and has as long to answer.
const LINK_KEEPALIVE: std::time::Duration = std::time::Duration::from_secs(2);

/// Shards of some service, running.
pub struct Node {
    /// Where it listens.
    pub address: SocketAddr,
    /// The CPUs that serve.
    pub cpus: Vec<usize>,
    executors: Vec<ExecutorJoinHandle<Result<(), ringgate_uring::Error>>>,
    commands: Vec<CommandSender>,
}

impl Node {
    /// Starts one shard on each core. `service` makes each core's service, on that core, from its number and how many there are.
    ///
    /// # Errors
    /// [`StartError`] with cause and remedy. Nothing runs then.
    pub fn start<S: Service>(
        config: &Config,
        services: Vec<&'static str>,
        service: impl Fn(usize, usize) -> S + Clone + Send + 'static,
    ) -> Result<Node, StartError> {
        Node::start_with(config, tls_by_files(config)?, services, service)
    }

    /// As [`start`](Node::start), with this TLS in place of what the files of `config` say.
    ///
    /// # Errors
    /// [`StartError`] with cause and remedy. Nothing runs then.
    pub fn start_with<S: Service>(
        config: &Config,
        tls: Option<Arc<rustls::ServerConfig>>,
        services: Vec<&'static str>,
        service: impl Fn(usize, usize) -> S + Clone + Send + 'static,
    ) -> Result<Node, StartError> {
        // Where the limit cannot be raised, the check below tells.
        let _ = raise_open_files(OPEN_FILES_WANTED);
        let cpus = cores::choose(&config.cores)?;
        check_machine(config, cpus.len())?;
        let listeners = listen::on_each_core(config.listen, cpus.len())?;
        let address = listen::local_address(&listeners)?;
        let shard = ShardConfig {
            http2: Arc::new(config.http2),
            http2_client: Arc::new(http2_client(&config.http2)),
            message_bytes_max: config.limits.message_bytes_max as u32,
            send_bytes_max: config.send_bytes_max,
            input_bytes_max: config.connection_input_bytes_max,
            send_timeout: config.send_timeout,
            spin: config.spin,
            busy_poll: config.busy_poll,
            tls,
            services,
        };
        let mut node = Node {
            address,
            cpus: cpus.clone(),
            executors: Vec::new(),
            commands: Vec::new(),
        };
        let (started, starts) = channel();
        for ((port, listener), cpu) in mesh::<S::Message>(cpus.len())
            .into_iter()
            .zip(listeners)
            .zip(&cpus)
        {
            let (sender, inbox) = inbox(port.alarm());
            node.commands.push(sender);
            let seed = Seed {
                config: shard.clone(),
                ring: config.ring.clone(),
                port,
                inbox,
                listener,
                cores: cpus.len(),
                started: started.clone(),
            };
            let service = service.clone();
            let executor = LocalExecutorBuilder::new(Placement::Fixed(*cpu))
                .name(&format!("core-{}", seed.port.core()))
                .io_memory(GLOMMIO_IO_BYTES)
                .spawn(move || run_shard(seed, service))
                .map_err(|error| StartError::Executor {
                    cpu: *cpu,
                    cause: error.to_string(),
                })?;
            node.executors.push(executor);
        }
        drop(started);
        for result in starts {
            result?;
        }
        Ok(node)
    }

    /// Senders of commands to each core.
    pub fn commands(&self) -> Vec<CommandSender> {
        self.commands.clone()
    }

    /// Asks all agents to leave and all cores to end.
    pub fn drain(&self, patience: std::time::Duration) {
        for core in &self.commands {
            core.send(Command::Drain(patience));
        }
    }

    /// Waits until all cores have ended.
    ///
    /// # Errors
    /// What the first core that failed says.
    pub fn join(self) -> Result<(), StartError> {
        let mut result = Ok(());
        for executor in self.executors {
            let outcome = match executor.join() {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(StartError::Ring(error)),
                Err(error) => Err(StartError::Ended(error.to_string())),
            };
            result = result.and(outcome);
        }
        result
    }
}

/// What a shard is made from, on its core.
struct Seed<M> {
    config: ShardConfig,
    ring: ringgate_uring::RingConfig,
    port: Port<M>,
    inbox: Inbox,
    listener: TcpListener,
    cores: usize,
    started: Sender<Result<(), StartError>>,
}

async fn run_shard<S: Service>(
    seed: Seed<S::Message>,
    service: impl Fn(usize, usize) -> S,
) -> Result<(), ringgate_uring::Error> {
    let Seed {
        config,
        ring,
        port,
        inbox,
        listener,
        cores,
        started,
    } = seed;
    let service = service(port.core(), cores);
    let shard = Ring::new(&ring)
        .map_err(StartError::Ring)
        .and_then(|ring| Shard::new(config, ring, service, port, inbox).map_err(StartError::Reflection));
    let shard = match shard {
        Ok(shard) => shard,
        Err(error) => {
            // The one who starts the node waits for this.
            let _ = started.send(Err(error));
            return Ok(());
        }
    };
    let _ = started.send(Ok(()));
    drop(started);
    let result = shard.run(listener).await;
    if let Err(error) = &result {
        // Half a node would answer for names and topics that it no longer serves.
        tracing::error!(%error, "a core has failed; ending the process");
        std::process::exit(1);
    }
    result
}

fn check_machine(config: &Config, cores: usize) -> Result<(), StartError> {
    let mut fatal: Option<Finding> = None;
    for finding in preflight(&config.ring, cores) {
        let remedy = finding.remedy.as_deref().unwrap_or("");
        match finding.severity {
            Severity::Good => tracing::debug!(check = finding.check, found = finding.found),
            Severity::Warning => tracing::warn!(check = finding.check, found = finding.found, remedy),
            Severity::Fatal => {
                tracing::error!(check = finding.check, found = finding.found, remedy);
                fatal.get_or_insert(finding);
            }
        }
    }
    match fatal {
        None => Ok(()),
        Some(finding) => Err(StartError::Machine {
            check: finding.check,
            found: finding.found,
            remedy: finding.remedy.unwrap_or_default(),
        }),
    }
}

/// The TLS of a listener whose certificate and clients are said by files, by the rules of the web.
fn tls_by_files(config: &Config) -> Result<Option<Arc<rustls::ServerConfig>>, StartError> {
    let (Some(chain), Some(key)) = (&config.tls_certificate, &config.tls_key) else {
        return Ok(None);
    };
    let certificate = FileCertificate::read(chain.clone(), key.clone())?;
    Ok(Some(tls::server_config(
        Arc::new(certificate),
        clients_by_the_web(config),
    )?))
}

/// How this node is a client of its neighbours: a link that is dead must be known to be, soon.
fn http2_client(server: &ringgate_http2::Config) -> ringgate_http2::Config {
    ringgate_http2::Config {
        keepalive_interval: Some(LINK_KEEPALIVE),
        keepalive_timeout: LINK_KEEPALIVE,
        idle_timeout: None,
        ..*server
    }
}

fn clients_by_the_web(config: &Config) -> Clients {
    match &config.tls_client_ca {
        None => Clients::Anybody,
        Some(path) => Clients::Authority {
            path: path.clone(),
            required: config.tls_client_required,
        },
    }
}
