//! What can be wrong with a configuration.

use std::path::PathBuf;

/// A configuration cannot be used. The message names the place, the key and what is allowed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{path}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        message: String,
    },
    /// A key does not exist.
    #[error("{place}: there is no key `{key}`{hint}. `--print-config` shows all keys")]
    UnknownKey {
        /// File and line, or the command line.
        place: String,
        /// The key.
        key: String,
        /// A similar key, if there is one.
        hint: String,
    },
    /// A value is not allowed.
    #[error("{place}: `{key}` cannot be {value}: {allowed}")]
    Value {
        /// File and line, or the command line.
        place: String,
        /// The key.
        key: String,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// Keys contradict each other.
    #[error("{0}")]
    Contradiction(String),
}
