"""What a gateway tells its operator: metrics by name and labels, streams of events, and a collector of OpenTelemetry."""

import contextlib
import http.client
import http.server
import json
import re
import threading

from harness.wait import DEADLINE_S

SAMPLE = re.compile(r"^(?P<name>[a-z_0-9]+)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)$")
LABEL = re.compile(r'([a-z_]+)="([^"]*)"')


class Metrics:
    """One scrape."""

    def __init__(self, text):
        self.samples = []
        for line in text.splitlines():
            if line and not line.startswith("#"):
                sample = SAMPLE.match(line)
                assert sample, f"no sample: {line!r}"
                self.samples.append((sample["name"], dict(LABEL.findall(sample["labels"] or "")), float(sample["value"])))

    def total(self, name, **labels):
        """The sum of a metric over all samples that have these labels."""
        wanted = labels.items()
        return sum(value for found, of, value in self.samples if found == name and wanted <= of.items())

    def grown(self, before, name, **labels):
        """How much it has grown since an earlier scrape."""
        return self.total(name, **labels) - before.total(name, **labels)


def scrape(gateway):
    """The metrics of a gateway."""
    status, text = gateway.get("/metrics")
    assert status == 200
    return Metrics(text)


def get_json(gateway, path):
    """An answer in JSON."""
    status, body = gateway.get(path)
    assert status == 200, f"{path}: {status}: {body}"
    return json.loads(body)


class Lines:
    """A stream of JSON lines, read as it comes."""

    def __init__(self, gateway, path):
        self._connection = http.client.HTTPConnection("127.0.0.1", gateway.http_port, timeout=DEADLINE_S)
        self._connection.request("GET", path)
        self.response = self._connection.getresponse()
        assert self.response.status == 200, self.response.read()

    def next(self):
        """The next line that says something."""
        while True:
            line = self.response.readline()
            assert line, "the stream ended"
            if line.strip():
                return json.loads(line)

    def until(self, done):
        """All lines up to the first that `done` likes, which is the last; what is told of the stream itself is left out."""
        lines = []
        for _ in range(10_000):
            line = self.next()
            if "message" in line:
                lines.append(line)
                if done(line):
                    return lines
        raise AssertionError(f"it never came: {lines[-3:]}")

    def close(self):
        """Goes away."""
        self._connection.close()


@contextlib.contextmanager
def lines(gateway, path):
    """An open stream; `Lines`."""
    stream = Lines(gateway, path)
    try:
        yield stream
    finally:
        stream.close()


class Collector:
    """Takes OTLP over HTTP, and keeps what it gets."""

    def __init__(self):
        self.got = {"/v1/metrics": [], "/v1/traces": []}
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.headers["content-type"] == "application/json"
                collector.got[self.path].append(json.loads(body))
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def spans(self):
        """All spans so far."""
        return [
            span
            for export in self.got["/v1/traces"]
            for resource in export["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    def metric(self, name):
        """The latest of a metric; None before the first."""
        for export in reversed(self.got["/v1/metrics"]):
            for resource in export["resourceMetrics"]:
                for scope in resource["scopeMetrics"]:
                    for metric in scope["metrics"]:
                        if metric["name"] == name:
                            return metric
        return None

    def close(self):
        """Takes nothing more."""
        self._server.shutdown()
