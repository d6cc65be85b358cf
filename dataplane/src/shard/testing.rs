//! A service that notes what it is told.

use ringgate_grpc::{Request, Status};

use super::service::{Answer, CallId, Closing, Flow, Now, Peer, Service, StreamTag};

#[derive(Debug, PartialEq)]
pub(crate) enum Note {
    Message(Vec<u8>),
    Broken(String),
    HalfClosed,
    Closed(Closing),
}

/// Accepts every call as a stream and echoes nothing.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) notes: Vec<Note>,
    /// Pause when this many messages have come.
    pub(crate) pause_after: Option<usize>,
}

impl Service for Recorder {
    type Message = ();

    fn call(&mut self, _: CallId, _: &Request, _: &Peer, _: &Now) -> Answer {
        Answer::Stream(StreamTag(0))
    }

    fn message(&mut self, _: StreamTag, message: &[u8], _: &Now) -> Flow {
        self.notes.push(Note::Message(message.to_vec()));
        if self.pause_after.is_some_and(|limit| self.notes.len() >= limit) {
            Flow::Pause
        } else {
            Flow::Continue
        }
    }

    fn broken(&mut self, _: StreamTag, status: &Status, _: &Now) {
        self.notes.push(Note::Broken(status.to_string()));
    }

    fn half_closed(&mut self, _: StreamTag, _: &Now) {
        self.notes.push(Note::HalfClosed);
    }

    fn closed(&mut self, _: StreamTag, how: Closing, _: &Now) {
        self.notes.push(Note::Closed(how));
    }
}
