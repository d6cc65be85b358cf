//! What durable spaces owe to the disk.
//!
//! A change is made in memory at once and goes to the log with those beside it. Whatever tells of it (its Ack, a value that was read,
//! an event to those who watch) waits here until the log is on disk so far. So nobody ever knows of a change that a crash undoes, and
//! many changes share one sync. When the log fails, the changes that wait are undone, newest first, and those who made them are told.
//!
//! Messages that topics keep go the same way, but are not undone: subscribers have had them. Their publishers' Acks wait, and a failure
//! is told; a snapshot then writes what is kept anew.
//!
//! A snapshot is written into the same log, a piece at a time between the changes; the log's keeper then deletes what is older.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringgate_state::log::{put_change, put_kept, put_revision};
use ringgate_state::{Change, Changed, Kept, Place};

use crate::code::Code;
use crate::core_message::{Answer, Piece};
use crate::gateway::Gateway;
use crate::ids::Now;
use crate::ops::state::Output;
use crate::outgoing::Encoder;
use crate::refusal::Refusal;

/// Bytes of a snapshot that are written in one go: some 100 µs.
const SNAPSHOT_PIECE_BYTES: usize = 128 * 1024;
/// Bytes of a snapshot that may be on their way to the disk.
const SNAPSHOT_AHEAD_BYTES: u64 = 1024 * 1024;
/// How long nothing is tried by itself after the log has failed.
const REST: Duration = Duration::from_secs(1);

/// Records to be written, in order, each piece behind the one before.
#[derive(Debug)]
pub struct LogPiece {
    /// Counts failures of the log: pieces of an earlier one are not wanted any more.
    pub epoch: u64,
    /// Counts pieces.
    pub number: u64,
    /// What to write.
    pub records: Vec<u8>,
    /// A snapshot begins with this piece: it belongs into a new segment.
    pub begins_snapshot: bool,
    /// With this piece a snapshot is whole: once it is on disk, segments before the one it began in can go.
    pub ends_snapshot: bool,
}

/// What became of pieces.
#[derive(Debug, Clone)]
pub enum LogReport {
    /// All pieces up to this one are on disk.
    Synced {
        /// Of the piece.
        epoch: u64,
        /// Of the piece.
        number: u64,
    },
    /// The log failed: none of the epoch's pieces that were not told to be on disk counts.
    Failed {
        /// Of the pieces.
        epoch: u64,
        /// What the system said.
        reason: String,
    },
}

/// See the module.
pub(crate) struct Journal {
    on: bool,
    epoch: u64,
    /// Of the last change. Positions count changes.
    position: u64,
    /// All changes up to this one are on disk.
    synced: u64,
    /// Of the last message that a topic keeps.
    kept: u64,
    building: Vec<u8>,
    begins_snapshot: bool,
    ends_snapshot: bool,
    pieces: VecDeque<LogPiece>,
    numbers: u64,
    flying: VecDeque<Flying>,
    unsynced_bytes: u64,
    unsynced: ByPosition<Changed>,
    held: ByPosition<Output>,
    snapshot: Option<Snapshot>,
    /// The last snapshot is not all on disk.
    unsafe_snapshot: bool,
    /// A snapshot is wanted as soon as it can be.
    wants_snapshot: bool,
    /// Bytes since the last snapshot began.
    log_bytes: u64,
    rests_until: Option<Instant>,
}

/// What waits for the log to be on disk up to a position.
type ByPosition<T> = VecDeque<(u64, T)>;

/// A piece on its way to the disk.
struct Flying {
    number: u64,
    position: u64,
    bytes: u64,
    ends_snapshot: bool,
}

/// A snapshot that is being written.
struct Snapshot {
    spaces: Vec<Arc<str>>,
    /// The last key written of the last of `spaces`.
    key: Option<Arc<str>>,
    /// The last message written of those that topics keep.
    kept: Option<Place>,
    /// The last one there was when it began.
    kept_end: Option<Place>,
}

impl Journal {
    pub(crate) fn new(on: bool) -> Self {
        Self {
            on,
            epoch: 1,
            position: 0,
            synced: 0,
            kept: 0,
            building: Vec::new(),
            begins_snapshot: false,
            ends_snapshot: false,
            pieces: VecDeque::new(),
            numbers: 0,
            flying: VecDeque::new(),
            unsynced_bytes: 0,
            unsynced: VecDeque::new(),
            held: VecDeque::new(),
            snapshot: None,
            unsafe_snapshot: false,
            // What an earlier run left is written anew, so that its log can go.
            wants_snapshot: on,
            log_bytes: 0,
            rests_until: None,
        }
    }

    pub(crate) fn unsynced_bytes(&self) -> u64 {
        self.unsynced_bytes
    }

    /// Writes a change; returns its position.
    pub(crate) fn append(&mut self, changed: Changed) -> u64 {
        self.position += 1;
        self.record(|records| put_change(records, &changed.space, &changed.change));
        self.unsynced.push_back((self.position, changed));
        self.position
    }

    /// Writes a message that a topic keeps; returns its position.
    pub(crate) fn append_kept(&mut self, kept: &Kept) -> u64 {
        self.position += 1;
        self.kept = self.position;
        self.record(|records| put_kept(records, kept));
        self.position
    }

    fn record(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.building.len();
        write(&mut self.building);
        let bytes = (self.building.len() - before) as u64;
        self.unsynced_bytes += bytes;
        self.log_bytes += bytes;
    }

    /// Gives an output back if it need not wait.
    pub(crate) fn hold(&mut self, position: u64, output: Output) -> Option<Output> {
        if position <= self.synced {
            return Some(output);
        }
        self.held.push_back((position, output));
        None
    }

    /// Whether nothing is to be tried by itself.
    pub(crate) fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    pub(crate) fn rest_over(&self) -> Option<Instant> {
        self.rests_until
    }

    /// When the next piece of a snapshot can be written, where nothing else happens.
    pub(crate) fn snapshot_due(&self, now: Instant) -> Option<Instant> {
        let wanted = self.on && (self.wants_snapshot || self.snapshot.is_some());
        let can = wanted && self.unsynced_bytes < SNAPSHOT_AHEAD_BYTES;
        can.then(|| self.rests_until.map_or(now, |until| until.max(now)))
    }

    /// Ends the piece that is being built.
    fn cut(&mut self) {
        if self.building.is_empty() && !self.begins_snapshot && !self.ends_snapshot {
            return;
        }
        self.numbers += 1;
        let piece = LogPiece {
            epoch: self.epoch,
            number: self.numbers,
            records: std::mem::take(&mut self.building),
            begins_snapshot: std::mem::take(&mut self.begins_snapshot),
            ends_snapshot: std::mem::take(&mut self.ends_snapshot),
        };
        self.flying.push_back(Flying {
            number: piece.number,
            position: self.position,
            bytes: piece.records.len() as u64,
            ends_snapshot: piece.ends_snapshot,
        });
        self.pieces.push_back(piece);
    }

    fn synced(&mut self, number: u64) {
        while let Some(piece) = pop_if(&mut self.flying, |piece| piece.number <= number) {
            self.unsynced_bytes -= piece.bytes;
            self.synced = piece.position;
            self.unsafe_snapshot &= !piece.ends_snapshot;
        }
        let synced = self.synced;
        while pop_if(&mut self.unsynced, |(position, _)| *position <= synced).is_some() {}
    }

    fn next_held(&mut self) -> Option<Output> {
        let synced = self.synced;
        pop_if(&mut self.held, |(position, _)| *position <= synced).map(|(_, output)| output)
    }

    /// Forgets all that is not on disk.
    fn fail(&mut self, now: Instant) -> (ByPosition<Changed>, ByPosition<Output>) {
        self.epoch += 1;
        self.wants_snapshot |= self.kept > self.synced;
        self.synced = self.position;
        self.unsynced_bytes = 0;
        self.building.clear();
        self.begins_snapshot = false;
        self.ends_snapshot = false;
        self.pieces.clear();
        self.flying.clear();
        self.snapshot = None;
        self.wants_snapshot |= self.unsafe_snapshot;
        self.rests_until = Some(now + REST);
        (std::mem::take(&mut self.unsynced), std::mem::take(&mut self.held))
    }
}

impl Gateway {
    /// Brings a space back that the log had. To be called before anything else, on the core that [owns](Self::owns_space) it.
    pub fn restore_space(&mut self, name: Arc<str>, revision: u64, entries: Vec<Arc<Change>>) {
        self.state.spaces.restore(name, revision, entries);
    }

    /// Brings messages back that topics kept. To be called before anything else, on the core that [owns](Self::owns_space) their topic.
    pub fn restore_kept(&mut self, messages: Vec<Kept>) {
        self.archive.restore(messages, &self.limits);
    }

    /// Whether this core owns the space of this name. (Where the topic of a message is such a name, it keeps it after a restart.)
    pub fn owns_space(&self, name: &str) -> bool {
        self.home_of(name) == self.core
    }

    /// How far a space of this core has come.
    pub fn space_revision(&self, name: &str) -> Option<u64> {
        self.state.spaces.get(name).map(ringgate_state::Space::revision)
    }

    /// All that was brought back is: from now on there is something to do by itself.
    pub fn begin_state(&mut self, now: &Now) {
        self.set_state_due(now);
    }

    /// The next piece of the log to be written. To be asked until there is none, at the end of each turn.
    pub fn take_log(&mut self) -> Option<LogPiece> {
        self.state.journal.cut();
        self.state.journal.pieces.pop_front()
    }

    /// What became of the pieces.
    pub fn logged<E: Encoder>(&mut self, report: LogReport, now: &Now, enc: &mut E) {
        self.flush_run(enc);
        match report {
            LogReport::Synced { epoch, number } if epoch == self.state.journal.epoch => {
                self.state.journal.synced(number);
                self.state.journal.rests_until = None;
                while let Some(output) = self.state.journal.next_held() {
                    self.let_out(output, enc);
                }
            }
            LogReport::Failed { epoch, reason } if epoch == self.state.journal.epoch => {
                self.log_failed(&reason, now, enc);
            }
            LogReport::Synced { .. } | LogReport::Failed { .. } => {}
        }
        self.set_state_due(now);
        self.finish(now, enc);
    }

    fn log_failed<E: Encoder>(&mut self, reason: &str, now: &Now, enc: &mut E) {
        let (unsynced, held) = self.state.journal.fail(now.mono);
        for (_, changed) in unsynced.into_iter().rev() {
            self.state.spaces.undo(changed);
        }
        let refusal = || {
            Refusal::retryable(
                Code::Unavailable,
                format!(
                    "the log of durable spaces cannot be written: {reason}. Try again when the disk is well"
                ),
            )
        };
        for (_, output) in held {
            match output {
                Output::Published { to, id, .. } => {
                    let refusal = Refusal::retryable(
                        Code::Unavailable,
                        format!(
                            "the message was passed on, but the log cannot be written: {reason}. Later subscribers get it unless the node ends \
                             before the disk is well; publish it again if it must not be lost"
                        ),
                    );
                    self.refuse(to, id, &refusal, enc);
                }
                // It never happened.
                Output::Change { .. } => {}
                Output::Answer { to, id, .. } => {
                    let answer = Answer::Refused(refusal());
                    self.let_out(Output::Answer { to, id, answer }, enc);
                }
                Output::Fed(mut fed) => {
                    fed.piece = Piece::Refused(refusal());
                    self.let_out(Output::Fed(fed), enc);
                }
            }
        }
    }

    /// Whether the log takes more, where a space's changes go there.
    pub(crate) fn check_journal(&self, name: &str) -> Result<(), Refusal> {
        match self.state.spaces.is_durable(name) {
            true => self.check_unsynced(),
            false => Ok(()),
        }
    }

    /// Whether the log takes more.
    pub(crate) fn check_unsynced(&self) -> Result<(), Refusal> {
        let (waiting, max) = (
            self.state.journal.unsynced_bytes,
            self.limits.state_unsynced_bytes_max,
        );
        if waiting < max {
            return Ok(());
        }
        Err(Refusal::retryable(
            Code::ResourceExhausted,
            format!(
                "{waiting} bytes of changes wait for the disk, as many as limits.state_unsynced_bytes_max allows; try again later"
            ),
        ))
    }

    /// Writes the next piece of a snapshot, if one is wanted and the disk keeps up.
    pub(crate) fn write_snapshot(&mut self) {
        let journal = &mut self.state.journal;
        if !journal.on || journal.unsynced_bytes >= SNAPSHOT_AHEAD_BYTES {
            return;
        }
        if journal.snapshot.is_none() {
            let grown = journal.log_bytes > self.limits.state_log_bytes_max
                && journal.log_bytes > 2 * (self.state.spaces.durable_bytes() + self.archive.durable_bytes());
            if !journal.wants_snapshot && !grown {
                return;
            }
            journal.cut();
            journal.wants_snapshot = false;
            journal.begins_snapshot = true;
            journal.unsafe_snapshot = true;
            journal.log_bytes = 0;
            journal.snapshot = Some(Snapshot {
                spaces: self.state.spaces.durable(),
                key: None,
                kept: None,
                kept_end: self.archive.newest(),
            });
        }
        let Some(mut snapshot) = journal.snapshot.take() else {
            return;
        };
        let end = journal.building.len() + SNAPSHOT_PIECE_BYTES;
        while let Some(name) = snapshot.spaces.last().filter(|_| journal.building.len() < end) {
            let Some(space) = self.state.spaces.get(name) else {
                snapshot.spaces.pop();
                continue;
            };
            if snapshot.key.is_none() {
                journal.record(|records| put_revision(records, name, space.revision()));
            }
            let mut written = None;
            for entry in space.entries_behind(snapshot.key.as_deref()) {
                journal.record(|records| put_change(records, name, entry));
                written = Some(Arc::clone(&entry.key));
                if journal.building.len() >= end {
                    break;
                }
            }
            match written {
                Some(key) => snapshot.key = Some(key),
                None => {
                    snapshot.key = None;
                    snapshot.spaces.pop();
                }
            }
        }
        if let Some(kept_end) = snapshot.kept_end.filter(|_| snapshot.spaces.is_empty()) {
            let mut written = false;
            for kept in self.archive.durable_between(snapshot.kept, kept_end) {
                if written && journal.building.len() >= end {
                    break;
                }
                journal.record(|records| put_kept(records, kept));
                snapshot.kept = Some(kept.place);
                written = true;
            }
            if !written {
                snapshot.kept_end = None;
            }
        }
        match snapshot.spaces.is_empty() && snapshot.kept_end.is_none() {
            true => {
                journal.ends_snapshot = true;
                journal.cut();
            }
            false => journal.snapshot = Some(snapshot),
        }
    }
}

/// The first of a queue, if it is ripe.
fn pop_if<T>(queue: &mut VecDeque<T>, ripe: impl FnOnce(&T) -> bool) -> Option<T> {
    match queue.front().is_some_and(ripe) {
        true => queue.pop_front(),
        false => None,
    }
}
