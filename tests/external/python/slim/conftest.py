"""Fixtures of the tests with slim-bindings. They run in a Python environment of their own; see requirements.txt."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness.gateway import ONE_CORE, Gateway, Gateways, core_lists  # noqa: E402
from harness.paths import GATEWAY  # noqa: E402

# In the environment of the other tests there is nothing to collect here.
collect_ignore_glob = [] if importlib.util.find_spec("slim_bindings") else ["test_*.py"]

if not collect_ignore_glob:
    sys.path.insert(0, str(Path(__file__).parent))

    from apps import Stage  # noqa: E402


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
    """This test's applications on `gateway`."""
    stage = Stage(gateway)
    yield stage
    stage.close()
    gateway.wait_for_stats(slim_connections=0, slim_subscriptions=0, slim_names=0, slim_queued_bytes=0)


@pytest.fixture
def make_stage():
    """Puts applications on a gateway: `make_stage(gateway)`."""
    stages = []

    def make(gateway):
        stages.append(Stage(gateway))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()


@pytest.fixture
def start_stage(start_gateway, make_stage):
    """Starts a gateway of this test's own with applications on it."""
    return lambda **options: make_stage(start_gateway(**options))
