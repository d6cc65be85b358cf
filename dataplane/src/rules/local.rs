//! Rules from files, where there is no control process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringgate_access::{Access, GrantError, Grants, PolicySet};
use ringgate_identity::{
    BundleError, CertificateDer, Revocations, Subject, SubjectError, TrustBundle, TrustDomain, Verifier,
};
use ringgate_policy::{Credential, Identity, Rejection};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::Rules;
use crate::config::{Config, Profile};
use crate::tls;

/// The longest life that certificates of the operator's own authority may have, in seconds: the most that any verifier takes.
const LEAF_TTL_SECONDS_MAX: u32 = 7 * 24 * 3600;

/// The rules cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The policies cannot be used.
    #[error("{path}:{problem}")]
    Policy {
        /// The file.
        path: PathBuf,
        /// The first thing wrong, with line and column.
        problem: String,
    },
    /// The roles cannot be used.
    #[error("{path}: {message}")]
    Grants {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The trust domain is no name.
    #[error("`trust_domain` {name:?}: {source}")]
    Domain {
        /// As configured.
        name: String,
        /// What is wrong.
        source: SubjectError,
    },
    /// The client CA cannot be trusted.
    #[error("`tls.client_ca`: {0}")]
    Bundle(#[from] BundleError),
    /// The client CA cannot be read.
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

/// The rules that `config` and the files it names say.
///
/// # Errors
/// [`LocalError`], naming the file.
pub fn from_files(config: &Config) -> Result<Rules, LocalError> {
    let access = access(config)?;
    if config.profile == Profile::Development {
        return Ok(Rules::development(&config.node, access, config.limits));
    }
    let anchors = match &config.tls_client_ca {
        Some(path) => tls::certificates(path, "client CA certificates")?,
        None => Vec::new(),
    };
    let domain = TrustDomain::new(&config.trust_domain).map_err(|source| LocalError::Domain {
        name: config.trust_domain.clone(),
        source,
    })?;
    let bundle = TrustBundle {
        domain,
        anchors,
        intermediates: Vec::new(),
        token_keys: Vec::new(),
        leaf_ttl_seconds_max: LEAF_TTL_SECONDS_MAX,
        version: 1,
    };
    let verifier = Arc::new(Verifier::new(bundle, Revocations::default())?);
    Ok(Rules::strict(
        &config.node,
        config.hosts().into(),
        verifier,
        access,
        config.limits,
    ))
}

fn access(config: &Config) -> Result<Option<Access>, LocalError> {
    let Some(path) = &config.access_policy else {
        return Ok(None);
    };
    let policies = PolicySet::parse(&read(path)?).map_err(|problems| LocalError::Policy {
        path: path.clone(),
        problem: problems
            .iter()
            .find(|problem| problem.fatal)
            .map_or_else(|| "0:0: it cannot be read".to_owned(), ToString::to_string),
    })?;
    let grants = match &config.access_grants {
        Some(path) => grants(path)?,
        None => Grants::default(),
    };
    Ok(Some(Access::new(Arc::new(policies), grants)))
}

fn grants(path: &Path) -> Result<Grants, LocalError> {
    let error = |message: String| LocalError::Grants {
        path: path.to_owned(),
        message,
    };
    let table: toml::Table = read(path)?
        .parse()
        .map_err(|problem: toml::de::Error| error(problem.to_string()))?;
    let mut grants = Grants::default();
    for (name, roles) in table {
        let roles = roles.as_array().and_then(|roles| {
            let texts = roles.iter().map(|role| role.as_str());
            texts.collect::<Option<Vec<_>>>()
        });
        let roles = roles.ok_or_else(|| {
            error(format!(
                "{name:?} needs a list of roles, as in \"{name}\" = [\"seller\"]"
            ))
        })?;
        grants
            .set(&name, roles)
            .map_err(|problem: GrantError| error(problem.to_string()))?;
    }
    Ok(grants)
}

fn read(path: &Path) -> Result<String, LocalError> {
    std::fs::read_to_string(path).map_err(|source| LocalError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Profile `development`: what a certificate of any authority says, which the listener verified. One without an `agp://` URI leaves
/// the name to the agent.
pub(super) fn believed(chain: &[CertificateDer<'_>]) -> Result<Identity, Rejection> {
    let unreadable = || Rejection {
        code: "MALFORMED",
        reason: "the client certificate cannot be read; show an X.509 version 3 certificate".to_owned(),
    };
    let leaf = chain.first().ok_or_else(unreadable)?;
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| unreadable())?;
    let names = certificate.subject_alternative_name().map_err(|_| unreadable())?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with("agp://") => Some(*uri),
            _ => None,
        })
        .collect();
    let (agent, uri) = match uris[..] {
        [] => (None, ""),
        [uri] => match Subject::parse(uri) {
            Ok((_, Subject::Agent(name))) => (Some(name), uri),
            _ => return Err(unreadable()),
        },
        _ => {
            return Err(Rejection {
                code: "SEVERAL_SUBJECTS",
                reason: "the certificate names more than one agent; it must have one agp:// URI".to_owned(),
            });
        }
    };
    Ok(Identity::Certificate(Arc::new(Credential {
        agent,
        uri: uri.to_owned(),
        serial: certificate.raw_serial_as_string().replace(':', ""),
        shown: leaf.as_ref().into(),
        ..Credential::default()
    })))
}
