//! Who may do what: Cedar policies over agents, topics, capabilities and spaces.
//!
//! The control process checks and explains with this crate, the data plane decides with it; both get the same answer. Everything
//! here is pure: a decision depends on the policies, the grants, who asks, how it proved itself, and for what. Caching is the
//! gateway's.
//!
//! Invariants worth naming:
//!
//! * **A set that parses is a set that can be served.** Syntax, types and names are checked when it is read; nothing is left to fail
//!   while deciding but arithmetic overflow, and a `forbid` that fails so forbids.
//! * **A decision looks at what it needs.** Policies are indexed by action, principal and resource of their scope, and entities are
//!   made for the one question; neither the number of policies nor that of agents or grants is walked. The result is that of the
//!   whole set (a property test holds this).
//! * **A pattern is judged by everything it can match** (see [`Action::Subscribe`]): it is refused when any topic it could match is
//!   forbidden.
#![forbid(unsafe_code)]

mod access;
mod changes;
mod grants;
mod index;
mod policies;
mod problem;
mod scene;
mod vocabulary;
mod why;
mod witness;

pub use access::{Access, Decision};
pub use changes::{Bounds, Change, Comparison, Crowd, Question, compare};
pub use grants::{GRANTS_MAX, GrantError, Grants, ROLES_PER_NAME_MAX, levels};
pub use policies::{POLICIES_MAX, POLICY_TEXT_BYTES_MAX, PolicySet};
pub use problem::Problem;
pub use scene::{Context, Credential};
pub use vocabulary::{Action, Asked, AskedError, UnknownAction};
pub use why::Explanation;

/// The schema that policies are checked against.
pub const SCHEMA: &str = include_str!("../ringgate.cedarschema");

/// The policies a new installation starts with: every enrolled agent may do everything, with comments that show how to tighten it.
pub const STARTER: &str = include_str!("../starter.cedar");
