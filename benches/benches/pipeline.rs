//! All layers but the kernel: DATA of a publisher in, DATA of its subscribers out. Per delivery; compare it with the raw relay's
//! cost in `end_to_end`, which is nearly all kernel.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringgate_benches::pipeline::Pipeline;
use ringgate_benches::results;

fn pipeline(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pipeline");
    for (subscribers, bytes, batch) in [
        (10, 256, 64),
        (100, 256, 16),
        (1_000, 256, 1),
        (10, 16_384, 16),
        (100, 64, 256),
    ] {
        let mut pipeline = Pipeline::new(subscribers, bytes, batch);
        group.throughput(Throughput::Elements((subscribers * batch) as u64));
        group.bench_function(format!("{subscribers} × {bytes} B × {batch}"), |bencher| {
            bencher.iter(|| pipeline.turn());
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = results::criterion();
    targets = pipeline
}
criterion_main!(benches);
