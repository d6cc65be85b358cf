"""A gateway attached to a control process: it enrols, obeys, goes on alone, and comes back."""

import contextlib
import json
import os
import secrets
import ssl
import time

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from harness import wait
from harness.agent import CHANNEL_OPTIONS, Agent, Ended
from harness.control import Control, Refused
from harness.dpop import decoded, encoded, proof, signed
from harness.gateway import Gateway
from harness.http2 import NO_ERROR, Connection
from harness.identity import private_pem
from harness.mls import SealedAgent, seal
from harness.protocol import OPEN_PATH, pb

NOBODY_PUBLISHES_SECRETS = """
@id("all") permit(principal, action, resource);
@id("secret") forbid(principal, action, resource in Topic::"secret");
"""
EVERYTHING = '@id("all") permit(principal, action, resource);'
# What "within a second" is tested with: the bound that a test fails at, on any machine.
SOON_S = 10


@pytest.fixture
def control(tmp_path):
    """A control process of this test's own."""
    folder = tmp_path / "control"
    folder.mkdir(mode=0o700)
    control = Control(folder)
    control.start()
    yield control
    control.kill()


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

    def idle(self, name):
        """A connection of an agent that says nothing after its preface."""
        connection = Connection(self.gateway.address, tls=self.tls(name))
        connection.handshake()
        connection.ping_pong()
        return connection

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


@pytest.fixture
def site(control, tmp_path):
    """An attached gateway."""
    folder = tmp_path / "site"
    folder.mkdir()
    site = Site(control, folder)
    site.start()
    site.wait_until_attached()
    yield site
    assert site.gateway.is_alive(), site.gateway.output()[-4000:]
    site.gateway.kill()


def test_enrolled_agents_reach_each_other_and_are_listed(site):
    alice = site.join("acme/demo/alice/1", capabilities=["talk"])
    bob = site.join("acme/demo/bob/1")
    bob.subscribe("t/**")
    alice.publish("t/x", b"hello")
    assert bob.expect_next("notify").source == "acme/demo/alice/1"
    wait.until(lambda: {alice.name, bob.name} <= set(site.control.agents()), "both are listed", 30)
    assert list(site.control.agents()[alice.name].capabilities) == ["talk"]
    alice.close()
    wait.until(lambda: alice.name not in site.control.agents(), "one has left", 30)
    bob.close()


def test_a_revoked_agent_is_ended_and_cannot_come_back(site):
    alice = site.join("acme/demo/alice/1")
    bob = site.join("acme/demo/bob/1")
    site.control.revoke("acme/demo/alice/1")
    code, text = alice.wait_for_end(SOON_S)
    assert code == grpc.StatusCode.UNAUTHENTICATED and text.startswith("REVOKED")
    again = site.open(site.credential("acme/demo/alice/1"))
    code, _ = again.wait_for_end()
    assert code == grpc.StatusCode.UNAVAILABLE, "the handshake is refused"
    bob.round_trip()
    wait.until(lambda: "event/REVOKED_CONN_CLOSED" in site.control.audited(), lambda: str(site.control.audited()), 30)
    for agent in (alice, again, bob):
        agent.close()


def test_connections_of_the_revoked_are_closed_and_no_others(site):
    lost, kept = (site.idle(f"acme/demo/{name}/1") for name in ("lost", "kept"))
    with contextlib.closing(lost), contextlib.closing(kept):
        site.control.revoke("acme/demo/lost/1")
        assert lost.wait_for_goaway() == NO_ERROR
        kept.ping_pong()


def test_a_nodes_certificates_are_renewed_while_it_runs(control, tmp_path):
    # A minute is the shortest life: two thirds of it, and of the half minute that it is dated back, are over in 30 s.
    control.kill()
    control.settings["identity.leaf_ttl_seconds"] = 60
    control.start()
    folder = tmp_path / "site"
    folder.mkdir()
    site = Site(control, folder)
    site.start()
    site.wait_until_attached()
    agent = site.join("acme/demo/alice/1")
    files = [folder / "node" / name for name in ("credential.pem", "serving.pem")]
    before, shown = [file.read_bytes() for file in files], site.presented()
    wait.until(lambda: site.presented() != shown, lambda: site.gateway.output()[-3000:], 90)
    assert all(file.read_bytes() != old for file, old in zip(files, before, strict=True))
    agent.round_trip()
    site.join("acme/demo/bob/1").close()
    agent.close()
    site.gateway.kill()


def test_a_change_of_policy_ends_just_what_it_takes_and_gives_at_once(site):
    agent = site.join("acme/demo/alice/1")
    kept = agent.subscribe("open/x")
    lost = agent.subscribe("secret/x")
    site.control.apply_policy(NOBODY_PUBLISHES_SECRETS)
    error = agent.expect("error", id=lost)
    assert error.code == pb.CODE_PERMISSION_DENIED and "secret/x" in error.message
    agent.publish("open/x", b"still")
    assert agent.expect("notify").payload == seal(b"still")
    agent.send(publish=pb.Publish(topic="secret/x", payload=seal(), id=9000))
    agent.expect_error(9000, pb.CODE_PERMISSION_DENIED)

    version = site.link()["version"]
    site.control.apply_policy(EVERYTHING)
    wait.until(lambda: site.link()["version"] > version, lambda: str(site.link()))
    assert agent.publish_acked("secret/x") == 0
    assert agent.subscribe("secret/x") != kept
    agent.close()


def test_a_bad_policy_is_refused_and_changes_nothing(site):
    agent = site.join("acme/demo/alice/1")
    with pytest.raises(Refused) as refused:
        site.control.apply_policy("permit(principal, action, resource);\npermit(nobody);\n")
    assert "2:" in str(refused.value)
    agent.round_trip()
    agent.close()


def test_without_the_control_process_everything_goes_on(site):
    alice = site.join("acme/demo/alice/1")
    bob = site.credential("acme/demo/bob/1")
    site.control.kill()
    wait.until(lambda: not site.link()["attached"], lambda: str(site.link()), 60)
    alice.round_trip()
    joined = site.join("acme/demo/bob/1")
    assert bob and joined.registered
    site.control.start()
    site.wait_until_attached()
    wait.until(lambda: {alice.name, joined.name} <= set(site.control.agents()), "both are listed", 30)
    alice.round_trip()
    for agent in (alice, joined):
        agent.close()


def test_it_starts_on_what_it_was_told_last(site):
    site.control.apply_policy(NOBODY_PUBLISHES_SECRETS)
    credential = site.credential("acme/demo/alice/1")
    mallory = site.credential("acme/demo/mallory/1")
    before = site.link()["version"]
    site.control.revoke("acme/demo/mallory/1")
    version = wait.until(lambda: site.link()["version"] > before and site.link()["version"], "the revocation is told")
    site.gateway.kill()
    site.control.kill()
    site.start()
    assert credential and site.link() == {"attached": False, "version": version, "rejected": 0}
    alice = site.join("acme/demo/alice/1")
    alice.send(publish=pb.Publish(topic="secret/x", payload=seal(), id=1))
    alice.expect_error(1, pb.CODE_PERMISSION_DENIED)
    revoked = site.open(mallory)
    assert revoked.wait_for_end()[0] == grpc.StatusCode.UNAVAILABLE, "the handshake is refused"
    for agent in (alice, revoked):
        agent.close()
    site.control.start()
    site.wait_until_attached()


def test_settings_that_reload_take_effect_and_others_are_told(site):
    agent = site.join("acme/demo/alice/1")
    version = site.link()["version"]
    site.control.apply_config("[limits]\nsubscriptions_max = 1\n[cores]\nspin_us = 1\n")
    wait.until(lambda: site.link()["version"] > version, lambda: str(site.link()))
    agent.subscribe("one")
    agent.send(subscribe=pb.Subscribe(id=7777, pattern="two"))
    agent.expect_error(7777, pb.CODE_RESOURCE_EXHAUSTED)
    output = site.gateway.output()
    assert "cores.spin_us" in output and "needs a restart" in output
    agent.close()


@pytest.fixture
def bearer(site, tmp_path):
    """(name, token, key) of an agent that has a token."""
    credential = site.credential("acme/demo/bearer/1")
    return "acme/demo/bearer/1", site.control.token(credential, tmp_path), credential[1]


def authorized(token, shown=None):
    """Metadata of a call."""
    return [("authorization", f"DPoP {token}")] + ([("dpop", shown)] if shown else [])


def test_a_token_with_a_proof_is_as_good_as_a_certificate(site, bearer):
    name, token, key = bearer
    agent = site.open(metadata=authorized(token, proof(key, token, site.uri)))
    agent.send(register=pb.Register(name=name))
    assert agent.expect("registered").name == name
    agent.round_trip()
    agent.close()
    inside = site.open()
    inside.send(register=pb.Register(name=name, token=token, proof=proof(key, token, site.uri).encode()))
    assert inside.expect("registered").name == name
    site.control.revoke(name)
    code, text = inside.wait_for_end(SOON_S)
    assert code == grpc.StatusCode.UNAUTHENTICATED and text.startswith("REVOKED")
    inside.close()


def test_a_token_bears_only_its_name(site, bearer):
    _, token, key = bearer
    agent = site.open(metadata=authorized(token, proof(key, token, site.uri)))
    agent.send(register=pb.Register(name="acme/demo/other/1"))
    assert agent.wait_for_end()[0] == grpc.StatusCode.PERMISSION_DENIED
    agent.close()


def test_a_proof_is_good_once_on_all_cores(site, bearer):
    name, token, key = bearer
    once = proof(key, token, site.uri)
    first = site.open(metadata=authorized(token, once))
    first.send(register=pb.Register(name=name))
    first.expect("registered")
    first.close()
    # The kernel spreads connections over the cores.
    for _ in range(8):
        again = site.open(metadata=authorized(token, once))
        again.send(register=pb.Register(name=name))
        code, text = again.wait_for_end()
        assert code == grpc.StatusCode.UNAUTHENTICATED and text.startswith("PROOF_REPLAYED")
        again.close()


def test_each_wrong_proof_is_refused_with_its_reason(site, bearer):
    _, token, key = bearer
    stranger = private_pem(ed25519.Ed25519PrivateKey.generate())
    wrong = {
        "PROOF_MISSING": authorized(token),
        "KEY_MISMATCH": authorized(token, proof(stranger, token, site.uri)),
        "PROOF_MISMATCH": authorized(token, proof(key, token, "https://elsewhere.example/x")),
        "PROOF_STALE": authorized(token, proof(key, token, site.uri, age_s=300)),
        "TOKEN_MALFORMED": authorized(token[:-9], proof(key, token, site.uri)),
    }
    reasons = {}
    for reason, metadata in wrong.items():
        agent = site.open(metadata=metadata)
        code, text = agent.wait_for_end()
        assert code == grpc.StatusCode.UNAUTHENTICATED
        reasons[reason] = text.split(":")[0]
        agent.close()
    # What is cut off a token is its signature.
    assert reasons.pop("TOKEN_MALFORMED") in ("TOKEN_MALFORMED", "TOKEN_SIGNATURE")
    assert all(told == reason for reason, told in reasons.items()), reasons


def refused_by(site, metadata):
    """The reason that a stream with this metadata is refused for."""
    agent = site.open(metadata=metadata)
    code, text = agent.wait_for_end()
    agent.close()
    assert code == grpc.StatusCode.UNAUTHENTICATED, text
    return text.split(":")[0]


def test_a_token_that_is_over_is_refused(site, tmp_path):
    credential = site.credential("acme/demo/short/1")
    token = site.control.token(credential, tmp_path, ttl_seconds=1)

    def refusal():
        agent = site.open(metadata=authorized(token, proof(credential[1], token, site.uri)))
        agent.send(register=pb.Register(name="acme/demo/short/1"))
        try:
            agent.expect("registered")
            return None
        except Ended:
            return agent.call.details().split(":")[0]
        finally:
            agent.close()

    assert wait.until(refusal, "it is over") == "EXPIRED"


def test_a_revoked_token_is_refused(site, bearer):
    name, token, key = bearer
    version = site.link()["version"]
    site.control.revoke(name)
    wait.until(lambda: site.link()["version"] > version, lambda: str(site.link()))
    assert refused_by(site, authorized(token, proof(key, token, site.uri))) == "REVOKED"


def test_a_token_of_another_authority_is_refused(site, bearer):
    _, token, key = bearer
    now = int(time.time())
    uri = "agp://ringgate.local/acme/demo/bearer/1"
    claims = json.loads(decoded(token.split(".")[1]))
    claims |= {"sub": uri, "client_id": uri, "jti": encoded(secrets.token_bytes(16)), "iat": now, "exp": now + 60}
    header = json.loads(decoded(token.split(".")[0]))
    forged = signed(key, header, claims)
    assert refused_by(site, authorized(forged, proof(key, forged, site.uri))) == "TOKEN_SIGNATURE"
