"""What the bindings never send: refused or ignored, and nobody else notices."""

import pytest
import wire
from apps import run
from raw import Raw

OK, PERMISSION_DENIED = 0, 7
CONNECTIONS = 64  # more than a test's gateway numbers


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
def bystanders(stage):
    """Two applications in a session; they must be able to talk when the test is over."""

    async def meet():
        alice, bob = stage.app("alice"), stage.app("bob")
        call = await alice.call(bob.name)
        return call, await bob.answer()

    async def talk():
        await call.say(b"nothing happened")
        await answer.expect(b"nothing happened")

    call, answer = run(meet())
    yield
    run(talk())


def test_a_raw_client_publishes_and_hears(clients, names):
    sender, receiver = clients(), clients()
    receiver.subscribe(names("receiver"))
    sender.publish(names("sender"), names("receiver"), b"hello")
    header = receiver.expect(b"hello")
    assert header[wire.TTL] == 7
    signed = wire.header_mac(receiver.key, receiver.link_id, names("sender"), names("receiver"), ttl=7)
    assert header[wire.HEADER_MAC] == signed


def test_forward_to_is_not_obeyed(clients, names, bystanders):
    sender, victim, receiver = clients(), clients(), clients()
    victim.subscribe(names("victim"))
    receiver.subscribe(names("receiver"))
    for connection in range(CONNECTIONS):
        sender.publish(names("sender"), names("nobody"), b"smuggled", forward_to=connection)
        sender.publish(names("sender"), names("receiver"), b"%d" % connection, forward_to=connection)
    for connection in range(CONNECTIONS):
        header = receiver.expect(b"%d" % connection)
        assert wire.FORWARD_TO not in header
    sender.publish(names("sender"), names("victim"), b"the only one")
    victim.expect(b"the only one")


def test_recv_from_subscribes_nobody_else(clients, names, bystanders):
    sender, thief, victim = clients(), clients(), clients()
    for connection in range(CONNECTIONS):
        thief.subscribe(names("secret"), recv_from=connection)
    victim.subscribe(names("victim"))
    sender.publish(names("sender"), names("secret"), b"for the thief, who asked", fanout=256)
    thief.expect(b"for the thief, who asked")
    sender.publish(names("sender"), names("victim"), b"the only one")
    victim.expect(b"the only one")


@pytest.mark.parametrize("mac", [bytes(32), b"", b"short", bytes(33)], ids=["wrong", "missing", "short", "long"])
def test_a_bad_mac_is_dropped_and_the_link_goes_on(stage, clients, names, bystanders, mac):
    counted, told = stage.gateway.stats()["slim_unauthenticated"], stage.gateway.security_events()["UNAUTHENTICATED"]
    sender, receiver = clients(), clients()
    receiver.subscribe(names("receiver"))
    for _ in range(3):
        sender.publish(names("sender"), names("receiver"), b"forged", mac=mac)
    sender.publish(names("sender"), names("receiver"), b"honest")
    receiver.expect(b"honest")
    assert stage.gateway.stats()["slim_unauthenticated"] == counted + 3
    assert stage.gateway.security_events()["UNAUTHENTICATED"] == told + 1, "the operator is told once"


def test_a_subscribe_with_a_bad_mac_is_not_answered(clients, names, bystanders):
    client = clients()
    body = wire.field(1, client.header(names("stolen"), names("stolen"), mac=bytes(32))) + wire.field(2, 7)
    client.send(wire.field(wire.SUBSCRIBE, body))
    # What is answered next is what was asked next.
    client.subscribe(names("honest"))


def test_a_mac_for_another_header_is_dropped(clients, names, bystanders):
    sender, receiver = clients(), clients()
    receiver.subscribe(names("receiver"))
    stolen = wire.header_mac(sender.key, sender.link_id, names("sender"), names("elsewhere"))
    sender.publish(names("sender"), names("receiver"), b"replayed", mac=stolen)
    sender.publish(names("sender"), names("receiver"), b"honest")
    receiver.expect(b"honest")


def test_an_oversize_message_is_dropped_and_nobody_is_given_it(clients, names, bystanders):
    sender, receiver = clients(), clients()
    receiver.subscribe(names("receiver"))
    sender.publish(names("sender"), names("receiver"), bytes(5 * 1024 * 1024))
    sender.publish(names("sender"), names("receiver"), b"small")
    receiver.expect(b"small")
    largest = bytes(4 * 1024 * 1024 - 1024)
    sender.publish(names("sender"), names("receiver"), largest)
    receiver.expect(largest)


def test_a_subscribe_without_strings_is_answered(clients, names, bystanders):
    client, sender = clients(), clients()
    client.subscribe(names("nameless").without_strings())
    sender.publish(names("sender"), names("nameless"), b"routed by numbers")
    client.expect(b"routed by numbers")


@pytest.mark.parametrize("kind", [wire.PEER, wire.REMOTE], ids=["peer", "remote"])
def test_a_client_that_claims_to_be_a_node_is_turned_away_for_good(stage, clients, names, bystanders, kind):
    told = stage.gateway.security_events()["PERMISSION_DENIED"]
    client = clients(greets=False)
    client.send(wire.negotiation(client.link_id, bytes(range(32)), connection_type=kind))
    status, message = client.ended()
    assert status == PERMISSION_DENIED and "node" in message
    assert not client.response.body, "it learns nothing"
    assert stage.gateway.security_events()["PERMISSION_DENIED"] == told + 1


@pytest.mark.parametrize("kind", [wire.PEER, wire.REMOTE], ids=["peer", "remote"])
def test_a_node_is_a_client_like_others_where_it_is_let_in(start_stage, kind):
    stage = start_stage(settings={"slim.node_links": "true"})
    stage.app("alice")  # has subscribed: its name is nobody else's business
    name = wire.Name("acme", stage.namespace, "behind the node", instance=1)
    node, client = Raw(stage.gateway.address, connection_type=kind), Raw(stage.gateway.address)
    # The first that it hears is the answer to what it asks: it is told no names.
    node.subscribe(name)
    client.publish(name, name, b"to the node")
    header = node.expect(b"to the node")
    assert (wire.HEADER_MAC in header) == (kind == wire.REMOTE), "nodes of one deployment use no codes"
    client.subscribe(name)
    node.publish(name, name, b"from the node")
    client.expect(b"from the node")


def test_who_does_not_negotiate_first_is_ended_without_an_answer(clients, names, bystanders):
    client = clients(greets=False)
    client.publish(names("sender"), names("receiver"), b"too early")
    assert client.ended()[0] == OK
    assert not client.response.body


@pytest.mark.parametrize(
    "message",
    [b"\xff", wire.field(wire.PUBLISH, b"\x0a\x7f"), wire.field(9, b"unknown"), b"", wire.field(wire.PUBLISH, b"")],
    ids=["garbage", "cut", "unknown", "empty", "headless"],
)
def test_nonsense_disturbs_nobody(clients, names, bystanders, message):
    sender, other, receiver = clients(), clients(), clients()
    receiver.subscribe(names("receiver"))
    sender.send(message)
    other.publish(names("other"), names("receiver"), b"hello")
    receiver.expect(b"hello")


def test_a_link_without_a_key_is_refused_where_headers_are_authenticated(clients, bystanders):
    client = clients(greets=False)
    client.send(wire.negotiation(client.link_id, None))
    assert client.ended()[0] == PERMISSION_DENIED
    assert not client.response.body


def test_a_low_order_key_is_refused(clients, bystanders):
    client = clients(greets=False)
    client.send(wire.negotiation(client.link_id, bytes(32)))
    client.ended()
    assert not client.response.body


def test_the_newer_connection_of_a_link_is_the_client(clients, names):
    sender, old = clients(), clients()
    name = names("roamer")
    old.subscribe(name)
    new = clients(link_id=old.link_id, node_id=old.node_id)
    new.subscribe(name)
    for number in range(4):
        sender.publish(names("sender"), name, b"%d" % number)
    for number in range(4):
        new.expect(b"%d" % number)
    assert old.ended()[0] == OK


def test_another_process_that_calls_its_link_the_same_is_another_client(clients, names):
    sender, one = clients(), clients()
    other = clients(link_id=one.link_id)
    for number, client in enumerate((one, other)):
        client.subscribe(names("client", number + 1))
        sender.publish(names("sender"), names("client", number + 1), b"%d" % number)
    for number, client in enumerate((one, other)):
        client.expect(b"%d" % number)


def test_what_one_link_of_a_process_says_goes_to_none_of_its_others(clients, names):
    """A client forwards between its links: messages would go round (agntcy/slim issue 1598)."""
    one, stranger = clients(), clients()
    twin = clients(node_id=one.node_id)
    for number, client in enumerate((one, twin, stranger)):
        client.subscribe(names("channel"))
        client.subscribe(names("own", number + 1))
    for number in range(4):
        one.publish(names("one"), names("channel"), b"%d" % number, fanout=256)
    for number in range(4):
        stranger.expect(b"%d" % number)
    # What the twin hears first is what was said behind it, to itself.
    stranger.publish(names("stranger"), names("own", 2), b"to the twin")
    twin.expect(b"to the twin")


@pytest.mark.parametrize("ttl, arrives", [(0, False), (1, False), (2, True)])
def test_time_to_live_is_counted_down(clients, names, ttl, arrives):
    sender, receiver = clients(), clients()
    receiver.subscribe(names("receiver"))
    sender.publish(names("sender"), names("receiver"), b"counted", ttl=ttl)
    sender.publish(names("sender"), names("receiver"), b"after it")
    if arrives:
        assert receiver.expect(b"counted")[wire.TTL] == ttl - 1
    receiver.expect(b"after it")


def test_fanout_one_takes_turns_and_any_other_reaches_all(clients, names):
    sender = clients()
    receivers = [clients() for _ in range(2)]
    for instance, receiver in enumerate(receivers, 1):
        receiver.subscribe(names("worker", instance))
    everybody = names("worker", wire.EVERYBODY)
    for number in range(4):
        sender.publish(names("sender"), everybody, b"%d" % number, fanout=1)
    for fanout in (0, 2, 256):
        sender.publish(names("sender"), everybody, b"to all %d" % fanout, fanout=fanout)
    for receiver in receivers:
        turns = [wire.payload_of(receiver.next()[1]) for _ in range(2)]
        assert set(turns) < {b"0", b"1", b"2", b"3"} and len(set(turns)) == 2
        for fanout in (0, 2, 256):
            receiver.expect(b"to all %d" % fanout)


def test_unsubscribed_means_unheard(clients, names):
    sender, receiver = clients(), clients()
    one = receiver.subscribe(names("one"))
    receiver.subscribe(names("two"))
    assert receiver.unsubscribe(names("one"), one) == (True, "")
    sender.publish(names("sender"), names("one"), b"to nobody")
    sender.publish(names("sender"), names("two"), b"still heard")
    receiver.expect(b"still heard")


def test_a_name_subscribed_twice_is_heard_until_both_are_taken_back(clients, names):
    sender, receiver = clients(), clients()
    first, second = receiver.subscribe(names("one")), receiver.subscribe(names("one"))
    receiver.subscribe(names("two"))
    for id, heard in ((first, True), (second, False)):
        assert receiver.unsubscribe(names("one"), id) == (True, "")
        sender.publish(names("sender"), names("one"), b"once")
        sender.publish(names("sender"), names("two"), b"marker")
        if heard:
            receiver.expect(b"once")
        receiver.expect(b"marker")
