//! MLS (RFC 9420) as the control process and the SDK share it, over `openmls`.
//!
//! * [`credential`]: the certificate of the identity service is the MLS credential; one verifier, `ringgate-identity`.
//! * [`package`]: what a key package must be to be published, handed out, and added.
//! * [`roster`]: who is in a group, and what a commit may do to that; members and the delivery service judge by it alike.
//! * [`tree`]: the public side of a group, as the delivery service follows it. It holds no secret of the group.
//! * [`profile`]: what groups of this gateway agree on.
//!
//! Invariants worth naming:
//! * **A leaf is somebody only by the verifier**, which also compares the certificate's key with the leaf's: `openmls` compares neither.
//! * **There is one version and a short list of cipher suites**; a group keeps its own for life. ReInit, by which a group could be
//!   led to a weaker one, is refused (`openmls` 0.9.2 would take it for done and go on sending).
//! * **One leaf for one identity.**
#![forbid(unsafe_code)]

pub mod credential;
mod error;
pub mod message;
pub mod package;
pub mod profile;
pub mod roster;
mod signer;
pub mod snapshot;
pub mod suite;
pub mod tree;

pub use error::MlsError;
pub use package::Package;
pub use roster::{Member, Verdict};
pub use signer::KeySigner;
pub use tree::{Staged, Tree};
