//! What the operator sees: counters and times kept by each core, gathered and served off the data cores; and what becomes of single
//! messages that somebody follows.
//!
//! ```text
//!   core ── counts, times ──── when asked ──► observer ──► /metrics /corez /connz …, OTLP
//!   core ── flow events ────── ring ────────► flows ─────► /tap, /conversation, OTLP
//!   core ── security events ── channel ─────► events ────► /events, log, control process
//! ```

mod body;
mod catalogue;
mod conversations;
mod events;
mod exposition;
mod flow;
mod flows;
mod hops;
mod http;
mod inbox;
mod inspection;
mod link_status;
mod observation;
mod observer;
mod otlp;
mod query;
mod report;
mod stream;

pub use flow::{FlowEvent, FlowInput, FlowSender, FlowSource, Kind, Stage, Subject, Watch, flows, reason};
pub use flows::Flows;
pub use hops::{Hop, HopKey, Hops, Sampler};
pub use http::{HttpError, serve};
pub use inbox::{Command, CommandSender, Connected, Inbox, Order, inbox};
pub use inspection::{Inspection, Row, in_order};
pub use link_status::LinkStatus;
pub use observation::{
    OBSERVATIONS_MAX, Observation, Reporter, SecurityCounts, Seen, observations, unix_nanos,
};
pub use observer::{Observed, Observer};
pub use otlp::Exporter;
pub use report::{CoreReport, ShardCounters};
