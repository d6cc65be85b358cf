//! Who an agent is: a certificate from the control process, renewed before it expires.
//!
//! ```text
//!   Enrollment ──join token──► control process ──certificate──► Credential ──► keystore
//!                                    ▲                             │  ▲
//!                                    └──────── Renew, new key ─────┘  └── every Agent that presents it
//! ```
//!
//! Keys are made here and never leave. Each certificate has a key of its own. Whatever the control process sends is verified as
//! a stranger's would be before it is used or kept.

mod control;
mod enroll;
mod error;
mod presenter;
mod renew;
mod token;
mod transport;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringgate_identity::keystore::{self, Seal, Stored};
use ringgate_identity::tls::{Expected, SharedCredential, client_config, server_verifier};
use ringgate_identity::{
    AgentKey, CertificateDer, Revocations, SharedVerifier, TrustBundle, UnixTime, Verified, Verifier,
};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tonic::transport::Channel;

pub use enroll::{Enrollment, Trust};
pub use error::CredentialError;
pub(crate) use presenter::{How, Metadata, Presenter, Shown};
pub(crate) use transport::{Address, connector};

/// An agent's certificate and key. Clones are handles to the same, which is renewed in the background for as long as there is
/// one: it asks the control process for another certificate, for a new key, when two thirds of its life are over. The agents that
/// present it change over by themselves.
#[derive(Debug, Clone)]
pub struct Credential {
    inner: Arc<Inner>,
}

/// One certificate with its key.
#[derive(Debug)]
#[non_exhaustive]
pub struct Held {
    /// The private key. It is the agent's signature key in MLS groups too.
    pub key: AgentKey,
    /// The certificate chain, leaf first, without the anchor.
    pub chain: Vec<CertificateDer<'static>>,
    /// What it says.
    pub verified: Verified,
}

#[derive(Debug)]
struct Inner {
    control: Address,
    store: Option<(PathBuf, Seal)>,
    verifier: Arc<SharedVerifier>,
    certificate: Arc<SharedCredential>,
    held: watch::Sender<Arc<Held>>,
    /// Held while the certificate is replaced, or something is made that must fit it: its last token, which is in here.
    turn: tokio::sync::Mutex<Option<token::Token>>,
    /// The task that renews; it holds no handle of its own.
    renewal: std::sync::OnceLock<AbortHandle>,
}

impl Credential {
    /// Reads a credential from its keystore. `control_url` is where it is renewed: `https://host:port`.
    ///
    /// # Errors
    /// [`CredentialError::Keystore`] if it cannot be read, [`CredentialError::NotGood`] if it has expired: then enrol again.
    pub async fn load(
        control_url: &str,
        path: impl AsRef<Path>,
        seal: Seal,
    ) -> Result<Credential, CredentialError> {
        let control = Address::parse(control_url)?;
        let path = path.as_ref().to_owned();
        let (stored, store) = blocking(move || {
            let stored = keystore::load(&path, &seal)?;
            Ok((stored, (path, seal)))
        })
        .await?;
        Credential::start(control, stored, Some(store))
    }

    /// Verifies what was stored or has been received, and begins to renew it.
    fn start(
        control: Address,
        stored: Stored,
        store: Option<(PathBuf, Seal)>,
    ) -> Result<Credential, CredentialError> {
        let verifier = Verifier::new(stored.bundle, Revocations::default())?;
        let held = hold(&verifier, stored.key, stored.chain)?;
        let certificate = SharedCredential::new(held.chain.clone(), &held.key)?;
        let inner = Arc::new(Inner {
            control,
            store,
            verifier: Arc::new(SharedVerifier::new(verifier)),
            certificate: Arc::new(certificate),
            held: watch::Sender::new(Arc::new(held)),
            turn: tokio::sync::Mutex::default(),
            renewal: std::sync::OnceLock::new(),
        });
        let task = tokio::spawn(renew::keep_renewed(
            Arc::downgrade(&inner),
            inner.held.subscribe(),
        ));
        // It was just made, so nothing is in there.
        let _ = inner.renewal.set(task.abort_handle());
        Ok(Credential { inner })
    }

    /// The certificate of the moment.
    pub fn held(&self) -> Arc<Held> {
        Arc::clone(&self.inner.held.borrow())
    }

    /// The certificate of the moment, and each one that comes after it.
    pub fn watch(&self) -> watch::Receiver<Arc<Held>> {
        self.inner.held.subscribe()
    }

    /// The name by which its holder is on the network; `None` for nodes and operators, who are no agents.
    pub fn agent_name(&self) -> Option<String> {
        self.held()
            .verified
            .subject
            .agent_name()
            .map(|name| name.to_string())
    }

    /// What others are verified with: the trust bundle of the moment.
    pub fn verifier(&self) -> &Arc<SharedVerifier> {
        &self.inner.verifier
    }

    /// Renews now: another certificate, for a new key, in the keystore before it is used. The one before stays good until it
    /// expires.
    ///
    /// # Errors
    /// [`CredentialError`]; the credential is then what it was.
    pub async fn renew(&self) -> Result<(), CredentialError> {
        self.inner.renew().await
    }

    /// A connection to the control process on which this credential is presented.
    ///
    /// # Errors
    /// [`CredentialError::Unreachable`].
    pub async fn control(&self) -> Result<Channel, CredentialError> {
        self.inner.control_channel().await
    }
}

impl Inner {
    fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held.borrow())
    }

    async fn control_channel(&self) -> Result<Channel, CredentialError> {
        let verifier = server_verifier(Arc::clone(&self.verifier), Expected::Host);
        let tls =
            client_config(verifier, Some(Arc::clone(&self.certificate))).map_err(CredentialError::tls)?;
        control::connect(&self.control, tls).await
    }

    /// Puts a new certificate into the keystore, and then in the place of the one before.
    async fn replace(&self, stored: Stored) -> Result<(), CredentialError> {
        let verifier = Verifier::new(stored.bundle.clone(), Revocations::default())?;
        let held = hold(&verifier, stored.key.clone(), stored.chain.clone())?;
        if held.verified.uri != self.held().verified.uri {
            return Err(CredentialError::Changed {
                uri: held.verified.uri,
            });
        }
        save(self.store.clone(), stored).await?;
        self.certificate.swap(held.chain.clone(), &held.key, None)?;
        self.verifier.swap(verifier);
        self.held.send_replace(Arc::new(held));
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(task) = self.renewal.get() {
            task.abort();
        }
    }
}

/// Verifies a chain for its key, as anybody will to whom it is presented.
fn hold(
    verifier: &Verifier,
    key: AgentKey,
    chain: Vec<CertificateDer<'static>>,
) -> Result<Held, CredentialError> {
    let verified = verifier.verify_for_key(&chain, key.public(), UnixTime::now())?;
    Ok(Held { key, chain, verified })
}

/// The newer of two bundles: a version never goes back.
fn newer(current: &TrustBundle, received: Option<TrustBundle>) -> TrustBundle {
    match received {
        Some(received) if received.version >= current.version && received.domain == current.domain => {
            received
        }
        _ => current.clone(),
    }
}

async fn save(store: Option<(PathBuf, Seal)>, stored: Stored) -> Result<(), CredentialError> {
    match store {
        Some((path, seal)) => blocking(move || keystore::save(&path, &stored, &seal)).await,
        None => Ok(()),
    }
}

/// Disks and passphrases take their time; not on a thread that others wait for.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, keystore::KeystoreError> + Send + 'static,
) -> Result<T, CredentialError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| CredentialError::Keystore(Arc::new(error))),
        Err(_) => Err(CredentialError::Stopped),
    }
}
