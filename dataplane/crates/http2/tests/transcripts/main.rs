//! Conversations between a connection and a mock peer that speaks in raw frames.
//!
//! Each test reads as a transcript: what the peer says, what the application hears, what the connection answers.

mod client;
mod conformance;
mod floods;
mod flow;
mod peer;
mod server;
mod shutdown;
mod splits;
