//! What the benchmarks and the allocation check share: messages as agents send them, and the gateway's layers put together
//! without a socket.

#![forbid(unsafe_code)]

pub mod dialects;
pub mod hub;
pub mod instructions;
pub mod messages;
pub mod pipeline;
pub mod results;
pub mod stream;
