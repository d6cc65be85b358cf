//! The mock peer: frames written by hand, and what a connection says read back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use ringgate_http2::frame::{self, FrameHead, Kind, PREFACE, flags, settings::Settings};
use ringgate_http2::hpack::{Decoder, Encoder};
use ringgate_http2::{
    Config, Connection, Error, ErrorCode, Event, Header, HeaderList, StreamId, StreamKey, Violation,
};

/// A frame as raw bytes.
pub(crate) fn raw(kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let head = FrameHead {
        len: payload.len() as u32,
        kind,
        flags,
        stream: StreamId::new(stream),
    };
    [&head.to_bytes()[..], payload].concat()
}

pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let headers: Vec<_> = fields
        .iter()
        .map(|(n, v)| Header::new(n.as_bytes(), v.as_bytes()))
        .collect();
    let mut out = BytesMut::new();
    // Names that are not lower case are wanted in some tests, which the encoder refuses in debug builds.
    if fields
        .iter()
        .any(|(name, _)| name.is_empty() || name.bytes().any(|byte| byte.is_ascii_uppercase()))
    {
        let mut raw = Vec::new();
        for (name, value) in fields {
            raw.push(0);
            raw.push(name.len() as u8);
            raw.extend_from_slice(name.as_bytes());
            raw.push(value.len() as u8);
            raw.extend_from_slice(value.as_bytes());
        }
        return raw;
    }
    Encoder::new(true).encode(&headers, &mut out);
    out.to_vec()
}

pub(crate) const REQUEST: [(&str, &str); 4] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/s/m"),
    (":authority", "gate"),
];

pub(crate) fn request_with(extra: &[(&str, &str)]) -> Vec<u8> {
    block(&[&REQUEST[..], extra].concat())
}

/// HEADERS with a whole request.
pub(crate) fn request(stream: u32, end_stream: bool) -> Vec<u8> {
    headers(stream, &request_with(&[]), end_stream)
}

pub(crate) fn headers(stream: u32, block: &[u8], end_stream: bool) -> Vec<u8> {
    let end = if end_stream { flags::END_STREAM } else { 0 };
    raw(Kind::HEADERS, flags::END_HEADERS | end, stream, block)
}

pub(crate) fn data(stream: u32, payload: &[u8], end_stream: bool) -> Vec<u8> {
    raw(
        Kind::DATA,
        if end_stream { flags::END_STREAM } else { 0 },
        stream,
        payload,
    )
}

pub(crate) fn rst(stream: u32, code: ErrorCode) -> Vec<u8> {
    raw(Kind::RST_STREAM, 0, stream, &code.get().to_be_bytes())
}

pub(crate) fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    raw(Kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

pub(crate) fn settings(entries: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = entries
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    raw(Kind::SETTINGS, 0, 0, &payload)
}

pub(crate) fn settings_ack() -> Vec<u8> {
    raw(Kind::SETTINGS, flags::ACK, 0, &[])
}

pub(crate) fn ping(payload: &[u8; 8], ack: bool) -> Vec<u8> {
    raw(Kind::PING, if ack { flags::ACK } else { 0 }, 0, payload)
}

pub(crate) fn go_away(last: u32, code: ErrorCode) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::go_away::write(&mut out, StreamId::new(last), code, b"bye");
    out.to_vec()
}

/// An event the application heard, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Headers {
        key: StreamKey,
        stream: u32,
        headers: HeaderList,
        end: bool,
    },
    Informational {
        stream: u32,
        headers: HeaderList,
    },
    Data {
        stream: u32,
        payload: Vec<u8>,
        end: bool,
    },
    Trailers {
        stream: u32,
        headers: HeaderList,
    },
    Reset {
        stream: u32,
        code: ErrorCode,
        by_peer: bool,
    },
    Writable(Option<StreamKey>),
    GoAway {
        last: u32,
        code: ErrorCode,
    },
    Pong([u8; 8]),
}

impl From<Event<'_>> for Heard {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Headers {
                key,
                stream,
                headers,
                end_stream,
            } => Self::Headers {
                key,
                stream: stream.get(),
                headers,
                end: end_stream,
            },
            Event::Informational { stream, headers, .. } => Self::Informational {
                stream: stream.get(),
                headers,
            },
            Event::Data {
                stream,
                payload,
                end_stream,
                ..
            } => Self::Data {
                stream: stream.get(),
                payload: payload.to_vec(),
                end: end_stream,
            },
            Event::Trailers { stream, headers, .. } => Self::Trailers {
                stream: stream.get(),
                headers,
            },
            Event::Reset {
                stream,
                code,
                by_peer,
                ..
            } => Self::Reset {
                stream: stream.get(),
                code,
                by_peer,
            },
            Event::Writable { key } => Self::Writable(key),
            Event::GoAway { last_stream, code } => Self::GoAway {
                last: last_stream.get(),
                code,
            },
            Event::Pong { payload } => Self::Pong(payload),
            other => panic!("an event that the tests do not know: {other:?}"),
        }
    }
}

/// A frame the connection said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Settings(Settings),
    SettingsAck,
    Headers {
        stream: u32,
        fields: Vec<(String, String)>,
        end: bool,
    },
    WindowUpdate {
        stream: u32,
        increment: u32,
    },
    Reset {
        stream: u32,
        code: ErrorCode,
    },
    Ping([u8; 8]),
    PingAck([u8; 8]),
    GoAway {
        last: u32,
        code: ErrorCode,
    },
}

pub(crate) fn said_headers(stream: u32, fields: &[(&str, &str)], end: bool) -> Said {
    let fields = fields
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    Said::Headers { stream, fields, end }
}

/// A connection in conversation.
pub(crate) struct Conversation {
    pub(crate) connection: Connection,
    pub(crate) now: Instant,
    decoder: Decoder,
}

impl Conversation {
    /// A server after the exchange of preface and SETTINGS.
    pub(crate) fn server() -> Self {
        Self::server_with(Config::default())
    }

    pub(crate) fn server_with(config: Config) -> Self {
        let mut conversation = Self::new_server(config);
        conversation.peer_says(&[PREFACE, &settings(&[])[..], &settings_ack()[..]].concat());
        conversation.said();
        conversation
    }

    /// A server that has read nothing yet.
    pub(crate) fn new_server(config: Config) -> Self {
        let now = Instant::now();
        Self {
            connection: Connection::server(Arc::new(config), now),
            now,
            decoder: Decoder::new(4096),
        }
    }

    /// A client after the exchange of preface and SETTINGS.
    pub(crate) fn client() -> Self {
        Self::client_with(Config::client())
    }

    pub(crate) fn client_with(config: Config) -> Self {
        let now = Instant::now();
        let mut conversation = Self {
            connection: Connection::client(Arc::new(config), now),
            now,
            decoder: Decoder::new(4096),
        };
        conversation.peer_says(&[&settings(&[])[..], &settings_ack()[..]].concat());
        assert_eq!(
            conversation.connection.output().split_to(PREFACE.len()),
            &PREFACE[..]
        );
        conversation.said();
        conversation
    }

    /// The peer's bytes go in; what the application hears comes out.
    pub(crate) fn try_peer_says(&mut self, bytes: &[u8]) -> Result<Vec<Heard>, Error> {
        let mut input = bytes;
        let mut heard = Vec::new();
        while let Some(event) = self.connection.receive(&mut input, self.now)? {
            heard.push(Heard::from(event));
        }
        assert!(input.is_empty(), "all input is consumed");
        Ok(heard)
    }

    #[track_caller]
    pub(crate) fn peer_says(&mut self, bytes: &[u8]) -> Vec<Heard> {
        self.try_peer_says(bytes)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// The peer's bytes end the connection. GOAWAY must be the last thing said.
    #[track_caller]
    pub(crate) fn peer_loses_connection(&mut self, bytes: &[u8]) -> Violation {
        let mut input = bytes;
        let error = loop {
            match self.connection.receive(&mut input, self.now) {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the connection goes on; it said {:?}", self.said()),
                Err(error) => break error,
            }
        };
        let last = self.said().pop();
        assert!(
            matches!(last, Some(Said::GoAway { code, .. }) if code == error.code()),
            "{last:?} does not tell {error}"
        );
        assert_eq!(
            self.peer_says(&request(101, true)),
            [],
            "nothing is read any more"
        );
        assert!(self.connection.is_drained());
        error.violation()
    }

    /// Opens a stream by a request without end, and gives its key.
    #[track_caller]
    pub(crate) fn peer_opens(&mut self, stream: u32) -> StreamKey {
        match &self.peer_says(&request(stream, false))[..] {
            [Heard::Headers { key, .. }] => *key,
            other => panic!("{other:?} is not one request"),
        }
    }

    /// What the connection has said since last asked. DATA is the application's own.
    #[track_caller]
    pub(crate) fn said(&mut self) -> Vec<Said> {
        let bytes = self.connection.output().split();
        let mut rest = &bytes[..];
        let mut said = Vec::new();
        let mut fragments: Vec<u8> = Vec::new();
        let mut end = false;
        while let Some((head, tail)) = rest.split_first_chunk() {
            let head = FrameHead::parse(head);
            let (payload, tail) = tail.split_at(head.len as usize);
            rest = tail;
            let stream = head.stream.get();
            match head.kind {
                Kind::HEADERS | Kind::CONTINUATION => {
                    if head.kind == Kind::HEADERS {
                        end = head.has(flags::END_STREAM);
                    }
                    fragments.extend_from_slice(payload);
                    if head.has(flags::END_HEADERS) {
                        let fields = self.decoded(&std::mem::take(&mut fragments));
                        said.push(Said::Headers { stream, fields, end });
                    }
                }
                _ => said.push(simple(&head, payload)),
            }
        }
        assert!(rest.is_empty(), "whole frames are said");
        said
    }

    fn decoded(&mut self, block: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.decoder
            .decode(block, |header| {
                fields.push((text(header.name), text(header.value)))
            })
            .unwrap();
        fields
    }

    pub(crate) fn later(&mut self, by: Duration) {
        self.now += by;
    }
}

fn simple(head: &FrameHead, payload: &[u8]) -> Said {
    let stream = head.stream.get();
    match head.kind {
        Kind::SETTINGS if head.has(flags::ACK) => Said::SettingsAck,
        Kind::SETTINGS => Said::Settings(Settings::parse(payload).unwrap()),
        Kind::WINDOW_UPDATE => Said::WindowUpdate {
            stream,
            increment: frame::window_update::parse(payload.try_into().unwrap()),
        },
        Kind::RST_STREAM => Said::Reset {
            stream,
            code: frame::reset::parse(payload.try_into().unwrap()),
        },
        Kind::PING if head.has(flags::ACK) => Said::PingAck(payload.try_into().unwrap()),
        Kind::PING => Said::Ping(payload.try_into().unwrap()),
        Kind::GOAWAY => {
            let (last, code) = frame::go_away::parse(payload[..8].try_into().unwrap());
            Said::GoAway {
                last: last.get(),
                code,
            }
        }
        other => panic!("{other:?} is not said here"),
    }
}

pub(crate) fn heard_data(stream: u32, payload: &[u8], end: bool) -> Heard {
    Heard::Data {
        stream,
        payload: payload.to_vec(),
        end,
    }
}

pub(crate) fn heard_reset(stream: u32, code: ErrorCode, by_peer: bool) -> Heard {
    Heard::Reset {
        stream,
        code,
        by_peer,
    }
}
