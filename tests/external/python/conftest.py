"""Fixtures: the gateways, and a scene for each test."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness.gateway import ONE_CORE, TWO_CORES, Gateway, Gateways  # noqa: E402
from harness.paths import GATEWAY  # noqa: E402
from harness.scene import Scene  # noqa: E402


def pytest_collection_modifyitems(items):
    """Where only one CPU is allowed, there are no two-core gateways to test."""
    if len(os.sched_getaffinity(0)) > 1:
        return
    for item in items:
        if item.get_closest_marker("two_cores"):
            item.add_marker(pytest.mark.skip(reason="one CPU allowed"))


@pytest.fixture(scope="session")
def gateways():
    """The gateways that tests share."""
    if not GATEWAY.exists():
        pytest.fail(f"{GATEWAY} is not there: cargo build --release -p ringgate-dataplane", pytrace=False)
    running = Gateways()
    yield running
    running.kill()


@pytest.fixture(params=[ONE_CORE, pytest.param(TWO_CORES, marks=pytest.mark.two_cores)], ids=["1core", "2cores"])
def gateway(request, gateways):
    """A shared gateway, with one core and with two. Every test must leave it alive and without residue."""
    gateway = gateways.shared(request.param)
    yield gateway
    assert gateway.is_alive(), f"the gateway ended with {gateway.process.returncode}:\n{gateway.output()[-4000:]}"
    gateway.wait_for_no_residue()


@pytest.fixture
def one_core(gateways):
    """A shared gateway with one core, for what does not depend on the number of cores."""
    gateway = gateways.shared(ONE_CORE)
    yield gateway
    assert gateway.is_alive(), f"the gateway ended with {gateway.process.returncode}:\n{gateway.output()[-4000:]}"
    gateway.wait_for_no_residue()


@pytest.fixture
def scene(gateway):
    """This test's agents, names and topics on `gateway`."""
    scene = Scene(gateway)
    yield scene
    scene.close()


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
def start_scene(start_gateway):
    """Starts a gateway of this test's own with a scene on it."""
    scenes = []

    def start(**options):
        scene = Scene(start_gateway(**options))
        scenes.append(scene)
        return scene

    yield start
    for scene in scenes:
        scene.close()
