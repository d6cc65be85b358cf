//! What a TLS listener presents and asks for, from PEM files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// Files of a TLS listener, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Certificate chain, leaf first.
    pub certificate: PathBuf,
    /// Private key of the leaf.
    pub key: PathBuf,
    /// Certificates that client certificates must chain to; `None` asks for none.
    pub client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is refused.
    pub client_certificate_required: bool,
}

/// TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or holds something else.
    #[error("cannot use {path} as {what}: {source}. Give a PEM file that this user can read")]
    File {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What was wrong.
        source: rustls::pki_types::pem::Error,
    },
    /// A file holds nothing usable.
    #[error("{path} holds no certificate. Give a PEM file with at least one CERTIFICATE block")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The parts do not fit together.
    #[error("the TLS certificate and key cannot be used together: {0}")]
    Unfit(#[from] rustls::Error),
    /// The client CA cannot be used.
    #[error("the client CA cannot be used: {0}")]
    ClientCa(String),
}

/// Makes the configuration of a listener: TLS 1.3, ALPN `h2`, client certificates as `files` says.
///
/// # Errors
/// [`Error`], naming the file.
pub fn server_config(files: &Files) -> Result<Arc<ServerConfig>, Error> {
    let chain = certificates(&files.certificate, "a certificate chain")?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| Error::File {
        path: files.key.clone(),
        what: "a private key",
        source,
    })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path, "client CA certificates")? {
                roots.add(certificate)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if files.client_certificate_required {
                verifier
            } else {
                verifier.allow_unauthenticated()
            };
            builder.with_client_cert_verifier(
                verifier
                    .build()
                    .map_err(|error| Error::ClientCa(error.to_string()))?,
            )
        }
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Early data can be replayed by whoever recorded it; a publish must not be.
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let file_error = |source| Error::File {
        path: path.to_owned(),
        what,
        source,
    };
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(file_error)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(file_error)?;
    if certificates.is_empty() {
        return Err(Error::Empty {
            path: path.to_owned(),
        });
    }
    Ok(certificates)
}
