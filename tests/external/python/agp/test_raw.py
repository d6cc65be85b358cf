"""What the bindings never send: refused or ignored, and nobody else notices."""

import asyncio
import ssl

import pytest
import wire
from agents import run
from raw import Raw

from harness.certificates import Authority
from harness.identity import TrustDomain

CONNECTIONS = 64  # more than a test's gateway numbers
UNIMPLEMENTED, UNAUTHENTICATED = 12, 16
# An MLS PrivateMessage with application data (RFC 9420, section 6.3), as far as one can see without a key.
PRIVATE = bytes([0, 1, 0, 2, 1]) + b"g" + bytes(8) + bytes([1, 0, 2, 8, 8, 1, 9])


@pytest.fixture
def clients(stage):
    """Connects hand-driven clients, which are gone after the test."""
    connected = []

    def connect(**options):
        connected.append(Raw(stage.gateway.address, **options))
        return connected[-1]

    yield connect
    for client in connected:
        client.close()


@pytest.fixture
def names(stage):
    """Names of this test."""
    return lambda kind, instance=1: wire.Name("acme", stage.namespace, kind, instance=instance)


@pytest.fixture
def receiver(stage, clients, names):
    """A client that has subscribed to `receiver` on every core."""
    receiver = clients()
    receiver.subscribe(names("receiver"))
    wait_for(stage, 1)
    return receiver


def wait_for(stage, subscriptions):
    """Waits until the gateway has so many subscriptions: every core knows a name as soon as it is counted there."""
    stage.gateway.wait_for_stats(agp2025_subscriptions=subscriptions)
    for core in range(len(stage.gateway.cores.split(","))):
        stage.gateway.wait_for_stats(core=core, agp2025_names=subscriptions)


def test_a_message_arrives_as_it_was_sent(clients, names, receiver):
    sender = clients()
    sent = wire.field(1, wire.header(names("sender"), names("receiver")) + wire.field(31, b"unknown"))
    sent = wire.field(4, wire.field(1, "k") + wire.field(2, "v")) + wire.field(wire.PUBLISH, sent + wire.publish_body(b"hello"))
    sender.send(sent)
    assert receiver.next_message() == sent


def test_forward_to_is_not_obeyed(clients, names, receiver):
    sender = clients()
    for connection in range(CONNECTIONS):
        sender.publish(names("sender"), names("nobody"), b"smuggled", forward_to=connection)
        sender.publish(names("sender"), names("receiver"), b"%d" % connection, forward_to=connection)
    for connection in range(CONNECTIONS):
        assert wire.FORWARD_TO not in receiver.expect(b"%d" % connection)


def test_recv_from_subscribes_nobody_else(stage, clients, names, receiver):
    thief, sender = clients(), clients()
    for connection in range(CONNECTIONS):
        thief.subscribe(names("secret"), recv_from=connection)
    wait_for(stage, 2)
    sender.publish(names("sender"), names("secret"), b"for the thief, who asked", fanout=50)
    thief.expect(b"for the thief, who asked")
    sender.publish(names("sender"), names("receiver"), b"the only one")
    receiver.expect(b"the only one")


def test_an_oversize_message_is_dropped_and_the_stream_goes_on(stage, clients, names, receiver):
    sender = clients()
    sender.publish(names("sender"), names("receiver"), bytes(5 * 1024 * 1024))
    sender.publish(names("sender"), names("receiver"), b"small")
    receiver.expect(b"small")
    largest = bytes(4 * 1024 * 1024 - 1024)
    sender.publish(names("sender"), names("receiver"), largest)
    receiver.expect(largest)


def sourceless():
    """A Publish from nobody in particular: receivers break on it (agp-wire.md, section 3)."""
    kind, to = wire.Name("acme", "x", "any"), wire.Name("acme", "x", "receiver", instance=1)
    return wire.field(wire.PUBLISH, wire.field(1, wire.header(kind, to)) + wire.publish_body(b"boom"))


def sessionless():
    """A Publish without a session header."""
    kind = wire.Name("acme", "x", "any", instance=1)
    return wire.field(wire.PUBLISH, wire.field(1, wire.header(kind, kind)))


@pytest.mark.parametrize(
    "message",
    [b"\xff", wire.field(wire.PUBLISH, b"\x0a\x7f"), wire.field(9, b"unknown"), b"", sourceless(), sessionless()],
    ids=["garbage", "cut", "unknown", "empty", "sourceless", "sessionless"],
)
def test_nonsense_disturbs_nobody(stage, clients, names, receiver, message):
    sender = clients()
    before = stage.gateway.stats()["agp2025_malformed"]
    sender.send(message)
    sender.publish(names("sender"), names("receiver"), b"hello")
    receiver.expect(b"hello")
    assert stage.gateway.stats()["agp2025_malformed"] == before + 1


def test_unsubscribed_means_unheard(stage, clients, names, receiver):
    sender = clients()
    receiver.subscribe(names("other"))
    wait_for(stage, 2)
    receiver.unsubscribe(names("receiver"))
    wait_for(stage, 1)
    sender.publish(names("sender"), names("receiver"), b"to nobody")
    sender.publish(names("sender"), names("other"), b"still heard")
    receiver.expect(b"still heard")


def test_an_unknown_instance_falls_back_to_the_only_one(clients, names, receiver):
    sender = clients()
    sender.publish(names("sender"), names("receiver", instance=99), b"to the only one")
    receiver.expect(b"to the only one")


def test_agents_talk_beside_a_client_that_says_nonsense(stage, clients, names):
    async def steps():
        async with stage.agents("alice", "bob") as (alice, bob):
            await stage.subscribed(2)
            attacker = clients()
            session = await alice.fire_and_forget()
            for number in range(10):
                for message in (b"\xff", b"", sourceless(), sessionless()):
                    attacker.send(message)
                attacker.publish(names("x"), names("y"), b"smuggled", forward_to=number)
                await alice.say(session, b"%d" % number, bob.address)
                if number == 0:
                    theirs = await bob.met()
                assert (await bob.hear(theirs))[1] == b"%d" % number
            await asyncio.to_thread(attacker.heard)

    run(steps())


def test_plain_payloads_are_dropped_where_they_are_not_allowed(start_gateway):
    gateway = start_gateway(settings={"agp2025.plain_payloads": "false"})
    name = wire.Name("acme", "plain", "receiver", instance=1)
    receiver, sender = Raw(gateway.address), Raw(gateway.address)
    receiver.subscribe(name)
    receiver.heard()
    sender.publish(name, name, b"in the clear")
    sender.publish(name, name, PRIVATE)
    receiver.expect(PRIVATE)
    assert gateway.stats()["agp2025_not_mls"] == 1
    assert gateway.security_events()["PERMISSION_DENIED"] == 1


def test_it_is_off_in_the_profile_strict_until_it_is_switched_on(start_gateway, tmp_path):
    listener, domain = Authority("ringgate test CA"), TrustDomain("test.example")
    certificate, key = listener.server()
    (tmp_path / "server.pem").write_bytes(certificate)
    (tmp_path / "server.key").write_bytes(key)
    (tmp_path / "agents.pem").write_bytes(domain.certificate)
    arguments = ["--tls-cert", tmp_path / "server.pem", "--tls-key", tmp_path / "server.key"]
    arguments += ["--tls-client-ca", tmp_path / "agents.pem"]
    # What --set says comes after the profile that the harness asks for.
    strict = {"profile": "strict", "trust_domain": "test.example"}

    def connect(gateway, credential=None):
        tls = ssl.create_default_context(cadata=listener.certificate.decode())
        tls.set_alpn_protocols(["h2"])
        if credential:
            (tmp_path / "client.pem").write_bytes(credential[0] + credential[1])
            tls.load_cert_chain(tmp_path / "client.pem")
        return Raw(gateway.address, tls=tls)

    agent = domain.agent("acme/demo/alice/1")
    status, message = connect(start_gateway(settings=strict, arguments=arguments), agent).ended()
    assert status == UNIMPLEMENTED and "agp2025.enabled" in message

    gateway = start_gateway(settings={**strict, "agp2025.enabled": "true"}, arguments=arguments)
    assert connect(gateway).ended()[0] == UNAUTHENTICATED
    receiver, sender = connect(gateway, agent), connect(gateway, agent)
    name = wire.Name("acme", "strict", "receiver", instance=1)
    receiver.subscribe(name)
    receiver.heard()
    sender.publish(name, name, b"in the clear")
    sender.publish(name, name, PRIVATE)
    receiver.expect(PRIVATE)
    assert gateway.security_events()["UNAUTHENTICATED"] == gateway.security_events()["PERMISSION_DENIED"] == 1
