"""The process beside its data port: command line, health, metrics, counters."""

import base64
import contextlib
import http.client
import subprocess

import pytest

from harness.gateway import RESIDUE, free_port
from harness.paths import CLI, GATEWAY, ROOT


def run(*arguments):
    """The gateway with these arguments, to its end."""
    return subprocess.run([GATEWAY, *arguments], capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)


def test_health_and_readiness(one_core):
    assert one_core.get("/healthz")[0] == 200
    assert one_core.get("/readyz")[0] == 200
    assert one_core.get("/nothing-here")[0] == 404


def test_stats_are_the_sum_of_the_cores(scene):
    for number in range(4):
        scene.agent("alice", str(number)).subscribe(scene.topic("**"))
    total = scene.gateway.stats()
    assert (total["connections"], total["sessions"], total["subscriptions"]) == (4, 4, 4)
    cores = [scene.gateway.stats(core) for core in range(len(scene.gateway.cores.split(",")))]
    for name in ("connections", *RESIDUE):
        assert total[name] == sum(core[name] for core in cores), name


def test_metrics_are_in_the_text_format_and_name_no_client(scene):
    alice = scene.agent("alice")
    alice.publish_acked(scene.topic("secret"))
    status, body = scene.gateway.get("/metrics")
    assert status == 200 and "# TYPE " in body
    assert scene.namespace not in body, "names that clients choose are no labels"
    for line in body.splitlines():
        assert line.startswith("#") or float(line.rsplit(" ", 1)[1]) is not None


def test_development_says_so_at_start(one_core):
    assert "development" in one_core.output().lower()


EXAMPLE = ROOT / "dataplane" / "ringgate-dataplane.example.toml"


def test_shipped_example_config_is_valid():
    done = run("--config", EXAMPLE, "--profile", "development", "--check")
    assert done.returncode == 0, done.stderr


def test_default_profile_asks_for_certificates():
    done = run("--config", EXAMPLE, "--check")
    assert done.returncode != 0
    assert "strict" in done.stderr and "tls.certificate" in done.stderr and "development" in done.stderr


def test_config_error_names_file_line_and_key(tmp_path):
    config = tmp_path / "broken.toml"
    config.write_text('profile = "development"\n\n[limits]\nno_such_key = 1\n')
    done = run("--config", config, "--check")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "broken.toml" in said and "4" in said and "no_such_key" in said


def test_unknown_setting_names_the_key():
    done = run("--profile", "development", "--set", "limits.no_such_key=1", "--check")
    assert done.returncode != 0 and "no_such_key" in done.stdout + done.stderr


def test_plaintext_beyond_loopback_is_refused():
    done = run("--profile", "development", "--listen", f"0.0.0.0:{free_port()}", "--http", "off", "--cores", "0")
    assert done.returncode != 0 and "loopback" in (done.stdout + done.stderr).lower()


def test_port_in_use_is_named(one_core):
    done = run("--profile", "development", "--listen", one_core.address, "--http", "off", "--cores", "0")
    assert done.returncode != 0 and str(one_core.port) in done.stdout + done.stderr


@pytest.mark.parametrize("cores", ["", "9999", "x", "0,0"])
def test_impossible_cores_are_refused(cores):
    done = run("--profile", "development", "--listen", f"127.0.0.1:{free_port()}", "--http", "off", "--cores", cores)
    assert done.returncode != 0 and len(done.stdout + done.stderr) > 20


def test_too_few_files_is_said_with_the_remedy():
    command = f"ulimit -n 8; exec {GATEWAY} --profile development --listen 127.0.0.1:{free_port()} --http off --cores 0"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=20)
    said = (done.stdout + done.stderr).lower()
    assert done.returncode != 0
    assert "file" in said, said


# --- who may look ---------------------------------------------------------------------------------------------------------

SECRET = "kZ3vW8q1nR5tY7uB2cX9mL4p"


@pytest.fixture
def token(tmp_path):
    """A file with a token."""
    path = tmp_path / "token"
    path.write_text(f"{SECRET}\n")
    return path


def asked(port, path, **headers):
    """(status, headers) of a page."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        response.read(1)
        return response.status, response.headers


def test_beyond_loopback_nobody_looks_without_a_token():
    done = run("--profile", "development", "--http", f"0.0.0.0:{free_port()}", "--check")
    assert done.returncode != 0 and "http_token" in done.stderr, done.stderr


def test_a_token_that_could_be_guessed_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "token").write_text("secret\n")
    arguments = ["--profile", "development", "--listen", f"127.0.0.1:{free_port()}", "--cores", "0"]
    for path in (tmp_path / "token", tmp_path / "none"):
        done = run(*arguments, "--http", f"127.0.0.1:{free_port()}", "--set", f"http_token={path}")
        assert done.returncode != 0 and str(path) in done.stderr and "http_token" in done.stderr, done.stderr


def test_who_looks_shows_the_token(start_gateway, token):
    gateway = start_gateway(settings={"http_token": token})
    for path in ("/metrics", "/stats", "/corez", "/agentz", "/tap", "/events", "/conversations", "/nothing-here"):
        status, headers = asked(gateway.http_port, path)
        assert status == 401 and "Bearer" in headers["www-authenticate"], path
        assert asked(gateway.http_port, path, authorization=f"Bearer {SECRET[:-1]}")[0] == 401, path
    assert asked(gateway.http_port, "/healthz")[0] == asked(gateway.http_port, "/readyz")[0] == 200
    assert asked(gateway.http_port, "/metrics", authorization=f"Bearer {SECRET}")[0] == 200
    as_browser = base64.b64encode(f"me:{SECRET}".encode()).decode()
    assert asked(gateway.http_port, "/corez", authorization=f"Basic {as_browser}")[0] == 200
    command = [CLI, "topics", "--http", f"127.0.0.1:{gateway.http_port}"]
    options = {"capture_output": True, "text": True, "timeout": 30, "stdin": subprocess.DEVNULL}
    refused = subprocess.run(command, **options)
    assert refused.returncode != 0 and "401" in refused.stderr and "http_token" in refused.stderr, refused.stderr
    assert subprocess.run([*command, "--http-token", token], **options).returncode == 0
