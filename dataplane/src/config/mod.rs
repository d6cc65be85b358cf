//! Configuration: one internal form, made of keys that file, command line and (later) the control process set alike.
//!
//! A key has a name, a documentation, an allowed range and a default; [`keys::KEYS`] lists all of them, and the shipped example is
//! made from that list.

mod error;
mod file;
mod keys;
mod value;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ringgate_policy::Limits;
use ringgate_uring::RingConfig;

pub use error::ConfigError;
pub use keys::{Key, example};

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

/// All settings of a node.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which rules are enforced.
    pub profile: Profile,
    /// Name of the node, told to agents.
    pub node: String,
    /// Where agents connect.
    pub listen: SocketAddr,
    /// Where metrics and health are served; `None`: nowhere.
    pub http: Option<SocketAddr>,
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
            http: Some(SocketAddr::from(([127, 0, 0, 1], 46359))),
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
        match self.profile {
            Profile::Strict if self.tls_certificate.is_none() => contradiction(
                "profile `strict` needs TLS: give `tls.certificate` and `tls.key`, or for trying things out on this machine \
                 alone start with `--profile development`"
                    .into(),
            ),
            Profile::Strict if !self.tls_client_required => contradiction(
                "profile `strict` needs verified agents: give `tls.client_ca` and set `tls.client_required = true`".into(),
            ),
            Profile::Development if !self.listen.ip().is_loopback() => contradiction(format!(
                "profile `development` believes every agent's word and so listens on loopback only, not on {}",
                self.listen
            )),
            _ => Ok(()),
        }
    }
}
