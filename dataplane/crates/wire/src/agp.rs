//! The native dialect, `agp.v1` (`proto/agp/v1/gateway.proto`).
//!
//! Hand-written because generated decoders copy every string and payload: [`decode`] borrows the few fields that routing needs
//! and checks the rest in place; [`AgpEncoder`] copies the sender's bytes once and appends the gateway's fields.

mod content;
mod context;
mod decode;
mod encode;
mod error;
pub(crate) mod fields;
pub(crate) mod schema;

pub use content::{Content, content};
pub use context::{CONVERSATION_BYTES_MAX, CONVERSATION_HEADER, Context, TRACE_HEADER, context};
pub use decode::{REGISTER_ELEMENTS_MAX, decode};
pub use encode::AgpEncoder;
pub use error::{DecodeError, Rule};
