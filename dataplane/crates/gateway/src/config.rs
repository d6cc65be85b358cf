//! What a gateway core is told at its start.

use std::fmt;
use std::sync::Arc;

use ringgate_policy::{Authority, Development, Identity, Limits};
use ringgate_state::TopicRules;

use crate::ids::CoreId;
use crate::outgoing::Dialect;

/// Bytes of a resume token: 128 bits from a cryptographic random source cannot be guessed.
pub const TOKEN_BYTES: usize = 16;

/// Configuration of one core's gateway. All cores of a node get the same `node`, `cores`, `limits` and `seed`.
pub struct GatewayConfig {
    /// Name of the node, told to agents.
    pub node: String,
    /// Which core this is.
    pub core: CoreId,
    /// How many there are, from 1 to [`CORES_MAX`].
    pub cores: u16,
    /// Limits of agents and of this core; checked by [`Limits::check`] before.
    pub limits: Limits,
    /// Secret random number, the same on all cores: it seeds the hashes, so that a peer cannot choose keys that collide, and
    /// says which core is a name's home.
    pub seed: u64,
    /// Makes resume tokens, from a cryptographic random source.
    pub token: Box<dyn FnMut() -> [u8; TOKEN_BYTES]>,
    /// Patterns of state spaces that go to the log, checked before. Where there are any, what [`take_log`](crate::Gateway::take_log)
    /// gives must be written.
    pub durable: Arc<[Box<str>]>,
    /// Which topics keep messages for later subscribers. Where some of them are durable, the same holds.
    pub topics: TopicRules,
    /// Who may do what.
    pub authority: Box<dyn Authority>,
}

/// Most cores of a node.
pub const CORES_MAX: u16 = 1024;
const _: () = assert!(CORES_MAX < CoreId::NETWORK.0);

impl GatewayConfig {
    /// Defaults of the profile `development` for one core.
    pub fn development(
        node: &str,
        core: CoreId,
        cores: u16,
        seed: u64,
        token: Box<dyn FnMut() -> [u8; TOKEN_BYTES]>,
    ) -> Self {
        Self {
            node: node.to_owned(),
            core,
            cores,
            limits: Limits::default(),
            seed,
            token,
            durable: Arc::default(),
            topics: TopicRules::default(),
            authority: Box::new(Development),
        }
    }
}

impl fmt::Debug for GatewayConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The seed is a secret.
        f.debug_struct("GatewayConfig")
            .field("node", &self.node)
            .field("core", &self.core)
            .field("cores", &self.cores)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// What the listener knows of a new stream's peer.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// The message format of its stream.
    pub dialect: Dialect,
    /// Its address, for people to read.
    pub address: String,
    /// How it proved who it is.
    pub identity: Identity,
    /// The call as its client sees it, for which the proof of a bearer token in its Register must be; empty where none is looked at.
    pub proof_uri: String,
    /// The caller's number of the connection, for people to read.
    pub connection: u64,
}
