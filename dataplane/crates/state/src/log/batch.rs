//! Batches: what is written at once, and is good as a whole or not at all.

use thiserror::Error;
use xxhash_rust::xxh3::Xxh3;

/// Batches start at multiples of this: what a disk can write by itself is never written twice.
pub const BLOCK_BYTES: usize = 4096;
/// Says that a batch begins here.
const MAGIC: [u8; 8] = *b"ringgat1";
/// Magic, segment, number, length, checksum.
const HEADER_BYTES: usize = 8 + 8 + 8 + 8 + 8;

/// Where a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Number of its segment, unique in the node.
    pub segment: u64,
    /// Counts the batches of the segment from 0.
    pub number: u64,
}

/// Bytes on disk of a batch with so many bytes of records.
pub fn padded(records_bytes: usize) -> usize {
    (HEADER_BYTES + records_bytes).next_multiple_of(BLOCK_BYTES)
}

impl Batch {
    /// Writes the batch into `out`, which has [`padded`] bytes.
    ///
    /// # Panics
    /// When `out` has another length.
    pub fn write<'a>(self, out: &mut [u8], records: impl Iterator<Item = &'a [u8]>) {
        let mut end = HEADER_BYTES;
        for piece in records {
            out[end..end + piece.len()].copy_from_slice(piece);
            end += piece.len();
        }
        assert_eq!(
            out.len(),
            padded(end - HEADER_BYTES),
            "the room for a batch is what it needs"
        );
        out[end..].fill(0);
        out[..8].copy_from_slice(&MAGIC);
        out[8..16].copy_from_slice(&self.segment.to_le_bytes());
        out[16..24].copy_from_slice(&self.number.to_le_bytes());
        out[24..32].copy_from_slice(&((end - HEADER_BYTES) as u64).to_le_bytes());
        let checksum = checksum(&out[..32], &out[HEADER_BYTES..end]);
        out[32..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    }
}

fn checksum(head: &[u8], records: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(head);
    hash.update(records);
    hash.digest()
}

/// What a segment holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Batches<'a> {
    /// The records of each good batch, from the first.
    pub records: Vec<&'a [u8]>,
    /// Where they end.
    pub end: usize,
}

/// A batch that had been good is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("batch {number} at byte {at} is damaged, though later ones are there")]
pub struct Damage {
    /// Which.
    pub number: u64,
    /// Where.
    pub at: usize,
}

/// Reads a segment. A bad end is left out: it was never acknowledged (whether all is there that was, its successor says).
///
/// # Errors
/// [`Damage`].
pub fn read(segment: u64, bytes: &[u8]) -> Result<Batches<'_>, Damage> {
    let mut batches = Batches {
        records: Vec::new(),
        end: 0,
    };
    loop {
        let number = batches.records.len() as u64;
        let at = batches.end;
        let Some(records) = good(Batch { segment, number }, &bytes[at..]) else {
            return match (at + BLOCK_BYTES..bytes.len())
                .step_by(BLOCK_BYTES)
                .any(|later| is_later(segment, number, &bytes[later..]))
            {
                true => Err(Damage { number, at }),
                false => Ok(batches),
            };
        };
        batches.end += padded(records.len());
        batches.records.push(records);
    }
}

/// The records of a batch that is good, and is the one wanted.
fn good(batch: Batch, bytes: &[u8]) -> Option<&[u8]> {
    let (found, records) = parse(bytes)?;
    (found == batch).then_some(records)
}

/// Whether a good batch stands here that comes behind `number`.
fn is_later(segment: u64, number: u64, bytes: &[u8]) -> bool {
    parse(bytes).is_some_and(|(found, _)| found.segment == segment && found.number > number)
}

fn parse(bytes: &[u8]) -> Option<(Batch, &[u8])> {
    let head = bytes.get(..HEADER_BYTES)?;
    if head[..8] != MAGIC {
        return None;
    }
    let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap_or_default());
    let length = usize::try_from(word(24)).ok()?;
    let end = HEADER_BYTES.checked_add(length)?;
    let records = bytes.get(HEADER_BYTES..end)?;
    let batch = Batch {
        segment: word(8),
        number: word(16),
    };
    // What pads it must be there too: else the file was cut within it.
    let whole = bytes.len() >= padded(length);
    (whole && checksum(&head[..32], records) == word(32)).then_some((batch, records))
}
