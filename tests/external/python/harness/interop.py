"""gRPC's own test service, served by the example `interop_server` on the gateway's ring, HTTP/2 and gRPC layers."""

import re
import subprocess
import sys
import tempfile

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from harness import wait
from harness.paths import INTEROP_SERVER, PROTO, STUBS


def load():
    """The descriptors of `grpc.testing`. Generated modules would hide the package `grpc` behind their own."""
    STUBS.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=STUBS, suffix=".binpb") as out:
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTO}", "--include_imports"]
        command += [f"--descriptor_set_out={out.name}", "grpc/testing/test.proto"]
        subprocess.run(command, check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool


POOL = load()


def message(name):
    """The class of a message of `grpc.testing`."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"grpc.testing.{name}"))


class Stub:
    """The methods of a service of `grpc.testing`, as generated stubs have them."""

    def __init__(self, channel, service="TestService"):
        for method in POOL.FindServiceByName(f"grpc.testing.{service}").methods:
            arity = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
            call = getattr(channel, arity)(
                f"/{method.containing_service.full_name}/{method.name}",
                request_serializer=lambda request: request.SerializeToString(),
                response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
            )
            setattr(self, method.name, call)


class InteropServer:
    """A running `interop_server`."""

    def __init__(self):
        assert INTEROP_SERVER.exists(), (
            f"{INTEROP_SERVER} is not there: cargo build --release -p ringgate-dataplane --example interop_server"
        )
        self._log = tempfile.TemporaryFile("w+", prefix="interop-log-")
        command = [str(INTEROP_SERVER), "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        try:
            self.address = wait.until(self._ready, lambda: f"{command} is ready; it said:\n{self.output()}")
        except BaseException:
            self.kill()
            raise

    def _ready(self):
        assert self.is_alive(), f"it ended at start with {self.process.returncode}:\n{self.output()}"
        ready = re.search(r"^interop_server ready on (\S+)$", self.output(), re.MULTILINE)
        return ready and ready[1]

    def is_alive(self):
        """True while the process runs."""
        return self.process.poll() is None

    def output(self):
        """What the process has printed so far."""
        self._log.seek(0)
        return self._log.read()

    def connect(self, **options):
        """A channel with a connection of its own."""
        return grpc.insecure_channel(self.address, [("grpc.use_local_subchannel_pool", 1)], **options)

    def kill(self):
        """Ends the process."""
        self.process.kill()
        self.process.wait(10)
