"""The authority of a control process, as somebody has it who reads its store and its seal key: signs what it never would."""

import base64
import json
import secrets
import time

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from harness.control import DOMAIN
from harness.dpop import encoded, parts, signed, thumbprint
from harness.identity import TrustDomain
from harness.protobuf import fields

NONCE_BYTES = 12


class Stolen(TrustDomain):
    """See the module. The control process must keep its store in `etcd`."""

    def __init__(self, etcd, control):
        self.domain = DOMAIN
        (sealed,) = (value for number, value in fields(etcd.get("ringgate/data/trust/sealed")) if number == 1)
        key = base64.b64decode((control.folder / "ca" / "seal.key").read_bytes())
        text = AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], b"ringgate authority 1")
        contents = {name: pem.encode() for name, pem in json.loads(text).items()}
        self.certificate = contents["issuing_pem"]
        self.token_key = contents["token_key_pem"]
        self._key = serialization.load_pem_private_key(contents["issuing_key_pem"], None)
        self._name = x509.load_pem_x509_certificate(self.certificate).subject

    def certify(self, *uris, **wrong):
        """As its parent, with the issuing certificate behind the leaf."""
        leaf, key = super().certify(*uris, **wrong)
        return leaf + self.certificate, key

    def token(self, like, key_pem, path, *, starts_s=0, ends_s=600, signer=None, **claims):
        """A bearer token for the holder of a key; `like` is one that the authority issued. Times count from now."""
        header, issued = parts(like)
        now, uri = int(time.time()), self.uri(path)
        issued.pop("serial", None)
        issued |= {
            "sub": uri,
            "client_id": uri,
            "jti": encoded(secrets.token_bytes(16)),
            "iat": now + starts_s,
            "exp": now + ends_s,
            "cnf": {"jkt": thumbprint(key_pem)},
            **claims,
        }
        return signed(signer or self.token_key, header, issued)
