//! Dialects of the gateway: bytes to actions, outgoing messages to bytes.
//!
//! One module for each dialect. A dialect reads no more of a message than routing needs, but checks all of it that a receiver's
//! parser would look at, because the bytes are passed on as they came.
//!
//! Invariants worth naming:
//!
//! * What `decode` accepts, every conforming parser accepts after the gateway has appended its own fields.
//! * What the gateway says stands behind what the sender said, and the last value of a field wins: a forged one never survives.
//! * In steady state neither direction allocates ([`Arena`] recycles its memory).
#![forbid(unsafe_code)]

pub mod agp;
mod arena;
mod envelope;
mod mls;
pub mod pubsub;
pub mod slim;

pub use agp::AgpEncoder;
pub use arena::{Arena, ArenaConfig};
pub use pubsub::{PubSub, PubSubConfig};
pub use slim::Slim;
