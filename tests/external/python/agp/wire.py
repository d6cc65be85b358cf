"""The wire format of AGP 2025, as far as a hand-driven client needs it; see ../shared/wire/agp-wire.md."""

import hashlib

from harness.protobuf import field, fields

PATH = "/pubsub.proto.v1.PubSubService/OpenChannel"

SUBSCRIBE, UNSUBSCRIBE, PUBLISH = 1, 2, 3
SOURCE, DESTINATION, FANOUT, RECV_FROM, FORWARD_TO, INCOMING_CONN = range(1, 7)
FIRE_AND_FORGET = 1


class Name:
    """A name: three hashes and perhaps an instance. Gateways take hashes as they are, so any will do."""

    def __init__(self, *components, instance=None):
        self.hashes = [int.from_bytes(hashlib.sha256(part.encode()).digest()[:8], "big") for part in components]
        self.instance = instance

    def encode(self):
        """As protobuf."""
        encoded = b"".join(field(number, part) for number, part in enumerate(self.hashes, 1))
        return encoded if self.instance is None else encoded + field(4, self.instance)


def header(source, destination, *, fanout=1, recv_from=None, forward_to=None):
    """A message's header."""
    out = field(SOURCE, source.encode()) + field(DESTINATION, destination.encode()) + field(FANOUT, fanout)
    if recv_from is not None:
        out += field(RECV_FROM, recv_from)
    if forward_to is not None:
        out += field(FORWARD_TO, forward_to)
    return out


def publish_body(payload):
    """What follows the header of a Publish: a session header and the content."""
    session = field(1, FIRE_AND_FORGET) + field(2, 7) + field(3, 1)
    return field(2, session) + field(4, field(1, "msg") + field(2, payload))


def payload_of(publish):
    """The payload of a Publish."""
    return dict(fields(dict(fields(publish))[4]))[2]
