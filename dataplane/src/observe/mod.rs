//! What the operator sees: counters kept by each core, gathered and served off the data cores.

mod http;
mod inbox;
mod link_status;
mod observation;
mod report;

pub use http::{HttpError, Observer, serve};
pub use inbox::{Command, CommandSender, Inbox, Order, inbox};
pub use link_status::LinkStatus;
pub use observation::{
    OBSERVATIONS_MAX, Observation, Reporter, SecurityCounts, Seen, observations, unix_nanos,
};
pub use report::{CoreReport, ShardCounters};
