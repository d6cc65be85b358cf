//! The first certificate.

use std::path::PathBuf;

use ringgate_identity::keystore::{Seal, Stored};
use ringgate_identity::tls::{anchored_verifier, client_config, pinned_verifier};
use ringgate_identity::{
    AgentKey, CertificateDer, Fingerprint, Revocations, Subject, TrustBundle, UnixTime, Verifier,
};
use ringgate_proto::control::v1 as proto;
use ringgate_proto::control::v1::enroll_request::Authorization;
use ringgate_proto::control::v1::identity_client::IdentityClient;
use rustls::pki_types::pem::PemObject;
use tonic::transport::Channel;

use super::{Address, Credential, CredentialError, control, newer, save};

/// How a control process is recognised by somebody who has no credential yet.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Trust {
    /// By the SHA-256 fingerprint of its authority's certificate, which it prints and `ringgate` shows.
    Fingerprint(Fingerprint),
    /// By the certificates of its authority, PEM.
    Anchors(String),
}

/// Settings of an enrolment: a key is made here, and the control process certifies it.
///
/// ```no_run
/// use ringgate_client::{Agent, Enrollment, Seal, Trust};
///
/// # async fn demo(fingerprint: &str, join_token: &str) -> Result<(), Box<dyn std::error::Error>> {
/// let credential = Enrollment::new("https://127.0.0.1:46358", Trust::Fingerprint(fingerprint.parse()?))
///     .join_token(join_token)
///     .store("weather.keystore", Seal::KeyFile("weather.key".into()))
///     .load_or_enroll("acme/demo/weather/1")
///     .await?;
/// let agent = Agent::builder("https://127.0.0.1:46357").identity(credential).connect().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a credential is made by enroll()"]
pub struct Enrollment {
    control_url: String,
    trust: Trust,
    authorization: Option<Authorization>,
    store: Option<(PathBuf, Seal)>,
    ttl_seconds: u32,
}

impl Enrollment {
    /// With the control process at `control_url`: `https://host:port`.
    pub fn new(control_url: impl Into<String>, trust: Trust) -> Enrollment {
        Enrollment {
            control_url: control_url.into(),
            trust,
            authorization: None,
            store: None,
            ttl_seconds: 0,
        }
    }

    /// Authorised by a join token, from an operator.
    pub fn join_token(mut self, token: impl Into<String>) -> Enrollment {
        self.authorization = Some(Authorization::JoinToken(token.into()));
        self
    }

    /// Authorised by a token of an issuer that the control process knows (OIDC).
    pub fn assertion(mut self, jwt: impl Into<String>) -> Enrollment {
        self.authorization = Some(Authorization::Assertion(jwt.into()));
        self
    }

    /// Where the key and the certificate are kept, encrypted. Without it they are gone with the program.
    pub fn store(mut self, path: impl Into<PathBuf>, seal: Seal) -> Enrollment {
        self.store = Some((path.into(), seal));
        self
    }

    /// Life of the certificate in seconds. Without it: as the control process says, a day by default.
    pub fn ttl_seconds(mut self, ttl_seconds: u32) -> Enrollment {
        self.ttl_seconds = ttl_seconds;
        self
    }

    /// What is in the keystore, if there is one; else enrols. A program that is started again needs no other join token.
    ///
    /// # Errors
    /// Those of [`Credential::load`] if there is a keystore, else those of [`enroll`](Self::enroll).
    pub async fn load_or_enroll(self, name: &str) -> Result<Credential, CredentialError> {
        match &self.store {
            Some((path, seal)) if path.exists() => {
                Credential::load(&self.control_url, path, seal.clone()).await
            }
            _ => self.enroll(name).await,
        }
    }

    /// Enrols under a name: `organization/namespace/service/instance`, or `operator/<name>`.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub async fn enroll(self, name: &str) -> Result<Credential, CredentialError> {
        let subject = Subject::from_path(name).map_err(|error| CredentialError::name(&error))?;
        self.run(Some(subject)).await
    }

    /// Enrols under a random name that the control process chooses.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub async fn enroll_pseudonym(self) -> Result<Credential, CredentialError> {
        self.run(None).await
    }

    async fn run(self, subject: Option<Subject>) -> Result<Credential, CredentialError> {
        let address = Address::parse(&self.control_url)?;
        let mut client = self.connect(&address).await?;
        let bundle = fetch_bundle(&address, &mut client).await?;
        let key = AgentKey::generate()?;
        let uri = subject.as_ref().map(|subject| subject.uri(&bundle.domain));
        let csr = key.csr(subject.as_ref().map(|subject| (&bundle.domain, subject)), &[])?;
        let request = proto::EnrollRequest {
            csr_der: csr.into(),
            authorization: self.authorization,
            pseudonym: subject.is_none(),
            identity: uri.clone().unwrap_or_default(),
            ttl_seconds: self.ttl_seconds,
            hosts: Vec::new(),
            ..proto::EnrollRequest::default()
        };
        let enrolled = client
            .enroll(request)
            .await
            .map_err(|status| CredentialError::status(&address.url, &status))?
            .into_inner();
        let received = enrolled.trust_bundle.map(control::bundle).transpose()?;
        let stored = Stored {
            key,
            chain: control::certificates(enrolled.chain_der),
            bundle: newer(&bundle, received),
        };
        check(&stored, uri.as_deref())?;
        save(self.store.clone(), stored.clone()).await?;
        Credential::start(address, stored, self.store)
    }

    async fn connect(&self, address: &Address) -> Result<IdentityClient<Channel>, CredentialError> {
        let verifier = match &self.trust {
            Trust::Fingerprint(fingerprint) => pinned_verifier(*fingerprint),
            Trust::Anchors(pem) => anchored_verifier(anchors(pem)?),
        };
        let tls = client_config(verifier, None).map_err(CredentialError::tls)?;
        Ok(IdentityClient::new(control::connect(address, tls).await?))
    }
}

/// The trust bundle, from a process that was recognised.
async fn fetch_bundle(
    address: &Address,
    client: &mut IdentityClient<Channel>,
) -> Result<TrustBundle, CredentialError> {
    let bundle = client
        .get_trust_bundle(proto::GetTrustBundleRequest::default())
        .await
        .map_err(|status| CredentialError::status(&address.url, &status))?;
    control::bundle(bundle.into_inner())
}

/// Whether the certificate is for the key that was made and for who was asked: before anything is written.
fn check(stored: &Stored, uri: Option<&str>) -> Result<(), CredentialError> {
    let verifier = Verifier::new(stored.bundle.clone(), Revocations::default())?;
    let verified = verifier.verify_for_key(&stored.chain, stored.key.public(), UnixTime::now())?;
    match uri {
        Some(uri) if verified.uri != uri => Err(CredentialError::Changed { uri: verified.uri }),
        None if !matches!(verified.subject, Subject::Pseudonym(_)) => {
            Err(CredentialError::Changed { uri: verified.uri })
        }
        _ => Ok(()),
    }
}

fn anchors(pem: &str) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    let wrong = |reason: &str| CredentialError::Configuration {
        what: "trust",
        reason: reason.to_owned(),
    };
    let anchors: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| wrong("the authority's certificate is not PEM"))?;
    if anchors.is_empty() {
        return Err(wrong("there is no certificate in the PEM"));
    }
    Ok(anchors)
}
