"""gRPC's interop tests (doc/interop-test-descriptions.md in grpc/grpc), by their names and with their numbers."""

import gzip
import queue

import grpc
import pytest

from harness.http2 import Connection
from harness.interop import InteropServer, Stub, message
from harness.protocol import grpc_frame

REQUEST_SIZES = (27_182, 8, 1_828, 45_904)
RESPONSE_SIZES = (31_415, 9, 2_653, 58_979)
ECHO_INITIAL = ("x-grpc-test-echo-initial", "test_initial_metadata_value")
ECHO_TRAILING = ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab")
DEADLINE_S = 10

BoolValue, EchoStatus, Empty, Payload = map(message, ("BoolValue", "EchoStatus", "Empty", "Payload"))
SimpleRequest, SimpleResponse = message("SimpleRequest"), message("SimpleResponse")
StreamingInputCallRequest = message("StreamingInputCallRequest")
StreamingOutputCallRequest = message("StreamingOutputCallRequest")


@pytest.fixture(scope="module")
def server():
    """The server of all these tests."""
    server = InteropServer()
    yield server
    is_alive = server.is_alive()
    server.kill()
    assert is_alive, f"the server ended with {server.process.returncode}:\n{server.output()}"


@pytest.fixture
def channel(server):
    """A connection of this test's own."""
    with server.connect() as channel:
        yield channel


@pytest.fixture
def stub(channel):
    """The test service."""
    return Stub(channel)


def payload(size):
    return Payload(body=bytes(size))


def simple_request(size=271_828, response_size=314_159, **fields):
    return SimpleRequest(payload=payload(size), response_size=response_size, **fields)


def output_request(*response_sizes, size=0, **fields):
    request = StreamingOutputCallRequest(payload=payload(size), **fields)
    for response_size in response_sizes:
        request.response_parameters.add(size=response_size)
    return request


def sizes(responses):
    return [len(response.payload.body) for response in responses]


class Requests:
    """The requests of a call that go out one by one."""

    def __init__(self):
        self._queue = queue.SimpleQueue()

    def send(self, request):
        self._queue.put(request)

    def end(self):
        self._queue.put(None)

    def __iter__(self):
        return iter(self._queue.get, None)


def test_empty_unary(stub):
    assert stub.EmptyCall(Empty(), timeout=DEADLINE_S) == Empty()


def test_large_unary(stub):
    response = stub.UnaryCall(simple_request(), timeout=DEADLINE_S)
    assert response == SimpleResponse(payload=payload(314_159))


def test_client_streaming(stub):
    requests = (StreamingInputCallRequest(payload=payload(size)) for size in REQUEST_SIZES)
    assert stub.StreamingInputCall(requests, timeout=DEADLINE_S).aggregated_payload_size == 74_922


def test_server_streaming(stub):
    responses = stub.StreamingOutputCall(output_request(*RESPONSE_SIZES), timeout=DEADLINE_S)
    assert sizes(responses) == list(RESPONSE_SIZES)


def test_ping_pong(stub):
    requests = Requests()
    responses = stub.FullDuplexCall(iter(requests), timeout=DEADLINE_S)
    for size, response_size in zip(REQUEST_SIZES, RESPONSE_SIZES, strict=True):
        requests.send(output_request(response_size, size=size))
        assert len(next(responses).payload.body) == response_size
    requests.end()
    assert list(responses) == []
    assert responses.code() == grpc.StatusCode.OK


def test_empty_stream(stub):
    responses = stub.FullDuplexCall(iter(()), timeout=DEADLINE_S)
    assert list(responses) == []
    assert responses.code() == grpc.StatusCode.OK


def test_half_duplex(stub):
    requests = (output_request(size) for size in RESPONSE_SIZES)
    assert sizes(stub.HalfDuplexCall(requests, timeout=DEADLINE_S)) == list(RESPONSE_SIZES)


def test_cacheable_unary(stub):
    response, call = stub.CacheableUnaryCall.with_call(simple_request(), timeout=DEADLINE_S)
    assert response == SimpleResponse(payload=payload(314_159))
    assert "max-age=60" in dict(call.initial_metadata())["cache-control"]


def test_timeout_on_sleeping_server(stub):
    requests = Requests()
    responses = stub.FullDuplexCall(iter(requests), timeout=0.001)
    requests.send(output_request(size=27_182))
    with pytest.raises(grpc.RpcError):
        next(responses)
    assert responses.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    requests.end()


def test_deadline_kept_by_the_server(server):
    """The server ends the call by itself: this client says a timeout in its request, and then waits."""
    connection = Connection(server.address)
    connection.handshake()
    stream = connection.post("/grpc.testing.TestService/FullDuplexCall", {"grpc-timeout": "50m"})
    response = connection.wait_for_response(stream)
    assert response.trailers["grpc-status"] == str(grpc.StatusCode.DEADLINE_EXCEEDED.value[0])
    connection.close()


def test_cancel_after_begin(stub):
    requests = Requests()
    call = stub.StreamingInputCall.future(iter(requests))
    assert call.cancel()
    assert call.code() == grpc.StatusCode.CANCELLED
    requests.end()


def test_cancel_after_first_response(stub):
    requests = Requests()
    responses = stub.FullDuplexCall(iter(requests), timeout=DEADLINE_S)
    requests.send(output_request(31_415, size=27_182))
    assert len(next(responses).payload.body) == 31_415
    responses.cancel()
    with pytest.raises(grpc.RpcError):
        next(responses)
    assert responses.code() == grpc.StatusCode.CANCELLED
    requests.end()


def test_custom_metadata_of_a_unary_call(stub):
    _, call = stub.UnaryCall.with_call(simple_request(), timeout=DEADLINE_S, metadata=(ECHO_INITIAL, ECHO_TRAILING))
    assert ECHO_INITIAL in call.initial_metadata()
    assert ECHO_TRAILING in call.trailing_metadata()


def test_custom_metadata_of_a_stream(stub):
    requests = iter([output_request(314_159, size=271_828)])
    call = stub.FullDuplexCall(requests, timeout=DEADLINE_S, metadata=(ECHO_INITIAL, ECHO_TRAILING))
    assert sizes(call) == [314_159]
    assert ECHO_INITIAL in call.initial_metadata()
    assert ECHO_TRAILING in call.trailing_metadata()


@pytest.mark.parametrize(
    "text",
    ["test status message", "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"],
    ids=["status_code_and_message", "special_status_message"],
)
def test_status(stub, text):
    wanted = EchoStatus(code=2, message=text)
    with pytest.raises(grpc.RpcError) as unary:
        stub.UnaryCall(SimpleRequest(response_status=wanted), timeout=DEADLINE_S)
    with pytest.raises(grpc.RpcError) as stream:
        next(stub.FullDuplexCall(iter([output_request(response_status=wanted)]), timeout=DEADLINE_S))
    for raised in (unary, stream):
        assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.UNKNOWN, text)


@pytest.mark.parametrize("service", ["TestService", "UnimplementedService"])
def test_unimplemented(channel, service):
    with pytest.raises(grpc.RpcError) as raised:
        Stub(channel, service).UnimplementedCall(Empty(), timeout=DEADLINE_S)
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_client_compressed_unary(stub):
    compressed = simple_request(expect_compressed=BoolValue(value=True))
    with pytest.raises(grpc.RpcError) as probe:
        stub.UnaryCall(compressed, timeout=DEADLINE_S)
    assert probe.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    response = stub.UnaryCall(compressed, timeout=DEADLINE_S, compression=grpc.Compression.Gzip)
    assert response == SimpleResponse(payload=payload(314_159))
    plain = simple_request(expect_compressed=BoolValue(value=False))
    assert stub.UnaryCall(plain, timeout=DEADLINE_S) == SimpleResponse(payload=payload(314_159))


def test_server_compressed_unary(stub):
    for value in (True, False):
        request = simple_request(response_compressed=BoolValue(value=value))
        assert stub.UnaryCall(request, timeout=DEADLINE_S) == SimpleResponse(payload=payload(314_159))


@pytest.mark.parametrize("accepted", ["identity,gzip", "identity", None])
@pytest.mark.parametrize("value", [True, False], ids=["wanted", "not_wanted"])
def test_server_compresses_what_was_asked_for(server, value, accepted):
    """As the test before, seen in the bytes: grpcio does not tell how a message came."""
    connection = Connection(server.address)
    connection.handshake()
    extra = {} if accepted is None else {"grpc-accept-encoding": accepted}
    stream = connection.post("/grpc.testing.TestService/UnaryCall", extra)
    request = simple_request(response_compressed=BoolValue(value=value))
    connection.data(stream, grpc_frame(request), end_stream=True)
    response = connection.wait_for_response(stream)
    is_compressed = value and accepted == "identity,gzip"
    assert response.trailers["grpc-status"] == "0"
    assert response.body[0] == is_compressed
    assert len(response.body) == 5 + int.from_bytes(response.body[1:5], "big")
    if is_compressed:
        assert response.headers["grpc-encoding"] == "gzip"
        assert len(response.body) < 314_159 / 10
    body = bytes(response.body[5:])
    answer = SimpleResponse.FromString(gzip.decompress(body) if is_compressed else body)
    assert answer == SimpleResponse(payload=payload(314_159))
    connection.close()
