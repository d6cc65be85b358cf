//! The Rust agent SDK of Ringgate
