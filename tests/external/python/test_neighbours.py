"""Nodes that form one network: real processes, unmodified grpcio clients."""

import contextlib
import json
import subprocess

import pytest
from harness import wait
from harness.agent import Agent, connect
from harness.gateway import Gateway, core_lists
from harness.paths import CLI

# Links come back this fast after a restart: one pause between attempts, and the exchange.
SOON_S = 20


class Network:
    """Gateways by name, linked as told: {"a": ["b"]} is a node `a` that dials `b`."""

    def __init__(self, stack, cores):
        self._stack = stack
        self._cores = cores
        self.nodes = {}

    def start(self, name, neighbours=(), port=None):
        """Starts a node, linked to others that run."""
        settings = {"node": name}
        if neighbours:
            settings["neighbours"] = json.dumps([self.nodes[other].address for other in neighbours])
        return self.add(name, Gateway(self._cores, settings, port=port))

    def add(self, name, node):
        """Takes a running gateway in."""
        self._stack.callback(node.kill)
        self.nodes[name] = node
        return node

    def rows(self, name, what):
        """The rows of /linkz or /nodez."""
        status, body = self.nodes[name].get(f"/{what}z")
        assert status == 200, body
        return json.loads(body)[f"{what}s"]

    def reached(self, name):
        """Names of the nodes that a node reaches, itself included."""
        return sorted(row["node"] for row in self.rows(name, "node") if row["cost"] is not None)

    def wait_for(self, *names):
        """Waits until these nodes, and no others, reach each other."""

        def together():
            return all(self.reached(name) == sorted(names) for name in names)

        wait.until(together, lambda: f"{names} reach each other: { {n: self.rows(n, 'node') for n in names} }", SOON_S)

    def agent(self, node, name):
        """An agent on a node."""
        channel = connect(self.nodes[node].address)
        agent = Agent(channel, name, owns_channel=True)
        self._stack.callback(channel.close)
        return agent


@pytest.fixture(params=core_lists())
def network(request):
    """An empty network of nodes with so many cores."""
    with contextlib.ExitStack() as stack:
        yield Network(stack, request.param)


def heard(agent, publisher, topic, what=b"ping"):
    """Publishes until the subscriber hears it: its interest is on the way. Returns what it heard."""

    def arrived():
        publisher.publish(topic, what)
        publisher.round_trip()
        notifies = [message.notify for message in agent.unread() if message.WhichOneof("body") == "notify"]
        return next((one for one in notifies if (one.topic, one.payload) == (topic, what)), None)

    return wait.until(arrived, lambda: f"{agent.name} hears {topic}; unread: {agent.unread()}")


def test_a_topic_spans_two_nodes(network):
    network.start("a")
    network.start("b", ["a"])
    network.wait_for("a", "b")
    subscriber = network.agent("a", "acme/demo/reader/1")
    publisher = network.agent("b", "acme/demo/writer/1")
    subscriber.subscribe("weather/*")
    first = heard(subscriber, publisher, "weather/oslo")
    assert (first.topic, first.payload, first.source) == ("weather/oslo", b"ping", "acme/demo/writer/1")
    # And the other way round.
    publisher.subscribe("back/**")
    assert heard(publisher, subscriber, "back/again/1").source == "acme/demo/reader/1"


def test_order_and_numbers_hold_across_three_nodes(network):
    network.start("a")
    network.start("b", ["a"])
    network.start("c", ["b"])
    network.wait_for("a", "b", "c")
    ends = [network.agent("c", f"acme/demo/reader/{n}") for n in range(5)]
    middle = network.agent("b", "acme/demo/reader/middle")
    publisher = network.agent("a", "acme/demo/writer/1")
    for subscriber in [*ends, middle]:
        subscriber.subscribe("t", queue_bytes=1 << 20)
    for subscriber in [*ends, middle]:
        heard(subscriber, publisher, "t", b"")
    publisher.round_trip()
    for n in range(1000):
        publisher.publish("t", b"%d" % n)
    for subscriber in [*ends, middle]:
        wanted, sequence = 0, 0
        while wanted < 1000:
            notify = subscriber.expect("notify")
            assert notify.sequence > sequence
            sequence = notify.sequence
            if notify.payload:
                assert notify.payload == b"%d" % wanted
                wanted += 1
    # Five subscribers behind the last link, and each message crossed it once.
    through = {row["node"]: row["through"] for row in network.rows("a", "node")}
    assert through == {"a": None, "b": "b", "c": "b"}


def test_a_node_that_is_killed_is_lost_and_found_again(network):
    network.start("a")
    lost = network.start("b", ["a"])
    network.start("c", ["b"])
    network.wait_for("a", "b", "c")
    subscriber = network.agent("c", "acme/demo/reader/1")
    publisher = network.agent("a", "acme/demo/writer/1")
    subscriber.subscribe("t")
    heard(subscriber, publisher, "t")
    lost.kill()
    network.wait_for("a")
    assert [row["status"] for row in network.rows("c", "link")] == ["error"]
    network.start("b", ["a"], port=lost.port)
    network.wait_for("a", "b", "c")
    heard(subscriber, publisher, "t", b"again")


def test_no_interest_is_left_behind(network):
    network.start("a")
    network.start("b", ["a"])
    network.wait_for("a", "b")
    subscriber = network.agent("a", "acme/demo/reader/1")
    publisher = network.agent("b", "acme/demo/writer/1")
    subscriber.subscribe("t")
    heard(subscriber, publisher, "t")
    subscriber.close()

    def forgotten():
        return publisher.publish_acked("t") == 0

    wait.until(forgotten, lambda: "nobody wants the topic any more")
    wants = {row["node"]: row["wants"] for row in network.rows("b", "node")}
    assert wants == {"a": 0, "b": 0}


def test_two_nodes_that_dial_each_other_keep_one_link(network):
    early = network.start("a")
    network.start("b", ["a"])
    early.kill()
    network.start("a", ["b"], port=early.port)
    network.wait_for("a", "b")

    def one():
        links = [network.rows(name, "link") for name in ("a", "b")]
        return all(len(rows) == 1 and rows[0]["status"] == "active" for rows in links)

    wait.until(one, lambda: [network.rows(name, "link") for name in ("a", "b")])


def test_a_node_of_the_same_name_is_refused(network):
    network.start("a")
    twin = network.start("a", ["a"])
    wait.until(lambda: "leads to this node itself" in twin.output(), twin.output)


def test_what_a_burst_loses_is_told_exactly(network):
    """A burst that may be too much for the link: what is not delivered is told, exactly."""
    network.start("a")
    network.start("b", ["a"])
    network.wait_for("a", "b")
    subscriber = network.agent("a", "acme/demo/reader/1")
    publisher = network.agent("b", "acme/demo/writer/1")
    subscriber.subscribe("t", queue_bytes=1 << 20)
    heard(subscriber, publisher, "t", b"first")
    before = publisher.publish_acked("t", b"mark")
    assert before == 1
    subscriber.expect("notify", payload=b"mark")
    count = 20_000
    for n in range(count):
        publisher.publish("t", b"%08d" % n)
    publisher.publish("t", b"last")
    seen = lost = 0
    while True:
        message = subscriber.next()
        kind = message.WhichOneof("body")
        if kind == "gap":
            lost += message.gap.dropped
        elif kind == "notify":
            if message.notify.payload == b"last":
                break
            if message.notify.payload == b"first":
                continue
            assert int(message.notify.payload) == seen + lost
            seen += 1
    assert seen + lost == count


def test_commands_show_links_and_routes(network):
    network.start("a")
    network.start("b", ["a"])
    network.start("c", ["b"])
    network.wait_for("a", "b", "c")

    def ringgate(command):
        asked = [CLI, "--json", command, "--http", f"127.0.0.1:{network.nodes['c'].http_port}"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert [(link["node"], link["status"]) for link in ringgate("links")] == [("b", "active")]
    routes = {row["node"]: (row["cost"], row["through"], row["links"]) for row in ringgate("routes")}
    assert routes == {"a": (2, "b", "b"), "b": (1, "b", "a c"), "c": (0, None, "b")}
