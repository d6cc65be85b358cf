"""A client of AGP 2025 driven by hand: says exactly what a test wants, also what the bindings never would."""

import wire

from harness.stream import Stream


class Raw(Stream):
    """One connection with its stream. Nothing is confirmed in this dialect; see `heard`."""

    def __init__(self, address, **stream):
        super().__init__(address, wire.PATH, **stream)

    def publish(self, source, destination, payload, **options):
        """Publishes `payload`."""
        body = wire.field(1, wire.header(source, destination, **options)) + wire.publish_body(payload)
        self.send(wire.field(wire.PUBLISH, body))

    def subscribe(self, name, **options):
        """Subscribes to `name`."""
        self._change(wire.SUBSCRIBE, name, **options)

    def unsubscribe(self, name):
        """Takes the subscription back. (The bindings mean to, but subscribe again.)"""
        self._change(wire.UNSUBSCRIBE, name)

    def _change(self, kind, name, **options):
        self.send(wire.field(kind, wire.field(1, wire.header(name, name, **options))))

    def expect(self, payload):
        """The next message, which must be a Publish of `payload`; returns its header's fields."""
        ((kind, body),) = wire.fields(self.next_message())
        assert kind == wire.PUBLISH
        assert wire.payload_of(body) == payload
        return dict(wire.fields(dict(wire.fields(body))[1]))
