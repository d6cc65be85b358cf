"""A session outlives its connection by a grace period, with its queue, subscriptions and name."""

import grpc
import pytest

from harness.agent import Agent, connect
from harness.protocol import pb
from harness.proxy import Proxy
from harness.settings import RESUME_GRACE_MS


@pytest.fixture
def proxy(scene):
    """A relay in front of the gateway whose connections can be lost."""
    return Proxy(scene.gateway.port)


def lose(scene, proxy, agent):
    """Cuts the agent's connection; returns when the gateway has noticed."""
    proxy.cut()
    assert agent.wait_for_end()[0] == grpc.StatusCode.UNAVAILABLE
    scene.gateway.wait_for_stats(detached_sessions=1)


def resume(scene, agent):
    """A new connection for the lost agent's session."""
    channel = connect(scene.gateway.address)
    return scene.keep(Agent(channel, agent.name, owns_channel=True, resume_token=agent.registered.resume_token))


def test_resume_keeps_subscriptions_and_queue(scene, proxy):
    alice = scene.agent("alice")
    bob = scene.agent("bob", address=proxy.address)
    id = bob.subscribe(scene.topic("news/*"))
    lose(scene, proxy, bob)
    for number in range(10):
        assert alice.publish_acked(scene.topic("news/x"), bytes([number])) == 1
    again = resume(scene, bob)
    assert again.registered.resumed and again.registered.name == bob.name
    assert [again.expect_next("notify").payload[0] for _ in range(10)] == list(range(10))
    alice.publish(scene.topic("news/y"), b"after")
    assert again.expect_next("notify").payload == b"after"
    again.send(unsubscribe=pb.Unsubscribe(id=id))
    again.expect_ack(id)


def test_resume_without_the_token_is_a_fresh_session(scene, proxy):
    alice = scene.agent("alice")
    bob = scene.agent("bob", address=proxy.address)
    bob.subscribe(scene.topic("news"))
    lose(scene, proxy, bob)
    fresh = scene.agent("bob")
    assert not fresh.registered.resumed
    assert alice.publish_acked(scene.topic("news")) == 0
    scene.gateway.wait_for_stats(detached_sessions=0, subscriptions=0)


def test_resume_of_a_live_session_moves_it(scene):
    bob = scene.agent("bob")
    bob.subscribe(scene.topic("news"))
    moved = resume(scene, bob)
    assert moved.registered.resumed
    bob.wait_for_end()
    assert moved.publish_acked(scene.topic("news"), b"x") == 1
    assert moved.expect("notify").payload == b"x"


def test_resume_again_and_again(scene):
    alice = scene.agent("alice")
    token, name = b"", scene.name("bob")
    for round_number in range(6):
        proxy = Proxy(scene.gateway.port)
        bob = scene.keep(Agent(connect(proxy.address), name, owns_channel=True, resume_token=token))
        assert bob.registered.resumed == (round_number > 0)
        token = bob.registered.resume_token
        if round_number == 0:
            bob.subscribe(scene.topic("news"))
        else:
            assert bob.expect_next("notify").payload == bytes([round_number - 1])
        lose(scene, proxy, bob)
        assert alice.publish_acked(scene.topic("news"), bytes([round_number])) == 1
    last = scene.keep(Agent(connect(scene.gateway.address), name, owns_channel=True, resume_token=token))
    assert last.expect_next("notify").payload == bytes([5])


def test_lost_agent_is_no_responder(scene, proxy):
    alice = scene.agent("alice")
    bob = scene.agent("bob", address=proxy.address)
    waiting = alice.request(agent=bob.name, timeout_ms=60_000)
    bob.expect("forward")
    lose(scene, proxy, bob)
    error = alice.expect_error(waiting, pb.CODE_UNAVAILABLE)
    assert error.retryable
    alice.expect_error(alice.request(agent=bob.name), pb.CODE_NO_RESPONDER)
    resume(scene, bob)
    alice.request(b"back?", agent=bob.name)


def test_grace_ends(start_scene):
    scene = start_scene(settings={RESUME_GRACE_MS: 200})
    proxy = Proxy(scene.gateway.port)
    bob = scene.agent("bob", address=proxy.address)
    bob.subscribe(scene.topic("news"))
    proxy.cut()
    scene.gateway.wait_for_no_residue()
    assert not resume(scene, bob).registered.resumed


def test_no_grace_at_all(start_scene):
    scene = start_scene(settings={RESUME_GRACE_MS: 0})
    proxy = Proxy(scene.gateway.port)
    bob = scene.agent("bob", address=proxy.address)
    bob.subscribe(scene.topic("news"))
    proxy.cut()
    scene.gateway.wait_for_no_residue()
