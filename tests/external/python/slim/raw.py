"""A SLIM client driven by hand: says exactly what a test wants, also what the bindings never would."""

import itertools
import uuid

import wire
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from harness.stream import Stream


class Raw(Stream):
    """One connection with its stream. Its link is negotiated unless `greets` is false."""

    _numbers = itertools.count(1)

    def __init__(self, address, *, greets=True, signs=True, link_id=None, node_id=None, connection_type=wire.EDGE, **stream):
        super().__init__(address, wire.PATH, **stream)
        self.link_id = link_id or str(uuid.uuid4())
        self.node_id = node_id or f"node-{uuid.uuid4()}"
        self.key = None
        self._private = X25519PrivateKey.generate() if signs else None
        if greets:
            self.greet(connection_type)

    def greet(self, connection_type):
        """Negotiates the link; returns the fields of the node's answer."""
        public = None
        if self._private:
            public = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.send(wire.negotiation(self.link_id, public, node_id=self.node_id, connection_type=connection_type))
        kind, body = self.next()
        assert kind == wire.LINK, f"a link negotiation is answered with one, not {kind}"
        answer = dict(wire.fields(dict(wire.fields(body))[1]))
        # Peers exchange keys and use none.
        if self._private and 4 in answer and connection_type != wire.PEER:
            self.key = wire.link_key(self.link_id, self._private, answer[4])
        return answer

    # --- saying -----------------------------------------------------------------------------------------------------

    def header(self, source, destination, *, mac=None, **options):
        """A header, signed where the link has a key and the test gives nothing else."""
        if mac is None and self.key:
            covered = {name: options[name] for name in ("fanout", "ttl", "recv_from", "forward_to") if name in options}
            mac = wire.header_mac(self.key, self.link_id, source, destination, **covered)
        return wire.header(source, destination, mac=mac, **options)

    def publish(self, source, destination, payload, **options):
        """Publishes `payload`."""
        body = wire.field(1, self.header(source, destination, **options)) + wire.publish_body(payload)
        self.send(wire.field(wire.PUBLISH, body))

    def subscribe(self, name, **options):
        """Subscribes to `name`; returns the subscription's id."""
        id = next(self._numbers)
        succeeded, error = self._ask(wire.SUBSCRIBE, name, id, **options)
        assert succeeded, error
        return id

    def unsubscribe(self, name, id):
        """Takes a subscription back; returns (success, error)."""
        return self._ask(wire.UNSUBSCRIBE, name, id)

    def _ask(self, kind, name, id, **options):
        body = wire.field(1, self.header(name, name, **options)) + wire.field(2, id)
        self.send(wire.field(kind, body))
        return self._acknowledged(id)

    def _acknowledged(self, id):
        """(success, error) of the acknowledgement of `id`."""
        kind, body = self.next()
        assert kind == wire.SUBSCRIPTION_ACK, f"an acknowledgement and not {kind}"
        answer = dict(wire.fields(body))
        assert answer[1] == id
        return bool(answer.get(2)), answer.get(3, b"").decode()

    # --- hearing ----------------------------------------------------------------------------------------------------

    def next(self):
        """(kind, message) of the next message."""
        found = [(kind, body) for kind, body in wire.fields(self.next_message()) if kind != 4]
        assert len(found) == 1
        return found[0]

    def expect(self, payload):
        """The next message, which must be a Publish of `payload`; returns its header's fields."""
        kind, body = self.next()
        assert kind == wire.PUBLISH
        assert wire.payload_of(body) == payload
        return dict(wire.fields(dict(wire.fields(body))[1]))
