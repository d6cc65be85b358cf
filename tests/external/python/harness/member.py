"""Members of MLS groups: the example `member` of the SDK, told what to do a line at a time."""

import collections
import json
import queue
import subprocess
import threading
import time

from harness import wait
from harness.paths import MEMBER


class Refused(Exception):
    """What it was told to do did not work."""


class Member:
    """One agent in a process of its own."""

    def __init__(self, name, *, url, control, ca, token, library="openmls"):
        assert MEMBER.exists(), f"{MEMBER} is not there: cargo build --release -p ringgate-client --example member"
        self.name = name
        self._next = 1
        self._told = collections.deque()
        self._lines = queue.SimpleQueue()
        command = [str(MEMBER), "--url", url, "--control", control, "--control-ca", str(ca)]
        command += ["--join-token", token, "--name", name, "--library", library]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True, name=f"reader of {name}").start()
        self.event("ready", deadline_s=60)

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put(None)

    def _first(self, matches, what, deadline_s):
        """The first thing that it said, or says by then, for which `matches` holds."""
        for said in self._told:
            if matches(said):
                self._told.remove(said)
                return said
        end = time.monotonic() + deadline_s
        while True:
            try:
                said = self._lines.get(timeout=max(end - time.monotonic(), 0))
            except queue.Empty:
                raise AssertionError(f"{self.name}: not within {deadline_s:g} s: {what}; unread: {self._told}") from None
            assert said is not None, f"{self.name} ended while this was awaited: {what}; unread: {self._told}"
            if matches(said):
                return said
            self._told.append(said)

    def begin(self, do, **arguments):
        """Tells it to do something; the number of the answer."""
        number, self._next = self._next, self._next + 1
        self.process.stdin.write(json.dumps({"id": number, "do": do, **arguments}) + "\n")
        self.process.stdin.flush()
        return number

    def answer(self, number, deadline_s=90):
        """The answer with a number."""
        answer = self._first(lambda said: said.get("re") == number, f"the answer {number}", deadline_s)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer

    def do(self, do, *, deadline_s=90, **arguments):
        """Tells it to do something, and waits until it is done."""
        return self.answer(self.begin(do, **arguments), deadline_s)

    def event(self, kind, deadline_s=3 * wait.DEADLINE_S, **fields):
        """The next event of a kind with these fields."""

        def matches(said):
            return said.get("event") == kind and all(said.get(name) == value for name, value in fields.items())

        return self._first(matches, f"{kind} with {fields}", deadline_s)

    @property
    def unread(self):
        """What it said and nobody asked for."""
        while True:
            try:
                self._told.append(self._lines.get_nowait())
            except queue.Empty:
                return list(self._told)

    def close(self):
        """Ends it."""
        self.process.stdin.close()
        try:
            self.process.wait(wait.DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
