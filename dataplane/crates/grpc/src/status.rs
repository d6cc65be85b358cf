//! How a call ends: a code and a sentence.

use std::{borrow::Cow, fmt};

use ringgate_http2::{ErrorCode, HeaderList};

use crate::percent;

/// Longest status message put on the wire, in bytes before percent-encoding. Clients bound a whole header list, 8 KiB by
/// default in most libraries; three times this, and some custom metadata, fit.
pub const MESSAGE_BYTES_MAX: usize = 1024;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal;)*) => {
        /// The status codes of gRPC
        /// (<https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Code {
            $($(#[$doc])* $variant = $number,)*
        }

        impl Code {
            /// All codes in the order of their numbers.
            pub const ALL: [Self; 17] = [$(Self::$variant,)*];

            /// The code's name in the specification, as in `NOT_FOUND`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The code's number as `grpc-status` has it, in decimal.
            pub(crate) const fn digits(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($number),)*
                }
            }
        }
    };
}

codes! {
    /// The call did what it was to do.
    Ok = 0, "OK";
    /// The caller gave up.
    Cancelled = 1, "CANCELLED";
    /// Something else; also every number that is not in this list.
    Unknown = 2, "UNKNOWN";
    /// The request makes no sense, whatever the state of the server.
    InvalidArgument = 3, "INVALID_ARGUMENT";
    /// Time was up first.
    DeadlineExceeded = 4, "DEADLINE_EXCEEDED";
    /// There is no such thing.
    NotFound = 5, "NOT_FOUND";
    /// What was to be created is there already.
    AlreadyExists = 6, "ALREADY_EXISTS";
    /// The caller is known and may not do this.
    PermissionDenied = 7, "PERMISSION_DENIED";
    /// A limit is reached.
    ResourceExhausted = 8, "RESOURCE_EXHAUSTED";
    /// Not in the server's present state.
    FailedPrecondition = 9, "FAILED_PRECONDITION";
    /// Lost against something concurrent.
    Aborted = 10, "ABORTED";
    /// Past the end.
    OutOfRange = 11, "OUT_OF_RANGE";
    /// The server has no such method, or does not support what was asked.
    Unimplemented = 12, "UNIMPLEMENTED";
    /// A rule that should always hold was broken.
    Internal = 13, "INTERNAL";
    /// Not now; trying again may help.
    Unavailable = 14, "UNAVAILABLE";
    /// Data is lost for good.
    DataLoss = 15, "DATA_LOSS";
    /// The caller is not known.
    Unauthenticated = 16, "UNAUTHENTICATED";
}

impl Code {
    /// The code of a number; [`Code::Unknown`] for a number that has none, as the specification asks of clients.
    pub fn from_number(number: u32) -> Self {
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        Self::ALL.get(index).copied().unwrap_or(Self::Unknown)
    }

    /// The code's number.
    pub const fn number(self) -> u32 {
        self as u32
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a call ends. As an error it is what the peer is told, so its message says what to do and holds no secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Status {
    code: Code,
    message: Cow<'static, str>,
}

impl Status {
    /// The call succeeded.
    pub const OK: Self = Self {
        code: Code::Ok,
        message: Cow::Borrowed(""),
    };

    /// A status from its code and message. A message longer than [`MESSAGE_BYTES_MAX`] is cut when it is sent.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The code.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The message; empty for most that are [`Code::Ok`].
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the call succeeded.
    pub const fn is_ok(&self) -> bool {
        matches!(self.code, Code::Ok)
    }

    /// Appends `grpc-status`, and `grpc-message` if there is one.
    pub fn append_to(&self, headers: &mut HeaderList) {
        headers.push(b"grpc-status", self.code.digits().as_bytes());
        if !self.message.is_empty() {
            let cut = self.message.floor_char_boundary(MESSAGE_BYTES_MAX);
            headers.push(b"grpc-message", percent::encode(&self.message[..cut]).as_bytes());
        }
    }

    /// The status in trailers, as a client reads it. Without a readable `grpc-status` it is [`Code::Unknown`].
    pub fn from_trailers(trailers: &HeaderList) -> Self {
        let number = trailers
            .get(b"grpc-status")
            .and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
        let Some(number) = number else {
            return Self::new(Code::Unknown, "the call ended without a grpc-status");
        };
        let message = trailers
            .get(b"grpc-message")
            .map(percent::decode)
            .unwrap_or_default();
        Self {
            code: Code::from_number(number),
            message: Cow::Owned(message),
        }
    }
}

impl From<ErrorCode> for Status {
    /// The status of a call whose stream the peer reset, as the gRPC protocol's "Errors" section maps it.
    fn from(reset: ErrorCode) -> Self {
        let code = match reset {
            ErrorCode::NO_ERROR
            | ErrorCode::PROTOCOL_ERROR
            | ErrorCode::INTERNAL_ERROR
            | ErrorCode::FLOW_CONTROL_ERROR
            | ErrorCode::SETTINGS_TIMEOUT
            | ErrorCode::FRAME_SIZE_ERROR
            | ErrorCode::COMPRESSION_ERROR
            | ErrorCode::CONNECT_ERROR => Code::Internal,
            ErrorCode::REFUSED_STREAM => Code::Unavailable,
            ErrorCode::CANCEL => Code::Cancelled,
            ErrorCode::ENHANCE_YOUR_CALM => Code::ResourceExhausted,
            ErrorCode::INADEQUATE_SECURITY => Code::PermissionDenied,
            _ => Code::Unknown,
        };
        Self::new(code, format!("the peer reset the stream with {reset}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(status: &Status) -> HeaderList {
        let mut trailers = HeaderList::new();
        status.append_to(&mut trailers);
        trailers
    }

    #[test]
    fn codes_keep_their_numbers() {
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code.number() as usize, number);
            assert_eq!(code.digits(), number.to_string());
            assert_eq!(Code::from_number(number as u32), code);
        }
        assert_eq!(Code::from_number(17), Code::Unknown);
        assert_eq!(Code::from_number(u32::MAX), Code::Unknown);
    }

    #[test]
    fn success_says_no_more_than_zero() {
        let trailers = sent(&Status::OK);
        assert_eq!(trailers.get(b"grpc-status"), Some(&b"0"[..]));
        assert_eq!(trailers.len(), 1);
    }

    #[test]
    fn a_message_survives_the_wire() {
        let status = Status::new(
            Code::Unknown,
            "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n",
        );
        let trailers = sent(&status);
        assert!(
            trailers
                .get(b"grpc-message")
                .unwrap()
                .iter()
                .all(|byte| (0x20..0x7f).contains(byte))
        );
        assert_eq!(Status::from_trailers(&trailers), status);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let status = Status::new(Code::Internal, "ü".repeat(MESSAGE_BYTES_MAX));
        let got = Status::from_trailers(&sent(&status));
        assert_eq!(got.message(), "ü".repeat(MESSAGE_BYTES_MAX / 2));
    }

    #[test]
    fn trailers_without_status_are_unknown() {
        assert_eq!(Status::from_trailers(&HeaderList::new()).code(), Code::Unknown);
        let mut trailers = HeaderList::new();
        trailers.push(b"grpc-status", b"five");
        assert_eq!(Status::from_trailers(&trailers).code(), Code::Unknown);
    }

    #[test]
    fn resets_have_a_status() {
        for (reset, code) in [
            (ErrorCode::NO_ERROR, Code::Internal),
            (ErrorCode::REFUSED_STREAM, Code::Unavailable),
            (ErrorCode::CANCEL, Code::Cancelled),
            (ErrorCode::ENHANCE_YOUR_CALM, Code::ResourceExhausted),
            (ErrorCode::INADEQUATE_SECURITY, Code::PermissionDenied),
            (ErrorCode::HTTP_1_1_REQUIRED, Code::Unknown),
            (ErrorCode::new(0x1234), Code::Unknown),
        ] {
            assert_eq!(Status::from(reset).code(), code, "{reset}");
        }
    }
}
