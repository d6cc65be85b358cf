"""Nodes that know each other by certificates of one control process."""

import contextlib
import json

import grpc
import pytest
from harness import wait
from harness.agent import CHANNEL_OPTIONS
from harness.control import Control
from harness.gateway import Gateway
from harness.mls import SealedAgent, seal
from harness.protocol import pb

SOON_S = 30


class Members:
    """Attached gateways, and agents that reach them."""

    def __init__(self, stack, control, folder):
        self._stack = stack
        self.control = control
        self._folder = folder
        self.nodes = {}

    def start(self, name, neighbours=(), port=None):
        """Starts a node, enrolled as `node/<name>`."""
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        (folder / "join.token").write_text(self.control.join_token(f"node/{name}", ["localhost", "127.0.0.1"]))
        arguments = ["--control", self.control.url, "--control-ca", self.control.ca, "--node", name]
        arguments += ["--join-token", folder / "join.token", "--state-dir", folder / "node"]
        settings = {"profile": "strict"}
        if neighbours:
            settings["neighbours"] = json.dumps([self.nodes[other].address for other in neighbours])
        node = Gateway(settings=settings, arguments=arguments, port=port)
        self._stack.callback(node.kill)
        self.nodes[name] = node
        return node

    def links(self, name):
        """What /linkz says."""
        return json.loads(self.nodes[name].get("/linkz")[1])["links"]

    def wait_for_links(self, *names):
        """Waits until each of these nodes has a link in use."""

        def linked():
            return all([row["status"] for row in self.links(name)] == ["active"] for name in names)

        wait.until(linked, lambda: {name: (self.links(name), self.nodes[name].output()[-2000:]) for name in names}, SOON_S)

    def agent(self, node, name):
        """An enrolled agent on a node."""
        chain, key = self.control.enrol(name)
        shown = grpc.ssl_channel_credentials(self.control.ca.read_bytes(), key, chain)
        channel = grpc.secure_channel(f"localhost:{self.nodes[node].port}", shown, options=CHANNEL_OPTIONS)
        self._stack.callback(channel.close)
        agent = SealedAgent(channel)
        agent.name = name
        agent.send(register=pb.Register(name=name))
        agent.registered = agent.expect("registered")
        return agent


@pytest.fixture
def members(tmp_path):
    """A control process, and no node yet."""
    folder = tmp_path / "control"
    folder.mkdir(mode=0o700)
    control = Control(folder)
    control.start()
    with contextlib.ExitStack() as stack:
        stack.callback(control.kill)
        yield Members(stack, control, tmp_path)


def test_a_topic_spans_two_nodes_that_know_each_other_by_certificate(members):
    members.start("n1")
    members.start("n2", ["n1"])
    members.wait_for_links("n1", "n2")
    reader = members.agent("n1", "acme/demo/reader/1")
    writer = members.agent("n2", "acme/demo/writer/1")
    reader.subscribe("t/*")

    def arrived():
        writer.publish("t/x", b"hello")
        writer.round_trip()
        return reader.unread()

    wait.until(arrived, "the message crosses")
    notify = reader.expect("notify")
    assert (notify.source, notify.payload) == ("acme/demo/writer/1", seal(b"hello"))


def test_a_revoked_node_loses_its_links(members):
    members.start("n1")
    members.start("n2", ["n1"])
    members.wait_for_links("n1", "n2")
    members.control.revoke("node/n2")
    wait.until(lambda: not members.links("n1"), lambda: members.nodes["n1"].output()[-3000:], SOON_S)


def test_an_agent_is_no_node(members):
    node = members.start("n1")
    chain, key = members.control.enrol("acme/demo/alice/1")
    shown = grpc.ssl_channel_credentials(members.control.ca.read_bytes(), key, chain)
    with grpc.secure_channel(f"localhost:{node.port}", shown, options=CHANNEL_OPTIONS) as channel:
        link = channel.stream_stream("/agp.neighbour.v1.Neighbours/Link")
        with pytest.raises(grpc.RpcError) as refused:
            next(link(iter([b""]), timeout=wait.DEADLINE_S))
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert "NOT_A_NODE" in refused.value.details()
