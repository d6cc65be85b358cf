//! Waking a parked core.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// The event descriptor of a ring, to be waited on until it is readable. The kernel and [`Waker`]s write to it.
#[derive(Debug)]
pub struct WakeFd(Arc<OwnedFd>);

/// Wakes the core whose ring it came from. Cheap to clone, usable from any thread.
#[derive(Debug, Clone)]
pub struct Waker(Arc<OwnedFd>);

impl WakeFd {
    pub(crate) fn new() -> io::Result<WakeFd> {
        // SAFETY: eventfd takes no pointers; a negative result is checked before the descriptor is owned.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just returned by the kernel and nobody else owns it.
        Ok(WakeFd(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    pub(crate) fn share(&self) -> WakeFd {
        WakeFd(self.0.clone())
    }

    /// A handle for other threads.
    pub fn waker(&self) -> Waker {
        Waker(self.0.clone())
    }

    /// Forgets wake-ups that have happened, so that the next wait waits.
    pub fn clear(&self) {
        let mut count = 0u64;
        // SAFETY: the buffer is 8 bytes and lives over the call. A failing read (nothing to clear) leaves it as it is.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), 8) };
    }
}

impl AsRawFd for WakeFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for WakeFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Waker {
    /// Makes the core's wait return, now or when it next waits.
    pub fn wake(&self) {
        let one = 1u64;
        // SAFETY: the buffer is 8 bytes and lives over the call. The write fails only when 2^64 - 2 wake-ups are pending, and then
        // the core is awake anyway.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
    }
}
