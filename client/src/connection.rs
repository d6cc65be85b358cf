//! The connection to the gateway, and the one task that owns it.
//!
//! ```text
//!   handles ──commands (bounded)──►  driver  ──outbound──► gateway
//!           ──controls (drops)────►  tables  ◄──inbound───
//!           ◄──inboxes, oneshots───
//! ```
//!
//! The driver never waits for the application: what it cannot hand over is dropped as the policy says, or refused. (The exception
//! is a subscription whose policy is to block.) It takes commands only while there is a connection and room on it, so that the
//! application waits instead.

mod change;
mod dial;
mod driver;
mod routes;
mod succession;
mod tables;

use std::sync::Arc;

use ringgate_proto::agp::v1 as proto;
use ringgate_proto::agp::v1::agent_message::Body;
use tokio::sync::oneshot;

pub(crate) use driver::Driver;

use crate::state::Answered;
use crate::stream::StreamState;
use crate::subscription::SubscriptionState;
use crate::watch::WatchState;
use crate::{Error, Reply};

/// Where the answer to a command goes.
pub(crate) type Done<T> = oneshot::Sender<Result<T, Error>>;

/// Counts connections. Numbers that the gateway gave (of requests, streams, introductions) mean nothing on the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Epoch(u64);

/// A message that belongs to one connection.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) epoch: Epoch,
    pub(crate) body: Body,
}

/// What the application wants. Waits while there is no connection.
#[derive(Debug)]
pub(crate) enum Command {
    /// A message without an answer.
    Say(Body),
    /// The same, or nothing on another connection.
    SayInSession(Handed),
    PublishAcked {
        publish: proto::Publish,
        done: Done<u32>,
    },
    Subscribe {
        state: Arc<SubscriptionState>,
        done: Done<()>,
    },
    Unsubscribe {
        id: u64,
        done: Done<()>,
    },
    Request {
        request: proto::Request,
        done: Done<Reply>,
    },
    AskState {
        id: u64,
        body: Body,
        done: Done<Answered>,
    },
    /// Begins a watch, or goes on with one that was stopped.
    Watch {
        state: Arc<WatchState>,
        done: Option<Done<()>>,
    },
    OpenStream {
        open: proto::StreamOpen,
        done: oneshot::Sender<Arc<StreamState>>,
    },
    Introduce {
        introduce: proto::Introduce,
        done: Done<proto::Connected>,
    },
    Accept {
        accept: proto::Accept,
        epoch: Epoch,
        source: String,
        done: Done<proto::Connected>,
    },
}

/// What a drop has to say: taken at once, with or without a connection.
#[derive(Debug)]
pub(crate) enum Control {
    SayInSession(Handed),
    Unsubscribe(u64),
    Unwatch(u64),
    CancelRequest(u64),
    CancelIntroduction(u64),
    Close(oneshot::Sender<()>),
}
