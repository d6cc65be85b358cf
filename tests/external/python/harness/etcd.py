"""An etcd of one test's own."""

import base64
import json
import shutil
import subprocess
import urllib.request

from harness import wait
from harness.gateway import free_port

PROGRAM = shutil.which("etcd")


class Etcd:
    """One server, which forgets everything when it ends."""

    def __init__(self, folder):
        self.url = f"http://127.0.0.1:{free_port()}"
        peers = f"http://127.0.0.1:{free_port()}"
        command = [PROGRAM, "--data-dir", str(folder), "--name", "one", "--initial-cluster", f"one={peers}"]
        command += ["--listen-client-urls", self.url, "--advertise-client-urls", self.url]
        command += ["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers]
        command += ["--logger", "zap", "--log-level", "error"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        wait.until(self._answers, "etcd answers", 60)

    def _answers(self):
        done = subprocess.run(
            ["curl", "--silent", "--fail", "--max-time", "2", f"{self.url}/health"], capture_output=True, check=False
        )
        return b'"true"' in done.stdout

    def get(self, key):
        """The value of a key, over its JSON gateway."""
        asked = json.dumps({"key": base64.b64encode(key.encode()).decode()}).encode()
        with urllib.request.urlopen(f"{self.url}/v3/kv/range", asked, timeout=10) as answer:
            (entry,) = json.load(answer)["kvs"]
        return base64.b64decode(entry["value"])

    def kill(self):
        """Ends it."""
        self.process.kill()
        self.process.wait(10)
