"""A subscriber that does not read: it loses messages, and nobody else waits for it."""

import asyncio

import pytest
import wire
from agents import Stage, run
from raw import Raw

from harness.gateway import core_lists

MESSAGES = 300
PAYLOAD = bytes(100_000)  # 30 MB in all: more than sockets, windows and queues hold
QUEUE_BYTES = 1024 * 1024


@pytest.fixture(params=core_lists(), ids=lambda cores: f"{len(cores.split(','))}core")
def start(request, start_gateway):
    """Starts a gateway with a small queue and a policy for who does not read."""
    return lambda policy: start_gateway(
        cores=request.param, settings={"agp2025.queue_bytes_max": QUEUE_BYTES, "agp2025.slow_reader": policy}
    )


def subscribed(gateway, client, name, count):
    """Subscribes, and waits until every core knows."""
    client.subscribe(name)
    gateway.wait_for_stats(agp2025_subscriptions=count)
    for core in range(len(gateway.cores.split(","))):
        gateway.wait_for_stats(core=core, agp2025_names=1)


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "disconnect"])
def test_a_subscriber_that_stops_reading_delays_nobody(start, policy):
    gateway = start(policy)
    name = wire.Name("acme", "slow", "feed", instance=1)
    sender, reader = Raw(gateway.address), Raw(gateway.address)
    stalled = Raw(gateway.address, receive_buffer=4096, credit=False)
    for count, receiver in enumerate((stalled, reader), 1):
        subscribed(gateway, receiver, name, count)
    for number in range(MESSAGES):
        payload = number.to_bytes(4, "big") + PAYLOAD
        sender.publish(name, name, payload, fanout=50)
        reader.expect(payload)
    stats = gateway.stats()
    assert stats["agp2025_queued_bytes"] <= QUEUE_BYTES + len(PAYLOAD) + 4096
    counted = stats[f"agp2025_dropped_{policy.removeprefix('drop_')}"]
    assert counted > 0
    assert gateway.metric("ringgate_dropped_total", dialect="agp2025", reason=policy) == counted
    if policy == "disconnect":
        gateway.wait_for_stats(agp2025_subscriptions=1)


def test_agents_talk_beside_one_that_does_not_read(start):
    gateway = start("drop_oldest")
    stage = Stage(gateway)

    async def steps():
        name = wire.Name("acme", stage.namespace, "feed", instance=1)
        stalled = Raw(gateway.address, receive_buffer=4096, credit=False)
        sender = Raw(gateway.address)
        async with stage.agents("alice", "bob") as (alice, bob):
            stalled.subscribe(name)
            await stage.subscribed(3)
            session = await alice.fire_and_forget()
            for number in range(100):
                await asyncio.to_thread(sender.publish, name, name, PAYLOAD, fanout=50)
                await alice.say(session, b"%d" % number, bob.address)
                if number == 0:
                    theirs = await bob.met()
                assert (await bob.hear(theirs))[1] == b"%d" % number
            assert gateway.stats()["agp2025_dropped_oldest"] > 0

    run(steps())
