//! HPACK, header compression (RFC 7541).
//!
//! Own code, because the crates that offer HPACK alone have not been kept for years, and `h2` does not export its own.
//!
//! The decoder is complete: static and dynamic table, Huffman, size updates. The encoder is stateless: it uses the static
//! table and never inserts into a dynamic one. Responses and trailers are a few short fields; indexing them would save a
//! few dozen bytes for each stream, but cost a table for each connection and tie the order in which header blocks are
//! written.

mod decoder;
mod encoder;
mod huffman;
mod integer;
mod static_table;
mod table;

pub use decoder::{DecodeError, Decoder};
pub use encoder::Encoder;
