//! SLIM and the Agent Gateway Protocol of 2025: reading and routing, fanning out with codes and without, changing subscriptions.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringgate_benches::{dialects, results};

/// Subscribers, bytes of payload, and messages of a turn.
const SHAPES: [(usize, usize, usize); 3] = [(0, 256, 64), (100, 256, 16), (1000, 256, 1)];
/// Sizes of the subscription table; cost must not depend on them.
const TABLES: [usize; 2] = [1_000, 20_000];

fn name((subscribers, bytes, batch): (usize, usize, usize)) -> String {
    format!("{subscribers} × {bytes} B × {batch}")
}

/// Operations of a turn: deliveries, or publishes where nobody gets any.
fn operations((subscribers, _, batch): (usize, usize, usize)) -> Throughput {
    Throughput::Elements((subscribers.max(1) * batch) as u64)
}

fn slim_fan_out(criterion: &mut Criterion) {
    for (how, mac) in [("with MAC", true), ("without MAC", false)] {
        let mut group = criterion.benchmark_group(format!("slim/fan-out {how}"));
        for shape in SHAPES {
            let (subscribers, bytes, batch) = shape;
            let (mut node, mut publisher) = dialects::slim_fan_out(subscribers, mac);
            let publish = publisher.publish(0, bytes);
            group.throughput(operations(shape));
            group.bench_function(name(shape), |bencher| {
                bencher.iter(|| {
                    (0..batch).for_each(|_| node.hear(publisher.connection, black_box(&publish)));
                    node.drain()
                });
            });
        }
        group.finish();
    }
}

fn agp2025_fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("agp 2025/fan-out");
    for shape in SHAPES {
        let (subscribers, bytes, batch) = shape;
        let (mut node, publisher, publish) = dialects::agp2025_fan_out(subscribers, bytes);
        group.throughput(operations(shape));
        group.bench_function(name(shape), |bencher| {
            bencher.iter(|| {
                (0..batch).for_each(|_| node.hear(publisher, black_box(&publish)));
                node.drain()
            });
        });
    }
    group.finish();
}

/// Makes a subscription and gives it up again, each confirmed.
fn slim_subscribe(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("slim/subscribe and unsubscribe beside");
    for count in TABLES {
        let (mut node, mut app) = dialects::slim_table(count);
        let (subscribe, unsubscribe) = (app.subscribe(count), app.unsubscribe(count));
        group.bench_function(format!("{count} subscriptions"), |bencher| {
            bencher.iter(|| {
                node.hear(app.connection, black_box(&subscribe));
                node.hear(app.connection, black_box(&unsubscribe));
                node.drain()
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = results::criterion();
    targets = slim_fan_out, agp2025_fan_out, slim_subscribe
}
criterion_main!(benches);
