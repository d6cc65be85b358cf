"""Requests: to an agent, a service, a capability; who is chosen; deadlines, cancellation, and everything that fails."""

import collections

import grpc
import pytest

from harness import wait
from harness.protocol import pb


def ask(requester, responders, **target):
    """Sends one request, lets whoever got it answer, and returns the responder."""
    id = requester.request(b"?", **target)
    responder, forward = wait.until(lambda: who_got_it(responders), "a responder got the request")
    responder.respond(forward, b"!")
    deliver = requester.expect("deliver")
    assert (deliver.id, deliver.payload, deliver.source) == (id, b"!", responder.name)
    return responder


def who_got_it(responders):
    """(responder, Forward) of the first that has one."""
    for responder in responders:
        if any(message.WhichOneof("body") == "forward" for message in responder.unread()):
            return responder, responder.expect("forward")
    return None


def test_request_to_an_agent(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    id = alice.request(b"question", agent=bob.name, timeout_ms=5000)
    forward = bob.expect_next("forward", payload=b"question", source=alice.name, timeout_ms=5000)
    assert forward.request != 0
    assert forward.deadline_unix_nanos > alice.registered.server_time_unix_nanos
    assert forward.target.agent == bob.name
    bob.send(response=pb.Response(request=forward.request, payload=b"answer", headers={"a": "b"}))
    deliver = alice.expect_next("deliver", id=id, payload=b"answer", code=pb.CODE_UNSPECIFIED, source=bob.name)
    assert dict(deliver.headers) == {"a": "b"}


def test_request_to_oneself(scene):
    alice = scene.agent("alice")
    alice.request(b"me", agent=alice.name)
    alice.respond(alice.expect("forward"), b"myself")
    assert alice.expect("deliver").payload == b"myself"


def test_a_failed_answer_is_delivered_as_it_is(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    alice.request(agent=bob.name)
    bob.respond(bob.expect("forward"), code=pb.CODE_NOT_FOUND, message="no such city")
    deliver = alice.expect("deliver")
    assert (deliver.code, deliver.message) == (pb.CODE_NOT_FOUND, "no such city")


def test_many_requests_in_flight_answered_in_reverse(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    ids = [alice.request(number.to_bytes(2, "big"), agent=bob.name) for number in range(200)]
    forwards = [bob.expect_next("forward") for _ in ids]
    assert [int.from_bytes(forward.payload, "big") for forward in forwards] == list(range(200))
    for forward in reversed(forwards):
        bob.respond(forward, forward.payload)
    answers = [alice.expect_next("deliver") for _ in ids]
    assert [answer.id for answer in answers] == ids[::-1]
    assert [int.from_bytes(answer.payload, "big") for answer in answers] == list(range(200))[::-1]


@pytest.mark.parametrize("by", ["service", "capability"])
def test_round_robin_takes_each_in_turn(scene, by):
    alice = scene.agent("alice")
    capability = f"weather-{scene.namespace}"
    responders = [scene.agent("weather", str(number), capabilities=[capability]) for number in range(3)]
    target = {"service": scene.service("weather")} if by == "service" else {"capability": capability}
    turns = [ask(alice, responders, **target).name for _ in range(9)]
    assert turns[:3] == turns[3:6] == turns[6:9] and len(set(turns)) == 3, turns


def test_least_outstanding_avoids_the_loaded(scene):
    alice = scene.agent("alice")
    loaded, idle = scene.agent("w", "loaded"), scene.agent("w", "idle")
    target = {"service": scene.service("w"), "balance": pb.BALANCE_LEAST_OUTSTANDING}
    loaded.send(status=pb.Status(outstanding=1000, weight=1))
    loaded.round_trip()
    wait.until(lambda: ask(alice, [loaded, idle], **target) is idle, "the load report has reached the requester's core")
    assert {ask(alice, [loaded, idle], **target).name for _ in range(20)} == {idle.name}


def test_least_outstanding_counts_what_is_unanswered(scene):
    alice, helper = scene.agent("alice"), scene.agent("helper")
    responders = [scene.agent("w", str(number)) for number in range(2)]
    target = {"service": scene.service("w"), "balance": pb.BALANCE_LEAST_OUTSTANDING}
    for number in range(10):
        alice.request(number.to_bytes(1, "big"), **target)
    wait.until(
        lambda: sum(len(responder.unread()) for responder in responders) == 10, "ten requests are with the responders"
    )
    assert [len(responder.unread()) for responder in responders] == [5, 5]
    for responder in responders:
        for _ in range(5):
            responder.respond(responder.expect("forward"))
    helper.round_trip()


def test_hash_keeps_a_key_with_its_agent(scene):
    alice = scene.agent("alice")
    responders = [scene.agent("w", str(number)) for number in range(4)]
    chosen = collections.defaultdict(set)
    for _ in range(3):
        for key in range(16):
            responder = ask(
                alice, responders, service=scene.service("w"), balance=pb.BALANCE_HASH, affinity=f"user-{key}"
            )
            chosen[key].add(responder.name)
    assert all(len(names) == 1 for names in chosen.values()), chosen
    assert len(set().union(*chosen.values())) >= 2, "sixteen keys on four agents fall on more than one"


def test_hash_moves_only_the_keys_of_the_one_that_left(scene):
    alice = scene.agent("alice")
    responders = [scene.agent("w", str(number)) for number in range(3)]
    target = {"service": scene.service("w"), "balance": pb.BALANCE_HASH}
    before = {key: ask(alice, responders, affinity=str(key), **target) for key in range(20)}
    left = responders.pop()
    left.close()
    scene.gateway.wait_for_stats(sessions=3)
    after = {key: ask(alice, responders, affinity=str(key), **target) for key in range(20)}
    assert all(after[key] is before[key] for key in before if before[key] is not left)


@pytest.mark.parametrize("report", [{"weight": 0}, {"weight": 1, "draining": True}], ids=["weight-0", "draining"])
def test_no_new_work_by_service_but_still_by_name(scene, report):
    alice = scene.agent("alice")
    leaving, stays = scene.agent("w", "leaving"), scene.agent("w", "stays")
    leaving.send(status=pb.Status(**report))
    leaving.round_trip()
    target = {"service": scene.service("w")}
    wait.until(
        lambda: [ask(alice, [leaving, stays], **target) for _ in range(2)] == [stays, stays],
        "the status has reached the requester's core",
    )
    assert {ask(alice, [leaving, stays], **target).name for _ in range(6)} == {stays.name}
    assert ask(alice, [leaving, stays], agent=leaving.name) is leaving


@pytest.mark.parametrize("to", ["agent", "service", "capability", "channel"])
def test_no_responder_at_once(scene, to):
    alice = scene.agent("alice")
    target = {
        "agent": scene.name("nobody"),
        "service": scene.service("nobody"),
        "capability": f"nothing-{scene.namespace}",
        "channel": "no-such-channel",
    }[to]
    id = alice.request(timeout_ms=60_000, **{to: target})
    error = alice.expect("error", id=id)
    expected = (pb.CODE_NO_RESPONDER, pb.CODE_NOT_FOUND) if to == "channel" else (pb.CODE_NO_RESPONDER,)
    assert error.code in expected and error.message


def test_deadline_tells_both_sides(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    id = alice.request(agent=bob.name, timeout_ms=50)
    forward = bob.expect("forward")
    alice.expect_error(id, pb.CODE_DEADLINE_EXCEEDED)
    assert bob.expect("cancel").request == forward.request
    bob.respond(forward, b"too late")
    bob.round_trip()
    assert not bob.unread(), "an answer that crossed the deadline is no error"
    alice.round_trip()
    assert not alice.unread()


def test_cancel_reaches_the_responder(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    id = alice.request(agent=bob.name)
    forward = bob.expect("forward")
    alice.send(cancel=pb.Cancel(request=id))
    assert bob.expect("cancel").request == forward.request
    bob.respond(forward, b"too late")
    bob.round_trip()
    alice.round_trip()
    assert not any(message.WhichOneof("body") == "deliver" for message in alice.unread())


def test_responder_that_leaves_fails_its_requests(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    id = alice.request(agent=bob.name, timeout_ms=60_000)
    bob.expect("forward")
    bob.close()
    error = alice.expect("error", id=id)
    assert error.code in (pb.CODE_UNAVAILABLE, pb.CODE_NO_RESPONDER)


def test_requester_that_leaves_cancels_its_requests(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    alice.request(agent=bob.name, timeout_ms=60_000)
    forward = bob.expect("forward")
    alice.call.cancel()
    assert bob.expect("cancel").request == forward.request


def test_requester_that_has_said_all_still_hears_its_answers(scene):
    """gRPC's half-close: the agent says no more, and the stream ends once it has heard what it asked for."""
    alice, bob = scene.agent("alice"), scene.agent("bob")
    id = alice.request(agent=bob.name)
    forward = bob.expect("forward")
    alice.half_close()
    bob.round_trip()
    bob.respond(forward, b"answer")
    assert alice.expect("deliver", id=id).payload == b"answer"
    assert alice.wait_for_end()[0] == grpc.StatusCode.OK


def test_answer_to_an_unknown_request_is_not_found(scene):
    bob = scene.agent("bob")
    bob.send(response=pb.Response(request=123_456_789))
    bob.expect_error(123_456_789, pb.CODE_NOT_FOUND)


def test_only_the_one_who_was_asked_may_answer(scene):
    alice, bob, mallory = scene.agent("alice"), scene.agent("bob"), scene.agent("mallory")
    id = alice.request(agent=bob.name)
    forward = bob.expect("forward")
    mallory.respond(forward, b"lies")
    mallory.expect_error(forward.request, pb.CODE_NOT_FOUND)
    bob.respond(forward, b"truth")
    assert alice.expect("deliver", id=id).payload == b"truth"


def test_second_answer_is_no_second_delivery(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    alice.request(agent=bob.name)
    forward = bob.expect("forward")
    bob.respond(forward, b"one")
    bob.respond(forward, b"two")
    bob.round_trip()
    alice.round_trip()
    assert [message.deliver.payload for message in alice.unread()] == [b"one"]


def test_request_id_in_flight_is_already_exists(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    id = alice.request(agent=bob.name)
    forward = bob.expect("forward")
    alice.send(request=pb.Request(id=id, target=pb.Target(agent=bob.name)))
    alice.expect_error(id, pb.CODE_ALREADY_EXISTS)
    bob.respond(forward, b"answer")
    assert alice.expect("deliver", id=id).payload == b"answer"


@pytest.mark.parametrize("target", [pb.Target(), pb.Target(agent="no name"), pb.Target(service="a/b/c/d")])
def test_bad_target_is_an_error_on_its_id(scene, target):
    alice = scene.agent("alice")
    alice.send(request=pb.Request(id=5, target=target))
    alice.expect_error(5, pb.CODE_INVALID_ARGUMENT)
    alice.round_trip()


def test_receiver_decides_who_may_address_it(scene):
    friend, stranger = scene.agent("friend"), scene.agent("stranger")
    bob = scene.agent("bob", accept_from=[f"{scene.service('friend')}/*"])
    id = stranger.request(agent=bob.name)
    stranger.expect_error(id, pb.CODE_PERMISSION_DENIED)
    stranger.send(stream_open=pb.StreamOpen(stream=1, target=pb.Target(agent=bob.name)))
    stranger.expect_error(1, pb.CODE_PERMISSION_DENIED)
    stranger.send(introduce=pb.Introduce(id=9, target=pb.Target(agent=bob.name)))
    stranger.expect_error(9, pb.CODE_PERMISSION_DENIED)
    friend.request(b"hi", agent=bob.name)
    assert bob.expect_next("forward").source == friend.name
