//! gRPC over HTTP/2 without I/O: what lies between header lists and DATA on one side, and messages and status on the other.
//!
//! ```text
//!   HeaderList ──► Request::parse ──► Request            request   what is called, by when, in which encoding
//!                        └──────────► Refusal ─► Reply             or how a gRPC server says no
//!   DATA       ──► Deframer::next ──► Message<'_>        deframe   messages across DATA borders
//!   messages   ──► frame::append  ──► DATA               frame     the five bytes before a message
//!   Status     ──► response::{headers, trailers, …}      response  header lists to send
//!
//!   health, reflection                                   services every gRPC server has: message in, messages out
//! ```
//!
//! The source cited as "the gRPC protocol" is
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.
//!
//! # Invariants worth naming
//!
//! * A message that lies whole in its input is handed out as a slice of it: no copy, no allocation.
//! * Memory follows bytes that arrived, never a length that was announced, and ends at a named limit.
//! * A [`Status`] on the wire is short ([`status::MESSAGE_BYTES_MAX`]) and printable, whatever its text was made from.

#![forbid(unsafe_code)]

pub mod deframe;
pub mod encoding;
pub mod frame;
pub mod health;
pub mod metadata;
pub mod reflection;
pub mod request;
pub mod response;
pub mod status;
pub mod timeout;

mod percent;

pub use deframe::{Deframer, Message, Oversize};
pub use encoding::Encoding;
pub use request::{Refusal, Request};
pub use status::{Code, Status};
