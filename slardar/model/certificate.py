"""What may be shown of a certificate: everything but its key.

A history keeps this of a certificate that was set, so that it tells of every certificate and holds
no key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

__all__ = ["Description", "described", "host_names", "kept_of"]


class Description(Struct, frozen=True):
    """What a certificate says of itself.  Times are in epoch seconds."""

    #: The names of hosts that it is for, in lower case.
    names: tuple[str, ...]
    #: As RFC 4514 writes names: ``CN=a.example``.
    issuer: str
    subject: str
    #: In hexadecimal digits.
    serial: str
    #: The SHA-256 hash of the certificate, in hexadecimal digits, as browsers show it.
    sha256: str
    not_before: int
    expires: int


def described(pem: str) -> Description:
    """The description of the first certificate in a text.  Raises ValueError."""
    # Programs that meet no certificate do not wait for this import.
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        first = x509.load_pem_x509_certificate(pem.encode())
        return Description(
            host_names(first),
            first.issuer.rfc4514_string(),
            first.subject.rfc4514_string(),
            f"{first.serial_number:x}",
            first.fingerprint(SHA256()).hex(),
            int(first.not_valid_before_utc.timestamp()),
            int(first.not_valid_after_utc.timestamp()),
        )
    except Exception:
        # What a certificate holds may be anything, and cryptography has many errors for it.
        raise ValueError("expected a certificate in PEM") from None


def host_names(certificate: Any) -> tuple[str, ...]:
    """The names of hosts that it is for, in lower case: if it lists none, its common name."""
    from cryptography import x509
    from cryptography.x509.oid import ExtensionOID, NameOID

    try:
        extension: Any = certificate.extensions.get_extension_for_oid(
            ExtensionOID.SUBJECT_ALTERNATIVE_NAME
        ).value
        names = [one.value for one in extension if isinstance(one, x509.DNSName)]
        # A client that goes to an address names no server; ``default`` may name this one.
        names += [str(one.value) for one in extension if isinstance(one, x509.IPAddress)]
    except (x509.ExtensionNotFound, ValueError):
        names = []
    if not names:
        attributes = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        names = [str(one.value) for one in attributes]
    return tuple(dict.fromkeys(name.lower().rstrip(".") for name in names if name))


def kept_of(kind: str, value: object) -> Any:
    """What a history keeps of a value with a private key: of a certificate its names, its expiry
    (epoch seconds) and its hash, and an empty object if nobody can read it; of others nothing."""
    if kind != "certificate" or value is None:
        return None
    pem = value.get("cert") if isinstance(value, Mapping) else None
    try:
        found = described(pem if isinstance(pem, str) else "")
    except ValueError:
        return {}
    return {"names": list(found.names), "expires": found.expires, "sha256": found.sha256}
