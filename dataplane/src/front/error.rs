//! Why the dialects of a node cannot be set up.

use crate::names::GateError;

/// A dialect cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrontError {
    /// What its clients must show cannot be checked.
    #[error("{dialect}: {source}")]
    Gate {
        /// The section of the configuration.
        dialect: &'static str,
        /// Which file, and what it should be.
        source: GateError,
    },
}
