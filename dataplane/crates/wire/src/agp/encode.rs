//! An [`Outgoing`] message to bytes: the gRPC length prefix, then a `GatewayMessage`.
//!
//! ```text
//!  0 | length (4, big endian) | tag, length | body, as the sender wrote it | what the gateway says
//!  '------ gRPC prefix ------' '---------------------- GatewayMessage -------------------------'
//! ```
//!
//! What only the gateway may say is written behind every body even where it is empty or zero: the last value of a field wins, so
//! that a forged one must always be followed by a true one.

use bytes::{BufMut, Bytes, BytesMut};
use ringgate_gateway::outgoing::{Dialect, Encoder, Outgoing, Registered};

use super::schema::{I64, LEN, VARINT};
use crate::arena::{Arena, ArenaConfig};

/// Uncompressed flag and length (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX_BYTES: usize = 5;

/// Encodes for agents that speak `agp.v1`. One for each core.
#[derive(Debug, Default)]
pub struct AgpEncoder {
    runs: Arena,
    /// Apart from the runs, since other cores hold these: so the cores do not share the runs' reference counts.
    bodies: Arena,
}

impl AgpEncoder {
    /// An encoder with its own memory.
    pub fn new(config: ArenaConfig) -> AgpEncoder {
        AgpEncoder {
            runs: Arena::new(config),
            bodies: Arena::new(config),
        }
    }
}

impl Encoder for AgpEncoder {
    #[inline]
    fn append(&mut self, dialect: Dialect, message: &Outgoing<'_>) {
        debug_assert_eq!(
            dialect,
            Dialect::Agp,
            "an agent of another dialect has another encoder"
        );
        append(&mut self.runs, message);
    }

    #[inline]
    fn pending(&self) -> usize {
        self.runs.pending()
    }

    #[inline]
    fn take(&mut self) -> Bytes {
        self.runs.take()
    }

    #[inline]
    fn first_len(_dialect: Dialect, run: &[u8]) -> usize {
        let length = u32::from_be_bytes([run[1], run[2], run[3], run[4]]);
        PREFIX_BYTES + length as usize
    }

    fn own(&mut self, body: &[u8]) -> Bytes {
        self.bodies.reserve(body.len()).extend_from_slice(body);
        self.bodies.take()
    }
}

/// Numbers of the fields of `GatewayMessage`.
mod number {
    pub(super) const REGISTERED: u32 = 1;
    pub(super) const ACK: u32 = 2;
    pub(super) const ERROR: u32 = 3;
    pub(super) const NOTIFY: u32 = 4;
    pub(super) const FORWARD: u32 = 5;
    pub(super) const DELIVER: u32 = 6;
    pub(super) const STREAM_OPEN: u32 = 7;
    pub(super) const CHUNK: u32 = 8;
    pub(super) const STREAM_CLOSE: u32 = 9;
    pub(super) const STREAM_CREDIT: u32 = 10;
    pub(super) const INTRODUCE: u32 = 11;
    pub(super) const CONNECTED: u32 = 12;
    pub(super) const REJECTED: u32 = 13;
    pub(super) const STATE_VALUE: u32 = 14;
    pub(super) const STATE_EVENT: u32 = 15;
    pub(super) const GAP: u32 = 16;
    pub(super) const DRAIN: u32 = 17;
    pub(super) const CANCEL: u32 = 20;
}

fn append(runs: &mut Arena, message: &Outgoing<'_>) {
    const NOTHING: &[u8] = b"";
    match *message {
        Outgoing::Notify {
            body,
            source,
            sequence,
            time_unix_nanos,
        } => write(
            runs,
            number::NOTIFY,
            body,
            (
                Text::<16>(source),
                Number::<17>(sequence),
                Fixed64::<18>(time_unix_nanos),
            ),
        ),
        Outgoing::Chunk { body, stream } => write(runs, number::CHUNK, body, (Number::<1>(stream),)),
        Outgoing::Forward {
            body,
            source,
            request,
            deadline_unix_nanos,
        } => write(
            runs,
            number::FORWARD,
            body,
            (
                Text::<16>(source),
                Number::<17>(request),
                Fixed64::<18>(deadline_unix_nanos),
            ),
        ),
        Outgoing::Deliver { body, id, source } => {
            write(
                runs,
                number::DELIVER,
                body,
                (Number::<16>(id), Text::<17>(source)),
            );
        }
        Outgoing::StreamOpen { body, stream, source } => {
            write(
                runs,
                number::STREAM_OPEN,
                body,
                (Number::<1>(stream), Text::<16>(source)),
            );
        }
        Outgoing::StreamClose { body, stream } => {
            write(runs, number::STREAM_CLOSE, body, (Number::<1>(stream),));
        }
        Outgoing::StreamEnded {
            stream,
            code,
            message,
        } => write(
            runs,
            number::STREAM_CLOSE,
            NOTHING,
            (Number::<1>(stream), Number::<2>(code as u64), Text::<3>(message)),
        ),
        Outgoing::StreamCredit { stream, bytes } => {
            write(
                runs,
                number::STREAM_CREDIT,
                NOTHING,
                (Number::<1>(stream), Number::<2>(bytes)),
            );
        }
        Outgoing::Introduce {
            body,
            source,
            introduction,
            credential,
        } => write(
            runs,
            number::INTRODUCE,
            body,
            (
                Text::<16>(source),
                Number::<17>(introduction),
                Raw::<18>(credential),
            ),
        ),
        Outgoing::Connected {
            body,
            id,
            introduction,
            channel,
            source,
            credential,
        } => write(
            runs,
            number::CONNECTED,
            body,
            (
                Number::<1>(introduction),
                Number::<16>(id),
                Text::<17>(channel),
                Text::<18>(source),
                Raw::<19>(credential),
            ),
        ),
        Outgoing::Rejected { body, id, source } => {
            write(
                runs,
                number::REJECTED,
                body,
                (Number::<16>(id), Text::<17>(source)),
            );
        }
        Outgoing::Registered(ref registered) => append_registered(runs, registered),
        Outgoing::Ack {
            id,
            revision,
            receivers,
        } => {
            let parts = (
                Number::<1>(id),
                Number::<2>(revision),
                Number::<3>(receivers.into()),
            );
            write(runs, number::ACK, NOTHING, parts);
        }
        Outgoing::Error {
            id,
            code,
            message,
            retryable,
            retry_after_ms,
        } => write(
            runs,
            number::ERROR,
            NOTHING,
            (
                Number::<1>(id),
                Number::<2>(code as u64),
                Text::<3>(message),
                Number::<4>(retryable.into()),
                Number::<5>(retry_after_ms.into()),
            ),
        ),
        Outgoing::Gap {
            subscription,
            dropped,
            dropped_bytes,
            topic,
        } => write(
            runs,
            number::GAP,
            NOTHING,
            (
                Number::<1>(subscription),
                Number::<2>(dropped),
                Number::<3>(dropped_bytes),
                Text::<4>(topic),
            ),
        ),
        Outgoing::StateValue {
            id,
            space,
            key,
            value,
            revision,
            source,
        } => write(
            runs,
            number::STATE_VALUE,
            NOTHING,
            (
                Number::<1>(id),
                Text::<2>(space),
                Text::<3>(key),
                Raw::<4>(value.unwrap_or_default()),
                Number::<5>(revision),
                Number::<6>(value.is_some().into()),
                Text::<7>(source),
            ),
        ),
        Outgoing::StateEvent {
            id,
            space,
            key,
            value,
            revision,
            change,
            source,
            time_unix_nanos,
        } => write(
            runs,
            number::STATE_EVENT,
            NOTHING,
            (
                Number::<1>(id),
                Text::<2>(space),
                Text::<3>(key),
                Raw::<4>(value),
                Number::<5>(revision),
                Number::<6>(change as u64),
                Text::<7>(source),
                Fixed64::<8>(time_unix_nanos),
            ),
        ),
        Outgoing::Drain {
            deadline_ms,
            reconnect_after_ms,
            jitter_ms,
        } => write(
            runs,
            number::DRAIN,
            NOTHING,
            (
                Number::<1>(deadline_ms.into()),
                Number::<2>(reconnect_after_ms.into()),
                Number::<3>(jitter_ms.into()),
            ),
        ),
        Outgoing::CancelRequest { request } => write(runs, number::CANCEL, NOTHING, (Number::<1>(request),)),
        Outgoing::CancelIntroduction { introduction } => {
            write(runs, number::CANCEL, NOTHING, (Number::<2>(introduction),));
        }
    }
}

/// Once in a session.
#[cold]
fn append_registered(runs: &mut Arena, registered: &Registered<'_>) {
    let limits = (
        Number::<1>(registered.message_bytes_max),
        Number::<2>(registered.subscriptions_max.into()),
        Number::<3>(registered.queue_bytes_max),
        Number::<4>(registered.streams_max.into()),
        Number::<5>(registered.requests_in_flight_max.into()),
    );
    let fields = (
        Text::<1>(registered.session),
        Text::<2>(registered.name),
        Embedded::<3, _>(limits),
        Raw::<4>(registered.resume_token),
        Fixed64::<5>(registered.server_time_unix_nanos),
        Text::<6>(registered.node),
        Number::<7>(registered.resumed.into()),
    );
    write(runs, number::REGISTERED, b"", fields);
}

/// Writes one message: its exact size first, so that room is made once and the lengths in front are known.
#[inline(always)]
fn write(runs: &mut Arena, number: u32, body: &[u8], fields: impl Fields) {
    let inner = body.len() + fields.size();
    let mut head = Scratch::new();
    head.tag(number, LEN);
    head.varint(inner as u64);
    let message = head.length + inner;
    // Far above every message limit; a longer one would be framed wrong.
    assert!(
        message <= u32::MAX as usize,
        "a message of {message} bytes does not fit into a gRPC frame"
    );
    let out = runs.reserve(PREFIX_BYTES + message + Scratch::BYTES);
    let [b0, b1, b2, b3] = (message as u32).to_be_bytes();
    out.put_slice(&[0, b0, b1, b2, b3]);
    head.put(out);
    out.put_slice(body);
    fields.write(out);
}

/// Fields that the gateway writes, one behind the other. Their numbers are known to the compiler, so that tags become constants.
trait Fields {
    /// Exact size in bytes.
    fn size(&self) -> usize;
    /// Appends them. There must be room for [`Scratch::BYTES`] more than their size.
    fn write(&self, out: &mut BytesMut);
}

/// An integer, bool or enum.
struct Number<const NUMBER: u32>(u64);

struct Fixed64<const NUMBER: u32>(u64);

struct Text<'a, const NUMBER: u32>(&'a str);

struct Raw<'a, const NUMBER: u32>(&'a [u8]);

/// An embedded message.
struct Embedded<const NUMBER: u32, F>(F);

impl<const NUMBER: u32> Fields for Number<NUMBER> {
    #[inline(always)]
    fn size(&self) -> usize {
        tag_size(NUMBER) + varint_size(self.0)
    }

    #[inline(always)]
    fn write(&self, out: &mut BytesMut) {
        let mut scratch = Scratch::new();
        scratch.tag(NUMBER, VARINT);
        scratch.varint(self.0);
        scratch.put(out);
    }
}

impl<const NUMBER: u32> Fields for Fixed64<NUMBER> {
    #[inline(always)]
    fn size(&self) -> usize {
        tag_size(NUMBER) + 8
    }

    #[inline(always)]
    fn write(&self, out: &mut BytesMut) {
        let mut scratch = Scratch::new();
        scratch.tag(NUMBER, I64);
        scratch.put(out);
        out.put_u64_le(self.0);
    }
}

impl<const NUMBER: u32> Fields for Text<'_, NUMBER> {
    #[inline(always)]
    fn size(&self) -> usize {
        Raw::<NUMBER>(self.0.as_bytes()).size()
    }

    #[inline(always)]
    fn write(&self, out: &mut BytesMut) {
        Raw::<NUMBER>(self.0.as_bytes()).write(out);
    }
}

impl<const NUMBER: u32> Fields for Raw<'_, NUMBER> {
    #[inline(always)]
    fn size(&self) -> usize {
        tag_size(NUMBER) + varint_size(self.0.len() as u64) + self.0.len()
    }

    #[inline(always)]
    fn write(&self, out: &mut BytesMut) {
        let mut scratch = Scratch::new();
        scratch.tag(NUMBER, LEN);
        scratch.varint(self.0.len() as u64);
        scratch.put(out);
        out.put_slice(self.0);
    }
}

impl<const NUMBER: u32, F: Fields> Fields for Embedded<NUMBER, F> {
    fn size(&self) -> usize {
        let inner = self.0.size();
        tag_size(NUMBER) + varint_size(inner as u64) + inner
    }

    fn write(&self, out: &mut BytesMut) {
        let mut scratch = Scratch::new();
        scratch.tag(NUMBER, LEN);
        scratch.varint(self.0.size() as u64);
        scratch.put(out);
        self.0.write(out);
    }
}

macro_rules! fields_of_tuples {
    ($(($($field:ident)+))+) => {$(
        impl<$($field: Fields),+> Fields for ($($field,)+) {
            #[inline(always)]
            fn size(&self) -> usize {
                #[allow(non_snake_case, reason = "the type parameters name the elements too")]
                let ($($field,)+) = self;
                0 $(+ $field.size())+
            }

            #[inline(always)]
            fn write(&self, out: &mut BytesMut) {
                #[allow(non_snake_case, reason = "the type parameters name the elements too")]
                let ($($field,)+) = self;
                $($field.write(out);)+
            }
        }
    )+};
}

fields_of_tuples! { (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F G) (A B C D E F G H) }

/// A tag and what follows it, on their way into the buffer.
struct Scratch {
    bytes: [u8; Scratch::BYTES],
    length: usize,
}

impl Scratch {
    /// A tag of five bytes and a varint of ten.
    const BYTES: usize = 16;

    #[inline(always)]
    fn new() -> Scratch {
        Scratch {
            bytes: [0; Scratch::BYTES],
            length: 0,
        }
    }

    #[inline(always)]
    fn tag(&mut self, number: u32, wire_type: u8) {
        self.varint(u64::from(number << 3) | u64::from(wire_type));
    }

    #[inline(always)]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    #[inline(always)]
    fn byte(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    /// Appends all of the array and cuts off what is not used: a copy of fixed length is one move instead of a call. There must
    /// be room for [`Scratch::BYTES`].
    #[inline(always)]
    fn put(&self, out: &mut BytesMut) {
        let end = out.len() + self.length;
        out.put_slice(&self.bytes);
        out.truncate(end);
    }
}

#[inline(always)]
fn tag_size(number: u32) -> usize {
    varint_size(u64::from(number << 3))
}

/// Bytes of a varint: seven bits in each, one at least.
#[inline(always)]
fn varint_size(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}
