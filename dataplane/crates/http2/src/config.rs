//! Every limit and setting of a connection.

use std::time::Duration;

use crate::frame::settings::{FRAME_SIZE_MAX, FRAME_SIZE_MIN, WINDOW_MAX};

/// A budget against work that earns nothing: `burst` units at once, refilled by `per_second` units each second.
///
/// # How floods are told from load
///
/// A busy peer and an abusive one send the same number of frames; they differ in what the frames are for. So nothing
/// here limits a rate of frames. Each kind of abuse *spends* from a budget, useful work *earns* it back, and time
/// refills it slowly, so that the odd client never gets near zero and a flood gets there in milliseconds:
///
/// | budget | spends | earns |
/// |---|---|---|
/// | `resets` | RST_STREAM for a stream on which this end had not sent any body or its end | a stream that ends in order |
/// | `stream_errors` | a stream error that makes this end send RST_STREAM ("MadeYouReset") | |
/// | `refusals` | a stream above SETTINGS_MAX_CONCURRENT_STREAMS | |
/// | `overhead` | PING, SETTINGS, PRIORITY, unknown types, DATA of less than 5 bytes that does not end its stream, WINDOW_UPDATE of little, frames on closed streams | body bytes in either direction, streams opened |
///
/// An exhausted budget ends the connection with ENHANCE_YOUR_CALM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Units that may be spent at once. The budget never holds more.
    pub burst: u32,
    /// Units that come back each second.
    pub per_second: u32,
}

/// All limits and settings of a connection. Share it between connections with `Arc`.
///
/// The defaults are those of a server; [`Config::client`] gives those of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Bytes a peer may send on a stream ahead of the application (SETTINGS_INITIAL_WINDOW_SIZE). Default 1 MiB: covers
    /// 10 Gbit/s at 0.8 ms. Cap 2^31-1.
    pub stream_window_bytes: u32,
    /// Bytes a peer may send on all streams ahead of this layer. Default 4 MiB: several streams at full window. At least
    /// 65 535 (HTTP/2 has no way to announce less), cap 2^31-1.
    pub connection_window_bytes: u32,
    /// Streams a peer may have open (SETTINGS_MAX_CONCURRENT_STREAMS, always announced). Default 2048: a thousand agents
    /// behind one connection with room. Cap 2^20, since each costs memory.
    pub streams_max: u32,
    /// Largest frame payload taken (SETTINGS_MAX_FRAME_SIZE). Default 16 384, the least RFC 9113 allows: bodies are not
    /// buffered, so that a larger one saves little. Cap 2^24-1.
    pub frame_bytes_max: u32,
    /// Largest header list taken, as RFC 9113 section 6.5.2 counts it (SETTINGS_MAX_HEADER_LIST_SIZE). Default 16 KiB:
    /// twice what gRPC libraries allow by default. Cap 16 MiB. A larger request is decoded, to keep the compression
    /// state, and answered with 431; a larger response or trailer resets its stream with ENHANCE_YOUR_CALM.
    pub header_list_bytes_max: u32,
    /// Largest compressed header block taken over all its frames; more ends the connection. Default 64 KiB: room to
    /// decode and refuse politely four times what is allowed. Cap 16 MiB.
    pub header_block_bytes_max: u32,
    /// CONTINUATION frames of one header block. Default 32: `header_block_bytes_max` in full frames needs 4. Cap 4096.
    pub continuation_frames_max: u32,
    /// HPACK table offered to the peer's encoder (SETTINGS_HEADER_TABLE_SIZE). Default 4096, as RFC 7541. Cap 64 KiB:
    /// it is memory of each connection.
    pub header_table_bytes_max: u32,
    /// Settings in one SETTINGS frame. Default 64: RFC 9113 and its extensions define under 10. Cap 1024.
    pub settings_entries_max: u32,
    /// Control bytes that may wait in `output()` while more input is taken. Default 512 KiB: response headers and
    /// trailers of all `streams_max` streams. At least 16 KiB, cap 64 MiB.
    pub output_bytes_max: u32,
    /// Streams that this end reset and remembers, so that what the peer sent before it knew is ignored. Default 1024 at 4
    /// bytes, allocated as used: half of `streams_max` cut off at once. Cap 65 536.
    pub closed_streams_max: u32,
    /// Streams reset by the peer before use ("rapid reset"). Default 1000, 100 each second: five times the burst of
    /// quick cancels that must be served.
    pub resets: Allowance,
    /// Streams that the peer breaks. Default 100, 10 each second: a correct client breaks none.
    pub stream_errors: Allowance,
    /// Streams above the limit. Default 10 000, 1000 each second: a client that opens before it has read SETTINGS.
    pub refusals: Allowance,
    /// Frames that carry nothing. Default 2000, 200 each second: credit, pings and settings of an idle but honest client
    /// are a few each second.
    pub overhead: Allowance,
    /// Time for preface and SETTINGS to arrive. Default 10 s. Cap 1 h.
    pub preface_timeout: Duration,
    /// Time for our SETTINGS to be acknowledged. Default 10 s. Cap 1 h.
    pub settings_timeout: Duration,
    /// Time for a frame or header block to be completed; for DATA, time between two pieces. Default 10 s. Cap 1 h.
    pub frame_timeout: Duration,
    /// Silence after which the peer is asked for a sign of life by PING; `None`: never. Default 60 s. At least 1 s.
    pub keepalive_interval: Option<Duration>,
    /// Time for that PING (or the one of a drain) to be answered. Default 20 s. Cap 1 h.
    pub keepalive_timeout: Duration,
    /// Time without a stream after which the connection is closed; `None`: never. Default 30 min: well above the
    /// 5 min of idle gRPC channels. At least 1 s.
    pub idle_timeout: Option<Duration>,
    /// Whether outgoing header strings are Huffman coded where that is shorter. Default true.
    pub huffman: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 4 << 20,
            streams_max: 2048,
            frame_bytes_max: FRAME_SIZE_MIN,
            header_list_bytes_max: 16 << 10,
            header_block_bytes_max: 64 << 10,
            continuation_frames_max: 32,
            header_table_bytes_max: 4096,
            settings_entries_max: 64,
            output_bytes_max: 512 << 10,
            closed_streams_max: 1024,
            resets: Allowance {
                burst: 1000,
                per_second: 100,
            },
            stream_errors: Allowance {
                burst: 100,
                per_second: 10,
            },
            refusals: Allowance {
                burst: 10_000,
                per_second: 1000,
            },
            overhead: Allowance {
                burst: 2000,
                per_second: 200,
            },
            preface_timeout: Duration::from_secs(10),
            settings_timeout: Duration::from_secs(10),
            frame_timeout: Duration::from_secs(10),
            keepalive_interval: Some(Duration::from_secs(60)),
            keepalive_timeout: Duration::from_secs(20),
            idle_timeout: Some(Duration::from_secs(30 * 60)),
            huffman: true,
        }
    }
}

impl Config {
    /// The defaults of a client: as those of a server, but without an idle timeout, which is the server's to set.
    pub fn client() -> Self {
        Self {
            idle_timeout: None,
            ..Self::default()
        }
    }

    /// Checks every field against its bounds.
    ///
    /// # Errors
    /// The first field that is out of bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let numbers = [
            ("stream_window_bytes", self.stream_window_bytes, 1, WINDOW_MAX),
            (
                "connection_window_bytes",
                self.connection_window_bytes,
                65_535,
                WINDOW_MAX,
            ),
            ("streams_max", self.streams_max, 0, 1 << 20),
            (
                "frame_bytes_max",
                self.frame_bytes_max,
                FRAME_SIZE_MIN,
                FRAME_SIZE_MAX,
            ),
            ("header_list_bytes_max", self.header_list_bytes_max, 256, 16 << 20),
            (
                "header_block_bytes_max",
                self.header_block_bytes_max,
                256,
                16 << 20,
            ),
            ("continuation_frames_max", self.continuation_frames_max, 0, 4096),
            ("header_table_bytes_max", self.header_table_bytes_max, 0, 64 << 10),
            ("settings_entries_max", self.settings_entries_max, 16, 1024),
            ("output_bytes_max", self.output_bytes_max, 16 << 10, 64 << 20),
            ("closed_streams_max", self.closed_streams_max, 1, 65_536),
        ];
        for (key, value, min, max) in numbers {
            if !(min..=max).contains(&value) {
                return Err(ConfigError::Number { key, value, min, max });
            }
        }
        let times = [
            (
                "preface_timeout",
                Some(self.preface_timeout),
                Duration::from_millis(1),
                HOUR,
            ),
            (
                "settings_timeout",
                Some(self.settings_timeout),
                Duration::from_millis(1),
                HOUR,
            ),
            (
                "frame_timeout",
                Some(self.frame_timeout),
                Duration::from_millis(1),
                HOUR,
            ),
            (
                "keepalive_timeout",
                Some(self.keepalive_timeout),
                Duration::from_millis(1),
                HOUR,
            ),
            (
                "keepalive_interval",
                self.keepalive_interval,
                Duration::from_secs(1),
                DAY,
            ),
            ("idle_timeout", self.idle_timeout, Duration::from_secs(1), DAY),
        ];
        for (key, value, min, max) in times {
            if let Some(value) = value
                && !(min..=max).contains(&value)
            {
                return Err(ConfigError::Time { key, value, min, max });
            }
        }
        Ok(())
    }
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A field of [`Config`] is out of bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A number.
    #[error("http2 {key} is {value}; allowed are {min} to {max}")]
    Number {
        /// The field.
        key: &'static str,
        /// What it is.
        value: u32,
        /// Least value allowed.
        min: u32,
        /// Greatest value allowed.
        max: u32,
    },
    /// A time.
    #[error("http2 {key} is {value:?}; allowed are {min:?} to {max:?}")]
    Time {
        /// The field.
        key: &'static str,
        /// What it is.
        value: Duration,
        /// Least value allowed.
        min: Duration,
        /// Greatest value allowed.
        max: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
        assert_eq!(Config::client().validate(), Ok(()));
    }

    #[test]
    fn a_field_out_of_bounds_is_named() {
        let config = Config {
            frame_bytes_max: 1 << 24,
            ..Config::default()
        };
        let error = config.validate().unwrap_err().to_string();
        assert_eq!(
            error,
            "http2 frame_bytes_max is 16777216; allowed are 16384 to 16777215"
        );
        let config = Config {
            idle_timeout: Some(Duration::ZERO),
            ..Config::default()
        };
        assert!(
            config
                .validate()
                .unwrap_err()
                .to_string()
                .contains("idle_timeout")
        );
    }
}
