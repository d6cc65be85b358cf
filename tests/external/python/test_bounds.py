"""What one client does not read, does not finish, or sends all at once: bounded memory, nobody stalls, the process still ends."""

import pytest
from grpc_reflection.v1alpha import reflection_pb2

from harness.bulk import agent_on_core
from harness.gateway import ONE_CORE, TWO_CORES
from harness.http2 import DATA, INITIAL_WINDOW_SIZE, Connection, frame
from harness.protocol import OPEN_PATH, grpc_frame, pb
from harness.scene import Scene
from harness.settings import DRAIN_DEADLINE_MS

BURST = 36_000
REFLECTION_PATH = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


def said(**body):
    """One AgentMessage, framed."""
    return grpc_frame(pb.AgentMessage(**body).SerializeToString())


def register(connection, name):
    """Opens a stream by hand and registers on it."""
    stream = connection.post(OPEN_PATH)
    connection.data(stream, said(register=pb.Register(name=name)))
    return stream


@pytest.mark.two_cores
@pytest.mark.timeout(180)
def test_a_burst_of_many_small_turns_crosses_cores_whole(gateways):
    """Topics that alternate make every publish a message between cores of its own: far more than the ring between them holds."""
    gateway = gateways.shared(TWO_CORES)
    scene = Scene(gateway)
    far = [
        agent_on_core(gateway, core, lambda number, core=core: scene.name(f"far-{core}", str(number)))
        for core in (0, 1)
    ]
    topics = [scene.topic("left"), scene.topic("right")]
    for agent in far:
        agent.subscribe(scene.topic("*"))
    connection = Connection(gateway.address)
    connection.handshake()
    stream = register(connection, scene.name("burst", "1"))
    publishes = (
        said(publish=pb.Publish(topic=topics[number % 2], payload=number.to_bytes(4, "big"))) for number in range(BURST)
    )
    connection.data(stream, b"".join(publishes))
    for agent in far:
        numbers = [int.from_bytes(agent.hear().notify.payload, "big") for _ in range(BURST)]
        assert numbers == list(range(BURST))
    connection.data(stream, b"", end_stream=True)
    connection.wait_for_response(stream)
    for agent in (*far, connection):
        agent.close()
    scene.close()
    gateway.wait_for_no_residue()


def test_drain_does_not_wait_for_a_window_that_stays_shut(start_gateway):
    gateway = start_gateway(settings={DRAIN_DEADLINE_MS: 300})
    connection = Connection(gateway.address)
    connection.handshake({INITIAL_WINDOW_SIZE: 0})
    register(connection, "acme/bounds/shut/1")
    gateway.wait_for_stats(sessions=1)
    gateway.terminate()
    assert gateway.wait_for_exit() == 0


def test_drain_does_not_wait_for_a_reader_that_reads_nothing(start_gateway):
    gateway = start_gateway(settings={DRAIN_DEADLINE_MS: 300})
    stalled = Connection(gateway.address, receive_buffer=4096)
    stalled.handshake({INITIAL_WINDOW_SIZE: 2**31 - 1})
    stalled.grant(2**31 - 1 - 65_535)
    stream = register(stalled, "acme/bounds/stalled/1")
    stalled.data(stream, said(subscribe=pb.Subscribe(id=1, pattern="bounds/stalled")))
    gateway.wait_for_stats(subscriptions=1)
    scene = Scene(gateway)
    publisher = scene.agent("publisher")
    for _ in range(64):
        publisher.publish("bounds/stalled", bytes(256 << 10))
    publisher.round_trip()
    gateway.terminate()
    assert gateway.wait_for_exit() == 0
    scene.close()


def test_answers_that_nobody_reads_are_bounded(one_core):
    """A request of forty bytes for a descriptor of tens of kilobytes, again and again, with the window shut."""
    question = reflection_pb2.ServerReflectionRequest(file_containing_symbol="agp.v1.AgentGateway").SerializeToString()
    before = one_core.rss_bytes()
    connection = Connection(one_core.address)
    connection.handshake({INITIAL_WINDOW_SIZE: 0})
    stream = connection.post(REFLECTION_PATH)
    connection.read_until(lambda: connection.settings, "settings")
    sent = 0
    while sent < 20_000 and connection.send_window(stream) > 8192:
        connection.data(stream, grpc_frame(question) * 100)
        sent += 100
        connection.poll()
    assert sent >= 500, "the gateway closed its window before anything piled up"
    bystander = Scene(one_core)
    bystander.agent("bystander").round_trip()
    assert one_core.rss_bytes() - before < 32 << 20
    bystander.close()
    connection.close()


def test_messages_that_are_never_finished_are_bounded(start_gateway):
    """Three hundred calls, each with a megabyte of a message of four, on one connection."""
    bound = 16 << 20
    gateway = start_gateway(cores=ONE_CORE, settings={"limits.connection_input_bytes_max": bound})
    before = gateway.rss_bytes()
    connection = Connection(gateway.address)
    connection.handshake()
    unfinished = b"\0" + (4_000_000).to_bytes(4, "big") + bytes(1 << 20)
    for _ in range(300):
        stream = connection.post(OPEN_PATH)
        for first in range(0, len(unfinished), 16_384):
            connection.frame(DATA, 0, stream, unfinished[first : first + 16_384])
        if connection.poll() or connection.goaway:
            break
    scene = Scene(gateway)
    scene.agent("bystander").round_trip()
    assert gateway.rss_bytes() - before < bound + (24 << 20)
    scene.close()
    connection.close()
    gateway.wait_for_stats(connections=0)
