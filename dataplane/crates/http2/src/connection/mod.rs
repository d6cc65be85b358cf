//! A connection in server or client role.
//!
//! | file | what |
//! |---|---|
//! | `receive` | from bytes to frames: where in the input the connection stands |
//! | `body` | DATA that arrives |
//! | `message` | HEADERS and CONTINUATION that arrive |
//! | `control` | every other frame that arrives |
//! | `send` | what the application sends |
//! | `shutdown` | GOAWAY in both directions, drain, failure |
//! | `timers` | deadlines |
//! | `streams`, `flow`, `budget` | the state of the above |
//!
//! Invariants worth naming:
//!
//! * `streams` indexes exactly the streams that are open or half-closed; a key outlives its stream until `forget`.
//! * After a connection error nothing is read any more, and GOAWAY is the last thing in `output`.
//! * An event that did not come directly from the input at hand waits in `notices`, which holds at most one reset for each
//!   stream and one wake-up for each frame.

mod body;
mod budget;
mod control;
mod flow;
mod message;
mod receive;
mod send;
mod shutdown;
pub(crate) mod streams;
mod timers;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use crate::config::Config;
use crate::connection::budget::Budgets;
use crate::connection::flow::ConnectionWindow;
use crate::connection::message::HeaderBlock;
use crate::connection::receive::{DataFrame, Order, PartialHead, Reader};
use crate::connection::shutdown::Shutdown;
use crate::connection::streams::{StreamKey, Streams};
use crate::connection::timers::Timers;
use crate::error::ErrorCode;
use crate::event::StreamId;
use crate::frame::settings::{FRAME_SIZE_MIN, HEADER_TABLE_DEFAULT, Settings, WINDOW_DEFAULT};
use crate::frame::{PREFACE, window_update};
use crate::hpack::{Decoder, Encoder};

/// Streams a client opens before it knows the server's limit, which RFC 9113 leaves open: few enough to be refused none.
const STREAMS_BEFORE_SETTINGS: u32 = 100;

/// An `output` that is empty keeps at most this much memory.
const OUTPUT_KEPT_BYTES: usize = 1024;

/// Which end of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Server,
    Client,
}

/// What the peer's SETTINGS say.
#[derive(Debug)]
struct Peer {
    stream_window: u32,
    frame_bytes_max: u32,
    streams_max: u32,
    header_list_bytes_max: Option<u32>,
}

/// An event that waits to be told.
#[derive(Debug)]
enum Notice {
    Reset {
        key: StreamKey,
        stream: StreamId,
        code: ErrorCode,
        by_peer: bool,
    },
    Writable {
        key: Option<StreamKey>,
        stream: StreamId,
    },
}

/// An HTTP/2 connection without I/O.
///
/// # Order of output
///
/// What the connection writes itself lies in [`output`](Self::output); body bytes are written by the caller after the head
/// that [`data`](Self::data) returns. Both go out in the order in which they came to be: what lies in `output` when `data`
/// is called goes before that DATA frame, what is added later goes after it. (Otherwise trailers would overtake a body.)
#[derive(Debug)]
pub struct Connection {
    config: Arc<Config>,
    role: Role,
    reader: Reader,
    partial_head: PartialHead,
    data_frame: DataFrame,
    order: Order,
    /// The part of a frame other than DATA that has arrived, where the input ended within it.
    partial: Vec<u8>,
    block: HeaderBlock,
    streams: Streams,
    /// The highest stream that the peer has opened (server) or this end has (client).
    last_stream: StreamId,
    window: ConnectionWindow,
    /// Window that the peer believes streams to begin with.
    recv_window_initial: u32,
    send_window: i32,
    peer: Peer,
    decoder: Decoder,
    encoder: Encoder,
    budgets: Budgets,
    notices: VecDeque<Notice>,
    timers: Timers,
    /// PINGs of the application whose answer is due.
    pings_due: u32,
    shutdown: Shutdown,
    output: BytesMut,
}

impl Connection {
    /// The server's end of a new connection. SETTINGS are queued.
    ///
    /// # Panics
    /// If `config` is not [valid](Config::validate).
    pub fn server(config: Arc<Config>, now: Instant) -> Self {
        Self::new(Role::Server, config, now)
    }

    /// The client's end of a new connection. Preface and SETTINGS are queued; streams may be opened at once.
    ///
    /// # Panics
    /// If `config` is not [valid](Config::validate).
    pub fn client(config: Arc<Config>, now: Instant) -> Self {
        Self::new(Role::Client, config, now)
    }

    fn new(role: Role, config: Arc<Config>, now: Instant) -> Self {
        if let Err(error) = config.validate() {
            panic!("{error}");
        }
        let mut output = BytesMut::new();
        if role == Role::Client {
            output.extend_from_slice(PREFACE);
        }
        announced(&config, role).write(&mut output);
        let (window, increment) = ConnectionWindow::new(config.connection_window_bytes);
        if increment > 0 {
            window_update::write(&mut output, StreamId::CONNECTION, increment);
        }
        Self {
            role,
            reader: if role == Role::Server {
                Reader::Preface { matched: 0 }
            } else {
                Reader::Head
            },
            partial_head: PartialHead::default(),
            data_frame: DataFrame::NONE,
            order: Order::SettingsFirst,
            partial: Vec::new(),
            block: HeaderBlock::default(),
            streams: Streams::new(config.closed_streams_max as usize),
            last_stream: StreamId::CONNECTION,
            window,
            // Until our SETTINGS are acknowledged, the peer may go by the defaults.
            recv_window_initial: config.stream_window_bytes.max(WINDOW_DEFAULT),
            send_window: WINDOW_DEFAULT as i32,
            peer: Peer {
                stream_window: WINDOW_DEFAULT,
                frame_bytes_max: FRAME_SIZE_MIN,
                streams_max: STREAMS_BEFORE_SETTINGS,
                header_list_bytes_max: None,
            },
            decoder: Decoder::new(config.header_table_bytes_max.max(HEADER_TABLE_DEFAULT) as usize),
            encoder: Encoder::new(config.huffman),
            budgets: Budgets::new(&config, now),
            notices: VecDeque::new(),
            timers: Timers::new(&config, now),
            pings_due: 0,
            shutdown: Shutdown::No,
            output,
            config,
        }
    }

    /// Control bytes waiting to be written, in order. Take them with `split` or write and `clear` them; see
    /// [above](Self#order-of-output) for how they go with DATA. If more than `output_bytes_max` wait while input is taken,
    /// the peer loses the connection: write after each piece of input of up to 64 KiB.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Whether [`output`](Self::output) has anything.
    pub fn wants_write(&self) -> bool {
        !self.output.is_empty()
    }

    /// Whether this is the server's end.
    pub fn is_server(&self) -> bool {
        self.role == Role::Server
    }

    /// Streams that are open or half-closed.
    pub fn active_streams(&self) -> usize {
        self.streams.active()
    }

    /// The stream's id.
    pub fn stream_id(&self, key: StreamKey) -> StreamId {
        self.streams[key].id
    }

    /// Largest DATA payload that the peer takes (its SETTINGS_MAX_FRAME_SIZE), bytes.
    pub fn max_frame_size(&self) -> usize {
        self.peer.frame_bytes_max as usize
    }

    /// Streams that the peer lets this end open at once (its SETTINGS_MAX_CONCURRENT_STREAMS).
    pub fn peer_streams_max(&self) -> u32 {
        self.peer.streams_max
    }

    /// Largest header list that the peer takes (its SETTINGS_MAX_HEADER_LIST_SIZE), bytes; `None` if it did not say.
    pub fn peer_header_list_bytes_max(&self) -> Option<u32> {
        self.peer.header_list_bytes_max
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Frees the memory of an output that was large once.
    fn shrink_output(&mut self) {
        if self.output.is_empty() && self.output.capacity() > OUTPUT_KEPT_BYTES {
            self.output = BytesMut::new();
        }
    }
}

/// The SETTINGS of this end.
fn announced(config: &Config, role: Role) -> Settings {
    Settings {
        header_table_bytes: Some(config.header_table_bytes_max),
        enable_push: (role == Role::Client).then_some(false),
        streams_max: Some(config.streams_max),
        stream_window_bytes: Some(config.stream_window_bytes),
        frame_bytes_max: Some(config.frame_bytes_max),
        header_list_bytes_max: Some(config.header_list_bytes_max),
    }
}
