//! The link to the control process: this node enrols there, gets the state it serves by, and tells what it sees.
//!
//! ```text
//!   control process ══ TLS, h2, Nodes.Attach ══ link (an executor of its own, never on a data core)
//!                                                 │ state: validated ─► all cores ─► disk ─► Applied
//!                                                 │ or Rejected with the reason, and nothing changes
//!   cores ── observations ─► service thread ── reports ─┘
//! ```
//!
//! Invariants worth naming:
//! * A state is in force on all cores or on none; what is on disk was in force.
//! * The node starts and goes on without the control process, by what that told last. Only the first start needs it.
//! * The node's private key never leaves its folder, and is replaced with each certificate.

mod enrol;
mod error;
mod files;
mod link;
mod reports;
mod rpc;
mod session;
mod state;

pub use error::ControlError;
pub use link::{Link, Start};
pub use reports::LinkSender;
