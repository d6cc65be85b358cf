//! The groups of an agent on disk, encrypted.
//!
//! What is kept is a state of some moment after each handshake; messages are not worth a write each. So what comes back from disk may be
//! behind in the ratchets of messages, and must not encrypt anything before it has new ones: each group begins with a commit.

use std::path::Path;

use bytes::Bytes;
use openmls::prelude::{GroupId, MlsGroup};
use prost::Message as _;
use ringgate_identity::AgentKey;
use ringgate_identity::keystore::{KeystoreError, Seal, load_secret, save_secret};
use ringgate_mls::profile::Mode;
use ringgate_mls::roster::{self, Roster};
use ringgate_mls::snapshot;
use zeroize::Zeroizing;

use super::GroupError;
use super::engine::{Engine, KEYS_MAX};

const FORMAT: &str = "ringgate-groups-1";
/// Largest file read: some hundred groups of a hundred members.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// The plaintext.
#[derive(Clone, PartialEq, prost::Message)]
struct Kept {
    /// PKCS#8, the newest first.
    #[prost(bytes = "vec", repeated, tag = "1")]
    keys: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "2")]
    groups: Vec<KeptGroup>,
    #[prost(bytes = "vec", tag = "3")]
    storage: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeptGroup {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    #[prost(uint64, tag = "2")]
    sequence: u64,
    #[prost(bool, tag = "3")]
    sealed: bool,
    #[prost(uint32, tag = "4")]
    padding: u32,
    /// Who is in it, as they were verified.
    #[prost(bytes = "vec", tag = "5")]
    roster: Vec<u8>,
}

/// All groups, to be written by [`write`].
pub(super) fn snapshot_of(engine: &Engine) -> Result<Zeroizing<Vec<u8>>, GroupError> {
    let mut keys = Vec::new();
    for key in &engine.keys {
        keys.push(
            key.to_pkcs8()
                .map_err(|error| GroupError::Store(error.to_string()))?
                .to_vec(),
        );
    }
    let groups = engine.groups.iter().filter(|(_, live)| !live.removed);
    let groups = groups.map(|(id, live)| {
        Ok(KeptGroup {
            id: id.clone(),
            sequence: live.sequence,
            sealed: live.mode == Mode::Sealed,
            padding: live.padding,
            roster: roster::save(live.roster())?,
        })
    });
    let kept = Kept {
        keys,
        groups: groups.collect::<Result<_, GroupError>>()?,
        storage: snapshot::save(&engine.provider.storage)?,
    };
    Ok(Zeroizing::new(kept.encode_to_vec()))
}

/// Takes over what is on disk. Gives the groups that must begin with a commit.
pub(super) fn restore(engine: &mut Engine, path: &Path, seal: &Seal) -> Result<Vec<Bytes>, GroupError> {
    let text = match load_secret(path, FORMAT, FILE_BYTES_MAX, seal) {
        Ok(text) => text,
        Err(KeystoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(GroupError::Store(error.to_string())),
    };
    let kept = Kept::decode(&text[..]).map_err(|error| GroupError::Store(error.to_string()))?;
    for key in &kept.keys {
        let key = AgentKey::from_pkcs8(key).map_err(|error| GroupError::Store(error.to_string()))?;
        if engine.keys.len() < KEYS_MAX && engine.keys.iter().all(|known| known.public() != key.public()) {
            engine.keys.push(key);
        }
    }
    engine.provider.storage = snapshot::load(&kept.storage)?;
    let mut restored = Vec::new();
    for kept in kept.groups {
        let group = MlsGroup::load(&engine.provider.storage, &GroupId::from_slice(&kept.id))
            .map_err(GroupError::library)?;
        let Some(group) = group else { continue };
        let mode = if kept.sealed { Mode::Sealed } else { Mode::Assisted };
        let before = match kept.roster.is_empty() {
            true => Roster::new(),
            false => roster::load(&kept.roster)?,
        };
        engine.restore(kept.id.clone(), group, &before, mode, kept.padding, kept.sequence)?;
        restored.push(kept.id);
    }
    Ok(restored)
}

/// Writes a snapshot in place of the one before.
pub(super) fn write(path: &Path, text: Zeroizing<Vec<u8>>, seal: &Seal) -> Result<(), GroupError> {
    save_secret(path, FORMAT, text, seal).map_err(|error| GroupError::Store(error.to_string()))
}
