"""Proofs that go with bearer tokens (RFC 9449), made by hand."""

import base64
import hashlib
import json
import secrets
import time

from cryptography.hazmat.primitives import serialization


def proof(key_pem, token, uri, *, method="POST", age_s=0):
    """The `dpop` header of one call."""
    key = serialization.load_pem_private_key(key_pem, None)
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": encoded(public)}
    claims = {
        "jti": encoded(secrets.token_bytes(16)),
        "htm": method,
        "htu": uri,
        "iat": int(time.time()) - age_s,
        "ath": encoded(hashlib.sha256(token.encode()).digest()),
    }
    return signed(key_pem, {"typ": "dpop+jwt", "alg": "EdDSA", "jwk": jwk}, claims)


def signed(key_pem, header, claims):
    """A JWT."""
    key = serialization.load_pem_private_key(key_pem, None)
    text = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
    return f"{text}.{encoded(key.sign(text.encode()))}"


def encoded(data):
    """base64url without padding (RFC 7515)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text):
    """The reverse."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
