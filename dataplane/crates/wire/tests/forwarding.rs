//! What the dialects SLIM and AGP 2025 pass on is what arrived but for the fields that a node changes: as another implementation reads it,
//! and byte by byte. Messages come from seeds, their fields in any order, unknown ones among them.

mod pubsub_proto;
mod slim_support;
mod wild;

use bytes::Bytes;
use fastrand::Rng;
use prost::Message as _;
use ringgate_switch::{Dialect, Form, Ignored, Said};
use ringgate_wire::slim::client::Client;
use ringgate_wire::slim::{HeaderMac, SlimConfig};
use ringgate_wire::{PubSub, PubSubConfig};
use slim_support::{Node, greeting, plain, proto, random};
use wild::{fields, scramble, value};

const SEEDS: u64 = 600;

/// Passes a message on from one link to another. `None`: it was dropped.
fn forward<D: Dialect>(
    dialect: &mut D,
    from: &mut D::Link,
    message: &[u8],
    to: &mut D::Link,
) -> Option<Vec<u8>> {
    let Said::Publish(publish) = dialect.read(from, message) else {
        return None;
    };
    dialect.append(&publish.letter);
    assert!(dialect.pending() >= message.len().saturating_sub(100));
    let run = dialect.take();
    let form = D::form(to);
    let frame = match form {
        Form::Shared => dialect.shared(&run),
        Form::Own => {
            assert_eq!(D::first_len(form, &run), run.len());
            let rendered = dialect.render(to, &run, 1, 1);
            assert_eq!((rendered.used, rendered.messages), (run.len(), 1));
            [&rendered.bytes[..], &rendered.rest[..]].concat().into()
        }
    };
    assert_eq!(
        frame[..5],
        [&[0][..], &(frame.len() as u32 - 5).to_be_bytes()].concat()
    );
    Some(Bytes::slice(&frame, 5..).to_vec())
}

/// The bytes around a header and those of its fields that are passed on, piece by piece.
fn kept(message: &[u8], changed: &[u32]) -> Vec<Vec<u8>> {
    let publish = value(message, 3);
    let header = value(publish, 1);
    let without = |message, numbers: &[u32]| {
        let all = fields(message).into_iter();
        let left: Vec<Vec<u8>> = all
            .filter(|(number, _)| !numbers.contains(number))
            .map(|(_, field)| field.to_vec())
            .collect();
        left
    };
    [
        without(message, &[3]),
        without(publish, &[1]),
        without(header, changed),
    ]
    .concat()
}

fn publish_of(message: &mut proto::Message) -> &mut proto::Header {
    match &mut message.kind {
        Some(proto::Kind::Publish(publish)) => publish.header.as_mut().expect("a header"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn slim_between_all_kinds_of_links() {
    let mut offered = Node::new(SlimConfig::default());
    let mut off = Node::new(SlimConfig {
        header_mac: HeaderMac::Off,
        ..SlimConfig::default()
    });
    let (mut receiver, mut keyed) = offered.connect(&greeting(1)).unwrap();
    let (mut keyless, mut bare) = offered.connect(&plain(greeting(2))).unwrap();
    let (_, mut sender) = offered.connect(&plain(greeting(3))).unwrap();
    let (_, mut off_link) = off.connect(&plain(greeting(3))).unwrap();
    let (_, mut off_receiver) = off.connect(&plain(greeting(4))).unwrap();
    for seed in 0..SEEDS {
        let rng = &mut Rng::with_seed(seed);
        let message = random::publish(rng).encode_to_vec();
        let message = match rng.bool() {
            true => scramble(rng, &message, &[3, 1]),
            false => message,
        };
        let mut expected = proto::Message::decode(&message[..]).unwrap();
        let header = publish_of(&mut expected);
        header.ttl -= 1;
        (header.recv_from, header.forward_to, header.header_mac) = (None, None, None);

        let with_code = forward(&mut offered.0, &mut sender, &message, &mut keyed).unwrap();
        receiver
            .read(&with_code)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let mut got = proto::Message::decode(&with_code[..]).unwrap();
        assert_eq!(
            publish_of(&mut got).header_mac.take().map(|mac| mac.len()),
            Some(32)
        );
        assert_eq!(got, expected, "seed {seed}");
        let changed = [6, 7, 8, 11];
        assert_eq!(
            kept(&with_code, &changed),
            kept(&message, &changed),
            "seed {seed}"
        );

        let without = forward(&mut offered.0, &mut sender, &message, &mut bare).unwrap();
        keyless.read(&without).unwrap();
        assert_eq!(
            proto::Message::decode(&without[..]).unwrap(),
            expected,
            "seed {seed}"
        );
        assert_eq!(kept(&without, &changed), kept(&message, &changed), "seed {seed}");
        let without = forward(&mut off.0, &mut off_link, &message, &mut off_receiver).unwrap();
        assert_eq!(
            proto::Message::decode(&without[..]).unwrap(),
            expected,
            "seed {seed}"
        );
    }
}

#[test]
fn slim_changes_a_usual_message_in_33_bytes_alone() {
    let mut node = Node::new(SlimConfig::default());
    let (mut client, mut from) = node.connect(&greeting(1)).unwrap();
    let (mut receiver, mut to) = node.connect(&greeting(2)).unwrap();
    let (alice, bob) = (slim_support::name("alice", 1), slim_support::name("bob", 2));
    for len in [0, 1, 255, 4095, 4096, 100_000] {
        let message = client.publish(&slim_support::publish(&alice, &bob, &vec![7; len]));
        let got = forward(&mut node.0, &mut from, &message, &mut to).unwrap();
        receiver.read(&got).unwrap();
        assert_eq!(got.len(), message.len());
        let differing = got.iter().zip(&message[..]).filter(|(one, other)| one != other);
        assert!(differing.count() <= 33);
    }
}

/// One that arrives at the limit must not grow beyond it on the way.
#[test]
fn slim_never_passes_on_more_than_receivers_take() {
    const MAX: usize = 4 << 20;
    let mut node = Node::new(SlimConfig::default());
    let (mut sender, mut from) = node.connect(&plain(greeting(1))).unwrap();
    let (mut keyed_sender, mut keyed_from) = node.connect(&greeting(2)).unwrap();
    let (_, mut to) = node.connect(&greeting(3)).unwrap();
    let bob = slim_support::name("bob", 2);
    let message =
        |client: &mut Client, len: usize| client.publish(&slim_support::publish(&bob, &bob, &vec![0; len]));
    for slack in [0, 1, 20, 33, 34, 41, 42, 60] {
        for (sender, from, is_changed_in_place) in [
            (&mut sender, &mut from, false),
            (&mut keyed_sender, &mut keyed_from, true),
        ] {
            let overhead = message(sender, MAX - 1000).len() - (MAX - 1000);
            let sent = message(sender, MAX - overhead - slack);
            assert_eq!(sent.len(), MAX - slack);
            let got = forward(&mut node.0, from, &sent, &mut to);
            assert!(got.as_ref().is_none_or(|got| got.len() <= MAX));
            assert_eq!(got.is_some(), is_changed_in_place || slack >= 42, "{slack}");
        }
    }
}

#[test]
fn pubsub() {
    let mut dialect = PubSub::default();
    for seed in 0..SEEDS {
        let rng = &mut Rng::with_seed(seed);
        let message = pubsub_proto::publish(rng).encode_to_vec();
        let message = match rng.bool() {
            true => scramble(rng, &message, &[3, 1]),
            false => message,
        };
        let mut expected = pubsub_proto::Message::decode(&message[..]).unwrap();
        let Some(pubsub_proto::Kind::Publish(publish)) = &mut expected.kind else {
            panic!()
        };
        let header = publish.header.as_mut().unwrap();
        let is_clean = header.recv_from.take().is_none() & header.forward_to.take().is_none();
        let got = forward(&mut dialect, &mut (), &message, &mut ()).unwrap();
        assert_eq!(
            pubsub_proto::Message::decode(&got[..]).unwrap(),
            expected,
            "seed {seed}"
        );
        assert_eq!(kept(&got, &[4, 5]), kept(&message, &[4, 5]), "seed {seed}");
        if is_clean {
            assert_eq!(got, message, "seed {seed}");
        }
    }
}

#[test]
fn pubsub_with_mls_alone_where_it_must_be() {
    let mut dialect = PubSub::new(PubSubConfig {
        mls_only: true,
        ..PubSubConfig::default()
    });
    let mut publish = |blob: Option<&[u8]>| {
        let mut message = pubsub_proto::publish(&mut Rng::with_seed(1));
        let Some(pubsub_proto::Kind::Publish(publish)) = &mut message.kind else {
            panic!()
        };
        publish.msg = blob.map(|blob| pubsub_proto::Content {
            content_type: "msg".into(),
            blob: blob.into(),
        });
        let message = message.encode_to_vec();
        match dialect.read(&mut (), &message) {
            Said::Publish(_) => true,
            Said::Ignored(Ignored::NotMls) => false,
            said => panic!("{said:?}"),
        }
    };
    let private = [0, 1, 0, 2, 1, b'g', 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 2, 8, 8, 1, 9];
    assert!(!publish(Some(b"in the clear")));
    // What the sessions say among themselves is empty.
    for passed in [Some(&private[..]), Some(b""), None] {
        assert!(publish(passed));
    }
}

/// The vectors of `../shared/wire/agp-wire.md`, section 9.
#[test]
fn captured_pubsub_messages() {
    let hex = |text: &str| -> Vec<u8> {
        let digits: Vec<u8> = text
            .chars()
            .map(|digit| digit.to_digit(16).unwrap() as u8)
            .collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    };
    let (org, ns, bob) = (
        0x82b7_5874_7bad_9534,
        0x3b52_b413_3144_d34f,
        0xd464_f824_e571_2c51,
    );
    let mut dialect = PubSub::default();
    let subscribe = hex(
        "0a4e0a4c0a2208b4aab6ddc78ed6db820110cfa6938ab382ada93b18d1d8c4abce84beb2d4012007\
         122208b4aab6ddc78ed6db820110cfa6938ab382ada93b18d1d8c4abce84beb2d401200718013000",
    );
    let Said::Subscribe { name, .. } = dialect.read(&mut (), &subscribe) else {
        panic!()
    };
    assert_eq!((name.components, name.instance), ([org, ns, bob], 7));
    let topic = hex(
        "0a4b0a490a2208b4aab6ddc78ed6db820110cfa6938ab382ada93b18d1d8c4abce84beb2d4012007\
         121f08b4aab6ddc78ed6db820110cfa6938ab382ada93b18cef6c89cff94f5857218013000",
    );
    let Said::Subscribe { name, .. } = dialect.read(&mut (), &topic) else {
        panic!()
    };
    assert_eq!(name.components[2], 0x720b_d4a7_f392_3b4e);
    assert_eq!(name.instance, ringgate_switch::ANY);
    let publish = hex(
        "1a6c0a490a2108b4aab6ddc78ed6db820110cfa6938ab382ada93b18e0b489b7c6a4f0e3022005\
         122008b4aab6ddc78ed6db820110cfa6938ab382ada93b18d1d8c4abce84beb2d40118013000\
         120e080110a084c7dc0418f4be8fca0f220f0a036d7367120868656c6c6f2d6666",
    );
    assert_eq!(
        forward(&mut dialect, &mut (), &publish, &mut ()).unwrap(),
        publish
    );
}

/// Whatever bytes arrive, nothing panics, and what is passed on another implementation reads. Runs a short while as a test;
/// `cargo bolero test` makes a fuzzer of it.
mod arbitrary_bytes {
    use std::cell::RefCell;

    use ringgate_wire::slim::Link;

    use super::*;

    /// Wraps the fuzzer's bytes at every depth: most random bytes fail at the first tag.
    fn depths(bytes: &[u8]) -> Vec<Vec<u8>> {
        let sized = |number: u8, value: &[u8]| {
            let mut out = vec![number << 3 | 2];
            prost::encoding::encode_varint(value.len() as u64, &mut out);
            out.extend_from_slice(value);
            out
        };
        let name = sized(1, &sized(1, &[8, 1]));
        let agent = [sized(1, &[32, 1]), sized(2, &[32, 2])].concat();
        let slim_header = [&name[..], &sized(2, &sized(1, &[8, 1])), &[6 << 3, 8], bytes].concat();
        let tail = [
            sized(2, &[]),
            sized(3, &sized(1, bytes)),
            sized(3, &sized(2, bytes)),
        ]
        .concat();
        vec![
            bytes.to_vec(),
            sized(3, bytes),
            sized(3, &[sized(1, &slim_header), sized(2, &[])].concat()),
            sized(3, &[sized(1, &slim_header[..name.len() * 2 + 2]), tail].concat()),
            sized(
                3,
                &[
                    sized(1, &[&agent[..], bytes].concat()),
                    sized(2, bytes),
                    sized(4, bytes),
                ]
                .concat(),
            ),
            sized(1, bytes),
            sized(5, bytes),
        ]
    }

    type Slim = (Node, Client, Link, Link);

    /// A keyed receiver and a sender without a key.
    fn connected() -> Slim {
        let mut node = Node::new(SlimConfig::default());
        let (receiver, keyed) = node.connect(&greeting(1)).unwrap();
        let (_, sender) = node.connect(&plain(greeting(2))).unwrap();
        (node, receiver, keyed, sender)
    }

    thread_local! {
        static SLIM: RefCell<Slim> = RefCell::new(connected());
        static PUBSUB: RefCell<PubSub> = RefCell::default();
    }

    #[test]
    fn slim() {
        bolero::check!().for_each(|bytes: &[u8]| {
            SLIM.with_borrow_mut(|(node, receiver, keyed, sender)| {
                for message in depths(bytes) {
                    _ = node.greet_any(&message);
                    if let Some(got) = forward(&mut node.0, sender, &message, keyed) {
                        receiver.read(&got).expect("the client takes it");
                        proto::Message::decode(&got[..]).expect("another implementation reads it");
                    }
                }
            });
        });
    }

    #[test]
    fn pubsub() {
        bolero::check!().for_each(|bytes: &[u8]| {
            PUBSUB.with_borrow_mut(|dialect| {
                for message in depths(bytes) {
                    if let Some(got) = forward(dialect, &mut (), &message, &mut ()) {
                        pubsub_proto::Message::decode(&got[..]).expect("another implementation reads it");
                    }
                }
            });
        });
    }
}
