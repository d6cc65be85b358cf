//! The client's side of one HTTP/2 connection that carries one long gRPC call (RFC 9113). It does what the load needs and reads
//! nothing that it does not need.

use super::WireError;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD_BYTES: usize = 9;
/// RFC 9113 section 6.5.2: where SETTINGS do not say otherwise.
const FRAME_BYTES_DEFAULT: usize = 16_384;
const WINDOW_DEFAULT: i64 = 65_535;
/// What both receive windows are opened to: the most there is, so that the server never waits for this side.
const WINDOW_MAX: u32 = 0x7fff_ffff;
/// When this much was consumed, the windows are opened anew.
const WINDOW_RENEWAL_BYTES: u32 = 1 << 30;
/// The only stream.
const STREAM: u32 = 1;

mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
}

mod flag {
    pub(super) const END_STREAM: u8 = 1;
    pub(super) const ACK: u8 = 1;
    pub(super) const END_HEADERS: u8 = 4;
    pub(super) const PADDED: u8 = 8;
}

mod setting {
    pub(super) const ENABLE_PUSH: u16 = 2;
    pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(super) const MAX_FRAME_SIZE: u16 = 5;
}

/// One connection with one call.
#[derive(Debug)]
pub(super) struct Call {
    // Receiving: the head of the frame at hand, and what is left of its payload.
    head: [u8; FRAME_HEAD_BYTES],
    head_len: usize,
    left: usize,
    control: Vec<u8>,
    consumed: u32,
    // Sending: gRPC messages that wait for a flush or for the server's windows.
    pending: Vec<u8>,
    pending_sent: usize,
    connection_window: i64,
    stream_window: i64,
    initial_window: i64,
    frame_bytes_max: usize,
    end: End,
    pings: u32,
    pongs: u32,
}

/// How far the end of the call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It goes on.
    No,
    /// This side has nothing more to say; END_STREAM goes out behind what is pending.
    Wanted,
    /// END_STREAM is out.
    Said,
    /// The server has ended its side too.
    Over,
    /// And the caller knows.
    Told,
}

impl Call {
    pub(super) fn new() -> Call {
        Call {
            head: [0; FRAME_HEAD_BYTES],
            head_len: 0,
            left: 0,
            control: Vec::new(),
            consumed: 0,
            pending: Vec::new(),
            pending_sent: 0,
            connection_window: WINDOW_DEFAULT,
            stream_window: WINDOW_DEFAULT,
            initial_window: WINDOW_DEFAULT,
            frame_bytes_max: FRAME_BYTES_DEFAULT,
            end: End::No,
            pings: 0,
            pongs: 0,
        }
    }

    /// Appends the preface, the settings and the request's headers.
    pub(super) fn open(&mut self, path: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(PREFACE);
        let mut settings = Vec::new();
        for (id, value) in [
            (setting::ENABLE_PUSH, 0),
            (setting::INITIAL_WINDOW_SIZE, WINDOW_MAX),
        ] {
            settings.extend_from_slice(&id.to_be_bytes());
            settings.extend_from_slice(&value.to_be_bytes());
        }
        put_frame(kind::SETTINGS, 0, 0, &settings, out);
        let increment = WINDOW_MAX - WINDOW_DEFAULT as u32;
        put_frame(kind::WINDOW_UPDATE, 0, 0, &increment.to_be_bytes(), out);
        put_frame(kind::HEADERS, flag::END_HEADERS, STREAM, &headers(path), out);
    }

    /// Where messages are appended that the next [`Call::flush`] sends.
    pub(super) fn pending(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    /// Puts pending messages into DATA frames, as many as the server's windows allow.
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) {
        while self.pending_sent < self.pending.len() {
            let window = self.connection_window.min(self.stream_window).max(0) as usize;
            let rest = &self.pending[self.pending_sent..];
            let len = rest.len().min(self.frame_bytes_max).min(window);
            if len == 0 {
                break;
            }
            put_frame(kind::DATA, 0, STREAM, &rest[..len], out);
            self.pending_sent += len;
            self.connection_window -= len as i64;
            self.stream_window -= len as i64;
        }
        self.pending.drain(..self.pending_sent);
        self.pending_sent = 0;
        if self.pending.is_empty() {
            (0..std::mem::take(&mut self.pings)).for_each(|_| put_frame(kind::PING, 0, 0, &[0; 8], out));
        }
        if self.end == End::Wanted && self.pending.is_empty() {
            put_frame(kind::DATA, flag::END_STREAM, STREAM, &[], out);
            self.end = End::Said;
        }
    }

    /// Ends this side of the call (RFC 9113 section 5.1, half-closed).
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        if self.end == End::No {
            self.end = End::Wanted;
            self.flush(out);
        }
    }

    /// Asks for an answer (RFC 9113 section 6.7) once everything that is pending has left.
    pub(super) fn ping(&mut self, out: &mut Vec<u8>) {
        self.pings += 1;
        self.flush(out);
    }

    /// How many answers have come since this was last asked.
    pub(super) fn take_pongs(&mut self) -> u32 {
        std::mem::take(&mut self.pongs)
    }

    /// Whether both sides have ended the call since this was last asked.
    pub(super) fn take_over(&mut self) -> bool {
        let over = self.end == End::Over;
        if over {
            self.end = End::Told;
        }
        over
    }

    /// Takes what was received; `data` gets the payload of DATA frames.
    pub(super) fn receive(
        &mut self,
        mut bytes: &[u8],
        out: &mut Vec<u8>,
        mut data: impl FnMut(&[u8]) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        while !bytes.is_empty() {
            if self.head_len < FRAME_HEAD_BYTES {
                let taken = bytes.len().min(FRAME_HEAD_BYTES - self.head_len);
                self.head[self.head_len..][..taken].copy_from_slice(&bytes[..taken]);
                self.head_len += taken;
                bytes = &bytes[taken..];
                if self.head_len < FRAME_HEAD_BYTES {
                    return Ok(());
                }
                self.left = usize::from(self.head[0]) << 16
                    | usize::from(self.head[1]) << 8
                    | usize::from(self.head[2]);
            }
            let (payload, rest) = bytes.split_at(bytes.len().min(self.left));
            self.left -= payload.len();
            bytes = rest;
            if self.head[3] == kind::DATA {
                if self.head[4] & flag::PADDED != 0 {
                    return Err(WireError::Malformed(
                        "padded DATA, which this client does not read",
                    ));
                }
                data(payload)?;
                self.consumed += payload.len() as u32;
            } else {
                self.control.extend_from_slice(payload);
            }
            if self.left == 0 {
                self.head_len = 0;
                self.end_frame(out)?;
            }
        }
        self.renew_windows(out);
        Ok(())
    }

    fn renew_windows(&mut self, out: &mut Vec<u8>) {
        if self.consumed >= WINDOW_RENEWAL_BYTES {
            put_frame(kind::WINDOW_UPDATE, 0, 0, &self.consumed.to_be_bytes(), out);
            put_frame(kind::WINDOW_UPDATE, 0, STREAM, &self.consumed.to_be_bytes(), out);
            self.consumed = 0;
        }
    }

    /// Acts on a frame that is complete.
    fn end_frame(&mut self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let (kind, flags) = (self.head[3], self.head[4]);
        let stream =
            u32::from_be_bytes([self.head[5], self.head[6], self.head[7], self.head[8]]) & WINDOW_MAX;
        let number = |at: usize| {
            let bytes = self.control.get(at..).and_then(|rest| rest.first_chunk());
            bytes
                .map(|bytes| u32::from_be_bytes(*bytes))
                .ok_or(WireError::Malformed("a frame that is too short"))
        };
        match kind {
            kind::SETTINGS if flags & flag::ACK == 0 => {
                self.apply_settings();
                put_frame(kind::SETTINGS, flag::ACK, 0, &[], out);
                self.flush(out);
            }
            kind::PING if flags & flag::ACK == 0 => put_frame(kind::PING, flag::ACK, 0, &self.control, out),
            kind::PING => self.pongs += 1,
            kind::WINDOW_UPDATE => {
                let increment = i64::from(number(0)? & WINDOW_MAX);
                let window = if stream == 0 {
                    &mut self.connection_window
                } else {
                    &mut self.stream_window
                };
                *window += increment;
                self.flush(out);
            }
            kind::RST_STREAM => {
                return Err(WireError::Refused(format!(
                    "RST_STREAM with HTTP/2 error {}",
                    number(0)?
                )));
            }
            kind::GOAWAY if number(4)? != 0 => {
                let reason = String::from_utf8_lossy(&self.control[8..]);
                return Err(WireError::Refused(format!(
                    "GOAWAY with HTTP/2 error {}: {reason}",
                    number(4)?
                )));
            }
            kind::HEADERS | kind::DATA if flags & flag::END_STREAM != 0 && self.end == End::Said => {
                self.end = End::Over;
            }
            kind::HEADERS | kind::DATA if flags & flag::END_STREAM != 0 => {
                return Err(WireError::Refused(format!(
                    "the call was ended: {}",
                    printable(&self.control)
                )));
            }
            _ => {}
        }
        self.control.clear();
        Ok(())
    }

    fn apply_settings(&mut self) {
        for entry in self.control.chunks_exact(6) {
            let value = u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]);
            match u16::from_be_bytes([entry[0], entry[1]]) {
                setting::INITIAL_WINDOW_SIZE => {
                    self.stream_window += i64::from(value) - self.initial_window;
                    self.initial_window = i64::from(value);
                }
                setting::MAX_FRAME_SIZE => self.frame_bytes_max = FRAME_BYTES_DEFAULT.min(value as usize),
                _ => {}
            }
        }
    }
}

/// What can be read of a header block without decoding it.
fn printable(block: &[u8]) -> String {
    block
        .iter()
        .filter(|byte| byte.is_ascii_graphic() || **byte == b' ')
        .map(|byte| char::from(*byte))
        .collect()
}

fn put_frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let len = payload.len() as u32;
    out.extend_from_slice(&len.to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// The header block of a gRPC request: indexed fields and literals without indexing (RFC 7541 sections 6.1 and 6.2.2).
fn headers(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86]; // :method POST, :scheme http
    // Names are entries of the static table; the lengths are below 127 and so fit one byte.
    let literal = |index: u8, value: &str, block: &mut Vec<u8>| {
        block.push(index);
        block.push(value.len() as u8);
        block.extend_from_slice(value.as_bytes());
    };
    literal(0x04, path, &mut block); // :path
    literal(0x01, "localhost", &mut block); // :authority
    block.push(0x0f); // content-type is entry 31: 15 in the prefix, 16 after it
    literal(0x10, "application/grpc", &mut block);
    block.extend_from_slice(b"\x00\x02te\x08trailers");
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_frame(kind, flags, stream, payload, &mut out);
        out
    }

    fn receive(call: &mut Call, bytes: &[u8], out: &mut Vec<u8>) -> Result<Vec<u8>, WireError> {
        let mut data = Vec::new();
        call.receive(bytes, out, |bytes| {
            data.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(data)
    }

    #[test]
    fn data_is_found_at_any_split_and_control_frames_are_answered() {
        let mut stream = frame(kind::SETTINGS, 0, 0, &[]);
        stream.extend(frame(kind::HEADERS, flag::END_HEADERS, STREAM, &[0x88]));
        stream.extend(frame(kind::DATA, 0, STREAM, b"hello "));
        stream.extend(frame(kind::PING, 0, 0, b"12345678"));
        stream.extend(frame(kind::DATA, 0, STREAM, b"world"));
        for split in 0..stream.len() {
            let mut call = Call::new();
            let mut out = Vec::new();
            let mut data = receive(&mut call, &stream[..split], &mut out).unwrap();
            data.extend(receive(&mut call, &stream[split..], &mut out).unwrap());
            assert_eq!(data, b"hello world");
            let mut answers = frame(kind::SETTINGS, flag::ACK, 0, &[]);
            answers.extend(frame(kind::PING, flag::ACK, 0, b"12345678"));
            assert_eq!(out, answers);
        }
    }

    #[test]
    fn the_servers_window_is_kept() {
        let mut call = Call::new();
        let mut out = Vec::new();
        call.pending().extend_from_slice(&vec![7; 70_000]);
        call.flush(&mut out);
        assert_eq!(out.len(), 65_535 + 4 * FRAME_HEAD_BYTES);
        out.clear();
        receive(
            &mut call,
            &frame(kind::WINDOW_UPDATE, 0, 0, &100_000u32.to_be_bytes()),
            &mut out,
        )
        .unwrap();
        assert!(out.is_empty(), "the stream's window is still shut");
        receive(
            &mut call,
            &frame(kind::WINDOW_UPDATE, 0, STREAM, &100_000u32.to_be_bytes()),
            &mut out,
        )
        .unwrap();
        assert_eq!(out.len(), 70_000 - 65_535 + FRAME_HEAD_BYTES);
    }

    #[test]
    fn an_end_that_was_asked_for_is_none() {
        let mut call = Call::new();
        let mut out = Vec::new();
        call.pending().extend_from_slice(b"last");
        call.end(&mut out);
        let mut said = frame(kind::DATA, 0, STREAM, b"last");
        said.extend(frame(kind::DATA, flag::END_STREAM, STREAM, &[]));
        assert_eq!(out, said);
        assert!(!call.take_over());
        let trailers = frame(
            kind::HEADERS,
            flag::END_HEADERS | flag::END_STREAM,
            STREAM,
            b"\x00\x0bgrpc-status\x010",
        );
        receive(&mut call, &trailers, &mut out).unwrap();
        assert!(call.take_over());
    }

    #[test]
    fn a_ping_goes_out_behind_what_is_pending() {
        let mut call = Call::new();
        let mut out = Vec::new();
        let len = WINDOW_DEFAULT as usize + 1;
        call.pending().resize(len, 7);
        call.ping(&mut out);
        let ping = frame(kind::PING, 0, 0, &[0; 8]);
        assert!(!out.ends_with(&ping), "a byte waits for the window");
        receive(
            &mut call,
            &frame(kind::WINDOW_UPDATE, 0, 0, &9u32.to_be_bytes()),
            &mut out,
        )
        .unwrap();
        receive(
            &mut call,
            &frame(kind::WINDOW_UPDATE, 0, STREAM, &9u32.to_be_bytes()),
            &mut out,
        )
        .unwrap();
        assert!(out.ends_with(&ping));
        receive(&mut call, &frame(kind::PING, flag::ACK, 0, &[0; 8]), &mut out).unwrap();
        assert_eq!((call.take_pongs(), call.take_pongs()), (1, 0));
    }

    #[test]
    fn the_end_of_the_call_is_an_error() {
        let mut call = Call::new();
        let trailers = frame(
            kind::HEADERS,
            flag::END_HEADERS | flag::END_STREAM,
            STREAM,
            b"\x00\x0bgrpc-status\x0216",
        );
        assert!(matches!(
            receive(&mut call, &trailers, &mut Vec::new()),
            Err(WireError::Refused(_))
        ));
    }

    #[test]
    fn the_header_block_is_what_hpack_says() {
        let block = headers("/p");
        assert_eq!(
            block,
            b"\x83\x86\x04\x02/p\x01\x09localhost\x0f\x10\x10application/grpc\x00\x02te\x08trailers"
        );
    }
}
