"""Profile `strict` without a control process: who gets in, as whom, and what policy lets them do."""

import hashlib
import json
import ssl

import grpc
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from harness import wait
from harness.agent import CHANNEL_OPTIONS, Agent, Ended
from harness.certificates import Authority
from harness.gateway import Gateway
from harness.http2 import Connection
from harness.identity import HOUR, TrustDomain, fingerprint, p256_key, rsa_key
from harness.mls import COMMIT, PROPOSAL, SealedAgent, seal
from harness.observe import Lines
from harness.paths import ROOT
from harness.protocol import HEALTH_PATH, pb

DOMAIN = "test.example"
POLICY = """
@id("everyone-comes")
permit(principal, action in [Action::"register", Action::"publish", Action::"subscribe"], resource);
@id("a-asks-b")
permit(principal == Agent::"acme/demo/asker/a", action == Action::"request", resource == Agent::"acme/demo/answerer/b");
@id("only-cooks-cook")
permit(principal in Service::"acme/demo/cook", action == Action::"declare", resource == Capability::"cook");
@id("secrets-stay-secret")
forbid(principal, action, resource in Topic::"secret");
"""


@pytest.fixture(scope="module")
def listener():
    """The authority of the gateway's own certificate."""
    return Authority("ringgate test CA")


@pytest.fixture(scope="module")
def domain():
    """The authority of the agents' certificates."""
    return TrustDomain(DOMAIN)


@pytest.fixture(scope="module")
def files(listener, domain, tmp_path_factory):
    """Certificate, key, client CA and policy of a gateway."""
    folder = tmp_path_factory.mktemp("strict")
    certificate, key = listener.server()
    (folder / "server.pem").write_bytes(certificate)
    (folder / "server.key").write_bytes(key)
    (folder / "agents.pem").write_bytes(domain.certificate)
    (folder / "policy.cedar").write_text(POLICY)
    return folder


def start(files, **settings):
    """A strict gateway."""
    arguments = ["--tls-cert", files / "server.pem", "--tls-key", files / "server.key"]
    arguments += ["--tls-client-ca", files / "agents.pem"]
    # What --set says comes after the profile that the harness asks for.
    settings = {"profile": "strict", "trust_domain": DOMAIN, **settings}
    return Gateway(cores="0", settings=settings, arguments=arguments)


@pytest.fixture(scope="module")
def open_gateway(files):
    """Without policies: whoever is verified may do everything."""
    gateway = start(files)
    yield gateway
    gateway.kill()


@pytest.fixture(scope="module")
def ruled_gateway(files):
    """With policies."""
    gateway = start(files, **{"access.policy": files / "policy.cedar"})
    yield gateway
    gateway.kill()


@pytest.fixture
def gateway(open_gateway):
    """Every test leaves it alive and without residue."""
    yield open_gateway
    assert open_gateway.is_alive(), open_gateway.output()[-4000:]
    open_gateway.wait_for_no_residue()


def channel(gateway, listener, credential=None):
    """A channel that shows a certificate, or none."""
    certificate, key = credential or (None, None)
    credentials = grpc.ssl_channel_credentials(listener.certificate, key, certificate)
    return grpc.secure_channel(f"localhost:{gateway.port}", credentials, options=CHANNEL_OPTIONS)


def join(gateway, listener, domain, name, **register):
    """A registered agent with its own certificate."""
    return SealedAgent(channel(gateway, listener, domain.agent(name)), name, owns_channel=True, **register)


def refusal(gateway, listener, credential, name):
    """How a Register of `name` is refused: (status, text)."""
    agent = Agent(channel(gateway, listener, credential), owns_channel=True)
    agent.send(register=pb.Register(name=name))
    try:
        return agent.wait_for_end()
    finally:
        agent.close()


def test_agents_with_certificates_reach_each_other(gateway, listener, domain):
    alice = join(gateway, listener, domain, "acme/demo/alice/1")
    bob = join(gateway, listener, domain, "acme/demo/bob/1")
    bob.subscribe("t/**")
    alice.publish("t/x", b"hello")
    assert bob.expect_next("notify").source == "acme/demo/alice/1"
    alice.close()
    bob.close()


def events(gateway, kind):
    """How many security events of a kind were counted."""
    lines = gateway.get("/metrics")[1].splitlines()
    return next((int(line.split()[-1]) for line in lines if f'events_total{{kind="{kind}"}}' in line), 0)


LEGIBLE = {
    "empty": (b"", "PLAINTEXT_REFUSED"),
    "text": (b"hello", "PLAINTEXT_REFUSED"),
    "json": (b'{"say": "hello"}', "PLAINTEXT_REFUSED"),
    "another version": (b"\0\2" + seal()[2:], "PLAINTEXT_REFUSED"),
    "public message": (b"\0\1\0\1" + seal()[4:], "PLAINTEXT_REFUSED"),
    "welcome": (b"\0\1\0\3" + seal()[4:], "MALFORMED_MLS"),
    "commit": (seal(content=COMMIT), "MALFORMED_MLS"),
    "proposal": (seal(content=PROPOSAL), "MALFORMED_MLS"),
    "cut off": (seal()[:-1], "MALFORMED_MLS"),
    "trailing": (seal() + b"\0", "MALFORMED_MLS"),
}


@pytest.mark.parametrize("what", LEGIBLE)
def test_what_others_could_read_is_refused_and_told(gateway, listener, domain, what):
    payload, kind = LEGIBLE[what]
    alice = join(gateway, listener, domain, "acme/demo/alice/1")
    bob = join(gateway, listener, domain, "acme/demo/bob/1")
    bob.subscribe("t/**")
    before = events(gateway, kind)
    alice.send(publish=pb.Publish(topic="t/x", payload=payload, id=1))
    error = alice.expect_error(1, pb.CODE_MLS_REQUIRED)
    assert "MLS" in error.message and not error.retryable
    target = pb.Target(agent=bob.name)
    alice.send(request=pb.Request(id=2, target=target, payload=payload))
    alice.expect_error(2, pb.CODE_MLS_REQUIRED)
    alice.send(stream_open=pb.StreamOpen(stream=3, target=target, credit_bytes=1 << 20))
    opened = bob.expect("stream_open")
    bob.send(stream_credit=pb.StreamCredit(stream=opened.stream, bytes=1 << 20))
    alice.expect("stream_credit")
    alice.send(chunk=pb.Chunk(stream=3, sequence=1, payload=payload))
    alice.expect_error(3, pb.CODE_MLS_REQUIRED)
    refused = 3
    if payload:
        # An introduction may say nothing at all: agents meet before they share a group.
        alice.send(introduce=pb.Introduce(id=4, target=target, payload=payload))
        alice.expect_error(4, pb.CODE_MLS_REQUIRED)
        refused = 4
    wait.until(lambda: events(gateway, kind) == before + refused, lambda: f"{kind}: one event for each")
    # Nothing of it arrived.
    alice.publish("t/x", b"sealed")
    assert bob.expect_next("notify").payload == seal(b"sealed")
    alice.send(stream_close=pb.StreamClose(stream=3))
    bob.expect("stream_close")
    alice.close()
    bob.close()


def test_headers_travel_in_the_clear_and_are_refused(gateway, listener, domain):
    alice = join(gateway, listener, domain, "acme/demo/alice/1")
    alice.send(publish=pb.Publish(topic="t/x", payload=seal(), headers={"unit": "celsius"}, id=1))
    assert "headers" in alice.expect_error(1, pb.CODE_MLS_REQUIRED).message
    alice.close()


def test_without_a_certificate_nobody_registers(gateway, listener):
    code, text = refusal(gateway, listener, None, "acme/demo/alice/1")
    assert code == grpc.StatusCode.UNAUTHENTICATED and "NO_CERTIFICATE" in text


def test_a_foreign_name_is_refused(gateway, listener, domain):
    credential = domain.agent("acme/demo/alice/1")
    code, text = refusal(gateway, listener, credential, "acme/demo/bob/1")
    assert code == grpc.StatusCode.PERMISSION_DENIED and "acme/demo/bob/1" in text


@pytest.mark.parametrize("path", ["node/edge-1", "operator/admin"])
def test_who_is_no_agent_is_refused(gateway, listener, domain, path):
    usages = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)
    credential = domain.certify(domain.uri(path), usages=usages)
    code, text = refusal(gateway, listener, credential, "acme/demo/alice/1")
    assert code == grpc.StatusCode.UNAUTHENTICATED and "NOT_AN_AGENT" in text


NAME = "acme/demo/alice/1"
WRONG = {
    "EXPIRED": lambda domain: domain.agent(NAME, starts=-2 * HOUR, ends=-HOUR),
    "NOT_YET_VALID": lambda domain: domain.agent(NAME, starts=HOUR, ends=2 * HOUR),
    "UNKNOWN_ISSUER": lambda domain: TrustDomain(DOMAIN).agent(NAME),
    "WRONG_TRUST_DOMAIN": lambda domain: domain.certify(f"agp://elsewhere.example/{NAME}"),
    "NO_SUBJECT": lambda domain: domain.certify(),
    "SEVERAL_SUBJECTS": lambda domain: domain.certify(domain.uri(NAME), domain.uri("acme/demo/bob/1")),
    "SUBJECT_MALFORMED": lambda domain: domain.certify(domain.uri("acme/demo")),
    "USAGE_NOT_ALLOWED": lambda domain: domain.agent(NAME, usages=(ExtendedKeyUsageOID.SERVER_AUTH,)),
    "LIFETIME_TOO_LONG": lambda domain: domain.agent(NAME, ends=31 * 24 * HOUR),
}


@pytest.mark.parametrize("reason", WRONG)
def test_a_wrong_certificate_is_refused_with_its_reason(gateway, listener, domain, reason):
    before = refusals(gateway, reason)
    shut_out(gateway, listener, WRONG[reason](domain))
    wait.until(lambda: refusals(gateway, reason) > before, lambda: f"{reason} is told:\n{gateway.output()[-2000:]}")


@pytest.mark.parametrize("make_key", [rsa_key, p256_key])
def test_another_type_of_key_is_refused(gateway, listener, domain, make_key):
    before = refusals(gateway, "KEY_TYPE_NOT_ALLOWED")
    shut_out(gateway, listener, domain.agent(NAME, key=make_key()))
    wait.until(lambda: refusals(gateway, "KEY_TYPE_NOT_ALLOWED") > before, lambda: gateway.output()[-2000:])


def refusals(gateway, reason):
    """How many handshakes were refused for a reason, as the operator is told."""
    return gateway.output().count(f"TLS handshake: {reason}")


def shut_out(gateway, listener, credential):
    """Nothing at all is served to who shows this."""
    with channel(gateway, listener, credential) as shown, pytest.raises(grpc.RpcError) as error:
        shown.unary_unary(HEALTH_PATH)(b"", timeout=5)
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("authorization", "proof", "reason"),
    [
        ("DPoP x.y.z", "x.y.z", "TOKEN_MALFORMED"),
        ("Bearer x.y.z", "x.y.z", "TOKEN_MALFORMED"),
        ("DPoP x.y.z", None, "PROOF_MISSING"),
    ],
)
def test_a_bad_token_is_refused(gateway, listener, authorization, proof, reason):
    metadata = [("authorization", authorization)] + ([("dpop", proof)] if proof else [])
    agent = Agent(channel(gateway, listener), owns_channel=True, metadata=metadata)
    code, text = agent.wait_for_end()
    agent.close()
    assert code == grpc.StatusCode.UNAUTHENTICATED and text.startswith(reason)


def test_a_bad_token_in_register_is_refused(gateway, listener):
    agent = Agent(channel(gateway, listener), owns_channel=True)
    agent.send(register=pb.Register(name=NAME, token="x.y.z", proof=b"x.y.z"))
    code, text = agent.wait_for_end()
    agent.close()
    assert code == grpc.StatusCode.UNAUTHENTICATED and text.startswith("TOKEN_MALFORMED")


def test_plaintext_is_not_spoken(gateway):
    connection = Connection(gateway.address)
    connection.socket.settimeout(30)
    connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
    try:
        assert b"\0\0\0\4" not in b"".join(iter(lambda: connection.socket.recv(1000), b""))
    except ConnectionResetError:
        pass
    connection.close()


def test_refusals_are_counted(gateway, listener):
    def counted():
        lines = gateway.get("/metrics")[1].splitlines()
        return next(int(line.split()[-1]) for line in lines if 'events_total{kind="UNAUTHENTICATED"}' in line)

    before = counted()
    refusal(gateway, listener, None, "acme/demo/alice/1")
    wait.until(lambda: counted() > before, "the refusal is counted")


def test_a_new_certificate_is_presented_without_a_restart(files, listener, domain, tmp_path):
    for name in ("server.pem", "server.key", "agents.pem"):
        (tmp_path / name).write_bytes((files / name).read_bytes())
    gateway = start(tmp_path)
    try:
        stays = join(gateway, listener, domain, "acme/demo/stays/1")
        certificate, key = listener.server()
        (tmp_path / "server.key").write_bytes(key)
        (tmp_path / "server.pem").write_bytes(certificate)
        wait.until(lambda: presented(gateway, listener) == fingerprint(certificate), "the new certificate is presented")
        stays.round_trip()
        join(gateway, listener, domain, "acme/demo/comes/1").close()
        stays.close()
    finally:
        gateway.kill()


def presented(gateway, listener):
    """The fingerprint of the certificate that the gateway presents; none while it cannot."""
    context = ssl.create_default_context(cadata=listener.certificate.decode())
    context.set_alpn_protocols(["h2"])
    try:
        connection = Connection(gateway.address, tls=context)
    except (ssl.SSLError, ConnectionError):
        return None
    try:
        return hashlib.sha256(connection.socket.getpeercert(binary_form=True)).hexdigest()
    finally:
        connection.close()


def test_a_may_talk_to_b_and_not_to_c(ruled_gateway, listener, domain):
    a, b, c = (
        join(ruled_gateway, listener, domain, f"acme/demo/{name}")
        for name in ("asker/a", "answerer/b", "answerer/c")
    )
    asked = a.request(b"?", agent="acme/demo/answerer/b")
    b.respond(b.expect("forward"), b"!")
    assert a.expect("deliver", id=asked).payload == seal(b"!")
    a.expect_error(a.request(b"?", agent="acme/demo/answerer/c"), pb.CODE_PERMISSION_DENIED)
    b.expect_error(b.request(b"?", agent="acme/demo/asker/a"), pb.CODE_PERMISSION_DENIED)
    denied = a.expect_error(a.request(b"?", agent="acme/demo/answerer/c"), pb.CODE_PERMISSION_DENIED)
    assert "request" in denied.message and "acme/demo/answerer/c" in denied.message
    for agent in (a, b, c):
        agent.close()
    ruled_gateway.wait_for_no_residue()


def test_a_capability_is_only_for_those_who_may_declare_it(ruled_gateway, listener, domain):
    join(ruled_gateway, listener, domain, "acme/demo/cook/1", capabilities=["cook"]).close()
    with pytest.raises(Ended) as refused:
        join(ruled_gateway, listener, domain, "acme/demo/asker/a", capabilities=["cook"])
    assert "PERMISSION_DENIED" in str(refused.value) and "declare" in str(refused.value)


def test_a_forbidden_topic_is_not_reached_by_a_pattern_around_it(ruled_gateway, listener, domain):
    agent = join(ruled_gateway, listener, domain, "acme/demo/alice/1")
    agent.subscribe("open/**")
    for id, pattern in enumerate(("secret", "secret/x", "**", "*/x"), 1000):
        agent.send(subscribe=pb.Subscribe(id=id, pattern=pattern))
        agent.expect_error(id, pb.CODE_PERMISSION_DENIED)
    agent.close()


# Every key that has to do with who is served, how, and what is looked at; with all that it can be besides its default.
SWITCHES = [
    *({"cores.busy_poll": value} for value in ("true", "false")),
    {"tls.client_required": "true"},
    {"observe.enabled": "false"},
    {"ring.incremental": "false"},
    *(
        {f"{dialect}.{key}": value}
        for dialect in ("slim", "agp2025")
        for key in ("enabled", "plain_payloads")
        for value in ("true", "false")
    ),
    *({f"slim.header_mac": value} for value in ("offered", "off")),
    {"slim.enforce_pqc": "true"},
    {"slim.node_links": "true"},
]


def test_t5_there_are_no_other_switches():
    """A key that is true or false, or one of some words, and is not in the list above, is to be thought about."""
    text = (ROOT / "dataplane" / "ringgate-dataplane.example.toml").read_text()
    section, switches = "", set()
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]") + "."
        key, _, value = line.removeprefix("#").partition(" = ")
        if line.startswith("#") and not line.startswith("# ") and value in ("true", "false", '"auto"', '"required"'):
            switches.add(section + key)
    # What is not about payloads: which cores there are.
    assert switches - {"cores.list"} == {key for setting in SWITCHES for key in setting}


@pytest.mark.parametrize("settings", [{}, *SWITCHES, {k: v for setting in SWITCHES for k, v in setting.items()}], ids=str)
def test_t5_no_switch_lets_plaintext_pass(files, listener, domain, settings):
    gateway = start(files, **settings)
    try:
        alice = join(gateway, listener, domain, "acme/demo/alice/1")
        bob = join(gateway, listener, domain, "acme/demo/bob/1")
        bob.subscribe("t/**")
        alice.send(publish=pb.Publish(topic="t/x", payload=b"in the clear", id=1))
        alice.expect_error(1, pb.CODE_MLS_REQUIRED)
        alice.send(request=pb.Request(id=2, target=pb.Target(agent=bob.name), payload=b"in the clear"))
        alice.expect_error(2, pb.CODE_MLS_REQUIRED)
        alice.publish("t/x", b"sealed")
        assert bob.expect_next("notify").payload == seal(b"sealed")
        alice.close()
        bob.close()
    finally:
        gateway.kill()


MARKER = "nobody-shall-read-this"
NEGATIVE = {
    "text": (MARKER.encode(), {}, "PLAINTEXT_REFUSED"),
    "json": (f'{{"say": "{MARKER}"}}'.encode(), {}, "PLAINTEXT_REFUSED"),
    "public message": (b"\0\1\0\1" + seal(MARKER.encode())[4:], {}, "PLAINTEXT_REFUSED"),
    "headers": (seal(MARKER.encode()), {"unit": MARKER}, "PLAINTEXT_REFUSED"),
    "commit": (seal(MARKER.encode(), content=COMMIT), {}, "MALFORMED_MLS"),
    "proposal": (seal(MARKER.encode(), content=PROPOSAL), {}, "MALFORMED_MLS"),
    "trailing": (seal(MARKER.encode()) + MARKER.encode(), {}, "MALFORMED_MLS"),
}


@pytest.mark.parametrize("what", NEGATIVE)
def test_t28_each_refusal_is_one_event_that_says_who_and_nothing_of_the_payload(gateway, listener, domain, what):
    payload, headers, kind = NEGATIVE[what]
    alice = join(gateway, listener, domain, "acme/demo/alice/1")
    events = Lines(gateway, "/events?before=0")
    alice.send(publish=pb.Publish(topic="t/x", payload=payload, headers=headers, id=1))
    alice.expect_error(1, pb.CODE_MLS_REQUIRED)
    told = events.next()
    assert (told["kind"], told["identity"]) == (kind, domain.uri("acme/demo/alice/1"))
    assert told["address"].startswith("127.0.0.1:") and told["core"] == 0 and told["time_unix_nanos"] > 0
    assert set(told) == {"time_unix_nanos", "kind", "identity", "address", "core", "detail"}
    text = json.dumps(told)
    assert told["detail"] and MARKER not in text and MARKER.encode().hex() not in text
    # One, and no other: the next is of what is refused next.
    alice.send(publish=pb.Publish(topic="t/x", payload=b"", id=2))
    alice.expect_error(2, pb.CODE_MLS_REQUIRED)
    after = events.next()
    assert after["kind"] == "PLAINTEXT_REFUSED" and after["detail"] != told["detail"]
    events.close()
    alice.close()
