"""The dashboard of the control process, in a headless browser, over a gateway at work.

RINGGATE_SCREENSHOTS=FOLDER keeps what is on the screen.
"""

import contextlib
import http.client
import os
import threading
import time
from pathlib import Path

import pytest

from harness import wait
from harness.agent import NARROW
from harness.browser import PROGRAM, Browser
from harness.control import Control
from harness.gateway import free_port
from harness.protocol import pb
from test_attached import NOBODY_PUBLISHES_SECRETS, Site

SCREENSHOTS = os.environ.get("RINGGATE_SCREENSHOTS")
# A browser on a busy machine takes its time to start.
SLOW_S = 60

pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium: apt-get install chromium"),
    pytest.mark.timeout(240),
]


@pytest.fixture(scope="module")
def control(tmp_path_factory):
    """A control process with a dashboard."""
    folder = tmp_path_factory.mktemp("control")
    folder.chmod(0o700)
    control = Control(folder, http_port=free_port())
    control.start()
    yield control
    control.kill()


@pytest.fixture(scope="module")
def site(control, tmp_path_factory):
    """An attached gateway."""
    site = Site(control, tmp_path_factory.mktemp("site"))
    control.apply_policy(NOBODY_PUBLISHES_SECRETS)
    site.start({"observe.sample_one_in": 1})
    site.wait_until_attached()
    yield site
    site.gateway.kill()


class Life:
    """Agents that do something of everything until they are told to stop."""

    def __init__(self, site):
        self._over = threading.Event()
        self.planner = site.join("acme/travel/planner/1", capabilities=["itinerary"])
        self.weather = site.join("acme/sky/weather/1", capabilities=["forecast", "radar"])
        self.desk = site.join("acme/ops/desk/1", capabilities=["dashboard"])
        self.archive = site.join("acme/ops/archive/1", options=NARROW)
        self.desk.subscribe("fleet/**")
        self.archive.subscribe("fleet/**", policy=pb.DELIVERY_POLICY_DROP_OLDEST, queue_bytes=65536)
        self.archive.stop_reading()
        self.planner.publish("secret/plan", b"x")
        self._threads = [threading.Thread(target=work) for work in (self._publish, self._ask, self._answer, self._read)]
        for thread in self._threads:
            thread.start()

    def _publish(self):
        while not self._over.wait(0.02):
            for number in range(5):
                self.weather.publish(f"fleet/position/{number}", b"x" * 1000)

    def _ask(self):
        number = 0
        while not self._over.wait(0.05):
            headers = {"conversation-id": f"trip-{number // 10:03}"}
            self.planner.request(b"?", capability="forecast", headers=headers)
            self.planner.expect("deliver")
            number += 1

    def _answer(self):
        while not self._over.is_set():
            with contextlib.suppress(AssertionError):
                self.weather.respond(self.weather.expect("forward", timeout=0.2), b"!")

    def _read(self):
        while not self._over.is_set():
            with contextlib.suppress(AssertionError):
                self.desk.next(timeout=0.2)

    def end(self):
        """Ends all of it."""
        self._over.set()
        for thread in self._threads:
            thread.join(20)
        self.archive.read_on()
        for agent in (self.planner, self.weather, self.desk, self.archive):
            agent.close()


@pytest.fixture(scope="module")
def life(site):
    """Agents at work."""
    life = Life(site)
    yield life
    life.end()


@pytest.fixture
def browser():
    """A browser of this test's own."""
    browser = Browser()
    yield browser
    browser.close()


def keep(browser, name):
    """Keeps a screenshot where that is wanted."""
    if SCREENSHOTS:
        time.sleep(1.5)  # for the eye: let the page draw what was just chosen
        browser.screenshot(Path(SCREENSHOTS) / f"{name}.png")


def tile(name):
    """A script that answers the figure of a tile."""
    return (
        f"[...document.querySelectorAll('.tile')].find((tile) => tile.children[0].textContent === '{name}')"
        "?.children[1].textContent"
    )


def test_the_page_shows_a_gateway_at_work(control, site, life, browser):
    origin = f"http://127.0.0.1:{control.http_port}/"
    browser.prefer("light")
    browser.open(origin)
    browser.wait_for(f"({tile('Agents')}) === '4'", SLOW_S)
    browser.wait_for(f"parseFloat({tile('Published per second')}) > 0")
    browser.wait_for(f"parseFloat({tile('Dropped per second')}) > 0")
    assert browser.run("document.getElementById('state').textContent").startswith("attached")
    cores = len(site.gateway.cores.split(","))
    assert browser.run("document.querySelectorAll('.core').length") == cores
    browser.wait_for("document.getElementById('hops').innerText.includes('queued → on the wire')")
    browser.wait_for("document.getElementById('topics').innerText.includes('fleet/position/3')")
    browser.wait_for("document.getElementById('slow').innerText.includes('acme/ops/archive/1')")
    browser.wait_for("document.getElementById('agents').innerText.includes('radar')")
    browser.wait_for("document.getElementById('events').innerText.includes('PERMISSION_DENIED')")
    if SCREENSHOTS:
        time.sleep(20)  # for the eye: some past in the little curves
    keep(browser, "dashboard")

    filtered = "const f = document.getElementById('agent-filter'); f.value = 'FORECAST'; f.dispatchEvent(new Event('input'))"
    browser.run(filtered)
    assert browser.run("document.querySelectorAll('#agents tbody tr').length") == 1

    light = browser.run("getComputedStyle(document.body).backgroundColor")
    browser.prefer("dark")
    assert browser.run("getComputedStyle(document.body).backgroundColor") != light
    assert browser.troubles() == []
    assert {url for url in browser.asked() if not url.startswith(origin) and url != "about:blank"} == set()


def test_a_conversation_is_reached_by_keyboard(control, life, browser):
    browser.prefer("dark")
    browser.open(f"http://127.0.0.1:{control.http_port}/")
    browser.wait_for("document.querySelector('#conversations button') !== null", SLOW_S)
    for _ in range(60):
        browser.press("Tab")
        if browser.run("document.activeElement.matches('#conversations button')"):
            break
    else:
        raise AssertionError("no conversation is reached by Tab")
    name = browser.run("document.activeElement.textContent")
    outline = browser.run("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none", "who uses the keyboard must see where they are"
    browser.press("Enter")
    browser.wait_for(f"document.getElementById('timeline').innerText.includes({name!r} + ':')")
    text = browser.run("document.getElementById('timeline').innerText")
    assert "acme/travel/planner/1 → forecast" in text
    assert "response acme/sky/weather/1 → acme/travel/planner/1" in text and "answers" in text
    assert "on the wire to acme/sky/weather/1" in text
    browser.run("document.getElementById('talk').scrollIntoView()")
    keep(browser, "conversation")
    assert browser.troubles() == []


def test_what_the_page_may_do_is_bounded(control, site):
    def ask(path, host=None):
        connection = http.client.HTTPConnection("127.0.0.1", control.http_port, timeout=10)
        connection.request("GET", path, headers={"host": host} if host else {})
        response = connection.getresponse()
        response.read()
        connection.close()
        return response

    page = ask("/")
    assert page.status == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert ask("/", "evil.example").status == 421, "a name made to point here reads nothing"
    assert ask("/api/nodes", "evil.example").status == 421
    assert ask("/api/node/n1/corez").status == 200
    for path in ("/api/node/n1/stats", "/api/node/n1/..%2fmetrics", "/api/node/nobody/corez", "/etc/passwd"):
        assert ask(path).status == 404, path
    assert ask("/healthz").status == ask("/readyz").status == 200


def test_who_looks_shows_the_token_which_data_planes_are_shown_too(tmp_path):
    secret = "kZ3vW8q1nR5tY7uB2cX9mL4p"
    (tmp_path / "token").write_text(secret)
    (tmp_path / "control").mkdir(mode=0o700)
    (tmp_path / "site").mkdir()
    control = Control(tmp_path / "control", {"http_token": tmp_path / "token"}, http_port=free_port())
    control.start()
    site = Site(control, tmp_path / "site")

    def ask(path, shown=None):
        connection = http.client.HTTPConnection("127.0.0.1", control.http_port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"authorization": f"Bearer {shown}"} if shown else {})
            return connection.getresponse().status

    try:
        site.start({"http_token": tmp_path / "token"})
        wait.until(lambda: ask("/api/node/n1/corez", secret) == 200, lambda: site.gateway.output()[-3000:], SLOW_S)
        for path in ("/", "/main.js", "/api/nodes", "/api/node/n1/corez"):
            assert ask(path) == ask(path, secret[:-1]) == 401, path
            assert ask(path, secret) == 200, path
        assert ask("/healthz") == ask("/readyz") == 200
    finally:
        if site.gateway is not None:
            site.gateway.kill()
        control.kill()
