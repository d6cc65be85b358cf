"""Streams between two agents: numbers, credit, order, and every way to end."""

import pytest

from harness.protocol import pb

CREDIT = 10_000


def open_stream(opener, acceptor, stream=1, *, credit=CREDIT, grant=CREDIT):
    """Opens a stream and lets the acceptor grant credit; returns the acceptor's number of it."""
    opener.send(stream_open=pb.StreamOpen(stream=stream, target=pb.Target(agent=acceptor.name), credit_bytes=credit))
    opened = acceptor.expect("stream_open")
    assert (opened.source, opened.credit_bytes) == (opener.name, credit)
    if grant:
        acceptor.send(stream_credit=pb.StreamCredit(stream=opened.stream, bytes=grant))
        assert opener.expect("stream_credit", stream=stream).bytes == grant
    return opened.stream


def chunk(agent, stream, payload, sequence=0):
    """Sends one chunk."""
    agent.send(chunk=pb.Chunk(stream=stream, payload=payload, sequence=sequence))


def test_chunks_both_ways_in_order(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    theirs = open_stream(alice, bob)
    assert theirs % 2 == 0, "the gateway's numbers are even"
    for number in range(100):
        chunk(alice, 1, bytes([number]) * 100, number)
        chunk(bob, theirs, bytes([number]) * 50, number)
    for number in range(100):
        bob.expect_next("chunk", stream=theirs, sequence=number, payload=bytes([number]) * 100)
        alice.expect_next("chunk", stream=1, sequence=number, payload=bytes([number]) * 50)


def test_credit_can_be_granted_again_and_again(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    theirs = open_stream(alice, bob, grant=1000)
    for _ in range(50):
        chunk(alice, 1, bytes(1000))
        assert len(bob.expect_next("chunk").payload) == 1000
        bob.send(stream_credit=pb.StreamCredit(stream=theirs, bytes=1000))
        alice.expect_next("stream_credit", stream=1, bytes=1000)


@pytest.mark.parametrize("side", ["opener", "acceptor"])
def test_overrun_ends_the_stream_on_both_sides(scene, side):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    theirs = open_stream(alice, bob)
    sender, mine, receiver, its = (alice, 1, bob, theirs) if side == "opener" else (bob, theirs, alice, 1)
    chunk(sender, mine, bytes(CREDIT))
    chunk(sender, mine, b"x")
    sender.expect_error(mine, pb.CODE_RESOURCE_EXHAUSTED)
    receiver.expect("chunk", stream=its)
    assert receiver.expect("stream_close", stream=its).code == pb.CODE_RESOURCE_EXHAUSTED
    sender.round_trip()
    receiver.round_trip()


def test_no_credit_means_no_chunk(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    open_stream(alice, bob, grant=0)
    chunk(alice, 1, b"x")
    alice.expect_error(1, pb.CODE_RESOURCE_EXHAUSTED)


@pytest.mark.parametrize("side", ["opener", "acceptor"])
def test_close_reaches_the_other_side(scene, side):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    theirs = open_stream(alice, bob)
    closer, mine, other, its = (alice, 1, bob, theirs) if side == "opener" else (bob, theirs, alice, 1)
    chunk(closer, mine, b"last words")
    closer.send(stream_close=pb.StreamClose(stream=mine, code=pb.CODE_CANCELLED, message="enough"))
    assert other.expect_next("chunk").payload == b"last words"
    other.expect_next("stream_close", stream=its, code=pb.CODE_CANCELLED, message="enough")
    chunk(other, its, b"crossed the close")
    other.round_trip()
    scene.gateway.wait_for_stats(streams=0)


def test_many_streams_of_one_agent_are_apart(scene):
    alice, bob, carol = scene.agent("alice"), scene.agent("bob"), scene.agent("carol")
    numbers = range(1, 41, 2)
    theirs = {stream: open_stream(alice, bob if stream % 4 == 1 else carol, stream) for stream in numbers}
    for stream in numbers:
        chunk(alice, stream, str(stream).encode())
    for stream in numbers:
        peer = bob if stream % 4 == 1 else carol
        peer.expect("chunk", stream=theirs[stream], payload=str(stream).encode())


def test_both_agents_may_open(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    at_bob = open_stream(alice, bob, 1)
    at_alice = open_stream(bob, alice, 1)
    chunk(alice, 1, b"on mine")
    chunk(alice, at_alice, b"on yours")
    assert bob.expect_next("chunk", stream=at_bob).payload == b"on mine"
    assert bob.expect_next("chunk", stream=1).payload == b"on yours"


def test_stream_by_capability(scene):
    capability = f"video-{scene.namespace}"
    alice, bob = scene.agent("alice"), scene.agent("bob", capabilities=[capability])
    alice.send(stream_open=pb.StreamOpen(stream=1, target=pb.Target(capability=capability)))
    assert bob.expect("stream_open").source == alice.name


def test_stream_to_nobody_is_no_responder(scene):
    alice = scene.agent("alice")
    alice.send(stream_open=pb.StreamOpen(stream=3, target=pb.Target(agent=scene.name("nobody"))))
    alice.expect_error(3, pb.CODE_NO_RESPONDER)


@pytest.mark.parametrize("stream", [0, 2])
def test_opener_numbers_are_odd(scene, stream):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    alice.send(stream_open=pb.StreamOpen(stream=stream, target=pb.Target(agent=bob.name)))
    alice.expect_error(stream, pb.CODE_INVALID_ARGUMENT)


def test_stream_number_in_use_is_already_exists(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    theirs = open_stream(alice, bob)
    alice.send(stream_open=pb.StreamOpen(stream=1, target=pb.Target(agent=bob.name)))
    alice.expect_error(1, pb.CODE_ALREADY_EXISTS)
    chunk(alice, 1, b"still there")
    bob.expect("chunk", stream=theirs)


@pytest.mark.parametrize("what", ["chunk", "stream_close", "stream_credit"])
def test_unknown_stream_is_not_found(scene, what):
    alice = scene.agent("alice")
    body = {"chunk": pb.Chunk, "stream_close": pb.StreamClose, "stream_credit": pb.StreamCredit}[what](stream=99)
    alice.send(**{what: body})
    alice.expect_error(99, pb.CODE_NOT_FOUND)
    alice.round_trip()


@pytest.mark.parametrize("side", ["opener", "acceptor"])
def test_an_agent_that_leaves_closes_its_streams(scene, side):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    theirs = open_stream(alice, bob)
    leaves, stays, its = (alice, bob, theirs) if side == "opener" else (bob, alice, 1)
    leaves.close()
    assert stays.expect("stream_close", stream=its).code == pb.CODE_UNAVAILABLE


def test_large_stream_through_small_credit(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    window, size, total = 256 * 1024, 64 * 1024, 16 << 20
    theirs = open_stream(alice, bob, grant=window)
    credit, sent, received = window, 0, 0
    while received < total:
        while credit >= size and sent < total:
            chunk(alice, 1, sent.to_bytes(8, "big") * (size // 8))
            credit -= size
            sent += size
        payload = bob.expect_next("chunk").payload
        assert payload == received.to_bytes(8, "big") * (size // 8)
        received += size
        bob.send(stream_credit=pb.StreamCredit(stream=theirs, bytes=size))
        credit += alice.expect_next("stream_credit").bytes
