"""The real gateway as a child process: started, asked, signalled, measured."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile

from harness import wait
from harness.paths import GATEWAY

# What must be zero again when every agent has gone.
RESIDUE = (
    "sessions",
    "detached_sessions",
    "subscriptions",
    "requests",
    "streams",
    "introductions",
    "channels",
    "watches",
    "queued_bytes",
)


ONE_CORE = "0"
TWO_CORES = "0,1"


def core_lists():
    """One core, and two where this process may use as many."""
    return [ONE_CORE] + ([TWO_CORES] if len(os.sched_getaffinity(0)) > 1 else [])


def free_port():
    """A port of 127.0.0.1 that nothing uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Gateway:
    """One running `ringgate-dataplane`."""

    def __init__(self, cores="0", settings=None, arguments=(), port=None):
        assert GATEWAY.exists(), f"{GATEWAY} is not there: cargo build --release -p ringgate-dataplane"
        self.cores = cores
        self.port = port or free_port()
        self.http_port = free_port()
        self.log = tempfile.TemporaryFile("w+", prefix="ringgate-log-")
        command = [str(GATEWAY), "--profile", "development", "--listen", f"127.0.0.1:{self.port}"]
        command += ["--http", f"127.0.0.1:{self.http_port}", "--cores", cores]
        for key, value in (settings or {}).items():
            command += ["--set", f"{key}={value}"]
        command += [str(argument) for argument in arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        try:
            wait.until(self._is_ready, lambda: f"{command} is ready; it said:\n{self.output()}")
        except BaseException:
            self.kill()
            raise

    @property
    def address(self):
        """host:port of the data listener."""
        return f"127.0.0.1:{self.port}"

    def _is_ready(self):
        assert self.is_alive(), f"the gateway ended at start with {self.process.returncode}:\n{self.output()}"
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def is_alive(self):
        """True while the process runs."""
        return self.process.poll() is None

    def output(self):
        """What the process has printed so far."""
        self.log.seek(0)
        return self.log.read()

    def get(self, path):
        """(status, body) of a path of the HTTP endpoint."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=5)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def stats(self, core=None):
        """The gauges of /stats: of all cores, or of one."""
        status, body = self.get("/stats")
        assert status == 200, f"/stats answered {status}: {body}"
        stats = json.loads(body)
        return stats["total"] if core is None else stats["cores"][core]

    def metric(self, name, **labels):
        """The sum of the series of /metrics with this name and these labels, over all cores."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = [line for line in self.get("/metrics")[1].splitlines() if line.startswith(f"{name}{{")]
        values = [float(line.rsplit(" ", 1)[1]) for line in lines if all(label in line for label in wanted)]
        assert values, f"/metrics has no {name} with {labels}"
        return sum(values)

    def security_events(self):
        """How many security events of each kind there were."""
        return json.loads(self.get("/stats")[1])["security_events"]

    def wait_for_stats(self, deadline_s=wait.DEADLINE_S, core=None, **expected):
        """Waits until each named gauge has the given value: over all cores, or on one."""
        seen = {}

        def reached():
            seen.update(self.stats(core))
            return all(seen[name] == value for name, value in expected.items())

        wait.until(reached, lambda: f"{expected}; /stats says {seen}", deadline_s)

    def wait_for_no_residue(self, deadline_s=wait.DEADLINE_S):
        """Waits until nothing of any agent is left."""
        self.wait_for_stats(deadline_s, **dict.fromkeys(RESIDUE, 0))

    def rss_bytes(self):
        """Resident memory of the process."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            line = next(line for line in status if line.startswith("VmRSS"))
        return int(line.split()[1]) * 1024

    def open_files(self):
        """How many descriptors the process holds."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def terminate(self):
        """SIGTERM: drain."""
        self.process.send_signal(signal.SIGTERM)

    def wait_for_exit(self, deadline_s=wait.DEADLINE_S):
        """The exit status, once the process has ended."""
        return self.process.wait(deadline_s)

    def kill(self):
        """Ends the process at once, whatever it does."""
        if self.is_alive():
            self.process.kill()
        self.process.wait(10)


class Gateways:
    """Gateways that tests share, by their configuration; one that has died is replaced."""

    def __init__(self):
        self._running = {}

    def shared(self, cores, settings=None):
        """The running gateway of this configuration."""
        key = (cores, tuple(sorted((settings or {}).items())))
        gateway = self._running.get(key)
        if gateway is None or not gateway.is_alive():
            gateway = self._running[key] = Gateway(cores, settings)
        return gateway

    def kill(self):
        """Ends all of them."""
        for gateway in self._running.values():
            gateway.kill()
