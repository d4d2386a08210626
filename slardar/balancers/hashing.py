"""The hash balancers: requests with the same key go to the same server.  They differ in the key.

``hash``         what a hook set as ``hash_key``, else the path
``url_hash``     the path
``ip_hash``      the client's address
``header_hash``  the header ``X-Hash-Key``, or the one that the option ``header``
                 names; without it (or if it is empty) the path
``host_hash``    the Host, lower case, without port

The path is that of upyun/slardar, nginx's ``$uri``: decoded and without its query.  With
the option ``query`` the query is part of the key.  ``slardar.balancers.rendezvous`` says
how a key finds its server, and what the option ``bound`` does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import unquote_to_bytes

from slardar.balancers.base import bad_option
from slardar.balancers.rendezvous import ConsistentHash
from slardar.interfaces import IRequest
from slardar.model.live import Peer

__all__ = ["Hash", "HeaderHash", "HostHash", "IpHash", "UrlHash"]

# A header's name (RFC 9110 5.1).
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _normal(path: str) -> str:
    """A path decoded, without ``.``, ``..`` and doubled slashes, as nginx's ``$uri``."""
    if "%" in path:
        # Bytes that are not UTF-8 stay as they are.
        path = unquote_to_bytes(path).decode("utf-8", "surrogateescape")
    if ("//" not in path and "/." not in path) or path[:1] != "/":
        return path
    kept: list[str] = []
    parts = path.split("/")
    for part in parts[1:]:
        if part == "..":
            del kept[-1:]
        elif part not in ("", "."):
            kept.append(part)
    is_folder = bool(kept) and parts[-1] in ("", ".", "..")
    return "/" + "/".join(kept) + ("/" if is_folder else "")


class PathHash(ConsistentHash):
    """By the path, unless a subclass finds another key.

    Option ``query``: whether the query, as it was sent, is part of the key; default false.
    """

    takes: ClassVar[tuple[str, ...]] = ("bound", "query")

    def __init__(self, servers: Sequence[Peer], options: Mapping[str, Any]) -> None:
        super().__init__(servers, options)
        self._with_query = options.get("query", False)
        if not isinstance(self._with_query, bool):
            raise bad_option("query", "true or false", self._with_query)

    def key(self, request: IRequest) -> str:
        path, mark, query = request.uri.partition("?")
        key: str = _normal(path)
        return f"{key}?{query}" if self._with_query and mark else key


class Hash(PathHash):
    """By the key that a hook set, else by the path."""

    modes = ("hash",)

    def key(self, request: IRequest) -> str:
        given: str | None = request.hash_key
        return given or super().key(request)


class UrlHash(PathHash):
    """By the path."""

    modes = ("url_hash",)


class IpHash(ConsistentHash):
    """By the client's whole address (nginx uses three of the four bytes of an IPv4 address)."""

    modes = ("ip_hash",)

    def key(self, request: IRequest) -> str:
        key: str = request.client
        return key


class HostHash(ConsistentHash):
    """By the requested host."""

    modes = ("host_hash",)

    def key(self, request: IRequest) -> str:
        key: str = request.host
        return key


class HeaderHash(PathHash):
    """By the first value of a header, else by the path.

    Option ``header``: its name, any case; default ``X-Hash-Key``.
    """

    modes = ("header_hash",)
    takes = ("bound", "header", "query")

    def __init__(self, servers: Sequence[Peer], options: Mapping[str, Any]) -> None:
        super().__init__(servers, options)
        self._header = options.get("header", "X-Hash-Key")
        if not isinstance(self._header, str) or not _NAME.fullmatch(self._header):
            raise bad_option("header", "the name of a header", self._header)

    def key(self, request: IRequest) -> str:
        value: str | None = request.get_header(self._header)
        return value or super().key(request)
