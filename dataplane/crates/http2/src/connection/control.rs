//! Every frame that arrives but DATA, HEADERS and CONTINUATION.

use std::time::Instant;

use crate::connection::budget::{FRAME_COST, SETTINGS_COST, WINDOW_UPDATE_FREE_BYTES};
use crate::connection::flow::{Grown, grow};
use crate::connection::receive::Order;
use crate::connection::streams::{Ending, Half, StreamKey};
use crate::connection::{Connection, Notice, Role};
use crate::error::{ErrorCode, Violation};
use crate::event::{Event, StreamId};
use crate::frame::settings::{Settings, write_ack};
use crate::frame::{FrameHead, Kind, flags, ping, priority, reset, window_update};

impl Connection {
    pub(super) fn control_frame(
        &mut self,
        head: FrameHead,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event<'static>>, Violation> {
        self.shrink_output();
        match head.kind {
            Kind::WINDOW_UPDATE => self
                .window_update_frame(head.stream, fixed(payload), now)
                .map(|()| None),
            Kind::RST_STREAM => self.reset_frame(head.stream, fixed(payload), now).map(|()| None),
            Kind::PING => self.ping_frame(head, fixed(payload), now),
            Kind::SETTINGS if head.has(flags::ACK) => self.settings_ack_frame(now).map(|()| None),
            Kind::SETTINGS => self.settings_frame(payload, now).map(|()| None),
            Kind::GOAWAY => self.go_away_frame(fixed(payload), now).map(Some),
            Kind::PRIORITY => self.priority_frame(head, payload, now).map(|()| None),
            _ => Ok(None),
        }
    }

    fn settings_frame(&mut self, payload: &[u8], now: Instant) -> Result<(), Violation> {
        self.spend_overhead(SETTINGS_COST, now)?;
        let settings = Settings::parse(payload)?;
        // RFC 9113 section 6.5.2: a server does not enable push.
        if self.role == Role::Client && settings.enable_push == Some(true) {
            return Err(Violation::SettingValue);
        }
        if let Some(bytes) = settings.stream_window_bytes {
            self.change_stream_windows(bytes)?;
        }
        if let Some(bytes) = settings.header_table_bytes {
            self.encoder.set_table_bound(bytes);
        }
        self.peer.frame_bytes_max = settings.frame_bytes_max.unwrap_or(self.peer.frame_bytes_max);
        self.peer.header_list_bytes_max = settings.header_list_bytes_max.or(self.peer.header_list_bytes_max);
        if self.order == Order::SettingsFirst {
            // RFC 9113 section 6.5.2: without a value there is no limit.
            self.peer.streams_max = u32::MAX;
            self.order = Order::Any;
            self.timers.preface = None;
        }
        self.peer.streams_max = settings.streams_max.unwrap_or(self.peer.streams_max);
        write_ack(&mut self.output);
        Ok(())
    }

    /// Applies a new initial window to all streams (RFC 9113 section 6.9.2).
    fn change_stream_windows(&mut self, bytes: u32) -> Result<(), Violation> {
        let delta = i64::from(bytes) - i64::from(self.peer.stream_window);
        self.peer.stream_window = bytes;
        let (mut opened, mut overflow) = (false, false);
        self.streams
            .for_each_active(|stream| match grow(&mut stream.send_window, delta) {
                Grown::Opened => opened |= stream.send != Half::Closed,
                Grown::Overflow => overflow = true,
                Grown::Unchanged => {}
            });
        if overflow {
            return Err(Violation::SettingWindow);
        }
        if opened {
            self.notices.push_back(Notice::Writable {
                key: None,
                stream: StreamId::CONNECTION,
            });
        }
        Ok(())
    }

    /// The peer goes by our SETTINGS from here on.
    fn settings_ack_frame(&mut self, now: Instant) -> Result<(), Violation> {
        if self.timers.settings.take().is_none() {
            return self.spend_overhead(FRAME_COST, now);
        }
        self.decoder
            .set_size_bound(self.config.header_table_bytes_max as usize);
        let bytes = self.config.stream_window_bytes;
        let surplus = (self.recv_window_initial - bytes) as i32;
        self.recv_window_initial = bytes;
        if surplus > 0 {
            self.streams
                .for_each_active(|stream| stream.recv_window -= surplus);
        }
        Ok(())
    }

    fn window_update_frame(
        &mut self,
        id: StreamId,
        payload: [u8; window_update::BYTES],
        now: Instant,
    ) -> Result<(), Violation> {
        let increment = window_update::parse(payload);
        if increment < WINDOW_UPDATE_FREE_BYTES {
            self.spend_overhead(FRAME_COST, now)?;
        }
        if id.is_connection() {
            return self.grow_connection_window(increment);
        }
        let Some(key) = self.streams.find(id) else {
            return self.frame_without_stream(id, now);
        };
        if increment == 0 {
            return self.stream_error(key, ErrorCode::PROTOCOL_ERROR, now);
        }
        let stream = &mut self.streams[key];
        match grow(&mut stream.send_window, i64::from(increment)) {
            Grown::Overflow => self.stream_error(key, ErrorCode::FLOW_CONTROL_ERROR, now),
            Grown::Opened if stream.send != Half::Closed => {
                self.notices.push_back(Notice::Writable {
                    key: Some(key),
                    stream: id,
                });
                Ok(())
            }
            Grown::Opened | Grown::Unchanged => Ok(()),
        }
    }

    fn grow_connection_window(&mut self, increment: u32) -> Result<(), Violation> {
        if increment == 0 {
            return Err(Violation::WindowIncrement);
        }
        match grow(&mut self.send_window, i64::from(increment)) {
            Grown::Overflow => Err(Violation::WindowOverflow),
            Grown::Opened => {
                self.notices.push_back(Notice::Writable {
                    key: None,
                    stream: StreamId::CONNECTION,
                });
                Ok(())
            }
            Grown::Unchanged => Ok(()),
        }
    }

    fn reset_frame(
        &mut self,
        id: StreamId,
        payload: [u8; reset::BYTES],
        now: Instant,
    ) -> Result<(), Violation> {
        let Some(key) = self.streams.find(id) else {
            return self.frame_without_stream(id, now);
        };
        let useless = self.role == Role::Server && !self.streams[key].useful;
        self.streams.close(key, Ending::Over);
        let code = reset::parse(payload);
        self.notices.push_back(Notice::Reset {
            key,
            stream: id,
            code,
            by_peer: true,
        });
        if useless && !self.budgets.resets.spend(1, now) {
            return Err(Violation::ResetFlood);
        }
        Ok(())
    }

    fn ping_frame(
        &mut self,
        head: FrameHead,
        payload: [u8; ping::BYTES],
        now: Instant,
    ) -> Result<Option<Event<'static>>, Violation> {
        if !head.has(flags::ACK) {
            self.spend_overhead(FRAME_COST, now)?;
            ping::write(&mut self.output, payload, true);
            return Ok(None);
        }
        if self.own_ping_answered(payload) {
            return Ok(None);
        }
        if self.pings_due == 0 {
            return self.spend_overhead(FRAME_COST, now).map(|()| None);
        }
        self.pings_due -= 1;
        Ok(Some(Event::Pong { payload }))
    }

    fn priority_frame(&mut self, head: FrameHead, payload: &[u8], now: Instant) -> Result<(), Violation> {
        self.spend_overhead(FRAME_COST, now)?;
        let fields = if head.len as usize == priority::BYTES {
            payload.first_chunk()
        } else {
            None
        };
        let (code, violation) = match fields {
            None => (ErrorCode::FRAME_SIZE_ERROR, Violation::FrameLength),
            Some(fields) if priority::dependency(fields) == head.stream => {
                (ErrorCode::PROTOCOL_ERROR, Violation::SelfDependency)
            }
            Some(_) => return Ok(()),
        };
        match self.streams.find(head.stream) {
            Some(key) => self.stream_error(key, code, now),
            // RST_STREAM is not allowed on an idle stream.
            None if self.is_idle(head.stream) => Err(violation),
            None => Ok(()),
        }
    }

    /// WINDOW_UPDATE or RST_STREAM on a stream that is not open: late ones are ignored (RFC 9113 section 5.1).
    fn frame_without_stream(&mut self, id: StreamId, now: Instant) -> Result<(), Violation> {
        if self.is_idle(id) {
            return Err(Violation::IdleStream);
        }
        self.spend_overhead(FRAME_COST, now)
    }

    /// Answers a rule broken on an open stream: RST_STREAM to the peer, a notice to the application.
    #[cold]
    pub(super) fn stream_error(
        &mut self,
        key: StreamKey,
        code: ErrorCode,
        now: Instant,
    ) -> Result<(), Violation> {
        let stream = self.streams[key].id;
        self.streams.close(key, Ending::Cut);
        reset::write(&mut self.output, stream, code);
        self.notices.push_back(Notice::Reset {
            key,
            stream,
            code,
            by_peer: false,
        });
        self.spend_stream_error(now)
    }

    pub(super) fn spend_stream_error(&mut self, now: Instant) -> Result<(), Violation> {
        if self.budgets.stream_errors.spend(1, now) {
            Ok(())
        } else {
            Err(Violation::ErrorFlood)
        }
    }

    /// Resets a stream that the application never knew.
    pub(super) fn refuse(&mut self, id: StreamId, code: ErrorCode) {
        reset::write(&mut self.output, id, code);
        self.streams.remember(id, Ending::Cut);
    }
}

/// The payload of a frame whose length has been checked.
fn fixed<const N: usize>(payload: &[u8]) -> [u8; N] {
    payload.try_into().expect("check_head checked the length")
}
