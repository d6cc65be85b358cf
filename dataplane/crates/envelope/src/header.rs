//! The framing of MLS messages (RFC 9420 §6), as far as it is in the clear.
//!
//! ```text
//!   00 01            version mls10
//!   00 02            wire format: 1 PublicMessage, 2 PrivateMessage, 3 Welcome, 4 GroupInfo, 5 KeyPackage
//!   group_id<V>  epoch u64
//!   2: content_type u8 (1 application, 2 proposal, 3 commit)  authenticated_data<V>  encrypted_sender_data<V>  ciphertext<V>
//!   1: sender_type u8 …
//! ```
//!
//! `<V>` is a length of 1, 2 or 4 bytes and so many bytes (RFC 9420 §2.1.2). A length that is written longer than it must be is
//! refused, as the RFC says: one message has one encoding.

use crate::Fault;

/// Longest group id: those of this gateway's groups have 16 bytes; what is longer would be a place for plaintext.
pub const GROUP_ID_BYTES_MAX: usize = 64;
/// Longest authenticated data: it travels in the clear, and holds a digest of the routing header (RFC 9420 leaves it open).
pub const AUTHENTICATED_DATA_BYTES_MAX: usize = 64;
/// Sender data is leaf index, generation and reuse guard (12 bytes) and a tag of 16, in every cipher suite (RFC 9420 §6.3.2).
const SENDER_DATA_BYTES: usize = 28;
/// Shortest ciphertext: an empty content, an Ed25519 signature with its length, and a tag.
pub const CIPHERTEXT_BYTES_MIN: usize = 1 + 2 + 64 + 16;

const VERSION: [u8; 2] = [0, 1];
const PUBLIC: u8 = 1;
const PRIVATE: u8 = 2;
const KEY_PACKAGE: u8 = 5;

/// An encrypted application message, from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Application<'a> {
    /// Its group.
    pub group: &'a [u8],
    /// The epoch of the group that it is encrypted in.
    pub epoch: u64,
    /// Bytes of its ciphertext, padding included.
    pub ciphertext_bytes: usize,
}

/// What a handshake message of a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A PublicMessage; what it holds is for who verifies it.
    Public,
    /// An encrypted proposal.
    Proposal,
    /// An encrypted commit.
    Commit,
}

/// A proposal or commit, from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake<'a> {
    /// Its group.
    pub group: &'a [u8],
    /// The epoch of the group that it was made in.
    pub epoch: u64,
    /// What it is.
    pub content: Content,
}

/// Reads an encrypted application message, to its last byte.
///
/// # Errors
/// [`Fault`] for everything else.
#[inline]
pub fn application(payload: &[u8]) -> Result<Application<'_>, Fault> {
    let mut rest = body(payload, PRIVATE)?;
    let group = group(&mut rest)?;
    let epoch = epoch(&mut rest)?;
    match byte(&mut rest)? {
        1 => {}
        2 | 3 => return Err(Fault::Handshake),
        _ => return Err(Fault::Malformed),
    }
    if bytes(&mut rest)?.len() > AUTHENTICATED_DATA_BYTES_MAX {
        return Err(Fault::AuthenticatedData);
    }
    let ciphertext_bytes = encrypted(rest)?;
    Ok(Application {
        group,
        epoch,
        ciphertext_bytes,
    })
}

/// Reads the outside of a proposal or commit.
///
/// # Errors
/// [`Fault`] for everything else; [`Fault::NotMls`] for an application message.
pub fn handshake(message: &[u8]) -> Result<Handshake<'_>, Fault> {
    if let Ok(mut rest) = body(message, PUBLIC) {
        let (group, epoch) = (group(&mut rest)?, epoch(&mut rest)?);
        return Ok(Handshake {
            group,
            epoch,
            content: Content::Public,
        });
    }
    let mut rest = body(message, PRIVATE)?;
    let (group, epoch) = (group(&mut rest)?, epoch(&mut rest)?);
    let content = match byte(&mut rest)? {
        2 => Content::Proposal,
        3 => Content::Commit,
        1 => return Err(Fault::NotMls),
        _ => return Err(Fault::Malformed),
    };
    bytes(&mut rest)?;
    encrypted(rest)?;
    Ok(Handshake {
        group,
        epoch,
        content,
    })
}

/// What comes behind version and wire format.
#[inline(always)]
fn body(payload: &[u8], format: u8) -> Result<&[u8], Fault> {
    match payload {
        [a, b, 0, found, rest @ ..] if [*a, *b] == VERSION && *found == format => Ok(rest),
        _ => Err(other(payload)),
    }
}

/// What a payload is that is not what it should be.
#[cold]
fn other(payload: &[u8]) -> Fault {
    match payload {
        [] => Fault::Empty,
        [0, 1, 0, PUBLIC, ..] => Fault::Public,
        [0, 1, 0, PRIVATE, ..] => Fault::Malformed,
        [0, 1, 0, format, ..] if *format > PRIVATE && *format <= KEY_PACKAGE => Fault::Handshake,
        _ => Fault::NotMls,
    }
}

#[inline(always)]
fn group<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Fault> {
    let group = bytes(rest)?;
    match group.len() {
        1..=GROUP_ID_BYTES_MAX => Ok(group),
        _ => Err(Fault::Malformed),
    }
}

#[inline(always)]
fn epoch(rest: &mut &[u8]) -> Result<u64, Fault> {
    let (epoch, behind) = rest.split_first_chunk::<8>().ok_or(Fault::Malformed)?;
    *rest = behind;
    Ok(u64::from_be_bytes(*epoch))
}

#[inline(always)]
fn byte(rest: &mut &[u8]) -> Result<u8, Fault> {
    let (first, behind) = rest.split_first().ok_or(Fault::Malformed)?;
    *rest = behind;
    Ok(*first)
}

/// Sender data and ciphertext, which end the message. Gives the length of the ciphertext.
#[inline(always)]
fn encrypted(mut rest: &[u8]) -> Result<usize, Fault> {
    let sender_data = bytes(&mut rest)?;
    let ciphertext = bytes(&mut rest)?;
    let whole =
        sender_data.len() == SENDER_DATA_BYTES && ciphertext.len() >= CIPHERTEXT_BYTES_MIN && rest.is_empty();
    if whole {
        Ok(ciphertext.len())
    } else {
        Err(Fault::Malformed)
    }
}

/// Bytes with their length before them.
#[inline(always)]
fn bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Fault> {
    let length = length(rest)?;
    let (bytes, behind) = rest.split_at_checked(length).ok_or(Fault::Malformed)?;
    *rest = behind;
    Ok(bytes)
}

/// A length, in as few bytes as it takes (RFC 9420 §2.1.2).
#[inline(always)]
fn length(rest: &mut &[u8]) -> Result<usize, Fault> {
    let first = byte(rest)?;
    let low = usize::from(first & 0x3f);
    match first >> 6 {
        0 => Ok(low),
        1 => {
            let second = byte(rest)?;
            at_least(low << 8 | usize::from(second), 1 << 6)
        }
        2 => {
            let (tail, behind) = rest.split_first_chunk::<3>().ok_or(Fault::Malformed)?;
            *rest = behind;
            let [a, b, c] = tail.map(usize::from);
            at_least(low << 24 | a << 16 | b << 8 | c, 1 << 14)
        }
        _ => Err(Fault::Malformed),
    }
}

#[inline(always)]
fn at_least(length: usize, least: usize) -> Result<usize, Fault> {
    if length >= least {
        Ok(length)
    } else {
        Err(Fault::Malformed)
    }
}
