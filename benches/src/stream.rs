//! The server's end of an HTTP/2 connection with one gRPC call open on it.

use std::sync::Arc;
use std::time::Instant;

use ringgate_http2::{Config, Connection, Event, Header, StreamKey};

/// RFC 9113 section 4.1.
pub const FRAME_HEAD_BYTES: usize = 9;
/// The largest payload without another agreement (RFC 9113 section 6.5.2).
pub const FRAME_BYTES_MAX: usize = 16_384;
/// What one WINDOW_UPDATE of a benchmark's peer opens a window by.
const WINDOW_BYTES: u32 = 1 << 30;
/// What a client sends first for its call.
pub const REQUEST: [(&str, &str); 6] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/agp.v1.AgentGateway/Open"),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
];

/// The server's end, with the call's stream.
pub struct Stream {
    /// The connection.
    pub connection: Connection,
    /// The call.
    pub key: StreamKey,
    /// When everything happens.
    pub now: Instant,
}

impl Default for Stream {
    fn default() -> Stream {
        Stream::open()
    }
}

impl Stream {
    /// Opens a connection and a call, and answers with response headers.
    ///
    /// # Panics
    /// When the two ends do not understand each other.
    pub fn open() -> Stream {
        let now = Instant::now();
        let mut client = Connection::client(Arc::new(Config::client()), now);
        let mut server = Connection::server(Arc::new(Config::default()), now);
        let headers = REQUEST.map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes()));
        client
            .open(&headers, false)
            .expect("a new connection takes a stream");
        let said = client.output().split();
        let mut input = &said[..];
        let mut key = None;
        while let Some(event) = server
            .receive(&mut input, now)
            .expect("the client keeps to the rules")
        {
            if let Event::Headers { key: opened, .. } = event {
                key = Some(opened);
            }
        }
        let key = key.expect("the client has opened a stream");
        server.send_headers(key, &[Header::new(b":status", b"200")], false);
        server.output().clear();
        Stream {
            connection: server,
            key,
            now,
        }
    }

    /// Takes received bytes and gives the payload of DATA to `data`, whose credit is returned at once.
    ///
    /// # Panics
    /// When the bytes break the protocol.
    #[inline]
    pub fn receive(&mut self, mut input: &[u8], mut data: impl FnMut(&[u8])) {
        while let Some(event) = self.connection.receive(&mut input, self.now).expect("good bytes") {
            if let Event::Data { key, payload, .. } = event {
                data(payload);
                let consumed = payload.len();
                self.connection.release(key, consumed);
            }
        }
        self.connection.output().clear();
    }

    /// Heads for a body of `len` bytes, given to `head` one by one with the length that follows each.
    #[inline]
    pub fn pack(&mut self, mut len: usize, mut head: impl FnMut([u8; FRAME_HEAD_BYTES], usize)) {
        if self.connection.send_capacity(self.key) < len {
            self.open_windows();
        }
        while len > 0 {
            let piece = len.min(self.connection.max_frame_size());
            head(self.connection.data(self.key, piece, false), piece);
            len -= piece;
        }
    }

    /// What a client does that has read everything.
    fn open_windows(&mut self) {
        let mut updates = Vec::new();
        for stream in [0, self.connection.stream_id(self.key).get()] {
            updates.extend_from_slice(&[0, 0, 4, 8, 0]);
            updates.extend_from_slice(&stream.to_be_bytes());
            updates.extend_from_slice(&WINDOW_BYTES.to_be_bytes());
        }
        self.receive(&updates, |_| {});
    }
}

/// `body` in DATA frames of stream 1, as a client sends it.
pub fn data_frames(body: &[u8]) -> Vec<u8> {
    let mut frames = Vec::new();
    for piece in body.chunks(FRAME_BYTES_MAX) {
        frames.extend_from_slice(&(piece.len() as u32).to_be_bytes()[1..]);
        frames.extend_from_slice(&[0, 0, 0, 0, 0, 1]);
        frames.extend_from_slice(piece);
    }
    frames
}
