"""An agent in a process of its own, brought into the middle of something so that it can be killed there.

Run as `python -m harness.victim ADDRESS NAMESPACE SITUATION`; says "ready" when it is where it should be. The peer is
the agent `acme/NAMESPACE/peer/1`, the topic is `NAMESPACE/feed`.
"""

import sys
import threading

from harness.agent import NARROW, Agent, connect
from harness.protocol import OPEN_PATH, grpc_frame, pb

SITUATIONS = {}


def situation(function):
    """Makes `function` a situation that can be asked for by its name."""
    SITUATIONS[function.__name__] = function
    return function


class Victim:
    """What the situations work with."""

    def __init__(self, address, namespace):
        self.address = address
        self.peer = pb.Target(agent=f"acme/{namespace}/peer/1")
        self.topic = f"{namespace}/feed"
        self.name = f"acme/{namespace}/victim/1"

    def agent(self, options=()):
        """The victim's session."""
        return Agent(connect(self.address, options), self.name)


@situation
def connected(victim):
    """Has registered."""
    victim.agent()


@situation
def subscribed(victim):
    """Holds many subscriptions, of every form."""
    agent = victim.agent()
    for number in range(50):
        agent.subscribe(f"{victim.topic}/{number}")
        agent.subscribe(f"{victim.topic}/*/{number}/**")
        agent.subscribe(f"{victim.topic}/{number}", group=f"group-{number}")


@situation
def stalled(victim):
    """Subscribes and does not read."""
    agent = victim.agent(NARROW)
    agent.subscribe(victim.topic, queue_bytes=256 * 1024)
    agent.stop_reading()


@situation
def grouped(victim):
    """Is a member of a queue group."""
    victim.agent().subscribe(victim.topic, group="workers")


@situation
def publishing(victim):
    """Publishes without end."""
    agent = victim.agent()
    agent.publish_acked(victim.topic, bytes(4))
    threading.Thread(target=publish_for_ever, args=(agent, victim.topic), daemon=True).start()


def publish_for_ever(agent, topic):
    """A number in each message, a round trip now and then so that the outbox stays small."""
    number = 1
    while True:
        agent.publish(topic, number.to_bytes(4, "big") + bytes(1000))
        number += 1
        if number % 200 == 0:
            agent.round_trip()


@situation
def requesting(victim):
    """Waits for the peer's answers."""
    agent = victim.agent()
    for number in range(20):
        agent.send(request=pb.Request(id=number + 1, target=victim.peer, timeout_ms=60_000))
    agent.round_trip()


@situation
def responding(victim):
    """Was asked and has not answered."""
    agent = victim.agent()
    say("registered")
    agent.expect("forward")


@situation
def streaming(victim):
    """Sends chunks on a stream it opened."""
    agent = victim.agent()
    agent.send(stream_open=pb.StreamOpen(stream=1, target=victim.peer, credit_bytes=1 << 20))
    credit = agent.expect("stream_credit").bytes
    for number in range(credit // 1000):
        agent.send(chunk=pb.Chunk(stream=1, sequence=number, payload=bytes(1000)))
    agent.round_trip()


@situation
def streamed_to(victim):
    """Has granted credit on a stream that the peer opened."""
    agent = victim.agent()
    say("registered")
    opened = agent.expect("stream_open")
    agent.send(stream_credit=pb.StreamCredit(stream=opened.stream, bytes=1 << 20))
    agent.expect("chunk")


@situation
def introducing(victim):
    """Waits for the peer to accept."""
    agent = victim.agent()
    agent.send(introduce=pb.Introduce(id=1, target=victim.peer, timeout_ms=60_000))
    agent.round_trip()


@situation
def introduced(victim):
    """Was introduced to and has not answered."""
    agent = victim.agent()
    say("registered")
    agent.expect("introduce")


@situation
def on_a_channel(victim):
    """Holds a channel with the peer."""
    agent = victim.agent()
    agent.send(introduce=pb.Introduce(id=1, target=victim.peer))
    agent.expect("connected")


@situation
def in_a_message(victim):
    """Has sent the half of a large message."""
    from harness.http2 import Connection

    connection = Connection(victim.address)
    connection.handshake()
    stream = connection.post(OPEN_PATH)
    connection.data(stream, grpc_frame(pb.AgentMessage(register=pb.Register(name=victim.name))))
    connection.wait_for_data(stream)
    publish = grpc_frame(pb.AgentMessage(publish=pb.Publish(topic=victim.topic, payload=bytes(500_000))))
    connection.data(stream, publish[:100_000])
    connection.ping_pong()
    victim.keep = connection


def say(word):
    """One line for the test."""
    print(word, flush=True)


def main():
    """Gets into the situation and stays there until killed, or until the test goes away."""
    address, namespace, name = sys.argv[1:]
    victim = Victim(address, namespace)
    SITUATIONS[name](victim)
    say("ready")
    sys.stdin.read()


if __name__ == "__main__":
    main()
