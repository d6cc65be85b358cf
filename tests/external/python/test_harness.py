"""The harness itself, without a gateway: what would make every other test lie."""

import socket
import threading

import pytest

from harness import http2, wait
from harness.protocol import AgentGatewayStub, grpc_frame, grpc_messages, pb
from harness.proxy import Proxy


def test_stubs_are_of_the_projects_proto():
    assert {field.number for field in pb.AgentMessage.DESCRIPTOR.oneofs_by_name["body"].fields} == set(range(1, 21))
    assert AgentGatewayStub


def test_grpc_framing_there_and_back():
    messages = [b"", b"x", bytes(70_000)]
    assert grpc_messages(b"".join(map(grpc_frame, messages))) == messages


def test_cut_framing_is_noticed():
    with pytest.raises(AssertionError):
        grpc_messages(grpc_frame(b"abc")[:-1])


def test_frame_is_as_rfc_9113_draws_it():
    assert http2.frame(http2.PING, 1, 0, b"12345678") == bytes.fromhex("000008060100000000") + b"12345678"


def test_wait_names_what_was_missing():
    with pytest.raises(AssertionError, match="a miracle"):
        wait.until(lambda: False, "a miracle", deadline_s=0)


def test_proxy_relays_and_cuts():
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = Proxy(server.getsockname()[1])
        host, port = proxy.address.split(":")
        outer = socket.create_connection((host, int(port)), timeout=5)
        inner, _ = server.accept()
        inner.settimeout(5)
        outer.sendall(b"ping")
        assert inner.recv(4) == b"ping"
        proxy.cut()
        for end in (inner, outer):
            with pytest.raises(ConnectionResetError):
                end.recv(1)
            end.close()


def test_connection_speaks_with_a_server_by_hyper_h2():
    """The hand-driven client against a library's server."""
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.events import StreamEnded

    def serve(listener):
        end, _ = listener.accept()
        server = H2Connection(H2Configuration(client_side=False))
        server.initiate_connection()
        with end:
            while data := end.recv(65_536):
                for event in server.receive_data(data):
                    if isinstance(event, StreamEnded):
                        server.send_headers(event.stream_id, [(":status", "200")])
                        server.send_data(event.stream_id, grpc_frame(b"hi"))
                        server.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)
                end.sendall(server.data_to_send())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        connection = http2.Connection(f"127.0.0.1:{listener.getsockname()[1]}")
        connection.handshake()
        stream = connection.post("/a/b")
        connection.data(stream, grpc_frame(b"hello"), end_stream=True)
        response = connection.wait_for_response(stream)
        assert response.trailers == {"grpc-status": "0"}
        assert grpc_messages(bytes(response.body)) == [b"hi"]
        connection.ping_pong()
        connection.close()
