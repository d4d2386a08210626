"""What hooks see of a client's TLS: the connection, and the certificate that was verified.

A connection's values are made when a hook first looks, and kept with the connection.  None
of them can be changed.
"""

from __future__ import annotations

import hashlib
from ssl import cert_time_to_seconds
from typing import Any

from slardar.http1.tls import TlsFacts, subject_of

__all__ = ["ClientCertificate", "HookTls", "as_values", "seen_tls"]


class ClientCertificate:
    """The certificate of a client, which was verified.

    ``data`` is all of it, in DER, and ``content`` is what Python's ``getpeercert`` tells.
    """

    __slots__ = (
        "dns_names", "emails", "fingerprint", "issuer", "not_after", "serial", "sha1", "subject",
    )  # fmt: skip

    def __init__(self, data: bytes, content: dict[str, Any]) -> None:
        #: The two names as texts of RFC 4514: ``CN=alice,O=Example``.
        self.subject = subject_of(content).decode("ascii")
        self.issuer = subject_of(content, "issuer").decode("ascii")
        #: The serial number in hexadecimal digits, in upper case as OpenSSL writes it.
        self.serial = str(content.get("serialNumber", ""))
        #: SHA-256 of all of it, and SHA-1, in hexadecimal digits.
        self.fingerprint = hashlib.sha256(data).hexdigest()
        self.sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        #: When it expires, in epoch seconds.
        self.not_after = cert_time_to_seconds(content["notAfter"])
        others = content.get("subjectAltName", ())
        #: The names of hosts and the addresses of e-mail that it lists.
        self.dns_names = tuple(value for kind, value in others if kind == "DNS")
        self.emails = tuple(value for kind, value in others if kind == "email")

    def __repr__(self) -> str:
        return f"<ClientCertificate {self.subject}>"


class HookTls:
    """A client's TLS connection."""

    __slots__ = ("cipher", "client_cert", "sni", "version")

    def __init__(self, facts: TlsFacts) -> None:
        #: ``TLSv1.3``, and the suite, as OpenSSL calls them.
        self.version = facts.version
        self.cipher = facts.cipher
        #: The name of the server for which the client has asked, or ``None``.
        self.sni = facts.name or None
        #: What the client has shown, or ``None``.
        self.client_cert = _certificate(facts.source)

    def __repr__(self) -> str:
        return f"<HookTls {self.version} {self.cipher}>"


def seen_tls(facts: TlsFacts) -> HookTls:
    """What hooks see of a connection."""
    seen = facts.seen
    if seen is None:
        seen = facts.seen = HookTls(facts)
    return seen  # type: ignore[no-any-return]


def as_values(seen: HookTls) -> dict[str, Any]:
    """The same as plain values, without what there is none of."""
    found: dict[str, Any] = {"version": seen.version, "cipher": seen.cipher}
    if seen.sni is not None:
        found["sni"] = seen.sni
    certificate = seen.client_cert
    if certificate is not None:
        found["client_cert"] = {
            "subject": certificate.subject,
            "issuer": certificate.issuer,
            "serial": certificate.serial,
            "fingerprint": certificate.fingerprint,
            "not_after": certificate.not_after,
            "dns_names": list(certificate.dns_names),
            "emails": list(certificate.emails),
        }
    return found


def _certificate(source: Any) -> ClientCertificate | None:
    if source is None:
        return None
    data = source.getpeercert(True)
    return None if data is None else ClientCertificate(data, source.getpeercert() or {})
