//! The streams of a connection: a slab of states, an index by id, and a memory of those that are closed.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};

use crate::event::StreamId;

/// Dense index of a stream: valid from its `Headers` event (or [`open`](crate::Connection::open)) until
/// [`forget`](crate::Connection::forget), then used again for another stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey(u32);

impl StreamKey {
    /// The key of an index, for callers that found it in a table alongside.
    pub const fn from_index(index: u32) -> Self {
        Self(index)
    }

    /// The index, for a `Vec` of the caller's beside this one. Never above the most streams that were known at once.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One direction of a stream (RFC 9113 section 5.1, seen from one side).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    /// The header section of the message is still to come.
    Headers,
    /// Body or trailers may follow.
    Body,
    /// Ended or reset.
    Closed,
}

/// Body length of a message without content-length.
pub(crate) const LENGTH_UNKNOWN: u64 = u64::MAX;

/// What is known about a stream.
#[derive(Debug)]
pub(crate) struct Stream {
    /// Its id; the connection's own (0) in a free slot.
    pub(crate) id: StreamId,
    pub(crate) recv: Half,
    pub(crate) send: Half,
    /// Bytes the peer may still send. Below zero where our initial window was lowered.
    pub(crate) recv_window: i32,
    /// Bytes consumed whose credit was not given back yet.
    pub(crate) unreturned: u32,
    /// Bytes this end may still send. Below zero where the peer lowered its initial window.
    pub(crate) send_window: i32,
    /// Body bytes that content-length says will still come, or `LENGTH_UNKNOWN`.
    pub(crate) content_left: u64,
    /// This end has sent body bytes or its end: opening the stream was of use.
    pub(crate) useful: bool,
    /// Client: the request was HEAD, so that the response has no body whatever its content-length.
    pub(crate) head_request: bool,
}

impl Stream {
    pub(crate) fn new(id: StreamId, recv: Half, send: Half, recv_window: i32, send_window: i32) -> Self {
        Self {
            id,
            recv,
            send,
            recv_window,
            unreturned: 0,
            send_window,
            content_left: LENGTH_UNKNOWN,
            useful: false,
            head_request: false,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.recv == Half::Closed && self.send == Half::Closed
    }

    fn free() -> Self {
        Self::new(StreamId::CONNECTION, Half::Closed, Half::Closed, 0, 0)
    }
}

/// How a stream that is in no state any more came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The peer knows that it is over: it ended or reset it itself.
    Over,
    /// This end reset it: what the peer sent before it knew must be ignored.
    Cut,
    /// Too long ago, or never opened because a higher id was.
    Unknown,
}

/// Streams over whose peer is reminded of the rules: a few, since only a broken peer writes to them.
const OVER_MAX: usize = 32;

/// All streams.
///
/// Invariants: `index` holds exactly the streams that are not closed, by ascending id (ids only grow); a slot is used from
/// its creation until `remove`, closed or not; `cached` names a stream in `index` or none.
#[derive(Debug)]
pub(crate) struct Streams {
    slots: Vec<Stream>,
    free: Vec<StreamKey>,
    index: VecDeque<(StreamId, StreamKey)>,
    /// The stream looked up last: frames come in runs.
    cached: (StreamId, StreamKey),
    over: VecDeque<StreamId>,
    cut: VecDeque<StreamId>,
    cut_max: usize,
}

/// Stands for no stream; no slot has this id but a free one.
pub(crate) const NO_STREAM: (StreamId, StreamKey) = (StreamId::CONNECTION, StreamKey(0));

impl Streams {
    pub(crate) fn new(cut_max: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: VecDeque::new(),
            cached: NO_STREAM,
            over: VecDeque::new(),
            cut: VecDeque::new(),
            cut_max,
        }
    }

    /// Streams that are not closed.
    pub(crate) fn active(&self) -> usize {
        self.index.len()
    }

    /// Adds a stream, whose id must be above all before it.
    pub(crate) fn insert(&mut self, stream: Stream) -> StreamKey {
        debug_assert!(
            self.index.back().is_none_or(|&(last, _)| last < stream.id),
            "stream ids grow"
        );
        let id = stream.id;
        let key = match self.free.pop() {
            Some(key) => {
                self.slots[key.index()] = stream;
                key
            }
            None => {
                self.slots.push(stream);
                StreamKey(self.slots.len() as u32 - 1)
            }
        };
        self.index.push_back((id, key));
        self.cached = (id, key);
        key
    }

    /// The stream `id`, unless it is closed or unknown.
    #[inline]
    pub(crate) fn find(&mut self, id: StreamId) -> Option<StreamKey> {
        if self.cached.0 == id && id != StreamId::CONNECTION {
            return Some(self.cached.1);
        }
        let place = self.place(id)?;
        self.cached = self.index[place];
        Some(self.cached.1)
    }

    /// Closes a stream in both directions. Its slot stays until [`Streams::remove`].
    pub(crate) fn close(&mut self, key: StreamKey, ending: Ending) {
        let stream = &mut self[key];
        stream.recv = Half::Closed;
        stream.send = Half::Closed;
        let id = stream.id;
        if let Some(place) = self.place(id) {
            self.index.remove(place);
        }
        if self.cached.0 == id {
            self.cached = NO_STREAM;
        }
        self.remember(id, ending);
    }

    /// Notes the ending of a stream, also of one that never had a state because it was refused.
    pub(crate) fn remember(&mut self, id: StreamId, ending: Ending) {
        let (ring, max) = match ending {
            Ending::Over => (&mut self.over, OVER_MAX),
            Ending::Cut => (&mut self.cut, self.cut_max),
            Ending::Unknown => return,
        };
        if ring.len() == max {
            ring.pop_front();
        }
        ring.push_back(id);
    }

    /// How the closed stream `id` ended.
    pub(crate) fn ending(&self, id: StreamId) -> Ending {
        if self.cut.iter().rev().any(|&cut| cut == id) {
            Ending::Cut
        } else if self.over.contains(&id) {
            Ending::Over
        } else {
            Ending::Unknown
        }
    }

    /// Frees the slot of a closed stream.
    pub(crate) fn remove(&mut self, key: StreamKey) {
        debug_assert!(
            self[key].is_closed() && self.holds(key),
            "only a closed stream's slot is freed, and once"
        );
        self[key] = Stream::free();
        self.free.push(key);
    }

    /// Whether `key` is in use.
    pub(crate) fn holds(&self, key: StreamKey) -> bool {
        self.slots
            .get(key.index())
            .is_some_and(|stream| stream.id != StreamId::CONNECTION)
    }

    /// Whether `key` still stands for the stream `id`.
    #[inline]
    pub(crate) fn is(&self, key: StreamKey, id: StreamId) -> bool {
        self.slots[key.index()].id == id
    }

    /// All streams that are not closed.
    pub(crate) fn for_each_active(&mut self, mut visit: impl FnMut(&mut Stream)) {
        for &(_, key) in &self.index {
            visit(&mut self.slots[key.index()]);
        }
    }

    /// The newest stream that is not closed and has an id above `id`.
    pub(crate) fn newest_above(&self, id: StreamId) -> Option<StreamKey> {
        self.index
            .back()
            .filter(|&&(newest, _)| newest > id)
            .map(|&(_, key)| key)
    }

    fn place(&self, id: StreamId) -> Option<usize> {
        self.index.binary_search_by_key(&id, |&(id, _)| id).ok()
    }
}

impl Index<StreamKey> for Streams {
    type Output = Stream;

    #[inline]
    fn index(&self, key: StreamKey) -> &Stream {
        &self.slots[key.index()]
    }
}

impl IndexMut<StreamKey> for Streams {
    #[inline]
    fn index_mut(&mut self, key: StreamKey) -> &mut Stream {
        &mut self.slots[key.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(id: u32) -> Stream {
        Stream::new(StreamId::new(id), Half::Body, Half::Body, 0, 0)
    }

    #[test]
    fn a_key_is_used_again_only_after_remove() {
        let mut streams = Streams::new(8);
        let first = streams.insert(stream(1));
        streams.close(first, Ending::Over);
        let second = streams.insert(stream(3));
        assert_ne!(first, second);
        streams.remove(first);
        let third = streams.insert(stream(5));
        assert_eq!(first, third);
        assert!(streams.is(third, StreamId::new(5)) && !streams.is(third, StreamId::new(1)));
    }

    #[test]
    fn closed_streams_are_not_found_but_remembered() {
        let mut streams = Streams::new(2);
        for id in [1, 3, 5, 7] {
            streams.insert(stream(id));
        }
        for id in [3, 1, 5] {
            let key = streams.find(StreamId::new(id)).unwrap();
            streams.close(key, Ending::Cut);
            assert_eq!(streams.find(StreamId::new(id)), None);
        }
        assert_eq!(streams.active(), 1);
        assert_eq!(
            streams.ending(StreamId::new(3)),
            Ending::Unknown,
            "the oldest is forgotten"
        );
        assert_eq!(streams.ending(StreamId::new(1)), Ending::Cut);
        assert_eq!(streams.ending(StreamId::new(9)), Ending::Unknown);
        assert_eq!(streams.find(StreamId::CONNECTION), None);
    }
}
