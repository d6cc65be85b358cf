"""An agent over grpcio's synchronous API: sends what it is told, keeps what arrives in order, can stop reading."""

import collections
import itertools
import queue
import threading
import time

import grpc

from harness.protocol import AgentGatewayStub, pb
from harness.wait import DEADLINE_S

CHANNEL_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # each channel its own TCP connection
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
)

# grpcio widens its windows to megabytes when data comes fast. A reader that stalls with this keeps those of HTTP/2, 64 KiB,
# so that what it does not read waits where the test wants it: in the gateway.
NARROW = (("grpc.http2.bdp_probe", 0),)


def connect(address, options=()):
    """A plaintext channel with a connection of its own."""
    return grpc.insecure_channel(address, options=(*CHANNEL_OPTIONS, *options))


class Ended(AssertionError):
    """The stream ended while a message was awaited."""


class Agent:
    """One `Open` stream."""

    _ids = itertools.count(1)

    def __init__(
        self, channel, name=None, *, owns_channel=False, metadata=None, timeout=None, compression=None, **fields
    ):
        self.name = name
        self.registered = None
        self._channel = channel if owns_channel else None
        self._outgoing = queue.SimpleQueue()
        self._arrived = collections.deque()
        self._changed = threading.Condition()
        self._reads = threading.Event()
        self._reads.set()
        self._over = False
        self.call = AgentGatewayStub(channel).Open(
            iter(self._outgoing.get, None), metadata=metadata, timeout=timeout, compression=compression
        )
        threading.Thread(target=self._read, daemon=True, name=f"reader of {name}").start()
        if name is not None:
            self.send(register=pb.Register(name=name, **fields))
            self.registered = self.expect("registered")

    # --- what arrives ---------------------------------------------------------------------------------------------

    def _read(self):
        messages = iter(self.call)
        while True:
            self._reads.wait()
            try:
                message = next(messages)
            except (StopIteration, grpc.RpcError):
                break
            with self._changed:
                self._arrived.append(message)
                self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def stop_reading(self):
        """Takes no more messages: flow control fills, then the gateway's queue. One message may still be taken."""
        self._reads.clear()

    def read_on(self):
        """Ends `stop_reading`."""
        self._reads.set()

    def next(self, timeout=DEADLINE_S):
        """The next message in order of arrival."""
        return self._take(lambda message: True, "a message", timeout)

    def expect(self, kind, timeout=DEADLINE_S, **fields):
        """The first message of this kind, with these field values, out of all that have arrived or will."""

        def matches(message):
            if message.WhichOneof("body") != kind:
                return False
            body = getattr(message, kind)
            return all(getattr(body, name) == value for name, value in fields.items())

        return getattr(self._take(matches, f"{kind} {fields or ''}", timeout), kind)

    def expect_next(self, kind, **fields):
        """The very next message, which must be of this kind with these field values."""
        message = self.next()
        found = message.WhichOneof("body")
        assert found == kind, f"{self.name} got {found} and not {kind}: {message}"
        body = getattr(message, kind)
        for name, value in fields.items():
            assert getattr(body, name) == value, f"{self.name}: {kind}.{name} is not {value!r}: {body}"
        return body

    def expect_error(self, id, code):
        """The Error on `id`; it must say something."""
        error = self.expect("error", id=id)
        assert error.code == code, f"{pb.Code.Name(code)} expected: {pb.Code.Name(error.code)}: {error.message}"
        assert len(error.message) > 10, f"an error must say what to do: {error}"
        return error

    def _take(self, matches, what, timeout):
        end = time.monotonic() + timeout
        seen = 0
        with self._changed:
            while True:
                for index in range(seen, len(self._arrived)):
                    if matches(self._arrived[index]):
                        message = self._arrived[index]
                        del self._arrived[index]
                        return message
                seen = len(self._arrived)
                if self._over:
                    status = f"{self.call.code()}: {self.call.details()}"
                    raise Ended(
                        f"{self.name}: the stream ended ({status}) before {what}; unread: {list(self._arrived)[:5]}"
                    )
                left = end - time.monotonic()
                if left <= 0:
                    raise AssertionError(
                        f"{self.name}: no {what} within {timeout} s; unread: {list(self._arrived)[:5]}"
                    )
                self._changed.wait(left)

    def unread(self):
        """What has arrived and was not taken."""
        with self._changed:
            return list(self._arrived)

    def wait_for_end(self, timeout=DEADLINE_S):
        """(status code, message) of the stream, once it has ended."""
        self.read_on()
        with self._changed:
            ended = self._changed.wait_for(lambda: self._over, timeout)
        assert ended, f"{self.name}: the stream did not end within {timeout} s"
        return self.call.code(), self.call.details()

    # --- what is said ---------------------------------------------------------------------------------------------

    def send(self, **body):
        """One AgentMessage, given by its body: `send(status=pb.Status(weight=1))`."""
        self._outgoing.put(pb.AgentMessage(**body))

    def subscribe(self, pattern, *, group="", **delivery):
        """Subscribes, waits for the Ack, and returns the subscription's id."""
        id = next(self._ids)
        self.send(subscribe=pb.Subscribe(id=id, pattern=pattern, group=group, delivery=pb.Delivery(**delivery)))
        self.expect_ack(id)
        return id

    def expect_ack(self, id):
        """The Ack of `id`; an Error on it fails at once, by its message."""
        message = self._take(
            lambda m: (
                (m.WhichOneof("body") == "ack" and m.ack.id == id)
                or (m.WhichOneof("body") == "error" and m.error.id in (0, id))
            ),
            f"ack {id}",
            DEADLINE_S,
        )
        assert message.WhichOneof("body") == "ack", f"{self.name}: {message.error}"
        return message.ack

    def publish(self, topic, payload=b"", **headers):
        """Publishes without asking for an Ack."""
        self.send(publish=pb.Publish(topic=topic, payload=payload, headers=headers))

    def publish_acked(self, topic, payload=b""):
        """Publishes, waits for the Ack, and returns how many receivers it was queued for."""
        id = next(self._ids)
        self.send(publish=pb.Publish(topic=topic, payload=payload, id=id))
        return self.expect_ack(id).receivers

    def round_trip(self):
        """Returns when the gateway has done everything this agent said so far."""
        self.publish_acked("round/trip")

    def request(self, payload=b"", *, timeout_ms=0, balance=0, affinity="", headers=None, **to):
        """Sends a Request (`agent=`, `service=`, `capability=` or `channel=`) and returns its id."""
        id = next(self._ids)
        target = pb.Target(balance=balance, affinity=affinity, **to)
        self.send(request=pb.Request(id=id, target=target, payload=payload, timeout_ms=timeout_ms, headers=headers))
        return id

    def respond(self, forward, payload=b"", code=0, message=""):
        """Answers a Forward."""
        self.send(response=pb.Response(request=forward.request, payload=payload, code=code, message=message))

    # --- the end --------------------------------------------------------------------------------------------------

    def half_close(self):
        """Says nothing more: an orderly end."""
        self._outgoing.put(None)

    def close(self):
        """An orderly end, awaited; a stream that does not end by itself is cancelled."""
        self.half_close()
        try:
            self.wait_for_end()
        finally:
            self.call.cancel()
            self._reads.set()
            if self._channel is not None:
                self._channel.close()
