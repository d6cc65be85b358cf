"""Every wrong credential at every entry point of the two processes: each is refused with its own reason, and that is in the audit log.

The table says what is refused where, and why a cell cannot be. The credentials are made with the authority's own keys (`harness.stolen`),
so that each is good but for what is wrong with it; the row "nothing" shows that. What the SDK looks at, its servers, is in
control/crates/identity/tests/identity/handshakes.rs: the same rows in handshakes, at both ends.
"""

import dataclasses
import itertools
import queue
import re

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from harness import wait
from harness.agent import Ended
from harness.control import DOMAIN, PACKAGE, Control, Refused, connect, identity, nodes, reason_of
from harness.dpop import proof
from harness.etcd import PROGRAM, Etcd
from harness.identity import HOUR, TrustDomain, private_pem, rsa_key, signing_request
from harness.protocol import pb
from harness.site import Site, authorized
from harness.stolen import Stolen

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="etcd is missing; `apt-get install etcd-server` brings it")

LET_IN = "let in"


class Absent(str):
    """Why there is no such cell."""


NO_JOIN_TOKEN = Absent("join tokens are shown to Enroll alone")
NO_TOKEN = Absent("the credential of this entry point is a certificate; tokens have their own")
NO_LIE = Absent(
    "OpenSSL and BoringSSL do not show a certificate with another key; rustls can be made to, in control/tests/credentials.rs, "
    "dataplane/src/tls/watch.rs and the identity crate's handshakes.rs"
)

CERTIFICATE = {
    "nothing": LET_IN,
    "expired": "EXPIRED",
    "not yet valid": "NOT_YET_VALID",
    "wrong CA": "UNKNOWN_ISSUER",
    "wrong SAN": "WRONG_TRUST_DOMAIN",
    "two SANs": "SEVERAL_SUBJECTS",
    "RSA key": "KEY_TYPE_NOT_ALLOWED",
    "revoked": "REVOKED",
    "key mismatch": NO_LIE,
    "token without proof": NO_TOKEN,
    "replayed proof": NO_TOKEN,
    "reused join token": NO_JOIN_TOKEN,
}
TOKEN = {
    "nothing": LET_IN,
    "expired": "EXPIRED",
    "not yet valid": "NOT_YET_VALID",
    "wrong CA": "TOKEN_SIGNATURE",
    "wrong SAN": "WRONG_TRUST_DOMAIN",
    "two SANs": "TOKEN_MALFORMED",
    "RSA key": "KEY_TYPE_NOT_ALLOWED",
    "revoked": "REVOKED",
    "key mismatch": "KEY_MISMATCH",
    "token without proof": "PROOF_MISSING",
    "replayed proof": "PROOF_REPLAYED",
    "reused join token": NO_JOIN_TOKEN,
}
# Where a token may be shown in place of the certificate.
EITHER = CERTIFICATE | {"token without proof": "PROOF_MISSING", "replayed proof": "PROOF_REPLAYED"}
EXPECTED = {
    "control by certificate": CERTIFICATE | {"foreign identity": "NOT_AN_OPERATOR"},
    "control by token": TOKEN | {"foreign identity": "NOT_AN_OPERATOR"},
    "enrolment": {
        "nothing": LET_IN,
        "expired": "JOIN_TOKEN_EXPIRED",
        "not yet valid": Absent("a join token is good from the moment it is made, and a request has no time"),
        "wrong CA": "JOIN_TOKEN_UNKNOWN",
        "wrong SAN": "WRONG_TRUST_DOMAIN",
        "two SANs": "SEVERAL_SUBJECTS",
        "RSA key": "KEY_TYPE_NOT_ALLOWED",
        "revoked": "REVOKED",
        "key mismatch": "CSR_BAD_SIGNATURE",
        "token without proof": Absent("a join token is a secret; the request itself is the proof of its key"),
        "replayed proof": Absent("a join token is a secret; a request that comes again is refused as KEY_ALREADY_CERTIFIED"),
        "reused join token": "JOIN_TOKEN_USED",
        "foreign identity": "IDENTITY_NOT_ALLOWED",
    },
    "renewal": EITHER | {"key mismatch": "CSR_BAD_SIGNATURE", "foreign identity": "IDENTITY_CHANGED"},
    "link of a node": EITHER | {"foreign identity": "NODE_ID_MISMATCH"},
    "data plane by certificate": CERTIFICATE | {"foreign identity": "PERMISSION_DENIED"},
    "data plane by token": TOKEN | {"foreign identity": "PERMISSION_DENIED"},
    "data plane by token in Register": TOKEN | {"foreign identity": "PERMISSION_DENIED"},
}
CASES = [
    "nothing",
    "expired",
    "not yet valid",
    "wrong CA",
    "wrong SAN",
    "two SANs",
    "RSA key",
    "revoked",
    "key mismatch",
    "token without proof",
    "replayed proof",
    "reused join token",
    "foreign identity",
]
CELLS = [(entry, case) for entry in EXPECTED for case in CASES if not isinstance(EXPECTED[entry][case], Absent)]


def test_the_table_is_whole_and_each_case_has_its_own_reason():
    for entry, expected in EXPECTED.items():
        assert list(expected) == CASES, entry
        reasons = [reason for reason in expected.values() if not isinstance(reason, Absent)]
        assert len(set(reasons)) == len(reasons), entry


@dataclasses.dataclass
class World:
    """Both processes, and what it takes to make any credential."""

    control: Control
    site: Site
    domain: Stolen
    stranger: TrustDomain
    like: str  # a token that the authority issued
    folder: object
    _numbers: object = dataclasses.field(default_factory=lambda: itertools.count(1))

    def fresh(self, kind="agent"):
        """The path of somebody nobody knows yet."""
        number = next(self._numbers)
        return f"node/n{number}" if kind == "node" else f"acme/demo/someone/{number}"

    def revoke(self, path):
        """At both processes."""
        version = self.site.link()["version"]
        self.control.revoke(path)
        wait.until(lambda: self.site.link()["version"] > version, "the gateway knows", 30)

    def certificate(self, case, path):
        """(chain, key) in PEM for a path, with this wrong."""
        uri = self.domain.uri(path)
        usages = (ExtendedKeyUsageOID.CLIENT_AUTH,)
        if path.startswith("node/"):
            usages += (ExtendedKeyUsageOID.SERVER_AUTH,)
        if case == "revoked":
            self.revoke(path)
        by = self.stranger if case == "wrong CA" else self.domain
        wrong = {
            "expired": {"starts": -2 * HOUR, "ends": -HOUR},
            "not yet valid": {"starts": HOUR, "ends": 2 * HOUR},
            "RSA key": {"key": rsa_key()} if case == "RSA key" else {},
        }.get(case, {})
        uris = {"wrong SAN": [f"agp://elsewhere.example/{path}"], "two SANs": [uri, self.domain.uri(self.fresh())]}
        return by.certify(*uris.get(case, [uri]), usages=usages, **wrong)

    def bearer(self, case, path):
        """(token, key in PEM) for a path, with this wrong. What is wrong with the proof is for `proofs`."""
        key = private_pem(rsa_key() if case == "RSA key" else ed25519.Ed25519PrivateKey.generate())
        if case == "revoked":
            self.revoke(path)
        wrong = {
            "expired": {"starts_s": -7200, "ends_s": -3600},
            "not yet valid": {"starts_s": 3600, "ends_s": 7200},
            "wrong CA": {"signer": private_pem(ed25519.Ed25519PrivateKey.generate())},
            "wrong SAN": {"sub": f"agp://elsewhere.example/{path}"},
            "two SANs": {"sub": [self.domain.uri(path), self.domain.uri(self.fresh())]},
        }
        return self.domain.token(self.like, key, path, **wrong.get(case, {})), key

    def proofs(self, case, token, key, uri):
        """The proofs of the calls to make, one after the other."""
        if case == "token without proof":
            return [None]
        if case == "key mismatch":
            return [proof(private_pem(ed25519.Ed25519PrivateKey.generate()), token, uri)]
        return [proof(key, token, uri)] * (2 if case == "replayed proof" else 1)

    def shown(self, credential):
        """A folder with a credential."""
        folder = self.folder / str(next(self._numbers))
        folder.mkdir()
        for name, text in zip(("chain.pem", "key.pem"), credential, strict=True):
            (folder / name).write_bytes(text)
        return folder

    def call(self, method, request, answer, case, path):
        """One call of the control process by certificate, or by token where the case is one of tokens: the reason of its refusal."""
        if case in ("token without proof", "replayed proof"):
            return self.call_by_token(method, request, answer, case, path)
        return refusal(lambda: self.control.call(method, request, answer, self.shown(self.certificate(case, path))))

    def call_by_token(self, method, request, answer, case, path):
        """The same by token: of the last call."""
        token, key = self.bearer(case, path)
        uri = f"https://{self.control.address}/{PACKAGE}.{method}"
        for shown in self.proofs(case, token, key, uri):
            told = refusal(lambda shown=shown: self.anonymous(method, request, answer, authorized(token, shown)))
        return told

    def anonymous(self, method, request, answer, metadata=None):
        """One call of the control process without a certificate."""
        with connect(self.control.address, self.control.ca) as channel:
            rpc = channel.unary_unary(f"/{PACKAGE}.{method}", type(request).SerializeToString, answer.FromString)
            try:
                return rpc(request, timeout=wait.DEADLINE_S, metadata=metadata)
            except grpc.RpcError as error:
                raise Refused(method, error) from error


def refusal(call):
    """The reason that a call of the control process is refused for."""
    try:
        call()
    except Refused as refused:
        return refused.reason
    return LET_IN


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A control process over etcd, and a gateway attached to it."""
    folder = tmp_path_factory.mktemp("credentials")
    etcd = Etcd(folder / "etcd")
    (folder / "control").mkdir(mode=0o700)
    (folder / "site").mkdir()
    settings = {
        "store.kind": "etcd",
        "store.etcd_endpoints": f'["{etcd.url}"]',
        # Whoever asks until a token is over is refused more often than the log writes of.
        "limits.audited_refusals_per_second_max": 100_000,
    }
    control = Control(folder / "control", settings)
    control.start()
    site = Site(control, folder / "site")
    site.start()
    site.wait_until_attached()
    like = control.token(site.credential("acme/demo/first/1"), folder)
    yield World(control, site, Stolen(etcd, control), TrustDomain(DOMAIN), like, folder)
    assert site.gateway.is_alive(), site.gateway.output()[-4000:]
    site.gateway.kill()
    control.kill()
    etcd.kill()


# --- entry points: each returns (the reason it tells, or that it lets in; whom the audit log must name) -------------------------------


def control_by_certificate(world, case):
    path = world.fresh()
    if case == "foreign identity":
        return revoke_another(world, world.call, path)
    told = world.call("Identity/IssueToken", identity.IssueTokenRequest(), identity.IssuedToken, case, path)
    return told, path


def control_by_token(world, case):
    path = world.fresh()
    if case == "foreign identity":
        return revoke_another(world, world.call_by_token, path)
    told = world.call_by_token("Identity/GetCrl", identity.GetCrlRequest(), identity.Crl, case, path)
    # A list of subjects names nobody.
    return told, "" if case == "two SANs" else path


def revoke_another(world, call, path):
    """What is one's own may be revoked; this is somebody else's."""
    another = world.fresh()
    request = identity.RevokeRequest(identity=world.domain.uri(another))
    return call("Identity/Revoke", request, identity.Revoked, "nothing", path), another


def enrolment(world, case):
    path = world.fresh()
    uri, key = world.domain.uri(path), ed25519.Ed25519PrivateKey.generate()
    token = world.control.join_token(path, ttl_seconds=1 if case == "expired" else 0)
    csr = signing_request(rsa_key() if case == "RSA key" else key, uri)

    def enroll(csr=csr, uri=uri, token=token):
        request = identity.EnrollRequest(csr_der=csr, identity=uri, join_token=token)
        return refusal(lambda: world.anonymous("Identity/Enroll", request, identity.Enrolled))

    match case:
        case "expired":
            # Until then it is refused for its holder, which uses it up no more than this.
            foreign = world.domain.uri(world.fresh())
            wait.until(lambda: enroll(signing_request(key, foreign), foreign) == "JOIN_TOKEN_EXPIRED", "it is over")
            return enroll(), path
        case "wrong CA":
            return enroll(token=f"rgjoin.{'0' * 16}.{token.split('.')[2]}"), path
        case "wrong SAN":
            uri = f"agp://elsewhere.example/{path}"
            return enroll(signing_request(key, uri), uri), path
        case "two SANs":
            return enroll(signing_request(key, uri, world.domain.uri(world.fresh()))), path
        case "revoked":
            world.revoke(path)
        case "key mismatch":
            return enroll(csr[:-1] + bytes([csr[-1] ^ 1])), path
        case "reused join token":
            assert enroll() == LET_IN
            return enroll(signing_request(ed25519.Ed25519PrivateKey.generate(), uri)), path
        case "foreign identity":
            foreign = world.fresh()
            uri = world.domain.uri(foreign)
            return enroll(signing_request(key, uri), uri), foreign
    return enroll(), path


def renewal(world, case):
    path = world.fresh()
    csr = signing_request(ed25519.Ed25519PrivateKey.generate())
    if case == "key mismatch":
        case, csr = "nothing", csr[:-1] + bytes([csr[-1] ^ 1])
    if case == "foreign identity":
        key = ed25519.Ed25519PrivateKey.generate()
        case, csr = "nothing", signing_request(key, world.domain.uri(world.fresh()))
    request = identity.RenewRequest(csr_der=csr)
    return world.call("Identity/Renew", request, identity.Enrolled, case, path), path


def link_of_a_node(world, case):
    path = world.fresh("node")
    node = path.removeprefix("node/")
    if case == "foreign identity":
        return attach(world, "another", world.shown(world.certificate("nothing", path))), f"node {node}"
    if case in ("token without proof", "replayed proof"):
        token, key = world.bearer(case, path)
        uri = f"https://{world.control.address}/{PACKAGE}.Nodes/Attach"
        for shown in world.proofs(case, token, key, uri):
            told = attach(world, node, metadata=authorized(token, shown))
        return told, path
    return attach(world, node, world.shown(world.certificate(case, path))), path


def attach(world, node, folder=None, metadata=None):
    """How an attachment begins."""
    said = queue.SimpleQueue()
    said.put(nodes.NodeMessage(hello=nodes.Hello(node=node)))
    with connect(world.control.address, world.control.ca, folder) as channel:
        rpc = channel.stream_stream(
            f"/{PACKAGE}.Nodes/Attach", nodes.NodeMessage.SerializeToString, nodes.NodeState.FromString
        )
        told = rpc(iter(said.get, None), metadata=metadata, timeout=wait.DEADLINE_S)
        try:
            next(told)
            return LET_IN
        except grpc.RpcError as error:
            return reason_of(error)
        finally:
            said.put(None)
            told.cancel()


def data_plane_by_certificate(world, case):
    path = world.fresh()
    after = last_entry(world)
    agent = world.site.open(world.certificate(case, path))
    code, text = register(agent, world.fresh() if case == "foreign identity" else path)
    if code != grpc.StatusCode.UNAVAILABLE:
        return told_by(code, text), path

    # It is the operator who is told why a handshake failed; the client gets an alert.
    def why():
        details = [entry.detail for entry in world.control.audit_entries(after) if path in entry.actor]
        found = [re.search(r"TLS handshake: ([A-Z_]+):", detail) for detail in details]
        return next((match[1] for match in found if match), None)

    return wait.until(why, lambda: world.site.gateway.output()[-3000:], 30), path


def data_plane_by_token(world, case, inside=False):
    path = world.fresh()
    token, key = world.bearer(case, path)
    name = world.fresh() if case == "foreign identity" else path
    for shown in world.proofs(case, token, key, world.site.uri):
        if inside:
            agent, fields = world.site.open(), {"token": token, "proof": (shown or "").encode()}
        else:
            agent, fields = world.site.open(metadata=authorized(token, shown)), {}
        code, text = register(agent, name, **fields)
    return told_by(code, text), "" if case == "two SANs" else path


def data_plane_by_token_in_register(world, case):
    return data_plane_by_token(world, case, inside=True)


def register(agent, name, **fields):
    """How a stream's Register ends; (None, None) when it is let in."""
    agent.send(register=pb.Register(name=name, **fields))
    try:
        agent.expect("registered")
        return None, None
    except Ended:
        return agent.wait_for_end()
    finally:
        agent.close()


def told_by(code, text):
    """The reason in a status of the data plane."""
    match code:
        case None:
            return LET_IN
        case grpc.StatusCode.UNAUTHENTICATED:
            return text.split(":")[0]
        case _:
            return code.name


def last_entry(world):
    """The number of the newest entry of the audit log."""
    return world.control.audit_entries()[-1].number


ENTRIES = {name: globals()[name.replace(" ", "_").lower()] for name in EXPECTED}


@pytest.mark.parametrize(("entry", "case"), CELLS, ids=lambda name: name.replace(" ", "-"))
def test_each_is_refused_with_its_own_reason_and_that_is_written(world, entry, case):
    expected, after = EXPECTED[entry][case], last_entry(world)
    told, whom = ENTRIES[entry](world, case)
    assert told == expected
    if expected == LET_IN:
        return

    def written():
        return [
            line
            for line in world.control.audit_entries(after)
            if expected in f"{line.action} {line.outcome} {line.detail}"
            and whom in f"{line.actor} {line.subject} {line.detail}"
        ]

    wait.until(written, lambda: f"{expected} of {whom}: {world.control.audit_entries(after)}", 30)
