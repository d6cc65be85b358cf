//! `decode` on whatever bytes: it never panics, and what it accepts prost accepts, with the same meaning. Runs a short while as a
//! test; `cargo bolero test` makes a fuzzer of it.

mod support;

use bolero::check;
use ringgate_wire::AgpEncoder;
use ringgate_wire::agp::decode;
use support::{agent_message, judge};

#[test]
fn whole_messages() {
    check!().for_each(|message: &[u8]| {
        if let Ok(action) = decode(message) {
            judge(message, &action, &mut AgpEncoder::default());
        }
    });
}

/// Most random bytes fail at the first tag; a body of a given kind gets further.
#[test]
fn bodies() {
    check!().with_type().for_each(|(kind, body): &(u8, Vec<u8>)| {
        let message = agent_message(1 + u32::from(*kind) % 20, body);
        if let Ok(action) = decode(&message) {
            judge(&message, &action, &mut AgpEncoder::default());
        }
    });
}
