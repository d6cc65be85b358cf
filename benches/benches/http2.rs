//! HTTP/2 framing: DATA in, DATA heads out.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringgate_benches::messages;
use ringgate_benches::results;
use ringgate_benches::stream::{Stream, data_frames};

fn receive(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("http2/receive");
    for (name, bytes, frames) in [
        ("one 300 B frame", 300, 1),
        ("64 frames of 300 B", 300, 64),
        ("one 16 KiB frame", 16_384, 1),
    ] {
        let mut input = Vec::new();
        (0..frames).for_each(|_| input.extend(data_frames(&vec![7; bytes])));
        let mut stream = Stream::open();
        group.throughput(Throughput::Elements(frames));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                stream.receive(black_box(&input), |data| {
                    black_box(data);
                })
            });
        });
    }
    // What a publisher with much to say sends: many messages in one frame.
    let body = messages::framed(&vec![messages::publish(messages::TOPIC, 256); 50]);
    let input = data_frames(&body);
    let mut stream = Stream::open();
    group.throughput(Throughput::Elements(50));
    group.bench_function("50 messages in one frame", |bencher| {
        bencher.iter(|| {
            stream.receive(black_box(&input), |data| {
                black_box(data);
            })
        });
    });
    group.finish();
}

fn pack(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("http2/pack");
    for bytes in [300, 16_384, 65_536] {
        let mut stream = Stream::open();
        group.bench_function(format!("{bytes} B"), |bencher| {
            bencher.iter(|| {
                stream.pack(black_box(bytes), |head, _| {
                    black_box(head);
                })
            });
        });
    }
    group.finish();
}

fn open(criterion: &mut Criterion) {
    criterion.bench_function("http2/connection and call", |bencher| bencher.iter(Stream::open));
}

criterion_group! {
    name = benches;
    config = results::criterion();
    targets = receive, pack, open
}
criterion_main!(benches);
