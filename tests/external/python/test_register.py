"""Sessions: the first message, names, and what is refused."""

import grpc
import pytest

from harness.agent import Agent, connect
from harness.protocol import pb


def test_registered_tells_session_name_limits_and_time(scene):
    alice = scene.agent("alice", capabilities=["weather"], labels={"zone": "a"})
    registered = alice.registered
    assert registered.name == scene.name("alice")
    assert registered.session and registered.node and registered.resume_token
    assert not registered.resumed
    assert registered.server_time_unix_nanos > 1_700_000_000 * 10**9
    limits = registered.limits
    assert limits.message_bytes_max >= 4 * 1024 * 1024
    assert min(limits.subscriptions_max, limits.queue_bytes_max, limits.streams_max, limits.requests_in_flight_max) > 0


def test_sessions_and_resume_tokens_are_unique(scene):
    agents = [scene.agent("alice", str(instance)) for instance in range(5)]
    assert len({agent.registered.session for agent in agents}) == 5
    assert len({agent.registered.resume_token for agent in agents}) == 5


def test_response_headers_come_before_the_first_message(scene):
    silent = scene.unregistered()
    assert dict(silent.call.initial_metadata()) is not None  # blocks until HEADERS are there


def test_anything_before_register_ends_the_stream(scene):
    rude = scene.unregistered()
    rude.send(subscribe=pb.Subscribe(id=7, pattern="a"))
    assert rude.expect("error").code == pb.CODE_UNAUTHENTICATED
    assert rude.wait_for_end()[0] == grpc.StatusCode.UNAUTHENTICATED


def test_name_in_use_is_already_exists(scene):
    first = scene.agent("alice")
    second = scene.unregistered()
    second.send(register=pb.Register(name=first.name))
    assert second.expect("error", id=0).code == pb.CODE_ALREADY_EXISTS
    assert second.wait_for_end()[0] == grpc.StatusCode.ALREADY_EXISTS
    first.round_trip()


def test_name_is_free_again_after_an_orderly_end(scene):
    scene.agent("alice").close()
    again = scene.agent("alice")
    assert not again.registered.resumed


@pytest.mark.parametrize(
    "name",
    [
        "",
        "acme",
        "acme/a/b",
        "acme/a/b/c/d",
        "/a/b/c",
        "acme//b/c",
        "acme/a/b/",
        "acme/*/b/c",
        "acme/a/b/**",
        "acme/a/b/new\nline",
        "acme/a/b/nul\0",
        "acme/a/b/" + "x" * 256,
    ],
)
def test_bad_name_is_invalid_argument(scene, name):
    nameless = scene.unregistered()
    nameless.send(register=pb.Register(name=name))
    error = nameless.expect("error", id=0)
    assert error.code == pb.CODE_INVALID_ARGUMENT and error.message
    assert nameless.wait_for_end()[0] == grpc.StatusCode.INVALID_ARGUMENT


def test_names_take_any_utf8(scene):
    name = f"acme/{scene.namespace}/wetter für köln/日本 1"
    alice = scene.keep(Agent(connect(scene.gateway.address), name, owns_channel=True))
    assert alice.registered.name == name


def test_segment_of_255_bytes_is_taken(scene):
    scene.agent("x" * 255)


def test_second_register_is_an_error(scene):
    alice = scene.agent("alice")
    alice.send(register=pb.Register(name=scene.name("other")))
    assert alice.expect("error").code in (pb.CODE_INVALID_ARGUMENT, pb.CODE_ALREADY_EXISTS)


def test_resume_token_nobody_gave_is_a_fresh_session(scene):
    alice = scene.agent("alice", resume_token=b"made up by the client")
    assert not alice.registered.resumed


def test_half_close_ends_the_stream_with_ok(scene):
    alice = scene.agent("alice")
    alice.half_close()
    assert alice.wait_for_end()[0] == grpc.StatusCode.OK


def test_cancel_leaves_nothing(scene):
    alice = scene.agent("alice")
    alice.subscribe(scene.topic("**"))
    alice.call.cancel()
    scene.gateway.wait_for_no_residue()


def test_many_agents_on_one_connection(scene):
    channel = connect(scene.gateway.address)
    agents = [scene.keep(Agent(channel, scene.name("many", str(number)))) for number in range(50)]
    for agent in agents:
        agent.subscribe(scene.topic("news"))
    assert agents[0].publish_acked(scene.topic("news"), b"x") == 50
    for agent in agents:
        assert agent.expect_next("notify").payload == b"x"
