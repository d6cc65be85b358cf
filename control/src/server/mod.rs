//! The process as a server: start, serve, drain.

pub mod connection;
pub mod dashboard;
pub mod http;
pub mod tls;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringgate_proto::control::v1::audit_server::AuditServer;
use ringgate_proto::control::v1::config_server::ConfigServer;
use ringgate_proto::control::v1::groups_server::GroupsServer;
use ringgate_proto::control::v1::identity_server::IdentityServer;
use ringgate_proto::control::v1::key_packages_server::KeyPackagesServer;
use ringgate_proto::control::v1::nodes_server::NodesServer;
use ringgate_proto::control::v1::policy_server::PolicyServer;
use ringgate_proto::control::v1::registry_server::RegistryServer;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;

use crate::authority::{OwnCredentials, OwnError, StartError};
use crate::config::ConfigBook;
use crate::context::Context;
use crate::files::{self, FileError};
use crate::gate::{Gate, GateLayer};
use crate::groups::{GroupService, Hub};
use crate::identity::IdentityService;
use crate::nodes::NodeHub;
use crate::packages::KeyPackageService;
use crate::policy::PolicyService;
use crate::registry::Registry;
use crate::settings::Settings;
use crate::store::{self, OpenStoreError};
use dashboard::Dashboard;
use ringgate_identity::{ViewerToken, ViewerTokenError};

/// How often a connection is asked whether it is still there.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long it has to answer.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of the headers of one call; a token and its proof take 2 KiB.
const HEADERS_BYTES_MAX: u32 = 32 * 1024;

/// The process cannot serve. The message says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The store.
    #[error(transparent)]
    Store(#[from] OpenStoreError),
    /// The authority.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The credentials of the process itself.
    #[error("cannot make the process's own credentials: {0}")]
    Own(#[from] OwnError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The token of those who look.
    #[error(transparent)]
    Token(#[from] ViewerTokenError),
    /// An address.
    #[error("cannot listen on {address} (`{key}`): {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The key that says so.
        key: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// TLS.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The descriptors of the services.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// Serving.
    #[error("{0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves until asked to end, then drains: calls have `drain_ms` to end, streams are ended with `DRAINING`.
///
/// # Errors
/// [`ServeError`]: why it cannot start.
pub async fn run(settings: Settings, end: impl Future<Output = ()>) -> Result<(), ServeError> {
    let settings = Arc::new(settings);
    let store = store::open(&settings).await?;
    let context = Context::start(settings.clone(), store).await?;
    let own = OwnCredentials::start(context.clone()).await?;
    let listener = listen(settings.listen, "listen").await?;
    let address = local(&listener, "listen", settings.listen)?;
    let acceptor = TlsAcceptor::from(Arc::new(tls::server_config(own.server.clone())?));

    // Ended by being dropped, with everything that waits in them.
    let mut tasks = JoinSet::new();
    tasks.spawn(own.keep());
    let identity = IdentityService::new(context.clone());
    tasks.spawn(identity.clone().sweep());
    let hub = Hub::default();
    tasks.spawn(hub.clone().run(context.store.clone()));
    let packages = KeyPackageService::new(context.clone(), hub.clone());
    let groups = GroupService::new(context.clone(), hub, packages.clone());
    tasks.spawn(groups.clone().evict());
    tasks.spawn(groups.clone().age());
    tasks.spawn(groups.clone().sweep());
    let registry = Registry::start(
        context.store.clone(),
        context.settings.limits.page_size_max as usize,
    );
    let (ready, is_ready) = watch::channel(false);
    let token = match settings.http_token.as_os_str().is_empty() {
        true => None,
        false => Some(ViewerToken::read(&settings.http_token)?),
    };
    if let Some(http) = settings.http.0 {
        let listener = listen(http, "http").await?;
        tracing::info!(address = %local(&listener, "http", http)?, "health and dashboard");
        let dashboard = Dashboard::new(registry.clone(), http.ip().is_loopback(), token);
        tasks.spawn(http::serve(listener, is_ready, dashboard));
    }
    let (draining, is_draining) = watch::channel(false);
    let (connections, accepted) = mpsc::channel(settings.limits.handshakes_max as usize);
    tasks.spawn(connection::accept(
        listener,
        acceptor,
        settings.limits.clone(),
        context.audit.clone(),
        connections,
    ));

    let routes = routes(&context, identity, registry, packages, groups).await?;
    let gate = Gate::new(
        settings.clone(),
        context.authority.verifier().clone(),
        context.authority.changes(),
        is_draining,
        context.audit.clone(),
    );
    let limits = &settings.limits;
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADERS_BYTES_MAX)
        .max_concurrent_streams(u32::try_from(limits.calls_per_connection_max).ok())
        .timeout(Duration::from_millis(limits.call_timeout_ms))
        .layer(GateLayer(Arc::new(gate)))
        .serve_with_incoming_shutdown(routes, ReceiverStream::new(accepted), {
            let mut draining = draining.subscribe();
            async move {
                // It is dropped only after this.
                let _ = draining.wait_for(|draining| *draining).await;
            }
        });
    let server = tokio::spawn(server);

    let url = endpoint(&settings, address);
    files::replace(&settings.endpoint_file(), format!("{url}\n").as_bytes(), 0o644)?;
    ready.send_replace(true);
    tracing::info!(
        %address,
        url,
        trust_domain = %context.authority.domain(),
        fingerprint = %context.authority.issuer().fingerprint(),
        "serving"
    );
    end.await;
    tracing::info!(drain_ms = settings.drain_ms, "draining");
    ready.send_replace(false);
    draining.send_replace(true);
    match tokio::time::timeout(settings.drain(), server).await {
        Ok(Ok(served)) => served?,
        Ok(Err(error)) => tracing::error!(%error, "the server ended badly"),
        Err(_) => tracing::warn!("calls were still running; they are cut off"),
    }
    Ok(())
}

/// All services.
async fn routes(
    context: &Context,
    identity: IdentityService,
    registry: Registry,
    packages: KeyPackageService,
    groups: GroupService,
) -> Result<Routes, ServeError> {
    let bytes_max = context.settings.limits.request_bytes_max as usize;
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("", ServingStatus::Serving).await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(ringgate_proto::control::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let nodes = NodeHub::start(context, registry.clone())
        .await
        .map_err(OpenStoreError::from)?;
    let mut routes = Routes::builder();
    routes
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(IdentityServer::new(identity).max_decoding_message_size(bytes_max))
        .add_service(
            PolicyServer::new(PolicyService::new(context.clone(), registry.clone()))
                .max_decoding_message_size(bytes_max),
        )
        .add_service(ConfigServer::new(ConfigBook::new(context.clone())).max_decoding_message_size(bytes_max))
        .add_service(KeyPackagesServer::new(packages).max_decoding_message_size(bytes_max))
        .add_service(GroupsServer::new(groups).max_decoding_message_size(bytes_max))
        .add_service(NodesServer::new(nodes).max_decoding_message_size(bytes_max))
        .add_service(RegistryServer::new(registry).max_decoding_message_size(bytes_max))
        .add_service(AuditServer::new(context.audit.clone()).max_decoding_message_size(bytes_max));
    Ok(routes.routes())
}

async fn listen(address: SocketAddr, key: &'static str) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, key, source })
}

fn local(listener: &TcpListener, key: &'static str, address: SocketAddr) -> Result<SocketAddr, ServeError> {
    listener
        .local_addr()
        .map_err(|source| ServeError::Listen { address, key, source })
}

/// How clients on this machine reach the API: by an address that the certificate is for.
fn endpoint(settings: &Settings, address: SocketAddr) -> String {
    let host = address.ip().to_string();
    if settings.is_own_host(&host) {
        return format!("https://{address}");
    }
    let named = settings.hosts.first().map_or(host.as_str(), String::as_str);
    match named.contains(':') {
        true => format!("https://[{named}]:{}", address.port()),
        false => format!("https://{named}:{}", address.port()),
    }
}
