//! The control process, as a client sees it.

use std::time::Duration;

use ringgate_identity::{CertificateDer, TokenKey, TrustBundle, TrustDomain};
use ringgate_proto::control::v1 as proto;
use tonic::transport::Channel;

use super::{Address, CredentialError, connector};

/// How long a connection attempt, and a call, may take. Signing takes milliseconds; the rest is patience with a busy process.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects.
pub(super) async fn connect(
    address: &Address,
    tls: rustls::ClientConfig,
) -> Result<Channel, CredentialError> {
    address
        .endpoint()
        .connect_timeout(CALL_TIMEOUT)
        .timeout(CALL_TIMEOUT)
        .connect_with_connector(connector(address, tls))
        .await
        .map_err(|error| CredentialError::transport(&address.url, &error))
}

/// A trust bundle out of its message.
pub(super) fn bundle(message: proto::TrustBundle) -> Result<TrustBundle, CredentialError> {
    let missing = |missing| CredentialError::Incomplete { missing };
    let token_keys = message
        .token_keys
        .into_iter()
        .map(|key| {
            let public =
                <[u8; 32]>::try_from(&key.public_key[..]).map_err(|_| missing("a readable token key"))?;
            Ok(TokenKey { id: key.id, public })
        })
        .collect::<Result<_, CredentialError>>()?;
    let bundle = TrustBundle {
        domain: TrustDomain::new(&message.trust_domain).map_err(|_| missing("a readable trust domain"))?,
        anchors: certificates(message.anchors_der),
        intermediates: certificates(message.intermediates_der),
        token_keys,
        leaf_ttl_seconds_max: message.leaf_ttl_seconds_max,
        version: message.version,
    };
    bundle.check()?;
    Ok(bundle)
}

/// Certificates out of their message.
pub(super) fn certificates(ders: Vec<bytes::Bytes>) -> Vec<CertificateDer<'static>> {
    ders.into_iter()
        .map(|der| CertificateDer::from(der.to_vec()))
        .collect()
}
