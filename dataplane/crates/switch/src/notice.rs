//! What the operator shall know of a connection: that it said what it may not.
//!
//! Each kind is told once for each connection, however often it happens, so that nobody fills a log with messages that cost nothing; all of
//! them are counted ([`Stats`](crate::Stats)).

use std::borrow::Cow;
use std::collections::VecDeque;

use crate::dialect::{Client, Ignored};
use crate::ids::Peer;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Whose connection it is.
    pub peer: Peer,
    /// Who it says it is.
    pub client: Client,
    /// What happened.
    pub offence: Offence,
}

/// What a connection did that it may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offence {
    /// It sent a message whose authentication code is missing or wrong.
    Unauthenticated,
    /// It sent a payload that is not MLS, which the node requires.
    NotMls,
    /// It asked for what it may not have, and was ended.
    Denied(Cow<'static, str>),
}

impl Offence {
    /// What is an offence of that for which messages are dropped.
    pub(crate) fn of(ignored: Ignored) -> Option<Offence> {
        match ignored {
            Ignored::Unauthenticated => Some(Offence::Unauthenticated),
            Ignored::NotMls => Some(Offence::NotMls),
            Ignored::Malformed | Ignored::Expired | Ignored::Oversize | Ignored::Unused => None,
        }
    }

    /// Its place among the kinds that a connection remembers having done.
    fn bit(&self) -> u8 {
        match self {
            Offence::Unauthenticated => 1,
            Offence::NotMls => 1 << 1,
            Offence::Denied(_) => 1 << 2,
        }
    }
}

/// The kinds of offence that a connection has committed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Offences(u8);

impl Offences {
    /// Whether an offence is the first of its kind; notes that it is.
    pub(crate) fn is_first(&mut self, offence: &Offence) -> bool {
        let is_first = self.0 & offence.bit() == 0;
        self.0 |= offence.bit();
        is_first
    }
}

/// Notices that nobody has asked for yet: a few for each connection of a turn, as the caller asks in every turn.
pub(crate) type Notices = VecDeque<Notice>;
