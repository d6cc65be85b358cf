//! A service that notes what it is told.

use bytes::Bytes;
use ringgate_grpc::{Request, Status};
use std::time::{Duration, Instant};

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

    fn turn_end(&mut self, _: &Now) {}

    fn next_ready(&mut self) -> Option<CallId> {
        None
    }

    fn pull(&mut self, _: StreamTag, _: usize) -> Option<Bytes> {
        None
    }

    fn is_empty(&self, _: StreamTag) -> bool {
        true
    }

    fn end(&mut self, _: StreamTag) -> Option<Status> {
        None
    }

    fn must_end(&self, _: StreamTag) -> bool {
        false
    }

    fn has_pending(&self) -> bool {
        false
    }

    fn next_resumed(&mut self) -> Option<CallId> {
        None
    }

    fn next_outbound(&mut self) -> Option<(usize, ())> {
        None
    }

    fn receive(&mut self, _: usize, (): (), _: &Now) {}

    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    fn tick(&mut self, _: &Now) {}

    fn drain(&mut self, _: Duration, _: &Now) {}

    fn counts(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    fn details(&self) -> Vec<serde_json::Value> {
        Vec::new()
    }
}
