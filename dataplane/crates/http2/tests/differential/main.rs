//! The `h2` crate is the oracle: it must understand us, and we it, in both roles, over an in-memory pipe.

mod client;
mod driver;
mod server;
