"""The TLS listener: TLS 1.3, ALPN h2, optional client certificates; with a CA that this test makes."""

import ssl

import grpc
import pytest

from harness.agent import CHANNEL_OPTIONS, Agent
from harness.certificates import Authority
from harness.gateway import Gateway
from harness.http2 import Connection
from harness.protocol import HEALTH_PATH, grpc_frame
from harness.scene import Scene
from harness.settings import CLIENT_CERTIFICATE_REQUIRED


@pytest.fixture(scope="module")
def authority():
    """The CA of server and clients."""
    return Authority("ringgate test CA")


@pytest.fixture(scope="module")
def files(authority, tmp_path_factory):
    """Paths of certificate, key and CA."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = authority.server()
    (folder / "server.pem").write_bytes(certificate)
    (folder / "server.key").write_bytes(key)
    (folder / "ca.pem").write_bytes(authority.certificate)
    return folder


def start(files, *more):
    """A gateway that listens with TLS; readiness is asked on the plain HTTP endpoint."""
    arguments = ["--tls-cert", files / "server.pem", "--tls-key", files / "server.key", *more]
    return Gateway(cores="0", arguments=arguments)


@pytest.fixture(scope="module")
def running(files):
    """Without client certificates."""
    gateway = start(files)
    yield gateway
    gateway.kill()


@pytest.fixture(scope="module")
def optional(files):
    """A client may show a certificate."""
    gateway = start(files, "--tls-client-ca", files / "ca.pem")
    yield gateway
    gateway.kill()


@pytest.fixture(scope="module")
def mutual(files):
    """A client must show a certificate."""
    required = ["--set", f"{CLIENT_CERTIFICATE_REQUIRED}=true"]
    gateway = start(files, "--tls-client-ca", files / "ca.pem", *required)
    yield gateway
    gateway.kill()


@pytest.fixture
def gateway(running):
    """Leaves no connection behind and is alive."""
    yield running
    assert running.is_alive(), running.output()[-4000:]
    running.wait_for_no_residue()
    running.wait_for_stats(connections=0)


def secure_channel(gateway, authority, client=None):
    """A channel that trusts `authority` and shows the certificate of `client`."""
    certificate, key = client or (None, None)
    credentials = grpc.ssl_channel_credentials(authority.certificate, key, certificate)
    return grpc.secure_channel(f"localhost:{gateway.port}", credentials, options=CHANNEL_OPTIONS)


def context(authority, protocols=("h2",)):
    """A client context of Python's own TLS."""
    context = ssl.create_default_context(cadata=authority.certificate.decode())
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def talk(gateway, authority, client=None):
    """Publish and subscribe, small and large, over TLS."""
    scene = Scene(gateway)
    alice, bob = (
        Agent(secure_channel(gateway, authority, client), scene.name(who), owns_channel=True)
        for who in ("alice", "bob")
    )
    bob.subscribe(scene.topic("**"))
    for size in (0, 100, 16_384, 1_000_000):
        alice.publish(scene.topic("t"), bytes(size))
        notify = bob.expect_next("notify")
        assert len(notify.payload) == size and notify.source == alice.name
    for number in range(2000):
        alice.publish(scene.topic("t"), number.to_bytes(2, "big"))
    for number in range(2000):
        assert bob.expect_next("notify").payload == number.to_bytes(2, "big")
    alice.close()
    bob.close()


def test_agents_over_tls(gateway, authority):
    talk(gateway, authority)


def test_tls_13_and_h2_are_agreed(gateway, authority):
    connection = Connection(gateway.address, tls=context(authority))
    assert (connection.socket.version(), connection.socket.selected_alpn_protocol()) == ("TLSv1.3", "h2")
    connection.handshake()
    stream = connection.post(HEALTH_PATH)
    connection.data(stream, grpc_frame(b""), end_stream=True)
    assert connection.wait_for_response(stream).trailers["grpc-status"] == "0"
    connection.close()


def test_tls_12_is_refused(gateway, authority):
    old = context(authority)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Connection(gateway.address, tls=old)


@pytest.mark.parametrize("protocols", [("http/1.1",), ("spdy/3",)])
def test_another_protocol_is_refused(gateway, authority, protocols):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Connection(gateway.address, tls=context(authority, protocols))


def test_a_client_that_trusts_another_ca_is_no_harm(gateway, authority):
    with secure_channel(gateway, Authority("stranger")) as channel:
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary(HEALTH_PATH)(b"", timeout=5)
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    talk(gateway, authority)


@pytest.mark.parametrize(
    "garbage",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(100),
        b"\x16\x03\x01\xff\xff" + bytes(100),
    ],
    ids=["plaintext-h2", "http1", "zeros", "broken-hello"],
)
def test_what_is_not_tls_is_closed(gateway, authority, garbage):
    connection = Connection(gateway.address)
    connection.send(garbage + bytes(70_000))
    connection.socket.settimeout(30)
    try:
        while connection.socket.recv(1000):
            pass
    except ConnectionResetError:
        pass
    connection.close()
    with secure_channel(gateway, authority) as channel:
        assert channel.unary_unary(HEALTH_PATH)(b"", timeout=5) == b"\x08\x01"


@pytest.mark.parametrize("shows", [True, False])
def test_client_certificates_may_be_shown(optional, authority, shows):
    talk(optional, authority, authority.client() if shows else None)


def test_client_certificate_of_another_ca_is_refused_even_where_none_is_needed(optional, authority):
    assert_refused(optional, authority, Authority("stranger").client())


def test_client_certificates_must_be_shown(mutual, authority):
    talk(mutual, authority, authority.client())


@pytest.mark.parametrize("shown", [None, "of-another-ca"])
def test_without_the_right_client_certificate_nothing_is_served(mutual, authority, shown):
    assert_refused(mutual, authority, Authority("stranger").client() if shown else None)


def assert_refused(gateway, authority, client):
    """A call with this certificate fails, and the gateway lives."""
    with secure_channel(gateway, authority, client) as channel:
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary(HEALTH_PATH)(b"", timeout=5)
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    assert gateway.is_alive(), gateway.output()[-4000:]
