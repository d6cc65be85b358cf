"""Introductions: accepted, rejected, expired, cancelled; and the channel that an accepted one opens."""

import pytest

from harness.protocol import pb

GONE = (pb.CODE_NOT_FOUND, pb.CODE_NO_RESPONDER, pb.CODE_UNAVAILABLE)


def introduce(agent, peer, id=1, **fields):
    """Introduces `agent` to `peer` and returns what the peer hears."""
    agent.send(introduce=pb.Introduce(id=id, target=pb.Target(agent=peer.name), **fields))
    heard = peer.expect("introduce")
    assert heard.source == agent.name and heard.introduction != 0
    return heard


def connect(agent, peer):
    """(Connected of the introducer, Connected of the one who accepted)."""
    heard = introduce(agent, peer)
    peer.send(accept=pb.Accept(introduction=heard.introduction))
    return agent.expect("connected"), peer.expect("connected")


def test_accept_connects_both(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    heard = introduce(alice, bob, id=5, payload=b"key of alice", headers={"suite": "1"})
    assert heard.payload == b"key of alice" and dict(heard.headers) == {"suite": "1"}
    bob.send(accept=pb.Accept(introduction=heard.introduction, payload=b"key of bob"))
    at_alice, at_bob = alice.expect("connected"), bob.expect("connected")
    assert (at_alice.id, at_alice.payload, at_alice.source) == (5, b"key of bob", bob.name)
    assert at_bob.source == alice.name
    assert at_alice.channel and at_alice.channel == at_bob.channel


@pytest.mark.parametrize("side", ["introducer", "accepter"])
def test_channel_is_a_target_for_both(scene, side):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    channel = connect(alice, bob)[0].channel
    speaker, hearer = (alice, bob) if side == "introducer" else (bob, alice)
    speaker.request(b"over the channel", channel=channel)
    forward = hearer.expect("forward", payload=b"over the channel")
    assert forward.source == speaker.name
    hearer.respond(forward, b"heard")
    assert speaker.expect("deliver").payload == b"heard"
    speaker.send(stream_open=pb.StreamOpen(stream=1, target=pb.Target(channel=channel)))
    assert hearer.expect("stream_open").source == speaker.name


def test_channel_is_nobody_elses(scene):
    alice, bob, mallory = scene.agent("alice"), scene.agent("bob"), scene.agent("mallory")
    channel = connect(alice, bob)[0].channel
    id = mallory.request(channel=channel)
    assert mallory.expect("error", id=id).code in (*GONE, pb.CODE_PERMISSION_DENIED)


@pytest.mark.parametrize("side", ["introducer", "accepter"])
def test_channel_ends_with_either_agent(scene, side):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    channel = connect(alice, bob)[0].channel
    leaves, stays = (alice, bob) if side == "introducer" else (bob, alice)
    leaves.close()
    scene.gateway.wait_for_stats(channels=0)
    id = stays.request(channel=channel)
    assert stays.expect("error", id=id).code in GONE


def test_reject_says_why(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    heard = introduce(alice, bob, id=6)
    bob.send(reject=pb.Reject(introduction=heard.introduction, code=pb.CODE_REJECTED, message="do not know you"))
    rejected = alice.expect("rejected")
    assert (rejected.id, rejected.code, rejected.message) == (6, pb.CODE_REJECTED, "do not know you")
    assert rejected.source == bob.name


def test_deadline_tells_both_sides(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    heard = introduce(alice, bob, id=7, timeout_ms=50)
    alice.expect_error(7, pb.CODE_DEADLINE_EXCEEDED)
    assert bob.expect("cancel").introduction == heard.introduction


def test_cancel_reaches_the_peer(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    heard = introduce(alice, bob, id=8)
    alice.send(cancel=pb.Cancel(introduction=8))
    assert bob.expect("cancel").introduction == heard.introduction


def test_introducer_that_leaves_cancels(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    heard = introduce(alice, bob)
    alice.call.cancel()
    assert bob.expect("cancel").introduction == heard.introduction


def test_peer_that_leaves_fails_the_introduction(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    introduce(alice, bob, id=9)
    bob.close()
    message = alice.next()
    kind = message.WhichOneof("body")
    assert kind in ("rejected", "error")
    body = getattr(message, kind)
    assert (body.id, body.code) == (9, pb.CODE_UNAVAILABLE)


def test_introduction_to_nobody_is_no_responder(scene):
    alice = scene.agent("alice")
    alice.send(introduce=pb.Introduce(id=3, target=pb.Target(agent=scene.name("nobody"))))
    alice.expect_error(3, pb.CODE_NO_RESPONDER)


@pytest.mark.parametrize("answer", ["accept", "reject"])
def test_answer_to_an_unknown_introduction_is_not_found(scene, answer):
    bob = scene.agent("bob")
    body = pb.Accept(introduction=4242) if answer == "accept" else pb.Reject(introduction=4242)
    bob.send(**{answer: body})
    bob.expect_error(4242, pb.CODE_NOT_FOUND)


def test_what_only_the_gateway_may_say_cannot_be_forged(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    target = pb.Target(agent=bob.name)
    alice.send(
        introduce=pb.Introduce(id=1, target=target, source="acme/bank/vault/1", introduction=5, credential=b"forged")
    )
    heard = bob.expect("introduce")
    assert heard.source == alice.name and heard.credential != b"forged"
    forged = pb.Connected(introduction=heard.introduction, channel="mine", source="acme/bank/vault/1", credential=b"f")
    bob.send(accept=pb.Accept.FromString(forged.SerializeToString()))
    connected = alice.expect("connected")
    assert connected.source == bob.name and connected.channel != "mine" and connected.credential != b"f"
