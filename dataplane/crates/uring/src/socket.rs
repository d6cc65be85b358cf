//! The table of sockets: one entry for each slot of the ring's fixed files.

use bytes::{Buf, Bytes};

use crate::send::{Prepared, SendBuffer};

/// Names a socket of a ring. Unique over the ring's life up to 2^24 reuses of one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl SocketId {
    /// The slot: dense, reused after the socket is closed. For tables that run parallel to the ring's.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// Bits of a generation that travel in an operation's user data.
pub(crate) const GENERATION_MASK: u32 = 0x00ff_ffff;

/// One entry of the table.
#[derive(Debug, Default)]
pub(crate) struct Socket {
    pub(crate) generation: u32,
    pub(crate) open: bool,
    pub(crate) receiving: bool,
    pub(crate) closing: bool,
    /// Operations on the socket itself in flight: shutting it down, cancelling what else is in flight.
    pub(crate) controls: u8,
    pub(crate) sending: Sending,
}

/// What is being sent on a socket. The memory of it stays where it is until the send's completion has been read.
#[derive(Debug, Default)]
pub(crate) enum Sending {
    #[default]
    Nothing,
    /// One piece, of a send of so many bytes: most sends of a fan-out are, and touch nothing but this entry.
    Whole(Bytes, u32),
    /// What a buffer has gathered.
    Gathered(Box<SendBuffer>),
}

impl Sending {
    pub(crate) fn is_nothing(&self) -> bool {
        matches!(self, Sending::Nothing)
    }

    /// Describes what is left to send.
    pub(crate) fn prepare(&mut self) -> Option<Prepared> {
        match self {
            Sending::Nothing => None,
            Sending::Whole(bytes, _) => Some(Prepared::Plain {
                pointer: bytes.as_ptr(),
                len: bytes.len() as u32,
            }),
            Sending::Gathered(buffer) => Some(buffer.prepare()),
        }
    }

    /// Notes that the kernel took `bytes` more. True when that was all.
    pub(crate) fn advance(&mut self, bytes: usize) -> bool {
        match self {
            Sending::Nothing => true,
            Sending::Whole(rest, _) => {
                rest.advance(bytes.min(rest.len()));
                rest.is_empty()
            }
            Sending::Gathered(buffer) => buffer.advance(bytes),
        }
    }

    /// Bytes of the whole send.
    pub(crate) fn len(&self) -> usize {
        match self {
            Sending::Nothing => 0,
            Sending::Whole(_, len) => *len as usize,
            Sending::Gathered(buffer) => buffer.len(),
        }
    }
}

impl Socket {
    /// Whether the kernel may still use memory on behalf of this socket.
    pub(crate) fn in_flight(&self) -> bool {
        self.receiving || !self.sending.is_nothing() || self.controls > 0
    }
}

/// Entries with a free list.
#[derive(Debug)]
pub(crate) struct Sockets {
    entries: Vec<Socket>,
    free: Vec<u32>,
    max: u32,
    open: u32,
}

impl Sockets {
    pub(crate) fn new(max: u32) -> Sockets {
        Sockets {
            entries: Vec::new(),
            free: Vec::new(),
            max,
            open: 0,
        }
    }

    pub(crate) fn max(&self) -> u32 {
        self.max
    }

    pub(crate) fn open(&self) -> u32 {
        self.open
    }

    /// A free entry; `None` when there is none.
    pub(crate) fn insert(&mut self) -> Option<SocketId> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if (self.entries.len() as u32) < self.max => {
                self.entries.push(Socket::default());
                self.entries.len() as u32 - 1
            }
            None => return None,
        };
        let entry = &mut self.entries[index as usize];
        entry.open = true;
        self.open += 1;
        Some(SocketId {
            index,
            generation: entry.generation,
        })
    }

    /// Frees the entry. Its generation moves on.
    pub(crate) fn remove(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        debug_assert!(entry.open && !entry.in_flight());
        *entry = Socket {
            generation: (entry.generation + 1) & GENERATION_MASK,
            ..Socket::default()
        };
        self.free.push(index);
        self.open -= 1;
    }

    pub(crate) fn get(&mut self, id: SocketId) -> Option<&mut Socket> {
        let entry = self.entries.get_mut(id.index as usize)?;
        (entry.generation == id.generation && entry.open).then_some(entry)
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = SocketId> + '_ {
        self.entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.open)
            .map(|(index, entry)| SocketId {
                index: index as u32,
                generation: entry.generation,
            })
    }
}

// The completions of a turn walk the table: two entries in three cache lines.
const _: () = assert!(size_of::<Socket>() <= 64);
