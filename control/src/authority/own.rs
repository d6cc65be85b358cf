//! The credentials that this process issues to itself: its own as a server, and the first operator's, whose files are on this
//! machine. Both are renewed while the process runs, without a restart.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ringgate_identity::issue::{IssueError, Issued as Certificate};
use ringgate_identity::tls::{Serving, SharedCredential};
use ringgate_identity::{
    AgentKey, CertificateDer, KeyError, NodeId, OperatorName, ServerKey, Subject, UnixTime,
};
use ringgate_proto::control::v1::Issued;
use rustls::pki_types::pem::PemObject as _;
use tonic::Status;

use crate::audit;
use crate::context::Context;
use crate::files::{self, FileError};
use crate::identity::log_entry;
use crate::ledger::{Draft, Step};

/// The identity of control processes, `node/control`. Nobody can enrol under it.
pub const CONTROL_NODE: &str = "control";
/// The first operator, whose credential is in the state folder.
pub const FIRST_OPERATOR: &str = "admin";
/// Wait before a renewal that failed is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// The process cannot make its own credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OwnError {
    /// Signing.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The issuance log.
    #[error("{0}")]
    Log(String),
}

/// The credentials of this process.
#[derive(Debug)]
pub struct OwnCredentials {
    context: Context,
    /// What the server shows.
    pub server: Arc<SharedCredential>,
    renew_at: UnixTime,
}

impl OwnCredentials {
    /// Makes what is missing or ends soon.
    ///
    /// # Errors
    /// [`OwnError`].
    pub async fn start(context: Context) -> Result<OwnCredentials, OwnError> {
        let key = AgentKey::generate()?;
        let (issued, serving) = certify_server(&context, &key).await?;
        let server = SharedCredential::serving(issued.chain.clone(), &key, Some(serving))?;
        let mut own = OwnCredentials {
            context,
            server: Arc::new(server),
            renew_at: renew_at(&issued),
        };
        own.renew_operator().await?;
        Ok(own)
    }

    /// Renews them for as long as it is polled.
    pub async fn keep(mut self) {
        loop {
            let now = UnixTime::now().as_secs();
            let wait = Duration::from_secs(self.renew_at.as_secs().saturating_sub(now));
            // A clock that is set forward must not let a certificate end unnoticed.
            tokio::time::sleep(wait.min(Duration::from_secs(600))).await;
            if self.renew_at > UnixTime::now() {
                continue;
            }
            if let Err(error) = self.renew().await {
                tracing::error!(%error, "cannot renew the process's own credentials; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn renew(&mut self) -> Result<(), OwnError> {
        // A key is certified once.
        let key = AgentKey::generate()?;
        let (issued, serving) = certify_server(&self.context, &key).await?;
        self.server.swap(issued.chain.clone(), &key, Some(serving))?;
        self.renew_at = renew_at(&issued);
        self.renew_operator().await
    }

    /// The first operator's files: `key.pem`, `chain.pem`, `ca.pem`.
    async fn renew_operator(&mut self) -> Result<(), OwnError> {
        let context = &self.context;
        let folder = context.settings.admin_dir();
        files::private_folder(&folder)?;
        let anchors = anchors_pem(context);
        files::replace(&context.settings.anchors_file(), anchors.as_bytes(), 0o644)?;
        files::replace(&folder.join("ca.pem"), anchors.as_bytes(), 0o600)?;
        if let Some(left) = operator_left(context, &folder)?
            && left >= Duration::from_secs(context.settings.identity.leaf_ttl_seconds_max / 2)
        {
            return Ok(());
        }
        let key = AgentKey::generate()?;
        let name = OperatorName::new(FIRST_OPERATOR).map_err(|error| OwnError::Log(error.to_string()))?;
        let ttl = context.settings.identity.leaf_ttl_seconds_max;
        let issued = certify(context, &key, &Subject::Operator(name), &[], ttl).await?;
        // The chain is written last: a chain that does not fit its key is found at the next start, and made again.
        files::replace(&folder.join("key.pem"), key.to_pem()?.as_bytes(), 0o600)?;
        files::replace(&folder.join("chain.pem"), to_pem(&issued.chain).as_bytes(), 0o600)?;
        tracing::info!(folder = %folder.display(), "the first operator's credential was issued");
        Ok(())
    }
}

/// How long the first operator's credential is still good; `None`: there is none.
fn operator_left(context: &Context, folder: &Path) -> Result<Option<Duration>, OwnError> {
    let (Some(key), Some(chain)) = (
        files::read_optional(&folder.join("key.pem"))?,
        files::read_optional(&folder.join("chain.pem"))?,
    ) else {
        return Ok(None);
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
    let (Ok(key), Ok(chain)) = (AgentKey::from_pem(&key), chain) else {
        return Ok(None);
    };
    let now = UnixTime::now();
    let verified = context
        .authority
        .verifier()
        .load()
        .verify_for_key(&chain, key.public(), now);
    Ok(verified
        .ok()
        .map(|verified| Duration::from_secs(verified.not_after.as_secs().saturating_sub(now.as_secs()))))
}

/// A certificate for this key, and one for clients that take no Ed25519 certificate from a server.
async fn certify_server(context: &Context, key: &AgentKey) -> Result<(Certificate, Serving), OwnError> {
    let id = NodeId::new(CONTROL_NODE).map_err(|error| OwnError::Log(error.to_string()))?;
    let (hosts, ttl) = (
        &context.settings.hosts,
        context.settings.identity.leaf_ttl_seconds,
    );
    let issued = certify(context, key, &Subject::Node(id.clone()), hosts, ttl).await?;
    let key = ServerKey::generate()?;
    let (csr, ttl) = (key.csr(None, hosts)?, u32::try_from(ttl).unwrap_or(u32::MAX));
    let issuer = context.authority.issuer();
    let serving = issuer.issue_server(&csr, &id, ttl, hosts, UnixTime::now())?;
    log(context, &serving).await?;
    let chain = serving.chain;
    Ok((issued, Serving { chain, key }))
}

/// Certifies a key of this process, and writes that to the issuance log.
async fn certify(
    context: &Context,
    key: &AgentKey,
    subject: &Subject,
    hosts: &[String],
    ttl_seconds: u64,
) -> Result<Certificate, OwnError> {
    let csr = key.csr(None, hosts)?;
    let ttl = u32::try_from(ttl_seconds).unwrap_or(u32::MAX);
    let issued = context
        .authority
        .issuer()
        .issue(&csr, subject, ttl, hosts, UnixTime::now())?;
    log(context, &issued).await?;
    Ok(issued)
}

/// Writes a certificate of this process to the issuance log.
async fn log(context: &Context, issued: &Certificate) -> Result<(), OwnError> {
    let step = Log(log_entry(issued, "the control process itself".to_owned()));
    let logged = context.ledger.take(step).await;
    logged
        .map(drop)
        .map_err(|status| OwnError::Log(status.message().to_owned()))
}

struct Log(Issued);

#[async_trait]
impl Step for Log {
    type Output = ();

    async fn take(&self, draft: &mut Draft) -> Result<(), Status> {
        let issued = draft.issued(self.0.clone()).await?;
        let entry = ringgate_proto::control::v1::AuditEntry {
            actor: "control process".to_owned(),
            action: "issue its own credential".to_owned(),
            subject: issued.identity,
            outcome: "ok".to_owned(),
            detail: format!("serial {}", issued.serial),
            ..audit::entry()
        };
        draft.audit(entry).await
    }
}

/// Two thirds into its life.
fn renew_at(issued: &Certificate) -> UnixTime {
    let (start, end) = (issued.not_before.as_secs(), issued.not_after.as_secs());
    UnixTime::since_unix_epoch(Duration::from_secs(start + (end - start) / 3 * 2))
}

fn anchors_pem(context: &Context) -> String {
    let trust = context.authority.trust();
    let anchors: Vec<_> = trust
        .anchors_der
        .iter()
        .map(|der| CertificateDer::from(der.to_vec()))
        .collect();
    to_pem(&anchors)
}

fn to_pem(chain: &[CertificateDer<'_>]) -> String {
    chain
        .iter()
        .map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", der.to_vec())))
        .collect()
}
