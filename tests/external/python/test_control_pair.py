"""Two control processes over one etcd, as whole processes, and a data plane that knows both."""

import json
import os
import threading

import grpc
import pytest

from harness import wait
from harness.agent import CHANNEL_OPTIONS
from harness.control import Control, Refused, policy
from harness.etcd import PROGRAM, Etcd
from harness.gateway import Gateway
from harness.mls import SealedAgent
from harness.protocol import pb

EVERYTHING = '@id("all") permit(principal, action, resource);\n'
NO_SECRETS = EVERYTHING + '@id("secret") forbid(principal, action, resource in Topic::"secret");\n'
SOON_S = 10

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="etcd is missing; `apt-get install etcd-server` brings it")


@pytest.fixture
def pair(tmp_path):
    """Both, started at once over a store where there is nothing."""
    etcd = Etcd(tmp_path / "etcd")
    shared = {
        "store.kind": "etcd",
        "store.etcd_endpoints": json.dumps([etcd.url]),
        "ca.seal_key": tmp_path / "seal.key",
    }
    controls = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir(mode=0o700)
        controls.append(Control(tmp_path / name, shared))
    threads = [threading.Thread(target=control.start) for control in controls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    yield controls
    for control in controls:
        control.kill()
    etcd.kill()


@pytest.fixture
def gateway(pair, tmp_path):
    """A gateway that is attached to the first."""
    one, other = pair
    (tmp_path / "join.token").write_text(other.join_token("node/n1", ["localhost", "127.0.0.1"]))
    arguments = ["--control", one.url, "--control", other.url, "--control-ca", one.ca, "--node", "n1"]
    arguments += ["--join-token", tmp_path / "join.token", "--state-dir", tmp_path / "node"]
    cores = "0,1" if len(os.sched_getaffinity(0)) > 1 else "0"
    gateway = Gateway(cores=cores, settings={"profile": "strict"}, arguments=arguments)
    wait.until(lambda: link(gateway)["attached"], gateway.output, 30)
    yield gateway
    assert gateway.is_alive(), gateway.output()[-4000:]
    gateway.kill()


def link(gateway):
    """How the link stands, as /stats says."""
    return json.loads(gateway.get("/stats")[1])["control"]


def attachments(gateway):
    """How often it has attached so far."""
    lines = gateway.output().splitlines()
    return sum("attached to the control process" in line and "not attached" not in line for line in lines)


def join(gateway, control, name):
    """A registered agent, enrolled at one of the two."""
    chain, key = control.enrol(name)
    shown = grpc.ssl_channel_credentials(control.ca.read_bytes(), key, chain)
    channel = grpc.secure_channel(f"localhost:{gateway.port}", shown, options=CHANNEL_OPTIONS)
    return SealedAgent(channel, name, owns_channel=True)


def test_either_serves(pair, gateway):
    one, other = pair
    assert one.ca.read_bytes() == other.ca.read_bytes(), "one authority"
    alice, bob = join(gateway, one, "acme/demo/alice/1"), join(gateway, other, "acme/demo/bob/1")
    bob.subscribe("t")
    alice.publish("t", b"hello")
    assert bob.expect_next("notify").source == "acme/demo/alice/1"
    for control in pair:
        wait.until(lambda control=control: {alice.name, bob.name} <= set(control.agents()), "both list both", 30)
    # What one is told holds at the gateway, whichever it is attached to.
    lost = alice.subscribe("secret/x")
    other.apply_policy(NO_SECRETS)
    assert "secret/x" in alice.expect("error", id=lost).message
    other.revoke("acme/demo/bob/1")
    assert bob.wait_for_end(SOON_S)[1].startswith("REVOKED")
    assert "Identity/Revoke" in one.audited()
    alice.close()
    bob.close()


def test_a_conflict_of_writes_has_one_winner(pair):
    one, other = pair
    version = one.call("Policy/GetPolicy", policy.GetPolicyRequest(), policy.PolicySet).version
    outcomes = {}

    def apply(control, text):
        request = policy.ApplyPolicyRequest(text=text, expect_version=version)
        try:
            outcomes[text] = control.call("Policy/ApplyPolicy", request, policy.ApplyPolicyResponse).version
        except Refused as refused:
            outcomes[text] = str(refused)

    threads = [
        threading.Thread(target=apply, args=(control, text))
        for control, text in ((one, EVERYTHING), (other, NO_SECRETS))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [text for text, outcome in outcomes.items() if outcome == version + 1]
    assert len(won) == 1, outcomes
    (lost,) = (outcome for text, outcome in outcomes.items() if text not in won)
    assert "ABORTED" in lost or "FAILED_PRECONDITION" in lost, lost
    for control in pair:
        assert control.call("Policy/GetPolicy", policy.GetPolicyRequest(), policy.PolicySet).text == won[0]
    # Who lost looks again, and then it is its turn.
    (again,) = (text for text in outcomes if text not in won)
    version += 1
    apply(other, again)
    assert outcomes[again] == version + 1
    for control in pair:
        assert control.call("Policy/GetPolicy", policy.GetPolicyRequest(), policy.PolicySet).text == again


def test_changes_that_expect_nothing_all_happen_one_after_the_other(pair):
    versions, texts = [], [f'@id("n{number}") permit(principal, action, resource);\n' for number in range(16)]

    def apply(control, mine):
        for text in mine:
            versions.append((control.apply_policy(text).version, text))

    threads = [
        threading.Thread(target=apply, args=(control, texts[half::2])) for half, control in enumerate(pair)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    versions.sort()
    first = versions[0][0]
    assert [version for version, _ in versions] == list(range(first, first + len(texts)))
    for control in pair:
        kept = control.call("Policy/GetPolicy", policy.GetPolicyRequest(), policy.PolicySet)
        assert (kept.version, kept.text) == versions[-1]


def test_one_is_killed_and_the_gateway_moves_over(pair, gateway):
    one, other = pair
    alice = join(gateway, one, "acme/demo/alice/1")
    one.kill()
    alice.round_trip()
    wait.until(
        lambda: attachments(gateway) > 1 and link(gateway)["attached"],
        lambda: gateway.output()[-3000:],
        60,
    )
    lost = alice.subscribe("secret/x")
    other.apply_policy(NO_SECRETS)
    assert alice.expect("error", id=lost).code == pb.CODE_PERMISSION_DENIED
    wait.until(lambda: alice.name in other.agents(), "the other lists it", 30)
    bob = join(gateway, other, "acme/demo/bob/1")
    bob.round_trip()
    # Back again, the first knows all that happened.
    one.start()
    assert one.call("Policy/GetPolicy", policy.GetPolicyRequest(), policy.PolicySet).text == NO_SECRETS
    wait.until(lambda: {alice.name, bob.name} <= set(one.agents()), "and who is there", 30)
    for agent in (alice, bob):
        agent.close()
