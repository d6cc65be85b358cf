//! What the operator sees: counters kept by each core, gathered and served off the data cores.

mod http;
mod inbox;
mod report;

pub use http::{HttpError, Observer, serve};
pub use inbox::{Command, CommandSender, Inbox, inbox};
pub use report::{CoreReport, ShardCounters};
