//! The seam to a message format.

use bytes::{Bytes, BytesMut};

use crate::ids::{End, Name};

/// A message format: reads what connections say, and writes what they are told.
///
/// Messages that are passed on are written once into a *run*: consecutive messages to the same connections, each a self-delimiting
/// record. What a record holds is the dialect's matter; the switch only counts records and cuts runs between them.
pub trait Dialect {
    /// What is remembered of a connection: its negotiation, its keys.
    type Link;
    /// A publish as it was read, borrowed from what arrived.
    type Letter<'m>;
    /// Whether a connection must greet before anything else, within the time allowed.
    const GREETS: bool;

    /// A connection begins.
    fn open(&mut self) -> Self::Link;

    /// Reads one message.
    fn read<'m>(&mut self, link: &mut Self::Link, message: &'m [u8]) -> Said<Self::Letter<'m>>;

    /// In which form a connection that is ready gets its messages.
    fn form(link: &Self::Link) -> Form;

    /// Appends the answer to a Subscribe or Unsubscribe, framed as a gRPC message; nothing where the dialect has no answers.
    fn acknowledge(&mut self, subscription: u64, result: Result<(), &'static str>, out: &mut BytesMut);

    /// Appends a message to the run being built.
    fn append(&mut self, letter: &Self::Letter<'_>);

    /// Bytes of the run being built.
    fn pending(&self) -> usize;

    /// Cuts off the run being built.
    fn take(&mut self) -> Bytes;

    /// The same run in the form [`Form::Shared`].
    fn shared(&mut self, run: &Bytes) -> Bytes;

    /// Length of the first record of a run that is not empty.
    fn first_len(form: Form, run: &[u8]) -> usize;

    /// Makes the bytes for one connection of the first records of a run in the form [`Form::Own`]: as many of its `messages` as fit into
    /// `bytes_max`, at least one.
    fn render(&mut self, link: &mut Self::Link, run: &Bytes, messages: u32, bytes_max: usize) -> Rendered;
}

/// What a dialect made of the first records of a run.
#[derive(Debug)]
pub struct Rendered {
    /// gRPC messages, all but `rest`.
    pub bytes: Bytes,
    /// The end of the last message, where it is shared instead of copied; else empty.
    pub rest: Bytes,
    /// Bytes of the run that were used up.
    pub used: usize,
    /// Messages that were used up.
    pub messages: u32,
}

/// How messages look to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Like to all others of this form: a run is the gRPC messages themselves.
    Shared,
    /// Each connection has its own bytes, made as they are sent.
    Own,
}

/// What a connection said.
#[derive(Debug)]
pub enum Said<L> {
    /// Nothing to be acted on.
    Ignored(Ignored),
    /// It is ready; `reply` is a gRPC message for it.
    Greeted {
        /// The answer.
        reply: Bytes,
        /// Who it says it is.
        client: Client,
    },
    /// It wants messages to `name`.
    Subscribe {
        /// The name.
        name: Name,
        /// Its number; 0: it wants no answer.
        subscription: u64,
    },
    /// It no longer wants them.
    Unsubscribe {
        /// The name.
        name: Name,
        /// The number it subscribed with.
        subscription: u64,
    },
    /// It wants what it cannot have.
    Refused {
        /// The number to answer on; 0: it wants no answer.
        subscription: u64,
        /// Why.
        reason: &'static str,
    },
    /// It sends a message.
    Publish(Publish<L>),
    /// It is to be ended.
    End(End),
}

/// A message to pass on.
#[derive(Debug)]
pub struct Publish<L> {
    /// To whom.
    pub to: Name,
    /// To how many.
    pub fanout: Fanout,
    /// The message.
    pub letter: L,
}

/// To how many of a name's connections a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fanout {
    /// To one of them, in turn.
    One,
    /// To all.
    All,
}

/// Why a message was dropped without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// It cannot be parsed, or lacks what routing needs.
    Malformed,
    /// Its authentication code is missing or wrong.
    Unauthenticated,
    /// Its time to live is used up.
    Expired,
    /// It is larger than receivers take.
    Oversize,
    /// Its payload is not MLS, which the node requires.
    NotMls,
    /// A kind of message that has no effect here.
    Unused,
}

/// Who a client says it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// Names the link among those of its node, the same after the client comes back; empty: unknown.
    pub link: String,
    /// Names the process, the same on all its links; empty: unknown.
    pub node: String,
    /// Whether `node` names that process alone. A name that people gave may stand in the configuration of several.
    pub node_is_unique: bool,
}
