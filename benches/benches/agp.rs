//! The native dialect: bytes to actions, outgoing messages to bytes.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringgate_benches::messages;
use ringgate_benches::results;
use ringgate_gateway::action::Action;
use ringgate_gateway::outgoing::{Dialect, Encoder, Outgoing};
use ringgate_wire::{AgpEncoder, agp};

/// Messages of one run, as a busy turn has them.
const RUN: u64 = 64;

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("agp/decode");
    for bytes in [64, 256, 16_384] {
        let message = messages::publish(messages::TOPIC, bytes);
        group.bench_function(format!("publish of {bytes} B"), |bencher| {
            bencher.iter(|| agp::decode(black_box(&message)).expect("a good message"));
        });
    }
    let request = messages::request(7, &messages::agent_name(1), 256);
    group.bench_function("request of 256 B", |bencher| {
        bencher.iter(|| agp::decode(black_box(&request)).expect("a good message"));
    });
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("agp/encode");
    group.throughput(Throughput::Elements(RUN));
    for bytes in [64, 256, 16_384] {
        let message = messages::publish(messages::TOPIC, bytes);
        let Ok(Action::Publish(publish)) = agp::decode(&message) else {
            panic!("it is a publish")
        };
        let name = messages::agent_name(1);
        let mut encoder = AgpEncoder::default();
        group.bench_function(format!("run of {RUN} notifies of {bytes} B"), |bencher| {
            bencher.iter(|| {
                for sequence in 0..RUN {
                    let notify = Outgoing::Notify {
                        body: black_box(publish.body),
                        source: &name,
                        sequence,
                        time_unix_nanos: 1_700_000_000_000_000_000,
                    };
                    encoder.append(Dialect::Agp, &notify);
                }
                encoder.take()
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = results::criterion();
    targets = decode, encode
}
criterion_main!(benches);
