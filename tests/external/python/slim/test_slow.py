"""A subscriber that does not read: it loses messages, and nobody else waits for it."""

import json

import pytest
import wire
from apps import run
from raw import Raw

from harness.gateway import core_lists

MESSAGES = 300
PAYLOAD = bytes(100_000)  # 30 MB in all: more than sockets, windows and queues hold
QUEUE_BYTES = 1024 * 1024


@pytest.fixture
def raws():
    """Connects hand-driven clients, which are gone after the test."""
    connected = []

    def connect(stage, **options):
        connected.append(Raw(stage.gateway.address, **options))
        return connected[-1]

    yield connect
    for client in connected:
        client.close()


@pytest.fixture(params=core_lists(), ids=lambda cores: f"{len(cores.split(','))}core")
def start(request, start_stage):
    """Starts a gateway with a small queue and a policy for who does not read."""
    return lambda policy: start_stage(
        cores=request.param, settings={"slim.queue_bytes_max": QUEUE_BYTES, "slim.slow_reader": policy}
    )


def sessions(gateway):
    """What the gateway says of each SLIM connection."""
    listed = json.loads(gateway.get("/stats")[1])["sessions"]
    return [session for session in listed if session["dialect"] == "slim"]


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "disconnect"])
def test_a_subscriber_that_stops_reading_delays_nobody(start, raws, policy):
    stage = start(policy)
    name = wire.Name("acme", stage.namespace, "feed", instance=1)
    sender = raws(stage)
    stalled = raws(stage, receive_buffer=4096, credit=False)
    reader = raws(stage)
    for receiver in (stalled, reader):
        receiver.subscribe(name)
    for number in range(MESSAGES):
        payload = number.to_bytes(4, "big") + PAYLOAD
        sender.publish(name, name, payload, fanout=256)
        reader.expect(payload)
    stats = stage.gateway.stats()
    assert stats["slim_queued_bytes"] <= QUEUE_BYTES + len(PAYLOAD) + 4096
    counted = stats[f"slim_dropped_{policy.removeprefix('drop_')}"]
    assert counted > 0
    assert stage.gateway.metric("ringgate_dropped_total", dialect="slim", reason=policy) == counted
    dropped = sorted(session["dropped"] for session in sessions(stage.gateway))
    if policy == "disconnect":
        assert dropped == [0, 0], "the one that did not read is gone"
    else:
        assert dropped[:2] == [0, 0] and dropped[2] > MESSAGES // 2


def test_applications_talk_beside_one_that_does_not_read(start, raws):
    stage = start("drop_oldest")

    async def steps():
        alice, bob = stage.app("alice"), stage.app("bob")
        call = await alice.call(bob.name)
        answer = await bob.answer()
        name = wire.Name("acme", stage.namespace, "feed", instance=1)
        stalled = raws(stage, receive_buffer=4096, credit=False)
        stalled.subscribe(name)
        sender = raws(stage)
        for number in range(100):
            sender.publish(name, name, PAYLOAD, fanout=256)
            await call.say(b"%d" % number)
            await answer.expect(b"%d" % number)
        assert stage.gateway.stats()["slim_dropped_oldest"] > 0

    run(steps())
