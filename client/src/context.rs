//! A conversation that several agents share: an ordered log of turns to which all append, kept in a state space.
//!
//! Each turn is a key of its own that is never put again, so appending needs no agreement; the order of turns is the order of their
//! revisions, the same for everyone. Each participant has a key with the revision up to which it has read. In the space of a context
//! that matches `state.durable` of the gateway, turns outlive it. What a turn says is bytes: in the profile `strict`, an MLS message
//! of the group that converses, like any payload.

use std::collections::{BTreeMap, VecDeque};
use std::time::SystemTime;

use bytes::Bytes;

use crate::state::{Entry, Space};
use crate::watch::{Change, Watch};
use crate::{Agent, Error};

const TURNS: &str = "turn/";
const CURSORS: &str = "cursor/";

/// Something that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Turn {
    /// Who said it: the agent's verified name.
    pub author: String,
    /// What.
    pub payload: Bytes,
    /// Its place in the order.
    pub revision: u64,
    /// When the gateway took it.
    pub time: SystemTime,
}

/// One who has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Participant {
    /// The agent's name.
    pub name: String,
    /// The revision up to which it has read; 0: nothing yet.
    pub cursor: u64,
}

/// A shared conversation, from [`Agent::join_context`].
#[derive(Debug)]
pub struct ConversationContext {
    space: Space,
    watch: Watch,
    name: String,
    /// Tells this handle's turns from others'.
    salt: u64,
    appended: u64,
    /// Turns that are known and were not given out, in order.
    turns: VecDeque<Turn>,
    /// Turns before the first [`Change::Live`]: they come in the order of their keys.
    early: Vec<Turn>,
    live: bool,
    participants: BTreeMap<String, u64>,
    /// The last turn given out.
    read: u64,
}

impl ConversationContext {
    pub(crate) async fn join(agent: &Agent, space: String) -> Result<ConversationContext, Error> {
        let name = agent.name().to_owned();
        let space = agent.space(space);
        let read = match space.get(format!("{CURSORS}{name}")).await? {
            Some(entry) => cursor_of(&entry),
            None => 0,
        };
        space.put(format!("{CURSORS}{name}"), read.to_string()).await?;
        let watch = space.watch("").await?;
        let mut context = ConversationContext {
            space,
            watch,
            name,
            salt: fastrand::u64(..),
            appended: 0,
            turns: VecDeque::new(),
            early: Vec::new(),
            live: false,
            participants: BTreeMap::new(),
            read,
        };
        while !context.live {
            context.step().await?;
        }
        Ok(context)
    }

    /// Says something. Returns its place in the order.
    ///
    /// # Errors
    ///
    /// [`Error::Gateway`], [`Error::Closed`], or [`Error::ConnectionLost`]: then whether it was said shows in what comes.
    pub async fn append(&mut self, payload: impl Into<Bytes>) -> Result<u64, Error> {
        self.appended += 1;
        let key = format!("{TURNS}{:016x}-{:08x}", self.salt, self.appended);
        self.space.put(key, payload).expect(0).await
    }

    /// The next turn behind the last one given out: first those that were said before this agent joined, then as they are said, this
    /// agent's own among them. `None` when the session is over.
    ///
    /// # Errors
    ///
    /// Why the watch ended.
    pub async fn next(&mut self) -> Result<Option<Turn>, Error> {
        loop {
            if let Some(turn) = self.turns.pop_front() {
                self.read = turn.revision;
                return Ok(Some(turn));
            }
            if !self.step().await? {
                return Ok(None);
            }
        }
    }

    /// Tells the others that all turns given out so far are dealt with; an agent of this name that joins later goes on behind them.
    ///
    /// # Errors
    ///
    /// [`Error::Gateway`], [`Error::ConnectionLost`] or [`Error::Closed`].
    pub async fn settle(&mut self) -> Result<(), Error> {
        let key = format!("{CURSORS}{}", self.name);
        self.space.put(key, self.read.to_string()).await.map(drop)
    }

    /// Who takes part, as far as what was given out says.
    pub fn participants(&self) -> impl Iterator<Item = Participant> + '_ {
        self.participants.iter().map(|(name, cursor)| Participant {
            name: name.clone(),
            cursor: *cursor,
        })
    }

    /// Takes part no longer. What was said stays.
    ///
    /// # Errors
    ///
    /// [`Error::Gateway`], [`Error::ConnectionLost`] or [`Error::Closed`].
    pub async fn leave(self) -> Result<(), Error> {
        let key = format!("{CURSORS}{}", self.name);
        self.space.delete(key, None).await.map(drop)
    }

    /// Takes the next change. False when there will be none.
    async fn step(&mut self) -> Result<bool, Error> {
        let Some(change) = self.watch.next().await else {
            return match self.watch.error() {
                Some(error) => Err(error),
                None => Ok(false),
            };
        };
        match change {
            Change::Put(entry) => self.put(entry),
            Change::Deleted { key, .. } => {
                if let Some(name) = key.strip_prefix(CURSORS) {
                    self.participants.remove(name);
                }
            }
            Change::Live { .. } => {
                self.live = true;
                self.early.sort_unstable_by_key(|turn| turn.revision);
                self.turns.extend(self.early.drain(..));
            }
            Change::Restarted => {
                self.live = false;
                self.early.clear();
                self.turns.clear();
                self.participants.clear();
            }
        }
        Ok(true)
    }

    fn put(&mut self, entry: Entry) {
        if let Some(name) = entry.key.strip_prefix(CURSORS) {
            self.participants.insert(name.to_owned(), cursor_of(&entry));
        } else if entry.key.starts_with(TURNS) && entry.revision > self.read {
            let turn = Turn {
                author: entry.source,
                payload: entry.value,
                revision: entry.revision,
                time: entry.time,
            };
            match self.live {
                true => self.turns.push_back(turn),
                false => self.early.push(turn),
            }
        }
    }
}

fn cursor_of(entry: &Entry) -> u64 {
    std::str::from_utf8(&entry.value)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}
