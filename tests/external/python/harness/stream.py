"""One gRPC stream on a connection of its own, driven by hand: what a client of the earlier dialects has, and what no binding would say."""

from harness.http2 import INITIAL_WINDOW_SIZE, Connection

WINDOW = 2 * 1024 * 1024  # of the bindings


class Stream:
    """The stream of the method `path`. The gateway must answer with headers before anything is said."""

    def __init__(self, address, path, *, window=WINDOW, metadata=None, **connection):
        self.http2 = Connection(address, **connection)
        self.http2.handshake({INITIAL_WINDOW_SIZE: window})
        self.stream = self.http2.post(path, metadata)
        self.headers = self.http2.wait_for_headers(self.stream)
        self.response = self.http2.responses[self.stream]

    def send(self, message):
        """A message as it is."""
        self.http2.data(self.stream, b"\0" + len(message).to_bytes(4, "big") + message)

    def next_message(self):
        """The next message."""
        body = self.response.body

        def is_whole():
            return len(body) >= 5 and len(body) >= 5 + int.from_bytes(body[1:5], "big")

        self.http2.read_until(lambda: is_whole() or self.response.is_over, "a message")
        assert is_whole(), f"the stream ended before a message: {self.response.trailers}"
        length = 5 + int.from_bytes(body[1:5], "big")
        message = bytes(body[5:length])
        del body[:length]
        return message

    def heard(self):
        """Waits until the gateway has dealt with all that was said; what it has answered by then is read."""
        self.http2.ping_pong()

    def ended(self):
        """(status, message) of the stream, once it has ended."""
        trailers = self.http2.wait_for_response(self.stream).trailers
        return int(trailers["grpc-status"]), trailers.get("grpc-message", "")

    def close(self):
        """Breaks the connection."""
        self.http2.close()
