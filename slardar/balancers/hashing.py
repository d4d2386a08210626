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

(Requests are of any type here: mypyc does not read the attributes of an interface of zope's.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final
from urllib.parse import unquote_to_bytes

from mypy_extensions import mypyc_attr

from slardar.balancers.base import bad_option
from slardar.balancers.rendezvous import ConsistentHash
from slardar.model.live import Peer

__all__ = ["Hash", "HeaderHash", "HostHash", "IpHash", "UrlHash"]

# A header's name (RFC 9110 5.1).
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


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


@mypyc_attr(allow_interpreted_subclasses=True)
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

    def key(self, request: Any) -> str:
        uri: str = request.uri
        path, mark, query = uri.partition("?")
        key: str = _normal(path)
        return f"{key}?{query}" if self._with_query and mark else key


@mypyc_attr(allow_interpreted_subclasses=True)
class Hash(PathHash):
    """By the key that a hook set, else by the path."""

    modes: ClassVar[tuple[str, ...]] = ("hash",)

    def key(self, request: Any) -> str:
        given: str | None = request.hash_key
        return given or super().key(request)


@mypyc_attr(allow_interpreted_subclasses=True)
class UrlHash(PathHash):
    """By the path."""

    modes: ClassVar[tuple[str, ...]] = ("url_hash",)


@mypyc_attr(allow_interpreted_subclasses=True)
class IpHash(ConsistentHash):
    """By the client's whole address (nginx uses three of the four bytes of an IPv4 address)."""

    modes: ClassVar[tuple[str, ...]] = ("ip_hash",)

    def key(self, request: Any) -> str:
        key: str = request.client
        return key


@mypyc_attr(allow_interpreted_subclasses=True)
class HostHash(ConsistentHash):
    """By the requested host."""

    modes: ClassVar[tuple[str, ...]] = ("host_hash",)

    def key(self, request: Any) -> str:
        key: str = request.host
        return key


@mypyc_attr(allow_interpreted_subclasses=True)
class HeaderHash(PathHash):
    """By the first value of a header, else by the path.

    Option ``header``: its name, any case; default ``X-Hash-Key``.
    """

    modes: ClassVar[tuple[str, ...]] = ("header_hash",)
    takes: ClassVar[tuple[str, ...]] = ("bound", "header", "query")

    def __init__(self, servers: Sequence[Peer], options: Mapping[str, Any]) -> None:
        super().__init__(servers, options)
        self._header = options.get("header", "X-Hash-Key")
        if not isinstance(self._header, str) or not _NAME.fullmatch(self._header):
            raise bad_option("header", "the name of a header", self._header)

    def key(self, request: Any) -> str:
        value: str | None = request.get_header(self._header)
        return value or super().key(request)
