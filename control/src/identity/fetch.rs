//! Fetching a small document over https.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Longest time of one fetch.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest document; key sets of known issuers take a few KiB.
const BYTES_MAX: usize = 256 * 1024;

/// A key set cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The address is no https URL.
    #[error("`{0}` is no https URL with a host")]
    Url(String),
    /// The server cannot be reached, or does not prove who it is.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It does not speak HTTP.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// It answered something else.
    #[error("the server answered {0}; 200 is needed (redirects are not followed)")]
    Status(http::StatusCode),
    /// The document is too large, or broke off.
    #[error("the document cannot be read: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// It took too long.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// The document is no key set.
    #[error("the document is no key set (JWKS): {0}")]
    NoKeys(serde_json::Error),
}

/// The document at an https URL, whose server must chain to these authorities (PEM; empty: those that the system trusts).
pub(super) async fn https(url: &str, authorities: &Path) -> Result<Vec<u8>, FetchError> {
    tokio::time::timeout(TIMEOUT, get(url, authorities))
        .await
        .unwrap_or(Err(FetchError::Timeout))
}

async fn get(url: &str, authorities: &Path) -> Result<Vec<u8>, FetchError> {
    let wrong = || FetchError::Url(url.to_owned());
    let uri: http::Uri = url.parse().map_err(|_| wrong())?;
    let host = uri.host().ok_or_else(wrong)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(bare.clone()).map_err(|_| wrong())?;
    let stream = TcpStream::connect((bare.as_str(), uri.port_u16().unwrap_or(443))).await?;
    let connector = TlsConnector::from(Arc::new(client_config(authorities)?));
    let stream = connector.connect(name, stream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().ok_or_else(wrong)?;
    let request = http::Request::get(path)
        .header(http::header::HOST, authority.as_str())
        .header(http::header::ACCEPT, "application/json")
        .header(
            http::header::USER_AGENT,
            concat!("ringgate-control/", env!("CARGO_PKG_VERSION")),
        )
        .body(Empty::<Bytes>::new())
        .map_err(|_| wrong())?;
    let response = sender.send_request(request).await?;
    if response.status() != http::StatusCode::OK {
        connection.abort();
        return Err(FetchError::Status(response.status()));
    }
    let body = Limited::new(response.into_body(), BYTES_MAX).collect().await;
    connection.abort();
    Ok(body.map_err(FetchError::Body)?.to_bytes().to_vec())
}

fn client_config(authorities: &Path) -> Result<ClientConfig, FetchError> {
    let mut roots = RootCertStore::empty();
    if authorities.as_os_str().is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    } else {
        let file = |source: io::Error| FetchError::File {
            path: authorities.to_owned(),
            source,
        };
        let pem = std::fs::read(authorities).map_err(file)?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| file(io::Error::other(error)))?;
            roots
                .add(certificate)
                .map_err(|error| file(io::Error::other(error)))?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
