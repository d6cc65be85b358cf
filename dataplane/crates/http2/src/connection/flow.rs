//! Flow-control windows (RFC 9113 sections 5.2 and 6.9).

use crate::frame::settings::{WINDOW_DEFAULT, WINDOW_MAX};

/// The connection's receive window. Credit is given back when half of it is used, so that one WINDOW_UPDATE pays for many
/// frames and the peer never runs dry.
#[derive(Debug)]
pub(crate) struct ConnectionWindow {
    /// Bytes the peer may still send.
    left: u32,
    /// Bytes taken whose credit was not given back yet.
    unreturned: u32,
    threshold: u32,
}

impl ConnectionWindow {
    /// A window of `bytes`, and the increment that announces it.
    pub(crate) fn new(bytes: u32) -> (Self, u32) {
        debug_assert!((WINDOW_DEFAULT..=WINDOW_MAX).contains(&bytes));
        (
            Self {
                left: bytes,
                unreturned: 0,
                threshold: bytes / 2,
            },
            bytes - WINDOW_DEFAULT,
        )
    }

    /// Takes `len` bytes off. `None`: the peer exceeded the window. Otherwise the credit to give back now, mostly 0.
    #[inline]
    pub(crate) fn take(&mut self, len: u32) -> Option<u32> {
        self.left = self.left.checked_sub(len)?;
        self.unreturned += len;
        if self.unreturned < self.threshold {
            return Some(0);
        }
        self.left += self.unreturned;
        Some(std::mem::take(&mut self.unreturned))
    }
}

/// What growing a send window did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grown {
    /// It was used up and has room again.
    Opened,
    /// It had room, or still has none.
    Unchanged,
    /// It would exceed 2^31-1.
    Overflow,
}

/// Changes a send window by `delta`, which is negative when the peer lowers its initial window.
pub(crate) fn grow(window: &mut i32, delta: i64) -> Grown {
    let grown = i64::from(*window) + delta;
    if grown > i64::from(WINDOW_MAX) {
        return Grown::Overflow;
    }
    let was_closed = *window <= 0;
    // A window falls at most from 2^31-1 by 2^31-1 below what was already sent, which is within i32.
    *window = grown.max(i64::from(i32::MIN)) as i32;
    if was_closed && *window > 0 {
        Grown::Opened
    } else {
        Grown::Unchanged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_comes_back_in_halves() {
        let (mut window, increment) = ConnectionWindow::new(100_000);
        assert_eq!(increment, 100_000 - 65_535);
        assert_eq!(window.take(49_999), Some(0));
        assert_eq!(window.take(1), Some(50_000));
        assert_eq!(window.take(100_001), None);
    }

    #[test]
    fn a_window_opens_only_from_nothing() {
        let mut window = -5;
        assert_eq!(grow(&mut window, 5), Grown::Unchanged);
        assert_eq!(grow(&mut window, 5), Grown::Opened);
        assert_eq!(grow(&mut window, 5), Grown::Unchanged);
        assert_eq!(grow(&mut window, -20), Grown::Unchanged);
        assert_eq!(window, -10);
        assert_eq!(grow(&mut window, i64::from(WINDOW_MAX) + 11), Grown::Overflow);
    }
}
