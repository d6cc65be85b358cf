"""Floods: bounded work and memory, then GOAWAY ENHANCE_YOUR_CALM; nobody else notices. And silence: closed in time."""

import socket
import struct
import time

import pytest

from harness import wait
from harness.http2 import *  # noqa: F403 - the vocabulary of frames
from harness.protocol import HEALTH_PATH, OPEN_PATH, grpc_frame
from harness.scene import Scene
from harness.settings import patience_ms

FRAMES_MAX = 400_000  # by then every flood must have been ended
BATCH = 200
RSS_BOUND = 24 << 20


@pytest.fixture
def watched(one_core):
    """The gateway, beside an agent that is served before and after, with memory within its bound."""
    scene = Scene(one_core)
    bystander = scene.agent("bystander")
    bystander.subscribe(scene.topic("pulse"))
    rss = one_core.rss_bytes()
    yield one_core
    assert one_core.rss_bytes() - rss < RSS_BOUND
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


def flood(connection, make_frame, frames_max=FRAMES_MAX):
    """Sends frames until the gateway has had enough; returns its code."""
    for first in range(0, frames_max, BATCH):
        connection.send(b"".join(make_frame(number) for number in range(first, first + BATCH)))
        if connection.poll():
            break
    else:
        pytest.fail(f"{frames_max} frames were taken without GOAWAY")
    connection.wait_for_close()
    assert connection.goaway is not None, "closed without GOAWAY"
    return connection.goaway[1]


def open_stream(connection):
    """An open stream."""
    stream = connection.post(OPEN_PATH)
    connection.wait_for_headers(stream)
    return stream


def static_call(connection):
    """A header block of a call that needs no dynamic table, so that it can be sent again and again."""
    fields = [(name, value, True) for name, value in request_headers(OPEN_PATH)]  # never indexed
    return connection.encoder.encode(fields)


def test_rapid_reset(connection):
    block = static_call(connection)
    reset = struct.pack(">I", CANCEL)

    def open_and_reset(number):
        stream = 2 * number + 1
        return frame(HEADERS, END_HEADERS, stream, block) + frame(RST_STREAM, 0, stream, reset)

    assert flood(connection, open_and_reset) == ENHANCE_YOUR_CALM


def test_made_you_reset(connection):
    """The client commits a stream error, so that it is the gateway that resets (CVE-2025-8671)."""
    block = static_call(connection)

    def open_and_offend(number):
        stream = 2 * number + 1
        return frame(HEADERS, END_HEADERS, stream, block) + frame(WINDOW_UPDATE, 0, stream, bytes(4))

    assert flood(connection, open_and_offend) == ENHANCE_YOUR_CALM


@pytest.mark.parametrize("fragment", [b"", b"\x00\x01a\x01b"], ids=["empty", "fields"])
def test_continuation_flood(connection, fragment):
    connection.frame(HEADERS, 0, 1, static_call(connection))
    assert flood(connection, lambda number: frame(CONTINUATION, 0, 1, fragment)) == ENHANCE_YOUR_CALM


def test_settings_flood(connection):
    assert flood(connection, lambda number: frame(SETTINGS)) == ENHANCE_YOUR_CALM


def test_ping_flood(connection):
    assert flood(connection, lambda number: frame(PING, 0, 0, bytes(8))) == ENHANCE_YOUR_CALM


def test_empty_data_flood(connection):
    stream = open_stream(connection)
    assert flood(connection, lambda number: frame(DATA, 0, stream)) == ENHANCE_YOUR_CALM


def test_padding_only_data_flood(connection):
    stream = open_stream(connection)
    assert flood(connection, lambda number: frame(DATA, PADDED, stream, b"\0")) == ENHANCE_YOUR_CALM


def test_tiny_data_flood(connection):
    """One byte for each frame, of a message that never comes to its end."""
    stream = open_stream(connection)
    connection.data(stream, b"\0\0\x3f\0\0")
    assert flood(connection, lambda number: frame(DATA, 0, stream, b"x")) == ENHANCE_YOUR_CALM


@pytest.mark.parametrize("on_stream", [False, True], ids=["connection", "stream"])
def test_window_update_flood(connection, on_stream):
    stream = open_stream(connection) if on_stream else 0
    assert flood(connection, lambda number: frame(WINDOW_UPDATE, 0, stream, b"\0\0\0\1")) == ENHANCE_YOUR_CALM


def test_priority_flood(connection):
    payload = struct.pack(">IB", 0, 1)
    assert flood(connection, lambda number: frame(PRIORITY, 0, 2 * number + 1, payload)) == ENHANCE_YOUR_CALM


def test_unknown_frame_flood(connection):
    assert flood(connection, lambda number: frame(0x42, 0, 0, b"x")) == ENHANCE_YOUR_CALM


def test_hpack_bomb(connection):
    """A large field in the dynamic table, then block after block of references to it."""
    value = b"v" * 3900
    insert = b"\x40\x01b\x7f" + bytes([0x80 | (len(value) - 127) & 0x7F, (len(value) - 127) >> 7]) + value
    connection.frame(HEADERS, END_HEADERS | END_STREAM, 1, static_call(connection) + insert)
    bomb = static_call(connection) + b"\xbe" * 12_000  # 47 MB when unfolded
    assert flood(connection, lambda n: frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 3, bomb), 20_000) in (
        ENHANCE_YOUR_CALM,
        COMPRESSION_ERROR,
    )


def test_header_block_without_end_is_bounded(connection):
    """Field after field of 16 KiB frames: far more than any header list may hold."""
    connection.frame(HEADERS, 0, 1, static_call(connection))
    fragment = b"\x00\x04name\x7e" + b"v" * 126
    fragment *= 16_000 // len(fragment)
    code = flood(connection, lambda number: frame(CONTINUATION, 0, 1, fragment), 10_000)
    assert code in (ENHANCE_YOUR_CALM, COMPRESSION_ERROR)


@pytest.mark.parametrize("make_answer", ["ping", "settings", "calls"])
def test_a_client_that_makes_work_and_does_not_read(watched, make_answer):
    """What the gateway would answer piles up; it must end the connection or stop reading, with bounded memory. It may go on
    reading for a moment behind its GOAWAY, so that the GOAWAY is not lost to a reset; so this asks for time, not for frames."""
    connection = Connection(watched.address, receive_buffer=4096)
    connection.handshake()
    connection.socket.settimeout(1)
    block = static_call(connection)
    rss = watched.rss_bytes()
    end = time.monotonic() + wait.DEADLINE_S
    number = 0
    while time.monotonic() < end:
        number += 1
        batch = {
            "ping": lambda: frame(PING, 0, 0, bytes(8)) * 100,
            "settings": lambda: frame(SETTINGS, 0, 0, settings_payload({INITIAL_WINDOW_SIZE: number})) * 100,
            "calls": lambda: b"".join(
                frame(HEADERS, END_HEADERS | END_STREAM, 2 * stream + 1, block)
                for stream in range(number * 100, number * 100 + 100)
            ),
        }[make_answer]()
        try:
            connection.socket.sendall(batch)
        except (TimeoutError, BrokenPipeError, ConnectionResetError):
            break
    else:
        pytest.fail(f"{number * 100} frames in {wait.DEADLINE_S} s were taken from a client that reads nothing")
    assert watched.rss_bytes() - rss < RSS_BOUND
    connection.close()


def test_a_reader_with_a_zero_window_costs_nothing(watched):
    """Health calls whose answers may never be sent: bounded by the number of streams."""
    connection = Connection(watched.address)
    connection.handshake({INITIAL_WINDOW_SIZE: 0})
    limit = connection.settings[MAX_CONCURRENT_STREAMS]
    for _ in range(limit):
        stream = connection.post(HEALTH_PATH)
        connection.send(frame(DATA, END_STREAM, stream, grpc_frame(b"")))
    refused = connection.post(HEALTH_PATH)
    assert connection.wait_for_reset(refused) == REFUSED_STREAM
    connection.ping_pong()
    connection.close()


# --- silence --------------------------------------------------------------------------------------------------------

SILENCES = {
    "no-byte": b"",
    "half-a-preface": PREFACE[:10],
    "preface-without-settings": PREFACE,
    "half-a-frame-header": PREFACE + frame(SETTINGS)[:5],
    "half-a-settings-frame": PREFACE + frame(SETTINGS, payload=bytes(6))[:12],
    "header-block-without-end": PREFACE + frame(SETTINGS) + frame(HEADERS, 0, 1, b"\x83"),
    "half-a-headers-frame": PREFACE + frame(SETTINGS) + frame(HEADERS, END_HEADERS, 1, b"\x83" * 9)[:12],
}


@pytest.fixture(scope="module")
def impatient():
    """A gateway that waits 300 ms for a handshake."""
    from harness.gateway import Gateway

    gateway = Gateway(settings=patience_ms(300))
    yield gateway
    gateway.kill()


@pytest.mark.parametrize("said", SILENCES.values(), ids=SILENCES)
def test_silence_is_closed_in_time_and_patience_is_not(impatient, said):
    honest = Connection(impatient.address)
    honest.handshake()
    idle_call = open_stream(honest)
    silent = Connection(impatient.address)
    silent.send(said)
    silent.wait_for_close()
    honest.ping_pong()  # older than the silent one, idle all the time, and still served
    assert not honest.responses[idle_call].is_over
    honest.close()
    impatient.wait_for_stats(connections=0)


def test_slow_typist_of_a_preface_is_closed(impatient):
    """A byte now and then does not buy time."""
    typist = Connection(impatient.address)

    def type_on():
        typist.send(PREFACE[:1])  # never the right continuation of the preface, but each byte is progress
        return typist.poll()

    wait.until(type_on, "the typist is closed")
    typist.close()


def test_thousand_silent_connections_do_not_keep_others_out(impatient):
    silent = [socket.create_connection(("127.0.0.1", impatient.port)) for _ in range(1000)]
    honest = Connection(impatient.address)
    honest.handshake()
    honest.ping_pong()
    for connection in silent:
        connection.close()
    honest.close()
    impatient.wait_for_stats(connections=0)
