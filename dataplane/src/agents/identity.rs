//! Who a connection's peer has proved to be.

use std::sync::Arc;

use ringgate_grpc::{Code, Status};
use ringgate_policy::Identity;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::shard::Peer;

/// The identity that the peer's verified certificate gives it, or none.
///
/// # Errors
/// The status to refuse the call with: the certificate cannot be read.
pub(super) fn of(peer: &Peer) -> Result<Identity, Status> {
    let Some(der) = &peer.certificate else {
        return Ok(Identity::Declared);
    };
    let unreadable = || {
        Status::new(
            Code::Unauthenticated,
            "the client certificate cannot be read; show an X.509 version 3 certificate",
        )
    };
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| unreadable())?;
    let names = certificate.subject_alternative_name().map_err(|_| unreadable())?;
    let uris: Vec<String> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        })
        .collect();
    Ok(Identity::Certificate {
        der: Arc::from(&der[..]),
        uris: Arc::from(uris),
    })
}
