"""A gateway attached to a control process, and agents that reach it."""

import contextlib
import json
import os
import ssl

import grpc

from harness import wait
from harness.agent import CHANNEL_OPTIONS
from harness.dpop import proof
from harness.gateway import Gateway
from harness.http2 import Connection
from harness.mls import SealedAgent
from harness.protocol import OPEN_PATH, grpc_frame, grpc_messages, pb

# What "within a second" is tested with: the bound that a test fails at, on any machine.
SOON_S = 10


def authorized(token, shown=None):
    """Metadata of a call that shows a bearer token, and a proof."""
    return [("authorization", f"DPoP {token}")] + ([("dpop", shown)] if shown else [])


class Site:
    """An attached gateway, and agents that reach it."""

    def __init__(self, control, folder):
        self.control = control
        self.folder = folder
        (folder / "join.token").write_text(control.join_token("node/n1", ["localhost", "127.0.0.1"]))
        self.gateway = None
        self._credentials = {}

    def start(self, settings=None):
        """Starts the gateway, on the state that it has."""
        arguments = ["--control", self.control.url, "--control-ca", self.control.ca, "--node", "n1"]
        arguments += ["--join-token", self.folder / "join.token", "--state-dir", self.folder / "node"]
        cores = "0,1" if len(os.sched_getaffinity(0)) > 1 else "0"
        self.gateway = Gateway(cores=cores, settings={"profile": "strict", **(settings or {})}, arguments=arguments)

    def credential(self, name):
        """Enrolled once."""
        if name not in self._credentials:
            self._credentials[name] = self.control.enrol(name)
        return self._credentials[name]

    def open(self, credential=(None, None), metadata=None, options=()):
        """A stream on which nothing was said yet."""
        chain, key = credential
        shown = grpc.ssl_channel_credentials(self.control.ca.read_bytes(), key, chain)
        channel = grpc.secure_channel(self.authority, shown, options=(*CHANNEL_OPTIONS, *options))
        return SealedAgent(channel, owns_channel=True, metadata=metadata)

    @property
    def authority(self):
        """As agents call it."""
        return f"localhost:{self.gateway.port}"

    @property
    def uri(self):
        """What proofs must be made for."""
        return f"https://{self.authority}{OPEN_PATH}"

    def tls(self, name=None):
        """As clients over OpenSSL, with an agent's credential or without."""
        context = ssl.create_default_context(cafile=self.control.ca)
        context.set_alpn_protocols(["h2"])
        if name is not None:
            for part, text in zip(("chain", "key"), self.credential(name), strict=True):
                (self.folder / part).write_bytes(text)
            context.load_cert_chain(self.folder / "chain", self.folder / "key")
        return context

    def idle(self, name=None):
        """A connection of an agent, or of nobody yet, that says nothing after its preface."""
        connection = Connection(self.gateway.address, tls=self.tls(name))
        connection.handshake()
        connection.ping_pong()
        return connection

    def show(self, connection, token, key, *, inside=False, register=None):
        """A stream, on a connection by hand, of who has a bearer token: its number. The token is shown by the call, or `inside` its
        Register; without a name to `register` nothing more is said."""
        shown = proof(key, token, self.uri)
        headers = {} if inside else dict(authorized(token, shown))
        stream = connection.post(OPEN_PATH, {":scheme": "https", ":authority": self.authority, **headers})
        if register is not None:
            more = {"token": token, "proof": shown.encode()} if inside else {}
            said = pb.AgentMessage(register=pb.Register(name=register, **more))
            connection.data(stream, grpc_frame(said))
            (told,) = grpc_messages(connection.wait_for_data(stream))
            assert pb.GatewayMessage.FromString(told).WhichOneof("body") == "registered"
        else:
            connection.ping_pong()
        return stream

    def presented(self):
        """The certificate that the gateway shows."""
        with contextlib.closing(Connection(self.gateway.address, tls=self.tls())) as connection:
            return connection.socket.getpeercert(binary_form=True)

    def join(self, name, options=(), **register):
        """A registered agent."""
        agent = self.open(self.credential(name), options=options)
        agent.name = name
        agent.send(register=pb.Register(name=name, **register))
        agent.registered = agent.expect("registered")
        return agent

    def link(self):
        """How the link stands, as /stats says."""
        return json.loads(self.gateway.get("/stats")[1])["control"]

    def wait_until_attached(self):
        """Returns when it is."""
        wait.until(lambda: self.link()["attached"], lambda: self.gateway.output()[-3000:], 30)
