"""A trust domain for one test run: credentials as the control process issues them, and every wrong kind of them."""

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOUR = datetime.timedelta(hours=1)


class TrustDomain:
    """An authority that certifies agents: Ed25519 keys, one URI each."""

    def __init__(self, domain):
        self.domain = domain
        self._key = ed25519.Ed25519PrivateKey.generate()
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{domain} root")])
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - HOUR)
            .not_valid_after(now + 24 * HOUR)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(key_usage(authority=True), critical=True)
        )
        self.certificate = pem(builder.sign(self._key, None))

    def uri(self, path):
        """The identity of `org/ns/service/instance`, `node/x` or `operator/x`."""
        return f"agp://{self.domain}/{path}"

    def certify(
        self,
        *uris,
        key=None,
        starts=-HOUR,
        ends=HOUR,
        usages=(ExtendedKeyUsageOID.CLIENT_AUTH,),
        digital_signature=True,
    ):
        """(certificate, key) in PEM for these URIs. `starts` and `ends` count from now."""
        key = key or ed25519.Ed25519PrivateKey.generate()
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + starts)
            .not_valid_after(now + ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(digital_signature=digital_signature), critical=True)
        )
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if uris:
            names = [x509.UniformResourceIdentifier(uri) for uri in uris]
            # Critical where there is no other subject (RFC 5280 section 4.2.1.6).
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
        return pem(builder.sign(self._key, None)), private_pem(key)

    def agent(self, name, **wrong):
        """(certificate, key) in PEM of an agent."""
        return self.certify(self.uri(name), **wrong)


def rsa_key():
    """A key of a type that agents may not have."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def p256_key():
    """Another one."""
    return ec.generate_private_key(ec.SECP256R1())


def key_usage(authority=False, digital_signature=True):
    """Of an authority, or of a leaf."""
    return x509.KeyUsage(
        digital_signature=digital_signature and not authority,
        content_commitment=not digital_signature,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def signing_request(key, *uris):
    """A PKCS#10 request in DER of whoever holds `key`, for these identities."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(serialization.Encoding.DER)


def private_pem(key):
    """PKCS#8."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def pem(certificate):
    """As files have it."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def fingerprint(certificate):
    """SHA-256 of a PEM certificate, to tell one from another."""
    return x509.load_pem_x509_certificate(certificate).fingerprint(hashes.SHA256()).hex()
