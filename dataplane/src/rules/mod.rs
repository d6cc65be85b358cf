//! The rules that cores decide by: who is trusted, who may do what, within which limits.
//!
//! Invariants worth naming:
//! * Rules never change. Other rules are another [`Rules`], given to each core as one message; so no core ever decides by a mixture.
//! * Every credential is judged by `ringgate-identity` alone, as in the control process and in the SDK.

mod enforcer;
mod local;
mod payloads;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use ringgate_access::{Access, Context, Credential as Kind};
use ringgate_identity::{
    CertificateDer, ProofTarget, Reason, Serial, Subject, UnixTime, Verified, VerifiedToken, Verifier,
};
use ringgate_policy::{AgentName, Credential, Identity, Limits, Proof, Rejection};

pub use enforcer::Enforcer;
pub use local::{LocalError, from_files};
pub use payloads::{Payloads, WindowChange};

/// Code of the refusal of a good credential that is no agent's.
const NOT_AN_AGENT: &str = "NOT_AN_AGENT";
/// gRPC calls are POST requests (gRPC over HTTP/2).
const METHOD: &str = "POST";
/// Where pseudonyms have their names: agents of this organization and namespace are known by nothing but a random word.
const PSEUDONYMS: &str = "pseudonym/anonymous/agent";

/// See the module.
#[derive(Debug, Clone)]
pub struct Rules {
    strict: Option<Strict>,
    access: Option<Access>,
    /// Of agents and cores.
    pub limits: Limits,
    contexts: Contexts,
}

/// What only the profile `strict` has.
#[derive(Debug, Clone)]
struct Strict {
    verifier: Arc<Verifier>,
    /// Says which anchors the verifier has.
    trust: u64,
    /// What agents may call this node by.
    hosts: Arc<[String]>,
}

/// What policies know of an agent besides its name, made once.
#[derive(Debug, Clone)]
struct Contexts {
    certificate: Context,
    token: Context,
    declared: Context,
}

impl Rules {
    /// Profile `development`: agents are believed their names, and may do what `access` allows; everything where there is none.
    pub fn development(node: &str, access: Option<Access>, limits: Limits) -> Rules {
        Rules {
            strict: None,
            access,
            limits,
            contexts: Contexts::new(node),
        }
    }

    /// Profile `strict`: agents whom `verifier` verifies, calling the node by one of `hosts`, may do what `access` allows; everything
    /// where there is none.
    pub fn strict(
        node: &str,
        hosts: Arc<[String]>,
        verifier: Arc<Verifier>,
        access: Option<Access>,
        limits: Limits,
    ) -> Rules {
        let mut hasher = DefaultHasher::new();
        verifier
            .bundle()
            .anchors
            .iter()
            .for_each(|anchor| anchor.hash(&mut hasher));
        Rules {
            strict: Some(Strict {
                trust: hasher.finish(),
                verifier,
                hosts,
            }),
            access,
            limits,
            contexts: Contexts::new(node),
        }
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(&self, limits: Limits) -> Rules {
        Rules {
            limits,
            ..self.clone()
        }
    }

    /// Whether agents must prove who they are.
    pub fn is_strict(&self) -> bool {
        self.strict.is_some()
    }

    /// Who verifies agents; none in profile `development`.
    pub fn verifier(&self) -> Option<&Arc<Verifier>> {
        self.strict.as_ref().map(|strict| &strict.verifier)
    }

    /// Who showed this certificate chain, leaf first, in a handshake that the listener verified.
    ///
    /// # Errors
    /// [`Rejection`].
    pub fn certified(&self, chain: &[CertificateDer<'_>], unix_seconds: i64) -> Result<Identity, Rejection> {
        let Some(strict) = &self.strict else {
            return local::believed(chain);
        };
        let verified = strict
            .verifier
            .verify(chain, time(unix_seconds))
            .map_err(rejection)?;
        let agent = bearer(&verified.subject)?;
        let leaf = chain.first().map(|leaf| leaf.as_ref()).unwrap_or_default();
        Ok(Identity::Certificate(Arc::new(strict.of_certificate(
            &verified,
            agent,
            leaf.into(),
            chain.iter().skip(1).map(|der| der.as_ref().into()).collect(),
        ))))
    }

    /// As [`certified`](Self::certified), for a connection of which it may be known already: the chain is verified once.
    ///
    /// # Errors
    /// [`Rejection`].
    pub fn connected(
        &self,
        chain: &[CertificateDer<'_>],
        known: &OnceCell<Identity>,
        unix_seconds: i64,
    ) -> Result<Identity, Rejection> {
        match known.get() {
            Some(identity) => self.examine(identity, unix_seconds).map(|()| identity.clone()),
            None => {
                let identity = self.certified(chain, unix_seconds)?;
                Ok(known.get_or_init(|| identity).clone())
            }
        }
    }

    /// Whether a certificate is good enough to stay connected by: everybody's whom the trust domain certifies.
    ///
    /// # Errors
    /// [`Rejection`].
    pub fn admits(
        &self,
        chain: &[CertificateDer<'_>],
        known: &OnceCell<Identity>,
        unix_seconds: i64,
    ) -> Result<(), Rejection> {
        match self.connected(chain, known, unix_seconds) {
            Err(rejection) if rejection.code != NOT_AN_AGENT => Err(rejection),
            _ => Ok(()),
        }
    }

    /// Name of the node that showed this chain.
    ///
    /// # Errors
    /// [`Rejection`]; also for who is no node, and where nobody says who is one.
    pub fn node(&self, chain: &[CertificateDer<'_>], unix_seconds: i64) -> Result<String, Rejection> {
        let strict = self
            .strict
            .as_ref()
            .ok_or_else(|| rejection(Reason::UnknownIssuer))?;
        let verified = strict
            .verifier
            .verify(chain, time(unix_seconds))
            .map_err(rejection)?;
        match &verified.subject {
            Subject::Node(id) => Ok(id.to_string()),
            subject => Err(Rejection {
                code: "NOT_A_NODE",
                reason: format!(
                    "the credential is for {subject}, which is no node; only nodes link to each other"
                ),
            }),
        }
    }

    /// Who showed this bearer token with this proof, made for a call of `uri`. That the proof is new is checked when it is
    /// [used up](ringgate_policy::Authority::use_up).
    ///
    /// # Errors
    /// [`Rejection`].
    pub fn token(
        &self,
        token: &str,
        proof: &str,
        uri: &str,
        unix_seconds: i64,
    ) -> Result<Identity, Rejection> {
        let Some(strict) = &self.strict else {
            // Nobody issues tokens for this profile, so none is looked at.
            return Ok(Identity::Declared);
        };
        let target = ProofTarget { method: METHOD, uri };
        // Whether the proof is new is asked where all uses of it meet.
        let (verified, used) = strict
            .verifier
            .verify_token_unentered(token, proof, &target, time(unix_seconds))
            .map_err(rejection)?;
        let agent = bearer(&verified.subject)?;
        let credential = strict.of_token(&verified, agent, token);
        Ok(Identity::Token(Arc::new(credential), Proof(used.0)))
    }

    /// The URI that proofs must be made for when a client calls `path` at `authority`; `None` when the node is not known by that name:
    /// a proof made for somebody else is not to be used here.
    pub fn proof_uri(&self, authority: &str, path: &str) -> Option<String> {
        let strict = self.strict.as_ref()?;
        let host = host_of(authority);
        let known = strict.hosts.iter().any(|own| own.eq_ignore_ascii_case(host));
        known.then(|| format!("https://{authority}{path}"))
    }

    /// Whether an identity is good enough to be here now.
    pub(crate) fn examine(&self, who: &Identity, unix_seconds: i64) -> Result<(), Rejection> {
        let Some(strict) = &self.strict else {
            return Ok(());
        };
        let Some(credential) = who.proved() else {
            return Err(rejection(Reason::NoCertificate));
        };
        if credential.expires_unix.is_some_and(|end| unix_seconds >= end) {
            return Err(rejection(Reason::Expired));
        }
        let serial: Option<Serial> = credential.serial.parse().ok();
        let issued = time(credential.issued_unix);
        let revocations = strict.verifier.revocations();
        if revocations.is_revoked(serial.as_ref(), &credential.uri, issued) {
            return Err(rejection(Reason::Revoked));
        }
        match who {
            // Whom other anchors verified is verified anew.
            Identity::Certificate(_) if credential.trust != strict.trust => {
                let chain: Vec<CertificateDer<'_>> = std::iter::once(&credential.shown)
                    .chain(&credential.issuers)
                    .map(|der| CertificateDer::from(&der[..]))
                    .collect();
                let verified = strict.verifier.verify(&chain, time(unix_seconds));
                verified.map(drop).map_err(rejection)
            }
            _ => Ok(()),
        }
    }

    fn context(&self, who: &Identity) -> &Context {
        match Kind::from(who) {
            Kind::Certificate => &self.contexts.certificate,
            Kind::Token => &self.contexts.token,
            Kind::Declared => &self.contexts.declared,
        }
    }
}

impl Contexts {
    fn new(node: &str) -> Contexts {
        Contexts {
            certificate: Context::new(Kind::Certificate, node),
            token: Context::new(Kind::Token, node),
            declared: Context::new(Kind::Declared, node),
        }
    }
}

impl Strict {
    fn of_certificate(
        &self,
        verified: &Verified,
        agent: AgentName,
        shown: Box<[u8]>,
        issuers: Vec<Box<[u8]>>,
    ) -> Credential {
        Credential {
            agent: Some(agent),
            uri: verified.uri.clone(),
            serial: verified.serial.to_string(),
            issued_unix: seconds(verified.issued_at()),
            expires_unix: Some(end(verified.not_after)),
            trust: self.trust,
            shown,
            issuers,
        }
    }

    fn of_token(&self, verified: &VerifiedToken, agent: AgentName, token: &str) -> Credential {
        Credential {
            agent: Some(agent),
            uri: verified.uri.clone(),
            serial: verified.serial.as_ref().map_or(String::new(), Serial::to_string),
            issued_unix: seconds(verified.issued_at),
            expires_unix: Some(end(verified.not_after)),
            trust: self.trust,
            shown: token.as_bytes().into(),
            issuers: Vec::new(),
        }
    }
}

/// The name that a subject may bear here.
fn bearer(subject: &Subject) -> Result<AgentName, Rejection> {
    let name = match subject {
        Subject::Agent(name) => Some(name.clone()),
        Subject::Pseudonym(random) => AgentName::new(&format!("{PSEUDONYMS}/{random}")).ok(),
        _ => None,
    };
    name.ok_or_else(|| Rejection {
        code: NOT_AN_AGENT,
        reason: format!("the credential is for {subject}, which is no agent; use an agent's own credential"),
    })
}

pub(crate) fn rejection(reason: Reason) -> Rejection {
    Rejection {
        code: reason.code(),
        reason: reason.to_string(),
    }
}

/// The host in `host:port`, `[v6]:port` or either without a port.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    }
}

fn time(unix_seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(unix_seconds).unwrap_or(0)))
}

fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// The first second in which a credential with this last second is void.
fn end(last: UnixTime) -> i64 {
    seconds(last).saturating_add(1)
}
