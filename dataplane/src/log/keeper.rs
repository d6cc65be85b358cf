//! The executor that writes.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;
use glommio::GlommioError;
use glommio::io::{Directory, DmaFile, OpenOptions, remove};
use glommio::timer::sleep;
use ringgate_gateway::{LogPiece, LogReport};
use ringgate_state::log::{Batch, Opened, padded, put_opened};
use tokio::sync::mpsc::UnboundedReceiver;

use super::Log;
use super::recovery::file_name;
use crate::observe::{Command, CommandSender, Order};

/// Records of one batch, beyond which what waits is for the next: some milliseconds of a disk's time.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long nothing must come until the last batch is marked as acknowledged by an empty one behind it, so that damage to it is told
/// from a torn end.
const MARK_AFTER: Duration = Duration::from_millis(20);

/// What the tasks share.
struct Shared {
    directory: PathBuf,
    segment_bytes: u64,
    next_segment: Cell<u64>,
    /// Cores that have not written all that an earlier run left.
    missing: Cell<usize>,
    inherited: Cell<Vec<PathBuf>>,
}

/// One core's log.
struct CoreLog {
    core: u64,
    shared: Rc<Shared>,
    segment: Option<Segment>,
    /// The last segment that counts, and how many of its batches do.
    previous: (u64, u64),
    /// Segments of this run, oldest first.
    segments: Vec<u64>,
    /// The segment in which the last snapshot began.
    snapshot: u64,
    /// It was the first one of this run.
    first_snapshot: bool,
}

struct Segment {
    number: u64,
    file: DmaFile,
    batches: u64,
    end: u64,
}

/// Writes what cores send until they have ended.
pub(super) async fn keep(log: Log, cores: Vec<CommandSender>) {
    let shared = Rc::new(Shared {
        directory: log.directory,
        segment_bytes: log.segment_bytes,
        next_segment: Cell::new(log.next_segment),
        missing: Cell::new(cores.len()),
        inherited: Cell::new(log.inherited),
    });
    let tasks: Vec<_> = log
        .receivers
        .into_iter()
        .zip(cores)
        .enumerate()
        .map(|(core, (pieces, sender))| {
            let core_log = CoreLog {
                core: core as u64,
                shared: shared.clone(),
                segment: None,
                previous: (0, 0),
                segments: Vec::new(),
                snapshot: 0,
                first_snapshot: true,
            };
            glommio::spawn_local(core_log.keep(pieces, sender))
        })
        .collect();
    for task in tasks {
        task.await;
    }
    drop(log.lock);
}

impl CoreLog {
    async fn keep(mut self, mut pieces: UnboundedReceiver<LogPiece>, core: CommandSender) {
        let mut failed = 0;
        let mut next = None;
        let mut marked = true;
        loop {
            let first = match next.take() {
                Some(piece) => piece,
                None => match self.next_piece(&mut pieces, &mut marked).await {
                    Some(piece) => piece,
                    None => break,
                },
            };
            if first.epoch <= failed {
                continue;
            }
            let mut bytes = first.records.len();
            let mut batch = vec![first];
            while bytes < BATCH_BYTES_MAX
                && let Ok(piece) = pieces.try_recv()
            {
                // A snapshot begins a segment.
                if piece.begins_snapshot {
                    next = Some(piece);
                    break;
                }
                bytes += piece.records.len();
                batch.push(piece);
            }
            let Some((epoch, number)) = batch.last().map(|piece| (piece.epoch, piece.number)) else {
                continue;
            };
            marked = false;
            let report = match self.write(&batch).await {
                Ok(()) => LogReport::Synced { epoch, number },
                Err(error) => {
                    failed = epoch;
                    self.segment = None;
                    tracing::error!(core = self.core, %error, "the log of durable spaces cannot be written");
                    LogReport::Failed {
                        epoch,
                        reason: error.to_string(),
                    }
                }
            };
            let synced = matches!(report, LogReport::Synced { .. });
            core.send(Command::Order(Order::Logged(report)));
            if synced && batch.iter().any(|piece| piece.ends_snapshot) {
                self.delete_older().await;
            }
        }
    }

    /// The next piece; marks the last batch while none comes.
    async fn next_piece(
        &mut self,
        pieces: &mut UnboundedReceiver<LogPiece>,
        marked: &mut bool,
    ) -> Option<LogPiece> {
        if *marked {
            return pieces.recv().await;
        }
        let quiet = async {
            sleep(MARK_AFTER).await;
            None
        };
        match or(async { Some(pieces.recv().await) }, quiet).await {
            Some(piece) => piece,
            None => {
                *marked = true;
                if let Some(segment) = &mut self.segment
                    && segment.end + padded(0) as u64 <= self.shared.segment_bytes
                    && let Err(error) = segment.append(&[]).await
                {
                    // It was not needed; the next batch will tell.
                    tracing::warn!(core = self.core, %error, "the log of durable spaces was not marked");
                }
                pieces.recv().await
            }
        }
    }

    /// Writes pieces as one batch, and syncs it.
    async fn write(&mut self, pieces: &[LogPiece]) -> io::Result<()> {
        let records: Vec<&[u8]> = pieces.iter().map(|piece| &piece.records[..]).collect();
        let bytes = padded(records.iter().map(|piece| piece.len()).sum()) as u64;
        let begins = pieces.first().is_some_and(|piece| piece.begins_snapshot);
        let has_room = self
            .segment
            .as_ref()
            .is_some_and(|segment| segment.end + bytes <= self.shared.segment_bytes);
        if has_room && !begins {
            let Some(segment) = &mut self.segment else {
                return Ok(());
            };
            segment.append(&records).await?;
            segment.file.fdatasync().await.map_err(plain)?;
            self.previous.1 = segment.batches;
            return Ok(());
        }
        let mut opened = Vec::new();
        let (previous, batches) = self.previous;
        put_opened(
            &mut opened,
            Opened {
                core: self.core,
                previous,
                batches,
            },
        );
        let number = self.shared.next_segment.get();
        self.shared.next_segment.set(number + 1);
        let path = self.shared.directory.join(file_name(number));
        let records: Vec<&[u8]> = std::iter::once(&opened[..]).chain(records).collect();
        match self.begin(number, &path, &records).await {
            Ok(segment) => {
                if let Some(old) = self.segment.replace(segment) {
                    let _ = old.file.close().await;
                }
                self.previous = (number, 1);
                self.segments.push(number);
                if begins {
                    self.snapshot = number;
                }
                Ok(())
            }
            Err(error) => {
                // It may be there or not; it says nothing that counts.
                let _ = remove(&path).await;
                Err(error)
            }
        }
    }

    async fn begin(&self, number: u64, path: &Path, records: &[&[u8]]) -> io::Result<Segment> {
        let first = padded(records.iter().map(|piece| piece.len()).sum()) as u64;
        let wanted = self.shared.segment_bytes.max(first);
        check_room(&self.shared.directory, wanted)?;
        let mut options = OpenOptions::new();
        let file = options
            .create_new(true)
            .write(true)
            .dma_open(path)
            .await
            .map_err(plain)?;
        match file.pre_allocate(wanted, true).await.map_err(plain) {
            Ok(()) => {}
            // Some file systems cannot; there the file grows as it is written.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(error) => return Err(error),
        }
        let mut segment = Segment {
            number,
            file,
            batches: 0,
            end: 0,
        };
        segment.append(records).await?;
        segment.file.fdatasync().await.map_err(plain)?;
        let directory = Directory::open(&self.shared.directory).await.map_err(plain)?;
        directory.sync().await.map_err(plain)?;
        directory.close().await.map_err(plain)?;
        Ok(segment)
    }

    /// A snapshot is on disk: what is older is not needed.
    async fn delete_older(&mut self) {
        let kept = self.segments.iter().position(|&segment| segment >= self.snapshot);
        let older = self.segments.drain(..kept.unwrap_or(0));
        let mut paths: Vec<PathBuf> = older
            .map(|it| self.shared.directory.join(file_name(it)))
            .collect();
        if std::mem::take(&mut self.first_snapshot) {
            self.shared.missing.set(self.shared.missing.get() - 1);
            if self.shared.missing.get() == 0 {
                paths.splice(0..0, self.shared.inherited.take());
            }
        }
        for path in paths {
            if let Err(error) = remove(&path).await {
                tracing::warn!(path = %path.display(), %error, "an old log cannot be deleted");
            }
        }
    }
}

impl Segment {
    /// Writes a batch behind the others. What it leaves when it fails does not count.
    async fn append(&mut self, records: &[&[u8]]) -> io::Result<()> {
        let bytes = padded(records.iter().map(|piece| piece.len()).sum());
        let mut buffer = self.file.alloc_dma_buffer(bytes);
        let batch = Batch {
            segment: self.number,
            number: self.batches,
        };
        batch.write(&mut buffer.as_bytes_mut()[..bytes], records.iter().copied());
        let written = self.file.write_at(buffer, self.end).await.map_err(plain)?;
        if written < bytes {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "the disk took a part of it only",
            ));
        }
        self.batches += 1;
        self.end += bytes as u64;
        Ok(())
    }
}

/// Whether the disk has room for a file. To try and fail would take, for a while, all that is left from everybody else.
fn check_room(directory: &Path, bytes: u64) -> io::Result<()> {
    let disk = rustix::fs::statvfs(directory)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    match free > bytes {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!("a file of {bytes} bytes (state.segment_bytes) is wanted, and the disk has {free} left"),
        )),
    }
}

/// Glommio's error as the system's.
fn plain(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => source,
        other => io::Error::other(other.to_string()),
    }
}
