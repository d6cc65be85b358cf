//! What is in the folder at start. Plain reads: nothing is served yet.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ringgate_state::Kept;
use ringgate_state::log::{BLOCK_BYTES, Opened, Record, Replay, read as read_segment, records};

use super::{LogError, Spaces};

/// What was found.
pub(super) struct Found {
    pub(super) spaces: Spaces,
    pub(super) kept: Vec<Kept>,
    /// Oldest first.
    pub(super) files: Vec<PathBuf>,
    pub(super) next_segment: u64,
}

/// Name of a segment's file: as many digits as a number can have, so that they sort.
pub(super) fn file_name(segment: u64) -> String {
    format!("{segment:020}.log")
}

/// Makes the folder if it is not there, and keeps other processes out of it for as long as the file is held.
pub(super) fn lock(directory: &Path) -> Result<File, LogError> {
    let failed = |what| {
        move |source| LogError::File {
            what,
            path: directory.to_owned(),
            source,
        }
    };
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(directory).map_err(failed("make"))?;
    let lock = File::create(directory.join("lock")).map_err(failed("lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(LogError::Locked {
            path: directory.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(failed("lock")(error)),
    }
}

/// Reads all segments.
pub(super) fn read(directory: &Path) -> Result<Found, LogError> {
    let segments = segments(directory)?;
    // How many batches of a segment count, where a later one says it.
    let mut counts: HashMap<u64, u64> = HashMap::new();
    for (segment, path) in &segments {
        if let Some(opened) = opened(*segment, path)? {
            counts.insert(opened.previous, opened.batches);
        }
    }
    let mut replay = Replay::default();
    for (segment, path) in &segments {
        let bytes = fs::read(path).map_err(|source| unreadable(path, source))?;
        let batches = read_segment(*segment, &bytes).map_err(|damage| LogError::Damaged {
            path: path.clone(),
            damage,
        })?;
        let found = batches.records.len() as u64;
        let count = counts.get(segment).copied().unwrap_or(found);
        if found < count {
            return Err(LogError::Short {
                path: path.clone(),
                found,
                wanted: count,
            });
        }
        for batch in batches.records.iter().take(count as usize) {
            replay.take(batch).map_err(|source| LogError::Malformed {
                path: path.clone(),
                source,
            })?;
        }
    }
    Ok(Found {
        kept: replay.take_kept(),
        spaces: replay.finish(),
        next_segment: segments.last().map_or(1, |(segment, _)| segment + 1),
        files: segments.into_iter().map(|(_, path)| path).collect(),
    })
}

fn segments(directory: &Path) -> Result<Vec<(u64, PathBuf)>, LogError> {
    let mut segments = Vec::new();
    let entries = fs::read_dir(directory).map_err(|source| unreadable(directory, source))?;
    for entry in entries {
        let path = entry.map_err(|source| unreadable(directory, source))?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".log")?.parse().ok());
        if let Some(number) = number {
            segments.push((number, path));
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

/// The first record of a segment, if its first batch is good.
fn opened(segment: u64, path: &Path) -> Result<Option<Opened>, LogError> {
    let mut file = File::open(path).map_err(|source| unreadable(path, source))?;
    let mut head = Vec::new();
    let mut length = BLOCK_BYTES as u64;
    // The first batch may be longer than a block: read on until it is whole, or the file ends.
    loop {
        let before = head.len();
        let more = (&mut file).take(length);
        { more }
            .read_to_end(&mut head)
            .map_err(|source| unreadable(path, source))?;
        if let Ok(batches) = read_segment(segment, &head)
            && let Some(Ok(Record::Opened(opened))) =
                batches.records.first().and_then(|batch| records(batch).next())
        {
            return Ok(Some(opened));
        }
        if head.len() == before {
            return Ok(None);
        }
        length = head.len() as u64;
    }
}

fn unreadable(path: &Path, source: io::Error) -> LogError {
    LogError::File {
        what: "read",
        path: path.to_owned(),
        source,
    }
}
