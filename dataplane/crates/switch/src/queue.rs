//! What waits for one connection, bounded in bytes.
//!
//! Acknowledgements go before messages: they come from the node itself, so no order is broken, and they are never dropped.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::config::SlowReader;
use crate::dialect::{Dialect, Form, Rendered};

/// Neighbours are joined up to this size when they are copied out: large enough to make the cost of a segment small.
const JOINED_BYTES_MAX: usize = 16 << 10;
/// An empty queue keeps room for so many segments.
const IDLE_SEGMENTS: usize = 16;

/// What all queues of a core hold together.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) queued_bytes: u64,
    pub(crate) memory_bytes_max: u64,
}

impl Ledger {
    /// What a queue may hold (Choudhury and Hahne, dynamic queue length thresholds, 1998, with α = 1).
    fn allowance(&self, bound: u64) -> u64 {
        bound.min(self.memory_bytes_max.saturating_sub(self.queued_bytes))
    }
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pushed {
    pub(crate) queued: u32,
    pub(crate) dropped: u32,
    /// The connection is to be ended.
    pub(crate) overflow: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// The end of a message whose beginning was pulled.
    torn: Bytes,
    torn_age: TornAge,
    acks: BytesMut,
    runs: VecDeque<Segment>,
    /// Bytes in `runs` and `torn`.
    bytes: u64,
    /// Number of the first segment, counted since the queue was made.
    base: u64,
    /// Segments below this number were there at the last [`settle`](Queue::settle).
    seen: u64,
    /// Segments below this number have been copied out.
    settled: u64,
}

/// How long the end of a message has waited.
#[derive(Debug, Default)]
enum TornAge {
    #[default]
    New,
    /// Since the last [`settle`](Queue::settle).
    Seen,
    /// It has been copied out.
    Settled,
}

#[derive(Debug)]
struct Segment {
    bytes: Bytes,
    messages: u32,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0 && self.acks.is_empty()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where acknowledgements are appended.
    pub(crate) fn acks(&mut self) -> &mut BytesMut {
        &mut self.acks
    }

    fn fits(&self, len: usize, messages: u32, bound: u64, ledger: &Ledger) -> bool {
        let len = len as u64;
        let bound = match (self.bytes, messages) {
            (0, 1) => bound.max(len),
            _ => bound,
        };
        self.bytes + len <= ledger.allowance(bound)
    }

    /// Queues a run.
    #[inline]
    pub(crate) fn push<D: Dialect>(
        &mut self,
        run: &Bytes,
        messages: u32,
        form: Form,
        slow: SlowReader,
        bound: u64,
        ledger: &mut Ledger,
    ) -> Pushed {
        if self.fits(run.len(), messages, bound, ledger) {
            self.append(run.clone(), messages, ledger);
            return Pushed {
                queued: messages,
                dropped: 0,
                overflow: false,
            };
        }
        match slow {
            SlowReader::DropOldest => self.push_dropping_oldest::<D>(run, messages, form, bound, ledger),
            SlowReader::DropNewest => self.push_dropping_newest::<D>(run, messages, form, bound, ledger),
            SlowReader::Disconnect => Pushed {
                queued: 0,
                dropped: messages,
                overflow: true,
            },
        }
    }

    fn append(&mut self, bytes: Bytes, messages: u32, ledger: &mut Ledger) {
        self.bytes += bytes.len() as u64;
        ledger.queued_bytes += bytes.len() as u64;
        self.runs.push_back(Segment { bytes, messages });
    }

    fn push_dropping_oldest<D: Dialect>(
        &mut self,
        run: &Bytes,
        messages: u32,
        form: Form,
        bound: u64,
        ledger: &mut Ledger,
    ) -> Pushed {
        let (mut rest, mut left, mut dropped) = (run.clone(), messages, 0);
        while left > 0 && !self.fits(rest.len(), left, bound, ledger) {
            if !self.drop_oldest::<D>(form, ledger) {
                rest.advance(first_len::<D>(form, &rest, left));
                left -= 1;
            }
            dropped += 1;
        }
        if left > 0 {
            self.append(rest, left, ledger);
        }
        Pushed {
            queued: left,
            dropped,
            overflow: false,
        }
    }

    fn push_dropping_newest<D: Dialect>(
        &mut self,
        run: &Bytes,
        messages: u32,
        form: Form,
        bound: u64,
        ledger: &mut Ledger,
    ) -> Pushed {
        let (mut kept, mut queued) = (0, 0);
        while queued < messages {
            let len = first_len::<D>(form, &run[kept..], messages - queued);
            if !self.fits(kept + len, queued + 1, bound, ledger) {
                break;
            }
            kept += len;
            queued += 1;
        }
        if queued > 0 {
            self.append(run.slice(..kept), queued, ledger);
        }
        Pushed {
            queued,
            dropped: messages - queued,
            overflow: false,
        }
    }

    /// Drops the oldest message that was not pulled in part; false where there is none.
    fn drop_oldest<D: Dialect>(&mut self, form: Form, ledger: &mut Ledger) -> bool {
        let Some(segment) = self.runs.front_mut() else {
            return false;
        };
        let len = first_len::<D>(form, &segment.bytes, segment.messages);
        self.use_up(len, 1, ledger);
        true
    }

    /// Takes the first messages of the first run off.
    fn use_up(&mut self, bytes: usize, messages: u32, ledger: &mut Ledger) {
        let Some(segment) = self.runs.front_mut() else {
            return;
        };
        segment.messages -= messages;
        if segment.messages == 0 {
            self.runs.pop_front();
            self.base += 1;
        } else {
            segment.bytes.advance(bytes);
        }
        self.release(bytes, ledger);
    }

    fn release(&mut self, bytes: usize, ledger: &mut Ledger) {
        self.bytes -= bytes as u64;
        ledger.queued_bytes -= bytes as u64;
    }

    /// The next bytes for the connection, at most `bytes_max` (which is not 0).
    #[inline]
    pub(crate) fn pull<D: Dialect>(
        &mut self,
        dialect: &mut D,
        link: &mut D::Link,
        bytes_max: usize,
        ledger: &mut Ledger,
    ) -> Option<Bytes> {
        if !self.torn.is_empty() {
            let len = self.torn.len().min(bytes_max);
            self.release(len, ledger);
            return Some(self.torn.split_to(len));
        }
        if !self.acks.is_empty() {
            let len = self.acks.len().min(bytes_max);
            return Some(self.acks.split_to(len).freeze());
        }
        let segment = self.runs.front()?;
        let form = D::form(link);
        let Rendered {
            bytes,
            rest,
            used,
            messages,
        } = match form {
            Form::Shared => whole_messages::<D>(&segment.bytes, segment.messages, bytes_max),
            Form::Own => dialect.render(link, &segment.bytes, segment.messages, bytes_max),
        };
        self.use_up(used, messages, ledger);
        let mut pulled = bytes;
        self.torn = rest;
        if pulled.len() > bytes_max {
            // One message that is longer: it has no `rest`, or its beginning alone is too long, and both must be joined again.
            let end = pulled.split_off(bytes_max);
            self.torn = match self.torn.is_empty() {
                true => end,
                false => [&end[..], &self.torn[..]].concat().into(),
            };
        }
        self.torn_age = TornAge::New;
        self.bytes += self.torn.len() as u64;
        ledger.queued_bytes += self.torn.len() as u64;
        Some(pulled)
    }

    /// Drops everything that waits, but the end of a message that was pulled in part, without which the stream cannot go on.
    pub(crate) fn clear(&mut self, ledger: &mut Ledger) {
        self.base += self.runs.len() as u64;
        let waiting = self.runs.drain(..).map(|segment| segment.bytes.len()).sum();
        self.release(waiting, ledger);
    }

    /// Drops everything.
    pub(crate) fn discard(&mut self, ledger: &mut Ledger) {
        self.clear(ledger);
        self.release(self.torn.len(), ledger);
        self.torn = Bytes::new();
    }

    /// Copies out everything that was there at the last call: shared memory must not be held by a reader that stalls. Returns how many
    /// segments.
    pub(crate) fn settle(&mut self) -> u64 {
        let end = self.base + self.runs.len() as u64;
        let from = self.settled.max(self.base);
        let to = self.seen.clamp(from, end);
        if from < to {
            let stalled = (from - self.base) as usize..(to - self.base) as usize;
            let fresh = VecDeque::with_capacity(self.runs.len());
            let mut copied = Copied::default();
            for (at, segment) in std::mem::replace(&mut self.runs, fresh).into_iter().enumerate() {
                if stalled.contains(&at) {
                    copied.add(segment, &mut self.runs);
                } else {
                    copied.finish(&mut self.runs);
                    self.runs.push_back(segment);
                }
            }
            copied.finish(&mut self.runs);
            // Later segments keep their numbers.
            self.base = end - self.runs.len() as u64;
        }
        self.settled = to;
        self.seen = end;
        self.settle_torn();
        if self.runs.is_empty() && self.runs.capacity() > IDLE_SEGMENTS {
            self.runs.shrink_to(IDLE_SEGMENTS);
        }
        to - from
    }

    fn settle_torn(&mut self) {
        self.torn_age = match self.torn_age {
            TornAge::New => TornAge::Seen,
            TornAge::Seen => {
                self.torn = Bytes::copy_from_slice(&self.torn);
                TornAge::Settled
            }
            TornAge::Settled => TornAge::Settled,
        };
    }
}

/// Joins segments in memory of their own.
#[derive(Default)]
struct Copied {
    bytes: BytesMut,
    messages: u32,
}

impl Copied {
    fn add(&mut self, segment: Segment, out: &mut VecDeque<Segment>) {
        if self.bytes.len() + segment.bytes.len() > JOINED_BYTES_MAX {
            self.finish(out);
        }
        self.bytes.extend_from_slice(&segment.bytes);
        self.messages += segment.messages;
    }

    fn finish(&mut self, out: &mut VecDeque<Segment>) {
        if self.messages > 0 {
            let bytes = std::mem::take(&mut self.bytes);
            out.push_back(Segment {
                // An exact copy: what was grown has room to spare.
                bytes: Bytes::copy_from_slice(&bytes),
                messages: std::mem::take(&mut self.messages),
            });
        }
    }
}

/// Length of the first of `messages` records.
fn first_len<D: Dialect>(form: Form, run: &[u8], messages: u32) -> usize {
    match messages {
        1 => run.len(),
        _ => D::first_len(form, run),
    }
}

/// As many whole messages of a run in the form [`Form::Shared`] as fit into `bytes_max`, at least one.
fn whole_messages<D: Dialect>(run: &Bytes, messages: u32, bytes_max: usize) -> Rendered {
    if run.len() <= bytes_max || messages == 1 {
        return Rendered {
            bytes: run.clone(),
            rest: Bytes::new(),
            used: run.len(),
            messages,
        };
    }
    let (mut used, mut taken) = (0, 0);
    while taken < messages {
        let len = first_len::<D>(Form::Shared, &run[used..], messages - taken);
        if taken > 0 && used + len > bytes_max {
            break;
        }
        used += len;
        taken += 1;
    }
    Rendered {
        bytes: run.slice(..used),
        rest: Bytes::new(),
        used,
        messages: taken,
    }
}
