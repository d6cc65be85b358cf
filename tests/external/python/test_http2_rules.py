"""RFC 9113 and RFC 7541, rule by rule: what breaks one is answered with the right code, and by that connection alone.

Every case runs on a connection of its own beside an agent that must not notice.
"""

import struct

import pytest

from harness.http2 import *  # noqa: F403 - the vocabulary of frames
from harness.protocol import HEALTH_PATH, OPEN_PATH, grpc_frame, grpc_messages
from harness.scene import Scene

CALL = request_headers(HEALTH_PATH)
OPEN = request_headers(OPEN_PATH)


@pytest.fixture
def watched(one_core):
    """The gateway, beside an agent that is served before and after."""
    scene = Scene(one_core)
    bystander = scene.agent("bystander")
    bystander.subscribe(scene.topic("pulse"))
    yield one_core
    bystander.publish(scene.topic("pulse"), b"alive")
    assert bystander.expect_next("notify").payload == b"alive"
    scene.close()
    one_core.wait_for_stats(connections=0)


@pytest.fixture
def connection(watched):
    """A connection past its handshake."""
    connection = Connection(watched.address)
    connection.handshake()
    yield connection
    connection.close()


def block(connection, fields):
    """A header block."""
    return connection.encoder.encode(fields)


def open_stream(connection):
    """An open stream whose response headers have come."""
    stream = connection.post(OPEN_PATH)
    connection.wait_for_headers(stream)
    return stream


def half_closed_stream(connection):
    """A stream on which nothing more may be sent."""
    return connection.headers(CALL, end_stream=True)


def reset_stream(connection):
    """A stream that was reset by this side."""
    stream = open_stream(connection)
    connection.frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))
    connection.ping_pong()
    return stream


def check_health(connection):
    """One honest call on this connection."""
    stream = connection.post(HEALTH_PATH)
    connection.data(stream, grpc_frame(b""), end_stream=True)
    response = connection.wait_for_response(stream)
    assert response.trailers["grpc-status"] == "0"
    assert grpc_messages(response.body) == [b"\x08\x01"]


# --- 3.4: the preface -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),  # a TLS ClientHello
        bytes(64),
    ],
    ids=["http1", "wrong-end", "tls", "zeros"],
)
def test_broken_preface_closes(watched, garbage):
    connection = Connection(watched.address)
    connection.send(garbage)
    connection.wait_for_close()
    assert connection.goaway is None or connection.goaway[1] == PROTOCOL_ERROR


@pytest.mark.parametrize(
    "first", [frame(PING, payload=bytes(8)), frame(HEADERS, 5, 1, b"\x82")], ids=["ping", "headers"]
)
def test_first_frame_is_settings(watched, first):
    connection = Connection(watched.address)
    connection.send(PREFACE + first)
    assert connection.wait_for_goaway() == PROTOCOL_ERROR


def test_preface_in_single_bytes_is_taken(watched):
    connection = Connection(watched.address)
    for byte in PREFACE + frame(SETTINGS):
        connection.send(bytes([byte]))
    check_health(connection.handshake_done())


# --- connection errors ----------------------------------------------------------------------------------------------

WINDOW_TOO_LARGE = struct.pack(">I", WINDOW_MAX)

CONNECTION_ERRORS = {
    # 4.2, 6.x: sizes
    "frame-larger-than-announced": (lambda c: c.send(b"\xff\xff\xff\0\0\0\0\0\x01"), FRAME_SIZE_ERROR),
    "settings-of-5-bytes": (lambda c: c.frame(SETTINGS, 0, 0, bytes(5)), FRAME_SIZE_ERROR),
    "settings-ack-with-payload": (lambda c: c.frame(SETTINGS, ACK, 0, bytes(6)), FRAME_SIZE_ERROR),
    "ping-of-7-bytes": (lambda c: c.frame(PING, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    "window-update-of-3-bytes": (lambda c: c.frame(WINDOW_UPDATE, 0, 0, bytes(3)), FRAME_SIZE_ERROR),
    "rst-stream-of-3-bytes": (lambda c: c.frame(RST_STREAM, 0, open_stream(c), bytes(3)), FRAME_SIZE_ERROR),
    "goaway-of-7-bytes": (lambda c: c.frame(GOAWAY, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    # 6.x: frames on the wrong kind of stream
    "data-on-stream-0": (lambda c: c.frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
    "headers-on-stream-0": (lambda c: c.frame(HEADERS, END_HEADERS, 0, block(c, CALL)), PROTOCOL_ERROR),
    "priority-on-stream-0": (lambda c: c.frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL_ERROR),
    "rst-stream-on-stream-0": (lambda c: c.frame(RST_STREAM, 0, 0, bytes(4)), PROTOCOL_ERROR),
    "continuation-on-stream-0": (lambda c: c.frame(CONTINUATION, END_HEADERS, 0, b""), PROTOCOL_ERROR),
    "settings-on-a-stream": (lambda c: c.frame(SETTINGS, 0, 1), PROTOCOL_ERROR),
    "ping-on-a-stream": (lambda c: c.frame(PING, 0, 1, bytes(8)), PROTOCOL_ERROR),
    "goaway-on-a-stream": (lambda c: c.frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL_ERROR),
    "push-promise-from-a-client": (lambda c: c.frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4)), PROTOCOL_ERROR),
    # 5.1: states
    "data-on-an-idle-stream": (lambda c: c.frame(DATA, 0, 1, b"x"), PROTOCOL_ERROR),
    "rst-stream-on-an-idle-stream": (lambda c: c.frame(RST_STREAM, 0, 1, bytes(4)), PROTOCOL_ERROR),
    "window-update-on-an-idle-stream": (lambda c: c.frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"), PROTOCOL_ERROR),
    "even-stream": (lambda c: c.headers(CALL, stream=2), PROTOCOL_ERROR),
    "lower-stream-than-before": (lambda c: (c.headers(OPEN, stream=5), c.headers(OPEN, stream=3)), PROTOCOL_ERROR),
    # 6.5: values
    "enable-push-2": (lambda c: c.frame(SETTINGS, 0, 0, settings_payload({ENABLE_PUSH: 2})), PROTOCOL_ERROR),
    "frame-size-below": (lambda c: c.frame(SETTINGS, 0, 0, settings_payload({MAX_FRAME_SIZE: 16_383})), PROTOCOL_ERROR),
    "frame-size-above": (
        lambda c: c.frame(SETTINGS, 0, 0, settings_payload({MAX_FRAME_SIZE: 1 << 24})),
        PROTOCOL_ERROR,
    ),
    "window-above": (
        lambda c: c.frame(SETTINGS, 0, 0, settings_payload({INITIAL_WINDOW_SIZE: 1 << 31})),
        FLOW_CONTROL_ERROR,
    ),
    # 6.9: flow control
    "zero-window-update": (lambda c: c.frame(WINDOW_UPDATE, 0, 0, bytes(4)), PROTOCOL_ERROR),
    "window-overflow": (lambda c: c.frame(WINDOW_UPDATE, 0, 0, WINDOW_TOO_LARGE), FLOW_CONTROL_ERROR),
    # 6.1, 6.2: padding
    "data-padding-as-long-as-the-frame": (lambda c: c.frame(DATA, PADDED, open_stream(c), b"\x01"), PROTOCOL_ERROR),
    "headers-padding-as-long-as-the-frame": (
        lambda c: c.frame(HEADERS, PADDED | END_HEADERS, 1, b"\x05" + bytes(4)),
        PROTOCOL_ERROR,
    ),
    # 6.10: header blocks are not interrupted
    "ping-inside-a-header-block": (
        lambda c: (c.frame(HEADERS, 0, 1, block(c, CALL)), c.frame(PING, 0, 0, bytes(8))),
        PROTOCOL_ERROR,
    ),
    "unknown-frame-inside-a-header-block": (
        lambda c: (c.frame(HEADERS, 0, 1, block(c, CALL)), c.frame(0x16, 0, 0, b"x")),
        PROTOCOL_ERROR,
    ),
    "continuation-of-another-stream": (
        lambda c: (c.frame(HEADERS, 0, 1, block(c, CALL)), c.frame(CONTINUATION, END_HEADERS, 3, b"")),
        PROTOCOL_ERROR,
    ),
    "continuation-without-headers": (
        lambda c: (c.headers(OPEN), c.frame(CONTINUATION, END_HEADERS, 1, b"")),
        PROTOCOL_ERROR,
    ),
    # RFC 7541
    "hpack-index-0": (lambda c: c.frame(HEADERS, 5, 1, b"\x80"), COMPRESSION_ERROR),
    "hpack-index-beyond-the-tables": (lambda c: c.frame(HEADERS, 5, 1, b"\xff\x7f"), COMPRESSION_ERROR),
    "hpack-integer-overflow": (lambda c: c.frame(HEADERS, 5, 1, b"\xff" * 12 + b"\x7f"), COMPRESSION_ERROR),
    "hpack-string-cut": (lambda c: c.frame(HEADERS, 5, 1, b"\x00\x0aab"), COMPRESSION_ERROR),
    "hpack-huffman-eos": (lambda c: c.frame(HEADERS, 5, 1, b"\x00\x01a\x84\xff\xff\xff\xff"), COMPRESSION_ERROR),
    "hpack-huffman-padding-of-zeros": (lambda c: c.frame(HEADERS, 5, 1, b"\x00\x01a\x81\x18"), COMPRESSION_ERROR),
    "hpack-table-larger-than-allowed": (lambda c: c.frame(HEADERS, 5, 1, b"\x3f\xff\xff\x03"), COMPRESSION_ERROR),
    "hpack-table-size-in-the-middle": (
        lambda c: c.frame(HEADERS, 5, 1, block(c, CALL) + b"\x20"),
        COMPRESSION_ERROR,
    ),
}


@pytest.mark.parametrize(("say", "code"), CONNECTION_ERRORS.values(), ids=CONNECTION_ERRORS)
def test_connection_error(connection, say, code):
    say(connection)
    assert connection.wait_for_goaway() == code


# --- stream errors: RST_STREAM, or GOAWAY with the same code (5.4.2 allows it) --------------------------------------

STREAM_ERRORS = {
    # 5.1: states
    "data-on-half-closed": (half_closed_stream, lambda c, s: c.frame(DATA, 0, s, b"x"), {STREAM_CLOSED}),
    "headers-on-half-closed": (
        half_closed_stream,
        lambda c, s: c.headers(CALL, end_stream=True, stream=s),
        {STREAM_CLOSED},
    ),
    # 6.x
    "zero-window-update": (open_stream, lambda c, s: c.frame(WINDOW_UPDATE, 0, s, bytes(4)), {PROTOCOL_ERROR}),
    "window-overflow": (
        open_stream,
        lambda c, s: c.frame(WINDOW_UPDATE, 0, s, WINDOW_TOO_LARGE),
        {FLOW_CONTROL_ERROR},
    ),
    "priority-of-4-bytes": (open_stream, lambda c, s: c.frame(PRIORITY, 0, s, bytes(4)), {FRAME_SIZE_ERROR}),
    "second-headers-without-end": (open_stream, lambda c, s: c.headers([("a", "b")], stream=s), {PROTOCOL_ERROR}),
    "pseudo-header-in-trailers": (
        open_stream,
        lambda c, s: c.headers([(":path", "/")], stream=s, end_stream=True),
        {PROTOCOL_ERROR},
    ),
}


def code_of(connection, stream):
    """The code of the stream error, or of the connection error in its place."""
    try:
        return connection.wait_for_reset(stream)
    except (Closed, GoneAway):
        return connection.goaway[1]


@pytest.mark.parametrize(("state", "say", "codes"), STREAM_ERRORS.values(), ids=STREAM_ERRORS)
def test_stream_error(connection, state, say, codes):
    stream = state(connection)
    say(connection, stream)
    if state is half_closed_stream:  # the answer to the call may have come first, then the connection is at fault
        connection.frame(PING, 0, 0, b"barrier!")
    assert code_of(connection, stream) in codes


def without(name):
    """A call's fields without one."""
    return [field for field in CALL if field[0] != name]


def replaced(name, value):
    """A call's fields with another value for one."""
    return [(key, value if key == name else old) for key, old in CALL]


MALFORMED = {
    "no-method": without(":method"),
    "no-scheme": without(":scheme"),
    "no-path": without(":path"),
    "empty-path": replaced(":path", ""),
    "two-methods": [*CALL[:1], *CALL],
    "two-paths": [CALL[2], *CALL],
    "unknown-pseudo-header": [(":beyond", "x"), *CALL],
    "response-pseudo-header": [(":status", "200"), *CALL],
    "pseudo-header-after-others": [*CALL[1:], CALL[0]],
    "upper-case-name": [*CALL, ("X-Upper", "x")],
    "connection": [*CALL, ("connection", "keep-alive")],
    "transfer-encoding": [*CALL, ("transfer-encoding", "chunked")],
    "keep-alive": [*CALL, ("keep-alive", "1")],
    "upgrade": [*CALL, ("upgrade", "h2c")],
    "te-gzip": replaced("te", "gzip"),
    "newline-in-value": [*CALL, ("x", "a\r\nb")],
    "nul-in-value": [*CALL, ("x", "a\0b")],
    "empty-name": [*CALL, ("", "x")],
    "space-in-name": [*CALL, ("x y", "x")],
    "content-length-words": [*CALL, ("content-length", "many")],
    "two-content-lengths": [*CALL, ("content-length", "1"), ("content-length", "2")],
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED)
def test_malformed_request_is_a_stream_error(connection, fields):
    stream = connection.headers(fields)
    assert code_of(connection, stream) == PROTOCOL_ERROR
    if connection.goaway is None:
        check_health(connection)


@pytest.mark.parametrize(("announced", "sent"), [(10, 5), (5, 10), (0, 5)])
def test_content_length_must_be_true(connection, announced, sent):
    stream = connection.post(HEALTH_PATH, {"content-length": str(announced)})
    connection.data(stream, bytes(sent), end_stream=True)
    assert code_of(connection, stream) == PROTOCOL_ERROR


def test_self_dependency_is_a_protocol_error_or_ignored(connection):
    connection.frame(PRIORITY, 0, 1, struct.pack(">IB", 1, 15))
    try:
        check_health(connection)
    except (AssertionError, Closed, GoneAway):
        code = connection.responses[1].reset if connection.goaway is None else connection.goaway[1]
        assert code == PROTOCOL_ERROR


def test_data_beyond_the_stream_window_is_a_flow_control_error(connection):
    stream = open_stream(connection)
    window = connection.settings.get(INITIAL_WINDOW_SIZE, DEFAULT_WINDOW)
    # One message that never ends, so that the gateway has no message to take out and no credit to give back.
    connection.send(frame(DATA, 0, stream, b"\0\0\x30\0\0"))
    for _ in range(0, 8 * window + 5_000_000, 16_384):
        connection.send(frame(DATA, 0, stream, bytes(16_384)))
        if connection.poll() or connection.responses[stream].is_over:
            break
    assert connection.responses[stream].is_over or connection.goaway[1] == FLOW_CONTROL_ERROR


# --- what must be tolerated -----------------------------------------------------------------------------------------


def padded_call(connection):
    """A whole call in padded frames."""
    fields = block(connection, CALL)
    stream = connection.next_stream
    connection.next_stream += 2
    connection.frame(HEADERS, END_HEADERS | PADDED, stream, b"\x07" + fields + bytes(7))
    connection.frame(DATA, END_STREAM | PADDED, stream, b"\xff" + grpc_frame(b"") + bytes(255))
    assert connection.wait_for_response(stream).trailers["grpc-status"] == "0"


def call_with_priority(connection):
    """HEADERS with the PRIORITY flag."""
    payload = struct.pack(">IB", 0, 200) + block(connection, CALL)
    connection.next_stream += 2
    connection.frame(HEADERS, END_HEADERS | PRIORITY_FLAG, 1, payload)
    connection.data(1, grpc_frame(b""), end_stream=True)
    assert connection.wait_for_response(1).trailers["grpc-status"] == "0"


def call_in_small_fragments(connection):
    """A header block over a HEADERS and several CONTINUATION frames, one of them empty."""
    fields = block(connection, CALL)
    connection.next_stream += 2
    connection.frame(HEADERS, 0, 1, fields[:1])
    connection.frame(CONTINUATION, 0, 1)
    for first in range(1, len(fields), 10):
        connection.frame(CONTINUATION, 0, 1, fields[first : first + 10])
    connection.frame(CONTINUATION, END_HEADERS, 1)
    connection.data(1, grpc_frame(b""), end_stream=True)
    assert connection.wait_for_response(1).trailers["grpc-status"] == "0"


def call_with_trailers(connection):
    """A request that ends in trailers."""
    stream = connection.post(HEALTH_PATH)
    connection.data(stream, grpc_frame(b""))
    connection.headers([("x-end", "1")], stream=stream, end_stream=True)
    assert connection.wait_for_response(stream).trailers["grpc-status"] == "0"


def call_with_content_length(connection):
    """A true content-length."""
    stream = connection.post(HEALTH_PATH, {"content-length": "5"})
    connection.data(stream, grpc_frame(b""), end_stream=True)
    assert connection.wait_for_response(stream).trailers["grpc-status"] == "0"


def window_update_on_closed(connection):
    """WINDOW_UPDATE and RST_STREAM that crossed the end of the stream."""
    check_health(connection)
    connection.frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1")
    connection.frame(RST_STREAM, 0, 1, struct.pack(">I", CANCEL))


def smaller_table(connection):
    """The client shrinks the header table of the gateway's encoder."""
    connection.frame(SETTINGS, 0, 0, settings_payload({HEADER_TABLE_SIZE: 0}))
    connection.decoder.max_allowed_table_size = 0


TOLERATED = {
    "unknown-frame": lambda c: c.frame(0x42, 0xFF, 0, b"whatever"),
    "unknown-frame-on-a-stream": lambda c: c.frame(0x42, 0xFF, 1, b"whatever"),
    "unknown-setting": lambda c: c.frame(SETTINGS, 0, 0, settings_payload({0x99: 7})),
    "undefined-flags": lambda c: c.frame(PING, 0xFE, 0, bytes(8)),
    "reserved-bit": lambda c: c.frame(PING, 0, 1 << 31, bytes(8)),
    "priority-on-an-idle-stream": lambda c: c.frame(PRIORITY, 0, 9, struct.pack(">IB", 0, 1)),
    "empty-settings": lambda c: c.frame(SETTINGS),
    "smaller-table": smaller_table,
    "padded-call": padded_call,
    "call-with-priority": call_with_priority,
    "call-in-small-fragments": call_in_small_fragments,
    "call-with-trailers": call_with_trailers,
    "call-with-content-length": call_with_content_length,
    "window-update-on-a-closed-stream": window_update_on_closed,
}


@pytest.mark.parametrize("say", TOLERATED.values(), ids=TOLERATED)
def test_tolerated(connection, say):
    say(connection)
    connection.ping_pong()
    check_health(connection)


def test_streams_under_way_are_served_after_the_clients_goaway(connection):
    stream = connection.post(HEALTH_PATH)
    connection.frame(GOAWAY, 0, 0, bytes(8))
    connection.data(stream, grpc_frame(b""), end_stream=True)
    assert connection.wait_for_response(stream).trailers["grpc-status"] == "0"


def test_frames_after_our_reset_are_ignored(connection):
    """DATA that was under way when the client reset its stream (5.4.2)."""
    stream = reset_stream(connection)
    connection.frame(WINDOW_UPDATE, 0, stream, b"\0\0\0\1")
    check_health(connection)


def test_settings_announce_the_number_of_streams(connection):
    assert connection.settings[MAX_CONCURRENT_STREAMS] >= 1000


@pytest.mark.parametrize("window", [0, 1, 7])
def test_the_client_window_is_kept(watched, window):
    """A response through a window of few bytes: DATA comes as credit is given, never beyond."""
    connection = Connection(watched.address, credit=False)
    connection.handshake({INITIAL_WINDOW_SIZE: window})
    stream = connection.post(HEALTH_PATH)
    connection.data(stream, grpc_frame(b""), end_stream=True)
    connection.wait_for_headers(stream)
    response = connection.responses[stream]
    for granted in range(window, 7):
        connection.read_until(lambda: len(response.body) >= granted, "what the window allows")
        connection.ping_pong()
        assert len(response.body) == granted
        connection.grant(1, stream)
    assert grpc_messages(connection.wait_for_response(stream).body) == [b"\x08\x01"]


def test_window_made_negative_by_settings(watched):
    """6.9.2: a window that a SETTINGS change has made negative is paid back first."""
    connection = Connection(watched.address, credit=False)
    connection.handshake({INITIAL_WINDOW_SIZE: 5})
    stream = connection.post(HEALTH_PATH)
    connection.data(stream, grpc_frame(b""), end_stream=True)
    response = connection.responses[stream]
    connection.read_until(lambda: len(response.body) == 5, "five bytes")
    connection.frame(SETTINGS, 0, 0, settings_payload({INITIAL_WINDOW_SIZE: 0}))
    connection.grant(5, stream)  # back to nothing
    connection.ping_pong()
    assert len(response.body) == 5
    connection.grant(2, stream)
    assert grpc_messages(connection.wait_for_response(stream).body) == [b"\x08\x01"]
