//! Splitting DATA into gRPC messages.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringgate_benches::messages;
use ringgate_benches::results;
use ringgate_grpc::{Deframer, Encoding};

const MESSAGE_BYTES_MAX: u32 = 4 << 20;

fn split(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("grpc/split");
    let count = 50;
    let body = messages::framed(&vec![messages::publish(messages::TOPIC, 256); count]);
    // Whole in one piece; cut as frames cut them; cut so that nearly every message crosses a border.
    for (name, piece) in [
        ("whole", body.len()),
        ("pieces of 4 KiB", 4096),
        ("pieces of 200 B", 200),
    ] {
        let mut deframer = Deframer::new(MESSAGE_BYTES_MAX, Encoding::Identity);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for mut piece in black_box(&body).chunks(piece) {
                    while let Some(message) = deframer.next(&mut piece).expect("good messages") {
                        black_box(message.payload);
                    }
                }
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = results::criterion();
    targets = split
}
criterion_main!(benches);
