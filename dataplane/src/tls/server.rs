//! What a TLS listener presents and whom it takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use ringgate_identity::SharedVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoClientAuth, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use super::watch::Watched;
use crate::observe::Reporter;

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

/// Whom a listener takes.
#[derive(Debug, Clone)]
pub enum Clients {
    /// Anybody, without a certificate.
    Anybody,
    /// Who chains to a certificate of this file, by the rules of the web (profile `development`).
    Authority {
        /// PEM.
        path: PathBuf,
        /// Whether those without a certificate are refused.
        required: bool,
    },
    /// Whom the trust domain certifies. What it trusts may change at any time.
    TrustDomain {
        /// Says whom.
        verifier: Arc<SharedVerifier>,
        /// Whether those without a certificate are refused in the handshake.
        required: bool,
        /// Who is told of those that are refused.
        reporter: Reporter,
    },
}

/// Makes the configuration of a listener: TLS 1.3, ALPN `h2`.
///
/// # Errors
/// [`Error`], naming the file.
pub fn server_config(
    certificate: Arc<dyn ResolvesServerCert>,
    clients: Clients,
) -> Result<Arc<ServerConfig>, Error> {
    // A resumed session would skip the verification of its client, and so outlive a revocation.
    let resumes = !matches!(clients, Clients::TrustDomain { .. });
    let verifier: Arc<dyn ClientCertVerifier> = match clients {
        Clients::Anybody => Arc::new(NoClientAuth),
        Clients::Authority { path, required } => by_the_web(&path, required)?,
        Clients::TrustDomain {
            verifier,
            required,
            reporter,
        } => Arc::new(Watched::new(
            ringgate_identity::tls::client_verifier(verifier, required),
            reporter,
        )),
    };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Early data can be replayed by whoever recorded it; a publish must not be.
    config.max_early_data_size = 0;
    if !resumes {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

fn by_the_web(path: &Path, required: bool) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, "client CA certificates")? {
        roots.add(certificate)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let verifier = if required {
        verifier
    } else {
        verifier.allow_unauthenticated()
    };
    verifier
        .build()
        .map_err(|error| Error::ClientCa(error.to_string()))
}

/// A listener's certificate from files, read again when they change.
#[derive(Debug)]
pub struct FileCertificate {
    chain: PathBuf,
    key: PathBuf,
    current: ArcSwap<(Stamp, Arc<CertifiedKey>)>,
}

/// When the two files were written.
type Stamp = [Option<SystemTime>; 2];

impl FileCertificate {
    /// Reads the chain (leaf first) and the leaf's private key, both PEM.
    ///
    /// # Errors
    /// [`Error`], naming the file.
    pub fn read(chain: PathBuf, key: PathBuf) -> Result<FileCertificate, Error> {
        let stamp = stamp(&chain, &key);
        let certified = certified(&chain, &key)?;
        Ok(FileCertificate {
            chain,
            key,
            current: ArcSwap::from_pointee((stamp, certified)),
        })
    }

    /// Reads the files again if they were written since: whether they were. What cannot be used does not replace what can.
    ///
    /// # Errors
    /// [`Error`], once for each time that they were written.
    pub fn refresh(&self) -> Result<bool, Error> {
        let stamp = stamp(&self.chain, &self.key);
        let current = self.current.load();
        if current.0 == stamp {
            return Ok(false);
        }
        match certified(&self.chain, &self.key) {
            Ok(certified) => {
                self.current.store(Arc::new((stamp, certified)));
                Ok(true)
            }
            Err(error) => {
                self.current.store(Arc::new((stamp, current.1.clone())));
                Err(error)
            }
        }
    }
}

impl ResolvesServerCert for FileCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().1.clone())
    }
}

fn stamp(chain: &Path, key: &Path) -> Stamp {
    [chain, key].map(|path| fs::metadata(path).and_then(|file| file.modified()).ok())
}

fn certified(chain: &Path, key: &Path) -> Result<Arc<CertifiedKey>, Error> {
    let certificates = certificates(chain, "a certificate chain")?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|source| Error::File {
        path: key.to_owned(),
        what: "a private key",
        source,
    })?;
    let certified = CertifiedKey::from_der(certificates, private, &provider())?;
    Ok(Arc::new(certified))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// All certificates of a PEM file; `what` says what they should be, for the error.
///
/// # Errors
/// [`Error`], naming the file.
pub fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, Error> {
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
