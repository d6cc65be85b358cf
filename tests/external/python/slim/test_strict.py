"""Profile `strict`: SLIM is off until it is switched on; then its clients show a certificate, and what they say must be MLS."""

import pytest
import slim_bindings as slim
from apps import changed, refused, run, talk

from harness.certificates import Authority
from harness.identity import TrustDomain

DOMAIN = "test.example"


class Site:
    """What a strict gateway is started with, and clients that it knows."""

    def __init__(self, folder):
        self.folder = folder
        self.listener = Authority("ringgate test CA")
        self.domain = TrustDomain(DOMAIN)
        certificate, key = self.listener.server()
        (folder / "server.pem").write_bytes(certificate)
        (folder / "server.key").write_bytes(key)
        (folder / "agents.pem").write_bytes(self.domain.certificate)

    def start(self, start_stage, **settings):
        """A stage on a strict gateway."""
        arguments = ["--tls-cert", self.folder / "server.pem", "--tls-key", self.folder / "server.key"]
        arguments += ["--tls-client-ca", self.folder / "agents.pem"]
        # What --set says comes after the profile that the harness asks for.
        return start_stage(settings={"profile": "strict", "trust_domain": DOMAIN, **settings}, arguments=arguments)

    def client_config(self, stage, credential=None):
        """How to connect, with a certificate or without."""
        config = slim.new_secure_client_config(f"https://localhost:{stage.gateway.port}")
        config.tls.ca_source = slim.CaSource.PEM(self.listener.certificate.decode())
        config.tls.include_system_ca_certs_pool = False
        if credential:
            certificate, key = credential
            config.tls.source = slim.TlsSource.PEM(certificate.decode(), key.decode())
        return config

    def certified(self, stage):
        """How a client that the gateway knows connects."""
        return self.client_config(stage, self.domain.agent("acme/demo/alice/1"))


@pytest.fixture
def site(tmp_path):
    """A trust domain of this test's own."""
    return Site(tmp_path)


def test_it_is_off_until_it_is_switched_on(start_stage, site):
    stage = site.start(start_stage)
    refused(stage, site.certified(stage))
    assert stage.gateway.stats().get("slim_connections", 0) == 0


def test_certified_clients_talk_with_mls_and_not_without(start_stage, site):
    stage = site.start(start_stage, **{"slim.enabled": "true"})

    async def steps():
        config = site.certified(stage)
        await talk(stage, config)
        alice, bob = stage.app("plain-alice", config), stage.app("plain-bob", config)
        call = await alice.call(bob.name, reliable=False)
        await bob.answer()
        await call.say(b"in the clear")
        # Behind it on the same connection; answered when both have been dealt with.
        await (await alice.call(bob.name, mls=True)).say(b"encrypted")

    run(steps())
    assert stage.gateway.stats()["slim_not_mls"] == 1
    assert stage.gateway.security_events()["PERMISSION_DENIED"] == 1


def test_without_a_good_certificate_nobody_is_served(start_stage, site):
    stage = site.start(start_stage, **{"slim.enabled": "true"})
    foreign = TrustDomain(DOMAIN).agent("acme/demo/alice/1")
    for credential in (None, foreign):
        refused(stage, site.client_config(stage, credential))
    # One came as far as a stream, the other not even through the handshake.
    assert stage.gateway.stats()["slim_turned_away"] == 1
    assert stage.gateway.security_events()["UNAUTHENTICATED"] >= 1


def test_a_password_does_in_place_of_a_certificate(start_stage, site, tmp_path):
    users = tmp_path / "users"
    users.write_text("agent:the right password\n")
    stage = site.start(start_stage, **{"slim.enabled": "true", "slim.basic_users": users})
    auth = slim.BasicAuth(username="agent", password="the right password")
    config = site.client_config(stage)
    config.auth = slim.ClientAuthenticationConfig.BASIC(auth)
    run(talk(stage, config))
    refused(stage, changed(stage))
