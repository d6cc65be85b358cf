//! The dynamic table (RFC 7541 sections 2.3.2 and 4).

use std::collections::VecDeque;

use crate::headers::{FIELD_OVERHEAD, Header};

/// The decoder's dynamic table: newest entry first, evicted from the oldest.
///
/// The strings of all entries lie in one buffer in order of insertion. Eviction moves its beginning; when more of it is
/// dead than alive, it is compacted. So it holds at most twice the live bytes, and grows only with what the peer inserts.
#[derive(Debug)]
pub(super) struct Table {
    /// Oldest first.
    entries: VecDeque<Entry>,
    strings: Vec<u8>,
    /// Where the oldest live entry begins in `strings`.
    live_start: usize,
    /// Sum of the entries' sizes as RFC 7541 section 4.1 counts them.
    size: usize,
    size_max: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    start: u32,
    name_len: u32,
    value_len: u32,
}

impl Entry {
    fn strings_len(&self) -> usize {
        (self.name_len + self.value_len) as usize
    }

    fn size(&self) -> usize {
        self.strings_len() + FIELD_OVERHEAD
    }
}

impl Table {
    pub(super) fn new(size_max: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            strings: Vec::new(),
            live_start: 0,
            size: 0,
            size_max,
        }
    }

    pub(super) fn size_max(&self) -> usize {
        self.size_max
    }

    /// Changes the bound, evicting what no longer fits (RFC 7541 section 4.3).
    pub(super) fn resize(&mut self, size_max: usize) {
        self.size_max = size_max;
        self.evict(0);
        if self.entries.is_empty() {
            *self = Self::new(size_max);
        }
    }

    /// Entry `index` places behind the newest.
    pub(super) fn get(&self, index: usize) -> Option<Header<'_>> {
        let from_oldest = self.entries.len().checked_sub(index + 1)?;
        let entry = self.entries[from_oldest];
        let name_start = entry.start as usize;
        let value_start = name_start + entry.name_len as usize;
        let value_end = value_start + entry.value_len as usize;
        Some(Header {
            name: &self.strings[name_start..value_start],
            value: &self.strings[value_start..value_end],
        })
    }

    /// Inserts a field as the newest. One that is larger than the table empties it (RFC 7541 section 4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let size = Header { name, value }.list_size();
        self.evict(size);
        if size > self.size_max {
            return;
        }
        self.compact();
        let entry = Entry {
            start: self.strings.len() as u32,
            name_len: name.len() as u32,
            value_len: value.len() as u32,
        };
        self.strings.extend_from_slice(name);
        self.strings.extend_from_slice(value);
        self.entries.push_back(entry);
        self.size += size;
    }

    /// Drops the oldest entries until `room` bytes fit.
    fn evict(&mut self, room: usize) {
        while self.size + room > self.size_max
            && let Some(entry) = self.entries.pop_front()
        {
            self.size -= entry.size();
            self.live_start += entry.strings_len();
        }
    }

    fn compact(&mut self) {
        if self.live_start <= self.strings.len() - self.live_start {
            return;
        }
        self.strings.drain(..self.live_start);
        for entry in &mut self.entries {
            entry.start -= self.live_start as u32;
        }
        self.live_start = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_entry_comes_first_and_the_oldest_is_evicted() {
        let mut table = Table::new(2 * (FIELD_OVERHEAD + 2));
        for (name, value) in [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")] {
            table.insert(name, value);
        }
        assert_eq!(table.get(0), Some(Header::new(b"c", b"3")));
        assert_eq!(table.get(1), Some(Header::new(b"b", b"2")));
        assert_eq!(table.get(2), None);
    }

    #[test]
    fn an_entry_larger_than_the_table_empties_it() {
        let mut table = Table::new(FIELD_OVERHEAD + 2);
        table.insert(b"a", b"1");
        table.insert(b"abc", b"123");
        assert_eq!(table.get(0), None);
        assert_eq!(table.size, 0);
    }

    #[test]
    fn memory_stays_bounded_however_much_is_inserted() {
        let mut table = Table::new(4096);
        for round in 0..10_000u32 {
            let value = vec![b'v'; (round % 500) as usize];
            table.insert(&round.to_be_bytes(), &value);
            assert_eq!(table.get(0), Some(Header::new(&round.to_be_bytes(), &value)));
            assert!(
                table.strings.len() <= 3 * 4096,
                "{} bytes of strings",
                table.strings.len()
            );
            assert!(table.size <= 4096);
        }
        table.resize(0);
        assert_eq!((table.strings.capacity(), table.size), (0, 0));
    }
}
