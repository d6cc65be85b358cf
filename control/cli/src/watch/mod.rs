//! Commands that look at a running data plane, through its HTTP endpoint.

mod client;
mod conversation;
mod events;
mod figures;
mod network;
mod tap;
mod top;
mod topics;

pub(crate) use conversation::{
    Arguments as Conversation, Conversations, list as conversations, show as conversation,
};
pub(crate) use events::{Arguments as Events, run as events};
pub(crate) use network::{Arguments as Network, links, routes};
pub(crate) use tap::{Arguments as Tap, run as tap};
pub(crate) use top::{Arguments as Top, run as top};
pub(crate) use topics::{Arguments as Topics, list as topics};
