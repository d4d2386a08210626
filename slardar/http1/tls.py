"""What is known of a client's TLS connection."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["TlsFacts", "subject_of"]

#: Names of a subject's parts: of RFC 4514 3, and the usual one for an address of e-mail.
_SHORT: Final = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}
_ESCAPED: Final = frozenset(b'"+,;<>\\=')


class TlsFacts:
    """A handshake that has succeeded.

    ``source`` is whatever knows the rest, which nobody may ever ask for: it has the methods
    ``cipher`` and ``getpeercert`` of Python's :class:`ssl.SSLObject`.
    """

    __slots__ = ("name", "policy", "seen", "source", "subject", "version")

    def __init__(
        self, version: str, name: str, subject: bytes, policy: object, source: Any = None
    ) -> None:
        #: ``TLSv1.3``, as OpenSSL calls it.
        self.version: str = version
        #: The name of the server for which the client has asked; empty for none.
        self.name: str = name
        #: The subject of the client's certificate, which was verified (RFC 4514); empty for
        #: none.
        self.subject: bytes = subject
        #: What the client had to show (:class:`slardar.model.tls.ClientPolicy`).
        self.policy: object = policy
        self.source: Any = source
        #: What hooks see of it, once one has looked.
        self.seen: Any = None

    @property
    def cipher(self) -> str:
        """The suite, as OpenSSL calls it: ``TLS_AES_256_GCM_SHA384``; empty if unknown."""
        found = None if self.source is None else self.source.cipher()
        return "" if found is None else str(found[0])

    def __repr__(self) -> str:
        return f"<TlsFacts {self.version} {self.name!r}>"


def subject_of(certificate: dict[str, Any], whose: str = "subject") -> bytes:
    """The subject of a certificate, of which Python's ``getpeercert`` has told, as a text of
    RFC 4514: ``CN=client,O=Example``.  Empty for none.  ``whose`` may be ``issuer``.

    All bytes are printable ASCII, so it may stand in a header.
    """
    parts = []
    for names in reversed(certificate.get(whose, ())):
        parts.append(b"+".join([_attribute(name, value) for name, value in names]))
    return b",".join(parts)


def _attribute(name: str, value: str) -> bytes:
    escaped = b""
    for byte in value.encode("utf-8", "replace"):
        if not 32 <= byte < 127:
            escaped += b"\\%02X" % byte
        else:
            escaped += b"\\" + bytes((byte,)) if byte in _ESCAPED else bytes((byte,))
    if escaped[:1] in (b" ", b"#"):
        escaped = b"\\" + escaped
    if escaped[-1:] == b" ":
        escaped = escaped[:-1] + b"\\ "
    return _SHORT.get(name, name).encode("ascii", "replace") + b"=" + escaped
