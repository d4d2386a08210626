"""The keys, requests and certificates that a client of ACME makes.

All of it takes some milliseconds at most, and may be called in a thread.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from datetime import datetime, timedelta, timezone
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

__all__ = ["base64url", "certificate_id", "challenge_pair", "made_key", "request_for", "validity"]

#: How long the certificate for a CA that asks by TLS-ALPN-01 is good.
_VALID = timedelta(days=7)


def made_key() -> str:
    """A new private key, in PEM: ECDSA with the curve P-256."""
    return _pem(ec.generate_private_key(ec.SECP256R1()))


def request_for(name: str, key: str) -> bytes:
    """The request for a certificate of a host (PKCS #10), in DER, signed with a private key."""
    # No common name: it has room for 64 characters only, and nobody reads it.
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    signed = made.add_extension(names, critical=False).sign(_private(key), SHA256())
    return signed.public_bytes(Encoding.DER)


def challenge_pair(name: str, text: str) -> tuple[str, str]:
    """The certificate that answers a CA by TLS-ALPN-01, and its key, in PEM (RFC 8737 3).

    ``text`` is the key authorization.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    # Some CAs want a subject, and all of them look at the extensions.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ACME challenge")])
    now = datetime.now(timezone.utc)
    # An ASN.1 OCTET STRING with the hash.
    digest = b"\x04\x20" + hashlib.sha256(text.encode("ascii")).digest()
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31"), digest),
            critical=True,
        )
        .sign(key, SHA256())
    )
    return signed.public_bytes(Encoding.PEM).decode("ascii"), _pem(key)


def certificate_id(pem: str) -> str:
    """The name of a certificate in questions about its renewal (RFC 9773 4.1).

    Raises ValueError if it has none.
    """
    try:
        found = x509.load_pem_x509_certificate(pem.encode())
        extension: Any = found.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
        issuer = extension.value.key_identifier
        serial = found.serial_number
    except Exception:
        # What a CA has signed may be anything, and cryptography has many errors for it.
        raise ValueError("the certificate does not name its issuer's key") from None
    if not issuer:
        raise ValueError("the certificate does not name its issuer's key")
    # A byte more where the first bit would be taken for a sign.
    number = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
    return f"{base64url(issuer)}.{base64url(number)}"


def validity(pem: str) -> tuple[float, float]:
    """From when until when the first certificate in a text is good, in epoch seconds.

    Raises ValueError.
    """
    try:
        found = x509.load_pem_x509_certificate(pem.encode())
        begins, ends = found.not_valid_before_utc, found.not_valid_after_utc
    except Exception:
        raise ValueError("expected a certificate in PEM") from None
    return begins.timestamp(), ends.timestamp()


def base64url(data: bytes) -> str:
    """As ACME writes bytes (RFC 8555 5)."""
    return urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _private(pem: str) -> Any:
    return load_pem_private_key(pem.encode(), None)


def _pem(key: Any) -> str:
    data: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return data.decode("ascii")
