//! What is counted. Names say what one operation is.

use std::hint::black_box;

use bytes::BytesMut;
use ringgate_gateway::action::Action;
use ringgate_gateway::outgoing::{Dialect, Encoder as _, Outgoing};
use ringgate_grpc::{Deframer, Encoding};
use ringgate_http2::Header;
use ringgate_http2::hpack::{Decoder, Encoder};
use ringgate_wire::{AgpEncoder, agp};

use super::Case;
use crate::pipeline::Pipeline;
use crate::stream::{REQUEST, Stream, data_frames};
use crate::{hub, messages};

/// Operations of one run where nothing else says how many: enough for the call of the run itself not to count.
const BATCH: u64 = 64;
/// Messages of one body to be split.
const SPLIT: u64 = 50;
/// Topics that are published to in turn: too many for the publisher's session to remember, few enough to be all prepared within the
/// warm-up.
const TOPICS: usize = 1_000;
const MESSAGE_BYTES_MAX: u32 = 4 << 20;

/// All there are, bottom to top.
pub const CASES: &[Case] = &[
    case("http2: receive a DATA frame of 300 B", BATCH, receive_small),
    case("http2: receive a DATA frame of 16 KiB", 1, receive_large),
    case("http2: head of a DATA frame", BATCH, pack),
    case("http2: open a connection and a call", 1, open),
    case("hpack: encode a request", 1, || encode_headers(false)),
    case("hpack: encode a request, Huffman", 1, || encode_headers(true)),
    case("hpack: decode a request", 1, || decode_headers(false)),
    case("hpack: decode a request, Huffman", 1, || decode_headers(true)),
    case("grpc: split off a message", SPLIT, || split(usize::MAX)),
    case("grpc: split off a message, pieces of 200 B", SPLIT, || split(200)),
    case("agp: decode a publish of 256 B", BATCH, decode_publish),
    case("agp: decode a request of 256 B", BATCH, decode_request),
    case("agp: encode a notify of 256 B", BATCH, encode_notify),
    case(
        "gateway: publish to nobody, topic and permission known",
        BATCH,
        publish_known,
    ),
    case(
        "gateway: route, topic known, beside 1000 subscriptions",
        BATCH,
        || route(1_000, true),
    ),
    case("gateway: match, beside 1000 subscriptions", BATCH, || {
        route(1_000, false)
    }),
    case("gateway: match, beside 100000 subscriptions", BATCH, || {
        route(100_000, false)
    }),
    case("gateway: match, beside 1000000 subscriptions", BATCH, || {
        route(1_000_000, false)
    }),
    case(
        "gateway: subscribe and unsubscribe, beside 1000 subscriptions",
        BATCH,
        || subscribe(1_000),
    ),
    case(
        "gateway: subscribe and unsubscribe, beside 1000000 subscriptions",
        BATCH,
        || subscribe(1_000_000),
    ),
    case("gateway: delivery of one publish to 100", 100, fan_out),
    case("pipeline: delivery, 10 × 256 B × 64", 640, || {
        pipeline(10, 256, 64)
    }),
    case("pipeline: delivery, 100 × 256 B × 16", 1600, || {
        pipeline(100, 256, 16)
    }),
    case("pipeline: delivery, 1000 × 256 B × 1", 1000, || {
        pipeline(1000, 256, 1)
    }),
    case("pipeline: delivery, 10 × 16 KiB × 16", 160, || {
        pipeline(10, 16_384, 16)
    }),
    case("pipeline: delivery, 100 × 64 B × 256", 25_600, || {
        pipeline(100, 64, 256)
    }),
];

const fn case(name: &'static str, operations: u64, prepare: fn() -> Box<dyn FnMut()>) -> Case {
    Case {
        name,
        operations,
        prepare,
    }
}

fn receive_small() -> Box<dyn FnMut()> {
    receive(300, BATCH)
}

fn receive_large() -> Box<dyn FnMut()> {
    receive(16_384, 1)
}

fn receive(bytes: usize, frames: u64) -> Box<dyn FnMut()> {
    let input: Vec<u8> = (0..frames).flat_map(|_| data_frames(&vec![7; bytes])).collect();
    let mut stream = Stream::open();
    Box::new(move || {
        stream.receive(black_box(&input), |data| {
            black_box(data);
        });
    })
}

fn pack() -> Box<dyn FnMut()> {
    let mut stream = Stream::open();
    Box::new(move || {
        for _ in 0..BATCH {
            stream.pack(black_box(300), |head, _| {
                black_box(head);
            });
        }
    })
}

fn open() -> Box<dyn FnMut()> {
    Box::new(|| {
        black_box(Stream::open());
    })
}

fn encode_headers(huffman: bool) -> Box<dyn FnMut()> {
    let mut encoder = Encoder::new(huffman);
    let mut out = BytesMut::with_capacity(1024);
    Box::new(move || {
        let headers = REQUEST.map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes()));
        out.clear();
        encoder.encode(black_box(&headers), &mut out);
    })
}

fn decode_headers(huffman: bool) -> Box<dyn FnMut()> {
    let headers = REQUEST.map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes()));
    let mut block = BytesMut::new();
    Encoder::new(huffman).encode(&headers, &mut block);
    let mut decoder = Decoder::new(4096);
    Box::new(move || {
        let decoded = decoder.decode(black_box(&block), |header| {
            black_box(header.value);
        });
        decoded.expect("our own block");
    })
}

fn split(piece_bytes: usize) -> Box<dyn FnMut()> {
    let body = messages::framed(&vec![messages::publish(messages::TOPIC, 256); SPLIT as usize]);
    let mut deframer = Deframer::new(MESSAGE_BYTES_MAX, Encoding::Identity);
    Box::new(move || {
        for mut piece in black_box(&body).chunks(piece_bytes) {
            while let Some(message) = deframer.next(&mut piece).expect("good messages") {
                black_box(message.payload);
            }
        }
    })
}

fn decode_publish() -> Box<dyn FnMut()> {
    decode(messages::publish(messages::TOPIC, 256))
}

fn decode_request() -> Box<dyn FnMut()> {
    decode(messages::request(7, &messages::agent_name(1), 256))
}

fn decode(message: Vec<u8>) -> Box<dyn FnMut()> {
    Box::new(move || {
        for _ in 0..BATCH {
            black_box(agp::decode(black_box(&message)).expect("a good message"));
        }
    })
}

fn encode_notify() -> Box<dyn FnMut()> {
    let message = messages::publish(messages::TOPIC, 256);
    let name = messages::agent_name(1);
    let mut encoder = AgpEncoder::default();
    Box::new(move || {
        let Ok(Action::Publish(publish)) = agp::decode(&message) else {
            panic!("it is a publish")
        };
        for sequence in 0..BATCH {
            let notify = Outgoing::Notify {
                body: black_box(publish.body),
                source: &name,
                sequence,
                time_unix_nanos: 1_700_000_000_000_000_000,
            };
            encoder.append(Dialect::Agp, &notify);
        }
        black_box(encoder.take());
    })
}

/// What each publish costs whose topic is the one of before: decoding, one look at policy's generation, one at the table's.
fn publish_known() -> Box<dyn FnMut()> {
    let (mut hub, publisher) = hub::fan_out(0);
    let publish = messages::publish(messages::TOPIC, 256);
    Box::new(move || {
        for _ in 0..BATCH {
            hub.say(publisher, black_box(&publish));
        }
    })
}

/// One subscriber for each topic; each publish is for another topic than the one before. With decoding, policy, queueing and taking
/// out.
fn route(subscriptions: usize, remembered: bool) -> Box<dyn FnMut()> {
    let (mut hub, publisher, _) = hub::table(subscriptions, remembered);
    // Of more topics policy's decisions would not be remembered.
    let topics = match remembered {
        true => hub::TOPICS_REMEMBERED,
        false => TOPICS,
    };
    let step = subscriptions / topics;
    let publishes: Vec<Vec<u8>> = (0..topics)
        .map(|number| messages::publish(&hub::topic(number * step), 64))
        .collect();
    let mut next = 0;
    Box::new(move || {
        for _ in 0..BATCH {
            hub.say(publisher, black_box(&publishes[next]));
            next = (next + 1) % topics;
        }
        black_box(hub.drain());
    })
}

fn subscribe(standing: usize) -> Box<dyn FnMut()> {
    let (mut hub, _, _) = hub::table(standing, true);
    let agent = hub.agent();
    hub.drain();
    let subscribe = messages::subscribe(1, "bench/of/its/own");
    let unsubscribe = messages::unsubscribe(1);
    Box::new(move || {
        for _ in 0..BATCH {
            hub.say(agent, black_box(&subscribe));
            hub.say(agent, black_box(&unsubscribe));
        }
        black_box(hub.drain());
    })
}

fn fan_out() -> Box<dyn FnMut()> {
    let (mut hub, publisher) = hub::fan_out(100);
    let publish = messages::publish(messages::TOPIC, 256);
    Box::new(move || {
        hub.say(publisher, black_box(&publish));
        black_box(hub.drain());
    })
}

fn pipeline(subscribers: usize, payload_bytes: usize, batch: usize) -> Box<dyn FnMut()> {
    let mut pipeline = Pipeline::new(subscribers, payload_bytes, batch);
    Box::new(move || {
        black_box(pipeline.turn());
    })
}
