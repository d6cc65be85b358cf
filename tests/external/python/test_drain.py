"""SIGTERM: agents are told, finish what they do, and the process ends; a second signal ends it at once."""

import signal
import socket

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from harness.agent import connect
from harness.settings import DRAIN_DEADLINE_MS


def test_drain_lets_agents_finish(start_scene):
    scene = start_scene(cores="0,1", settings={DRAIN_DEADLINE_MS: 30_000})
    alice, bob = scene.agent("alice"), scene.agent("bob")
    id = alice.request(agent=bob.name)
    forward = bob.expect("forward")
    scene.gateway.terminate()
    for agent in (alice, bob):
        drain = agent.expect("drain")
        assert drain.deadline_ms > 0
    bob.respond(forward, b"done in time")
    assert alice.expect("deliver", id=id).payload == b"done in time"
    for agent in (alice, bob):
        agent.half_close()
    for agent in (alice, bob):
        assert agent.wait_for_end()[0] == grpc.StatusCode.OK
    assert scene.gateway.wait_for_exit() == 0  # long before the deadline: nobody is left


def test_idle_gateway_ends_at_once(start_gateway):
    gateway = start_gateway()
    gateway.terminate()
    assert gateway.wait_for_exit() == 0


def test_interrupt_drains_as_well(start_gateway):
    gateway = start_gateway()
    gateway.process.send_signal(signal.SIGINT)
    assert gateway.wait_for_exit() == 0


def test_agents_that_stay_are_ended_at_the_deadline(start_scene):
    scene = start_scene(settings={DRAIN_DEADLINE_MS: 300})
    alice = scene.agent("alice")
    scene.gateway.terminate()
    alice.expect("drain")
    status, _ = alice.wait_for_end()
    assert status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK)
    assert scene.gateway.wait_for_exit() == 0


def test_second_signal_ends_at_once(start_scene):
    scene = start_scene(settings={DRAIN_DEADLINE_MS: 600_000})
    alice = scene.agent("alice")
    scene.gateway.terminate()
    alice.expect("drain")
    assert scene.gateway.is_alive()
    scene.gateway.terminate()
    scene.gateway.wait_for_exit()
    alice.wait_for_end()


def test_no_new_connections_while_draining(start_scene):
    scene = start_scene(settings={DRAIN_DEADLINE_MS: 30_000})
    alice = scene.agent("alice")
    scene.gateway.terminate()
    alice.expect("drain")
    late = connect(scene.gateway.address)
    with pytest.raises(grpc.RpcError) as error:
        health_pb2_grpc.HealthStub(late).Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    alice.round_trip()  # the old one works on


def test_health_says_not_serving_while_draining(start_scene):
    scene = start_scene(settings={DRAIN_DEADLINE_MS: 30_000})
    alice = scene.agent("alice")
    with connect(scene.gateway.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=30)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        scene.gateway.terminate()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        alice.expect("drain")
        assert scene.gateway.get("/readyz")[0] == 503
        assert scene.gateway.get("/healthz")[0] == 200


def test_the_port_is_free_after_the_end(start_gateway):
    gateway = start_gateway()
    gateway.terminate()
    gateway.wait_for_exit()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", gateway.port))
