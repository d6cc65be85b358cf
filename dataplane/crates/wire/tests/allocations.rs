//! No heap allocation for a forwarded message in steady state.

mod support;

use std::collections::VecDeque;

use bytes::Bytes;
use ringgate_gateway::action::Action;
use ringgate_gateway::outgoing::{Dialect, Encoder as _, Outgoing};
use ringgate_wire::AgpEncoder;
use ringgate_wire::agp::decode;

/// Forwards `messages` publishes in runs of `run`, while the last `in_flight` runs are still being sent.
fn forward(
    encoder: &mut AgpEncoder,
    queue: &mut VecDeque<Bytes>,
    message: &[u8],
    (messages, run, in_flight): (u64, u64, usize),
) {
    for sequence in 1..=messages {
        let Ok(Action::Publish(publish)) = decode(message) else {
            panic!()
        };
        let outgoing = Outgoing::Notify {
            body: publish.body,
            source: "org/ns/s/i",
            sequence,
            time_unix_nanos: 1,
        };
        encoder.append(Dialect::Agp, &outgoing);
        if sequence % run == 0 {
            queue.push_back(encoder.take());
            while queue.len() > in_flight {
                queue.pop_front();
            }
        }
    }
}

#[test]
fn forwarding_does_not_allocate() {
    for (payload, run, in_flight) in [
        (64, 1, 1),
        (256, 64, 0),
        (256, 64, 8),
        (16 << 10, 2, 16),
        (16 << 10, 1, 0),
        (1 << 20, 1, 2),
    ] {
        let mut body = Vec::new();
        support::sized(&mut body, 1, b"weather/berlin");
        support::sized(&mut body, 2, &vec![7; payload]);
        let message = support::agent_message(4, &body);
        let mut encoder = AgpEncoder::default();
        let mut queue = VecDeque::with_capacity(64);
        let count = if payload > 100_000 { 100 } else { 10_000 };
        forward(&mut encoder, &mut queue, &message, (count, run, in_flight));
        let counted = allocation_counter::measure(|| {
            forward(&mut encoder, &mut queue, &message, (count, run, in_flight));
        });
        assert_eq!(
            counted.count_total, 0,
            "{payload} bytes, {in_flight} runs in flight"
        );
    }
}
