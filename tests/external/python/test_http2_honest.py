"""Honest bursts that look like floods: served. Spoken by hyper-h2, which also judges every byte of the answers."""

import collections
import socket

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.settings import SettingCodes

from harness.agent import Agent, connect
from harness.http2 import CANCEL, REFUSED_STREAM, request_headers
from harness.protocol import HEALTH_PATH, OPEN_PATH, grpc_frame, grpc_messages, pb
from harness.scene import Scene
from harness.settings import STREAMS_MAX
from harness.wait import DEADLINE_S


class Client:
    """A blocking client around hyper-h2."""

    def __init__(self, address):
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=DEADLINE_S)
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 8 << 20})
        self.h2.increment_flow_control_window(64 << 20)
        self.bodies = collections.defaultdict(bytearray)
        self.trailers = {}
        self.ended = set()
        self.resets = {}
        self.flush()
        self.pump(lambda: self.h2.remote_settings.max_concurrent_streams < 2**31)

    def flush(self):
        """Writes what hyper-h2 has to say."""
        self.socket.sendall(self.h2.data_to_send())

    def pump(self, condition):
        """Reads until `condition`."""
        while not condition():
            data = self.socket.recv(65_536)
            assert data, "the gateway closed the connection"
            for event in self.h2.receive_data(data):
                self._on(event)
            self.flush()

    def _on(self, event):
        if isinstance(event, DataReceived):
            self.bodies[event.stream_id] += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, ResponseReceived):
            self.trailers[event.stream_id] = dict(event.headers)
        elif isinstance(event, TrailersReceived):
            self.trailers[event.stream_id].update(event.headers)
        elif isinstance(event, StreamEnded):
            self.ended.add(event.stream_id)
        elif isinstance(event, StreamReset):
            self.resets[event.stream_id] = event.error_code

    def call(self, path, body=None, end_stream=False):
        """Begins a call, without flushing; returns its stream."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, request_headers(path))
        if body is not None:
            self.h2.send_data(stream, body, end_stream)
        return stream

    def check_health(self):
        """One honest call."""
        stream = self.call(HEALTH_PATH, grpc_frame(b""), True)
        self.flush()
        self.pump(lambda: stream in self.ended)
        assert self.trailers[stream]["grpc-status"] == "0"

    def agent(self, name):
        """A registered `Open` stream."""
        stream = self.call(OPEN_PATH, grpc_frame(pb.AgentMessage(register=pb.Register(name=name))))
        self.flush()
        self.pump(lambda: self.bodies[stream])
        assert pb.GatewayMessage.FromString(grpc_messages(bytes(self.bodies[stream]))[0]).HasField("registered")
        self.bodies[stream].clear()
        return stream

    def count_messages(self, stream):
        """How many whole messages have come on `stream`."""
        body, count, offset = self.bodies[stream], 0, 0
        while offset + 5 <= len(body):
            offset += 5 + int.from_bytes(body[offset + 1 : offset + 5], "big")
            count += offset <= len(body)
        return count

    def close(self):
        """Ends the connection."""
        self.h2.close_connection()
        self.flush()
        self.socket.close()


@pytest.fixture
def client(one_core):
    """A connection by hyper-h2."""
    client = Client(one_core.address)
    yield client
    client.close()
    one_core.wait_for_stats(connections=0)


def test_five_thousand_small_messages_pipelined_on_one_stream(one_core, client):
    """Each in a DATA frame of its own, of some forty bytes."""
    scene = Scene(one_core)
    topic = scene.topic("t")
    stream = client.agent(scene.name("alice"))
    client.h2.send_data(stream, grpc_frame(pb.AgentMessage(subscribe=pb.Subscribe(id=1, pattern=topic))))
    client.flush()
    client.pump(lambda: client.bodies[stream])
    client.bodies[stream].clear()
    for number in range(5000):
        publish = pb.Publish(topic=topic, payload=number.to_bytes(2, "big"))
        client.h2.send_data(stream, grpc_frame(pb.AgentMessage(publish=publish)))
    client.flush()
    client.pump(lambda: client.count_messages(stream) == 5000)
    messages = [pb.GatewayMessage.FromString(message) for message in grpc_messages(bytes(client.bodies[stream]))]
    assert [message.notify.sequence for message in messages] == list(range(1, 5001))
    client.h2.end_stream(stream)
    client.flush()
    client.pump(lambda: stream in client.ended)


def test_two_hundred_quick_cancels(client):
    for _ in range(200):
        client.h2.reset_stream(client.call(OPEN_PATH), CANCEL)
    client.flush()
    client.check_health()


def test_two_hundred_quick_cancels_of_calls_in_use(one_core, client):
    scene = Scene(one_core)
    streams = [client.agent(scene.name("brief", str(number))) for number in range(200)]
    for stream in streams:
        client.h2.reset_stream(stream, CANCEL)
    client.flush()
    client.check_health()
    one_core.wait_for_no_residue()


def test_thousand_calls_at_once(client):
    streams = [client.call(HEALTH_PATH, grpc_frame(b""), True) for _ in range(1000)]
    client.flush()
    client.pump(lambda: client.ended >= set(streams))
    assert all(client.trailers[stream]["grpc-status"] == "0" for stream in streams)
    assert all(bytes(client.bodies[stream]) == grpc_frame(b"\x08\x01") for stream in streams)


def test_thousand_streams_opened_at_once(one_core, client):
    scene = Scene(one_core)
    streams = []
    for number in range(1000):
        register = pb.AgentMessage(register=pb.Register(name=scene.name("crowd", str(number))))
        streams.append(client.call(OPEN_PATH, grpc_frame(register)))
    client.flush()
    client.pump(lambda: all(client.bodies[stream] for stream in streams))
    assert one_core.stats()["sessions"] == 1000
    for stream in streams:
        client.h2.end_stream(stream)
    client.flush()
    client.pump(lambda: client.ended >= set(streams))


def test_ten_thousand_calls_on_one_connection(client):
    """A busy connection is not a flood, however long it is busy."""
    for _ in range(100):
        streams = [client.call(HEALTH_PATH, grpc_frame(b""), True) for _ in range(100)]
        client.flush()
        client.pump(lambda expected=set(streams): client.ended >= expected)
    assert len(client.ended) == 10_000


def test_more_streams_than_announced_are_refused_and_the_others_served(start_gateway):
    from harness.http2 import Connection

    gateway = start_gateway(settings={STREAMS_MAX: 100})
    connection = Connection(gateway.address)
    connection.handshake()
    assert connection.settings[3] == 100
    streams = [connection.post(OPEN_PATH) for _ in range(150)]
    for stream in streams[100:]:
        assert connection.wait_for_reset(stream) == REFUSED_STREAM
    for stream in streams[:100]:
        connection.wait_for_headers(stream)
    connection.frame(3, 0, streams[0], CANCEL.to_bytes(4, "big"))
    connection.ping_pong()
    connection.wait_for_headers(connection.post(OPEN_PATH))  # there is room for one again
    connection.close()


def test_grpcio_beyond_the_announced_streams_waits_and_succeeds(start_gateway):
    """grpcio queues calls until a stream is free: the limit costs it time, not an error."""
    gateway = start_gateway(settings={STREAMS_MAX: 10})
    scene = Scene(gateway)
    channel = connect(gateway.address)
    first = [Agent(channel, scene.name("first", str(number))) for number in range(10)]
    late = Agent(channel)
    late.send(register=pb.Register(name=scene.name("late")))
    first[0].close()
    assert late.expect("registered").name == scene.name("late")
    for agent in (*first[1:], late):
        agent.close()
