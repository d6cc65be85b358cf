"""A TCP relay that can be cut, so that a connection is lost without a word; and that can keep all that passes through it."""

import selectors
import socket
import struct
import threading

CHUNK = 64 * 1024
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: close sends RST, not FIN


class Proxy:
    """Relays connections to `port` until `cut`."""

    def __init__(self, port, keep=False):
        self.kept = []
        self._keeps = keep
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._peers = {}
        self._into = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._waker, waking = socket.socketpair()
        self._selector.register(waking, selectors.EVENT_READ)
        self._waking = waking
        self._is_cut = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="proxy")
        self._thread.start()

    @property
    def address(self):
        """host:port to connect to."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self):
        """Resets every connection, on both sides, and takes no more."""
        self._waker.send(b"x")
        self._is_cut.wait(10)

    def _run(self):
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._waking:
                    self._reset()
                    return
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj in self._peers:
                    self._relay(key.fileobj)

    def _accept(self):
        inner, _ = self._listener.accept()
        outer = socket.create_connection(self._target)
        for end, peer in ((inner, outer), (outer, inner)):
            if self._keeps:
                # One for each way of each connection, so that what is cut between two segments is found whole.
                self._into[end] = bytearray()
                self.kept.append(self._into[end])
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._peers[end] = peer
            self._selector.register(end, selectors.EVENT_READ)

    def _relay(self, end):
        try:
            data = end.recv(CHUNK)
            if data:
                if self._keeps:
                    self._into[end] += data
                self._peers[end].sendall(data)
                return
        except OSError:
            pass
        for side in (end, self._peers[end]):
            self._selector.unregister(side)
            del self._peers[side]
            side.close()

    def _reset(self):
        for end in self._peers:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            end.close()
        self._listener.close()
        self._is_cut.set()
