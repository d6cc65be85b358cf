//! One `io_uring` for the sockets of one core. This crate holds all `unsafe` of the workspace.
//!
//! A [`Ring`] accepts on listeners (multishot), receives into a ring of buffers that the kernel picks from (multishot, provided
//! buffers, consumed incrementally where asked for) and sends what a [`SendBuffer`] gathers. Submissions are batched: nothing
//! reaches the kernel before [`Ring::submit`].
//!
//! # Invariants worth naming
//!
//! * Memory given to the kernel is owned by the ring until the completion that gives it back has been read: send buffers live in
//!   their socket's entry while in flight, receive buffers in the ring's own mapping.
//! * At most one send is in flight per socket, so bytes leave in the order they were given.
//! * An operation in flight is never dropped: [`Ring::close`] cancels what is in flight; the entry is freed, and reported
//!   [`Completion::Closed`], only when the last operation has completed. A [`SocketId`] carries a generation, so a completion of an
//!   earlier life of an entry can never be taken for the present one.
//! * A ring is used by the thread that made it (`SINGLE_ISSUER`), which the type enforces by being neither `Send` nor `Sync`.

mod buffers;
mod check;
mod config;
mod error;
mod ring;
mod send;
mod socket;
mod waker;

pub use check::{Finding, Severity, preflight, raise_open_files};
pub use config::RingConfig;
pub use error::{Error, SetupStep};
pub use ring::{Completion, ListenerId, Received, Ring};
pub use send::SendBuffer;
pub use socket::SocketId;
pub use waker::Waker;
