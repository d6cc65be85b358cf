//! How an agent connects, and what it holds at most.

use std::time::Duration;

use bytes::Bytes;
use ringgate_identity::tls::Expected;
use ringgate_proto::agp::v1 as proto;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::credential::{Address, How, Presenter};
use crate::{Agent, Credential, Error, Headers};

/// Bounds of an agent. Each queue that is full does what is said here; none grows beyond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Messages on their way from the application to the connection. Default 1024. Full: the call waits, also while the connection
    /// is away.
    pub outgoing_messages_max: usize,
    /// Notifications waiting in one subscription. Default 4096. Full: as its delivery policy says.
    pub subscription_messages_max: usize,
    /// Payload bytes waiting in one subscription. Default 16 MiB. Full: as its delivery policy says.
    pub subscription_bytes_max: usize,
    /// Incoming requests that nobody has taken yet. Default 256. Full: refused with `RESOURCE_EXHAUSTED`.
    pub incoming_requests_max: usize,
    /// Incoming streams that nobody has taken yet. Default 64. Full: refused with `RESOURCE_EXHAUSTED`.
    pub incoming_streams_max: usize,
    /// Introductions that nobody has taken yet. Default 64. Full: refused with `RESOURCE_EXHAUSTED`.
    pub introductions_max: usize,
    /// Payload bytes that the peer of a stream may send ahead of the application. Default 1 MiB, at least
    /// [`Limits::CHUNK_BYTES_MAX`]. More credit is given as the application reads.
    pub stream_window_bytes: u64,
    /// Largest message accepted from the gateway, in bytes. Default 16 MiB: above what gateways accept from a sender by default
    /// (4 MiB), with room for what they append.
    pub message_bytes_max: usize,
}

impl Limits {
    /// Largest payload of one [`AgentStream::send`](crate::AgentStream::send): 256 KiB. A chunk must fit into the receiver's
    /// window as a whole, and every agent's window is at least this.
    pub const CHUNK_BYTES_MAX: usize = 256 << 10;

    /// Chunks waiting in one stream, however small: empty ones cost no credit. Full: the stream ends.
    pub(crate) const STREAM_CHUNKS_MAX: usize = 64 << 10;
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            outgoing_messages_max: 1024,
            subscription_messages_max: 4096,
            subscription_bytes_max: 16 << 20,
            incoming_requests_max: 256,
            incoming_streams_max: 64,
            introductions_max: 64,
            stream_window_bytes: 1 << 20,
            message_bytes_max: 16 << 20,
        }
    }
}

/// Certificates for a gateway at an `https://` address.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    ca: Option<Certificate>,
    identity: Option<Identity>,
    domain_name: Option<String>,
}

impl Tls {
    /// No certificates yet.
    pub fn new() -> Tls {
        Tls::default()
    }

    /// The authority that signed the gateway's certificate, PEM.
    #[must_use]
    pub fn ca_certificate(mut self, pem: impl AsRef<[u8]>) -> Tls {
        self.ca = Some(Certificate::from_pem(pem));
        self
    }

    /// The agent's own certificate chain and key, PEM: who it is.
    #[must_use]
    pub fn identity(mut self, certificate_pem: impl AsRef<[u8]>, key_pem: impl AsRef<[u8]>) -> Tls {
        self.identity = Some(Identity::from_pem(certificate_pem, key_pem));
        self
    }

    /// The name that the gateway's certificate must carry, where it is not the host of the address.
    #[must_use]
    pub fn domain_name(mut self, name: impl Into<String>) -> Tls {
        self.domain_name = Some(name.into());
        self
    }

    fn into_config(self) -> ClientTlsConfig {
        let mut config = ClientTlsConfig::new();
        if let Some(ca) = self.ca {
            config = config.ca_certificate(ca);
        }
        if let Some(identity) = self.identity {
            config = config.identity(identity);
        }
        if let Some(name) = self.domain_name {
            config = config.domain_name(name);
        }
        config
    }
}

/// Settings of an agent, from [`Agent::builder`].
#[derive(Debug, Clone)]
#[must_use = "an agent is made by connect()"]
pub struct Builder {
    url: String,
    name: String,
    capabilities: Vec<String>,
    labels: Headers,
    token: String,
    proof: Bytes,
    accept_from: Vec<String>,
    tls: Option<Tls>,
    identity: Option<(Credential, How)>,
    gateway: Expected,
    limits: Limits,
    connect_timeout: Duration,
    request_timeout: Duration,
    reconnect: bool,
    backoff: (Duration, Duration),
}

impl Builder {
    pub(crate) fn new(url: String) -> Builder {
        Builder {
            url,
            name: String::new(),
            capabilities: Vec::new(),
            labels: Headers::new(),
            token: String::new(),
            proof: Bytes::new(),
            accept_from: Vec::new(),
            tls: None,
            identity: None,
            gateway: Expected::Host,
            limits: Limits::default(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            reconnect: true,
            backoff: (Duration::from_millis(100), Duration::from_secs(10)),
        }
    }

    /// The agent's name: `organization/namespace/service/instance`. Without it: the one in its [`identity`](Self::identity).
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = name.into();
        self
    }

    /// Something this agent can be asked for. May be called several times.
    pub fn capability(mut self, capability: impl Into<String>) -> Builder {
        self.capabilities.push(capability.into());
        self
    }

    /// A free-form label. May be called several times.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Builder {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Bearer credential, for an agent without a client certificate, with the signature that binds it to the agent's key (or
    /// nothing, where the gateway asks for none).
    pub fn token(mut self, token: impl Into<String>, proof: impl Into<Bytes>) -> Builder {
        self.token = token.into();
        self.proof = proof.into();
        self
    }

    /// A name pattern of agents that may address this one. May be called several times; never: as the gateway's policy says.
    pub fn accept_from(mut self, pattern: impl Into<String>) -> Builder {
        self.accept_from.push(pattern.into());
        self
    }

    /// Who the agent is, shown by TLS client certificate. The gateway is verified with the credential's trust bundle. When the
    /// credential is renewed, the agent changes over to a connection with the new one by itself.
    pub fn identity(mut self, credential: Credential) -> Builder {
        self.identity = Some((credential, How::Certificate));
        self
    }

    /// The same, shown by a bearer token in the metadata of the call (RFC 9449), where no client certificate can be presented.
    pub fn identity_by_token(mut self, credential: Credential) -> Builder {
        self.identity = Some((credential, How::Token));
        self
    }

    /// Who the gateway must be, for an agent with an [`identity`](Self::identity). Default: whoever the host of the address
    /// belongs to.
    pub fn gateway(mut self, expected: Expected) -> Builder {
        self.gateway = expected;
        self
    }

    /// Certificates of an authority of your own, for an `https://` address. Not together with [`identity`](Self::identity), which
    /// brings its own.
    pub fn tls(mut self, tls: Tls) -> Builder {
        self.tls = Some(tls);
        self
    }

    /// What the agent holds at most.
    pub fn limits(mut self, limits: Limits) -> Builder {
        self.limits = limits;
        self
    }

    /// How long one attempt to connect and register may take. Default 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Builder {
        self.connect_timeout = timeout;
        self
    }

    /// Timeout of requests and introductions that set none. Default 30 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Builder {
        self.request_timeout = timeout;
        self
    }

    /// Whether to connect again when the connection is lost, and when there is a better credential to show. Default yes.
    pub fn reconnect(mut self, reconnect: bool) -> Builder {
        self.reconnect = reconnect;
        self
    }

    /// Bounds of the wait before the first attempt to reconnect, and of the longest wait; between them it doubles. Default 100 ms
    /// and 10 s. Each wait is drawn at random below its bound.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Builder {
        self.backoff = (first, longest);
        self
    }

    /// Connects and registers. One attempt: only a connection that once stood is brought back by itself.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`], [`Error::Unreachable`], [`Error::Refused`] or [`Error::Timeout`].
    pub async fn connect(self) -> Result<Agent, Error> {
        Agent::connect(self.into_config()?).await
    }

    fn into_config(self) -> Result<Config, Error> {
        let wrong = |what, reason: String| Error::Configuration { what, reason };
        let name = self.agent_name()?;
        let endpoint =
            Endpoint::from_shared(self.url.clone()).map_err(|error| wrong("url", error.to_string()))?;
        let is_tls = endpoint.uri().scheme_str() == Some("https");
        if self.tls.is_some() && !is_tls {
            return Err(wrong("tls", format!("{} is not an https:// address", self.url)));
        }
        if self.tls.is_some() && self.identity.is_some() {
            return Err(wrong(
                "tls",
                "the identity brings its own certificates: leave it out".into(),
            ));
        }
        let mut limits = self.limits;
        limits.stream_window_bytes = limits.stream_window_bytes.max(Limits::CHUNK_BYTES_MAX as u64);
        let presenter = match self.identity {
            Some((credential, how)) => Some(Presenter {
                credential,
                how,
                gateway: self.gateway,
                address: Address::parse(&self.url)?,
            }),
            None => None,
        };
        let endpoint = presenter
            .as_ref()
            .map_or(endpoint, |presenter| presenter.address.endpoint());
        let mut endpoint = tuned(endpoint, self.connect_timeout);
        if is_tls && presenter.is_none() {
            let tls = self.tls.unwrap_or_default().into_config();
            endpoint = endpoint
                .tls_config(tls)
                .map_err(|error| wrong("tls", error.to_string()))?;
        }
        Ok(Config {
            endpoint,
            presenter,
            register: proto::Register {
                name,
                capabilities: self.capabilities,
                labels: self.labels,
                token: self.token,
                accept_from: self.accept_from,
                resume_token: Bytes::new(),
                proof: self.proof,
            },
            url: self.url,
            limits,
            connect_timeout: self.connect_timeout,
            request_timeout: self.request_timeout,
            reconnect: self.reconnect,
            backoff: self.backoff,
        })
    }
}

impl Builder {
    /// The name that was set, or that of the credential.
    fn agent_name(&self) -> Result<String, Error> {
        let of_identity = || {
            let (credential, _) = self.identity.as_ref()?;
            credential.agent_name()
        };
        let set = Some(self.name.clone()).filter(|name| !name.is_empty());
        set.or_else(of_identity).ok_or_else(|| Error::Configuration {
            what: "name",
            reason: "set one: organization/namespace/service/instance".into(),
        })
    }
}

/// HTTP/2 for one stream that carries much: windows that hold a burst at memory speed, pings that find a dead peer.
fn tuned(endpoint: Endpoint, connect_timeout: Duration) -> Endpoint {
    endpoint
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20)
        .http2_adaptive_window(false)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
}

/// A checked [`Builder`].
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) url: String,
    pub(crate) endpoint: Endpoint,
    /// What the agent shows the gateway of its identity.
    pub(crate) presenter: Option<Presenter>,
    /// Without resume token.
    pub(crate) register: proto::Register,
    pub(crate) limits: Limits,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) reconnect: bool,
    pub(crate) backoff: (Duration, Duration),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what_of(builder: Builder) -> &'static str {
        match builder.into_config() {
            Err(Error::Configuration { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn wrong_settings_are_told_by_name() {
        let builder = || Builder::new("http://127.0.0.1:1".into());
        assert_eq!(what_of(builder()), "name");
        assert_eq!(what_of(Builder::new("not a url".into()).name("a/b/c/d")), "url");
        assert_eq!(what_of(builder().name("a/b/c/d").tls(Tls::new())), "tls");
    }

    #[test]
    fn every_window_holds_the_largest_chunk() {
        let limits = Limits {
            stream_window_bytes: 1,
            ..Limits::default()
        };
        let builder = Builder::new("http://127.0.0.1:1".into())
            .name("a/b/c/d")
            .limits(limits);
        let config = builder.into_config().unwrap();
        assert_eq!(config.limits.stream_window_bytes, Limits::CHUNK_BYTES_MAX as u64);
    }
}
