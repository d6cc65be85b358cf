//! The crate as its users see it, with a real authority.

mod certificates;
mod handshakes;
mod keystore;
mod tokens;
mod world;
