//! Names, topics and patterns, identity, permissions and limits of agents.
//!
//! What is checked here is checked nowhere else: the layers above take a validated value for granted. Validators borrow and
//! allocate nothing.
#![forbid(unsafe_code)]

mod authority;
mod identity;
mod limits;
mod name;
mod pattern;

pub use authority::{Authority, Denial, Development, Permission, Rejection, bearing};
pub use identity::{Credential, Identity, PROOF_BYTES, Proof};
pub use limits::{LimitError, LimitSpec, Limits};
pub use name::{AgentName, NameError, capability, label, service};
pub use pattern::{Pattern, PatternError, Topic, matches};

/// Longest segment of a name, topic or pattern in bytes (DESIGN §4).
pub const SEGMENT_BYTES_MAX: usize = 255;
/// Longest name, topic or pattern in bytes (DESIGN §4).
pub const PATH_BYTES_MAX: usize = 1024;
/// Most segments of a topic or pattern. It bounds the depth, and so the work, of one match.
pub const SEGMENTS_MAX: usize = 64;
