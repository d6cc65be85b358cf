//! TLS 1.3 over byte buffers: rustls sessions without sockets.

mod server;
mod session;
mod watch;

pub use server::{Clients, Error, FileCertificate, certificates, server_config};
pub use session::Chain;
pub(crate) use session::{Input, Session};
