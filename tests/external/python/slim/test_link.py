"""How an application is connected: header authentication, TLS, passwords, tokens, and a dialect that is switched off."""

import base64
import datetime
import json
import time

import pytest
import slim_bindings as slim
from apps import changed, refused, run, talk
from cryptography.hazmat.primitives import hashes, hmac

from harness.certificates import Authority

HEADER_MAC = "slim.header_mac"
JWT_SECRET = b"the-gateway-verifies-tokens-with-this-secret"


# --- header authentication ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "node, client, works",
    [
        ("required", None, True),
        ("required", True, True),
        ("required", False, True),  # the bindings offer a key even so
        ("offered", None, True),
        ("offered", False, True),
        ("off", False, True),
        ("off", True, False),
        ("off", None, False),
    ],
)
def test_header_authentication_is_as_both_sides_want_it(start_stage, node, client, works):
    stage = start_stage(settings={HEADER_MAC: node})
    config = changed(stage, require_header_mac=client)
    if works:
        run(talk(stage, config))
    else:
        refused(stage, config)


def test_with_and_without_header_authentication_talk_to_each_other(start_stage):
    stage = start_stage(settings={HEADER_MAC: "offered"})

    async def steps():
        alice = stage.app("alice")
        bob = stage.app("bob", changed(stage, require_header_mac=False))
        for caller, callee in ((alice, bob), (bob, alice)):
            call = await caller.call(callee.name, mls=True)
            answer = await callee.answer()
            await call.say(b"hello")
            await answer.expect(b"hello")

    run(steps())


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def secured(start_stage, tmp_path):
    """(stage on a gateway with TLS, its authority)."""
    authority = Authority("ringgate test CA")
    certificate, key = authority.server()
    (tmp_path / "server.pem").write_bytes(certificate)
    (tmp_path / "server.key").write_bytes(key)
    arguments = ["--tls-cert", tmp_path / "server.pem", "--tls-key", tmp_path / "server.key"]
    return start_stage(arguments=arguments), authority


def trusting(stage, authority):
    """A client's configuration that trusts `authority` alone."""
    config = slim.new_secure_client_config(f"https://localhost:{stage.gateway.port}")
    config.tls.ca_source = slim.CaSource.PEM(authority.certificate.decode())
    config.tls.include_system_ca_certs_pool = False
    return config


def test_tls_with_an_authority_of_ones_own(secured):
    stage, authority = secured
    run(talk(stage, trusting(stage, authority)))


def test_a_gateway_of_another_authority_is_not_connected_to(secured):
    stage, _ = secured
    refused(stage, trusting(stage, Authority("somebody else")))


# --- passwords and tokens -----------------------------------------------------------------------------------------------


def test_a_password_is_asked_for_where_configured(start_stage, tmp_path):
    users = tmp_path / "users"
    users.write_text("agent:the right password\n")
    stage = start_stage(settings={"slim.basic_users": users})

    def with_password(password):
        auth = slim.BasicAuth(username="agent", password=password)
        return changed(stage, auth=slim.ClientAuthenticationConfig.BASIC(auth))

    run(talk(stage, with_password("the right password")))
    for config in (with_password("a wrong password"), stage.client_config()):
        refused(stage, config)
    assert stage.gateway.stats()["slim_turned_away"] == 2
    assert stage.gateway.security_events()["UNAUTHENTICATED"] == 2


def token(subject, expires_in_s):
    """A JWT, signed with the gateway's secret."""

    def part(content):
        return base64.urlsafe_b64encode(content).rstrip(b"=")

    claims = {"sub": subject, "aud": "ringgate", "exp": int(time.time()) + expires_in_s}
    signed = b".".join(part(json.dumps(content).encode()) for content in ({"alg": "HS256", "typ": "JWT"}, claims))
    mac = hmac.HMAC(JWT_SECRET, hashes.SHA256())
    mac.update(signed)
    return (signed + b"." + part(mac.finalize())).decode()


def test_a_token_is_asked_for_where_configured(start_stage, tmp_path):
    key = tmp_path / "secret"
    key.write_bytes(JWT_SECRET)
    stage = start_stage(settings={"slim.jwt_key": key, "slim.jwt_audience": "ringgate"})

    def with_token(name, expires_in_s):
        file = tmp_path / name
        file.write_text(token(name, expires_in_s))
        auth = slim.StaticJwtAuth(token_file=str(file), duration=datetime.timedelta(minutes=5))
        return changed(stage, auth=slim.ClientAuthenticationConfig.STATIC_JWT(auth))

    run(talk(stage, with_token("agent", 600)))
    for config in (with_token("late", -600), stage.client_config()):
        refused(stage, config)


# --- on and off -----------------------------------------------------------------------------------------------------------


def test_a_dialect_that_is_off_is_not_served(start_stage):
    stage = start_stage(settings={"slim.enabled": "false"})
    refused(stage, stage.client_config())


def test_sessions_must_be_encrypted_where_plain_payloads_are_not_allowed(start_stage):
    stage = start_stage(settings={"slim.plain_payloads": "false"})

    async def steps():
        await talk(stage)
        alice, bob = stage.app("plain-alice"), stage.app("plain-bob")
        call = await alice.call(bob.name, reliable=False)
        answer = await bob.answer()
        await call.say(b"in the clear")
        encrypted = await alice.call(bob.name, mls=True)
        theirs = await bob.answer()
        await encrypted.say(b"encrypted")
        await theirs.expect(b"encrypted")
        # What was said before it has not arrived, and was counted.
        assert stage.gateway.stats()["slim_not_mls"] == 1
        with pytest.raises(slim.SlimError, match="timeout"):
            await answer.session.get_message_async(datetime.timedelta(milliseconds=50))

    run(steps())
