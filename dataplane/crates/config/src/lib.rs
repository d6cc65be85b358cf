//! Configuration: one internal form, made of keys that file, command line and the control process set alike.
//!
//! A key has a name, a documentation, an allowed range and a default; [`keys::KEYS`] lists all of them, and the shipped example is
//! made from that list.

#![forbid(unsafe_code)]

mod dialects;
mod error;
mod file;
mod keys;
mod observe;
mod sources;
mod value;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ringgate_policy::{Limits, Pattern};
use ringgate_uring::RingConfig;

pub use dialects::{Allowed, DialectConfig, GateConfig, HeaderMac, SlimConfig};
pub use error::ConfigError;
pub use keys::{Change, Key, example};
pub use observe::ObserveConfig;
pub use sources::Sources;

/// Which rules the node enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// TLS, a verified credential before anything else, payloads are MLS.
    #[default]
    Strict,
    /// Plaintext and agents named by their own word, on loopback only.
    Development,
}

/// Which CPUs run shards.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Cores {
    /// All that this process may use.
    #[default]
    Auto,
    /// These, by the kernel's numbers.
    List(Vec<usize>),
}

/// How the node is attached to a control process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlConfig {
    /// Where it is; several share one store. None: there is no control process.
    pub urls: Vec<String>,
    /// Certificates that its own must chain to, PEM.
    pub ca: Option<PathBuf>,
    /// Or the fingerprint of its authority.
    pub fingerprint: Option<String>,
    /// File of the token to enrol with.
    pub join_token: Option<PathBuf>,
    /// Folder of key, certificate and last state.
    pub state_dir: PathBuf,
}

/// Durable state spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateConfig {
    /// Patterns of their names.
    pub durable: Vec<String>,
    /// Folder of their log.
    pub directory: PathBuf,
    /// Bytes of one of the log's files.
    pub segment_bytes: u64,
}

/// What topics keep for those who subscribe later.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicsConfig {
    /// Patterns of topics that keep the last message.
    pub retain: Vec<String>,
    /// Patterns of topics that keep the last few.
    pub replay: Vec<String>,
    /// Patterns of those of them that go to the log.
    pub durable: Vec<String>,
}

/// All settings of a node.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which rules are enforced.
    pub profile: Profile,
    /// Name of the node, told to agents.
    pub node: String,
    /// Where agents connect.
    pub listen: SocketAddr,
    /// Names and addresses that agents reach the node by; see [`Config::hosts`].
    pub hosts: Vec<String>,
    /// Nodes to keep a link to, host:port.
    pub neighbours: Vec<String>,
    /// The domain of identities where no control process says it.
    pub trust_domain: String,
    /// The control process.
    pub control: ControlConfig,
    /// Policies where there is no control process, Cedar.
    pub access_policy: Option<PathBuf>,
    /// Roles for them, TOML.
    pub access_grants: Option<PathBuf>,
    /// Where metrics and health are served; `None`: nowhere.
    pub http: Option<SocketAddr>,
    /// File of the token that whoever asks there must show.
    pub http_token: Option<PathBuf>,
    /// TLS certificate chain, PEM.
    pub tls_certificate: Option<PathBuf>,
    /// TLS private key, PEM.
    pub tls_key: Option<PathBuf>,
    /// CA of client certificates, PEM.
    pub tls_client_ca: Option<PathBuf>,
    /// Whether clients must show a certificate.
    pub tls_client_required: bool,
    /// CPUs that run shards.
    pub cores: Cores,
    /// How long an idle core looks for work before it sleeps.
    pub spin: Duration,
    /// Whether cores never sleep.
    pub busy_poll: bool,
    /// Bytes of one send.
    pub send_bytes_max: usize,
    /// Memory that the unfinished input of one connection's calls may hold.
    pub connection_input_bytes_max: usize,
    /// How long a client may take to read one send.
    pub send_timeout: Duration,
    /// How long agents have to leave at shutdown.
    pub drain: Duration,
    /// Limits of agents and cores.
    pub limits: Limits,
    /// What is looked at beside counting.
    pub observe: ObserveConfig,
    /// Durable state spaces.
    pub state: StateConfig,
    /// What topics keep.
    pub topics: TopicsConfig,
    /// Clients of SLIM v3.
    pub slim: SlimConfig,
    /// Clients of AGP's bindings of 2025.
    pub agp2025: DialectConfig,
    /// HTTP/2.
    pub http2: ringgate_http2::Config,
    /// The rings.
    pub ring: RingConfig,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            profile: Profile::Strict,
            node: "ringgate".to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 46357)),
            hosts: Vec::new(),
            neighbours: Vec::new(),
            trust_domain: "ringgate.local".to_owned(),
            control: ControlConfig {
                urls: Vec::new(),
                ca: None,
                fingerprint: None,
                join_token: None,
                state_dir: PathBuf::from(".ringgate/node"),
            },
            access_policy: None,
            access_grants: None,
            http: Some(SocketAddr::from(([127, 0, 0, 1], 46359))),
            http_token: None,
            tls_certificate: None,
            tls_key: None,
            tls_client_ca: None,
            tls_client_required: false,
            cores: Cores::Auto,
            spin: Duration::from_micros(20),
            busy_poll: false,
            send_bytes_max: 128 * 1024,
            connection_input_bytes_max: 128 * 1024 * 1024,
            send_timeout: Duration::from_secs(60),
            drain: Duration::from_secs(5),
            limits: Limits::default(),
            observe: ObserveConfig::default(),
            state: StateConfig {
                durable: Vec::new(),
                directory: PathBuf::from(".ringgate/spaces"),
                segment_bytes: 64 * 1024 * 1024,
            },
            topics: TopicsConfig::default(),
            slim: SlimConfig::default(),
            agp2025: DialectConfig::default(),
            http2: ringgate_http2::Config::default(),
            ring: RingConfig::default(),
        }
    }
}

impl Config {
    /// Checks what no single key can see.
    ///
    /// # Errors
    /// [`ConfigError::Contradiction`] with what to change.
    pub fn check(&self) -> Result<(), ConfigError> {
        let contradiction = |text: String| Err(ConfigError::Contradiction(text));
        self.limits
            .check()
            .or_else(|error| contradiction(error.to_string()))?;
        self.http2
            .validate()
            .or_else(|error| contradiction(format!("http2: {error}")))?;
        if self.tls_certificate.is_some() != self.tls_key.is_some() {
            return contradiction(
                "`tls.certificate` and `tls.key` belong together: give both or none".into(),
            );
        }
        if self.tls_client_ca.is_some() && self.tls_certificate.is_none() {
            return contradiction("`tls.client_ca` needs `tls.certificate` and `tls.key`".into());
        }
        if self.tls_client_required && self.tls_client_ca.is_none() {
            return contradiction("`tls.client_required` needs `tls.client_ca`".into());
        }
        for (key, patterns) in [
            ("state.durable", &self.state.durable),
            ("topics.retain", &self.topics.retain),
            ("topics.replay", &self.topics.replay),
            ("topics.durable", &self.topics.durable),
        ] {
            for pattern in patterns {
                Pattern::new(pattern)
                    .map(drop)
                    .or_else(|error| contradiction(format!("`{key}`: {pattern:?}: {error}")))?;
            }
        }
        if !self.topics.durable.is_empty() && self.topics.retain.is_empty() && self.topics.replay.is_empty() {
            return contradiction(
                "`topics.durable` says which of the topics of `topics.retain` and `topics.replay` outlive the node, and there are none".into(),
            );
        }
        if let Some(address) = self.http.filter(|address| !address.ip().is_loopback())
            && self.http_token.is_none()
        {
            return contradiction(format!(
                "`http` tells who reaches it the names of agents and topics, and is not encrypted: on {address} it needs `http_token`, a \
                 file with a token that is to be shown; or serve it on loopback, or \"off\""
            ));
        }
        self.check_neighbours()?;
        self.check_control()?;
        if !self.observe.otlp_endpoint.is_empty() && !self.observe.otlp_endpoint.starts_with("http://") {
            return contradiction(format!(
                "`observe.otlp_endpoint` cannot be {:?}: write http://HOST:PORT of a collector on this machine or in its pod, which \
                 encrypts what it passes on",
                self.observe.otlp_endpoint
            ));
        }
        let attached = !self.control.urls.is_empty();
        match self.profile {
            Profile::Strict if self.tls_certificate.is_none() && !attached => contradiction(
                "profile `strict` needs TLS and agents it can verify: name a control process (`control.url`), or give \
                 `tls.certificate`, `tls.key` and `tls.client_ca`; for trying things out on this machine alone start with \
                 `--profile development`"
                    .into(),
            ),
            Profile::Strict if self.tls_client_ca.is_none() && !attached => contradiction(
                "profile `strict` needs agents it can verify: give `tls.client_ca`, or name a control process (`control.url`)"
                    .into(),
            ),
            Profile::Development if !self.listen.ip().is_loopback() => contradiction(format!(
                "profile `development` believes every agent's word and so listens on loopback only, not on {}",
                self.listen
            )),
            _ => Ok(()),
        }
    }

    fn check_neighbours(&self) -> Result<(), ConfigError> {
        for neighbour in &self.neighbours {
            let port = neighbour.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(1..))) {
                return Err(ConfigError::Contradiction(format!(
                    "`neighbours` cannot have {neighbour:?}: write HOST:PORT of the other node's listener"
                )));
            }
        }
        if !self.neighbours.is_empty() && self.profile == Profile::Strict && self.control.urls.is_empty() {
            return Err(ConfigError::Contradiction(
                "`neighbours` needs a control process (`control.url`): it certifies nodes, by which they know each other".into(),
            ));
        }
        Ok(())
    }

    fn check_control(&self) -> Result<(), ConfigError> {
        let contradiction = |text: &str| Err(ConfigError::Contradiction(text.to_owned()));
        let control = &self.control;
        if control.urls.is_empty() {
            return Ok(());
        }
        if let Some(url) = control.urls.iter().find(|url| !url.starts_with("https://")) {
            return contradiction(&format!(
                "`control.url` cannot be {url:?}: write https://HOST:PORT, as the control process prints it"
            ));
        }
        if control.ca.is_some() == control.fingerprint.is_some() {
            return contradiction(
                "`control.url` needs either `control.ca` or `control.fingerprint`, to recognise the control process by",
            );
        }
        if self.access_policy.is_some() || self.access_grants.is_some() {
            return contradiction(
                "`access.policy` and `access.grants` are for nodes without a control process; apply them there: `ringgate policy apply`",
            );
        }
        if self.profile == Profile::Development {
            return contradiction(
                "profile `development` verifies nobody and so cannot be attached to a control process (`control.url`)",
            );
        }
        Ok(())
    }

    /// Names and addresses that agents reach the node by: those configured, or else localhost and the address it listens on.
    pub fn hosts(&self) -> Vec<String> {
        if !self.hosts.is_empty() {
            return self.hosts.clone();
        }
        let own = Some(self.listen.ip()).filter(|ip: &IpAddr| !ip.is_unspecified());
        std::iter::once("localhost".to_owned())
            .chain(own.map(|ip| ip.to_string()))
            .collect()
    }
}
