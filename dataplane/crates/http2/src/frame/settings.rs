//! SETTINGS (RFC 9113 section 6.5).

use bytes::{BufMut, BytesMut};

use crate::error::Violation;
use crate::event::StreamId;
use crate::frame::{FrameHead, Kind, flags};

/// Bytes of one setting.
pub const ENTRY_BYTES: usize = 6;
/// Largest window (RFC 9113 section 6.9.1).
pub const WINDOW_MAX: u32 = (1 << 31) - 1;
/// Window of a stream and of the connection until told otherwise (RFC 9113 section 6.9.2).
pub const WINDOW_DEFAULT: u32 = 65_535;
/// Least SETTINGS_MAX_FRAME_SIZE, and its default.
pub const FRAME_SIZE_MIN: u32 = 1 << 14;
/// Greatest SETTINGS_MAX_FRAME_SIZE.
pub const FRAME_SIZE_MAX: u32 = (1 << 24) - 1;
/// HPACK table size until told otherwise (RFC 7541).
pub const HEADER_TABLE_DEFAULT: u32 = 4096;

/// Identifier of a setting.
pub mod id {
    /// SETTINGS_HEADER_TABLE_SIZE.
    pub const HEADER_TABLE_SIZE: u16 = 0x1;
    /// SETTINGS_ENABLE_PUSH.
    pub const ENABLE_PUSH: u16 = 0x2;
    /// SETTINGS_MAX_CONCURRENT_STREAMS.
    pub const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    /// SETTINGS_INITIAL_WINDOW_SIZE.
    pub const INITIAL_WINDOW_SIZE: u16 = 0x4;
    /// SETTINGS_MAX_FRAME_SIZE.
    pub const MAX_FRAME_SIZE: u16 = 0x5;
    /// SETTINGS_MAX_HEADER_LIST_SIZE.
    pub const MAX_HEADER_LIST_SIZE: u16 = 0x6;
    /// SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441).
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;
    /// SETTINGS_NO_RFC7540_PRIORITIES (RFC 9218).
    pub const NO_RFC7540_PRIORITIES: u16 = 0x9;
}

/// What one SETTINGS frame says; a setting it does not mention is `None`. Where it repeats one, the last value counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of the HPACK table that the sender's decoder keeps.
    pub header_table_bytes: Option<u32>,
    /// Whether the sender takes PUSH_PROMISE.
    pub enable_push: Option<bool>,
    /// Streams that the sender lets its peer open.
    pub streams_max: Option<u32>,
    /// Initial window of streams, bytes.
    pub stream_window_bytes: Option<u32>,
    /// Largest frame payload that the sender takes.
    pub frame_bytes_max: Option<u32>,
    /// Largest header list that the sender takes.
    pub header_list_bytes_max: Option<u32>,
}

impl Settings {
    /// Reads a payload, whose length must be a multiple of [`ENTRY_BYTES`]. Unknown settings are ignored.
    ///
    /// # Errors
    /// If a value is not allowed by RFC 9113 section 6.5.2, RFC 8441 or RFC 9218.
    pub fn parse(payload: &[u8]) -> Result<Self, Violation> {
        debug_assert!(payload.len().is_multiple_of(ENTRY_BYTES));
        let mut settings = Self::default();
        for entry in payload.chunks_exact(ENTRY_BYTES) {
            let setting = u16::from_be_bytes([entry[0], entry[1]]);
            let value = u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]);
            settings.set(setting, value)?;
        }
        Ok(settings)
    }

    fn set(&mut self, setting: u16, value: u32) -> Result<(), Violation> {
        match setting {
            id::HEADER_TABLE_SIZE => self.header_table_bytes = Some(value),
            id::ENABLE_PUSH if value > 1 => return Err(Violation::SettingValue),
            id::ENABLE_PUSH => self.enable_push = Some(value == 1),
            id::MAX_CONCURRENT_STREAMS => self.streams_max = Some(value),
            id::INITIAL_WINDOW_SIZE if value > WINDOW_MAX => return Err(Violation::SettingWindow),
            id::INITIAL_WINDOW_SIZE => self.stream_window_bytes = Some(value),
            id::MAX_FRAME_SIZE if !(FRAME_SIZE_MIN..=FRAME_SIZE_MAX).contains(&value) => {
                return Err(Violation::SettingValue);
            }
            id::MAX_FRAME_SIZE => self.frame_bytes_max = Some(value),
            id::MAX_HEADER_LIST_SIZE => self.header_list_bytes_max = Some(value),
            id::ENABLE_CONNECT_PROTOCOL | id::NO_RFC7540_PRIORITIES if value > 1 => {
                return Err(Violation::SettingValue);
            }
            _ => {}
        }
        Ok(())
    }

    /// Writes the frame.
    pub fn write(&self, out: &mut BytesMut) {
        let entries = [
            (id::HEADER_TABLE_SIZE, self.header_table_bytes),
            (id::ENABLE_PUSH, self.enable_push.map(u32::from)),
            (id::MAX_CONCURRENT_STREAMS, self.streams_max),
            (id::INITIAL_WINDOW_SIZE, self.stream_window_bytes),
            (id::MAX_FRAME_SIZE, self.frame_bytes_max),
            (id::MAX_HEADER_LIST_SIZE, self.header_list_bytes_max),
        ];
        let count = entries.iter().filter(|(_, value)| value.is_some()).count();
        let len = (count * ENTRY_BYTES) as u32;
        let head = FrameHead {
            len,
            kind: Kind::SETTINGS,
            flags: 0,
            stream: StreamId::CONNECTION,
        };
        out.put_slice(&head.to_bytes());
        for (setting, value) in entries {
            if let Some(value) = value {
                out.put_u16(setting);
                out.put_u32(value);
            }
        }
    }
}

/// Writes the acknowledgement of the peer's settings.
pub fn write_ack(out: &mut BytesMut) {
    let head = FrameHead {
        len: 0,
        kind: Kind::SETTINGS,
        flags: flags::ACK,
        stream: StreamId::CONNECTION,
    };
    out.put_slice(&head.to_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(setting: u16, value: u32) -> Vec<u8> {
        [&setting.to_be_bytes()[..], &value.to_be_bytes()[..]].concat()
    }

    #[test]
    fn what_is_written_is_read() {
        let settings = Settings {
            header_table_bytes: Some(0),
            enable_push: Some(false),
            streams_max: Some(7),
            stream_window_bytes: Some(WINDOW_MAX),
            frame_bytes_max: Some(FRAME_SIZE_MAX),
            header_list_bytes_max: None,
        };
        let mut out = BytesMut::new();
        settings.write(&mut out);
        assert_eq!(&out[..9], b"\0\0\x1e\x04\0\0\0\0\0");
        assert_eq!(Settings::parse(&out[9..]), Ok(settings));
    }

    #[test]
    fn values_out_of_range_are_refused_and_unknown_settings_ignored() {
        assert_eq!(Settings::parse(&entry(2, 2)), Err(Violation::SettingValue));
        assert_eq!(Settings::parse(&entry(4, 1 << 31)), Err(Violation::SettingWindow));
        assert_eq!(Settings::parse(&entry(5, 16_383)), Err(Violation::SettingValue));
        assert_eq!(Settings::parse(&entry(5, 1 << 24)), Err(Violation::SettingValue));
        assert_eq!(Settings::parse(&entry(8, 2)), Err(Violation::SettingValue));
        assert_eq!(Settings::parse(&entry(0xff, u32::MAX)), Ok(Settings::default()));
    }

    #[test]
    fn the_last_value_counts() {
        let payload = [entry(4, 1), entry(4, 2)].concat();
        assert_eq!(Settings::parse(&payload).unwrap().stream_window_bytes, Some(2));
    }
}
