//! The gateway's core: matching topics, changing subscriptions, fanning out.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringgate_benches::results;
use ringgate_benches::{hub, messages};

/// Sizes of the subscription table; cost must not depend on them.
const TABLES: [usize; 3] = [1_000, 100_000, 1_000_000];
/// Publishes between two ends of a turn.
const BATCH: usize = 64;
/// Topics that are published to in turn: too many to be remembered by the publisher's session, few enough to be prepared.
const TOPICS: usize = 1_000;

/// Routes publishes whose topic changes each time.
fn route(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gateway/route among");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (how, remembered) in [("remembered", true), ("searched", false)] {
        for count in TABLES {
            let (mut hub, publisher, _) = hub::table(count, remembered);
            let step = count / TOPICS;
            let publishes: Vec<Vec<u8>> = (0..TOPICS)
                .map(|number| messages::publish(&hub::topic(number * step), 64))
                .collect();
            let mut next = 0;
            group.bench_function(format!("{count} topics, {how}"), |bencher| {
                bencher.iter(|| {
                    for _ in 0..BATCH {
                        hub.say(publisher, black_box(&publishes[next]));
                        next = (next + 1) % TOPICS;
                    }
                    hub.drain()
                });
            });
        }
    }
    group.finish();
}

/// Makes a subscription and gives it up again.
fn subscribe(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gateway/subscribe and unsubscribe beside");
    for count in TABLES {
        let (mut hub, _, _) = hub::table(count, true);
        let agent = hub.agent();
        hub.drain();
        let subscribe = messages::subscribe(1, "bench/of/its/own");
        let unsubscribe = messages::unsubscribe(1);
        group.bench_function(format!("{count} subscriptions"), |bencher| {
            bencher.iter(|| {
                hub.say(agent, black_box(&subscribe));
                hub.say(agent, black_box(&unsubscribe));
                hub.drain()
            });
        });
    }
    group.finish();
}

/// Publishes a batch and pulls what each subscriber gets. Per delivery.
fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gateway/fan-out");
    for (subscribers, bytes, batch) in [
        (1, 256, 64),
        (10, 256, 64),
        (100, 256, 16),
        (1_000, 256, 1),
        (10, 16_384, 16),
        (100, 64, 256),
    ] {
        let (mut hub, publisher) = hub::fan_out(subscribers);
        let publish = messages::publish(messages::TOPIC, bytes);
        group.throughput(Throughput::Elements((subscribers * batch) as u64));
        group.bench_function(format!("{subscribers} × {bytes} B × {batch}"), |bencher| {
            bencher.iter(|| {
                (0..batch).for_each(|_| hub.say(publisher, black_box(&publish)));
                hub.drain()
            });
        });
    }
    group.finish();
}

/// Publishes to nobody whose topic changes each time: with policy's decisions remembered, and with more topics than are.
fn permission(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gateway/permission to publish");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (how, count) in [("remembered", hub::TOPICS_REMEMBERED), ("asked", TOPICS)] {
        let (mut hub, publisher) = hub::fan_out(0);
        let publishes = hub::publishes(count);
        let mut next = 0;
        group.bench_function(format!("{count} topics, {how}"), |bencher| {
            bencher.iter(|| {
                for _ in 0..BATCH {
                    hub.say(publisher, black_box(&publishes[next]));
                    next = (next + 1) % count;
                }
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = results::criterion();
    targets = route, subscribe, fan_out, permission
}
criterion_main!(benches);
