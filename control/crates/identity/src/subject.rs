//! Who a credential is about: `agp://<trust-domain>/…` URIs.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use ringgate_policy::{AgentName, NameError};
use thiserror::Error;

/// Longest trust domain in bytes: that of a DNS name (RFC 1035 §2.3.4).
pub const TRUST_DOMAIN_BYTES_MAX: usize = 253;
/// Longest id of a node, operator or pseudonym in bytes.
pub const ID_BYTES_MAX: usize = 128;
/// Longest URI: the longest name with every byte percent-encoded, and its trust domain. It bounds the work of parsing one.
pub const URI_BYTES_MAX: usize = 3 * ringgate_policy::PATH_BYTES_MAX + TRUST_DOMAIN_BYTES_MAX + 16;

const SCHEME: &str = "agp://";
/// The service whose instances pseudonyms are on the network. No agent is enrolled by such a name.
const PSEUDONYMS: &str = "pseudonym/anonymous/agent";

/// What a path segment must encode: everything but unreserved characters and sub-delimiters, `:` and `@` (RFC 3986 §3.3).
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Why a trust domain, id or URI is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SubjectError {
    /// No name like one of DNS.
    #[error(
        "a trust domain has the form of a DNS name in lower case: letters, digits, '-' and '.', at most {TRUST_DOMAIN_BYTES_MAX} bytes"
    )]
    TrustDomain,
    /// An id of a node, operator or pseudonym with something else than it may have.
    #[error(
        "an id has 1 to {ID_BYTES_MAX} letters, digits and '-', '_', '.', '@', '+' (ASCII), and does not consist of dots alone"
    )]
    Id,
    /// Not of the scheme.
    #[error("it must begin with agp:// and a trust domain")]
    Scheme,
    /// Longer than such a URI can be.
    #[error("it is longer than {URI_BYTES_MAX} bytes")]
    TooLong,
    /// No such kind of subject.
    #[error(
        "after the trust domain comes <org>/<namespace>/<service>/<instance>, node/<id>, operator/<name> or pseudonym/<random>"
    )]
    Kind,
    /// An agent name that breaks a rule.
    #[error("the agent name is not valid: {0}")]
    Name(NameError),
    /// The name that a pseudonym has on the network.
    #[error("names of the service {PSEUDONYMS} are for pseudonyms; choose another")]
    Reserved,
    /// One subject must have one URI.
    #[error("it is not in canonical form; write {canonical}")]
    NotCanonical {
        /// How it must be written.
        canonical: String,
    },
}

/// The name of a trust domain, like a DNS name in lower case. Valid by construction.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Checks and copies a name.
    ///
    /// # Errors
    /// [`SubjectError::TrustDomain`].
    pub fn new(text: &str) -> Result<Self, SubjectError> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        };
        if text.len() > TRUST_DOMAIN_BYTES_MAX || !text.split('.').all(label) {
            return Err(SubjectError::TrustDomain);
        }
        Ok(Self(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `agp://<trust-domain>`: issuer and audience of its tokens.
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}", self.0)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustDomain({:?})", self.0)
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and copies an id.
            ///
            /// # Errors
            /// [`SubjectError::Id`].
            pub fn new(text: &str) -> Result<Self, SubjectError> {
                check_id(text)?;
                Ok(Self(text.into()))
            }

            /// The id.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), self.0)
            }
        }
    };
}

id! {
    /// The id of a data plane node or a control process.
    NodeId
}
id! {
    /// The name of an operator.
    OperatorName
}
id! {
    /// An identity that says nothing of its holder.
    Pseudonym
}

impl Pseudonym {
    /// The pseudonym that 16 random bytes make.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(text.into())
    }
}

fn check_id(text: &str) -> Result<(), SubjectError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@+".contains(&byte);
    let good = (1..=ID_BYTES_MAX).contains(&text.len())
        && text.bytes().all(allowed)
        && text.bytes().any(|byte| byte != b'.');
    if good { Ok(()) } else { Err(SubjectError::Id) }
}

/// Who a credential is about. Its `Display` is the path of its URI, undecorated: `acme/demo/weather/1`, `node/edge-1`.
///
/// An agent's path has four segments, so the others, with two, never collide with one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// An agent.
    Agent(AgentName),
    /// An agent that hides behind a random name.
    Pseudonym(Pseudonym),
    /// A data plane node or a control process.
    Node(NodeId),
    /// A person or program that operates the network.
    Operator(OperatorName),
}

impl Subject {
    /// Reads a URI: its trust domain and its subject.
    ///
    /// # Errors
    /// [`SubjectError`]; also for a URI that is not the canonical one of its subject.
    pub fn parse(uri: &str) -> Result<(TrustDomain, Self), SubjectError> {
        if uri.len() > URI_BYTES_MAX {
            return Err(SubjectError::TooLong);
        }
        let (domain, path) = uri
            .strip_prefix(SCHEME)
            .and_then(|rest| rest.split_once('/'))
            .ok_or(SubjectError::Scheme)?;
        let domain = TrustDomain::new(domain)?;
        let segments: Vec<Cow<'_, str>> = path
            .split('/')
            .map(|segment| {
                percent_decode_str(segment)
                    .decode_utf8()
                    .map_err(|_| SubjectError::Kind)
            })
            .collect::<Result<_, _>>()?;
        // An encoded '/' would make another name of it when the segments are joined.
        if segments.iter().any(|segment| segment.contains('/')) {
            return Err(SubjectError::Kind);
        }
        let subject = Self::from_path(&segments.join("/"))?;
        let canonical = subject.uri(&domain);
        if canonical != uri {
            return Err(SubjectError::NotCanonical { canonical });
        }
        Ok((domain, subject))
    }

    /// Reads a path as [`Display`](fmt::Display) writes it: `acme/demo/weather/1`, `node/edge-1`.
    ///
    /// # Errors
    /// [`SubjectError`].
    pub fn from_path(path: &str) -> Result<Self, SubjectError> {
        match path.split_once('/') {
            Some(("node", id)) if !id.contains('/') => NodeId::new(id).map(Self::Node),
            Some(("operator", name)) if !name.contains('/') => OperatorName::new(name).map(Self::Operator),
            Some(("pseudonym", random)) if !random.contains('/') => {
                Pseudonym::new(random).map(Self::Pseudonym)
            }
            Some(_) if path.split('/').count() == 4 => match AgentName::new(path) {
                Ok(name) if name.service() == PSEUDONYMS => Err(SubjectError::Reserved),
                Ok(name) => Ok(Self::Agent(name)),
                Err(error) => Err(SubjectError::Name(error)),
            },
            _ => Err(SubjectError::Kind),
        }
    }

    /// Its canonical URI in a trust domain.
    pub fn uri(&self, domain: &TrustDomain) -> String {
        let mut uri = domain.uri();
        for segment in self.to_string().split('/') {
            uri.push('/');
            uri.extend(utf8_percent_encode(segment, SEGMENT));
        }
        uri
    }

    /// The name that it has as an agent: its own, or that of its pseudonym. `None` for nodes and operators.
    pub fn agent_name(&self) -> Option<AgentName> {
        match self {
            Self::Agent(name) => Some(name.clone()),
            // An id is a good segment, so there is a name.
            Self::Pseudonym(random) => AgentName::new(&format!("{PSEUDONYMS}/{random}")).ok(),
            Self::Node(_) | Self::Operator(_) => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(name) => write!(f, "{name}"),
            Self::Pseudonym(random) => write!(f, "pseudonym/{random}"),
            Self::Node(id) => write!(f, "node/{id}"),
            Self::Operator(name) => write!(f, "operator/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> TrustDomain {
        TrustDomain::new("acme.example").expect("valid")
    }

    #[test]
    fn each_kind_has_one_uri() {
        for (uri, path) in [
            ("agp://acme.example/acme/demo/weather/1", "acme/demo/weather/1"),
            ("agp://acme.example/node/edge-1", "node/edge-1"),
            (
                "agp://acme.example/operator/ada@acme.example",
                "operator/ada@acme.example",
            ),
            ("agp://acme.example/pseudonym/00ff", "pseudonym/00ff"),
            (
                "agp://acme.example/node/operator/pseudonym/x",
                "node/operator/pseudonym/x",
            ),
            ("agp://acme.example/a%20b/%C3%A9/c%3Fd/%25", "a b/é/c?d/%"),
        ] {
            let (found, subject) = Subject::parse(uri).expect(uri);
            assert_eq!(found, domain());
            assert_eq!(subject.to_string(), path);
            assert_eq!(Subject::from_path(path), Ok(subject.clone()));
            assert_eq!(subject.uri(&domain()), uri);
        }
    }

    #[test]
    fn other_uris_are_refused() {
        for uri in [
            "",
            "agp://",
            "agp://acme.example",
            "agp://acme.example/",
            "agp:///a/b/c/d",
            "spiffe://acme.example/a/b/c/d",
            "AGP://acme.example/a/b/c/d",
            "agp://Acme.example/a/b/c/d",
            "agp://user@acme.example/a/b/c/d",
            "agp://acme.example:1/a/b/c/d",
            "agp://-acme/a/b/c/d",
            "agp://acme..example/a/b/c/d",
            "agp://acme.example/a/b/c",
            "agp://acme.example/a/b/c/d/",
            "agp://acme.example/a/b/c/d/e",
            "agp://acme.example/a//c/d",
            "agp://acme.example/a/b/c/%2A",
            "agp://acme.example/a/b/c/d?x",
            "agp://acme.example/a/b/c/d#x",
            "agp://acme.example/%61/b/c/d",
            "agp://acme.example/a%2Fb/c/d",
            "agp://acme.example/a%2Fb/c/d/e",
            "agp://acme.example/a/b/c/%c3%a9",
            "agp://acme.example/a/b/c/%FF",
            "agp://acme.example/node/",
            "agp://acme.example/node/..",
            "agp://acme.example/node/a b",
            "agp://acme.example/robot/x",
            "agp://acme.example/pseudonym/anonymous/agent/00ff",
        ] {
            assert!(Subject::parse(uri).is_err(), "{uri}");
        }
        assert_eq!(
            Subject::parse(&"x".repeat(URI_BYTES_MAX + 1)),
            Err(SubjectError::TooLong)
        );
    }

    #[test]
    fn agents_and_pseudonyms_have_names_on_the_network() {
        let name = |path| {
            Subject::from_path(path)
                .expect(path)
                .agent_name()
                .map(|name| name.to_string())
        };
        assert_eq!(
            name("acme/demo/weather/1"),
            Some("acme/demo/weather/1".to_owned())
        );
        assert_eq!(
            name("pseudonym/00ff"),
            Some("pseudonym/anonymous/agent/00ff".to_owned())
        );
        assert_eq!((name("node/edge-1"), name("operator/ada")), (None, None));
    }

    #[test]
    fn any_text_is_read_as_its_own_uri_or_refused() {
        bolero::check!().with_type::<String>().for_each(|text| {
            for uri in [
                text.clone(),
                format!("agp://acme.example/{text}"),
                format!("agp://{text}/a/b/c/d"),
            ] {
                if let Ok((domain, subject)) = Subject::parse(&uri) {
                    assert_eq!(subject.uri(&domain), uri);
                }
            }
            if let Ok(subject) = Subject::from_path(text) {
                assert_eq!(Subject::parse(&subject.uri(&domain())), Ok((domain(), subject)));
            }
        });
    }
}
