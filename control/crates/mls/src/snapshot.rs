//! What `openmls` keeps, as bytes to be stored: its memory storage, all entries one after the other.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::sync::{PoisonError, RwLock};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use openmls_memory_storage::MemoryStorage;

use crate::MlsError;

/// Snapshots above this many bytes are packed: what `openmls` keeps is JSON, which packs to a third, at some 100 MB/s.
const PACKED_ABOVE_BYTES: usize = 256 * 1024;
/// Largest snapshot read, unpacked. A thousand members take one MiB.
const SNAPSHOT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// All entries of a storage.
///
/// # Errors
/// [`MlsError::Damaged`] if it cannot be packed.
pub fn save(storage: &MemoryStorage) -> Result<Vec<u8>, MlsError> {
    let values = storage.values.read().unwrap_or_else(PoisonError::into_inner);
    let mut plain = Vec::new();
    for (key, value) in values.iter() {
        for part in [key, value] {
            plain.extend(
                u32::try_from(part.len())
                    .map_err(|_| damaged("an entry is too large"))?
                    .to_le_bytes(),
            );
            plain.extend_from_slice(part);
        }
    }
    let packed = plain.len() > PACKED_ABOVE_BYTES;
    let mut out = vec![u8::from(packed)];
    if packed {
        let mut encoder = DeflateEncoder::new(&mut out, Compression::fast());
        let written = encoder
            .write_all(&plain)
            .and_then(|()| encoder.finish().map(drop));
        written.map_err(|error| damaged(&error.to_string()))?;
    } else {
        out.extend(plain);
    }
    Ok(out)
}

/// A storage with these entries.
///
/// # Errors
/// [`MlsError::Damaged`].
pub fn load(bytes: &[u8]) -> Result<MemoryStorage, MlsError> {
    let (packed, rest) = bytes.split_first().ok_or_else(|| damaged("it is empty"))?;
    let mut unpacked = Vec::new();
    let mut rest = match packed {
        0 => rest,
        1 => {
            let read = DeflateDecoder::new(rest)
                .take(SNAPSHOT_BYTES_MAX)
                .read_to_end(&mut unpacked);
            read.map_err(|error| damaged(&error.to_string()))?;
            &unpacked[..]
        }
        _ => return Err(damaged("it is of another version")),
    };
    let mut values = HashMap::new();
    while !rest.is_empty() {
        let key = part(&mut rest)?;
        values.insert(key.to_vec(), part(&mut rest)?.to_vec());
    }
    Ok(MemoryStorage {
        values: RwLock::new(values),
    })
}

fn part<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], MlsError> {
    let cut = || damaged("it is cut off");
    let (length, behind) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
    let (part, behind) = behind
        .split_at_checked(u32::from_le_bytes(*length) as usize)
        .ok_or_else(cut)?;
    *rest = behind;
    Ok(part)
}

fn damaged(what: &str) -> MlsError {
    MlsError::Damaged(what.to_owned())
}
