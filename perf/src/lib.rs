//! The instruments of Ringgate's performance: a load generator, the raw relay that is the limit, and comparisons between servers.
//!
//! One thread drives all connections of a run from one core, with `epoll` and large reads, so that the load costs little next to
//! the server and the same load meets each server. What is reported as cost is the processor time of the *server*, read from the
//! kernel's scheduler (`/proc/PID/task/*/schedstat`, nanoseconds), divided by what it delivered.
//!
//! # Invariants worth naming
//!
//! * A protocol ([`wire::Wire`]) turns bytes into [`wire::Incoming`] and knows neither sockets nor clocks; a [`work`] knows neither
//!   bytes nor protocols. Every work runs over every protocol that has what it takes.
//! * Each message carries its sequence number; a lost or reordered delivery is counted and shown, never averaged away.
//! * In open loop, latency counts from the instant a message was *due*, so that a stalled server cannot hide behind a stalled load
//!   (no coordinated omission).
//! * A run is bounded in time and in messages, and a server that stops answering ends it with an error.

#![forbid(unsafe_code)]

pub mod compare;
pub mod error;
pub mod fleet;
pub mod machine;
pub mod peers;
pub mod placements;
pub mod process;
pub mod relay;
pub mod report;
pub mod stats;
pub mod wire;
pub mod work;

pub use error::Error;
