//! TLS 1.3 over byte buffers: rustls sessions without sockets.

mod server;
mod session;

pub use server::{Error, Files, server_config};
pub(crate) use session::{Input, Session};
