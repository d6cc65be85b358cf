//! MLS messages as they are read here: of one kind, within a limit, and nothing behind them.

use openmls::prelude::group_info::VerifiableGroupInfo;
use openmls::prelude::tls_codec::Deserialize as _;
use openmls::prelude::{KeyPackageIn, MlsMessageBodyIn, MlsMessageIn, ProtocolMessage, Welcome};

use crate::MlsError;

/// Largest key package: a chain of two certificates makes it about one KiB.
pub const KEY_PACKAGE_BYTES_MAX: usize = 16 * 1024;
/// Largest commit or proposal. The first commit after a thousand members were added at once has 83 KB.
pub const HANDSHAKE_BYTES_MAX: usize = 256 * 1024;
/// Largest Welcome and GroupInfo; a tree takes some 300 bytes for each member, and certificates as many again.
pub const WELCOME_BYTES_MAX: usize = 640 * 1024;

fn read(bytes: &[u8], expected: &'static str, limit: usize) -> Result<MlsMessageBodyIn, MlsError> {
    if bytes.len() > limit {
        return Err(MlsError::TooLarge {
            what: expected,
            bytes: bytes.len(),
            limit,
        });
    }
    MlsMessageIn::tls_deserialize_exact(bytes)
        .map(MlsMessageIn::extract)
        .map_err(|_| MlsError::Malformed { expected })
}

/// A key package.
///
/// # Errors
/// [`MlsError::Malformed`], [`MlsError::TooLarge`].
pub fn key_package(bytes: &[u8]) -> Result<KeyPackageIn, MlsError> {
    let expected = "a KeyPackage";
    match read(bytes, expected, KEY_PACKAGE_BYTES_MAX)? {
        MlsMessageBodyIn::KeyPackage(package) => Ok(package),
        _ => Err(MlsError::Malformed { expected }),
    }
}

/// A Welcome.
///
/// # Errors
/// [`MlsError::Malformed`], [`MlsError::TooLarge`].
pub fn welcome(bytes: &[u8]) -> Result<Welcome, MlsError> {
    let expected = "a Welcome";
    match read(bytes, expected, WELCOME_BYTES_MAX)? {
        MlsMessageBodyIn::Welcome(welcome) => Ok(welcome),
        _ => Err(MlsError::Malformed { expected }),
    }
}

/// A GroupInfo, whose signature nobody has verified.
///
/// # Errors
/// [`MlsError::Malformed`], [`MlsError::TooLarge`].
pub fn group_info(bytes: &[u8]) -> Result<VerifiableGroupInfo, MlsError> {
    let expected = "a GroupInfo";
    match read(bytes, expected, WELCOME_BYTES_MAX)? {
        MlsMessageBodyIn::GroupInfo(info) => Ok(info),
        _ => Err(MlsError::Malformed { expected }),
    }
}

/// A proposal, commit or application message, encrypted or not.
///
/// # Errors
/// [`MlsError::Malformed`], [`MlsError::TooLarge`].
pub fn protocol(bytes: &[u8], limit: usize) -> Result<ProtocolMessage, MlsError> {
    let expected = "a PublicMessage or PrivateMessage";
    match read(bytes, expected, limit)? {
        MlsMessageBodyIn::PublicMessage(message) => Ok(message.into()),
        MlsMessageBodyIn::PrivateMessage(message) => Ok(message.into()),
        _ => Err(MlsError::Malformed { expected }),
    }
}
