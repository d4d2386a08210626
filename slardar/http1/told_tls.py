"""TLS that somebody else speaks: of which a library tells, or a person who tries a hook."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from slardar.http1.tls import TlsFacts, subject_of

__all__ = ["ToldTls", "told_tls"]


def told_tls(
    version: str = "TLSv1.3",
    name: str = "",
    cipher: str = "TLS_AES_256_GCM_SHA384",
    certificate: bytes = b"",
) -> TlsFacts:
    """The facts of a connection that slardar has not made.

    ``name`` is the server for which the client has asked.  ``certificate`` is that of the
    client, in DER, if it has shown one and it was verified.  Raises ValueError if it is no
    certificate.
    """
    source = ToldTls(cipher, certificate)
    return TlsFacts(version, name, subject_of(source.getpeercert() or {}), None, source)


class ToldTls:
    """Tells what is known as :class:`ssl.SSLObject` does."""

    def __init__(self, cipher: str, certificate: bytes) -> None:
        self._cipher = cipher
        self._certificate = certificate

    def cipher(self) -> tuple[str, str, int] | None:
        """The suite, by its name."""
        return (self._cipher, "", 0) if self._cipher else None

    def getpeercert(self, binary_form: bool = False) -> Any:
        """The client's certificate in DER, or what is in it; ``None`` for none."""
        if binary_form or not self._certificate:
            return self._certificate or None
        return _content(self._certificate)


@lru_cache(maxsize=128)
def _content(data: bytes) -> dict[str, Any]:
    """What is in a certificate, in the form of ``getpeercert``.  Raises ValueError."""
    # Imported here: a process that meets no such certificate does not pay for it.
    from cryptography import x509
    from cryptography.x509.oid import ExtensionOID, NameOID

    # In OpenSSL's names: commonName for COMMON_NAME.
    names = {
        value: re.sub(r"_(.)", lambda found: found[1].upper(), key.lower())
        for key, value in vars(NameOID).items()
        if isinstance(value, x509.ObjectIdentifier)
    }

    def named(name: x509.Name) -> tuple[tuple[tuple[str, str], ...], ...]:
        return tuple(
            tuple((names.get(one.oid, one.oid.dotted_string), str(one.value)) for one in part)
            for part in name.rdns
        )

    certificate = x509.load_der_x509_certificate(data)
    found: dict[str, Any] = {
        "subject": named(certificate.subject),
        "issuer": named(certificate.issuer),
        "serialNumber": f"{certificate.serial_number:X}",
        "notAfter": certificate.not_valid_after_utc.strftime("%b %d %H:%M:%S %Y GMT"),
    }
    if len(found["serialNumber"]) % 2:
        found["serialNumber"] = "0" + found["serialNumber"]
    try:
        extension: Any = certificate.extensions.get_extension_for_oid(
            ExtensionOID.SUBJECT_ALTERNATIVE_NAME
        ).value
    except x509.ExtensionNotFound:
        return found
    found["subjectAltName"] = (
        *(("DNS", one) for one in extension.get_values_for_type(x509.DNSName)),
        *(("email", one) for one in extension.get_values_for_type(x509.RFC822Name)),
    )
    return found
