//! The log of durable spaces and of what topics keep: bytes to files and back, without files.
//!
//! ```text
//!   segment   [ batch 0 | batch 1 | batch 2 | … zeros ]     one file; batches start at multiples of 4096
//!   batch     [ header | records … | padding ]              written at once, then synced; the next one is written after that
//! ```
//!
//! What makes a log trustworthy after a crash:
//! * A batch is good as a whole or not at all: one checksum covers header and records.
//! * A batch is written only when the one before it is on disk. So a bad batch with a good one behind it was damaged after it had
//!   been acknowledged, and [`read`] says so; a bad one at the very end was torn, or is all that was never acknowledged.
//! * A segment says how many batches of the core's segment before it count: no more were acknowledged, and no fewer must be there.
//! * Records are facts that are repeated, not steps that are counted: what a snapshot says of a key, and the changes around it, lie in
//!   one order, and the last word counts. So a snapshot can be taken piece by piece while changes go on, and old segments can be
//!   deleted oldest first, at any time after it.

mod batch;
mod record;
mod replay;

pub use batch::{BLOCK_BYTES, Batch, Batches, Damage, padded, read};
pub use record::{Malformed, Opened, Record, put_change, put_kept, put_opened, put_revision, records};
pub use replay::{Recovered, Replay};
