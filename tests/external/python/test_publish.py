"""Publish and subscribe: patterns, groups, order, and what the gateway says about a message."""

import time

import grpc
import pytest

from harness.protocol import pb


def test_notify_carries_message_and_provenance(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    bob.subscribe(scene.topic("news"))
    before = time.time_ns()
    alice.publish(scene.topic("news"), b"hello", lang="en", mood="good")
    notify = bob.expect_next("notify")
    assert (notify.topic, notify.payload) == (scene.topic("news"), b"hello")
    assert dict(notify.headers) == {"lang": "en", "mood": "good"}
    assert (notify.source, notify.sequence) == (alice.name, 1)
    assert before - 10**9 < notify.time_unix_nanos < time.time_ns() + 10**9


def test_sequence_counts_a_publisher_over_all_topics(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    bob.subscribe(scene.topic("**"))
    for tail in ("a", "b", "a", "c/d"):
        alice.publish(scene.topic(tail))
    assert [bob.expect_next("notify").sequence for _ in range(4)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("pattern", "topic", "matches"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/b", "a", False),
        ("a/*", "a/b", True),
        ("a/*", "a/b/c", False),
        ("a/*", "a", False),
        ("*/b", "a/b", True),
        ("a/*/c", "a/b/c", True),
        ("a/*/c", "a/b/d", False),
        ("a/**", "a/b", True),
        ("a/**", "a/b/c/d", True),
        ("a/**", "a", False),
        ("a/**", "ab/c", False),
        ("*/*/**", "a/b/c", True),
        ("*/*/**", "a/b", False),
        ("**", "x/y/z", True),
    ],
)
def test_patterns(scene, pattern, topic, matches):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    bob.subscribe(scene.topic(pattern))
    assert alice.publish_acked(scene.topic(topic), b"probe") == (1 if matches else 0)
    if matches:
        assert bob.expect_next("notify").payload == b"probe"


@pytest.mark.parametrize("pattern", ["", "/a", "a/", "a//b", "a/**/b", "a*", "a/b*", "**a", "x" * 1025, "a/\x01"])
def test_bad_pattern_is_an_error_on_its_id_and_the_stream_lives(scene, pattern):
    bob = scene.agent("bob")
    bob.send(subscribe=pb.Subscribe(id=77, pattern=pattern))
    bob.expect_error(77, pb.CODE_INVALID_ARGUMENT)
    bob.round_trip()


@pytest.mark.parametrize("topic", ["", "/a", "a/", "a//b", "a/*", "**", "x" * 1025, "a/\x7f"])
def test_bad_topic_is_an_error_on_its_id_and_the_stream_lives(scene, topic):
    alice = scene.agent("alice")
    alice.send(publish=pb.Publish(id=78, topic=topic))
    alice.expect_error(78, pb.CODE_INVALID_ARGUMENT)
    alice.round_trip()


def test_own_publishes_come_back(scene):
    alice = scene.agent("alice")
    alice.subscribe(scene.topic("mine"))
    alice.publish(scene.topic("mine"), b"echo")
    assert alice.expect("notify").source == alice.name


def test_half_close_delivers_what_waits_and_then_ends(scene):
    alice = scene.agent("alice")
    alice.subscribe(scene.topic("mine"))
    for number in range(100):
        alice.publish(scene.topic("mine"), bytes([number]))
    alice.half_close()
    assert [alice.expect_next("notify").payload[0] for _ in range(100)] == list(range(100))
    assert alice.wait_for_end()[0] == grpc.StatusCode.OK


def test_one_copy_however_many_patterns_match(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    for pattern in ("a/b", "a/*", "**"):
        bob.subscribe(scene.topic(pattern))
    alice.publish(scene.topic("a/b"), b"first")
    alice.publish(scene.topic("a/b"), b"second")
    assert [bob.expect_next("notify").payload for _ in range(2)] == [b"first", b"second"]


def test_ack_counts_receivers(scene):
    alice = scene.agent("alice")
    topic = scene.topic("counted")
    assert alice.publish_acked(topic) == 0
    bobs = [scene.agent("bob", str(number)) for number in range(3)]
    for bob in bobs:
        bob.subscribe(topic)
    assert alice.publish_acked(topic) == 3


def test_messages_keep_their_order_over_topics_and_kinds(scene):
    """What one agent says to another arrives in the order said, publishes and requests alike."""
    alice, bob = scene.agent("alice"), scene.agent("bob")
    bob.subscribe(scene.topic("**"))
    for number in range(300):
        payload = number.to_bytes(4, "big")
        if number % 3 == 2:
            alice.request(payload, agent=bob.name)
        else:
            alice.publish(scene.topic(f"t{number % 5}"), payload)
    arrived = []
    for _ in range(300):
        message = bob.next()
        kind = message.WhichOneof("body")
        arrived.append(int.from_bytes(getattr(message, kind).payload, "big"))
        if kind == "forward":
            bob.respond(message.forward)
    assert arrived == list(range(300))
    for _ in range(100):
        alice.expect("deliver")


def test_nothing_after_the_ack_of_unsubscribe(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    id = bob.subscribe(scene.topic("a"))
    bob.subscribe(scene.topic("b"))
    bob.send(unsubscribe=pb.Unsubscribe(id=id))
    bob.expect_ack(id)
    assert alice.publish_acked(scene.topic("a")) == 0
    alice.publish(scene.topic("b"), b"marker")
    assert bob.expect_next("notify").payload == b"marker"


def test_unsubscribe_of_an_unknown_id_is_not_found(scene):
    bob = scene.agent("bob")
    bob.send(unsubscribe=pb.Unsubscribe(id=4711))
    bob.expect_error(4711, pb.CODE_NOT_FOUND)


def test_subscription_id_in_use_is_already_exists(scene):
    bob = scene.agent("bob")
    id = bob.subscribe(scene.topic("a"))
    bob.send(subscribe=pb.Subscribe(id=id, pattern=scene.topic("b")))
    bob.expect_error(id, pb.CODE_ALREADY_EXISTS)
    assert bob.publish_acked(scene.topic("a")) == 1


def test_queue_group_takes_each_message_once(scene):
    alice = scene.agent("alice")
    workers = [scene.agent("worker", str(number)) for number in range(3)]
    for worker in workers:
        worker.subscribe(scene.topic("jobs"), group="workers")
    watcher = scene.agent("watcher")
    watcher.subscribe(scene.topic("jobs"))
    for number in range(30):
        assert alice.publish_acked(scene.topic("jobs"), bytes([number])) == 2  # one worker and the watcher
    for worker in workers:
        worker.round_trip()
    shares = [[m.notify.payload[0] for m in worker.unread() if m.WhichOneof("body") == "notify"] for worker in workers]
    watched = [watcher.expect_next("notify").payload[0] for _ in range(30)]
    assert watched == list(range(30))
    assert sorted(number for share in shares for number in share) == list(range(30))
    assert all(share == sorted(share) and len(share) == 10 for share in shares), shares


def test_groups_of_another_name_are_apart(scene):
    alice = scene.agent("alice")
    first, second = scene.agent("first"), scene.agent("second")
    first.subscribe(scene.topic("jobs"), group="one")
    second.subscribe(scene.topic("jobs"), group="two")
    assert alice.publish_acked(scene.topic("jobs")) == 2


def test_group_goes_on_when_a_member_leaves(scene):
    alice = scene.agent("alice")
    stays, leaves = scene.agent("stays"), scene.agent("leaves")
    for worker in (stays, leaves):
        worker.subscribe(scene.topic("jobs"), group="workers")
    leaves.close()
    scene.gateway.wait_for_stats(subscriptions=1)
    for number in range(10):
        assert alice.publish_acked(scene.topic("jobs"), bytes([number])) == 1
    assert [stays.expect_next("notify").payload[0] for _ in range(10)] == list(range(10))


def test_what_only_the_gateway_may_say_cannot_be_forged(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    bob.subscribe(scene.topic("news"))
    forged = pb.Notify(topic=scene.topic("news"), source="acme/bank/vault/1", sequence=999, time_unix_nanos=1)
    alice.send(publish=pb.Publish.FromString(forged.SerializeToString()))  # 16 and up ride along as unknown fields
    notify = bob.expect_next("notify")
    assert (notify.source, notify.sequence) == (alice.name, 1)
    assert notify.time_unix_nanos > 1


def test_fields_of_a_newer_client_travel_unchanged(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    bob.subscribe(scene.topic("news"))
    newer = pb.Publish(topic=scene.topic("news")).SerializeToString() + b"\xfa\x3f\x03new"  # field 1023
    alice.send(publish=pb.Publish.FromString(newer))
    assert b"\xfa\x3f\x03new" in bob.expect_next("notify").SerializeToString()


@pytest.mark.parametrize("size", [0, 1, 16_300, 16_384, 65_535, 65_536, 1_000_000])
def test_payload_sizes_around_frame_and_window_borders(scene, size):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    bob.subscribe(scene.topic("blob"))
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    alice.publish(scene.topic("blob"), payload)
    assert bob.expect_next("notify").payload == payload


def test_empty_message_is_an_error_and_the_stream_lives(scene):
    alice = scene.agent("alice")
    alice.send()
    assert alice.expect("error").code == pb.CODE_INVALID_ARGUMENT
    alice.round_trip()


def test_five_thousand_publishes_arrive_in_order(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    bob.subscribe(scene.topic("burst"), queue_bytes=8 << 20)
    for number in range(5000):
        alice.publish(scene.topic("burst"), number.to_bytes(4, "big"))
    for number in range(5000):
        notify = bob.expect_next("notify", sequence=number + 1)
        assert int.from_bytes(notify.payload, "big") == number
