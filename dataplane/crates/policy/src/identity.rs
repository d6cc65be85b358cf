//! How an agent proved who it is.

use std::sync::Arc;

/// What the listener knows of the peer before it says anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Identity {
    /// Nothing was proved: the agent is who it says (profile `development` only).
    #[default]
    Declared,
    /// A client certificate that the listener verified (RFC 8446 §4.4.2).
    Certificate {
        /// The leaf, DER.
        der: Arc<[u8]>,
        /// Its SAN URIs, as `agp://<trust-domain>/org/ns/service/instance`.
        uris: Arc<[String]>,
    },
    /// A bearer token that was verified and bound to a key.
    Token {
        /// The agent's name by that token.
        name: Arc<str>,
        /// The credential that peers are shown.
        credential: Arc<[u8]>,
    },
}

impl Identity {
    /// What peers are shown of it; empty when nothing was proved.
    pub fn credential(&self) -> &[u8] {
        match self {
            Self::Declared => &[],
            Self::Certificate { der, .. } => der,
            Self::Token { credential, .. } => credential,
        }
    }

    /// Whether this identity may bear `name`. A declared identity may bear any; a certificate without an `agp://` URI proves
    /// no agent name and so leaves the choice to the agent, as the listener trusts its issuer.
    pub fn bears(&self, name: &str) -> bool {
        match self {
            Self::Declared => true,
            Self::Certificate { uris, .. } => {
                let mut named = uris.iter().filter_map(|uri| agent_of(uri)).peekable();
                named.peek().is_none() || named.any(|agent| agent == name)
            }
            Self::Token { name: proved, .. } => &**proved == name,
        }
    }
}

fn agent_of(uri: &str) -> Option<&str> {
    uri.strip_prefix("agp://")?.split_once('/').map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_bears_the_name_in_its_uri() {
        let with = |uris: &[&str]| Identity::Certificate {
            der: Arc::from(&b"der"[..]),
            uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
        };
        assert!(with(&["agp://acme.example/a/b/c/d"]).bears("a/b/c/d"));
        assert!(!with(&["agp://acme.example/a/b/c/d"]).bears("a/b/c/e"));
        assert!(with(&["spiffe://x/y"]).bears("a/b/c/e"));
        assert!(Identity::Declared.bears("a/b/c/d"));
    }
}
