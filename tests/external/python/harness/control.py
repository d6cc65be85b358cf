"""The real control process, and its first operator, who calls it over unmodified grpcio."""

import hashlib
import importlib
import subprocess
import sys
import tempfile

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from harness import wait
from harness.gateway import free_port
from harness.identity import private_pem, signing_request
from harness.paths import CONTROL, PROTO, STUBS
from harness.protobuf import fields

PACKAGE = "ringgate.control.v1"
DOMAIN = "ringgate.local"


def generate():
    """Writes the messages of the control process's API to target/ext unless those there are of these very .proto files."""
    sources = sorted((PROTO / "ringgate" / "control" / "v1").glob("*.proto"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    stamp = STUBS / ".control"
    if stamp.exists() and stamp.read_text() == digest:
        return
    STUBS.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTO}", f"--python_out={STUBS}"]
    subprocess.run([*command, *map(str, sources)], check=True)
    stamp.write_text(digest)


generate()
if str(STUBS) not in sys.path:
    sys.path.insert(0, str(STUBS))
audit, config, identity, nodes, policy, registry = (
    importlib.import_module(f"{PACKAGE}.{name}_pb2")
    for name in ("audit", "config", "identity", "nodes", "policy", "registry")
)


class Refused(Exception):
    """A call ended with an error: its status and message, and the reason that programs are told (google.rpc.ErrorInfo)."""

    def __init__(self, method, error):
        super().__init__(f"{method}: {error.code()}: {error.details()}")
        self.reason = reason_of(error)


def reason_of(error):
    """The reason in the details of an error; None where there is none."""
    status = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    # google.rpc.Status.details[0] is a google.protobuf.Any, whose value is an ErrorInfo; its first field is the reason.
    details = [value for number, value in fields(status or b"") if number == 3]
    infos = [value for number, value in fields(details[0] if details else b"") if number == 2]
    reasons = [value for number, value in fields(infos[0] if infos else b"") if number == 1]
    return reasons[0].decode() if reasons else None


def connect(address, ca, folder=None):
    """A channel to a control process that shows the credential in a folder, or none."""
    shown = [(folder / name).read_bytes() for name in ("key.pem", "chain.pem")] if folder else (None, None)
    credentials = grpc.ssl_channel_credentials(ca.read_bytes(), *shown)
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))
    return grpc.secure_channel(address, credentials, options=options)


def call(address, ca, method, request, answer, folder=None, metadata=None):
    """One call of a control process by the owner of the credential in a folder, or by nobody."""
    with connect(address, ca, folder) as channel:
        rpc = channel.unary_unary(f"/{PACKAGE}.{method}", type(request).SerializeToString, answer.FromString)
        try:
            return rpc(request, timeout=wait.DEADLINE_S, metadata=metadata)
        except grpc.RpcError as error:
            raise Refused(method, error) from error


class Control:
    """One `ringgate-control` over a folder, which outlives it."""

    def __init__(self, folder, settings=None, http_port=None):
        assert CONTROL.exists(), f"{CONTROL} is not there: cargo build --release -p ringgate-control"
        self.folder = folder
        self.settings = settings or {}
        self.http_port = http_port
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"https://{self.address}"
        self.ca = folder / "ca.pem"
        self.process = None

    def start(self):
        """Starts it, and waits until it serves."""
        self.log = tempfile.TemporaryFile("w+", prefix="ringgate-control-log-")
        (self.folder / "endpoint").unlink(missing_ok=True)
        http = f"127.0.0.1:{self.http_port}" if self.http_port else "off"
        settings = {"state_dir": self.folder, "listen": self.address, "http": http, **self.settings}
        command = [str(CONTROL)]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait.until(self._serves, lambda: f"{command} serves; it said:\n{self.output()}", 60)

    def _serves(self):
        assert self.process.poll() is None, f"the control process ended at start:\n{self.output()}"
        return (self.folder / "endpoint").exists()

    def output(self):
        """What it has printed so far."""
        self.log.seek(0)
        return self.log.read()

    def kill(self):
        """kill -9."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def call(self, method, request, answer, caller=None, metadata=None):
        """One call by the first operator, or by the owner of a folder: `call("Identity/Revoke", request, identity.Revoked)`."""
        return call(self.address, self.ca, method, request, answer, caller or self.folder / "admin", metadata)

    def join_token(self, name, hosts=(), ttl_seconds=0):
        """A token for one enrolment."""
        request = identity.CreateJoinTokenRequest(identity=name, hosts=hosts, ttl_seconds=ttl_seconds)
        return self.call("Identity/CreateJoinToken", request, identity.JoinToken).token

    def enrol(self, name):
        """(certificate chain, key) in PEM of an agent that enrolled with a token of its own."""
        key = ed25519.Ed25519PrivateKey.generate()
        uri = f"agp://{DOMAIN}/{name}"
        csr = signing_request(key, uri)
        enroll = identity.EnrollRequest(csr_der=csr, identity=uri, join_token=self.join_token(name))
        enrolled = self.call("Identity/Enroll", enroll, identity.Enrolled)
        chain = [x509.load_der_x509_certificate(der) for der in enrolled.chain_der]
        return b"".join(link.public_bytes(serialization.Encoding.PEM) for link in chain), private_pem(key)

    def token(self, credential, folder, ttl_seconds=0):
        """A bearer token for the owner of a credential."""
        (folder / "chain.pem").write_bytes(credential[0])
        (folder / "key.pem").write_bytes(credential[1])
        request = identity.IssueTokenRequest(ttl_seconds=ttl_seconds)
        return self.call("Identity/IssueToken", request, identity.IssuedToken, folder).token

    def revoke(self, name):
        """Every credential of an identity, now and later."""
        request = identity.RevokeRequest(identity=f"agp://{DOMAIN}/{name}", reason="test")
        return self.call("Identity/Revoke", request, identity.Revoked)

    def apply_policy(self, text):
        """Replaces the policies."""
        return self.call("Policy/ApplyPolicy", policy.ApplyPolicyRequest(text=text), policy.ApplyPolicyResponse)

    def apply_config(self, toml):
        """Replaces the configuration of the nodes."""
        return self.call("Config/ApplyConfig", config.ApplyConfigRequest(toml=toml), config.ApplyConfigResponse)

    def agents(self):
        """Names of the agents that are there."""
        listed = self.call("Registry/ListAgents", registry.ListAgentsRequest(), registry.ListAgentsResponse)
        return {agent.name: agent for agent in listed.agents}

    def audited(self):
        """The audit log's actions."""
        return [entry.action for entry in self.audit_entries()]

    def audit_entries(self, after=0):
        """The audit log behind the entry of this number."""
        entries = []
        while True:
            request = audit.ListAuditRequest(after_number=after)
            page = self.call("Audit/ListAudit", request, audit.ListAuditResponse)
            entries += page.entries
            if not page.more:
                return entries
            after = page.entries[-1].number
