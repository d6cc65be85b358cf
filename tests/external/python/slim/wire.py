"""SLIM's wire format, as far as a hand-driven client needs it; see ../shared/wire/slim-wire.md."""

import hashlib
import hmac
import struct
import uuid

import xxhash
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from harness.protobuf import field, fields

PATH = "/dataplane.proto.v1.DataPlaneService/OpenChannel"

SUBSCRIBE, UNSUBSCRIBE, PUBLISH, LINK, SUBSCRIPTION_ACK = 1, 2, 3, 5, 6
REMOTE, PEER, EDGE = range(3)
SOURCE, DESTINATION, IDENTITY, FANOUT, VERSION, TTL, RECV_FROM, FORWARD_TO, INCOMING_CONN, ERROR, HEADER_MAC = range(1, 12)

EVERYBODY = 2**128 - 1  # the instance id that stands for all of them
U64 = 2**64 - 1


# --- names ------------------------------------------------------------------------------------------------------------


class Name:
    """A name: three components and an instance."""

    def __init__(self, *components, instance=EVERYBODY, strings=True):
        self.components = components
        self.strings = strings  # whether it goes with its components to read
        self.hashes = [xxhash.xxh64_intdigest(component.encode() + b"\xff") for component in components]
        self.instance = instance

    def without_strings(self):
        """The same name by its numbers alone."""
        return Name(*self.components, instance=self.instance, strings=False)

    def halves(self):
        """The instance as two numbers."""
        return self.instance >> 64, self.instance & U64

    def encode(self):
        """As protobuf."""
        id = b"".join(field(index, half) for index, half in enumerate(self.halves(), 1))
        encoded = b"".join(field(index, part) for index, part in enumerate(self.hashes, 1)) + field(4, id)
        texts = b"".join(field(index, text) for index, text in enumerate(self.components, 1))
        return field(1, encoded) + (field(2, texts) if self.strings else b"")

    def signed(self):
        """As the header's authentication code covers it."""
        numbers = struct.pack("<3Q", *self.hashes)
        id = b"\x01" + struct.pack("<2Q", *self.halves())
        texts = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in self.components)
        return b"\x01\x01" + numbers + id + (b"\x01" + texts if self.strings else b"\x00")


# --- links ------------------------------------------------------------------------------------------------------------


def negotiation(link_id, public_key, *, connection_type=EDGE, version="3.4.6", node_id=None):
    """The first message of a connection."""
    payload = field(1, link_id) + field(2, version)
    if public_key:
        payload += field(4, public_key)
    payload += field(5, connection_type) + field(6, node_id or f"node-{uuid.uuid4()}")
    return field(LINK, field(1, payload))


def link_key(link_id, private_key, peer_key):
    """The key of a link, from the keys that both sides showed."""
    shared = private_key.exchange(X25519PublicKey.from_public_bytes(peer_key))
    return HKDF(hashes.SHA256(), 32, link_id.encode(), b"SLIM-DP-inter-node-hmac-v1").derive(shared)


def header_mac(key, link_id, source, destination, *, identity="", fanout=1, recv_from=None, forward_to=None, ttl=8):
    """The authentication code of a header."""

    def optional(number):
        return b"\x00" if number is None else b"\x01" + struct.pack("<Q", number)

    preimage = b"SLIM-DP-HDR-v1\x00"
    preimage += struct.pack("<I", len(link_id)) + link_id.encode()
    preimage += source.signed() + destination.signed()
    preimage += struct.pack("<I", len(identity.encode())) + identity.encode()
    preimage += struct.pack("<I", fanout) + optional(recv_from) + optional(forward_to)
    preimage += b"\x00" + struct.pack("<I", ttl)
    return hmac.new(key, preimage, hashlib.sha256).digest()


def header(source, destination, *, fanout=1, ttl=8, recv_from=None, forward_to=None, mac=None):
    """A message's header."""
    out = field(SOURCE, source.encode()) + field(DESTINATION, destination.encode()) + field(FANOUT, fanout)
    out += field(VERSION, "3.4.6") + field(TTL, ttl)
    if recv_from is not None:
        out += field(RECV_FROM, recv_from)
    if forward_to is not None:
        out += field(FORWARD_TO, forward_to)
    return out + (field(HEADER_MAC, mac) if mac else b"")


def publish_body(payload):
    """What follows the header of a Publish: a session header and the content."""
    session = field(1, 1) + field(2, 1) + field(3, 7) + field(4, 1)
    return field(2, session) + field(3, field(1, field(1, "test") + field(2, payload)))


def payload_of(publish):
    """The payload of a Publish."""
    content = dict(fields(dict(fields(publish))[3]))
    return dict(fields(content[1]))[2]
