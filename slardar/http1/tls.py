"""What is known of a client's TLS connection."""

from __future__ import annotations

__all__ = ["TlsFacts"]


class TlsFacts:
    """A handshake that has succeeded."""

    __slots__ = ("name", "policy", "subject", "version")

    def __init__(self, version: str, name: str, subject: bytes, policy: object) -> None:
        #: ``TLSv1.3``, as OpenSSL calls it.
        self.version: str = version
        #: The name of the server for which the client has asked; empty for none.
        self.name: str = name
        #: The subject of the client's certificate, which was verified (RFC 4514); empty for
        #: none.
        self.subject: bytes = subject
        #: What the client had to show (:class:`slardar.model.tls.ClientPolicy`).
        self.policy: object = policy

    def __repr__(self) -> str:
        return f"<TlsFacts {self.version} {self.name!r}>"
