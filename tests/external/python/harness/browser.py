"""A headless Chromium, driven over its own protocol (Chrome DevTools Protocol) through a pipe: nothing has to be installed beside it."""

import base64
import fcntl
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time

from harness.wait import DEADLINE_S

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe", "--hide-scrollbars",
         "--no-first-run", "--disable-background-networking", "--disable-component-update")  # fmt: skip
LAPTOP = (1366, 768)


class Browser:
    """One page in one browser."""

    def __init__(self, size=LAPTOP):
        self._folder = tempfile.TemporaryDirectory(prefix="ringgate-browser-", ignore_cleanup_errors=True)
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        # The browser reads from descriptor 3 and writes to 4. A shell puts them there, since a process with threads of gRPC must not
        # fork; out of the way first, as they could be each other's.
        reads, writes = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out))
        command = ["bash", "-c", f'exec "$0" "$@" 3<&{reads} 4>&{writes}', PROGRAM, *FLAGS]
        command += [f"--window-size={size[0]},{size[1]}", f"--user-data-dir={self._folder.name}", "about:blank"]
        self._log = tempfile.TemporaryFile("w+", prefix="ringgate-browser-log-")
        self.process = subprocess.Popen(
            command, pass_fds=(reads, writes), stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        for end in (theirs_in, theirs_out, reads, writes):
            os.close(end)
        self._in, self._out = os.fdopen(ours_in, "rb"), os.fdopen(ours_out, "wb")
        self._numbers = itertools.count(1)
        self.said = []
        target = next(one for one in self._call("Target.getTargets")["targetInfos"] if one["type"] == "page")
        attached = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False)

    def _call(self, method, session=None, **parameters):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self._out.write(json.dumps(message).encode() + b"\0")
        self._out.flush()
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.said.append(answer)

    def _read(self):
        text = bytearray()
        while (byte := self._in.read(1)) != b"\0":
            assert byte, f"the browser ended: {self.output()}"
            text += byte
        return json.loads(text)

    def call(self, method, **parameters):
        """One command to the page."""
        return self._call(method, self._session, **parameters)

    def open(self, url):
        """Goes to a page."""
        self.call("Page.navigate", url=url)

    def run(self, script):
        """What a script in the page answers."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, script, deadline_s=DEADLINE_S):
        """What a script answers as soon as that is something true."""
        end = time.monotonic() + deadline_s
        while not (answer := self.run(script)):
            assert time.monotonic() < end, f"never true: {script}; the page says: {self.text()[:1500]}"
            time.sleep(0.05)
        return answer

    def text(self):
        """What a reader sees."""
        return self.run("document.body.innerText")

    def press(self, key, code=None):
        """One key."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=code or key, windowsVirtualKeyCode={"Tab": 9, "Enter": 13}[key], **text)

    def prefer(self, scheme):
        """`light` or `dark`."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path):
        """What is on the screen, as PNG."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=False)["data"]
        path.write_bytes(base64.b64decode(data))

    def troubles(self):
        """Errors of scripts, of the console and of the page's policy; and addresses that were asked, apart from this page's own."""
        self.run("1")
        found = []
        for message in self.said:
            method, parameters = message.get("method"), message.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(parameters["exceptionDetails"])
            if method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
                found.append(parameters["entry"])
        return found

    def asked(self):
        """Addresses that the page asked."""
        requests = (message for message in self.said if message.get("method") == "Network.requestWillBeSent")
        return {message["params"]["request"]["url"] for message in requests}

    def output(self):
        """What the browser has printed so far."""
        self._log.seek(0)
        return self._log.read()

    def close(self):
        """Ends it."""
        self.process.kill()
        self.process.wait(10)
        self._in.close()
        self._out.close()
        self._folder.cleanup()
