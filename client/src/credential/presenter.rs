//! How an agent shows its gateway who it is.

use ringgate_identity::tls::{Expected, client_config, server_verifier};
use ringgate_identity::{Serial, UnixTime};
use std::sync::Arc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

use super::renew::until;
use super::{Address, Credential, CredentialError, connector};
use crate::Error;

/// A credential and how it is shown.
#[derive(Debug, Clone)]
pub(crate) struct Presenter {
    pub(crate) credential: Credential,
    pub(crate) how: How,
    /// Who the gateway must be.
    pub(crate) gateway: Expected,
    pub(crate) address: Address,
}

/// How a credential is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// By TLS client certificate.
    Certificate,
    /// By a token in the metadata of the call.
    Token,
}

/// What was shown on one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    serial: Serial,
    /// Of a token: when another should be shown.
    token_until: Option<UnixTime>,
    /// After this second the gateway ends the connection.
    pub(crate) not_after: UnixTime,
}

/// What goes with a call.
pub(crate) type Metadata = Vec<(&'static str, MetadataValue<Ascii>)>;

impl Presenter {
    /// Connects to the gateway.
    pub(crate) async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, Error> {
        let inner = &self.credential.inner;
        let certificate = match self.how {
            How::Certificate => Some(Arc::clone(&inner.certificate)),
            How::Token => None,
        };
        let verifier = server_verifier(Arc::clone(&inner.verifier), self.gateway.clone());
        let tls = client_config(verifier, certificate).map_err(CredentialError::tls)?;
        endpoint
            .connect_with_connector(connector(&self.address, tls))
            .await
            .map_err(|error| Error::transport(&self.address.url, &error))
    }

    /// What is shown in a call of `path`. To be asked before [`connect`](Self::connect): what is replaced in between is then
    /// taken for the older.
    pub(crate) async fn show(&self, path: &str) -> Result<(Shown, Metadata), Error> {
        let verified = self.credential.held().verified.clone();
        let certificate = Shown {
            serial: verified.serial,
            token_until: None,
            not_after: verified.not_after,
        };
        if self.how == How::Certificate {
            return Ok((certificate, Metadata::new()));
        }
        let bound = self
            .credential
            .inner
            .token_for(&self.address.uri_of(path))
            .await?;
        let value = |text: String| {
            MetadataValue::try_from(text).map_err(|_| CredentialError::Incomplete {
                missing: "a readable token",
            })
        };
        let metadata = vec![
            ("authorization", value(format!("DPoP {}", bound.token))?),
            ("dpop", value(bound.proof)?),
        ];
        let shown = Shown {
            token_until: Some(bound.renew_at),
            not_after: bound.not_after,
            ..certificate
        };
        Ok((shown, metadata))
    }

    /// Completes when there is something better to show.
    pub(crate) async fn outdated(self, shown: Shown) {
        match shown.token_until {
            Some(end) => until(end).await,
            None => {
                let mut held = self.credential.watch();
                // An error says that the credential is gone, which `self` rules out.
                let _ = held.wait_for(|held| held.verified.serial != shown.serial).await;
            }
        }
    }

    /// Whether there is something better to show.
    pub(crate) fn is_outdated(&self, shown: &Shown) -> bool {
        match shown.token_until {
            Some(end) => UnixTime::now() >= end,
            None => self.credential.held().verified.serial != shown.serial,
        }
    }
}
