//! Error codes of the protocol, and the errors of this crate grouped by who can recover.

use std::fmt;

/// An error code of RFC 9113 section 7, as RST_STREAM and GOAWAY carry it. Unknown numbers are kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(u32);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        impl ErrorCode {
            $($(#[$doc])* pub const $name: Self = Self($number);)*

            /// The code's name in RFC 9113, or `None` if it has none.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    /// Graceful: nothing went wrong.
    NO_ERROR = 0x0;
    /// A rule of the protocol was broken that has no code of its own.
    PROTOCOL_ERROR = 0x1;
    /// A fault of the endpoint itself.
    INTERNAL_ERROR = 0x2;
    /// A flow-control window was exceeded or overflowed.
    FLOW_CONTROL_ERROR = 0x3;
    /// SETTINGS were not acknowledged in time.
    SETTINGS_TIMEOUT = 0x4;
    /// A frame came for a stream or direction that is closed.
    STREAM_CLOSED = 0x5;
    /// A frame has a size its type does not allow.
    FRAME_SIZE_ERROR = 0x6;
    /// The stream was refused before anything was done for it: safe to try again.
    REFUSED_STREAM = 0x7;
    /// The stream is no longer needed.
    CANCEL = 0x8;
    /// The header compression state cannot be kept.
    COMPRESSION_ERROR = 0x9;
    /// The connection of a CONNECT request failed.
    CONNECT_ERROR = 0xa;
    /// The peer causes too much load.
    ENHANCE_YOUR_CALM = 0xb;
    /// The transport is not secure enough.
    INADEQUATE_SECURITY = 0xc;
    /// HTTP/1.1 is required.
    HTTP_1_1_REQUIRED = 0xd;
}

impl ErrorCode {
    /// The code of a number on the wire.
    pub const fn new(wire: u32) -> Self {
        Self(wire)
    }

    /// The number on the wire.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "error code {:#x}", self.0),
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The connection is over: the peer broke a rule that cannot be answered on one stream, or fell silent.
///
/// GOAWAY is already in [`output`](crate::Connection::output); write it and close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}: {violation}; the connection must be closed", .violation.code())]
pub struct Error {
    violation: Violation,
}

impl Error {
    /// The code that the peer is told.
    pub const fn code(&self) -> ErrorCode {
        self.violation.code()
    }

    /// What the peer did.
    pub const fn violation(&self) -> Violation {
        self.violation
    }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self { violation }
    }
}

/// What a peer did to lose the connection. Its text is sent along in GOAWAY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// RFC 9113 section 3.4.
    #[error("the connection does not start with the HTTP/2 preface")]
    Preface,
    /// RFC 9113 section 3.4.
    #[error("the first frame is not SETTINGS")]
    FirstFrame,
    /// RFC 9113 section 4.2.
    #[error("frame longer than SETTINGS_MAX_FRAME_SIZE")]
    FrameTooLong,
    /// RFC 9113 section 6.
    #[error("frame has a length that its type does not allow")]
    FrameLength,
    /// RFC 9113 section 6.
    #[error("frame on stream 0 that belongs to a stream")]
    NeedsStream,
    /// RFC 9113 section 6.
    #[error("frame on a stream that belongs to stream 0")]
    NeedsConnection,
    /// RFC 9113 sections 6.1 and 6.2.
    #[error("padding as long as the frame or longer")]
    Padding,
    /// RFC 9113 sections 4.3 and 6.10.
    #[error("header block interrupted, or CONTINUATION without one")]
    HeaderBlockOrder,
    /// RFC 9113 section 5.1.1.
    #[error("stream id that the peer may not open")]
    StreamId,
    /// RFC 9113 section 5.1.
    #[error("frame on an idle stream")]
    IdleStream,
    /// RFC 9113 section 5.1.
    #[error("HEADERS on a closed stream")]
    ClosedStream,
    /// RFC 7540 section 5.3.1.
    #[error("stream depends on itself")]
    SelfDependency,
    /// RFC 9113 section 6.5.2.
    #[error("setting with a value that is not allowed")]
    SettingValue,
    /// RFC 9113 section 6.5.2.
    #[error("SETTINGS_INITIAL_WINDOW_SIZE above 2^31-1, or it overflows a stream's window")]
    SettingWindow,
    /// RFC 9113 section 8.4.
    #[error("PUSH_PROMISE where push is not enabled")]
    Push,
    /// RFC 9113 section 6.9.
    #[error("WINDOW_UPDATE by zero on the connection")]
    WindowIncrement,
    /// RFC 9113 section 6.9.1.
    #[error("connection window above 2^31-1")]
    WindowOverflow,
    /// RFC 9113 section 6.9.1.
    #[error("more DATA than the connection window allows")]
    WindowExceeded,
    /// RFC 7541.
    #[error("header block cannot be decompressed: {0}")]
    Compression(#[from] crate::hpack::DecodeError),
    /// `header_block_bytes_max`.
    #[error("header block longer than this endpoint takes")]
    HeaderBlockBytes,
    /// `continuation_frames_max`.
    #[error("header block in more CONTINUATION frames than this endpoint takes")]
    HeaderBlockFrames,
    /// `settings_entries_max`.
    #[error("more settings in a frame than this endpoint takes")]
    SettingsEntries,
    /// `resets`: rapid reset.
    #[error("too many streams opened and reset before they were of use")]
    ResetFlood,
    /// `stream_errors`: "MadeYouReset".
    #[error("too many broken streams")]
    ErrorFlood,
    /// `refusals`.
    #[error("too many streams above SETTINGS_MAX_CONCURRENT_STREAMS")]
    RefusalFlood,
    /// `overhead`.
    #[error("too many frames that carry nothing")]
    OverheadFlood,
    /// `output_bytes_max`.
    #[error("the peer makes this endpoint answer but does not read the answers")]
    OutputFlood,
    /// `preface_timeout`.
    #[error("no preface and SETTINGS in time")]
    PrefaceTimeout,
    /// `settings_timeout`.
    #[error("SETTINGS not acknowledged in time")]
    SettingsTimeout,
    /// `frame_timeout`.
    #[error("frame or header block not completed in time")]
    FrameTimeout,
    /// `keepalive_timeout`.
    #[error("PING not answered in time")]
    KeepaliveTimeout,
    /// `idle_timeout`.
    #[error("no stream for too long")]
    Idle,
}

impl Violation {
    /// The code for GOAWAY (RFC 9113 section 7).
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Preface
            | Self::FirstFrame
            | Self::NeedsStream
            | Self::NeedsConnection
            | Self::Padding
            | Self::HeaderBlockOrder
            | Self::StreamId
            | Self::IdleStream
            | Self::SelfDependency
            | Self::SettingValue
            | Self::Push
            | Self::WindowIncrement => ErrorCode::PROTOCOL_ERROR,
            Self::FrameTooLong | Self::FrameLength => ErrorCode::FRAME_SIZE_ERROR,
            Self::ClosedStream => ErrorCode::STREAM_CLOSED,
            Self::SettingWindow | Self::WindowOverflow | Self::WindowExceeded => {
                ErrorCode::FLOW_CONTROL_ERROR
            }
            Self::Compression(_) => ErrorCode::COMPRESSION_ERROR,
            Self::HeaderBlockBytes
            | Self::HeaderBlockFrames
            | Self::SettingsEntries
            | Self::ResetFlood
            | Self::ErrorFlood
            | Self::RefusalFlood
            | Self::OverheadFlood
            | Self::OutputFlood => ErrorCode::ENHANCE_YOUR_CALM,
            Self::SettingsTimeout => ErrorCode::SETTINGS_TIMEOUT,
            Self::PrefaceTimeout | Self::FrameTimeout | Self::KeepaliveTimeout | Self::Idle => {
                ErrorCode::NO_ERROR
            }
        }
    }
}

/// Why [`open`](crate::Connection::open) could not open a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The peer's SETTINGS_MAX_CONCURRENT_STREAMS is reached.
    #[error("the peer allows {limit} concurrent streams, all in use; wait for one to end")]
    TooManyStreams {
        /// The peer's limit.
        limit: u32,
    },
    /// The connection is being shut down, or failed.
    #[error("the connection takes no more streams; open another connection")]
    GoingAway,
    /// All 2^30 ids have been used.
    #[error("the connection has no stream ids left; open another connection")]
    IdsExhausted,
    /// Only clients open streams.
    #[error("a server cannot open streams")]
    ServerRole,
}
