//! However the bytes are split, the events are the same.

use proptest::prelude::*;
use ringgate_http2::frame::{Kind, flags};
use ringgate_http2::{Config, ErrorCode, Violation};

use crate::peer::*;

/// Events with pieces of one body joined, since how a body is cut depends on the split.
fn joined(heard: Vec<Heard>) -> Vec<Heard> {
    let mut out: Vec<Heard> = Vec::new();
    for event in heard {
        match (out.last_mut(), event) {
            (
                Some(Heard::Data { stream, payload, end }),
                Heard::Data {
                    stream: next,
                    payload: more,
                    end: more_end,
                },
            ) if *stream == next && !*end => {
                payload.extend_from_slice(&more);
                *end = more_end;
            }
            (_, event) => out.push(event),
        }
    }
    out
}

fn conversation(bytes: &[u8], cuts: &[usize]) -> (Vec<Heard>, Option<Violation>, Vec<u8>) {
    let config = Config {
        stream_window_bytes: 1000,
        streams_max: 4,
        ..Config::default()
    };
    let mut server = Conversation::server_with(config);
    let (mut heard, mut violation, mut start) = (Vec::new(), None, 0);
    for &end in cuts.iter().chain([&bytes.len()]) {
        let end = end.clamp(start, bytes.len());
        let mut input = &bytes[start..end];
        start = end;
        loop {
            match server.connection.receive(&mut input, server.now) {
                Ok(Some(event)) => heard.push(Heard::from(event)),
                Ok(None) => break,
                Err(error) => {
                    violation = Some(error.violation());
                    break;
                }
            }
        }
    }
    (joined(heard), violation, server.connection.output().to_vec())
}

fn some_frame() -> impl Strategy<Value = Vec<u8>> {
    let stream = prop_oneof![
        Just(0u32),
        Just(1),
        Just(3),
        Just(5),
        Just(7),
        Just(9),
        Just(11),
        Just(2)
    ];
    let payload = proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        4 => (stream.clone(), any::<bool>()).prop_map(|(id, end)| request(id, end)),
        6 => (stream.clone(), payload.clone(), any::<bool>()).prop_map(|(id, body, end)| data(id, &body, end)),
        2 => (stream.clone(), payload.clone()).prop_map(|(id, mut body)| {
            body.insert(0, 3);
            raw(Kind::DATA, flags::PADDED, id, &body)
        }),
        1 => stream.clone().prop_map(|id| headers(id, &block(&[("t", "v")]), true)),
        1 => (stream.clone(), 0..40usize).prop_map(|(id, at)| {
            let block = request_with(&[("split", "this header block where chance has it")]);
            let first = raw(Kind::HEADERS, flags::END_STREAM, id, &block[..at]);
            [first, raw(Kind::CONTINUATION, flags::END_HEADERS, id, &block[at..])].concat()
        }),
        1 => (stream.clone(), 0..3000u32).prop_map(|(id, increment)| window_update(id, increment)),
        1 => stream.clone().prop_map(|id| rst(id, ErrorCode::CANCEL)),
        1 => Just(settings(&[(4, 7), (5, 20_000)])),
        1 => Just(ping(b"abcdefgh", false)),
        1 => (any::<u8>(), any::<u8>(), stream, payload).prop_map(|(kind, flags, id, body)| {
            raw(Kind(kind), flags, id, &body)
        }),
    ]
}

proptest! {
    #[test]
    fn any_split_gives_the_same_events(
        frames in proptest::collection::vec(some_frame(), 1..20),
        mut cuts in proptest::collection::vec(0..800usize, 0..30),
    ) {
        let bytes = frames.concat();
        cuts.sort_unstable();
        let whole = conversation(&bytes, &[]);
        prop_assert_eq!(&conversation(&bytes, &cuts), &whole);
        let singly: Vec<usize> = (0..bytes.len()).collect();
        prop_assert_eq!(&conversation(&bytes, &singly), &whole);
    }
}
