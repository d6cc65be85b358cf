"""Latency of one session of slim-bindings at a fixed rate, through the gateway and through SLIM's own node, one after the other.

    target/ext/slim/bin/python perf/bindings/slim_session.py                     # 500 messages of 64 B a second, 10 s each, three times
    target/ext/slim/bin/python perf/bindings/slim_session.py --reliable --mls

Both ends are in this process, each with a connection of its own, as the bindings are used; so their own time is in every number. The
server gets CPU 0 and this process the others. A latency begins when the application hands its message over and ends when the other has it.
What is not there is named below the table: `scripts/test --ext` makes the Python environment, `scripts/bench-peers` installs the node.
"""

import argparse
import asyncio
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SERVER_CPU = 0
# Before the bindings start their threads, which inherit it.
CLIENT_CPUS = os.sched_getaffinity(0) - {SERVER_CPU} or {SERVER_CPU}
os.sched_setaffinity(0, CLIENT_CPUS)

sys.path[:0] = [str(ROOT / "tests/external/python/slim"), str(ROOT / "tests/external/python")]

from apps import Stage  # noqa: E402

from harness import wait  # noqa: E402
from harness.gateway import Gateway, free_port  # noqa: E402
from harness.paths import GATEWAY  # noqa: E402

WARMUP = 100  # messages that are not measured
LAST_WORDS_S = 5  # how long messages may take to arrive when the last has been sent

SLIM_CONFIG = """
tracing:
  log_level: error
runtime:
  n_cores: 1
  drain_timeout: 1s
services:
  slim/0:
    node_id: "slim-0"
    dataplane:
      servers:
        - endpoint: "127.0.0.1:{port}"
          tls:
            insecure: true
"""


class SlimNode:
    """SLIM's own node, as it is by default, in plaintext."""

    def __init__(self, program):
        self.port = free_port()
        self._config = tempfile.NamedTemporaryFile("w", suffix=".yaml")
        self._config.write(SLIM_CONFIG.format(port=self.port))
        self._config.flush()
        command = [program, "--config", self._config.name]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait.until(self._listens, f"{command} listens")

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def _listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self):
        self.process.terminate()
        self.process.wait(10)


def gateway():
    """The gateway. It sleeps when it has nothing to do, as the node does."""
    return Gateway(str(SERVER_CPU), arguments=["--spin-us", "0"])


def started(start):
    """A server on its CPU: a child inherits the one of the thread that starts it."""
    os.sched_setaffinity(0, {SERVER_CPU})
    try:
        return start()
    finally:
        os.sched_setaffinity(0, CLIENT_CPUS)


async def measure(server, options):
    """Latencies in milliseconds of what arrived, and how many messages did not."""
    stage = Stage(server)
    try:
        alice, bob = stage.app("alice"), stage.app("bob")
        call = await alice.call(bob.name, mls=options.mls, reliable=options.reliable)
        answer = await bob.answer()
        count = int(options.rate * options.seconds) + WARMUP
        latencies = {}

        async def listen():
            while len(latencies) < count:
                payload = (await answer.hear()).payload
                arrived = time.monotonic_ns()
                latencies[int.from_bytes(payload[:8], "big")] = (arrived - int.from_bytes(payload[8:16], "big")) / 1e6

        listening = asyncio.create_task(listen())
        begun = time.monotonic()
        for number in range(count):
            await asyncio.sleep(max(0, begun + number / options.rate - time.monotonic()))
            head = number.to_bytes(8, "big") + time.monotonic_ns().to_bytes(8, "big")
            await call.session.publish_async(head.ljust(options.payload, b"x"), "test", None)
        try:
            await asyncio.wait_for(listening, LAST_WORDS_S)
        except TimeoutError:
            pass
        return [latency for number, latency in latencies.items() if number >= WARMUP], count - len(latencies)
    finally:
        stage.close()


def quantile(values, share):
    """The value below which this share lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main():
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=500, help="messages a second")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--payload", type=int, default=64, help="bytes, 16 at least")
    parser.add_argument("--repetitions", type=int, default=3, help="servers take turns; the table has medians and extremes")
    parser.add_argument("--mls", action="store_true")
    parser.add_argument("--reliable", action="store_true")
    parser.add_argument("--slim", default=shutil.which("slim", path=f"{os.environ['PATH']}:{Path.home()}/.cargo/bin"))
    options = parser.parse_args()

    servers, missing = {}, []
    if GATEWAY.exists():
        servers["ringgate"] = gateway
    else:
        missing.append(f"{GATEWAY}: cargo build --release -p ringgate-dataplane")
    if options.slim:
        servers["slim"] = lambda: SlimNode(options.slim)
    else:
        missing.append("slim: scripts/bench-peers")

    found = {name: [] for name in servers}
    for _ in range(options.repetitions):
        for name, start in servers.items():
            server = started(start)
            try:
                found[name].append(asyncio.run(measure(server, options)))
            finally:
                server.kill()

    print(f"{options.rate:g} messages/s of {options.payload} B, {options.repetitions} x {options.seconds:g} s, milliseconds: median (least, most)")
    print(f"{'server':<10} {'p50':>22} {'p90':>22} {'p99':>22} {'max':>22} {'lost':>6}")
    for name, runs in found.items():
        row = f"{name:<10}"
        for share in (0.5, 0.9, 0.99, 1):
            values = [quantile(latencies, share) for latencies, _ in runs if latencies]
            text = f"{statistics.median(values):.2f} ({min(values):.2f}, {max(values):.2f})" if values else "-"
            row += f" {text:>22}"
        print(f"{row} {sum(lost for _, lost in runs):>6}")
    for what in missing:
        print(f"not there: {what}")
    sys.stdout.flush()
    os._exit(0)  # the bindings' threads do not always end with the interpreter


if __name__ == "__main__":
    main()
