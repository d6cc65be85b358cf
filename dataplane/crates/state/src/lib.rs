//! Sans-IO state spaces: shared memory of agents with one order, what topics keep, and the format of the log that keeps both.
//!
//! A space is a map from keys to values with a revision that grows by one with each change. Whoever owns the [`Spaces`] of a core
//! serialises all changes to them; this crate has no clock, file, thread or random source.
//!
//! Invariants worth naming:
//! * A revision names one change of one space. Those of a space that was lost and made anew lie above all of the lost one's (they
//!   start at the time of making, in microseconds), so that resuming from an old one is never mistaken for resuming.
//! * What is kept of the past is contiguous and ends at the present: it can be replayed from any revision it still has.
//! * A change that could not be made durable can be undone, newest first, as if it had never been.
#![forbid(unsafe_code)]

mod archive;
mod change;
mod expiry;
pub mod log;
mod space;
mod spaces;

pub use archive::{Archive, Keep, Kept, Place, TopicRules, merge};
pub use change::{Change, KEY_BYTES_MAX, Moment, Write, key};
pub use space::{Past, Space};
pub use spaces::{Changed, Fault, Spaces};
