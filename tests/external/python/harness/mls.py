"""Messages that look like MLS from outside, for gateways that pass nothing else on.

A gateway sees the framing of RFC 9420 section 6 and cannot read what is in it, so the "ciphertext" here is the payload with padding: a
receiver of the test finds it by making the same message again.
"""

from harness.agent import Agent

GROUP = b"\x07" * 16
APPLICATION, PROPOSAL, COMMIT = 1, 2, 3


def length(size):
    """A length as RFC 9420 section 2.1.2 writes it."""
    if size < 0x40:
        return bytes([size])
    if size < 0x4000:
        return (size | 0x4000).to_bytes(2, "big")
    return (size | 0x80000000).to_bytes(4, "big")


def opaque(data):
    """Bytes with their length before them."""
    return length(len(data)) + data


def seal(payload=b"", *, group=GROUP, epoch=0, content=APPLICATION, padded=256):
    """A PrivateMessage with `payload` in its ciphertext."""
    ciphertext = payload + b"\0" * (-len(payload) % padded or padded)
    head = b"\0\1\0\2" + opaque(group) + epoch.to_bytes(8, "big") + bytes([content])
    return head + opaque(b"\1" * 32) + opaque(b"\2" * 28) + opaque(ciphertext)


class SealedAgent(Agent):
    """An agent whose payloads are sealed on their way out."""

    def publish(self, topic, payload=b"", **headers):
        super().publish(topic, seal(payload), **headers)

    def publish_acked(self, topic, payload=b""):
        return super().publish_acked(topic, seal(payload))

    def request(self, payload=b"", **target):
        return super().request(seal(payload), **target)

    def respond(self, forward, payload=b"", code=0, message=""):
        super().respond(forward, payload if code else seal(payload), code, message)
