"""A gateway attached to a control process: it enrols, obeys, goes on alone, and comes back."""

import contextlib
import json
import secrets
import time

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from harness import wait
from harness.agent import Ended
from harness.control import Control, Refused, identity, policy
from harness.dpop import decoded, encoded, proof, signed
from harness.http2 import NO_ERROR
from harness.identity import private_pem
from harness.mls import seal
from harness.protocol import pb
from harness.site import SOON_S, Site, authorized

NOBODY_PUBLISHES_SECRETS = """
@id("all") permit(principal, action, resource);
@id("secret") forbid(principal, action, resource in Topic::"secret");
"""
NO_STREAMS = '@id("no-streams") forbid(principal, action == Action::"stream", resource);\n'
EVERYTHING = '@id("all") permit(principal, action, resource);'


@pytest.fixture
def control(tmp_path):
    """A control process of this test's own."""
    folder = tmp_path / "control"
    folder.mkdir(mode=0o700)
    control = Control(folder)
    control.start()
    yield control
    control.kill()


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
    wait.until(lambda: ended(site, "acme/demo/lost/1"), "who was never a session is told of too", 30)
    assert not ended(site, "acme/demo/kept/1")


def ended(site, name):
    """What the audit log says of the end of somebody's connections and streams."""
    uri = f"agp://ringgate.local/{name}"
    entries = site.control.audit_entries()
    return [entry.detail for entry in entries if (entry.action, entry.actor) == ("event/REVOKED_CONN_CLOSED", uri)]


@pytest.fixture
def token_of(site, tmp_path):
    """(token, key) of an agent."""

    def issue(name):
        credential = site.credential(name)
        return site.control.token(credential, tmp_path), credential[1]

    return issue


@pytest.mark.parametrize("how", ["by its call", "in Register", "before Register"])
def test_connections_by_token_alone_are_closed_when_it_is_revoked(site, token_of, how):
    lost, kept = (f"acme/demo/{name}/1" for name in ("lost", "kept"))
    with contextlib.closing(site.idle()) as ends, contextlib.closing(site.idle()) as stays:
        register = None if how == "before Register" else lost
        stream = site.show(ends, *token_of(lost), inside=how == "in Register", register=register)
        site.show(stays, *token_of(kept), register=kept)
        site.control.revoke(lost)
        assert ends.wait_for_goaway() == NO_ERROR
        assert ends.responses[stream].trailers["grpc-message"].startswith("REVOKED")
        stays.ping_pong()
    wait.until(lambda: ended(site, lost), "it is in the audit log", 30)
    assert not ended(site, kept)


def test_a_connection_that_several_tokens_share_ends_with_the_last_of_them(site, token_of):
    first, second = (f"acme/demo/{name}/1" for name in ("first", "second"))
    with contextlib.closing(site.idle()) as shared:
        streams = [site.show(shared, *token_of(name), register=name) for name in (first, second)]
        site.control.revoke(first)
        response = shared.wait_for_response(streams[0])
        assert response.trailers["grpc-message"].startswith("REVOKED")
        shared.ping_pong()
        assert shared.goaway is None and not shared.responses[streams[1]].is_over
        site.control.revoke(second)
        assert shared.wait_for_goaway() == NO_ERROR
        assert shared.responses[streams[1]].trailers["grpc-message"].startswith("REVOKED")


def test_a_connection_ends_with_the_only_token_on_it(site, tmp_path):
    name = "acme/demo/short/1"
    credential = site.credential(name)
    with contextlib.closing(site.idle()) as connection:
        token = site.control.token(credential, tmp_path, ttl_seconds=3)
        stream = site.show(connection, token, credential[1], register=name)
        assert connection.wait_for_goaway() == NO_ERROR
        assert connection.responses[stream].trailers["grpc-message"].startswith("EXPIRED")


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

    # The same of a stream between two agents, whose other end is told too.
    bob = site.join("acme/demo/bob/1")
    target = pb.Target(agent=bob.name)
    agent.send(stream_open=pb.StreamOpen(stream=71, target=target, credit_bytes=1 << 20))
    bob.send(stream_credit=pb.StreamCredit(stream=bob.expect("stream_open").stream, bytes=1 << 20))
    agent.expect("stream_credit")
    site.control.apply_policy(NOBODY_PUBLISHES_SECRETS + NO_STREAMS)
    agent.expect_error(71, pb.CODE_PERMISSION_DENIED)
    assert bob.expect("stream_close").code == pb.CODE_PERMISSION_DENIED
    asked = agent.request(b"?", agent=bob.name)
    bob.respond(bob.expect("forward"), b"!")
    assert agent.expect("deliver", id=asked).payload == seal(b"!")
    bob.close()

    version = site.link()["version"]
    site.control.apply_policy(EVERYTHING)
    wait.until(lambda: site.link()["version"] > version, lambda: str(site.link()))
    assert agent.publish_acked("secret/x") == 0
    assert agent.subscribe("secret/x") != kept
    agent.close()


def test_a_bad_policy_is_refused_and_changes_nothing(site):
    agent = site.join("acme/demo/alice/1")
    lost = agent.subscribe("secret/x")
    site.control.apply_policy(NOBODY_PUBLISHES_SECRETS)
    agent.expect_error(lost, pb.CODE_PERMISSION_DENIED)

    def in_force():
        return site.control.call("Policy/GetPolicy", policy.GetPolicyRequest(), policy.PolicySet)

    before = in_force()
    with pytest.raises(Refused) as refused:
        site.control.apply_policy("permit(principal, action, resource);\npermit(nobody);\n")
    assert "2:" in str(refused.value)
    assert in_force() == before
    agent.send(publish=pb.Publish(topic="secret/x", payload=seal(), id=9001))
    agent.expect_error(9001, pb.CODE_PERMISSION_DENIED)
    agent.round_trip()
    agent.close()


def test_without_the_control_process_everything_goes_on(site, token_of):
    control = site.control
    alice = site.join("acme/demo/alice/1")
    control.apply_policy(NOBODY_PUBLISHES_SECRETS)
    # Valid credentials, shown for the first time when the control process is gone.
    site.credential("acme/demo/bob/1")
    bearer = token_of("acme/demo/bearer/1")
    mallory = site.credential("acme/demo/mallory/1")
    version = site.link()["version"]
    control.revoke("acme/demo/mallory/1")
    wait.until(lambda: site.link()["version"] > version, lambda: str(site.link()))

    acknowledged = held_by(control)
    control.kill()
    wait.until(lambda: not site.link()["attached"], lambda: str(site.link()), 60)
    # Traffic, between those who were there and those who come.
    bob = site.join("acme/demo/bob/1")
    bob.subscribe("open/**")
    alice.publish("open/x", b"still")
    assert bob.expect_next("notify").payload == seal(b"still")
    with contextlib.closing(site.idle()) as connection:
        site.show(connection, *bearer, register="acme/demo/bearer/1")
    revoked = site.open(mallory)
    assert revoked.wait_for_end()[0] == grpc.StatusCode.UNAVAILABLE, "the handshake is refused"
    # Policy decisions: what was decided before, and what nobody asked yet.
    for agent, id in ((alice, 8001), (bob, 8002)):
        agent.send(publish=pb.Publish(topic="secret/x", payload=seal(), id=id))
        agent.expect_error(id, pb.CODE_PERMISSION_DENIED)

    control.start()
    site.wait_until_attached()
    wait.until(lambda: {alice.name, bob.name} <= set(control.agents()), "both are listed", 30)
    for what, before in acknowledged.items():
        assert held_by(control)[what][: len(before)] == before, f"{what}: nothing that was acknowledged is lost"
    alice.round_trip()
    # The link works again in both directions.
    control.revoke("acme/demo/bob/1")
    assert bob.wait_for_end(SOON_S)[1].startswith("REVOKED")
    for agent in (alice, bob, revoked):
        agent.close()


def held_by(control):
    """What a control process has acknowledged: issued, revoked, policies, and what it wrote of it."""
    issued = control.call("Identity/ListIssued", identity.ListIssuedRequest(), identity.ListIssuedResponse)
    revoked = control.call("Identity/ListRevocations", identity.ListRevocationsRequest(), identity.ListRevocationsResponse)
    rules = control.call("Policy/GetPolicy", policy.GetPolicyRequest(), policy.PolicySet)
    return {
        "issuance log": [entry.serial for entry in issued.issued],
        "revocations": [entry.identity for entry in revoked.revocations],
        "policy": [rules.version, rules.text],
        "audit log": [entry.entry_sha256 for entry in control.audit_entries()],
    }


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
