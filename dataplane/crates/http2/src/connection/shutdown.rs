//! The end of a connection: GOAWAY in both directions, drain, failure (RFC 9113 section 6.8).

use std::time::Instant;

use crate::connection::budget::SETTINGS_COST;
use crate::connection::streams::Ending;
use crate::connection::{Connection, Notice, Role};
use crate::error::{Error, ErrorCode, Violation};
use crate::event::{Event, StreamId};
use crate::frame::{go_away, ping};

/// Payload of the PING that tells when the peer has seen that a drain began.
const DRAIN_PING: [u8; ping::BYTES] = *b"rg drain";

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shutdown {
    No,
    /// The peer has announced that it takes no more streams.
    ByPeer,
    /// Server: GOAWAY went out that refuses nothing yet; PING tells when the peer has read it.
    Announced,
    /// GOAWAY went out; streams above `last` are ignored.
    Final {
        last: StreamId,
    },
    /// A connection error.
    Failed,
}

impl Shutdown {
    pub(super) fn may_open(self) -> bool {
        self == Self::No
    }
}

impl Connection {
    /// Begins a graceful shutdown. Streams in progress go on. A server first tells the peer to open no more (GOAWAY with
    /// the highest id, and PING), and refuses new ones only after the answer, or after `keepalive_timeout`: none is lost
    /// on the way. Ends with [`is_drained`](Self::is_drained).
    pub fn drain(&mut self) {
        if matches!(
            self.shutdown,
            Shutdown::Announced | Shutdown::Final { .. } | Shutdown::Failed
        ) {
            return;
        }
        if self.role == Role::Client {
            return self.go_away(ErrorCode::NO_ERROR, b"");
        }
        go_away::write(&mut self.output, StreamId::MAX, ErrorCode::NO_ERROR, b"drain");
        ping::write(&mut self.output, DRAIN_PING, false);
        self.timers.await_pong(&self.config);
        self.shutdown = Shutdown::Announced;
    }

    /// Sends GOAWAY: streams that the peer opens from here on are ignored, those in progress may go on.
    pub fn go_away(&mut self, code: ErrorCode, debug: &[u8]) {
        if self.has_failed() {
            return;
        }
        let last = match self.shutdown {
            // RFC 9113 section 6.8: the last stream must not grow.
            Shutdown::Final { last } => last,
            _ => self.last_peer_stream(),
        };
        go_away::write(&mut self.output, last, code, debug);
        self.shutdown = Shutdown::Final { last };
    }

    /// Whether a shutdown is under way, begun by either end, or the connection has failed.
    pub fn is_draining(&self) -> bool {
        self.shutdown != Shutdown::No
    }

    /// Whether a shutdown has come to its end: no stream is left and none can come. Write the output and close.
    pub fn is_drained(&self) -> bool {
        let settled = match self.shutdown {
            Shutdown::No | Shutdown::Announced => false,
            Shutdown::ByPeer | Shutdown::Final { .. } => true,
            Shutdown::Failed => return true,
        };
        settled && self.streams.active() == 0
    }

    /// Whether the connection ended in an error.
    pub(super) fn has_failed(&self) -> bool {
        self.shutdown == Shutdown::Failed
    }

    /// Ends the connection in an error.
    #[cold]
    pub(super) fn fail(&mut self, violation: Violation) -> Error {
        let last = match self.shutdown {
            Shutdown::Final { last } => last,
            _ => self.last_peer_stream(),
        };
        go_away::write(
            &mut self.output,
            last,
            violation.code(),
            violation.to_string().as_bytes(),
        );
        self.shutdown = Shutdown::Failed;
        self.partial = Vec::new();
        Error::from(violation)
    }

    /// Takes the answer to a PING of the connection's own; `false` if it is not one.
    pub(super) fn own_ping_answered(&mut self, payload: [u8; ping::BYTES]) -> bool {
        if payload == DRAIN_PING && self.shutdown == Shutdown::Announced {
            self.timers.pong = None;
            self.go_away(ErrorCode::NO_ERROR, b"");
            return true;
        }
        self.timers.keepalive_answered(payload)
    }

    pub(super) fn go_away_frame(
        &mut self,
        payload: [u8; go_away::BYTES],
        now: Instant,
    ) -> Result<Event<'static>, Violation> {
        self.spend_overhead(SETTINGS_COST, now)?;
        let (last_stream, code) = go_away::parse(payload);
        if self.shutdown == Shutdown::No {
            self.shutdown = Shutdown::ByPeer;
        }
        if self.role == Role::Client {
            while let Some(key) = self.streams.newest_above(last_stream) {
                let stream = self.streams[key].id;
                self.streams.close(key, Ending::Cut);
                let code = ErrorCode::REFUSED_STREAM;
                self.notices.push_back(Notice::Reset {
                    key,
                    stream,
                    code,
                    by_peer: true,
                });
            }
        }
        Ok(Event::GoAway { last_stream, code })
    }

    /// The highest stream that the peer opened.
    fn last_peer_stream(&self) -> StreamId {
        if self.role == Role::Server {
            self.last_stream
        } else {
            StreamId::CONNECTION
        }
    }
}
