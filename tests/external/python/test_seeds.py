"""The seeds of the mission: what was asked for first, on both processes as they are."""

import grpc
import pytest

from harness import wait
from harness.agent import Ended
from harness.control import Control
from harness.dpop import proof
from harness.mls import seal
from harness.protocol import pb
from harness.site import Site, authorized

POLICY = """
@id("everyone-comes") permit(principal, action in [Action::"register", Action::"publish", Action::"subscribe"], resource);
@id("a-talks-to-b") permit(principal == Agent::"acme/demo/asker/a", action == Action::"request", resource == Agent::"acme/demo/answerer/b");
@id("only-cooks-cook") permit(principal in Service::"acme/demo/cook", action == Action::"declare", resource == Capability::"cook");
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A gateway attached to a control process, under a policy."""
    folder = tmp_path_factory.mktemp("seeds")
    for name in ("control", "site"):
        (folder / name).mkdir(mode=0o700)
    control = Control(folder / "control")
    control.start()
    control.apply_policy(POLICY)
    site = Site(control, folder / "site")
    site.start()
    site.wait_until_attached()
    yield site
    assert site.gateway.is_alive(), site.gateway.output()[-4000:]
    site.gateway.kill()
    control.kill()


def bearer(site, name):
    """(token, key) of an agent."""
    credential = site.credential(name)
    return site.control.token(credential, site.folder), credential[1]


def test_register_with_capabilities_and_a_token(site):
    name = "acme/demo/cook/1"
    token, key = bearer(site, name)
    agent = site.open(metadata=authorized(token, proof(key, token, site.uri)))
    agent.send(register=pb.Register(name=name, capabilities=["cook"], labels={"stars": "3"}))
    assert agent.expect("registered").name == name
    wait.until(lambda: name in site.control.agents(), "it is listed", 30)
    listed = site.control.agents()[name]
    assert (list(listed.capabilities), dict(listed.labels)) == (["cook"], {"stars": "3"})
    agent.close()


def test_a_bad_token_is_refused(site):
    name = "acme/demo/cook/2"
    token, key = bearer(site, name)
    bent = token[:-4] + ("AAAA" if not token.endswith("AAAA") else "BBBB")
    agent = site.open(metadata=authorized(bent, proof(key, bent, site.uri)))
    agent.send(register=pb.Register(name=name, capabilities=["cook"]))
    code, text = agent.wait_for_end()
    assert code == grpc.StatusCode.UNAUTHENTICATED and text.startswith("TOKEN_SIGNATURE")
    assert name not in site.control.agents()
    agent.close()


def test_a_may_talk_to_b_and_not_to_c(site):
    a, b, c = (site.join(f"acme/demo/{name}") for name in ("asker/a", "answerer/b", "answerer/c"))
    asked = a.request(b"?", agent=b.name)
    b.respond(b.expect("forward"), b"!")
    assert a.expect("deliver", id=asked).payload == seal(b"!")
    denied = a.expect_error(a.request(b"?", agent=c.name), pb.CODE_PERMISSION_DENIED)
    assert "request" in denied.message and c.name in denied.message
    c.round_trip()
    assert not c.unread(), "nothing of it arrived"
    for agent in (a, b, c):
        agent.close()


def test_a_capability_restricted_agent_is_refused(site):
    site.join("acme/demo/cook/3", capabilities=["cook"]).close()
    with pytest.raises(Ended) as refused:
        site.join("acme/demo/asker/a", capabilities=["cook"])
    assert "PERMISSION_DENIED" in str(refused.value) and "declare" in str(refused.value)
    wait.until(lambda: "event/PERMISSION_DENIED" in site.control.audited(), "and that is in the audit log", 30)
