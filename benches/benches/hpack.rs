//! Header compression: the headers of a gRPC call.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, criterion_group, criterion_main};
use ringgate_benches::results;
use ringgate_benches::stream::REQUEST;
use ringgate_http2::Header;
use ringgate_http2::hpack::{Decoder, Encoder};

fn encode(criterion: &mut Criterion) {
    let headers = REQUEST.map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes()));
    let mut group = criterion.benchmark_group("hpack/encode request");
    for (name, huffman) in [("plain", false), ("huffman", true)] {
        let mut encoder = Encoder::new(huffman);
        let mut out = BytesMut::with_capacity(1024);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                encoder.encode(black_box(&headers), &mut out);
            });
        });
    }
    group.finish();
}

fn decode(criterion: &mut Criterion) {
    let headers = REQUEST.map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes()));
    let mut group = criterion.benchmark_group("hpack/decode request");
    for (name, huffman) in [("plain", false), ("huffman", true)] {
        let mut block = BytesMut::new();
        Encoder::new(huffman).encode(&headers, &mut block);
        let mut decoder = Decoder::new(4096);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let decoded = decoder.decode(black_box(&block), |header| {
                    black_box(header.value);
                });
                decoded.expect("our own block");
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = results::criterion();
    targets = encode, decode
}
criterion_main!(benches);
