//! Routing by hashed name: who has subscribed to which name on which connection, and what waits for each connection. The sans-IO core
//! of the dialects SLIM v3 and AGP 2025; a [`Dialect`] reads and writes their messages.
//!
//! ```text
//!   bytes ─► Dialect::read ─► Said ─► table ─► run being built ─► queues ─► Dialect::render ─► bytes
//!                                        ▲              │
//!                      interest of other cores      other cores
//! ```
//!
//! Invariants worth naming:
//!
//! * Nothing waits for a reader: every queue is bounded in bytes, and at the bound [`SlowReader`] decides. Input is never paused.
//! * FIFO from each connection to each other connection over all names, kinds of message and cores.
//! * A connection never gets what it sent, nor two copies of one message.
//! * A Subscribe is acknowledged when every core routes to it.
//! * The run being built goes to the queues before the table changes and at the end of the turn.
//! * In steady state nothing is allocated for a message or a delivery.
#![forbid(unsafe_code)]

mod clients;
mod config;
mod connection;
mod connections;
mod core_message;
mod dialect;
mod ids;
mod interest;
mod notice;
mod publish;
mod queue;
mod stats;
mod subscribe;
mod switch;
mod table;

pub use config::{Limits, SlowReader, SwitchConfig};
pub use core_message::CoreMessage;
pub use dialect::{Client, Dialect, Fanout, Form, Ignored, Publish, Rendered, Said};
pub use ids::{ANY, ConnectionId, End, Name, Peer};
pub use notice::{Notice, Offence};
pub use stats::{ConnectionInfo, Stats};
pub use switch::Switch;
