//! Messages out of DATA, wherever the borders fall (the gRPC protocol, "Length-Prefixed-Message").
//!
//! ```text
//!   DATA     ┌──────────────────────────┐┌─────────────┐
//!   messages ┆ 5│ whole: lent ┆ 5│ begins ┆┆ ends: put │ 5 …
//!                                        └── together ─┘
//! ```

use std::mem;

use crate::{
    encoding::{self, DecompressError, Encoding},
    frame::PREFIX_BYTES,
    status::{Code, Status},
};

/// Largest buffer that is kept from one message to the next. Streams whose messages all cross DATA borders, as 16 KiB ones do,
/// then run without allocating; larger messages pay for their copy far more than for the allocation.
pub const KEPT_BYTES_MAX: usize = 64 << 10;

/// Smallest buffer, so that a message that trickles in does not grow it byte by byte.
const GROWTH_BYTES_MIN: usize = 512;

/// One message, lent until the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its bytes, decompressed.
    pub payload: &'a [u8],
    /// Whether it came compressed.
    pub compressed: bool,
}

/// Puts the messages of one direction of one call back together.
///
/// Costs a few nanoseconds for a message that lies whole in its input, one copy for one that does not, and holds no memory
/// while nothing is under way and [`release_idle`](Self::release_idle) is called now and then.
#[derive(Debug)]
pub struct Deframer {
    state: State,
    encoding: Encoding,
    /// Whether `body` was in use since `release_idle` last looked.
    used: bool,
    message_bytes_max: u32,
    /// What becomes of a message over the limit.
    oversize: Oversize,
    /// Messages over the limit that were thrown away and not asked for yet.
    skipped: u32,
    /// A message that did not lie whole in one input, or was compressed.
    body: Vec<u8>,
}

/// What becomes of a message that is over the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Oversize {
    /// The call fails with `RESOURCE_EXHAUSTED`, as gRPC servers do.
    #[default]
    Fail,
    /// It is thrown away as it comes, without being held, and the call goes on.
    Skip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between two messages.
    Ready,
    /// Some bytes of a prefix have come.
    Prefix { bytes: [u8; PREFIX_BYTES], have: u8 },
    /// The prefix has come whole; what has come of the message is in `body`.
    Body { len: u32, compressed: bool },
    /// The prefix has come of a message that is thrown away, of which this much is still to come.
    Skip { left: u32 },
    /// Between two messages, and the caller has seen the one in `body`.
    Lent,
    /// The borders are lost: nothing more comes out.
    Failed,
}

impl Deframer {
    /// A deframer for messages of at most `message_bytes_max` bytes, as they come and as they are decompressed.
    pub const fn new(message_bytes_max: u32, encoding: Encoding) -> Self {
        Self {
            state: State::Ready,
            encoding,
            used: false,
            message_bytes_max,
            oversize: Oversize::Fail,
            skipped: 0,
            body: Vec::new(),
        }
    }

    /// Says what becomes of messages over the limit. Those whose compressed form is within it fail the call in any case.
    pub const fn set_oversize(&mut self, oversize: Oversize) {
        self.oversize = oversize;
    }

    /// How many messages were thrown away since this was last asked.
    pub const fn take_skipped(&mut self) -> u32 {
        mem::replace(&mut self.skipped, 0)
    }

    /// The next message, taken off the front of `input`; `None` when `input` is used up. To be called until it says so.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` for a message over the limit, `INTERNAL` for one that breaks the rules. The call ends with
    /// it: the borders of the messages are lost, and whatever else comes is thrown away.
    #[inline]
    pub fn next<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Result<Option<Message<'s>>, Status> {
        if self.state == State::Ready
            && let Some((&[0, a, b, c, d], rest)) = input.split_first_chunk::<PREFIX_BYTES>()
            && let len = u32::from_be_bytes([a, b, c, d])
            && len <= self.message_bytes_max
            && let Some((payload, rest)) = rest.split_at_checked(len as usize)
        {
            *input = rest;
            return Ok(Some(Message {
                payload,
                compressed: false,
            }));
        }
        self.next_across_borders(input)
    }

    /// Whether the stream would end inside a message if it ended now.
    pub const fn is_mid_message(&self) -> bool {
        matches!(
            self.state,
            State::Prefix { .. } | State::Body { .. } | State::Skip { .. }
        )
    }

    /// To be asked when the stream has ended.
    ///
    /// # Errors
    /// `INTERNAL` if it ended inside a message.
    pub fn finish(&self) -> Result<(), Status> {
        match self.state {
            State::Prefix { have, .. } => Err(Status::new(
                Code::Internal,
                format!("stream ended inside a message: {have} of the {PREFIX_BYTES} bytes before it came"),
            )),
            State::Body { len, .. } => Err(Status::new(
                Code::Internal,
                format!(
                    "stream ended inside a message: {} of its {len} bytes came",
                    self.body.len()
                ),
            )),
            State::Skip { left } => Err(Status::new(
                Code::Internal,
                format!("stream ended inside a message: {left} of its bytes did not come"),
            )),
            State::Ready | State::Lent | State::Failed => Ok(()),
        }
    }

    /// Frees what is kept for the next message, if none is under way and none needed it since the last call. For a timer of
    /// the owner: a stream that falls silent then costs no memory after two ticks.
    pub fn release_idle(&mut self) {
        if !mem::take(&mut self.used) && !self.is_mid_message() {
            self.body = Vec::new();
        }
    }

    /// Bytes of memory held beyond `self`.
    pub const fn held_bytes(&self) -> usize {
        self.body.capacity()
    }

    /// Everything but the common case. Out of line, so that the common case is small enough to be inlined.
    #[inline(never)]
    fn next_across_borders<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Message<'s>>, Status> {
        let Some((len, compressed)) = self.announced(input)? else {
            return Ok(None);
        };
        let whole = input
            .split_at_checked(len as usize)
            .filter(|_| self.body.is_empty());
        if let Some((payload, rest)) = whole {
            *input = rest;
            if !compressed {
                self.state = State::Ready;
                return Ok(Some(Message { payload, compressed }));
            }
            self.decompress(payload)?;
        } else {
            if !self.gather(input, len as usize) {
                return Ok(None);
            }
            if compressed {
                let gathered = mem::take(&mut self.body);
                self.decompress(&gathered)?;
            }
        }
        self.state = State::Lent;
        self.used = true;
        Ok(Some(Message {
            payload: &self.body,
            compressed,
        }))
    }

    /// Length and compressed flag of the message under way; `None` while its prefix is not complete.
    fn announced(&mut self, input: &mut &[u8]) -> Result<Option<(u32, bool)>, Status> {
        loop {
            match self.state {
                State::Body { len, compressed } => return Ok(Some((len, compressed))),
                State::Failed => {
                    *input = &[];
                    return Ok(None);
                }
                State::Skip { left } => {
                    let skipped = input.len().min(left as usize);
                    *input = &input[skipped..];
                    // At most `left`, so the cast keeps it.
                    self.state = match left - skipped as u32 {
                        0 => State::Ready,
                        left => State::Skip { left },
                    };
                    if input.is_empty() {
                        return Ok(None);
                    }
                }
                State::Ready | State::Lent => {
                    self.recycle();
                    self.prefix([0; PREFIX_BYTES], 0, input)?;
                }
                State::Prefix { bytes, have } => self.prefix(bytes, usize::from(have), input)?,
            }
            if matches!(self.state, State::Ready | State::Prefix { .. }) && input.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Goes on with a prefix of which `had` bytes have come.
    fn prefix(&mut self, mut bytes: [u8; PREFIX_BYTES], had: usize, input: &mut &[u8]) -> Result<(), Status> {
        let (taken, rest) = input.split_at(input.len().min(PREFIX_BYTES - had));
        let have = had + taken.len();
        bytes[had..have].copy_from_slice(taken);
        *input = rest;
        if have < PREFIX_BYTES {
            // At most four, so the cast keeps it.
            self.state = match have as u8 {
                0 => State::Ready,
                have => State::Prefix { bytes, have },
            };
            return Ok(());
        }
        let [flag, len @ ..] = bytes;
        let len = u32::from_be_bytes(len);
        self.state = if len > self.message_bytes_max && self.oversize == Oversize::Skip {
            self.skipped = self.skipped.saturating_add(1);
            State::Skip { left: len }
        } else {
            let compressed = self.check(flag, len)?;
            State::Body { len, compressed }
        };
        Ok(())
    }

    /// Whether a message of this prefix is compressed, if it can be taken.
    fn check(&mut self, flag: u8, len: u32) -> Result<bool, Status> {
        if len > self.message_bytes_max {
            let max = self.message_bytes_max;
            let message = format!("message of {len} bytes is over the limit of {max}; send smaller ones");
            return Err(self.fail(Code::ResourceExhausted, message));
        }
        match (flag, self.encoding) {
            (0, _) => Ok(false),
            (1, Encoding::Gzip) => Ok(true),
            (1, Encoding::Identity) => {
                let message =
                    "message is compressed, but the call has no grpc-encoding that says how".to_owned();
                Err(self.fail(Code::Internal, message))
            }
            _ => Err(self.fail(
                Code::Internal,
                format!("message with flag {flag}, which is neither 0 nor 1"),
            )),
        }
    }

    /// Appends to `body` what is missing of a message of `len` bytes. Whether it is complete.
    fn gather(&mut self, input: &mut &[u8], len: usize) -> bool {
        let had = self.body.len();
        let (taken, rest) = input.split_at(input.len().min(len - had));
        let have = had + taken.len();
        if have > self.body.capacity() {
            // Doubling follows what has come; the announced length is only ever an upper bound.
            let capacity = (2 * self.body.capacity())
                .max(have)
                .max(GROWTH_BYTES_MIN)
                .min(len);
            self.body.reserve_exact(capacity - had);
        }
        self.body.extend_from_slice(taken);
        self.used = true;
        *input = rest;
        have == len
    }

    fn decompress(&mut self, compressed: &[u8]) -> Result<(), Status> {
        match encoding::decompress(compressed, self.message_bytes_max) {
            Ok(message) => {
                self.body = message;
                Ok(())
            }
            Err(error @ DecompressError::TooLarge { .. }) => {
                Err(self.fail(Code::ResourceExhausted, error.to_string()))
            }
            Err(error) => Err(self.fail(Code::Internal, error.to_string())),
        }
    }

    /// Makes `body` ready for the next message.
    fn recycle(&mut self) {
        self.state = State::Ready;
        self.body.clear();
        if self.body.capacity() > KEPT_BYTES_MAX {
            self.body = Vec::new();
        }
    }

    fn fail(&mut self, code: Code, message: String) -> Status {
        self.state = State::Failed;
        self.body = Vec::new();
        Status::new(code, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;
    use bytes::BytesMut;

    const MAX: u32 = 1 << 20;

    fn framed(messages: &[&[u8]]) -> Vec<u8> {
        let mut out = BytesMut::new();
        messages
            .iter()
            .for_each(|message| frame::append(&mut out, message));
        out.to_vec()
    }

    /// Everything that comes out of one input.
    fn take(deframer: &mut Deframer, mut input: &[u8]) -> Result<Vec<Vec<u8>>, Status> {
        let mut messages = Vec::new();
        while let Some(message) = deframer.next(&mut input)? {
            messages.push(message.payload.to_vec());
        }
        assert!(input.is_empty(), "None means that the input is used up");
        Ok(messages)
    }

    #[test]
    fn whole_messages_are_lent_from_the_input() {
        let input = framed(&[b"one", b"", b"three"]);
        let mut deframer = Deframer::new(MAX, Encoding::Identity);
        let mut rest = &input[..];
        while let Some(message) = deframer.next(&mut rest).unwrap() {
            assert!(message.payload.is_empty() || input.as_ptr_range().contains(&message.payload.as_ptr()));
        }
        assert_eq!(deframer.held_bytes(), 0);
        assert_eq!(deframer.finish(), Ok(()));
    }

    #[test]
    fn a_message_over_the_limit_is_thrown_away_where_that_is_asked_for() {
        let big = vec![7; 100];
        let input = framed(&[b"one", &big, b"two", &big, &big, b"", b"three"]);
        for step in [1, 3, 5, 64, input.len()] {
            let mut deframer = Deframer::new(99, Encoding::Identity);
            deframer.set_oversize(Oversize::Skip);
            let mut got = Vec::new();
            for part in input.chunks(step) {
                got.extend(take(&mut deframer, part).unwrap());
                assert!(deframer.held_bytes() <= GROWTH_BYTES_MIN);
            }
            assert_eq!(
                got,
                [&b"one"[..], b"two", b"", b"three"],
                "{step} bytes at a time"
            );
            assert_eq!(deframer.take_skipped(), 3);
            assert_eq!(deframer.take_skipped(), 0);
            assert_eq!(deframer.finish(), Ok(()));
        }
    }

    #[test]
    fn a_stream_that_ends_inside_what_is_thrown_away_is_broken() {
        let mut deframer = Deframer::new(99, Encoding::Identity);
        deframer.set_oversize(Oversize::Skip);
        let input = framed(&[&[7; 100]]);
        assert!(take(&mut deframer, &input[..50]).unwrap().is_empty());
        assert!(deframer.is_mid_message());
        assert!(deframer.finish().is_err());
    }

    #[test]
    fn bytes_one_by_one() {
        let mut deframer = Deframer::new(MAX, Encoding::Identity);
        let mut got = Vec::new();
        let input = framed(&[b"one", b"", b"three"]);
        for (index, byte) in input.iter().enumerate() {
            got.extend(take(&mut deframer, &[*byte]).unwrap());
            let at_border = [8, 13, 23].contains(&(index + 1));
            assert_eq!(deframer.is_mid_message(), !at_border, "after {} bytes", index + 1);
            assert_eq!(deframer.finish().is_ok(), at_border);
        }
        assert_eq!(got, [&b"one"[..], b"", b"three"]);
    }

    #[test]
    fn any_split_gives_the_same_messages() {
        bolero::check!()
            .with_type::<(Vec<(Vec<u8>, bool)>, Vec<u16>)>()
            .for_each(|(messages, cuts)| {
                let mut out = BytesMut::new();
                for (message, compressed) in messages {
                    if *compressed {
                        frame::append_gzip(&mut out, message)
                    } else {
                        frame::append(&mut out, message)
                    }
                }
                let mut deframer = Deframer::new(MAX, Encoding::Gzip);
                let mut got = Vec::new();
                let mut rest = &out[..];
                for cut in cuts.iter().map(|cut| usize::from(*cut)).chain([usize::MAX]) {
                    let (mut input, later) = rest.split_at(cut.min(rest.len()));
                    while let Some(message) = deframer.next(&mut input).expect("well formed") {
                        got.push((message.payload.to_vec(), message.compressed));
                    }
                    rest = later;
                }
                assert_eq!(&got, messages);
                assert_eq!(deframer.finish(), Ok(()));
            });
    }

    #[test]
    fn memory_follows_what_came() {
        let mut deframer = Deframer::new(u32::MAX, Encoding::Identity);
        assert_eq!(take(&mut deframer, &frame::prefix(u32::MAX)), Ok(vec![]));
        assert_eq!(deframer.held_bytes(), 0);
        take(&mut deframer, &[7; 1000]).unwrap();
        take(&mut deframer, &[7; 1000]).unwrap();
        assert!(deframer.held_bytes() <= 4000, "{}", deframer.held_bytes());
    }

    #[test]
    fn a_kept_buffer_serves_the_next_message() {
        let message = vec![7; 16 << 10];
        let input = framed(&[&message]);
        let mut deframer = Deframer::new(MAX, Encoding::Identity);
        for _ in 0..3 {
            assert_eq!(take(&mut deframer, &input[..9000]), Ok(vec![]));
            assert_eq!(take(&mut deframer, &input[9000..]).unwrap(), [&message[..]]);
            assert_eq!(deframer.held_bytes(), message.len());
        }
        deframer.release_idle();
        assert_eq!(deframer.held_bytes(), message.len(), "in use since the last tick");
        deframer.release_idle();
        assert_eq!(deframer.held_bytes(), 0);
    }

    #[test]
    fn a_large_buffer_is_not_kept() {
        let message = vec![7; KEPT_BYTES_MAX + 1];
        let input = framed(&[&message]);
        let mut deframer = Deframer::new(MAX, Encoding::Identity);
        take(&mut deframer, &input[..100]).unwrap();
        take(&mut deframer, &input[100..]).unwrap();
        assert_eq!(deframer.held_bytes(), 0);
    }

    #[test]
    fn a_message_under_way_is_not_released() {
        let input = framed(&[b"message"]);
        let mut deframer = Deframer::new(MAX, Encoding::Identity);
        take(&mut deframer, &input[..8]).unwrap();
        deframer.release_idle();
        deframer.release_idle();
        assert_eq!(take(&mut deframer, &input[8..]).unwrap(), [b"message"]);
    }

    #[test]
    fn the_limit_is_named() {
        let mut deframer = Deframer::new(4, Encoding::Identity);
        assert_eq!(take(&mut deframer, &framed(&[b"four"])).unwrap(), [b"four"]);
        let status = take(&mut deframer, &framed(&[b"fives"])).unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(
            status.message(),
            "message of 5 bytes is over the limit of 4; send smaller ones"
        );
        assert_eq!(
            take(&mut deframer, &framed(&[b"four"])),
            Ok(vec![]),
            "the borders are lost"
        );
        assert_eq!(deframer.finish(), Ok(()), "and the call has its status already");
    }

    #[test]
    fn flags_are_strict() {
        for (encoding, flag) in [
            (Encoding::Identity, 1),
            (Encoding::Identity, 2),
            (Encoding::Gzip, 255),
        ] {
            let mut deframer = Deframer::new(MAX, encoding);
            assert_eq!(
                take(&mut deframer, &[flag, 0, 0, 0, 0]).unwrap_err().code(),
                Code::Internal
            );
        }
    }

    #[test]
    fn a_bomb_is_over_the_limit() {
        let mut out = BytesMut::new();
        frame::append_gzip(&mut out, &vec![0; MAX as usize + 1]);
        let mut deframer = Deframer::new(MAX, Encoding::Gzip);
        assert_eq!(
            take(&mut deframer, &out).unwrap_err().code(),
            Code::ResourceExhausted
        );
    }

    #[test]
    fn damaged_gzip_ends_the_call() {
        let mut deframer = Deframer::new(MAX, Encoding::Gzip);
        assert_eq!(
            take(&mut deframer, b"\0\0\0abc").unwrap_err().code(),
            Code::Internal
        );
    }
}
