"""What TLS needs, as values: certificates with their keys, and how they are used.

The process that reads the files makes them, and workers get them over their link.  No
``repr`` shows a key, so that none gets into a log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct, structs

__all__ = [
    "ALPN_ACME",
    "ALPN_CLIENTS",
    "ALPN_HTTP",
    "CHALLENGE_PATH",
    "INTERMEDIATE",
    "VERIFY",
    "Challenges",
    "ClientPolicy",
    "Keyring",
    "MinVersion",
    "Pair",
    "ServerTls",
    "TicketKeys",
    "Verify",
    "stricter",
    "written_pair",
]

Verify = Literal["none", "optional", "require"]
MinVersion = Literal["1.2", "1.3"]
#: Every value of Verify, by its text.
VERIFY: Final[Mapping[str, Verify]] = {"none": "none", "optional": "optional", "require": "require"}

#: The protocol that is spoken inside of a connection (ALPN).
ALPN_HTTP: Final = "http/1.1"
#: What clients may speak; the best of it first.
ALPN_CLIENTS: Final = (ALPN_HTTP, "http/1.0")
#: The protocol of a CA that checks by TLS-ALPN-01 whose a name is (RFC 8737 4).
ALPN_ACME: Final = "acme-tls/1"
#: Where a CA asks by HTTP-01; a token follows (RFC 8555 8.3).
CHALLENGE_PATH: Final = b"/.well-known/acme-challenge/"

#: The suites of TLS 1.2 in Mozilla's intermediate list, version 5.7, without those that need
#: parameters for Diffie-Hellman.  TLS 1.3 has suites of its own, which are all good.
INTERMEDIATE: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)


class ClientPolicy(Struct, frozen=True):
    """Whether clients need a certificate, and of which CAs, in PEM."""

    verify: Verify = "none"
    ca: str = ""


def stricter(one: ClientPolicy, other: ClientPolicy) -> ClientPolicy:
    """The policy for clients that have to meet both.

    If both ask for a certificate, it has to be of the CA of both.  Where the CAs differ no
    certificate is, and the policy has no CA then.
    """
    if _STRICTNESS[one.verify] < _STRICTNESS[other.verify]:
        one, other = other, one
    if other.verify == "none" or one.ca == other.ca:
        return one
    return ClientPolicy(one.verify)


_STRICTNESS: Final[Mapping[Verify, int]] = {"none": 0, "optional": 1, "require": 2}


class Pair(Struct, frozen=True):
    """A certificate and its key, in PEM."""

    #: Where it is from, for people: the file of the certificate, ``store: NAME``, or ``acme: NAME``
    #: for one of the store that a CA has issued by ACME.
    source: str
    #: The certificate, and after it those that lead to its CA.
    cert: str
    key: str
    #: The names that it is for, in lower case: ``a.example``, ``*.example``.
    names: tuple[str, ...]
    #: The kind of its key: ``rsa``, ``ec``.  A name may have a pair of each kind.
    kind: str
    #: When it expires, in epoch seconds.
    expires: int
    #: The place of its policy among ``Keyring.policies``.
    policy: int = 0
    #: An answer of OCSP for the certificate, in DER (RFC 6960); empty for none.
    staple: bytes = b""
    #: When the answer is good no more, in epoch seconds.
    staple_ends: int = 0

    def __repr__(self) -> str:
        return f"<Pair {self.source}>"


def written_pair(pair: Pair) -> dict[str, str]:
    """The value by which a store has a pair."""
    kind, _, _ = pair.source.partition(": ")
    origin = {"from": "acme"} if kind == "acme" else {}
    return {"cert": pair.cert, "key": pair.key, **origin}


class Challenges(Struct, frozen=True):
    """What a CA that asks by ACME whether a name is ours is answered (RFC 8555 8)."""

    #: The body of the reply to HTTP-01 by its token, which the path ends with.
    http: Mapping[str, str] = {}
    #: The certificate that TLS-ALPN-01 sees, by the name in its handshake.
    tls: Mapping[str, Pair] = {}


class Keyring(Struct, frozen=True):
    """All pairs of a process."""

    pairs: tuple[Pair, ...] = ()
    #: The name whose certificate is for clients that name none, or one without certificate;
    #: empty: their handshake is refused.
    default: str = ""
    min_version: MinVersion = "1.2"
    #: A list of suites as OpenSSL reads it.
    ciphers: str = INTERMEDIATE
    #: The policies of pairs and of listeners.  The first one is for what has none of its own.
    policies: tuple[ClientPolicy, ...] = (ClientPolicy(),)
    #: The places of the policies of listeners that have one of their own, by their ids.
    listeners: Mapping[str, int] = {}
    #: The CAs of clients by the file that they are from, for the next reading.
    cas: Mapping[str, str] = {}


class TicketKeys(Struct, frozen=True):
    """Random bytes that all processes share, from which each context's keys for session
    tickets follow: those for new tickets, and those for older ones that still resume."""

    current: bytes
    former: bytes

    def __repr__(self) -> str:
        return "<TicketKeys>"


class ServerTls(Struct, frozen=True):
    """How a server is spoken to over TLS."""

    #: Whether its certificate is verified, and the name in it.
    verify: bool = True
    #: Certificates of the CAs that are believed, in PEM; empty: those that the system believes.
    ca: str = ""
    #: The certificate that is shown to servers, in PEM, and its key; empty for none.
    cert: str = ""
    key: str = ""
    #: The server's name; empty: the Host of each request.
    server_name: str = ""
    #: The protocols that are offered; none: nothing is said of protocols.
    alpn: tuple[str, ...] = (ALPN_HTTP,)
    #: The files of ``ca``, ``cert`` and ``key``, by which they are read again; empty for none.
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    @property
    def is_read(self) -> bool:
        """Whether the files have been read.  Before that it must not be used: it would believe
        other CAs."""
        return not (self.ca_file and not self.ca) and not (self.cert_file and not self.cert)

    @property
    def context(self) -> ServerTls:
        """What OpenSSL's context depends on: equal for several upstreams as a rule."""
        return structs.replace(self, server_name="", ca_file="", cert_file="", key_file="")

    def __repr__(self) -> str:
        return f"<ServerTls {self.server_name or 'Host'} {self.ca_file} {self.cert_file}>"
