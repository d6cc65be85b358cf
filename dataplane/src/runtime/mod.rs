//! A node from start to end: checks, listeners, one executor for each core, signals, drain.

mod cores;
mod error;
mod listen;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use ringgate_gateway::{CoreId, GatewayConfig};
use ringgate_policy::Development;
use ringgate_uring::{Finding, Ring, Severity, preflight, raise_open_files};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub use error::StartError;

use crate::agents::{AGP_SERVICE, Agents};
use crate::config::Config;
use crate::mesh::{Port, mesh};
use crate::observe::{Command, CommandSender, Inbox, Observer, inbox, serve};
use crate::shard::{Service, Shard, ShardConfig};
use crate::tls;

/// Memory that glommio registers for file I/O on each core, of which this node does little.
const GLOMMIO_IO_BYTES: usize = 256 * 1024;
/// Open files wanted: a gateway holds one for each connection.
const OPEN_FILES_WANTED: u64 = 1 << 20;

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
        // Where the limit cannot be raised, the check below tells.
        let _ = raise_open_files(OPEN_FILES_WANTED);
        let cpus = cores::choose(&config.cores)?;
        check_machine(config, cpus.len())?;
        let tls = tls_config(config)?;
        let listeners = listen::on_each_core(config.listen, cpus.len())?;
        let address = listen::local_address(&listeners)?;
        let shard = ShardConfig {
            http2: Arc::new(config.http2),
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

fn tls_config(config: &Config) -> Result<Option<Arc<rustls::ServerConfig>>, StartError> {
    let (Some(certificate), Some(key)) = (&config.tls_certificate, &config.tls_key) else {
        return Ok(None);
    };
    let files = tls::Files {
        certificate: certificate.clone(),
        key: key.clone(),
        client_ca: config.tls_client_ca.clone(),
        client_certificate_required: config.tls_client_required,
    };
    Ok(Some(tls::server_config(&files)?))
}

/// Random numbers that nobody can guess.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .expect("the system's random source works; without it no secret is one");
    bytes
}

/// Runs a gateway until it is told to stop.
///
/// # Errors
/// [`StartError`] with cause and remedy.
pub fn run(config: &Config) -> Result<(), StartError> {
    config.check()?;
    let seed = u64::from_le_bytes(random());
    let (name, limits) = (config.node.clone(), config.limits);
    let node = Node::start(config, vec![AGP_SERVICE], move |core, cores| {
        Agents::new(GatewayConfig {
            node: name.clone(),
            core: CoreId(core as u16),
            cores: cores as u16,
            limits,
            seed,
            token: Box::new(random),
            authority: Box::new(Development),
        })
    })?;
    let service = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| StartError::ServiceThread(error.to_string()))?;
    service.block_on(attend(config, node))
}

/// Serves the operator, waits for the signal to stop, drains, and returns when all cores have ended.
async fn attend(config: &Config, node: Node) -> Result<(), StartError> {
    let service_error = |error: std::io::Error| StartError::ServiceThread(error.to_string());
    let mut terminate = signal(SignalKind::terminate()).map_err(service_error)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(service_error)?;
    let observer = Arc::new(Observer::new(config.node.clone(), node.commands()));
    if let Some(address) = config.http {
        serve(address, observer.clone()).await?;
        tracing::info!(%address, "metrics, health and statistics");
    }
    announce(config, &node);
    either(&mut terminate, &mut interrupt).await;
    tracing::info!(patience = ?config.drain, "draining; a second signal ends at once");
    observer.set_draining();
    node.drain(config.drain);
    let over = tokio::task::spawn_blocking(move || node.join());
    tokio::select! {
        result = over => result.unwrap_or_else(|panic| Err(StartError::Ended(panic.to_string()))),
        () = either(&mut terminate, &mut interrupt) => {
            tracing::warn!("second signal: ending at once");
            std::process::exit(1)
        }
    }
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

fn announce(config: &Config, node: &Node) {
    use crate::config::Profile;
    let how = if config.tls_certificate.is_some() {
        "TLS 1.3"
    } else {
        "plaintext"
    };
    tracing::info!(address = %node.address, cpus = ?node.cpus, how, "listening");
    if config.profile == Profile::Development {
        tracing::warn!(
            "profile `development`: agents are believed their names and may send anything to anyone. For trying things out on this \
             machine only"
        );
    }
    println!("ringgate-dataplane ready on {}", node.address);
}
