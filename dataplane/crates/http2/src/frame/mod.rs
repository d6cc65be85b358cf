//! Frames (RFC 9113 sections 4 and 6): one file for each type or group, parsing and writing without state.
//!
//! Each parser checks what can be told from the frame alone; what depends on the stream or the connection is checked in
//! `connection/`.

pub mod go_away;
pub mod head;
pub mod headers;
pub mod padding;
pub mod ping;
pub mod priority;
pub mod reset;
pub mod settings;
pub mod window_update;

pub use head::{FrameHead, Kind, flags};

/// What a client sends first (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame head.
pub const HEAD_BYTES: usize = 9;
