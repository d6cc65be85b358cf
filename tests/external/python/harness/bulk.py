"""Many messages quickly: whole batches in few writes, each delivery checked for order, source and count."""

from harness.http2 import INITIAL_WINDOW_SIZE, WINDOW_MAX, Connection
from harness.protocol import OPEN_PATH, grpc_frame, pb

PADDING = bytes(100)


class BulkAgent:
    """An agent on a hand-driven connection with windows as wide as they go."""

    def __init__(self, address, name):
        self.name = name
        self.connection = Connection(address, credit=False)
        self.connection.handshake({INITIAL_WINDOW_SIZE: WINDOW_MAX})
        self.connection.grant(WINDOW_MAX - 65_535)
        self._received = 0
        self.stream = self.connection.post(OPEN_PATH)
        self.say(register=pb.Register(name=name))
        assert self.hear().HasField("registered")

    def say(self, **body):
        """One message."""
        self.connection.data(self.stream, grpc_frame(pb.AgentMessage(**body)))

    def hear(self):
        """The next message."""
        return pb.GatewayMessage.FromString(self.connection.wait_for_data(self.stream)[5:])

    def subscribe(self, pattern):
        """With a queue that holds a whole batch."""
        self.say(subscribe=pb.Subscribe(id=1, pattern=pattern, delivery=pb.Delivery(queue_bytes=8 << 20)))
        message = self.hear()
        assert message.ack.id == 1, message

    def publish_batch(self, topic, numbers):
        """One message for each number, in as few DATA frames as fit."""
        self.connection.data(
            self.stream,
            b"".join(
                grpc_frame(
                    pb.AgentMessage(publish=pb.Publish(topic=topic, payload=number.to_bytes(8, "big") + PADDING))
                )
                for number in numbers
            ),
        )

    def expect_batch(self, numbers, source):
        """Reads until exactly these have come, in this order."""
        body = self.connection.responses[self.stream].body
        offset = 0
        for number in numbers:
            self.connection.read_until(lambda: whole(body, offset), f"message {number}")
            length = int.from_bytes(body[offset + 1 : offset + 5], "big")
            message = pb.GatewayMessage.FromString(bytes(body[offset + 5 : offset + 5 + length]))
            notify = message.notify
            assert int.from_bytes(notify.payload[:8], "big") == number, f"{number} was due: {message}"
            assert (notify.sequence, notify.source) == (number + 1, source)
            offset += 5 + length
            self._received += 5 + length
        del body[:offset]
        if self._received > 1 << 28:
            self.connection.grant(self._received)
            self.connection.grant(self._received, self.stream)
            self._received = 0

    def close(self):
        """An orderly end."""
        self.connection.data(self.stream, b"", end_stream=True)
        self.connection.wait_for_response(self.stream)
        self.connection.close()


def whole(body, offset):
    """True when a whole message lies at `offset`."""
    return len(body) >= offset + 5 and len(body) >= offset + 5 + int.from_bytes(body[offset + 1 : offset + 5], "big")


def agent_on_core(gateway, core, name_of):
    """A BulkAgent whose connection core `core` has accepted. The kernel spreads connections: tried often."""
    for number in range(64):
        before = gateway.stats(core)["sessions"]
        agent = BulkAgent(gateway.address, name_of(number))
        if gateway.stats(core)["sessions"] > before:
            return agent
        agent.close()
    raise AssertionError(f"none of 64 connections was accepted by core {core}")
