"""Fixtures of the tests with agp-bindings. Each generation of the bindings has a Python environment of its own, as both have the
same package name; see requirements-*.txt."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness.gateway import ONE_CORE, Gateway, Gateways, core_lists  # noqa: E402
from harness.paths import GATEWAY  # noqa: E402

# In the environment of the other tests there is nothing to collect here.
collect_ignore_glob = [] if importlib.util.find_spec("agp_bindings") else ["test_*.py"]

if not collect_ignore_glob:
    sys.path.insert(0, str(Path(__file__).parent))

    from agents import Stage  # noqa: E402

NOTHING_LEFT = dict.fromkeys(("agp2025_connections", "agp2025_subscriptions", "agp2025_names", "agp2025_queued_bytes"), 0)


@pytest.fixture(scope="session")
def gateways():
    """The gateways that tests share."""
    if not GATEWAY.exists():
        pytest.fail(f"{GATEWAY} is not there: cargo build --release -p ringgate-dataplane", pytrace=False)
    running = Gateways()
    yield running
    running.kill()


@pytest.fixture(params=core_lists(), ids=lambda cores: f"{len(cores.split(','))}core")
def gateway(request, gateways):
    """A shared gateway. Every test must leave it alive and without residue."""
    gateway = gateways.shared(request.param)
    yield gateway
    assert gateway.is_alive(), f"the gateway ended with {gateway.process.returncode}:\n{gateway.output()[-4000:]}"


@pytest.fixture
def start_gateway():
    """Starts gateways of this test's own: `start_gateway(cores="0", settings={...}, arguments=[...])`."""
    started = []

    def start(cores=ONE_CORE, settings=None, arguments=()):
        gateway = Gateway(cores, settings, arguments)
        started.append(gateway)
        return gateway

    yield start
    for gateway in started:
        gateway.kill()


@pytest.fixture
def stage(gateway):
    """This test's agents on `gateway`. A test ends them itself, in the event loop they live in."""
    yield Stage(gateway)
    gateway.wait_for_stats(**NOTHING_LEFT)


def pytest_sessionfinish(session, exitstatus):
    """Remembers how it went."""
    session.config.stash[EXIT_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    """The bindings abort the process when the interpreter goes down, whatever was done before. So it does not go down."""
    if not collect_ignore_glob:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash.get(EXIT_STATUS, 1))


EXIT_STATUS = pytest.StashKey[int]()
