"""A subscriber that stops reading: the others go on, its queue keeps its bound, and a Gap says exactly what it lost."""

import grpc
import pytest

from harness.protocol import pb

MESSAGES = 3000
PAYLOAD = 2048  # 6 MB in all: far beyond what flow control and socket buffers hold for a stalled reader
QUEUE_BYTES = 64 * 1024
BATCH = 50


def payload(number):
    """A message that says which it is."""
    return number.to_bytes(4, "big") + bytes(PAYLOAD - 4)


def flood(publisher, topic, readers=(), count=MESSAGES):
    """Publishes `count` messages, a batch only once all `readers` have the one before, so that they lose nothing."""
    for first in range(0, count, BATCH):
        for number in range(first, first + BATCH):
            publisher.publish(topic, payload(number))
        for reader in readers:
            for number in range(first, first + BATCH):
                notify = reader.expect_next("notify")
                assert int.from_bytes(notify.payload[:4], "big") == number
    publisher.round_trip()


def read_with_gaps(reader, subscription, count=MESSAGES):
    """Reads until `count` messages have arrived or been told lost; each Gap must stand exactly where messages lack."""
    expected, dropped = 0, 0
    while expected < count:
        message = reader.next()
        if message.WhichOneof("body") == "gap":
            gap = message.gap
            assert gap.subscription == subscription and gap.dropped > 0
            assert gap.dropped_bytes >= gap.dropped * PAYLOAD
            dropped += gap.dropped
            expected += gap.dropped
        else:
            number = int.from_bytes(message.notify.payload[:4], "big")
            assert number == expected, f"{number} arrived where {expected} was due"
            expected += 1
    assert expected == count
    return dropped


@pytest.mark.parametrize("policy", [pb.DELIVERY_POLICY_UNSPECIFIED, pb.DELIVERY_POLICY_DROP_OLDEST])
def test_drop_oldest_keeps_the_newest(scene, policy):
    alice, fast, slow = scene.agent("alice"), scene.agent("fast"), scene.stalled("slow")
    topic = scene.topic("feed")
    fast.subscribe(topic)
    subscription = slow.subscribe(topic, policy=policy, queue_bytes=QUEUE_BYTES)
    slow.stop_reading()
    flood(alice, topic, readers=[fast])
    assert scene.gateway.stats()["queued_bytes"] <= 2 * QUEUE_BYTES
    slow.read_on()
    dropped = read_with_gaps(slow, subscription)
    assert dropped > MESSAGES // 2
    alice.publish(topic, payload(0))
    assert slow.expect_next("notify").sequence == MESSAGES + 2  # flood's round trip counts as well


def test_drop_newest_keeps_the_oldest(scene):
    alice, fast, slow = scene.agent("alice"), scene.agent("fast"), scene.stalled("slow")
    topic = scene.topic("feed")
    fast.subscribe(topic)
    subscription = slow.subscribe(topic, policy=pb.DELIVERY_POLICY_DROP_NEWEST, queue_bytes=QUEUE_BYTES)
    slow.stop_reading()
    flood(alice, topic, readers=[fast])
    assert scene.gateway.stats()["queued_bytes"] <= 2 * QUEUE_BYTES
    slow.read_on()
    assert read_with_gaps(slow, subscription) > MESSAGES // 2


def test_latest_keeps_the_newest_of_each_topic(scene):
    alice, slow = scene.agent("alice"), scene.stalled("slow")
    subscription = slow.subscribe(scene.topic("state/*"), policy=pb.DELIVERY_POLICY_LATEST, queue_bytes=1 << 20)
    slow.stop_reading()
    topics = [scene.topic(f"state/{name}") for name in "abc"]
    for number in range(MESSAGES // 3):
        for topic in topics:
            alice.publish(topic, payload(number))
    alice.round_trip()
    assert scene.gateway.stats()["queued_bytes"] <= QUEUE_BYTES
    slow.read_on()
    newest, heard, dropped = {}, 0, 0
    while heard + dropped < MESSAGES:
        message = slow.next()
        if message.WhichOneof("body") == "gap":
            assert message.gap.subscription == subscription
            dropped += message.gap.dropped
            continue
        number = int.from_bytes(message.notify.payload[:4], "big")
        assert number > newest.get(message.notify.topic, -1), "of one topic the newer never comes before the older"
        newest[message.notify.topic] = number
        heard += 1
    assert heard + dropped == MESSAGES and dropped > 0
    assert newest == dict.fromkeys(topics, MESSAGES // 3 - 1)


def test_disconnect_ends_the_slow_stream_and_no_other(scene):
    alice, fast, slow = scene.agent("alice"), scene.agent("fast"), scene.stalled("slow")
    topic = scene.topic("feed")
    fast.subscribe(topic)
    subscription = slow.subscribe(topic, policy=pb.DELIVERY_POLICY_DISCONNECT, queue_bytes=QUEUE_BYTES)
    slow.stop_reading()
    flood(alice, topic, readers=[fast])
    status, message = slow.wait_for_end()
    assert status == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(subscription) in message
    assert alice.publish_acked(topic) == 1


def test_block_holds_the_publisher_back_and_loses_nothing(scene):
    alice, other, slow = scene.agent("alice"), scene.agent("other"), scene.stalled("slow")
    topic = scene.topic("feed")
    subscription = slow.subscribe(topic, policy=pb.DELIVERY_POLICY_BLOCK, queue_bytes=QUEUE_BYTES, block_ms=20_000)
    slow.stop_reading()
    for number in range(MESSAGES):
        alice.publish(topic, payload(number))
    for _ in range(20):
        other.round_trip()  # only the publisher's own stream is held
    assert scene.gateway.stats()["queued_bytes"] <= 4 * QUEUE_BYTES
    slow.read_on()
    assert read_with_gaps(slow, subscription) == 0
    alice.round_trip()


def test_block_gives_up_at_its_deadline(scene):
    alice, slow = scene.agent("alice"), scene.stalled("slow")
    topic = scene.topic("feed")
    subscription = slow.subscribe(topic, policy=pb.DELIVERY_POLICY_BLOCK, queue_bytes=QUEUE_BYTES, block_ms=1)
    slow.stop_reading()
    count = 500
    flood(alice, topic, count=count)  # comes to its end although nobody reads
    slow.read_on()
    assert read_with_gaps(slow, subscription, count) > 0


def test_two_slow_subscriptions_of_one_agent_have_bounds_of_their_own(scene):
    alice, slow = scene.agent("alice"), scene.stalled("slow")
    small = slow.subscribe(scene.topic("small"), queue_bytes=16 * 1024)
    large = slow.subscribe(scene.topic("large"), queue_bytes=512 * 1024)
    slow.stop_reading()
    for number in range(1500):
        alice.publish(scene.topic("small"), payload(number))
        alice.publish(scene.topic("large"), payload(number))
    alice.round_trip()
    slow.read_on()
    counts = {small: [0, 0], large: [0, 0]}  # heard, dropped
    topics = {scene.topic("small"): small, scene.topic("large"): large}
    while any(sum(count) < 1500 for count in counts.values()):
        message = slow.next()
        if message.WhichOneof("body") == "gap":
            counts[message.gap.subscription][1] += message.gap.dropped
        else:
            counts[topics[message.notify.topic]][0] += 1
    assert all(sum(count) == 1500 for count in counts.values()), counts
    assert counts[large][0] > counts[small][0] + 100, counts


def test_stalled_group_member_is_passed_over(scene):
    alice, stalled, works = scene.agent("alice"), scene.stalled("stalled"), scene.agent("works")
    topic = scene.topic("jobs")
    stalled.subscribe(topic, group="g", queue_bytes=QUEUE_BYTES)
    works.subscribe(topic, group="g", queue_bytes=8 << 20)
    stalled.stop_reading()
    count = 1500
    for number in range(count):
        alice.publish(topic, payload(number))
    alice.round_trip()
    alice.publish(topic, payload(count))
    alice.publish(topic, payload(count + 1))
    heard = []
    while not heard or heard[-1] < count:
        heard.append(int.from_bytes(works.expect_next("notify").payload[:4], "big"))
    assert heard == sorted(heard)
    assert len(heard) > count * 0.6, "a member at its bound must not take the half of the work to lose it"


def test_a_stalled_reader_keeps_only_its_bound_of_memory(start_scene):
    scene = start_scene()
    alice = scene.agent("alice")
    topic = scene.topic("feed")
    stalled = [scene.stalled("slow", str(number)) for number in range(20)]
    for agent in stalled:
        agent.subscribe(topic, queue_bytes=QUEUE_BYTES)
        agent.stop_reading()
    flood(alice, topic)
    before = scene.gateway.rss_bytes()
    for _ in range(3):
        flood(alice, topic)
    assert scene.gateway.rss_bytes() - before < 8 << 20
    assert scene.gateway.stats()["queued_bytes"] <= len(stalled) * 2 * QUEUE_BYTES
