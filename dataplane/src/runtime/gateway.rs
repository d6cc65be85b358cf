//! The gateway: agents on every core, and the service thread beside them.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ringgate_identity::tls::{Expected, client_config, server_verifier};
use ringgate_identity::{SharedVerifier, ViewerToken};
use ringgate_state::TopicRules;
use rustls::server::ResolvesServerCert;
use rustls::{ClientConfig, ServerConfig};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::{Node, StartError, clients_by_the_web, cores, dial};
use crate::agents::{AgentsConfig, random};
use crate::config::{Config, Profile, Sources};
use crate::control::{Link, LinkSender};
use crate::front::{Front, FrontConfig};
use crate::log::Log;
use crate::neighbours::{DialRequest, NeighboursConfig};
use crate::observe::{
    Command, Exporter, FlowInput, Flows, Observation, Observed, Observer, Order, Reporter, SecurityCounts,
    Seen, flows, observations, serve,
};
use crate::rules::{Rules, from_files};
use crate::tls::{self, Clients, FileCertificate};

/// How often the files of the listener's certificate are looked at. Certificates are renewed days before they end.
const FILES_EVERY: Duration = Duration::from_secs(5);
/// How often presence that was lost is asked for again.
const PRESENCE_EVERY: Duration = Duration::from_secs(1);
/// How often the control process is told of the load.
const LOAD_EVERY: Duration = Duration::from_secs(5);

/// What a gateway starts with, wherever it comes from.
struct Setup {
    config: Config,
    rules: Arc<Rules>,
    tls: Option<Arc<ServerConfig>>,
    /// The listener's certificate, where it is in files.
    certificate: Option<Arc<FileCertificate>>,
    link: Option<Link>,
    links: Links,
}

/// How nodes link to each other.
enum Links {
    /// Not at all: nobody says which nodes there are.
    None,
    /// In the clear, on loopback.
    Plaintext,
    /// Both ends show their certificates of the trust domain.
    Encrypted(Arc<ClientConfig>),
}

/// Runs a gateway until it is told to stop.
///
/// # Errors
/// [`StartError`] with cause and remedy.
pub fn run(sources: &Sources) -> Result<(), StartError> {
    let (reporter, observations) = observations();
    let Setup {
        config,
        rules,
        tls,
        certificate,
        link,
        links,
    } = Setup::new(sources, &reporter)?;
    let (flow_source, flow_input) = flows();
    let token = config.http_token.as_deref().map(ViewerToken::read).transpose()?;
    let topics = TopicRules {
        retain: patterns(&config.topics.retain),
        replay: patterns(&config.topics.replay),
        durable: patterns(&config.topics.durable),
    };
    let opened = match config.state.durable.is_empty() && !topics.any_durable() {
        true => None,
        false => Some(Log::open(&config.state, cores::choose(&config.cores)?.len())?),
    };
    let (log, port) = opened.unzip();
    let agents = AgentsConfig {
        durable: patterns(&config.state.durable),
        topics,
        log: port,
        node: config.node.clone(),
        seed: u64::from_le_bytes(random()),
        rules,
        reporter: reporter.clone(),
        observe: config.observe.clone(),
        flows: flow_source,
    };
    let (seed, linking_rules) = (agents.seed, agents.rules.clone());
    let front = FrontConfig::new(agents, &config)?;
    let (dialler, requests) = dial::dialler();
    let front = match &links {
        Links::None => front,
        Links::Plaintext | Links::Encrypted(_) => front.linked(NeighboursConfig {
            rules: linking_rules,
            node: config.node.clone(),
            neighbours: config.neighbours.clone(),
            dialler,
            incarnation: unix_micros(),
            seed,
        }),
    };
    let node = Node::start_with(&config, tls, front.services(), move |core, cores| {
        Front::new(front.clone(), core, cores)
    })?;
    let log = log.map(|log| log.run(node.commands())).transpose()?;
    let service = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| StartError::ServiceThread(error.to_string()))?;
    let config = Arc::new(ArcSwap::from_pointee(config));
    let link = match link {
        Some(link) => Some(link.run(node.address, node.commands(), config.clone())?),
        None => None,
    };
    let attendant = Attendant {
        config,
        certificate,
        counts: reporter.counts().clone(),
        link,
        token,
        requests,
        links,
    };
    service.block_on(attendant.attend(node, observations, flow_input))?;
    // The cores have ended: what they sent is written.
    match log.map(|log| log.join()) {
        None | Some(Ok(())) => Ok(()),
        Some(Err(error)) => Err(StartError::Ended(error.to_string())),
    }
}

fn patterns(texts: &[String]) -> Arc<[Box<str>]> {
    texts.iter().map(|pattern| pattern.as_str().into()).collect()
}

impl Setup {
    fn new(sources: &Sources, reporter: &Reporter) -> Result<Setup, StartError> {
        let config = sources.read(None)?;
        if config.control.urls.is_empty() {
            return Setup::alone(config, reporter);
        }
        let (link, start) = Link::start(sources.clone(), config)?;
        let nodes = server_verifier(start.verifier.clone(), Expected::AnyNode);
        let links = client_config(nodes, Some(start.credential.clone())).map_err(tls::Error::from)?;
        let files = file_certificate(&start.config)?;
        let certificate: Arc<dyn ResolvesServerCert> = match &files {
            Some(files) => files.clone(),
            None => start.credential,
        };
        let clients = Clients::TrustDomain {
            verifier: start.verifier,
            required: start.config.tls_client_required,
            reporter: reporter.clone(),
        };
        Ok(Setup {
            tls: Some(tls::server_config(certificate, clients)?),
            config: start.config,
            rules: start.rules,
            certificate: files,
            links: Links::Encrypted(Arc::new(links)),
            link: Some(link),
        })
    }

    /// Without a control process.
    fn alone(config: Config, reporter: &Reporter) -> Result<Setup, StartError> {
        let rules = Arc::new(from_files(&config)?);
        let certificate = file_certificate(&config)?;
        let clients = match rules.verifier() {
            None => clients_by_the_web(&config),
            Some(verifier) => Clients::TrustDomain {
                verifier: Arc::new(SharedVerifier::new(
                    verifier.with_revocations(verifier.revocations().clone()),
                )),
                required: config.tls_client_required,
                reporter: reporter.clone(),
            },
        };
        let tls = match &certificate {
            None => None,
            Some(certificate) => Some(tls::server_config(certificate.clone(), clients)?),
        };
        let links = match config.profile {
            Profile::Strict => Links::None,
            Profile::Development => Links::Plaintext,
        };
        Ok(Setup {
            config,
            rules,
            tls,
            certificate,
            links,
            link: None,
        })
    }
}

fn file_certificate(config: &Config) -> Result<Option<Arc<FileCertificate>>, StartError> {
    match (&config.tls_certificate, &config.tls_key) {
        (Some(chain), Some(key)) => {
            let certificate = FileCertificate::read(chain.clone(), key.clone())?;
            Ok(Some(Arc::new(certificate)))
        }
        _ => Ok(None),
    }
}

/// Looks after a running node.
struct Attendant {
    config: Arc<ArcSwap<Config>>,
    certificate: Option<Arc<FileCertificate>>,
    counts: Arc<SecurityCounts>,
    link: Option<LinkSender>,
    /// What those who look must show.
    token: Option<ViewerToken>,
    /// Connections to neighbours that are to be made.
    requests: mpsc::Receiver<DialRequest>,
    links: Links,
}

impl Attendant {
    /// Serves the operator, waits for the signal to stop, drains, and returns when all cores have ended.
    async fn attend(
        mut self,
        node: Node,
        observations: mpsc::Receiver<Observation>,
        flow_input: FlowInput,
    ) -> Result<(), StartError> {
        let service_error = |error: std::io::Error| StartError::ServiceThread(error.to_string());
        let mut terminate = signal(SignalKind::terminate()).map_err(service_error)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(service_error)?;
        let config = self.config.load_full();
        let status = self.link.as_ref().map(|link| link.status().clone());
        let flows = Flows::new(flow_input, node.commands(), &config.observe);
        let observer = Arc::new(Observer::new(Observed {
            node: config.node.clone(),
            cpus: node.cpus.clone(),
            cores: node.commands(),
            security: self.counts.clone(),
            link: status,
            flows: flows.clone(),
        }));
        tokio::spawn(flows.run());
        let (_, none) = mpsc::channel(1);
        let requests = std::mem::replace(&mut self.requests, none);
        if let Some(first) = node.commands().into_iter().next() {
            let tls = match &self.links {
                Links::Encrypted(tls) => Some(tls.clone()),
                Links::None | Links::Plaintext => None,
            };
            tokio::spawn(dial::dial(requests, first, tls));
        }
        if let Some(exporter) = Exporter::new(observer.clone(), &config.observe) {
            tokio::spawn(exporter.run());
        }
        if let Some(address) = config.http {
            serve(address, observer.clone(), self.token.clone()).await?;
            tracing::info!(%address, "metrics, health and statistics");
        }
        announce(&config, &node);
        let current = self.config.clone();
        let watching = tokio::spawn(self.watch(node.commands(), observer.clone(), observations));
        either(&mut terminate, &mut interrupt).await;
        let patience = current.load().drain;
        tracing::info!(?patience, "draining; a second signal ends at once");
        observer.set_draining();
        node.drain(patience);
        let over = tokio::task::spawn_blocking(move || node.join());
        let result = tokio::select! {
            result = over => result.unwrap_or_else(|panic| Err(StartError::Ended(panic.to_string()))),
            () = either(&mut terminate, &mut interrupt) => {
                tracing::warn!("second signal: ending at once");
                std::process::exit(1)
            }
        };
        watching.abort();
        result
    }

    /// Passes on what the cores tell, and looks at what changes by itself.
    async fn watch(
        self,
        cores: Vec<crate::observe::CommandSender>,
        observer: Arc<Observer>,
        mut observations: mpsc::Receiver<Observation>,
    ) {
        let mut files = tokio::time::interval(FILES_EVERY);
        let mut presence = tokio::time::interval(PRESENCE_EVERY);
        let mut load = tokio::time::interval(LOAD_EVERY);
        loop {
            tokio::select! {
                observation = observations.recv() => match observation {
                    Some(observation) => self.pass_on(observation, &observer),
                    None => return,
                },
                _ = files.tick() => self.refresh_certificate(),
                _ = presence.tick() => {
                    if self.counts.take_presence_lost() && self.link.is_some() {
                        cores.iter().for_each(|core| {
                            core.send(Command::Order(Order::Presence));
                        });
                    }
                }
                _ = load.tick() => {
                    if let Some(link) = &self.link
                        && link.is_attached()
                    {
                        let observer = observer.clone();
                        // Asking the cores blocks for the time they take.
                        if let Ok(totals) = tokio::task::spawn_blocking(move || observer.totals()).await {
                            link.load(&totals);
                        }
                    }
                }
            }
        }
    }

    fn pass_on(&self, observation: Observation, observer: &Observer) {
        if let Observation::Security(seen) = &observation {
            log(seen);
            observer.events().note(seen);
        }
        if let Some(link) = &self.link {
            link.observed(observation, &self.counts);
        }
    }

    fn refresh_certificate(&self) {
        let Some(certificate) = &self.certificate else {
            return;
        };
        match certificate.refresh() {
            Ok(false) => {}
            Ok(true) => tracing::info!("the listener's certificate was read again"),
            Err(error) => tracing::error!(%error, "the listener keeps its old certificate"),
        }
    }
}

fn log(seen: &Seen) {
    let event = &seen.event;
    tracing::warn!(
        target: "ringgate::security",
        kind = event.kind.code(),
        identity = event.identity,
        address = event.address,
        core = seen.core,
        detail = event.detail,
        "security event"
    );
}

/// Grows from start to start, as long as the clock does.
fn unix_micros() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(1, |time| time.as_micros() as u64)
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

fn announce(config: &Config, node: &Node) {
    let encrypted = config.profile == Profile::Strict || config.tls_certificate.is_some();
    let how = if encrypted { "TLS 1.3" } else { "plaintext" };
    tracing::info!(address = %node.address, cpus = ?node.cpus, how, "listening");
    if config.profile == Profile::Development {
        tracing::warn!(
            "profile `development`: agents are believed their names and may send anything to anyone. For trying things out on this \
             machine only"
        );
    }
    println!("ringgate-dataplane ready on {}", node.address);
}
