"""A hand-driven HTTP/2 client: says exactly what a test wants, also what no library would; hears strictly.

Header blocks are coded by `hpack`. Everything else is written out here, so that each frame can be wrong on purpose.
"""

import collections
import contextlib
import dataclasses
import socket
import ssl
import struct
import time

import hpack

from harness.wait import DEADLINE_S

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY_FLAG = 0x20

NO_ERROR = 0x0
PROTOCOL_ERROR = 0x1
INTERNAL_ERROR = 0x2
FLOW_CONTROL_ERROR = 0x3
SETTINGS_TIMEOUT = 0x4
STREAM_CLOSED = 0x5
FRAME_SIZE_ERROR = 0x6
REFUSED_STREAM = 0x7
CANCEL = 0x8
COMPRESSION_ERROR = 0x9
ENHANCE_YOUR_CALM = 0xB

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)

DEFAULT_WINDOW = 65_535
WINDOW_MAX = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Frame:
    """One frame as read."""

    type: int
    flags: int
    stream: int
    payload: bytes


@dataclasses.dataclass
class Response:
    """What has come on one stream so far."""

    headers: dict = None
    body: bytearray = dataclasses.field(default_factory=bytearray)
    trailers: dict = None
    reset: int = None  # the code of RST_STREAM

    @property
    def is_over(self):
        """Nothing more will come."""
        return self.trailers is not None or self.reset is not None


class Closed(Exception):
    """The gateway closed the connection."""


class GoneAway(Exception):
    """The gateway sent GOAWAY with an error while something else was awaited."""


def frame(type, flags=0, stream=0, payload=b""):
    """The bytes of one frame."""
    return struct.pack(">I", len(payload))[1:] + bytes([type, flags]) + struct.pack(">I", stream) + payload


def settings_payload(values):
    """The payload of a SETTINGS frame."""
    return b"".join(struct.pack(">HI", identifier, value) for identifier, value in values.items())


def request_headers(path, extra=None):
    """The header fields of a gRPC call; `extra` replaces, or with None removes, by name."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    fields.update(extra or {})
    return [(name, value) for name, value in fields.items() if value is not None]


class Connection:
    """One TCP connection to the gateway."""

    def __init__(self, address, *, receive_buffer=None, credit=True, tls=None):
        host, port = address.rsplit(":", 1)
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(DEADLINE_S)
        self.socket.connect((host, int(port)))
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.settings = {}  # the gateway's
        self.responses = collections.defaultdict(Response)
        self.pongs = []
        self.goaway = None  # (last stream, code, debug data)
        self.next_stream = 1
        self._credit = credit  # give back credit for what is received
        self._received = bytearray()
        self._window = DEFAULT_WINDOW
        self._windows = collections.defaultdict(int)  # of streams, on top of the initial window
        self._headers = None  # (stream, flags, fragments) of an open header block

    # --- writing --------------------------------------------------------------------------------------------------

    def send(self, data):
        """Bytes as they are. That the gateway has closed already shows when reading."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def frame(self, type, flags=0, stream=0, payload=b""):
        """One frame."""
        self.send(frame(type, flags, stream, payload))

    def handshake(self, settings=None):
        """Preface and SETTINGS both ways."""
        self.send(PREFACE + frame(SETTINGS, payload=settings_payload(settings or {})))
        return self.handshake_done()

    def handshake_done(self):
        """Waits for the gateway's SETTINGS alone: the client's half was sent by hand."""
        self.read_until(lambda: self.settings, "the gateway's SETTINGS")
        return self

    def request(self, fields, *, end_stream=False, stream=None):
        """A HEADERS frame with the header fields of a request, changed by `fields`; returns the stream."""
        return self.headers(request_headers("/", fields), end_stream=end_stream, stream=stream)

    def post(self, path, extra=None, *, end_stream=False):
        """Begins a gRPC call on a new stream."""
        return self.headers(request_headers(path, extra), end_stream=end_stream)

    def headers(self, fields, *, end_stream=False, stream=None):
        """A HEADERS frame with exactly these fields."""
        if stream is None:
            stream = self.next_stream
            self.next_stream += 2
        flags = END_HEADERS | (END_STREAM if end_stream else 0)
        self.frame(HEADERS, flags, stream, self.encoder.encode(fields))
        return stream

    def data(self, stream, payload, *, end_stream=False):
        """DATA frames with `payload`, as flow control allows."""
        while True:
            room = min(len(payload), self.settings.get(MAX_FRAME_SIZE, 16_384))
            if payload:
                self.read_until(lambda: self.send_window(stream) > 0, "flow control credit")
                room = min(room, self.send_window(stream))
            part, payload = payload[:room], payload[room:]
            last = end_stream and not payload
            self._window -= len(part)
            self._windows[stream] -= len(part)
            self.frame(DATA, END_STREAM if last else 0, stream, part)
            if not payload:
                return

    def send_window(self, stream):
        """How many bytes of DATA may be sent on `stream`."""
        initial = self.settings.get(INITIAL_WINDOW_SIZE, DEFAULT_WINDOW)
        return min(self._window, initial + self._windows[stream])

    def close(self):
        """Closes the socket."""
        self.socket.close()

    # --- reading --------------------------------------------------------------------------------------------------

    def read_frame(self):
        """The next frame, after having done what it asks for. Raises Closed at the end of the connection."""
        while len(self._received) < 9:
            self._fill()
        length = int.from_bytes(self._received[:3], "big")
        assert length <= 16_384, f"a frame of {length} bytes, larger than this client allows"
        while len(self._received) < 9 + length:
            self._fill()
        type, flags = self._received[3], self._received[4]
        stream = int.from_bytes(self._received[5:9], "big")
        read = Frame(type, flags, stream, bytes(self._received[9 : 9 + length]))
        del self._received[: 9 + length]
        self._obey(read)
        return read

    def _fill(self):
        try:
            data = self.socket.recv(65_536)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Closed(f"GOAWAY before: {self.goaway}")
        self._received += data

    def _obey(self, read):
        if self._headers is not None:
            assert read.type == CONTINUATION and read.stream == self._headers[0], f"{read} inside a header block"
        obey = {
            DATA: self._on_data,
            HEADERS: self._on_headers,
            CONTINUATION: self._on_continuation,
            RST_STREAM: self._on_reset,
            SETTINGS: self._on_settings,
            PING: self._on_ping,
            GOAWAY: self._on_goaway,
            WINDOW_UPDATE: self._on_window_update,
        }
        assert read.type in obey, f"a server does not send {read}"
        obey[read.type](read)

    def _on_data(self, read):
        assert not read.flags & PADDED, "the gateway has no reason to pad"
        response = self.responses[read.stream]
        assert response.headers is not None and not response.is_over, f"DATA out of place on {read.stream}"
        response.body += read.payload
        if read.flags & END_STREAM:
            response.trailers = {}
        if self._credit and read.payload:
            self.grant(len(read.payload))
            if not response.is_over:
                self.grant(len(read.payload), read.stream)

    def grant(self, bytes, stream=0):
        """WINDOW_UPDATE."""
        self.frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", bytes))

    def _on_headers(self, read):
        assert not read.flags & (PADDED | PRIORITY_FLAG)
        self._headers = (read.stream, read.flags, bytearray(read.payload))
        self._end_headers(read.flags)

    def _on_continuation(self, read):
        assert self._headers is not None, "CONTINUATION outside a header block"
        self._headers[2].extend(read.payload)
        self._end_headers(read.flags)

    def _end_headers(self, flags):
        if not flags & END_HEADERS:
            return
        stream, first_flags, block = self._headers
        self._headers = None
        fields = {name: value for name, value in self.decoder.decode(bytes(block))}
        response = self.responses[stream]
        assert not response.is_over, f"HEADERS after the end of {stream}"
        if response.headers is None:
            response.headers = fields
            if first_flags & END_STREAM:  # trailers only
                response.trailers = fields
        else:
            assert first_flags & END_STREAM, "trailers end the stream"
            response.trailers = fields

    def _on_reset(self, read):
        self.responses[read.stream].reset = int.from_bytes(read.payload, "big")

    def _on_settings(self, read):
        if read.flags & ACK:
            return
        for offset in range(0, len(read.payload), 6):
            identifier, value = struct.unpack_from(">HI", read.payload, offset)
            self.settings[identifier] = value
        self.frame(SETTINGS, ACK)

    def _on_ping(self, read):
        if read.flags & ACK:
            self.pongs.append(read.payload)
        else:
            self.frame(PING, ACK, 0, read.payload)

    def _on_goaway(self, read):
        last, code = struct.unpack_from(">II", read.payload)
        self.goaway = (last, code, read.payload[8:])

    def _on_window_update(self, read):
        increment = int.from_bytes(read.payload, "big")
        assert increment > 0
        if read.stream:
            self._windows[read.stream] += increment
        else:
            self._window += increment
            assert self._window <= WINDOW_MAX

    # --- waiting --------------------------------------------------------------------------------------------------

    def read_until(self, condition, what):
        """Reads frames until `condition`; a GOAWAY with an error, the end or the bound fails naming `what`."""
        end = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < end, f"no {what} within {DEADLINE_S} s"
            try:
                self.read_frame()
            except TimeoutError:
                raise AssertionError(f"no {what} within {DEADLINE_S} s") from None
            if self.goaway is not None and self.goaway[1] != NO_ERROR and not condition():
                raise GoneAway(f"{self.goaway} while waiting for {what}")

    def wait_for_response(self, stream):
        """The whole response of `stream`."""
        self.read_until(lambda: self.responses[stream].is_over, f"end of stream {stream}")
        response = self.responses[stream]
        assert response.reset in (None, NO_ERROR), f"stream {stream} was reset with {response.reset}"
        return response

    def wait_for_headers(self, stream):
        """The response header fields of `stream`."""
        self.read_until(lambda: self.responses[stream].headers is not None, f"response headers of {stream}")
        return self.responses[stream].headers

    def wait_for_data(self, stream):
        """What arrives on `stream` up to the end of a gRPC message; taken out of the body."""
        body = self.responses[stream].body

        def is_whole():
            return len(body) >= 5 and len(body) >= 5 + int.from_bytes(body[1:5], "big")

        self.read_until(is_whole, f"a message on stream {stream}")
        length = 5 + int.from_bytes(body[1:5], "big")
        message = bytes(body[:length])
        del body[:length]
        return message

    def wait_for_reset(self, stream):
        """The code with which the gateway reset `stream`."""
        self.read_until(lambda: self.responses[stream].reset is not None, f"RST_STREAM of {stream}")
        return self.responses[stream].reset

    def wait_for_goaway(self):
        """The error code of the gateway's GOAWAY; the connection must end behind it."""
        try:
            while True:
                self.read_frame()
        except Closed:
            pass
        except TimeoutError:
            raise AssertionError(f"the connection stays open; GOAWAY: {self.goaway}") from None
        assert self.goaway is not None, "closed without GOAWAY"
        return self.goaway[1]

    def wait_for_close(self):
        """Reads to the end of the connection."""
        try:
            while True:
                self.read_frame()
        except Closed:
            pass
        except TimeoutError:
            raise AssertionError("the connection stays open") from None

    def poll(self):
        """Reads what is there without waiting; True once the gateway has said GOAWAY or closed."""
        self.socket.setblocking(False)
        try:
            while True:
                self.read_frame()
        except (BlockingIOError, ssl.SSLWantReadError):
            return self.goaway is not None
        except Closed:
            return True
        finally:
            self.socket.settimeout(DEADLINE_S)

    def ping_pong(self, payload=b"ringgate"):
        """A PING and its answer: the gateway has handled everything sent before."""
        count = len(self.pongs)
        self.frame(PING, 0, 0, payload)
        self.read_until(lambda: payload in self.pongs[count:], "PING answer")
