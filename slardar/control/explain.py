"""The operations on decisions: where a request would go, and where one has gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from slardar.control.auth import RefusedError
from slardar.control.names import Names
from slardar.errors import ConfigError, NotFoundError
from slardar.http1.heads import BadMessage
from slardar.http1.request import Request, parse_request
from slardar.interfaces import IPlane
from slardar.model.names import usual_address
from slardar.model.reader import shown

__all__ = ["explain", "find_decision", "read_client", "read_header", "read_line"]

#: Bytes of a head, and header lines, at most: those that listeners take by default.
_MAX_HEAD = 32768
_MAX_HEADERS = 100


def read_line(name: str, text: str) -> str:
    """A part of a request's head, in one line.  Raises ConfigError."""
    if not text.isascii() or not text.isprintable():
        raise ConfigError(f"{name}: expected printable ASCII characters, got {shown(text)}")
    return text


def read_header(name: str, text: str) -> str:
    """A header line.  Raises ConfigError."""
    word, colon, _ = read_line(name, text).partition(":")
    if not colon:
        raise ConfigError(f"{name}: expected NAME: VALUE, got {shown(text)}")
    if word.lower() in ("host", "content-length", "transfer-encoding"):
        raise ConfigError(
            f"{name}: expected no {word}: the host has a parameter, and no body comes"
        )
    return text


def read_client(name: str, text: str) -> str:
    """A client's address.  Raises ConfigError."""
    try:
        return usual_address(text)
    except ValueError:
        raise ConfigError(f"{name}: expected an IP address, got {shown(text)}") from None


def _head(parameters: Mapping[str, Any]) -> tuple[bytes, Request]:
    """The head of the request that parameters describe, and the request.  Raises ConfigError."""
    if parameters["host"] is None:
        raise ConfigError("host: is missing")
    headers: Sequence[str] = parameters["header"]
    start = f"{parameters['method']} {parameters['path']} HTTP/1.1"
    head = "\r\n".join((start, f"Host: {parameters['host']}", *headers, "", "")).encode("ascii")
    if len(head) > _MAX_HEAD:
        raise ConfigError(f"expected a head of at most {_MAX_HEAD} bytes, got {len(head)}")
    try:
        return head, parse_request(head, _MAX_HEADERS)
    except BadMessage as error:
        raise ConfigError(f"expected the head of a request: {error.message}") from None


async def explain(plane: IPlane, parameters: Mapping[str, Any], names: Names) -> Any:
    """Where the request that ``parameters`` describe would go, and why.

    :raise RefusedError: if its host or its upstream is none of ``names``.
    """
    head, request = _head(parameters)
    if request.host not in names:
        raise RefusedError(403, f"expected a token for the host {shown(request.host)}")
    found = await plane.explain(head, parameters["client"])
    if found.upstream is not None and found.upstream not in names:
        raise RefusedError(403, "expected a token for the upstream to which this request goes")
    return msgspec.to_builtins(found)


async def find_decision(plane: IPlane, decision_id: str, names: Names) -> Any:
    """What was decided for a request, and what became of it.

    :raise NotFoundError: if there is no such decision, or if it is about none of ``names``.
    """
    found = await plane.decision(decision_id)
    if found is None or not _is_about(found.host, found.decision.upstream, names):
        raise NotFoundError(
            "no such decision: one is kept for 10 minutes, and no longer than its worker lives"
        )
    return msgspec.to_builtins(found)


def _is_about(host: str, upstream: str | None, names: Names) -> bool:
    return host in names and (upstream is None or upstream in names)
