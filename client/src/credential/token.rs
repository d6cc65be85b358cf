//! Bearer tokens (RFC 9449), for connections on which no client certificate can be presented.

use std::time::Duration;

use ringgate_identity::{Serial, UnixTime, token};
use ringgate_proto::control::v1::IssueTokenRequest;
use ringgate_proto::control::v1::identity_client::IdentityClient;

use super::renew::share_of_life;
use super::{CredentialError, Inner};

/// Share of its life for which a token is used: then there is time to get another.
const USED_SHARE: f64 = 2.0 / 3.0;

/// A token and a proof of one call with it.
#[derive(Debug)]
pub(crate) struct Bound {
    /// For `authorization: DPoP …`.
    pub(crate) token: String,
    /// For `dpop: …`.
    pub(crate) proof: String,
    /// When another token should be presented.
    pub(crate) renew_at: UnixTime,
    /// The token's last second.
    pub(crate) not_after: UnixTime,
}

/// A token that was issued.
#[derive(Debug, Clone)]
pub(super) struct Token {
    text: String,
    /// The certificate whose key it is bound to.
    serial: Serial,
    renew_at: UnixTime,
    not_after: UnixTime,
}

impl Inner {
    /// The last token, or another, with a proof of a call of `uri`.
    pub(super) async fn token_for(&self, uri: &str) -> Result<Bound, CredentialError> {
        // Held until the proof is made: token and proof must be of one key.
        let mut last = self.turn.lock().await;
        let held = self.held();
        let now = UnixTime::now();
        let fits = |token: &Token| token.serial == held.verified.serial && now < token.renew_at;
        let token = match last.take().filter(fits) {
            Some(token) => token,
            None => self.issue_token(held.verified.serial, now).await?,
        };
        *last = Some(token.clone());
        let proof = token::proof(&held.key, "POST", uri, &token.text, now, token::random_id()?)?;
        Ok(Bound {
            token: token.text,
            proof,
            renew_at: token.renew_at,
            not_after: token.not_after,
        })
    }

    async fn issue_token(&self, serial: Serial, now: UnixTime) -> Result<Token, CredentialError> {
        let issued = IdentityClient::new(self.control_channel().await?)
            .issue_token(IssueTokenRequest::default())
            .await
            .map_err(|status| CredentialError::status(&self.control.url, &status))?
            .into_inner();
        let end = u64::try_from(issued.not_after_unix).unwrap_or(0);
        if issued.token.is_empty() || end <= now.as_secs() {
            return Err(CredentialError::Incomplete { missing: "a token" });
        }
        Ok(Token {
            text: issued.token,
            serial,
            renew_at: share_of_life(now.as_secs(), end, USED_SHARE),
            not_after: UnixTime::since_unix_epoch(Duration::from_secs(end)),
        })
    }
}
