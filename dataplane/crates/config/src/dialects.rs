//! Settings of the dialects that earlier clients speak: SLIM v3 and AGP 2025.

use std::path::PathBuf;
use std::time::Duration;

use ringgate_switch::SlowReader;

use crate::Profile;

/// What is allowed, where the profile says so if nobody else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Allowed {
    /// In the profile `development`, not in `strict`.
    #[default]
    Auto,
    /// Whatever the profile.
    Yes,
    /// Whatever the profile.
    No,
}

impl Allowed {
    /// What it means in `profile`.
    pub fn under(self, profile: Profile) -> bool {
        match self {
            Allowed::Auto => profile == Profile::Development,
            Allowed::Yes => true,
            Allowed::No => false,
        }
    }
}

/// Settings of a dialect.
#[derive(Debug, Clone)]
pub struct DialectConfig {
    /// Whether its clients are served.
    pub enabled: Allowed,
    /// Whether it may carry payloads that are not MLS.
    pub plain_payloads: Allowed,
    /// What happens to messages for a client that reads too slowly.
    pub slow_reader: SlowReader,
    /// Bounds of one core.
    pub limits: ringgate_switch::Limits,
    /// Who may open a stream.
    pub gate: GateConfig,
}

impl Default for DialectConfig {
    fn default() -> Self {
        Self {
            enabled: Allowed::Auto,
            plain_payloads: Allowed::Auto,
            slow_reader: SlowReader::default(),
            limits: ringgate_switch::Limits::default(),
            gate: GateConfig::default(),
        }
    }
}

/// What a client must show in the metadata `authorization` to open a stream. Nothing set: nothing is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GateConfig {
    /// File of `user:password` lines.
    pub basic_users: Option<PathBuf>,
    /// File of the key that bearer tokens (JWT) are verified with.
    pub jwt_key: Option<PathBuf>,
    /// Audience that a bearer token must name; empty: any.
    pub jwt_audience: String,
    /// Issuer that it must name; empty: any.
    pub jwt_issuer: String,
}

/// Whether the headers of SLIM messages are authenticated from hop to hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeaderMac {
    /// A link without a key is refused.
    #[default]
    Required,
    /// A link has a key where the client offers one.
    Offered,
    /// No link has one.
    Off,
}

/// Settings of SLIM v3.
#[derive(Debug, Clone)]
pub struct SlimConfig {
    /// Those of every dialect.
    pub dialect: DialectConfig,
    /// Whether headers are authenticated.
    pub header_mac: HeaderMac,
    /// Whether a link key must be post-quantum hybrid.
    pub enforce_pqc: bool,
    /// Whether clients may say that they are nodes (PEER, REMOTE).
    pub node_links: bool,
    /// How long a client may take to negotiate its link.
    pub negotiation_timeout: Duration,
}

impl Default for SlimConfig {
    fn default() -> Self {
        Self {
            dialect: DialectConfig::default(),
            header_mac: HeaderMac::default(),
            enforce_pqc: false,
            node_links: false,
            negotiation_timeout: Duration::from_secs(5),
        }
    }
}
