//! Arbitrary bytes into whatever reads bytes of a peer: it answers, and neither panics nor holds memory that nobody sent.
//!
//! As tests these run on random input; `cargo bolero test -p ringgate-grpc <name>` runs one under a fuzzer.

use bytes::BytesMut;
use ringgate_grpc::{
    Deframer, Encoding, Request, Status, frame,
    health::{Registry, ServingStatus, Watch},
    reflection::{Reflection, SERVICE_V1},
};
use ringgate_http2::{Header, HeaderList};
use ringgate_proto::FILE_DESCRIPTOR_SET;

/// Small, so that random lengths fall on both sides of it.
const MESSAGE_BYTES_MAX: u32 = 64;

/// What arrives on a stream: plain noise would nearly always fail at its first prefix.
#[derive(Debug, bolero::TypeGenerator)]
enum Piece {
    /// A prefix, which the bytes behind it need not keep. Flags are 0 to 3, lengths on both sides of the limit.
    Prefix { flag: u8, len: u8 },
    /// A whole message.
    Message { payload: Vec<u8>, compressed: bool },
    /// Anything.
    Noise(Vec<u8>),
}

impl Piece {
    fn append_to(&self, stream: &mut BytesMut) {
        match self {
            Self::Prefix { flag, len } => stream.extend_from_slice(&[flag % 4, 0, 0, 0, len % 80]),
            Self::Message {
                payload,
                compressed: true,
            } => frame::append_gzip(stream, payload),
            Self::Message {
                payload,
                compressed: false,
            } => frame::append(stream, payload),
            Self::Noise(bytes) => stream.extend_from_slice(bytes),
        }
    }
}

/// What comes out of a stream that is cut into inputs of `size` bytes: the messages, and the status if it fails.
fn deframe(stream: &[u8], size: usize, encoding: Encoding) -> (Vec<Vec<u8>>, Option<Status>) {
    let mut deframer = Deframer::new(MESSAGE_BYTES_MAX, encoding);
    let (mut messages, mut failure) = (Vec::new(), None);
    for mut input in stream.chunks(size) {
        loop {
            match deframer.next(&mut input) {
                Ok(Some(message)) => messages.push(message.payload.to_vec()),
                Ok(None) => break,
                Err(status) => assert_eq!(failure.replace(status), None, "a stream fails once"),
            }
        }
        assert!(input.is_empty());
        assert!(deframer.held_bytes() <= 4 * MESSAGE_BYTES_MAX as usize);
    }
    assert!(
        messages
            .iter()
            .all(|message| message.len() <= MESSAGE_BYTES_MAX as usize)
    );
    assert!(failure.is_none() || deframer.finish().is_ok());
    (messages, failure)
}

#[test]
fn deframer() {
    bolero::check!()
        .with_type::<(bool, u8, Vec<Piece>)>()
        .for_each(|(gzip, size, pieces)| {
            let encoding = if *gzip { Encoding::Gzip } else { Encoding::Identity };
            let mut stream = BytesMut::new();
            pieces.iter().for_each(|piece| piece.append_to(&mut stream));
            let whole = deframe(&stream, stream.len().max(1), encoding);
            assert_eq!(
                deframe(&stream, 1 + usize::from(*size), encoding),
                whole,
                "borders change nothing"
            );
        });
}

#[test]
fn request() {
    const NAMES: [&str; 10] = [
        ":method",
        ":path",
        ":authority",
        "content-type",
        "te",
        "grpc-timeout",
        "grpc-encoding",
        "grpc-accept-encoding",
        "x-bin",
        "x",
    ];
    bolero::check!()
        .with_type::<Vec<(u8, Vec<u8>)>>()
        .for_each(|fields| {
            let usual = [
                (":method", "POST"),
                (":path", "/a/b"),
                ("content-type", "application/grpc"),
            ];
            let usual = usual.map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes()));
            let name = |index: u8| NAMES[usize::from(index) % NAMES.len()].as_bytes();
            let random = fields
                .iter()
                .map(|(index, value)| Header::new(name(*index), value));
            // What comes first counts: half of the lists get past the first checks and try those behind them.
            let lead = usize::from(fields.len() % 2 == 0) * usual.len();
            match Request::parse(usual.into_iter().take(lead).chain(random).collect()) {
                Ok(request) => {
                    assert_eq!(
                        format!("/{}/{}", request.service(), request.method()),
                        request.path()
                    );
                    assert!(
                        request
                            .metadata()
                            .all(|header| matches!(header.name, b"x" | b"x-bin"))
                    );
                }
                Err(refusal) => {
                    let reply = refusal.reply();
                    assert!(matches!(reply.headers.status(), Some(200 | 405 | 415)));
                    let printable =
                        |header: Header<'_>| header.value.iter().all(|byte| (b' '..=b'~').contains(byte));
                    assert!(reply.headers.iter().all(printable));
                }
            }
        });
}

#[test]
fn status() {
    bolero::check!()
        .with_type::<(Option<Vec<u8>>, Vec<u8>)>()
        .for_each(|(number, message)| {
            let mut trailers = HeaderList::new();
            if let Some(number) = number {
                trailers.push(b"grpc-status", number);
            }
            trailers.push(b"grpc-message", message);
            Status::from_trailers(&trailers);
        });
}

#[test]
fn services() {
    let registry = Registry::new([SERVICE_V1], ServingStatus::Serving);
    let reflection = Reflection::new(FILE_DESCRIPTOR_SET, &[SERVICE_V1]).expect("own descriptors");
    bolero::check!().for_each(|message: &[u8]| {
        if let Ok(mut watch) = Watch::open(message) {
            assert!(watch.poll(&registry).is_some());
        }
        let _ = registry.check(message);
        let _ = registry.list(message);
        let _ = reflection.answer(message);
    });
}
