//! Drives a connection over a pipe: reads, lets the application react, writes bodies as the windows allow.

use std::collections::VecDeque;
use std::time::Instant;

use ringgate_http2::{Connection, Event, Header, StreamKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// How a message ends after its body.
pub(crate) enum End {
    Open,
    Stream,
    Trailers(Vec<(&'static str, String)>),
}

/// What a stream still has to send.
struct Outgoing {
    body: VecDeque<u8>,
    end: End,
}

pub(crate) struct Driver {
    pub(crate) connection: Connection,
    outgoing: Vec<Option<Outgoing>>,
    wire: Vec<u8>,
}

impl Driver {
    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            connection,
            outgoing: Vec::new(),
            wire: Vec::new(),
        }
    }

    /// Queues body bytes and how they end.
    pub(crate) fn send(&mut self, key: StreamKey, bytes: &[u8], end: End) {
        if self.outgoing.len() <= key.index() {
            self.outgoing.resize_with(key.index() + 1, || None);
        }
        let outgoing = self.outgoing[key.index()].get_or_insert(Outgoing {
            body: VecDeque::new(),
            end: End::Open,
        });
        outgoing.body.extend(bytes);
        outgoing.end = end;
    }

    /// Drops what the stream still had to send, and the stream.
    pub(crate) fn forget(&mut self, key: StreamKey) {
        if let Some(outgoing) = self.outgoing.get_mut(key.index()) {
            *outgoing = None;
        }
        self.connection.forget(key);
    }

    /// Runs until the peer closes the pipe, the connection has drained, or `app` says `false`.
    pub(crate) async fn run(
        mut self,
        io: DuplexStream,
        keys: &[StreamKey],
        mut app: impl FnMut(&mut Self, Event<'_>) -> bool,
    ) {
        let mut keys: Vec<StreamKey> = keys.to_vec();
        let (mut reader, mut writer) = tokio::io::split(io);
        let mut buffer = [0; 3001];
        loop {
            self.fill_wire(&mut keys);
            if self.wire.is_empty() && self.connection.is_drained() {
                return;
            }
            tokio::select! {
                read = reader.read(&mut buffer) => {
                    let Ok(count @ 1..) = read else { return };
                    if !self.take(&buffer[..count], &mut keys, &mut app) {
                        self.fill_wire(&mut keys);
                        writer.write_all(&self.wire).await.ok();
                        return;
                    }
                }
                written = writer.write(&self.wire), if !self.wire.is_empty() => {
                    let Ok(count) = written else { return };
                    self.wire.drain(..count);
                }
            }
        }
    }

    fn take(
        &mut self,
        mut input: &[u8],
        keys: &mut Vec<StreamKey>,
        app: &mut impl FnMut(&mut Self, Event<'_>) -> bool,
    ) -> bool {
        loop {
            match self.connection.receive(&mut input, Instant::now()) {
                Ok(Some(event)) => {
                    if let Event::Headers { key, .. } = event
                        && !keys.contains(&key)
                    {
                        keys.push(key);
                    }
                    if !app(self, event) {
                        return false;
                    }
                }
                Ok(None) => return true,
                Err(error) => panic!("h2 made us say {error}"),
            }
        }
    }

    /// Moves control bytes and as much of the bodies as the windows allow to the wire, in order.
    fn fill_wire(&mut self, keys: &mut [StreamKey]) {
        for &mut key in keys {
            let Some(outgoing) = self.outgoing.get_mut(key.index()).and_then(Option::as_mut) else {
                continue;
            };
            while !outgoing.body.is_empty() {
                let len = outgoing
                    .body
                    .len()
                    .min(self.connection.send_capacity(key))
                    .min(self.connection.max_frame_size());
                if len == 0 {
                    break;
                }
                let last = len == outgoing.body.len() && matches!(outgoing.end, End::Stream);
                self.wire.extend_from_slice(&self.connection.output().split());
                self.wire.extend_from_slice(&self.connection.data(key, len, last));
                self.wire.extend(outgoing.body.drain(..len));
            }
            if !outgoing.body.is_empty() || matches!(outgoing.end, End::Open) {
                continue;
            }
            if self.connection.can_send(key) {
                finish(&mut self.connection, &mut self.wire, key, &outgoing.end);
            }
            self.outgoing[key.index()] = None;
        }
        self.wire.extend_from_slice(&self.connection.output().split());
    }
}

fn finish(connection: &mut Connection, wire: &mut Vec<u8>, key: StreamKey, end: &End) {
    match end {
        End::Trailers(fields) => {
            let headers: Vec<_> = fields
                .iter()
                .map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes()))
                .collect();
            connection.send_headers(key, &headers, true);
        }
        End::Stream | End::Open => {
            wire.extend_from_slice(&connection.output().split());
            wire.extend_from_slice(&connection.data(key, 0, true));
        }
    }
}

/// A body that tells its bytes apart.
pub(crate) fn body(len: usize, seed: usize) -> Vec<u8> {
    (0..len)
        .map(|index| (index.wrapping_mul(31).wrapping_add(seed) % 251) as u8)
        .collect()
}
