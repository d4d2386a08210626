"""The hash balancers: the same key goes to the same server.  They differ in the key.

``hash``         what a hook set as ``hash_key``, else the URI
``url_hash``     the URI with its query, as it was sent
``ip_hash``      the client's address
``header_hash``  the header ``X-Hash-Key``, or the one that the option ``header``
                 names; without it (or if it is empty) the URI
``host_hash``    the Host, lower case, without port

How a key finds its server is in ``slardar.balancers.rendezvous``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from slardar.balancers.base import bad_option, refuse_unknown_options
from slardar.balancers.rendezvous import ConsistentHash
from slardar.interfaces import IRequest
from slardar.model.live import Peer

__all__ = ["Hash", "HeaderHash", "HostHash", "IpHash", "UrlHash"]

# A header's name (RFC 9110 5.1).
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Hash(ConsistentHash):
    """By the key that a hook gave, else by the URI."""

    modes = ("hash",)

    def key(self, request: IRequest) -> str:
        given: str | None = request.hash_key
        return given or request.uri


class UrlHash(ConsistentHash):
    """By the URI."""

    modes = ("url_hash",)

    def key(self, request: IRequest) -> str:
        key: str = request.uri
        return key


class IpHash(ConsistentHash):
    """By the client's address (all of it; nginx takes three of IPv4's four bytes)."""

    modes = ("ip_hash",)

    def key(self, request: IRequest) -> str:
        key: str = request.client
        return key


class HostHash(ConsistentHash):
    """By the host asked for."""

    modes = ("host_hash",)

    def key(self, request: IRequest) -> str:
        key: str = request.host
        return key


class HeaderHash(ConsistentHash):
    """By a header's first value, else by the URI.

    Option ``header``: its name, any case; default ``X-Hash-Key``.
    """

    modes = ("header_hash",)

    def __init__(self, servers: Sequence[Peer], options: Mapping[str, Any]) -> None:
        refuse_unknown_options(options, ("header",))
        super().__init__(servers, {})
        self._header = options.get("header", "X-Hash-Key")
        if not isinstance(self._header, str) or not _NAME.fullmatch(self._header):
            raise bad_option("header", "the name of a header", self._header)

    def key(self, request: IRequest) -> str:
        value: str | None = request.get_header(self._header)
        return value or request.uri
