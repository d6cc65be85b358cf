"""`ringgate up` and the other commands, as their user types them."""

import json
import subprocess
import tempfile

import grpc

from harness import wait
from harness.agent import CHANNEL_OPTIONS
from harness.gateway import free_port
from harness.mls import SealedAgent
from harness.paths import CLI

# A command does what it does in milliseconds; this is for machines that do everything else, too.
COMMAND_S = 60


class Up:
    """One `ringgate up` in a folder of its own."""

    def __init__(self, folder):
        assert CLI.exists(), f"{CLI} is not there: cargo build --release -p ringgate-cli"
        self.folder = folder
        self.port, self.http_port, self.control_port = free_port(), free_port(), free_port()
        self.process = None

    def start(self):
        """Starts both processes, and waits until they serve."""
        self.log = tempfile.TemporaryFile("w+", prefix="ringgate-up-log-")
        command = [str(CLI), "up", "--listen", f"127.0.0.1:{self.port}", "--http", f"127.0.0.1:{self.http_port}"]
        command += ["--control-listen", f"127.0.0.1:{self.control_port}", "--control-http", "off", "--", "--cores", "0"]
        self.process = subprocess.Popen(
            command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )
        wait.until(self._is_up, lambda: f"{command} is up; it said:\n{self.output()}", 90)

    def _is_up(self):
        output = self.output()
        assert self.process.poll() is None, f"it ended at start:\n{output}"
        return "The gateway is up" in output

    def output(self):
        """What it has printed so far."""
        self.log.seek(0)
        return self.log.read()

    def stop(self):
        """Ctrl-C; its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(COMMAND_S)

    def run(self, *arguments, stdin=None):
        """A command in the folder, as it ended."""
        command = [str(CLI), *map(str, arguments)]
        return subprocess.run(command, cwd=self.folder, input=stdin, capture_output=True, text=True, timeout=COMMAND_S)

    def said(self, *arguments, stdin=None):
        """What a command that must succeed prints."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"ringgate {arguments}: {done.stderr}{done.stdout}"
        return done.stdout

    def refused(self, *arguments, stdin=None):
        """What a command that must fail complains of."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode != 0, f"ringgate {arguments}: {done.stdout}"
        return done.stderr

    def json(self, *arguments):
        """What a command says to scripts."""
        return json.loads(self.said("--json", *arguments))

    def enroll(self, name, folder):
        """A credential from the first operator; its folder."""
        self.said("enroll", name, "--out", folder)
        return self.folder / folder

    def channel(self, folder):
        """A channel that shows the credential in a folder as `ringgate enroll` wrote it."""
        ca, key, chain = ((folder / name).read_bytes() for name in ("ca.pem", "key.pem", "chain.pem"))
        credentials = grpc.ssl_channel_credentials(ca, key, chain)
        return grpc.secure_channel(f"localhost:{self.port}", credentials, options=CHANNEL_OPTIONS)

    def join(self, folder, name, **register):
        """A registered agent."""
        return SealedAgent(self.channel(folder), name, owns_channel=True, **register)

    def audit(self, subject):
        """(action, outcome) of all that is about an identity, in order."""
        uri = f"agp://ringgate.local/{subject}"
        return [(entry["action"], entry["outcome"]) for entry in self.json("audit", uri)]
