//! A link of SLIM v3 from its first message on, without a switch: negotiation, Subscribes and what is dropped.

mod slim_support;

use ringgate_switch::{Dialect, Fanout, Form, Ignored, Said};
use ringgate_wire::slim::client::Received;
use ringgate_wire::slim::{HeaderMac, Letter, LinkError, LinkKind, SlimConfig};
use slim_support::{End, Node, greeting, name, plain};

fn config(header_mac: HeaderMac) -> SlimConfig {
    SlimConfig {
        header_mac,
        ..SlimConfig::default()
    }
}

#[test]
fn a_client_with_a_key_and_one_without() {
    let mut node = Node::new(config(HeaderMac::Offered));
    let (mut keyed, link) = node.connect(&greeting(1)).unwrap();
    assert_eq!(node.form(&link), Form::Own);
    let (mut keyless, link) = node.connect(&plain(greeting(2))).unwrap();
    assert_eq!(node.form(&link), Form::Shared);
    assert_ne!(
        keyed.subscribe(&name("bob", 1), "", 1),
        keyless.subscribe(&name("bob", 1), "", 1)
    );
}

#[test]
fn a_post_quantum_client() {
    let mut node = Node::new(SlimConfig {
        enforce_pqc: true,
        ..config(HeaderMac::Required)
    });
    let mut hybrid = greeting(1);
    hybrid.kem_seed = Some([9; 64]);
    let (mut client, mut link) = node.connect(&hybrid).unwrap();
    assert!(matches!(
        node.read(&mut link, &client.subscribe(&name("bob", 1), "", 7)),
        Said::Subscribe { subscription: 7, .. }
    ));
    let refused = node.connect(&greeting(2)).unwrap_err();
    assert_eq!(refused, End::Denied(LinkError::KemRequired.to_string().into()));
}

#[test]
fn links_that_cannot_be() {
    let mut node = Node::new(SlimConfig {
        node_id: "self".into(),
        ..config(HeaderMac::Required)
    });
    let denied = |error: LinkError| Some(End::Denied(error.to_string().into()));
    let invalid = |error: LinkError| Some(End::Invalid(error.to_string().into()));

    assert_eq!(
        node.connect(&plain(greeting(1))).err(),
        denied(LinkError::KeyRequired)
    );
    for kind in [LinkKind::Peer, LinkKind::Remote] {
        let mut claim = greeting(1);
        claim.kind = kind;
        assert_eq!(node.connect(&claim).err(), denied(LinkError::Privileged));
    }
    let mut itself = greeting(1);
    itself.node_id = "self".into();
    assert_eq!(node.connect(&itself).err(), denied(LinkError::Itself));
    let mut nameless = greeting(1);
    nameless.link_id.clear();
    assert_eq!(node.connect(&nameless).err(), invalid(LinkError::Id));

    let (mut client, _) = node.connect(&greeting(1)).unwrap();
    let no_greeting = client.subscribe(&name("bob", 1), "", 1);
    assert_eq!(node.greet(&no_greeting).err(), Some(End::Orderly));
    assert!(matches!(node.greet(b"\xff").err(), Some(End::Invalid(_))));

    let request = greeting(1).message();
    let version = request.windows(5).position(|part| part == b"3.4.6").unwrap();
    let mut no_version = request.to_vec();
    no_version[version] = b'x';
    assert_eq!(node.greet(&no_version).err(), invalid(LinkError::Version));
    let mut low_order = request.to_vec();
    let key = version + 5 + 2;
    low_order[key..key + 32].fill(0);
    assert_eq!(node.greet(&low_order).err(), invalid(LinkError::PublicKey));
    let mut kem = greeting(1);
    kem.kem_seed = Some([1; 64]);
    let mut bad_kem = kem.message().to_vec();
    let at = bad_kem.len() - 1184;
    bad_kem[at..].fill(0xff);
    assert_eq!(node.greet(&bad_kem).err(), invalid(LinkError::KemPayload));
    assert_eq!(node.greet(&request[..request.len() - 1]).ok().map(drop), None);
}

#[test]
fn privileged_links_are_taken_where_they_may_be() {
    let mut node = Node::new(SlimConfig {
        privileged_links: true,
        ..config(HeaderMac::Offered)
    });
    let mut remote = greeting(1);
    remote.kind = LinkKind::Remote;
    let (_, link) = node.connect(&remote).unwrap();
    assert_eq!(node.form(&link), Form::Own);
    // Peers exchange keys and use none.
    remote.kind = LinkKind::Peer;
    let (_, link) = node.connect(&remote).unwrap();
    assert_eq!(node.form(&link), Form::Shared);
}

/// Configurations are copied, and names in them with them.
#[test]
fn only_names_that_clients_made_for_themselves_name_one() {
    let mut node = Node::new(config(HeaderMac::Offered));
    let mut client = |link_id: &str, node_id: &str| {
        let mut greeting = greeting(1);
        (greeting.link_id, greeting.node_id) = (link_id.into(), node_id.into());
        let mut link = node.0.open();
        match node.read(&mut link, &greeting.message()) {
            Said::Greeted { client, .. } => client,
            said => panic!("{said:?}"),
        }
    };
    let uuid = "01234567-89ab-4cde-8f01-23456789abcd";
    let own = client(uuid, &format!("node-{uuid}"));
    assert_eq!((&*own.link, own.node_is_unique), (uuid, true));
    for copied in ["my-node", "slim/0", "é", &uuid[1..], &uuid.replace('4', "g")] {
        let copied = client(copied, copied);
        assert_eq!((&*copied.link, copied.node_is_unique), ("", false));
        assert!(!copied.node.is_empty(), "for people to read");
    }
}

fn unauthenticated(said: Said<Letter<'_>>) -> bool {
    matches!(said, Said::Ignored(Ignored::Unauthenticated))
}

#[test]
fn a_wrong_code_is_dropped_and_a_missing_one_too() {
    let mut node = Node::new(config(HeaderMac::Offered));
    let (mut client, mut link) = node.connect(&greeting(1)).unwrap();
    let (mut keyless, mut plain_link) = node.connect(&plain(greeting(2))).unwrap();
    let bob = name("bob", 1);
    // A Subscribe may be without one where the node does not insist; a Publish may not.
    let bare = keyless.subscribe(&bob, "", 5);
    assert!(matches!(node.read(&mut link, &bare), Said::Subscribe { .. }));
    let bare = keyless.publish(&slim_support::publish(&bob, &bob, b"x"));
    assert!(unauthenticated(node.read(&mut link, &bare)));
    assert!(matches!(node.read(&mut plain_link, &bare), Said::Publish(_)));

    for message in [
        client.subscribe(&bob, "token", 5),
        client.unsubscribe(&bob, "token", 5),
        client.publish(&slim_support::publish(&bob, &bob, b"x")),
    ] {
        assert!(!unauthenticated(node.read(&mut link, &message)));
        let mut forged = message.to_vec();
        let at = forged.windows(3).position(|part| part == b"bob").unwrap();
        forged[at] = b'c';
        assert!(unauthenticated(node.read(&mut link, &forged)));
    }

    let mut strict = Node::new(config(HeaderMac::Required));
    let (_, mut link) = strict.connect(&greeting(1)).unwrap();
    assert!(unauthenticated(
        strict.read(&mut link, &keyless.subscribe(&bob, "", 5))
    ));
}

#[test]
fn what_lacks_what_routing_needs() {
    let mut node = Node::new(config(HeaderMac::Offered));
    let (_, mut link) = node.connect(&plain(greeting(1))).unwrap();
    // Nothing at all; a Publish without a header; without names; without a session.
    for message in [
        &b""[..],
        b"\x1a\x00",
        b"\x1a\x02\x0a\x00",
        b"\x1a\x0c\x0a\x08\x0a\x02\x0a\x00\x12\x02\x0a\x00",
    ] {
        assert!(matches!(
            node.read(&mut link, message),
            Said::Ignored(Ignored::Malformed)
        ));
    }
    // A Subscribe without names is answered.
    for message in [
        &b"\x0a\x02\x10\x07"[..],
        b"\x0a\x04\x0a\x00\x10\x07",
        b"\x12\x02\x10\x07",
    ] {
        assert!(matches!(
            node.read(&mut link, message),
            Said::Refused { subscription: 7, .. }
        ));
    }
    // The greeting again, and an acknowledgement.
    for message in [&greeting(1).message()[..], b"\x32\x02\x08\x01"] {
        assert!(matches!(
            node.read(&mut link, message),
            Said::Ignored(Ignored::Unused)
        ));
    }
    let huge = vec![0; (4 << 20) + 1];
    assert!(matches!(
        node.read(&mut link, &huge),
        Said::Ignored(Ignored::Oversize)
    ));
}

#[test]
fn time_to_live_and_fanout() {
    let mut node = Node::new(config(HeaderMac::Offered));
    let (mut client, mut link) = node.connect(&greeting(1)).unwrap();
    let bob = name("bob", 1);
    let any = bob.with_instance(None);
    for ttl in [0, 1] {
        let message = client.publish(&slim_support::Publish {
            ttl,
            ..slim_support::publish(&bob, &bob, b"")
        });
        assert!(matches!(
            node.read(&mut link, &message),
            Said::Ignored(Ignored::Expired)
        ));
    }
    for (to, count, fanout) in [
        (&bob, 0, Fanout::All),
        (&bob, 1, Fanout::One),
        (&any, 2, Fanout::All),
    ] {
        let message = client.publish(&slim_support::Publish {
            fanout: count,
            ..slim_support::publish(&bob, to, b"")
        });
        let Said::Publish(publish) = node.read(&mut link, &message) else {
            panic!()
        };
        assert_eq!((publish.fanout, publish.to), (fanout, to.routed()));
    }
}

#[test]
fn only_mls_where_it_must_be() {
    let mut node = Node::new(SlimConfig {
        mls_only: true,
        ..SlimConfig::default()
    });
    let (mut client, mut link) = node.connect(&greeting(1)).unwrap();
    let bob = name("bob", 1);
    let plain = client.publish(&slim_support::publish(&bob, &bob, b"in the clear"));
    assert!(matches!(
        node.read(&mut link, &plain),
        Said::Ignored(Ignored::NotMls)
    ));
    let private = [0, 1, 0, 2, 1, b'g', 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 2, 8, 8, 1, 9];
    for payload in [&private[..], b""] {
        let message = client.publish(&slim_support::publish(&bob, &bob, payload));
        assert!(matches!(node.read(&mut link, &message), Said::Publish(_)));
    }
}

#[test]
fn answers_to_subscribes() {
    let mut node = Node::new(SlimConfig::default());
    let (mut client, _) = node.connect(&greeting(1)).unwrap();
    for (subscription, result) in [(1, Ok(())), (u64::MAX, Ok(())), (300, Err("too many"))] {
        let mut out = bytes::BytesMut::new();
        node.0.acknowledge(subscription, result, &mut out);
        assert_eq!(
            out.len(),
            5 + u32::from_be_bytes(out[1..5].try_into().unwrap()) as usize
        );
        assert_eq!(
            client.read(&out[5..]).unwrap(),
            Received::Ack {
                subscription,
                success: result.is_ok(),
                error: result.err().unwrap_or_default()
            }
        );
    }
}
