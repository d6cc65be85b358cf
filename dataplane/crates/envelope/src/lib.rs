//! The outside of MLS messages (RFC 9420 §6): what a gateway reads of what it cannot read.
//!
//! A gateway passes on application messages that are encrypted ([`application`]), as new as their group's [`Windows`] ask, and
//! nothing else. It holds no key and knows no member: whether a ciphertext is one, only its receivers can tell.
//!
//! Sans-IO, no allocation: a check reads the first bytes of a payload and compares lengths.
#![forbid(unsafe_code)]

mod fault;
mod header;
mod window;

pub use fault::Fault;
pub use header::{
    AUTHENTICATED_DATA_BYTES_MAX, Application, CIPHERTEXT_BYTES_MIN, Content, GROUP_ID_BYTES_MAX, Handshake,
    application, handshake,
};
pub use window::{WINDOWS_MAX, Window, Windows};
