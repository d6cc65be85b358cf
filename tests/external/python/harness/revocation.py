"""How long a revoked agent's connection lives on. Prints, asserts nothing: `python -m harness.revocation` in tests/external/python.

From the call of Revoke, at one end of the link, to what its connection sees at the other: GOAWAY, and the end of TCP's stream.
"""

import contextlib
import statistics
import tempfile
import threading
import time
from pathlib import Path

from harness.control import DOMAIN, PACKAGE, Control, connect, identity
from harness.http2 import Closed
from harness.site import Site

ROUNDS = 20


def certified(site, name):
    """A connection whose certificate is all that it ever shows."""
    return site.idle(name)


def by_token(site, name):
    """A connection with a registered agent by token."""
    credential = site.credential(name)
    connection = site.idle()
    site.show(connection, site.control.token(credential, site.folder), credential[1], register=name)
    return connection


def revoke(rpc, connection, name):
    """Milliseconds until (the answer, GOAWAY, the end)."""
    began, answered = time.perf_counter(), []
    request = identity.RevokeRequest(identity=f"agp://{DOMAIN}/{name}", reason="measured")

    def call():
        rpc(request, timeout=30)
        answered.append(time.perf_counter())

    calling = threading.Thread(target=call)
    calling.start()
    connection.read_until(lambda: connection.goaway is not None, "GOAWAY")
    gone = time.perf_counter()
    with contextlib.suppress(Closed):
        while True:
            connection.read_frame()
    ended = time.perf_counter()
    calling.join()
    connection.close()
    return [(at - began) * 1000 for at in (answered[0], gone, ended)]


def main():
    """Prints a table."""
    with tempfile.TemporaryDirectory(prefix="ringgate-revocation-") as folder:
        folder = Path(folder)
        for name in ("control", "site"):
            (folder / name).mkdir(mode=0o700)
        control = Control(folder / "control")
        control.start()
        site = Site(control, folder / "site")
        try:
            site.start()
            site.wait_until_attached()
            with connect(control.address, control.ca, control.folder / "admin") as channel:
                method = f"/{PACKAGE}.Identity/Revoke"
                rpc = channel.unary_unary(
                    method, identity.RevokeRequest.SerializeToString, identity.Revoked.FromString
                )
                print("| connection | Revoke answered, ms | GOAWAY, ms | connection ended, ms | slowest end, ms |")
                print("|---|---|---|---|---|")
                for what, make in (("certificate, silent", certified), ("token, registered", by_token)):
                    rows = []
                    for number in range(ROUNDS):
                        name = f"acme/{make.__name__.replace('_', '-')}/agent/{number}"
                        rows.append(revoke(rpc, make(site, name), name))
                    answered, gone, ended = (statistics.median(column) for column in zip(*rows, strict=True))
                    slowest = max(row[2] for row in rows)
                    print(f"| {what} | {answered:.1f} | {gone:.1f} | {ended:.1f} | {slowest:.1f} |")
                print(f"medians of {ROUNDS}")
        finally:
            if site.gateway is not None:
                site.gateway.kill()
            control.kill()


if __name__ == "__main__":
    main()
