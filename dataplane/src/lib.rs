//! The gateway node: a thread-per-core data plane on io_uring.
//!
//! ```text
//!   runtime    executors, placement, start, drain, signals
//!   shard      one core: ring, connections, calls, the loop        observe   counters and HTTP, off the data cores
//!   front      all dialects as one service of a shard
//!   agents     the native dialect                                  config    keys, file, command line
//!   neighbours links to other nodes, and this node's part in their network
//!   names      the dialects that route by hashed name: SLIM v3, AGP 2025
//!   mesh       core to core                                        tls       sessions over byte buffers
//!   rules      who is trusted, who may do what                     control   the link to the control process
//!   log        durable state spaces, in files
//! ```
#![forbid(unsafe_code)]

pub mod agents;
pub use ringgate_config as config;
pub mod control;
pub mod front;
pub mod log;
pub mod mesh;
pub mod names;
pub mod neighbours;
pub mod observe;
pub mod rules;
pub mod runtime;
pub mod shard;
pub mod tls;
