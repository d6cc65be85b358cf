"""gRPC itself: health, reflection, compression, deadlines, size limits, and what is not a gRPC call."""

import asyncio

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from harness.agent import CHANNEL_OPTIONS, Agent, connect
from harness.http2 import Connection
from harness.protocol import HEALTH_PATH, OPEN_PATH, SERVICE, AgentGatewayStub, grpc_frame, grpc_messages, pb
from harness.scene import Scene

SERVING = health_pb2.HealthCheckResponse.SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
MIB = 1 << 20


@pytest.fixture
def channel(one_core):
    """A plain channel to the gateway."""
    with connect(one_core.address) as channel:
        yield channel


@pytest.fixture
def raw(one_core):
    """A hand-driven HTTP/2 connection, past its handshake."""
    connection = Connection(one_core.address)
    connection.handshake()
    yield connection
    connection.close()


# --- health ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["", SERVICE])
def test_health_check(channel, service):
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
    assert answer.status == SERVING


def test_health_check_of_an_unknown_service_is_not_found(channel):
    with pytest.raises(grpc.RpcError) as error:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="nope"), timeout=5)
    assert error.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(("service", "status"), [("", SERVING), (SERVICE, SERVING), ("nope", SERVICE_UNKNOWN)])
def test_health_watch_tells_the_state_at_once_and_stays(channel, service, status):
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=service), timeout=30)
    assert next(watch).status == status
    assert watch.is_active()
    watch.cancel()


# --- reflection -----------------------------------------------------------------------------------------------------


def test_reflection_lists_the_services(channel):
    services = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert SERVICE in services and "grpc.health.v1.Health" in services


def test_reflection_is_enough_to_make_a_call(one_core, channel):
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    method = pool.FindServiceByName(SERVICE).FindMethodByName("Open")
    assert method.input_type.full_name == "agp.v1.AgentMessage"
    assert {field.name for field in method.output_type.fields} >= {"registered", "notify", "gap", "drain"}


def test_reflection_v1_is_there_too(raw):
    stream = raw.post("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    list_services = b"\x3a\x00"  # ServerReflectionRequest{list_services: ""}
    raw.data(stream, grpc_frame(list_services), end_stream=True)
    response = raw.wait_for_response(stream)
    assert response.trailers["grpc-status"] == "0"
    assert SERVICE.encode() in grpc_messages(response.body)[0]


def test_reflection_of_an_unknown_symbol_is_an_error_response(channel):
    with pytest.raises(KeyError):
        ProtoReflectionDescriptorDatabase(channel).FindFileContainingSymbol("no.such.Symbol")


# --- many and large -------------------------------------------------------------------------------------------------


def test_thousand_streams_on_one_connection(gateway):
    """A thousand agents share one connection; each hears the one message."""
    asyncio.run(thousand_streams(gateway, Scene(gateway)))


async def thousand_streams(gateway, scene, count=1000):
    """Opens them all at once, subscribes all, publishes one message with an Ack."""

    async def open_one(stub, number):
        call = stub.Open()
        name = scene.name("crowd", str(number))
        await call.write(pb.AgentMessage(register=pb.Register(name=name)))
        assert (await call.read()).registered.name == name
        await call.write(pb.AgentMessage(subscribe=pb.Subscribe(id=1, pattern=scene.topic("all"))))
        assert (await call.read()).ack.id == 1
        return call

    async with grpc.aio.insecure_channel(gateway.address, options=CHANNEL_OPTIONS) as channel:
        stub = AgentGatewayStub(channel)
        calls = await asyncio.gather(*(open_one(stub, number) for number in range(count)))
        stats = gateway.stats()
        assert (stats["sessions"], stats["subscriptions"]) == (count, count)
        await calls[0].write(pb.AgentMessage(publish=pb.Publish(topic=scene.topic("all"), payload=b"!", id=2)))
        for call in calls:
            # The publisher has its Ack besides. Nothing may be left unread: grpcio tells no status before.
            heard = [await call.read() for _ in range(2 if call is calls[0] else 1)]
            assert [message.notify.payload for message in heard if message.HasField("notify")] == [b"!"]
        await asyncio.gather(*(call.done_writing() for call in calls))
        for call in calls:
            assert await call.code() == grpc.StatusCode.OK


def test_four_mebibytes(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    bob.subscribe(scene.topic("large"))
    payload = bytes(range(256)) * (4 * MIB // 256)
    for number in range(3):
        alice.publish(scene.topic("large"), payload)
        assert bob.expect_next("notify", sequence=number + 1).payload == payload


def test_four_mebibytes_as_request_and_answer(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    payload = bytes(4 * MIB)
    alice.request(payload, agent=bob.name)
    forward = bob.expect("forward")
    assert forward.payload == payload
    bob.respond(forward, payload)
    assert alice.expect("deliver").payload == payload


def test_beyond_the_limit_is_resource_exhausted_and_nothing_is_forwarded(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    bob.subscribe(scene.topic("large"))
    limit = alice.registered.limits.message_bytes_max
    alice.publish(scene.topic("large"), bytes(limit + 1))
    status, message = alice.wait_for_end()
    assert status == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(limit) in message, f"the limit must be named: {message}"
    bob.publish(scene.topic("large"), b"marker")
    assert bob.expect_next("notify").payload == b"marker"


def test_announced_length_is_not_allocated(one_core, raw):
    stream = raw.post(OPEN_PATH)
    before = one_core.rss_bytes()
    raw.data(stream, b"\0\xff\xff\xff\xff" + b"x" * 100)
    assert raw.wait_for_response(stream).trailers["grpc-status"] == "8"
    assert one_core.rss_bytes() - before < MIB


# --- compression ----------------------------------------------------------------------------------------------------


def test_gzip_from_the_client(scene):
    bob = scene.agent("bob")
    bob.subscribe(scene.topic("news"))
    alice = scene.agent("alice", compression=grpc.Compression.Gzip)
    payload = b"compress me " * 10_000
    alice.publish(scene.topic("news"), payload)
    assert bob.expect_next("notify").payload == payload


def test_gzip_bomb_is_refused(scene):
    alice = scene.agent("alice", compression=grpc.Compression.Gzip)
    before = scene.gateway.rss_bytes()
    alice.publish(scene.topic("bomb"), bytes(64 * MIB))
    assert alice.wait_for_end()[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert scene.gateway.rss_bytes() - before < 32 * MIB


def test_unknown_encoding_is_unimplemented_and_says_what_is_known(raw):
    stream = raw.post(OPEN_PATH, {"grpc-encoding": "snappy"})
    response = raw.wait_for_response(stream)
    assert response.trailers["grpc-status"] == "12"
    assert "gzip" in response.headers["grpc-accept-encoding"]


def test_compressed_flag_without_encoding_is_internal(raw):
    stream = raw.post(OPEN_PATH)
    raw.data(stream, b"\x01\0\0\0\x01x")
    assert raw.wait_for_response(stream).trailers["grpc-status"] == "13"


# --- time and cancellation ------------------------------------------------------------------------------------------


def test_deadline_of_the_client_ends_the_stream(scene):
    alice = scene.unregistered(timeout=0.2)
    assert alice.wait_for_end()[0] == grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("timeout", ["50m", "1n", "50000u"])
def test_grpc_timeout_is_kept_by_the_gateway(raw, timeout):
    stream = raw.post(OPEN_PATH, {"grpc-timeout": timeout})
    assert raw.wait_for_response(stream).trailers["grpc-status"] == "4"


@pytest.mark.parametrize("timeout", ["", "10", "10x", "123456789S", "-1S", "1.5S"])
def test_malformed_grpc_timeout_is_an_error(raw, timeout):
    stream = raw.post(OPEN_PATH, {"grpc-timeout": timeout})
    assert raw.wait_for_response(stream).trailers["grpc-status"] in ("3", "13")


def test_cancel_of_the_call(one_core, channel):
    scene = Scene(one_core)
    alice = Agent(channel, scene.name("alice"))
    alice.subscribe(scene.topic("**"))
    alice.call.cancel()
    assert alice.wait_for_end()[0] == grpc.StatusCode.CANCELLED
    one_core.wait_for_no_residue()


# --- what is not a call of ours -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", [f"/{SERVICE}/Nope", "/no.such.Service/Open", f"/{SERVICE}/", "/grpc.health.v1.Health/Nope"]
)
def test_unknown_method_is_unimplemented(channel, method):
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary(method)(b"", timeout=5)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_bad_path_is_unimplemented(raw):
    for path in ("/", "/x", "/a/b/c/d"):
        stream = raw.post(path, end_stream=True)
        assert raw.wait_for_response(stream).trailers["grpc-status"] == "12", path


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "application/grpcweb", None])
def test_wrong_content_type_is_415_with_a_short_body(raw, content_type):
    stream = raw.post(OPEN_PATH, {"content-type": content_type}, end_stream=True)
    response = raw.wait_for_response(stream)
    assert response.headers[":status"] == "415"
    assert 0 < len(response.body) < 1000


@pytest.mark.parametrize("content_type", ["application/grpc", "application/grpc+proto"])
def test_grpc_content_types_are_taken(raw, content_type):
    stream = raw.post(HEALTH_PATH, {"content-type": content_type})
    raw.data(stream, grpc_frame(b""), end_stream=True)
    response = raw.wait_for_response(stream)
    assert (response.headers[":status"], response.trailers["grpc-status"]) == ("200", "0")
    assert response.headers["content-type"].startswith("application/grpc")
    assert grpc_messages(response.body) == [b"\x08\x01"]


def test_get_is_405(raw):
    stream = raw.request({":method": "GET", ":path": HEALTH_PATH, "content-type": "application/grpc"}, end_stream=True)
    assert raw.wait_for_response(stream).headers[":status"] == "405"


def test_undecodable_message_is_an_error_not_a_crash(one_core, raw):
    scene = Scene(one_core)
    stream = raw.post(OPEN_PATH)
    raw.data(stream, grpc_frame(pb.AgentMessage(register=pb.Register(name=scene.name("alice")))))
    raw.wait_for_data(stream)
    raw.data(stream, grpc_frame(b"\x22\xff\xff\xff\xff\x7f"))  # a Publish longer than the message
    answer = pb.GatewayMessage.FromString(grpc_messages(raw.wait_for_data(stream))[0])
    assert answer.error.code == pb.CODE_INVALID_ARGUMENT
    raw.data(stream, b"", end_stream=True)
    raw.wait_for_response(stream)


def test_truncated_message_at_the_end_is_an_error(raw):
    stream = raw.post(HEALTH_PATH)
    raw.data(stream, b"\0\0\0\0\x09abc", end_stream=True)
    assert raw.wait_for_response(stream).trailers["grpc-status"] in ("3", "13")


def test_prefix_and_message_cut_anywhere(one_core, raw):
    """One byte for each DATA frame."""
    scene = Scene(one_core)
    stream = raw.post(OPEN_PATH)
    for byte in grpc_frame(pb.AgentMessage(register=pb.Register(name=scene.name("slow-typist")))):
        raw.data(stream, bytes([byte]))
    registered = pb.GatewayMessage.FromString(grpc_messages(raw.wait_for_data(stream))[0]).registered
    assert registered.name == scene.name("slow-typist")
    raw.data(stream, b"", end_stream=True)
    assert raw.wait_for_response(stream).trailers["grpc-status"] == "0"


def test_custom_metadata_is_tolerated(scene):
    alice = scene.agent("alice", metadata=(("x-request-id", "7"), ("trace-bin", b"\x00\x01\xff")))
    alice.round_trip()
