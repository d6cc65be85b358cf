//! How an agent proved who it is.

use std::sync::Arc;

use crate::name::AgentName;

/// Bytes of a [`Proof`]: a SHA-256 hash.
pub const PROOF_BYTES: usize = 32;

/// What the listener knows of the peer before it says anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Identity {
    /// Nothing was proved: the agent is who it says (profile `development` only).
    #[default]
    Declared,
    /// A client certificate that the listener verified (RFC 8446 §4.4.2).
    Certificate(Arc<Credential>),
    /// A bearer token, verified and bound to a key by a proof (RFC 9449), which may be used once.
    Token(Arc<Credential>, Proof),
}

/// What was proved, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Credential {
    /// The agent it is for; none for a certificate that names no agent, whose issuer leaves the name to the agent
    /// (profile `development` only).
    pub agent: Option<AgentName>,
    /// The identity it certifies, as `agp://<trust-domain>/org/ns/service/instance`; empty where it names none.
    pub uri: String,
    /// Serial number of the certificate or token, as its issuer writes it.
    pub serial: String,
    /// When it was issued, in seconds since 1970; 0 where that is not known.
    pub issued_unix: i64,
    /// When it ends, in seconds since 1970; `None`: never.
    pub expires_unix: Option<i64>,
    /// Says by which anchors it was verified: the same number, the same anchors.
    pub trust: u64,
    /// What peers are shown: the leaf's DER, or the token.
    pub shown: Box<[u8]>,
    /// The rest of the chain that was presented, each DER, in its order.
    pub issuers: Vec<Box<[u8]>>,
}

/// Names one use of a bearer token: a hash of its key and of the id that its proof has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Proof(pub [u8; PROOF_BYTES]);

impl Identity {
    /// What was proved, if anything was.
    pub fn proved(&self) -> Option<&Arc<Credential>> {
        match self {
            Self::Declared => None,
            Self::Certificate(credential) | Self::Token(credential, _) => Some(credential),
        }
    }

    /// What peers are shown of it; empty when nothing was proved.
    pub fn credential(&self) -> &[u8] {
        self.proved().map_or(&[], |credential| &credential.shown)
    }

    /// The proof that made a token good, to be used once.
    pub fn proof(&self) -> Option<Proof> {
        match self {
            Self::Token(_, proof) => Some(*proof),
            _ => None,
        }
    }

    /// When it ends, in seconds since 1970.
    pub fn expires_unix(&self) -> Option<i64> {
        self.proved()?.expires_unix
    }

    /// How it was proved, as policies and logs say it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Declared => "declared",
            Self::Certificate(_) => "certificate",
            Self::Token(..) => "token",
        }
    }

    /// Whether this identity may bear `name`. A declared identity may bear any, and so may a certificate that names no agent.
    pub fn bears(&self, name: &AgentName) -> bool {
        let proved = self.proved().and_then(|credential| credential.agent.as_ref());
        proved.is_none_or(|agent| agent == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_bears_the_name_it_certifies() {
        let name = |text| AgentName::new(text).expect("valid");
        let of = |agent: Option<AgentName>| {
            Identity::Certificate(Arc::new(Credential {
                agent,
                ..Credential::default()
            }))
        };
        assert!(of(Some(name("a/b/c/d"))).bears(&name("a/b/c/d")));
        assert!(!of(Some(name("a/b/c/d"))).bears(&name("a/b/c/e")));
        assert!(of(None).bears(&name("a/b/c/e")));
        assert!(Identity::Declared.bears(&name("a/b/c/d")));
    }
}
