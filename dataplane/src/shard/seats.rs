//! The connections of a shard, each at the place of its socket, and which of them are to be flushed.
//!
//! What every send and its completion touch lies here, side by side: a thousand sends of one turn bring a thousand completions in the
//! next, and each would otherwise have to fetch its connection from far memory only to find that there is nothing to do for it.

use std::time::Instant;

use super::connection::Connection;

/// See the module.
#[derive(Default)]
pub(crate) struct Seats {
    seats: Vec<Seat>,
    /// Places to be flushed. One that was flushed out of turn may still stand here.
    dirty: Vec<u32>,
}

#[derive(Default)]
struct Seat {
    connection: Option<Box<Connection>>,
    /// Since when a send has been in flight.
    sending_since: Option<Instant>,
    /// Stands in the list of those to be flushed.
    listed: bool,
    /// There is more to send once what is in flight has been sent.
    again: bool,
}

impl Seats {
    /// Places, taken or not.
    pub(crate) fn len(&self) -> usize {
        self.seats.len()
    }

    pub(crate) fn take(&mut self, index: usize, connection: Box<Connection>) {
        if self.seats.len() <= index {
            self.seats.resize_with(index + 1, Seat::default);
        }
        self.seats[index] = Seat {
            connection: Some(connection),
            ..Seat::default()
        };
    }

    pub(crate) fn leave(&mut self, index: usize) {
        if let Some(seat) = self.seats.get_mut(index) {
            *seat = Seat::default();
        }
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&Connection> {
        self.seats.get(index)?.connection.as_deref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut Connection> {
        self.seats.get_mut(index)?.connection.as_deref_mut()
    }

    /// Has a connection flushed at the end of the turn.
    #[inline]
    pub(crate) fn list(&mut self, index: usize) {
        if let Some(seat) = self.seats.get_mut(index)
            && seat.connection.is_some()
            && !std::mem::replace(&mut seat.listed, true)
        {
            self.dirty.push(index as u32);
        }
    }

    /// The same, if there is something to do for it.
    #[inline]
    pub(crate) fn list_if_wanted(&mut self, index: usize) {
        if self.get(index).is_some_and(Connection::wants_flush) {
            self.list(index);
        }
    }

    pub(crate) fn any_listed(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The list, for the time in which it is worked off. What is listed meanwhile makes another.
    pub(crate) fn start_flush(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.dirty)
    }

    /// Gives the memory of the list back.
    pub(crate) fn end_flush(&mut self, mut done: Vec<u32>) {
        done.clear();
        done.append(&mut self.dirty);
        self.dirty = done;
    }

    /// Takes a connection off the list. False when it is not on it.
    #[inline]
    pub(crate) fn unlist(&mut self, index: usize) -> bool {
        self.seats
            .get_mut(index)
            .is_some_and(|seat| std::mem::take(&mut seat.listed))
    }

    /// Whether a send is in flight. If so, the connection is listed again when it is over.
    #[inline]
    pub(crate) fn waits_for_send(&mut self, index: usize) -> bool {
        self.seats.get_mut(index).is_some_and(|seat| {
            seat.again |= seat.sending_since.is_some();
            seat.again
        })
    }

    /// A send begins. `again`: there is more already.
    #[inline]
    pub(crate) fn sending(&mut self, index: usize, now: Instant, again: bool) {
        if let Some(seat) = self.seats.get_mut(index) {
            seat.sending_since = Some(now);
            seat.again = again;
        }
    }

    /// It is over.
    #[inline]
    pub(crate) fn sent(&mut self, index: usize) {
        if let Some(seat) = self.seats.get_mut(index) {
            seat.sending_since = None;
            if std::mem::take(&mut seat.again) {
                self.list(index);
            }
        }
    }

    /// Whether a send has been in flight since `before`.
    pub(crate) fn is_stuck(&self, index: usize, before: Option<Instant>) -> bool {
        let since = self.seats.get(index).and_then(|seat| seat.sending_since);
        since.zip(before).is_some_and(|(since, before)| since <= before)
    }
}
