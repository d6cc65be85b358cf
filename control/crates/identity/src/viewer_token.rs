//! The token of those who look: a secret that they share, for pages over plain HTTP that tell who is there and what flows.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

/// Fewest bytes of a token: 24 characters of base64 are 144 bits.
pub const VIEWER_TOKEN_BYTES_MIN: usize = 24;

/// The file of a token cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ViewerTokenError {
    /// It cannot be read.
    #[error("cannot read the token in {path} (key http_token): {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It could be guessed, or sent in a header only with difficulty.
    #[error(
        "{path} (key http_token) holds no token: at least {VIEWER_TOKEN_BYTES_MIN} printable ASCII characters without blanks are needed, as \
         `openssl rand -base64 32` prints them"
    )]
    Weak {
        /// The file.
        path: PathBuf,
    },
}

/// See the module. Never printed.
#[derive(Clone)]
pub struct ViewerToken(Arc<str>);

impl fmt::Debug for ViewerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ViewerToken")
    }
}

impl ViewerToken {
    /// The one in a file.
    ///
    /// # Errors
    /// [`ViewerTokenError`].
    pub fn read(path: &Path) -> Result<Self, ViewerTokenError> {
        let text = std::fs::read_to_string(path).map_err(|source| ViewerTokenError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::new(&text).ok_or_else(|| ViewerTokenError::Weak {
            path: path.to_owned(),
        })
    }

    fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let good = text.len() >= VIEWER_TOKEN_BYTES_MIN && text.bytes().all(|byte| byte.is_ascii_graphic());
        good.then(|| Self(text.into()))
    }

    /// Whether the value of a request's header `authorization` shows it: as a bearer token, or as the password of whatever user, since
    /// browsers ask for that.
    pub fn admits(&self, authorization: &str) -> bool {
        let Some((scheme, shown)) = authorization.split_once(' ') else {
            return false;
        };
        let is = |name: &str| scheme.eq_ignore_ascii_case(name);
        let shown = match shown.trim() {
            shown if is("bearer") => shown.as_bytes().to_vec(),
            shown if is("basic") => {
                let decoded = STANDARD.decode(shown).unwrap_or_default();
                let colon = decoded.iter().position(|&byte| byte == b':');
                colon.map_or_else(Vec::new, |colon| decoded[colon + 1..].to_vec())
            }
            _ => return false,
        };
        verify_slices_are_equal(&shown, self.0.as_bytes()).is_ok()
    }

    /// The value of the header by which it is shown.
    pub fn authorization(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

/// What a request without it is answered: how it is shown.
pub const VIEWER_CHALLENGE: &str = "Basic realm=\"ringgate\", Bearer realm=\"ringgate\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_shown_as_bearer_token_or_password_and_in_no_other_way() {
        let secret = "0123456789abcdefghijKLMN";
        let token = ViewerToken::new(&format!("{secret}\n")).expect("long enough");
        let basic = |pair: String| format!("Basic {}", STANDARD.encode(pair));
        for good in [
            token.authorization(),
            format!("bearer {secret}"),
            basic(format!("me:{secret}")),
            basic(format!(":{secret}")),
        ] {
            assert!(token.admits(&good), "{good}");
        }
        for bad in [
            String::new(),
            secret.to_owned(),
            "Bearer ".to_owned(),
            format!("Bearer {}", &secret[1..]),
            format!("Bearer {secret}x"),
            format!("Digest {secret}"),
            basic(secret.to_owned()),
            basic(format!("{secret}:")),
            "Basic %%%".to_owned(),
        ] {
            assert!(!token.admits(&bad), "{bad}");
        }
    }

    #[test]
    fn what_could_be_guessed_is_no_token() {
        for weak in [
            "",
            "short",
            "twenty-four and a blank  x",
            "0123456789abcdefghijKLM",
        ] {
            assert!(ViewerToken::new(weak).is_none(), "{weak}");
        }
    }
}
