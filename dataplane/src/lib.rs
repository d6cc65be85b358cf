//! The gateway node: a thread-per-core data plane on io_uring.
//!
//! ```text
//!   runtime    executors, placement, start, drain, signals
//!   shard      one core: ring, connections, calls, the loop        observe   counters and HTTP, off the data cores
//!   agents     the gateway as a shard's service                    config    keys, file, command line
//!   mesh       core to core                                        tls       sessions over byte buffers
//! ```
#![forbid(unsafe_code)]

pub mod agents;
pub mod config;
pub mod mesh;
pub mod observe;
pub mod runtime;
pub mod shard;
pub mod tls;
