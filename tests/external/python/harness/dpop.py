"""Bearer tokens and the proofs that go with them (RFC 9449), made by hand."""

import base64
import hashlib
import json
import secrets
import time

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa


def proof(key_pem, token, uri, *, method="POST", age_s=0):
    """The `dpop` header of one call."""
    claims = {
        "jti": encoded(secrets.token_bytes(16)),
        "htm": method,
        "htu": uri,
        "iat": int(time.time()) - age_s,
        "ath": encoded(hashlib.sha256(token.encode()).digest()),
    }
    key = serialization.load_pem_private_key(key_pem, None)
    return signed(key_pem, {"typ": "dpop+jwt", "alg": algorithm(key), "jwk": jwk(key)}, claims)


def jwk(key):
    """The public part of a key (RFC 7517)."""
    public = key.public_key()
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = public.public_numbers()
        n, e = (number.to_bytes(-(-number.bit_length() // 8), "big") for number in (numbers.n, numbers.e))
        return {"e": encoded(e), "kty": "RSA", "n": encoded(n)}
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return {"crv": "Ed25519", "kty": "OKP", "x": encoded(raw)}


def thumbprint(key_pem):
    """What a token is bound to a key by (RFC 7638)."""
    members = jwk(serialization.load_pem_private_key(key_pem, None))
    return encoded(hashlib.sha256(json.dumps(members, sort_keys=True, separators=(",", ":")).encode()).digest())


def algorithm(key):
    """What a JWT that this key signs says of it."""
    return "RS256" if isinstance(key, rsa.RSAPrivateKey) else "EdDSA"


def signed(key_pem, header, claims):
    """A JWT."""
    key = serialization.load_pem_private_key(key_pem, None)
    text = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
    scheme = (padding.PKCS1v15(), hashes.SHA256()) if isinstance(key, rsa.RSAPrivateKey) else ()
    return f"{text}.{encoded(key.sign(text.encode(), *scheme))}"


def parts(token):
    """Header and claims of a JWT."""
    return [json.loads(decoded(part)) for part in token.split(".")[:2]]


def encoded(data):
    """base64url without padding (RFC 7515)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text):
    """The reverse."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
