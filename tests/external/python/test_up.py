"""From nothing, with the commands that the README tells: everything here is what an operator types, and unmodified grpcio."""

import contextlib
import ssl

import grpc
import pytest

from harness import wait
from harness.agent import Agent, Ended
from harness.control import call, identity, registry
from harness.http2 import NO_ERROR, Connection
from harness.mls import seal
from harness.protocol import HEALTH_PATH, pb
from harness.up import Up

# What "within a second" is tested with: the bound that a test fails at, on any machine.
SOON_S = 10
SEEDS = """
@id("everyone-comes") permit(principal, action in [Action::"register", Action::"publish", Action::"subscribe"], resource);
@id("a-asks-b") permit(principal == Agent::"acme/demo/asker/a", action == Action::"request", resource == Agent::"acme/demo/answerer/b");
@id("only-cooks-cook") permit(principal in Service::"acme/demo/cook", action == Action::"declare", resource == Capability::"cook");
@id("all-ask-cooks") permit(principal, action == Action::"request", resource == Capability::"cook");
@id("but-not-the-second") forbid(principal, action == Action::"request", resource == Agent::"acme/demo/cook/2");
"""


@pytest.fixture
def up(tmp_path):
    """Both processes, from nothing."""
    up = Up(tmp_path)
    up.start()
    yield up
    status = up.stop()
    assert status == 0, up.output()


def test_from_nothing_to_an_agent_that_is_thrown_out(up):
    talker, listener = up.enroll("acme/demo/talker/1", "talker"), up.enroll("acme/demo/listener/1", "listener")
    bob = up.join(listener, "acme/demo/listener/1")
    bob.subscribe("news/**")
    alice = up.join(talker, "acme/demo/talker/1", capabilities=["talk"])
    alice.publish("news/today", b"hello")
    notified = bob.expect_next("notify")
    assert (notified.source, notified.payload) == ("acme/demo/talker/1", seal(b"hello"))
    wait.until(lambda: len(up.json("agents")) == 2, lambda: up.said("agents"), 30)
    assert "talk" in up.said("agents", "acme/demo/talker/**")

    with contextlib.closing(idle_connection(up, talker)) as idle:
        up.said("revoke", "acme/demo/talker/1", "--reason", "it talks too much")
        code, text = alice.wait_for_end(SOON_S)
        assert code == grpc.StatusCode.UNAUTHENTICATED and text.startswith("REVOKED"), text
        assert_closed(idle)
    again = Agent(up.channel(talker), owns_channel=True)
    assert again.wait_for_end()[0] == grpc.StatusCode.UNAVAILABLE, "the handshake is refused"
    assert "REVOKED" in up.refused("enroll", "acme/demo/talker/1", "--out", "talker-again")
    bob.round_trip()
    logged = [("Identity/Enroll", "ok"), ("Identity/Revoke", "ok"), ("Identity/Enroll", "REVOKED")]
    # What the data plane saw: the end of its connections, and that it tried to come back.
    logged += [(f"event/{kind}", kind) for kind in ("REVOKED_CONN_CLOSED", "UNAUTHENTICATED")]
    told = wait.until(
        lambda: all(entry in up.audit("acme/demo/talker/1") for entry in logged) and up.said("audit"),
        lambda: str(up.audit("acme/demo/talker/1")),
        30,
    )
    assert "it talks too much" in told
    for agent in (alice, again, bob):
        agent.close()


def idle_connection(up, folder):
    """A connection that shows a credential and says nothing after its preface."""
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    connection = Connection(f"localhost:{up.port}", tls=context)
    connection.handshake()
    return connection


def assert_closed(connection):
    """The gateway says goodbye and closes, by itself."""
    assert connection.wait_for_goaway() == NO_ERROR


def test_grpcio_talks_to_both_processes_as_they_are(up):
    me = up.enroll("acme/demo/me/1", "me")
    with up.channel(me) as channel:
        assert channel.unary_unary(HEALTH_PATH)(b"", timeout=SOON_S) == b"\x08\x01"
    address, admin = f"localhost:{up.control_port}", up.folder / ".ringgate" / "control" / "admin"
    request = identity.GetTrustBundleRequest()
    bundle = call(address, me / "ca.pem", "Identity/GetTrustBundle", request, identity.TrustBundle)
    assert bundle.trust_domain == "ringgate.local"
    request = registry.ListNodesRequest()
    nodes = call(address, me / "ca.pem", "Registry/ListNodes", request, registry.ListNodesResponse, admin).nodes
    assert [(node.id, node.attached) for node in nodes] == [("local", True)]


def test_a_join_token_lets_others_in_as_often_as_it_says(up, tmp_path):
    token = up.said("join-token", "create", "acme/demo/*/*").strip()
    tried = {"other/demo/bot/1": "IDENTITY_NOT_ALLOWED", "acme/demo/bot/1": None, "acme/demo/bot/2": "JOIN_TOKEN_USED"}
    for name, expected in tried.items():
        # Somebody who has no credential, only the secret.
        arguments = ["enroll", name, "--out", name.replace("/", "-"), "--join-token", "-"]
        if expected is None:
            up.said(*arguments, stdin=token)
        else:
            assert expected in up.refused(*arguments, stdin=token)
    bot = tmp_path / "acme-demo-bot-1"
    assert {path.name: path.stat().st_mode & 0o777 for path in bot.iterdir()} == {
        "key.pem": 0o600,
        "chain.pem": 0o600,
        "ca.pem": 0o600,
    }
    up.join(bot, "acme/demo/bot/1").close()
    listed = up.json("join-token", "list")
    assert [entry["uses_left"] for entry in listed if entry["identity"] == "acme/demo/*/*"] == [0]


def test_policy_says_who_may_ask_whom(up, tmp_path):
    (tmp_path / "seeds.cedar").write_text(SEEDS)
    assert up.json("policy", "check", "seeds.cedar") is not None
    up.said("policy", "apply", "seeds.cedar")
    names = ["asker/a", "answerer/b", "answerer/c", "cook/1", "cook/2"]
    folders = {name: up.enroll(f"acme/demo/{name}", name.replace("/", "-")) for name in names}
    cooks = [up.join(folders[f"cook/{n}"], f"acme/demo/cook/{n}", capabilities=["cook"]) for n in (1, 2)]
    a, b, c = (up.join(folders[name], f"acme/demo/{name}") for name in names[:3])
    asked = a.request(b"?", agent="acme/demo/answerer/b")
    b.respond(b.expect("forward"), b"!")
    assert a.expect("deliver", id=asked).payload == seal(b"!")
    denied = a.expect_error(a.request(b"?", agent="acme/demo/answerer/c"), pb.CODE_PERMISSION_DENIED)
    assert "acme/demo/answerer/c" in denied.message
    with pytest.raises(Ended) as refused:
        up.join(folders["asker/a"], "acme/demo/asker/a", capabilities=["cook"])
    assert "PERMISSION_DENIED" in str(refused.value) and "declare" in str(refused.value)
    # One of those with the capability, but never the one that is forbidden.
    for _ in range(4):
        asked = a.request(b"?", capability="cook")
        cooks[0].respond(cooks[0].expect("forward"), b"soup")
        assert a.expect("deliver", id=asked).payload == seal(b"soup")
    why = up.json("policy", "why", "acme/demo/asker/a", "request", "acme/demo/cook/2")
    assert (why["allowed"], why["policies"]) == (False, ["but-not-the-second"])

    (tmp_path / "bad.cedar").write_text(SEEDS + "permit(nobody);\n")
    complaint = up.refused("policy", "apply", "bad.cedar")
    assert f":{SEEDS.count(chr(10)) + 1}:" in complaint, complaint
    assert up.json("policy", "show")["text"] == SEEDS
    for agent in (a, b, c, *cooks):
        agent.close()


def test_a_restart_keeps_what_was_decided(up):
    kept, lost = up.enroll("acme/demo/kept/1", "kept"), up.enroll("acme/demo/lost/1", "lost")
    up.said("revoke", "acme/demo/lost/1")
    assert up.stop() == 0
    assert "ringgate up" in up.refused("agents"), "it says what to do"
    up.start()
    agent = up.join(kept, "acme/demo/kept/1")
    agent.round_trip()
    refused = Agent(up.channel(lost), owns_channel=True)
    code, text = refused.wait_for_end()
    # In the handshake; or a moment later, where the node was stopped before it was told and starts on what it had.
    assert code == grpc.StatusCode.UNAVAILABLE or text.startswith("REVOKED"), (code, text)
    for agent in (agent, refused):
        agent.close()


def test_commands_speak_to_people_and_to_scripts(up, tmp_path):
    assert up.json("status")["nodes_attached"] == 1
    assert "local" in up.said("nodes") and up.json("nodes")[0]["id"] == "local"
    for shell in ("bash", "zsh", "fish"):
        assert "join-token" in up.said("completion", shell)
    me = up.json("enroll", "acme/demo/me/1", "--out", "me")
    assert me["identity"] == "agp://ringgate.local/acme/demo/me/1"
    assert "choose another folder" in up.refused("enroll", "acme/demo/me/1", "--out", "me")
    assert up.said("--identity", "me", "token").count(".") == 2
    assert "NOT_AN_OPERATOR" in up.refused("--identity", "me", "join-token", "list")
    assert "IDENTITY_NOT_ALLOWED" in up.refused("enroll", "acme/demo", "--out", "x")
    assert "ringgate enroll" in up.refused("--identity", "nowhere", "agents"), "how to get a credential"
    up.said("policy", "grant", "acme/demo", "staff")
    assert up.json("policy", "grants") == [{"name": "acme/demo", "roles": ["staff"]}]
    (tmp_path / "nodes.toml").write_text("[limits]\nsubscriptions_max = 3\n")
    changes = up.json("config", "apply", "nodes.toml")
    assert [(change["key"], change["takes_effect"]) for change in changes] == [("limits.subscriptions_max", "now")]
    (tmp_path / "bad.toml").write_text("[limits]\nsubscriptions_max = none\n")
    assert "2" in up.refused("config", "apply", "bad.toml")
    assert up.said("config", "get") == "[limits]\nsubscriptions_max = 3\n"
    assert len(up.json("config", "history")) >= 1
