//! How a node gets its certificate, and the next one before that ends.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ringgate_identity::{
    AgentKey, CertificateDer, NodeId, Revocations, ServerKey, Subject, TrustBundle, UnixTime, Verified,
    Verifier,
    tls::{Serving, client_config, pinned_verifier},
};
use ringgate_proto::control::v1 as proto;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::{ClientConfig, RootCertStore};

use super::error::ControlError;
use super::files::Credential;
use super::rpc::Channel;
use super::state::bundle;
use crate::config::Config;
use crate::tls::certificates;

const GET_TRUST_BUNDLE: &str = "ringgate.control.v1.Identity/GetTrustBundle";
const ENROLL: &str = "ringgate.control.v1.Identity/Enroll";
const RENEW: &str = "ringgate.control.v1.Identity/Renew";

/// Who this node is to be.
#[derive(Debug, Clone)]
pub(super) struct Applicant {
    pub(super) id: NodeId,
    /// What agents reach it by.
    pub(super) hosts: Vec<String>,
}

impl Applicant {
    pub(super) fn new(config: &Config) -> Result<Applicant, ControlError> {
        let id = NodeId::new(&config.node).map_err(|source| ControlError::Name {
            name: config.node.clone(),
            source,
        })?;
        Ok(Applicant {
            id,
            hosts: config.hosts(),
        })
    }

    /// Asks for the first certificates, with a join token.
    pub(super) async fn enrol(
        &self,
        channel: &Channel,
        trust: &TrustBundle,
        join_token: String,
    ) -> Result<(Credential, Serving), ControlError> {
        let keys = Keys::generate()?;
        let subject = Subject::Node(self.id.clone());
        let request = proto::EnrollRequest {
            csr_der: keys.own.csr(Some((&trust.domain, &subject)), &self.hosts)?.into(),
            server_csr_der: keys
                .server
                .csr(Some((&trust.domain, &subject)), &self.hosts)?
                .into(),
            identity: subject.uri(&trust.domain),
            hosts: self.hosts.clone(),
            authorization: Some(proto::enroll_request::Authorization::JoinToken(join_token)),
            ..proto::EnrollRequest::default()
        };
        let enrolled: proto::Enrolled = channel.call(ENROLL, &request).await?;
        accept(keys, &enrolled, trust)
    }

    /// Asks for certificates for new keys, over a connection that shows the present one.
    pub(super) async fn renew(
        &self,
        channel: &Channel,
        trust: &TrustBundle,
    ) -> Result<(Credential, Serving), ControlError> {
        let keys = Keys::generate()?;
        let subject = Subject::Node(self.id.clone());
        let request = proto::RenewRequest {
            csr_der: keys.own.csr(Some((&trust.domain, &subject)), &self.hosts)?.into(),
            server_csr_der: keys
                .server
                .csr(Some((&trust.domain, &subject)), &self.hosts)?
                .into(),
            ttl_seconds: 0,
        };
        let enrolled: proto::Enrolled = channel.call(RENEW, &request).await?;
        accept(keys, &enrolled, trust)
    }
}

/// The keys of a node's two certificates: its identity's, and one for clients that take no Ed25519 certificate from a server.
struct Keys {
    own: AgentKey,
    server: ServerKey,
}

impl Keys {
    fn generate() -> Result<Keys, ControlError> {
        Ok(Keys {
            own: AgentKey::generate()?,
            server: ServerKey::generate()?,
        })
    }
}

/// What everyone verifies with.
pub(super) async fn trust(channel: &Channel) -> Result<TrustBundle, ControlError> {
    let request = proto::GetTrustBundleRequest::default();
    let told: proto::TrustBundle = channel.call(GET_TRUST_BUNDLE, &request).await?;
    bundle(&told).map_err(|error| ControlError::Unusable(error.to_string()))
}

/// Recognises the control process before this node knows whom to trust: by the authority that is configured.
pub(super) fn first_tls(config: &Config) -> Result<Arc<ClientConfig>, ControlError> {
    let verifier: Arc<dyn ServerCertVerifier> = match (&config.control.ca, &config.control.fingerprint) {
        (Some(path), _) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path, "certificates of the control process's authority")? {
                roots.add(certificate)?;
            }
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| ControlError::Unusable(error.to_string()))?
        }
        (None, fingerprint) => pinned_verifier(fingerprint.as_deref().unwrap_or_default().parse()?),
    };
    Ok(Arc::new(client_config(verifier, None)?))
}

/// A certificate is taken only if everyone else would take it, too.
fn accept(
    keys: Keys,
    enrolled: &proto::Enrolled,
    trust: &TrustBundle,
) -> Result<(Credential, Serving), ControlError> {
    let credential = Credential {
        key: keys.own,
        chain: chain(&enrolled.chain_der),
    };
    verified(&credential, trust)?;
    let serving = Serving {
        key: keys.server,
        chain: chain(&enrolled.server_chain_der),
    };
    match serving.chain.is_empty() {
        true => Err(ControlError::Unusable(
            "no certificate for the node's ECDSA key".to_owned(),
        )),
        false => Ok((credential, serving)),
    }
}

fn chain(ders: &[Bytes]) -> Vec<CertificateDer<'static>> {
    ders.iter().map(|der| der.to_vec().into()).collect()
}

/// What a credential says, if it is good now.
pub(super) fn verified(credential: &Credential, trust: &TrustBundle) -> Result<Verified, ControlError> {
    let verifier = Verifier::new(trust.clone(), Revocations::default())
        .map_err(|error| ControlError::Unusable(error.to_string()))?;
    Ok(verifier.verify_for_key(&credential.chain, credential.key.public(), now())?)
}

/// When a certificate is to be renewed: after two thirds of its life, and a random part of another tenth, so that nodes which were
/// started together do not come together.
pub(super) fn renew_in(verified: &Verified, dice: u64) -> Duration {
    let (from, to) = (verified.not_before.as_secs(), verified.not_after.as_secs());
    let life = to.saturating_sub(from);
    let at = from + life * 2 / 3 + dice % (life / 10).max(1);
    Duration::from_secs(at.saturating_sub(now().as_secs()))
}

pub(super) fn now() -> UnixTime {
    UnixTime::since_unix_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
