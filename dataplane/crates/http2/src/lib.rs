//! HTTP/2 (RFC 9113) and HPACK (RFC 7541) without I/O, in server and client role.
//!
//! A [`Connection`] takes bytes and `now`, and gives [`Event`]s and bytes to write. It owns no socket, clock, thread or
//! random source, so it runs the same under io_uring, a property test, a fuzzer and callgrind.
//!
//! ```text
//!   bytes in ──► frame/ ──► connection/ ──► Event<'_>         frame/       one file for each frame type
//!                             │   ▲                          hpack/       header compression
//!                           hpack/ │                          validate     which header lists make a message
//!   bytes out ◄── frame/ ◄── connection/ ◄── calls            connection/  state, streams, windows, floods, timers
//! ```
//!
//! # Invariants worth naming
//!
//! * DATA is never buffered: a fragment is handed out as a slice of the input it came in.
//! * Outgoing DATA is never seen: [`Connection::data`] accounts a frame and gives its 9-byte head, the caller writes the payload.
//! * Every table is bounded by a field of [`Config`]: streams, header blocks, the HPACK table, remembered closed streams,
//!   control bytes waiting to be written. What cannot be bounded by size is bounded by a budget, see [`Allowance`].
//! * In steady state a DATA frame in either direction allocates nothing.

#![forbid(unsafe_code)]

mod config;
mod connection;
mod error;
mod event;
mod headers;
mod validate;

pub mod frame;
pub mod hpack;

pub use config::{Allowance, Config, ConfigError};
pub use connection::Connection;
pub use connection::streams::StreamKey;
pub use error::{Error, ErrorCode, OpenError, Violation};
pub use event::{Event, StreamId};
pub use headers::{Header, HeaderList, Headers};
