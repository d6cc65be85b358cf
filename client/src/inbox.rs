//! A bounded queue from the driver to the application.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Filled by the driver, which never waits; read by the application, from one task or several.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    state: Mutex<State<T>>,
    length_max: usize,
}

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<T>,
    readers: Vec<Waker>,
    closed: bool,
}

impl<T> Inbox<T> {
    pub(crate) fn new(length_max: usize) -> Inbox<T> {
        let state = State {
            queue: VecDeque::new(),
            readers: Vec::new(),
            closed: false,
        };
        Inbox {
            state: Mutex::new(state),
            length_max,
        }
    }

    /// Queues `item`, or gives it back if the queue is full or closed.
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        let mut state = self.lock();
        if state.closed || state.queue.len() >= self.length_max {
            return Err(item);
        }
        state.queue.push_back(item);
        wake(state);
        Ok(())
    }

    /// The next item; `None` when the inbox is closed and empty.
    pub(crate) fn poll_pop(&self, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.lock();
        if let Some(item) = state.queue.pop_front() {
            return Poll::Ready(Some(item));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        register(&mut state.readers, context);
        Poll::Pending
    }

    /// No more will come.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        wake(state);
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // A reader that panicked between two statements of this file has left nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake<T>(mut state: MutexGuard<'_, State<T>>) {
    let readers = std::mem::take(&mut state.readers);
    drop(state);
    readers.into_iter().for_each(Waker::wake);
}

/// Remembers whom to wake, once.
pub(crate) fn register(wakers: &mut Vec<Waker>, context: &Context<'_>) {
    if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
        wakers.push(context.waker().clone());
    }
}
