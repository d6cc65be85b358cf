"""kill -9 of a client in the middle of anything: its peers are told, and nothing of it is left."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.agent import Agent, connect
from harness.gateway import ONE_CORE, TWO_CORES
from harness.protocol import pb
from harness.proxy import Proxy
from harness.scene import Scene
from harness.settings import RESUME_GRACE_MS
from harness.victim import SITUATIONS

HERE = Path(__file__).parent
GRACE_MS = 200
KILLS = int(os.environ.get("RINGGATE_TEST_KILLS", 100))


@pytest.fixture(params=[ONE_CORE, pytest.param(TWO_CORES, marks=pytest.mark.two_cores)], ids=["1core", "2cores"])
def gateway(request, gateways):
    """A gateway that keeps lost sessions for a moment only."""
    gateway = gateways.shared(request.param, {RESUME_GRACE_MS: GRACE_MS})
    yield gateway
    assert gateway.is_alive(), f"the gateway ended with {gateway.process.returncode}:\n{gateway.output()[-4000:]}"
    gateway.wait_for_no_residue()


@pytest.fixture
def peer(scene):
    """The agent that victims talk to."""
    return scene.agent("peer")


@pytest.fixture
def victims(scene):
    """Starts victims in a situation; whoever is left at the end is killed."""
    started = []

    def start(situation):
        victim = Process(scene, situation)
        started.append(victim)
        return victim

    yield start
    for victim in started:
        victim.kill()


class Process:
    """A victim's process."""

    def __init__(self, scene, situation):
        command = [sys.executable, "-m", "harness.victim", scene.gateway.address, scene.namespace, situation]
        self.name = scene.name("victim")
        self.process = subprocess.Popen(command, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def wait_for(self, word):
        """Reads the victim's next word."""
        said = self.process.stdout.readline().strip()
        assert said == word, f"the victim said {said!r} where {word!r} was due"
        return self

    def kill(self):
        """SIGKILL; returns when the process is gone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


def test_connected(scene, victims):
    victims("connected").wait_for("ready").kill()
    scene.gateway.wait_for_no_residue()
    assert not scene.agent("victim").registered.resumed


def test_subscribed(scene, peer, victims):
    victims("subscribed").wait_for("ready").kill()
    scene.gateway.wait_for_stats(subscriptions=0, detached_sessions=0)
    assert peer.publish_acked(scene.topic("feed/7")) == 0


def test_stalled(scene, peer, victims):
    victim = victims("stalled").wait_for("ready")
    for _ in range(2000):
        peer.publish(scene.topic("feed"), bytes(2000))
    peer.round_trip()
    assert scene.gateway.stats()["queued_bytes"] > 0
    victim.kill()
    scene.gateway.wait_for_stats(queued_bytes=0, subscriptions=0, detached_sessions=0)


def test_grouped(scene, peer, victims):
    survivor = scene.agent("survivor")
    survivor.subscribe(scene.topic("feed"), group="workers")
    victims("grouped").wait_for("ready").kill()
    scene.gateway.wait_for_stats(subscriptions=1, detached_sessions=0)
    for number in range(10):
        assert peer.publish_acked(scene.topic("feed"), bytes([number])) == 1
    assert [survivor.expect_next("notify").payload[0] for _ in range(10)] == list(range(10))


def test_publishing(scene, peer, victims):
    peer.subscribe(scene.topic("feed"), queue_bytes=8 << 20)
    victim = victims("publishing").wait_for("ready")
    for number in range(500):
        assert int.from_bytes(peer.expect_next("notify").payload[:4], "big") == number
    victim.kill()
    scene.gateway.wait_for_stats(sessions=1, detached_sessions=0)
    peer.publish(scene.topic("feed"), b"mark")
    number = 500
    while (notify := peer.expect_next("notify")).source == victim.name:
        assert int.from_bytes(notify.payload[:4], "big") == number and len(notify.payload) == 1004
        number += 1
    assert notify.payload == b"mark"


def test_requesting(scene, peer, victims):
    victim = victims("requesting").wait_for("ready")
    forwards = [peer.expect("forward") for _ in range(20)]
    victim.kill()
    cancelled = {peer.expect("cancel").request for _ in forwards}
    assert cancelled == {forward.request for forward in forwards}
    scene.gateway.wait_for_stats(requests=0)
    for forward in forwards:
        peer.respond(forward, b"nobody hears this")
    peer.round_trip()


def test_responding(scene, peer, victims):
    victim = victims("responding").wait_for("registered")
    ids = [peer.request(agent=victim.name, timeout_ms=60_000) for _ in range(20)]
    peer.round_trip()  # all of them are with the gateway, not only the one that the victim has seen
    victim.wait_for("ready").kill()
    for id in ids:
        assert peer.expect_error(id, pb.CODE_UNAVAILABLE).retryable
    scene.gateway.wait_for_stats(requests=0)
    peer.expect_error(peer.request(agent=victim.name), pb.CODE_NO_RESPONDER)


def test_streaming(scene, peer, victims):
    victim = victims("streaming")
    stream = peer.expect("stream_open").stream
    peer.send(stream_credit=pb.StreamCredit(stream=stream, bytes=100_000))
    victim.wait_for("ready").kill()
    assert peer.expect("stream_close", stream=stream).code == pb.CODE_UNAVAILABLE
    assert [peer.expect("chunk").sequence for _ in range(100)] == list(range(100))
    scene.gateway.wait_for_stats(streams=0)


def test_streamed_to(scene, peer, victims):
    victim = victims("streamed_to").wait_for("registered")
    peer.send(stream_open=pb.StreamOpen(stream=1, target=pb.Target(agent=victim.name)))
    peer.expect("stream_credit")
    peer.send(chunk=pb.Chunk(stream=1, payload=bytes(1000)))
    victim.wait_for("ready").kill()
    assert peer.expect("stream_close", stream=1).code == pb.CODE_UNAVAILABLE
    scene.gateway.wait_for_stats(streams=0)


def test_introducing(scene, peer, victims):
    victim = victims("introducing").wait_for("ready")
    introduction = peer.expect("introduce").introduction
    victim.kill()
    assert peer.expect("cancel").introduction == introduction
    scene.gateway.wait_for_stats(introductions=0)


def test_introduced(scene, peer, victims):
    victim = victims("introduced").wait_for("registered")
    peer.send(introduce=pb.Introduce(id=1, target=pb.Target(agent=victim.name), timeout_ms=60_000))
    victim.wait_for("ready").kill()
    message = peer.next()
    assert message.WhichOneof("body") in ("rejected", "error"), message
    assert getattr(message, message.WhichOneof("body")).code == pb.CODE_UNAVAILABLE
    scene.gateway.wait_for_stats(introductions=0)


def test_on_a_channel(scene, peer, victims):
    victim = victims("on_a_channel")
    peer.send(accept=pb.Accept(introduction=peer.expect("introduce").introduction))
    channel = peer.expect("connected").channel
    victim.wait_for("ready").kill()
    scene.gateway.wait_for_stats(channels=0)
    id = peer.request(channel=channel)
    assert peer.expect("error", id=id).code in (pb.CODE_NOT_FOUND, pb.CODE_NO_RESPONDER, pb.CODE_UNAVAILABLE)


def test_in_a_message(scene, peer, victims):
    peer.subscribe(scene.topic("feed"))
    victims("in_a_message").wait_for("ready").kill()
    scene.gateway.wait_for_stats(sessions=1, detached_sessions=0)
    peer.publish(scene.topic("feed"), b"whole")
    assert peer.expect_next("notify").payload == b"whole", "a half message is never passed on"


def test_every_situation_is_tested():
    assert {f"test_{name}" for name in SITUATIONS} <= set(globals())


def test_memory_and_descriptors_do_not_grow_with_kills(start_gateway):
    """Lost connections, each with subscriptions, a request, a stream and an introduction under way."""
    gateway = start_gateway(settings={RESUME_GRACE_MS: 50})
    scene = Scene(gateway)
    peer = scene.agent("peer")
    target = pb.Target(agent=peer.name)

    def lose_one(number):
        proxy = Proxy(gateway.port)
        agent = Agent(connect(proxy.address), scene.name("lost", str(number)), owns_channel=True)
        for tail in range(20):
            agent.subscribe(scene.topic(f"{number}/{tail}/*"))
        agent.send(request=pb.Request(id=1, target=target, timeout_ms=60_000))
        agent.send(stream_open=pb.StreamOpen(stream=1, target=target))
        agent.send(introduce=pb.Introduce(id=1, target=target, timeout_ms=60_000))
        agent.round_trip()
        proxy.cut()
        agent.close()

    for number in range(20):
        lose_one(number)
    gateway.wait_for_stats(sessions=1, detached_sessions=0)
    rss, files = gateway.rss_bytes(), gateway.open_files()
    for number in range(20, 20 + KILLS):
        lose_one(number)
    gateway.wait_for_stats(sessions=1, detached_sessions=0, subscriptions=0, requests=0, streams=0, introductions=0)
    assert gateway.open_files() <= files + 2
    assert gateway.rss_bytes() - rss < 4 << 20
    scene.close()
    gateway.wait_for_no_residue()
