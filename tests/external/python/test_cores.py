"""Two cores: what is said on one arrives on the other, in order, once, all of it."""

import os

import pytest

from harness.bulk import agent_on_core
from harness.gateway import TWO_CORES
from harness.protocol import pb
from harness.scene import Scene

pytestmark = pytest.mark.two_cores

MESSAGES = int(os.environ.get("RINGGATE_TEST_MESSAGES", 1_000_000))
BATCH = 2000


@pytest.fixture
def scene(gateways):
    """A scene on a gateway with two cores."""
    gateway = gateways.shared(TWO_CORES)
    scene = Scene(gateway)
    yield scene
    scene.close()
    assert gateway.is_alive(), gateway.output()[-4000:]
    gateway.wait_for_no_residue()


def place(scene, role, core):
    """An agent on the given core."""
    return agent_on_core(scene.gateway, core, lambda number: scene.name(f"{role}-on-{core}", str(number)))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("publisher_core", [0, 1])
def test_a_million_messages_in_order_on_both_cores(scene, publisher_core):
    count = MESSAGES if publisher_core == 0 else MESSAGES // 10
    topic = scene.topic("feed")
    publisher = place(scene, "publisher", publisher_core)
    near = place(scene, "near", publisher_core)
    far = place(scene, "far", 1 - publisher_core)
    for subscriber in (near, far):
        subscriber.subscribe(topic)
    for first in range(0, count, BATCH):
        batch = range(first, first + BATCH)
        publisher.publish_batch(topic, batch)
        for subscriber in (near, far):
            subscriber.expect_batch(batch, publisher.name)
    for agent in (publisher, near, far):
        agent.close()


def test_two_publishers_on_two_cores_keep_their_own_order(scene):
    topic = scene.topic("feed")
    publishers = [place(scene, "publisher", core) for core in (0, 1)]
    subscribers = [place(scene, "subscriber", core) for core in (0, 1)]
    for subscriber in subscribers:
        subscriber.subscribe(topic)
    count = 20_000
    for first in range(0, count, 500):
        for publisher in publishers:
            publisher.publish_batch(topic, range(first, first + 500))
        for subscriber in subscribers:
            due = {publisher.name: first for publisher in publishers}
            for _ in range(1000):
                notify = subscriber.hear().notify
                assert int.from_bytes(notify.payload[:8], "big") == due[notify.source]
                due[notify.source] += 1
    for agent in (*publishers, *subscribers):
        agent.close()


def test_subscribe_is_acked_once_every_core_routes_to_it(scene):
    """A publish on the other core right behind the Ack arrives: each round a fresh topic."""
    publisher, subscriber = place(scene, "publisher", 0), place(scene, "subscriber", 1)
    for number in range(300):
        topic = scene.topic(f"round/{number}")
        subscriber.say(subscribe=pb.Subscribe(id=number + 1, pattern=topic))
        assert subscriber.hear().ack.id == number + 1
        publisher.say(publish=pb.Publish(topic=topic, id=number + 1))
        assert publisher.hear().ack.receivers == 1
        assert subscriber.hear().notify.topic == topic
    publisher.close()
    subscriber.close()


def test_a_name_is_unique_over_the_cores(scene):
    first = place(scene, "first", 0)
    for _ in range(8):  # some of them on the other core
        second = scene.unregistered()
        second.send(register=pb.Register(name=first.name))
        assert second.expect("error").code == pb.CODE_ALREADY_EXISTS
        second.wait_for_end()
    first.close()


def test_a_group_over_two_cores_takes_each_message_once(scene):
    topic = scene.topic("jobs")
    publisher = place(scene, "publisher", 0)
    members = [place(scene, "member", core) for core in (0, 1)]
    for member in members:
        member.say(subscribe=pb.Subscribe(id=1, pattern=topic, group="g"))
        assert member.hear().ack.id == 1
    count = 1000
    for number in range(count):
        publisher.say(publish=pb.Publish(topic=topic, id=number + 1, payload=number.to_bytes(8, "big")))
        assert publisher.hear().ack.receivers == 1
    heard = []
    for member in members:
        member.say(unsubscribe=pb.Unsubscribe(id=1))
        share = []
        while (message := member.hear()).HasField("notify"):
            share.append(int.from_bytes(message.notify.payload, "big"))
        assert message.ack.id == 1 and share == sorted(share) and share
        heard += share
    assert sorted(heard) == list(range(count))
    for agent in (publisher, *members):
        agent.close()
