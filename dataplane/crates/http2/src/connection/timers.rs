//! Deadlines. The caller asks for the next one and calls `tick` when it has passed; late or needless calls do no harm.

use std::time::Instant;

use crate::config::Config;
use crate::connection::Connection;
use crate::connection::shutdown::Shutdown;
use crate::error::{Error, ErrorCode, Violation};
use crate::frame::ping;

/// Payload of the PING that asks a silent peer for a sign of life.
const KEEPALIVE_PING: [u8; ping::BYTES] = *b"rg alive";

/// The deadlines of a connection; `None` where nothing is awaited.
#[derive(Debug)]
pub(super) struct Timers {
    /// The latest time known.
    clock: Instant,
    /// Preface and first SETTINGS.
    pub(super) preface: Option<Instant>,
    /// The acknowledgement of our SETTINGS.
    pub(super) settings: Option<Instant>,
    /// The rest of a frame or header block.
    pub(super) partial: Option<Instant>,
    /// The answer to a PING of ours, keepalive or drain.
    pub(super) pong: Option<Instant>,
    /// Since when there is no stream: set by `tick`, cleared by each new stream.
    pub(super) idle_since: Option<Instant>,
}

impl Timers {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        Self {
            clock: now,
            preface: Some(now + config.preface_timeout),
            settings: Some(now + config.settings_timeout),
            partial: None,
            pong: None,
            idle_since: Some(now),
        }
    }

    #[inline]
    pub(super) fn heard(&mut self, now: Instant) {
        self.clock = now;
    }

    pub(super) fn await_pong(&mut self, config: &Config) {
        self.pong = Some(self.clock + config.keepalive_timeout);
    }

    /// Takes the answer to a keepalive PING; `false` if it is not one.
    pub(super) fn keepalive_answered(&mut self, payload: [u8; ping::BYTES]) -> bool {
        payload == KEEPALIVE_PING && self.pong.take().is_some()
    }
}

fn passed(deadline: Option<Instant>, now: Instant) -> bool {
    deadline.is_some_and(|deadline| deadline <= now)
}

impl Connection {
    /// When to call [`tick`](Self::tick), at the latest. It may move later with input, so ask again before arming a timer
    /// of coarse ticks, or just tick: an early tick changes nothing.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.has_failed() {
            return None;
        }
        let timers = &self.timers;
        [
            timers.preface,
            timers.settings,
            timers.partial,
            timers.pong,
            self.keepalive_due(),
            self.idle_due(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due at `now`.
    ///
    /// # Errors
    /// If the peer has let a deadline pass. As with [`receive`](Self::receive), GOAWAY is in the output.
    pub fn tick(&mut self, now: Instant) -> Result<(), Error> {
        if self.has_failed() {
            return Ok(());
        }
        self.shrink_output();
        if let Some(violation) = self.missed(now) {
            return Err(self.fail(violation));
        }
        if passed(self.timers.pong, now) {
            if self.shutdown != Shutdown::Announced {
                return Err(self.fail(Violation::KeepaliveTimeout));
            }
            self.timers.pong = None;
            self.go_away(ErrorCode::NO_ERROR, b"");
        }
        if passed(self.keepalive_due(), now) {
            ping::write(&mut self.output, KEEPALIVE_PING, false);
            self.timers.pong = Some(now + self.config.keepalive_timeout);
        }
        self.note_idle(now);
        Ok(())
    }

    fn missed(&self, now: Instant) -> Option<Violation> {
        let timers = &self.timers;
        if passed(timers.preface, now) {
            Some(Violation::PrefaceTimeout)
        } else if passed(timers.settings, now) {
            Some(Violation::SettingsTimeout)
        } else if passed(timers.partial, now) {
            Some(Violation::FrameTimeout)
        } else if timers.idle_since.is_some() && passed(self.idle_due(), now) {
            Some(Violation::Idle)
        } else {
            None
        }
    }

    /// When a silent peer is asked for a sign of life.
    fn keepalive_due(&self) -> Option<Instant> {
        match self.timers.pong {
            Some(_) => None,
            None => self
                .config
                .keepalive_interval
                .map(|interval| self.timers.clock + interval),
        }
    }

    fn idle_due(&self) -> Option<Instant> {
        let timeout = self.config.idle_timeout.filter(|_| self.streams.active() == 0)?;
        Some(self.timers.idle_since.unwrap_or(self.timers.clock) + timeout)
    }

    fn note_idle(&mut self, now: Instant) {
        if self.streams.active() == 0 {
            self.timers.idle_since.get_or_insert(now);
        }
    }
}
